"""NIXL, P2pNccl and shared storage: the prefill leg first, then the decode leg."""

from __future__ import annotations

import re
from typing import Any

import orjson
import pytest
from handoffs import body_of, client_request, handoff, header_of
from kvroute.disagg.connector import HandoffError
from kvroute.disagg.legs import Worker
from kvroute.disagg.registry import ConnectorError, make_connector

FIELDS: dict[str, Any] = {
    "model": "m",
    "messages": [{"role": "user", "content": "?"}],
    "stream": True,
    "stream_options": {"include_usage": True},
    "max_tokens": 20,
    "max_completion_tokens": 30,
    "min_tokens": 5,
    "min_completion_tokens": 6,
    "logprobs": True,
}
PREFILL_BODY = {
    "model": "m",
    "messages": FIELDS["messages"],
    "stream": False,
    "max_tokens": 1,
    "max_completion_tokens": 1,
    "logprobs": True,
}
ADDRESSES = {"http://prefill:8100": "10.0.0.1:21001", "http://decode:8200": "10.0.0.2:22001"}
NIXL_PARAMS = {"do_remote_prefill": True, "remote_block_ids": [[1, 2]], "new": {"field": None}}


def test_nixl_carries_the_params_of_the_answer_as_they_are() -> None:
    request = client_request({**FIELDS, "kv_transfer_params": {"forged": 1}}, chat=True)
    transfer = make_connector("nixl").begin(handoff(request))
    assert body_of(transfer.prefill()) == {
        **PREFILL_BODY,
        "kv_transfer_params": {
            "do_remote_decode": True,
            "do_remote_prefill": False,
            "remote_engine_id": None,
            "remote_block_ids": None,
            "remote_host": None,
            "remote_port": None,
        },
    }
    transfer.prefilled({"kv_transfer_params": NIXL_PARAMS})
    assert transfer.finished() is None
    leg = transfer.decode()
    assert leg.path == "/v1/chat/completions"
    assert body_of(leg) == {**FIELDS, "kv_transfer_params": NIXL_PARAMS}


@pytest.mark.parametrize(
    ("told", "prefill", "decode", "passed"),
    [
        ("localhost", "p", "d", "p"),
        ("127.0.0.1", "p", "d", "p"),
        ("::1", "[fd00::1]", "d", "fd00::1"),
        ("0.0.0.0", "p", "p", "p"),
        ("::", "p", "d", "p"),
        ("localhost", "p", "p", "localhost"),
        ("localhost", "127.0.0.1", "d", "localhost"),
        ("10.0.0.7", "p", "d", "10.0.0.7"),
        ("other", "p", "d", "other"),
        (None, "p", "d", None),
        ([1], "p", "d", [1]),
    ],
)
def test_nixl_s_host_is_one_that_the_decode_engine_can_reach(
    told: object, prefill: str, decode: str, passed: object
) -> None:
    request = client_request(FIELDS, chat=True)
    workers = (Worker(f"http://{prefill}:8100"), Worker(f"http://{decode}:8200"))
    transfer = make_connector("nixl").begin(handoff(request, *workers))
    transfer.prefilled({"kv_transfer_params": {**NIXL_PARAMS, "remote_host": told}})
    params = {**NIXL_PARAMS, "remote_host": passed}
    assert body_of(transfer.decode())["kv_transfer_params"] == params


@pytest.mark.parametrize("answer", [{}, {"kv_transfer_params": None}, {"kv_transfer_params": {}}])
def test_nixl_without_params_decodes_without(answer: dict[str, Any]) -> None:
    transfer = make_connector("nixl").begin(handoff(client_request(FIELDS, chat=True)))
    transfer.prefilled(answer)
    assert body_of(transfer.decode()) == FIELDS


def test_nixl_refuses_params_that_are_no_object() -> None:
    transfer = make_connector("nixl").begin(handoff(client_request(FIELDS, chat=True)))
    with pytest.raises(HandoffError, match="kv_transfer_params to be an object, got 5"):
        transfer.prefilled({"kv_transfer_params": 5})


def test_a_limit_that_was_not_there_stays_away_from_the_decode_leg() -> None:
    transfer = make_connector("nixl").begin(handoff(client_request({"prompt": "x"})))
    body = body_of(transfer.prefill())
    assert body["max_tokens"] == 1
    assert "max_completion_tokens" not in body
    transfer.prefilled({})
    assert body_of(transfer.decode()) == {"prompt": "x"}


