"""Requests that the frontend answers itself: limits, authentication, wrong bodies."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from frontend_harness import (
    EngineRequest,
    FakeEngine,
    FakeRouter,
    answer,
    replies,
    running_frontend,
)
from kvroute.frontend import Settings, create_app


@pytest.mark.parametrize(
    ("body", "param", "message"),
    [
        (b"{", None, "not valid JSON"),
        (b"", None, "not valid JSON"),
        (b"[1]", None, "expected an object, got a list"),
        ({"prompt": None}, "prompt", "got nothing"),
        ({"prompt": []}, "prompt", "got an empty list"),
        ({"prompt": 7}, "prompt", "got the number 7"),
        ({"prompt": [{}]}, "prompt", "a non-empty list of either"),
        ({"prompt": ["a", 1]}, "prompt[1]", "got the number 1"),
        ({"prompt": [[1], []]}, "prompt[1]", "a non-empty list of token ids"),
        ({"prompt": [[1], "a"]}, "prompt[1]", "got a string"),
        ({"n": 0}, "n", "at least 1, got the number 0"),
        ({"n": True}, "n", "got a boolean"),
        ({"n": "2"}, "n", "got a string"),
        ({"model": 3}, "model", "a string"),
        ({"cache_salt": 3}, "cache_salt", "a string"),
    ],
)
async def test_a_wrong_completion_is_answered_by_its_field(
    body: Any, param: str | None, message: str
) -> None:
    async with (
        FakeEngine(replies(answer())) as engine,
        running_frontend(engine.url) as frontend,
    ):
        async with frontend.completion(body) as got:
            assert got.status == 400
            error = (await got.json())["error"]
        assert error["type"] == "invalid_request_error"
        assert error["param"] == param
        assert message in error["message"]
        assert engine.requests == []
        assert frontend.router.calls == []
        assert await frontend.metric("kvroute_rejected_requests_total", status="400") == 1


@pytest.mark.parametrize(
    "prompt", [[1, "a"], [1, 1.5], [-1], [2**32], [1, None], [1, [2]], [[1], [-2]], [[1], ["a"]]]
)
async def test_what_are_no_token_ids_is_answered_and_books_nothing(prompt: Any) -> None:
    async with (
        FakeEngine(replies(answer())) as engine,
        running_frontend(engine.url) as frontend,
    ):
        async with frontend.completion({"prompt": prompt}) as got:
            assert got.status == 400
            assert (await got.json())["error"]["param"] == "prompt"
        assert engine.requests == []
        assert frontend.router.stats().reservations == 0


@pytest.mark.parametrize("messages", [None, [], "hi", {}])
async def test_a_chat_without_messages_is_answered_by_its_field(messages: Any) -> None:
    async with (
        running_frontend("http://127.0.0.1:1") as frontend,
        frontend.chat({"messages": messages}) as got,
    ):
        assert got.status == 400
        assert (await got.json())["error"]["param"] == "messages"


async def test_an_unknown_model_is_not_found() -> None:
    async with running_frontend("http://127.0.0.1:1") as frontend:
        async with frontend.completion({"model": "other"}) as got:
            assert got.status == 404
            error = (await got.json())["error"]
        assert error["param"] == "model"
        assert "'other'" in error["message"]


async def test_the_only_model_need_not_be_named() -> None:
    async with (
        FakeEngine(replies(answer())) as engine,
        running_frontend(engine.url) as frontend,
        frontend.completion(b'{"prompt": [1]}') as got,
    ):
        assert got.status == 200


async def test_one_of_several_models_must_be_named() -> None:
    urls = ("http://127.0.0.1:1", "http://127.0.0.1:2")
    async with (
        running_frontend(*urls, static_models="a,b") as frontend,
        frontend.completion(b'{"prompt": [1]}') as got,
    ):
        assert got.status == 400
        assert "a, b" in (await got.json())["error"]["message"]


async def test_each_model_has_its_engines() -> None:
    async with (
        FakeEngine(replies(answer({"is": "a"}))) as a,
        FakeEngine(replies(answer({"is": "b"}))) as b,
        running_frontend(a.url, b.url, static_models="a,b") as frontend,
    ):
        for model in ("a", "b", "b"):
            async with frontend.completion({"model": model}) as got:
                assert await got.json() == {"is": model}


@pytest.mark.parametrize("declared", [True, False])
async def test_a_body_above_the_limit_is_refused(declared: bool) -> None:
    async def parts() -> Any:
        for _ in range(100):
            yield b"x" * 1000

    async with running_frontend("http://127.0.0.1:1", max_body_bytes=5000) as frontend:
        data: Any = b"x" * 5001 if declared else parts()
        async with frontend.client.post(frontend.url + "/v1/completions", data=data) as got:
            assert got.status == 413
            assert "5000 bytes" in (await got.json())["error"]["message"]


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/models"])
async def test_headers_above_the_limit_are_refused(path: str) -> None:
    async with running_frontend("http://127.0.0.1:1", max_header_bytes=2000) as frontend:
        method = "POST" if path == "/v1/completions" else "GET"
        async with frontend.client.request(
            method, frontend.url + path, headers={"X-Large": "h" * 2000}
        ) as got:
            assert got.status == 431


async def test_a_head_without_end_is_cut_off() -> None:
    async with running_frontend("http://127.0.0.1:1") as frontend:
        reader, writer = await frontend.connect()
        writer.write(b"GET /health HTTP/1.1\r\nX-Endless: ")
        writer.write(b"x" * 4000)
        answered = await asyncio.wait_for(reader.read(), 10)
        assert answered.startswith(b"HTTP/1.1 431 ")
        writer.close()


async def test_a_connection_that_never_asks_is_closed() -> None:
    async with running_frontend("http://127.0.0.1:1", head_timeout=0.1) as frontend:
        reader, writer = await frontend.connect()
        assert await asyncio.wait_for(reader.read(), 10) == b""
        writer.close()


async def test_a_body_that_never_comes_is_given_up() -> None:
    async with running_frontend("http://127.0.0.1:1", client_timeout_seconds=0.1) as frontend:
        reader, writer = await frontend.connect()
        writer.write(b"POST /v1/completions HTTP/1.1\r\nContent-Length: 100\r\n\r\n{")
        answered = await asyncio.wait_for(reader.readuntil(b"\r\n"), 10)
        assert answered.startswith(b"HTTP/1.1 408 ")
        writer.close()


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/v1/completions"), ("POST", "/v1/chat/completions"), ("GET", "/v1/models")],
)
@pytest.mark.parametrize("key", [None, "Bearer wrong", "Basic secret", "secret", "Bearer sécret"])
async def test_the_key_is_asked_for_on_every_path_of_the_api(
    method: str, path: str, key: str | None
) -> None:
    async with running_frontend("http://127.0.0.1:1", api_key="secret") as frontend:
        headers = {"Authorization": key} if key else {}
        async with frontend.client.request(method, frontend.url + path, headers=headers) as got:
            assert got.status == 401
            assert (await got.json())["error"]["type"] == "authentication_error"


async def test_with_the_key_requests_pass_and_probes_need_none() -> None:
    async with (
        FakeEngine(replies(answer())) as engine,
        running_frontend(engine.url, api_key="secret") as frontend,
    ):
        async with frontend.completion(headers={"Authorization": "bearer secret"}) as got:
            assert got.status == 200
        for path in ("/health", "/metrics"):
            async with frontend.client.get(frontend.url + path) as got:
                assert got.status == 200


async def test_requests_above_the_number_that_may_run_are_refused() -> None:
    reached, go_on = asyncio.Event(), asyncio.Event()

    async def handler(request: EngineRequest) -> None:
        reached.set()
        await go_on.wait()
        request.writer.write(answer())

    async with (
        FakeEngine(handler) as engine,
        running_frontend(engine.url, max_concurrent_requests=1) as frontend,
    ):

        async def ask() -> int:
            async with frontend.completion() as got:
                return int(got.status)

        first = asyncio.create_task(ask())
        await reached.wait()
        assert await ask() == 503
        go_on.set()
        assert await first == 200
        assert await ask() == 200


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/chat/completions"])
async def test_only_post_completes(path: str) -> None:
    async with (
        running_frontend("http://127.0.0.1:1") as frontend,
        frontend.client.get(frontend.url + path) as got,
    ):
        assert got.status in (404, 405)


@pytest.mark.parametrize("root_path", ["", "/", "//", "/llm", "/llm/", "llm"])
@pytest.mark.parametrize("mounted", ["", "/outer"])
@pytest.mark.parametrize("below", ["", "/llm", "/outer", "/outer/llm", "/llm/llm"])
@pytest.mark.parametrize("path", ["/v1/models", "v1/models", "//v1/models"])
async def test_no_way_of_writing_a_path_gets_round_the_key(
    root_path: str, mounted: str, below: str, path: str
) -> None:
    """An application that a server shows below a path of its own (`mounted`) included."""
    settings = Settings(
        static_backends="http://127.0.0.1:1",
        static_models="m",
        api_key="secret",
        root_path=root_path,
    )
    app = create_app(settings, make_router=FakeRouter)
    statuses: list[int] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "query_string": b"",
        "headers": [],
        "root_path": mounted,
        "path": below + path,
        "raw_path": (below + path).encode(),
    }
    async with app.fastapi.router.lifespan_context(app.fastapi):
        await app(scope, receive, send)
    assert statuses[0] in (401, 404)


@pytest.mark.parametrize("root_path", ["/", "/llm/"])
async def test_a_root_path_with_slashes_asks_for_the_key_and_serves(root_path: str) -> None:
    async with (
        FakeEngine(replies(answer())) as engine,
        running_frontend(engine.url, root_path=root_path, api_key="secret") as frontend,
    ):
        body = {"model": "m", "prompt": [1]}
        for below in {"", root_path.rstrip("/")}:
            url = f"{frontend.url}{below}/v1/completions"
            async with frontend.client.post(url, json=body) as got:
                assert got.status == 401
            key = {"Authorization": "Bearer secret"}
            async with frontend.client.post(url, json=body, headers=key) as got:
                assert got.status == 200


async def test_a_root_path_ends_at_a_slash() -> None:
    async with (
        running_frontend("http://127.0.0.1:1", root_path="/llm", api_key="k") as frontend,
        frontend.client.get(frontend.url + "/llmv1/models") as got,
    ):
        assert got.status == 404


async def test_a_root_path_is_taken_off() -> None:
    async with (
        FakeEngine(replies(answer())) as engine,
        running_frontend(engine.url, root_path="/llm") as frontend,
    ):
        async with frontend.client.post(
            frontend.url + "/llm/v1/completions", json={"model": "m", "prompt": [1]}
        ) as got:
            assert got.status == 200
        assert engine.requests[-1].path == "/v1/completions"
        async with frontend.client.get(frontend.url + "/llm/health") as got:
            assert got.status == 200
