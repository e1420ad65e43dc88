from __future__ import annotations

from typing import Any

import msgpack
import pytest
import zmq
from handoffs import DECODE, body_of, client_request, handoff, header_of
from kvroute.disagg.connector import HandoffError
from kvroute.disagg.connectors.lmcache import LmcacheConnector
from kvroute.disagg.legs import Worker
from kvroute.disagg.registry import ConnectorError, make_connector
from single_engine import PROMPT

ONE = {
    "decoder_host": "dhost",
    "decoder_init_port": "8300,8301",
    "decoder_alloc_port": [8400, 8401],
}
REGISTRY = {
    "http://decode:8200": {
        "receiver_host": "r1",
        "receiver_init_port": 1,
        "receiver_alloc_port": 2,
    },
    "http://other:8200/": {"receiver_host": "r2", "init_port": [3, 4], "alloc_port": [5, 6]},
}
ANSWER = {
    "id": "cmpl-1",
    "choices": [{"index": 0, "text": "A", "logprobs": None, "finish_reason": "length"}],
    "kv_transfer_params": {"first_tok": 99},
}


def lmcache(**options: Any) -> LmcacheConnector:
    connector = make_connector("lmcache", {"proxy_port": 0, "proxy_host": "127.0.0.1", **options})
    assert isinstance(connector, LmcacheConnector)
    return connector


def test_the_prefill_leg_is_a_completion_of_token_ids_with_the_decoders_spec() -> None:
    fields = {
        "model": "m",
        "messages": [{"role": "user", "content": "?"}],
        "max_completion_tokens": 9,
        "temperature": 0,
        "min_tokens": 3,
        "stream": True,
        "stream_options": {"include_usage": True},
        "kv_transfer_params": {"ours": "not"},
    }
    started = handoff(client_request(fields, chat=True))
    transfer = lmcache(**ONE).begin(started)
    leg = transfer.prefill()
    assert leg.path == "/v1/completions"
    assert body_of(leg) == {
        "model": "m",
        "prompt": PROMPT,
        "max_tokens": 1,
        "min_tokens": 1,
        "temperature": 0,
        "stream": False,
        "kv_transfer_params": {
            "ret_first_tok": True,
            "disagg_spec": {
                "req_id": started.transfer_id,
                "receiver_host": "dhost",
                "receiver_init_port": [8300, 8301],
                "receiver_alloc_port": [8400, 8401],
            },
        },
    }
    assert header_of(leg, b"x-request-id") == [b"request-1"]
    transfer.prefilled(ANSWER)
    decode = transfer.decode()
    assert header_of(decode, b"x-request-id") == [b"request-1"]
    assert body_of(decode) == {
        "model": "m",
        "prompt": [*PROMPT, 99],
        "max_tokens": 8,
        "min_tokens": 2,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


@pytest.mark.parametrize(
    ("chat", "given", "sent"),
    [
        (False, {}, 15),
        (False, {"max_tokens": None}, None),
        (True, {}, None),
        (False, {"max_tokens": 4}, 3),
    ],
)
def test_the_decode_leg_has_one_token_less(
    chat: bool, given: dict[str, Any], sent: int | None
) -> None:
    prompt: dict[str, Any] = {"messages": []} if chat else {"prompt": PROMPT}
    transfer = lmcache(**ONE).begin(handoff(client_request({**prompt, **given}, chat=chat)))
    transfer.prefilled(ANSWER)
    body = body_of(transfer.decode())
    assert body["max_tokens"] == sent


def test_the_spec_is_that_of_the_decoder_really_chosen_and_new_each_time() -> None:
    connector = lmcache(decoder_registry=REGISTRY)
    request = client_request({"prompt": PROMPT})
    specs = []
    for decode in (DECODE, Worker("http://OTHER:8200"), DECODE):
        transfer = connector.begin(handoff(request, decode=decode))
        specs.append(body_of(transfer.prefill())["kv_transfer_params"]["disagg_spec"])
    assert [spec["receiver_host"] for spec in specs] == ["r1", "r2", "r1"]
    assert specs[1]["receiver_init_port"] == [3, 4]
    assert len({spec["req_id"] for spec in specs}) == 3


def test_a_decoder_that_nothing_is_known_of_is_a_clear_error() -> None:
    request = client_request({"prompt": PROMPT})
    stranger = handoff(request, decode=Worker("http://stranger:1"))
    with pytest.raises(HandoffError, match="no entry for decoder http://stranger:1"):
        lmcache(decoder_registry=REGISTRY).begin(stranger)
    connector = lmcache(**ONE)
    connector.begin(handoff(request))
    with pytest.raises(
        HandoffError, match="http://stranger:1; decoder_host .* for http://decode:8200"
    ):
        connector.begin(stranger)
    with pytest.raises(ValueError, match="decoder_registry: no entry for decoder"):
        connector.workers_are([], [DECODE, Worker("http://stranger:1")])
    with pytest.raises(ValueError, match="for http://decode:8200"):
        connector.workers_are([], [Worker("http://stranger:1")])


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ({}, "first_tok to be a token id, got None"),
        (
            {**ANSWER, "kv_transfer_params": {"first_tok": "9"}},
            "first_tok to be a token id, got '9'",
        ),
        ({**ANSWER, "choices": []}, "expected choices to be one completion"),
        ({**ANSWER, "choices": [{"message": {}}]}, "expected choices to be one completion"),
        ({**ANSWER, "choices": [{"text": "", "finish_reason": "abort"}]}, "finish_reason"),
    ],
)
def test_a_broken_prefill_answer_names_what_was_expected(answer: Any, message: str) -> None:
    transfer = lmcache(**ONE).begin(handoff(client_request({"prompt": PROMPT})))
    with pytest.raises(HandoffError, match=message):
        transfer.prefilled(answer)