def test_the_request_is_not_changed_and_each_leg_has_its_own_headers() -> None:
    before = orjson.dumps(FIELDS)
    headers = (
        (b"Authorization", b"Bearer k"),
        (b"X-Request-Id", b"from-client"),
        (b"Content-Length", b"5"),
        (b"Accept-Encoding", b"gzip"),
        (b"X-Data-Parallel-Rank", b"9"),
    )
    request = client_request(FIELDS, chat=True, headers=headers)
    workers = handoff(request, Worker("http://prefill:8100", 0), Worker("http://decode:8200", 3))
    transfer = make_connector("nixl").begin(workers)
    for leg, rank in ((transfer.prefill(), b"0"), (transfer.decode(), b"3")):
        assert header_of(leg, b"x-request-id") == [b"request-1"]
        assert header_of(leg, b"authorization") == [b"Bearer k"]
        assert header_of(leg, b"content-type") == [b"application/json"]
        assert header_of(leg, b"x-data-parallel-rank") == [rank]
        assert header_of(leg, b"content-length") == header_of(leg, b"accept-encoding") == []
    assert orjson.dumps(FIELDS) == before


@pytest.mark.parametrize("name", ["nixl", "p2p_nccl", "shared_storage"])
def test_the_client_gets_the_prefill_legs_cached_tokens(name: str) -> None:
    options = {"addresses": ADDRESSES} if name == "p2p_nccl" else {}
    transfer = make_connector(name, options).begin(handoff(client_request(FIELDS, chat=True)))
    details = {"cached_tokens": 3}
    transfer.prefilled({"usage": {"prompt_tokens": 9, "prompt_tokens_details": details}})
    usage = {"prompt_tokens": 9, "prompt_tokens_details": {"cached_tokens": 8}}
    answer = orjson.loads(transfer.relay().whole(orjson.dumps({"usage": usage})))
    assert answer["usage"] == {"prompt_tokens": 9, "prompt_tokens_details": details}


def test_shared_storage_sends_the_same_prompt_twice_without_a_threshold() -> None:
    request = client_request({**FIELDS, "cache_hit_threshold": 0.8}, chat=True)
    transfer = make_connector("shared_storage").begin(handoff(request))
    assert body_of(transfer.prefill()) == {**PREFILL_BODY, "cache_hit_threshold": 0}
    transfer.prefilled({})
    assert body_of(transfer.decode()) == {**FIELDS, "cache_hit_threshold": 0}
    plain = make_connector("shared_storage").begin(handoff(client_request(FIELDS, chat=True)))
    assert body_of(plain.prefill()) == PREFILL_BODY


def test_p2p_nccl_puts_both_addresses_into_the_request_id() -> None:
    connector = make_connector("p2p_nccl", {"addresses": ADDRESSES})
    started = handoff(client_request(FIELDS, chat=True))
    transfer = connector.begin(started)
    ids = [header_of(leg, b"x-request-id") for leg in (transfer.prefill(), transfer.decode())]
    name = (
        f"___prefill_addr_10.0.0.1:21001___decode_addr_10.0.0.2:22001_{started.transfer_id}"
    ).encode()
    assert ids == [[name], [name]]
    # As the engines read it, behind their own prefix and before their own suffix.
    text = f"chatcmpl-{name.decode()}-0"
    prefill = re.search(r"___prefill_addr_(.*):(\d+)___", text)
    decode = re.search(r"___decode_addr_(.*):(\d+)", text)
    assert prefill is not None
    assert decode is not None
    assert prefill.groups() == ("10.0.0.1", "21001")
    assert decode.groups() == ("10.0.0.2", "22001")
    params = {"remote_kv_addr": "10.0.0.2:22001"}
    assert body_of(transfer.prefill()) == {**PREFILL_BODY, "kv_transfer_params": params}
    transfer.prefilled({})
    assert body_of(transfer.decode()) == FIELDS


def test_p2p_nccl_carries_the_params_of_newer_engines() -> None:
    connector = make_connector("p2p_nccl", {"addresses": ADDRESSES})
    transfer = connector.begin(handoff(client_request(FIELDS, chat=True)))
    params = {"remote_request_id": "chatcmpl-1-9f", "remote_kv_addr": "10.0.0.1:21001"}
    transfer.prefilled({"kv_transfer_params": params})
    assert body_of(transfer.decode()) == {**FIELDS, "kv_transfer_params": params}
    with pytest.raises(HandoffError, match="kv_transfer_params to be an object, got 5"):
        transfer.prefilled({"kv_transfer_params": 5})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"addresses": {"p": "a:1"}}, "addresses key: expected an http"),
        ({"addresses": {"http://p": "a"}}, r"addresses\['http://p'\]: expected host:port"),
        ({"addresses": 5}, "addresses: expected an object"),
        ({"registration_port": 70000}, "registration_port: expected a port"),
        ({"registration_lifetime": 0}, "registration_lifetime: expected more than 0"),
        ({"registration_peers": "10.0.0.1"}, 'registration_peers: expected "any" or a list'),
        ({"registration_peers": ["p0"]}, "registration_peers: expected IP addresses, got 'p0'"),
    ],
)
def test_wrong_p2p_nccl_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConnectorError, match=message):
        make_connector("p2p_nccl", options)
