"""What passes between client and engine."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from frontend_harness import (
    STREAM_HEAD,
    EngineRequest,
    FakeEngine,
    answer,
    chunk,
    replies,
    running_frontend,
)
from kvroute.frontend.exchange import Exchange

CHUNKS = chunk(b"data: 1\n\n") + b"0\r\n\r\n"


async def test_the_engine_gets_the_very_bytes_and_the_client_its_answer() -> None:
    body = b'{ "model":"m",  "prompt":[1,2,3], "extra": {"x": 1.50} }'
    async with (
        FakeEngine(replies(answer({"id": "cmpl-1"}, headers={"X-Engine": "yes"}))) as engine,
        running_frontend(engine.url) as frontend,
    ):
        async with frontend.completion(body, headers={"Content-Type": "application/json"}) as got:
            assert got.status == 200
            assert await got.json() == {"id": "cmpl-1"}
            assert got.headers["X-Engine"] == "yes"
            assert got.headers["x-kvroute-worker"] == engine.url
            assert got.headers["x-kvroute-dp-rank"] == "0"
            assert got.headers["x-kvroute-cached-tokens"] == "32"
        (request,) = engine.requests
        assert (request.method, request.path) == ("POST", "/v1/completions")
        assert request.body == body
        assert request.headers["content-type"] == "application/json"
        assert request.headers["x-request-id"] == got.headers["X-Request-Id"]
        assert "x-data-parallel-rank" not in request.headers
        await frontend.nothing_booked()


async def test_chats_go_to_the_chat_endpoint() -> None:
    async with (
        FakeEngine(replies(answer())) as engine,
        running_frontend(engine.url) as frontend,
    ):
        async with frontend.chat() as got:
            assert got.status == 200
        assert engine.requests[-1].path == "/v1/chat/completions"


async def test_hop_by_hop_headers_stop_here_and_others_pass() -> None:
    reply = answer(
        headers={
            "Connection": "keep-alive, X-Internal",
            "X-Internal": "1",
            "Keep-Alive": "timeout=5",
            "Server": "engine",
            "Set-Cookie": "a=1",
        }
    )
    async with (
        FakeEngine(replies(reply)) as engine,
        running_frontend(engine.url) as frontend,
    ):
        sent = {
            "Authorization": "Bearer k",
            "traceparent": "00-1",
            "Connection": "keep-alive, X-Secret",
            "X-Secret": "1",
            "TE": "trailers",
            "User-Agent": "tester/1",
            "X-Name": "Zoë",
        }
        async with frontend.completion(headers=sent) as got:
            assert got.headers["Set-Cookie"] == "a=1"
            assert "X-Internal" not in got.headers
            assert "Keep-Alive" not in got.headers
            assert "Server" not in got.headers
        headers = engine.requests[-1].headers
        assert headers["authorization"] == "Bearer k"
        assert headers["traceparent"] == "00-1"
        assert headers["user-agent"] == "tester/1"
        assert headers["x-name"] == "Zoë"
        assert "x-secret" not in headers
        assert "te" not in headers


@pytest.mark.parametrize(
    ("given", "kept"),
    [("abc-123", True), ("x" * 300, False), ("tab\there", False), (None, False)],
)
async def test_a_sane_request_id_is_kept_and_any_other_replaced(
    given: str | None, kept: bool
) -> None:
    async with (
        FakeEngine(replies(answer())) as engine,
        running_frontend(engine.url) as frontend,
    ):
        headers = {"X-Request-Id": given} if given is not None else {}
        async with frontend.completion(headers=headers) as got:
            returned = got.headers["X-Request-Id"]
        assert engine.requests[-1].headers["x-request-id"] == returned
        assert (returned == given) == kept
        assert returned


async def test_the_same_request_id_may_run_twice_at_once() -> None:
    both = asyncio.Event()
    count = 0

    async def handler(request: EngineRequest) -> None:
        nonlocal count
        count += 1
        if count == 2:
            both.set()
        await both.wait()
        request.writer.write(answer())

    async def ask(frontend: Any) -> int:
        async with frontend.completion(headers={"X-Request-Id": "same"}) as got:
            return int(got.status)

    async with FakeEngine(handler) as engine, running_frontend(engine.url) as frontend:
        assert await asyncio.gather(ask(frontend), ask(frontend)) == [200, 200]


async def test_a_chosen_rank_is_sent_where_the_engine_has_several() -> None:
    async with (
        FakeEngine(replies(answer())) as engine,
        running_frontend(engine.url, dp_ranks="4") as frontend,
    ):
        frontend.router.dp_rank = 3
        async with frontend.completion(headers={"X-Data-Parallel-Rank": "1"}) as got:
            assert got.headers["x-kvroute-dp-rank"] == "3"
        assert engine.requests[-1].headers["x-data-parallel-rank"] == "3"
        assert frontend.router.workers[engine.url]["dp_ranks"] == 4


async def test_a_stream_arrives_chunk_by_chunk() -> None:
    seen = [asyncio.Event() for _ in range(4)]

    async def handler(request: EngineRequest) -> None:
        request.writer.write(STREAM_HEAD)
        for index, event in enumerate(seen):
            request.writer.write(chunk(b'data: {"i": %d}\n\n' % index))
            await request.writer.drain()
            await event.wait()  # the next is not even written before this one was read
        request.writer.write(b"0\r\n\r\n")

    async with FakeEngine(handler) as engine, running_frontend(engine.url) as frontend:
        async with frontend.completion({"stream": True}) as got:
            assert got.headers["Content-Type"].startswith("text/event-stream")
            for index, event in enumerate(seen):
                assert await got.content.readuntil(b"\n\n") == b'data: {"i": %d}\n\n' % index
                (reservation,) = frontend.router.running.values()
                assert reservation.first_tokens == 1
                assert reservation.output_tokens == index + 1
                event.set()
            assert await got.read() == b""
        await frontend.nothing_booked()


@pytest.mark.parametrize(
    ("whole", "first_tokens"),
    [
        (answer(), 0),
        (STREAM_HEAD.replace(b"text/event-stream", b"application/json") + CHUNKS, 0),
        (STREAM_HEAD + CHUNKS, 1),
    ],
)
async def test_only_a_stream_tells_when_its_prefill_ended(whole: bytes, first_tokens: int) -> None:
    async with (
        FakeEngine(replies(whole)) as engine,
        running_frontend(engine.url) as frontend,
    ):
        async with frontend.completion() as got:
            assert got.status == 200
            await got.read()
        assert [r.first_tokens for r in frontend.router.reservations] == [first_tokens]
        await frontend.nothing_booked()


async def test_an_answer_larger_than_any_buffer_passes_whole() -> None:
    body = b"x" * (5 << 20)
    async with (
        FakeEngine(replies(answer(body))) as engine,
        running_frontend(engine.url) as frontend,
        frontend.completion() as got,
    ):
        assert await got.read() == body


async def test_a_body_of_megabytes_reaches_the_engine() -> None:
    prompt = list(range(400_000))
    async with (
        FakeEngine(replies(answer())) as engine,
        running_frontend(engine.url) as frontend,
    ):
        async with frontend.completion({"prompt": prompt}) as got:
            assert got.status == 200
        assert engine.requests[-1].json["prompt"] == prompt
        assert frontend.router.calls[-1]["token_ids"] == prompt


async def test_compressed_answers_pass_unchanged() -> None:
    reply = answer(b"\x1f\x8b-not-really", headers={"Content-Encoding": "gzip"})
    async with (
        FakeEngine(replies(reply)) as engine,
        running_frontend(engine.url) as frontend,
    ):
        async with frontend.client.post(
            frontend.url + "/v1/completions",
            data=json.dumps({"model": "m", "prompt": [1]}),
            headers={"Accept-Encoding": "gzip"},
            auto_decompress=False,
        ) as got:
            assert await got.read() == b"\x1f\x8b-not-really"
        assert engine.requests[-1].headers["accept-encoding"] == "gzip"


@pytest.mark.parametrize("status", ["400 Bad Request", "429 Too Many Requests", "500 Oops"])
async def test_an_engines_own_error_passes_through(status: str) -> None:
    async with (
        FakeEngine(replies(answer({"error": "e"}, status=status))) as engine,
        running_frontend(engine.url) as frontend,
    ):
        async with frontend.completion() as got:
            assert got.status == int(status[:3])
            assert await got.json() == {"error": "e"}
        await frontend.nothing_booked()
        assert [r.first_tokens for r in frontend.router.reservations] == [0]
        failures = await frontend.metric("kvroute_request_failures_total", reason="status_5xx")
        assert failures == (1 if status.startswith("5") else 0)


@pytest.mark.parametrize("size", [20_000, 60_000])
async def test_large_answer_headers_pass(size: int) -> None:
    async with (
        FakeEngine(replies(answer(headers={"X-Large": "h" * size}))) as engine,
        running_frontend(engine.url) as frontend,
        frontend.client.post(
            frontend.url + "/v1/completions",
            json={"model": "m", "prompt": [1]},
            max_field_size=100_000,
        ) as got,
    ):
        assert got.status == 200
        assert len(got.headers["X-Large"]) == size


async def test_answer_headers_above_the_bound_are_an_engines_failure() -> None:
    async with (
        FakeEngine(replies(answer(headers={"X-Large": "h" * 70_000}))) as engine,
        running_frontend(engine.url) as frontend,
    ):
        async with frontend.completion() as got:
            assert got.status == 502
        await frontend.nothing_booked()


@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_of_http_1_0_gets_an_answer_without_chunks(stream: bool) -> None:
    events = b'data: {"i": 1}\n\ndata: [DONE]\n\n'
    reply = STREAM_HEAD + chunk(events) + b"0\r\n\r\n" if stream else answer(b"{}")
    async with (
        FakeEngine(replies(reply)) as engine,
        running_frontend(engine.url) as frontend,
    ):
        reader, writer = await frontend.connect()
        body = b'{"model": "m", "prompt": [1]}'
        writer.write(
            b"POST /v1/completions HTTP/1.0\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
        )
        head, _, rest = (await reader.read()).partition(b"\r\n\r\n")
        assert b" 200 " in head.splitlines()[0]
        assert b"transfer-encoding" not in head.lower()
        assert rest == (events if stream else b"{}")
        writer.close()


async def test_what_any_connection_header_lists_is_not_forwarded() -> None:
    async def nothing(*_: Any) -> Any: ...

    names = (b"x-first", b"x-second", b"x-third", b"x-kept")
    listed = [(b"connection", b"close, X-First"), (b"connection", b"x-second , X-Third")]
    scope = {"headers": [*listed, *((name, b"1") for name in names)]}
    forwarded = Exchange(scope, nothing, nothing).forwarded_headers()
    assert {name for name, _ in forwarded} == {b"x-kept", b"x-request-id"}