async def test_the_decode_leg_waits_for_every_ranks_notice() -> None:
    connector = lmcache(**ONE)
    await connector.open()
    started = handoff(client_request({"prompt": PROMPT}))
    transfer = connector.begin(started)
    context = zmq.Context()
    try:
        socket = context.socket(zmq.PUSH)
        socket.connect(connector.notices.endpoint)
        for kind in ("ProxyNotif", "PDMsg"):
            socket.send(msgpack.packb({"type": kind, "req_id": started.transfer_id}))
        await transfer.ready()
        assert connector.notices.counts.taken == 2
    finally:
        transfer.close()
        transfer.close()
        context.destroy(linger=0)
        await connector.close()
        await connector.close()


async def test_a_notice_that_does_not_come_ends_the_handoff() -> None:
    connector = lmcache(**ONE, notice_timeout=0.01)
    await connector.open()
    try:
        with pytest.raises(HandoffError, match="2 of the prefill engine's ranks") as caught:
            await connector.begin(handoff(client_request({"prompt": PROMPT}))).ready()
        assert caught.value.timed_out
    finally:
        await connector.close()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "decoder_registry: lmcache needs it"),
        ({"decoder_host": "d"}, "decoder_init_port: expected one beside"),
        ({**ONE, "decoder_alloc_port": 5}, "as many ports as receiver_init_port"),
        ({**ONE, "decoder_init_port": "a"}, "receiver_init_port: expected ports such as"),
        ({**ONE, "decoder_host": "http://d"}, "decoder_host: expected a host"),
        ({**ONE, "proxy_port": 70000}, "proxy_port: expected a port"),
        ({**ONE, "notice_timeout": 0}, "notice_timeout: expected more than 0 seconds"),
        ({**ONE, "notice_timeout": True}, "notice_timeout: expected seconds"),
    ],
)
def test_wrong_options_are_refused_at_the_start(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConnectorError, match=message):
        make_connector("lmcache", options)


def test_requests_without_token_ids_and_chats_where_switched_off_go_whole() -> None:
    unknown = client_request({"prompt": "?"}, token_ids=())
    assert lmcache(**ONE).refusal(unknown) == "unknown_tokens"
    chat = client_request({"messages": [{"role": "user", "content": "?"}]}, chat=True)
    assert lmcache(**ONE).refusal(chat) is None
    assert lmcache(**ONE, chats=False).refusal(chat) == "chat"
