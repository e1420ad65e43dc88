from __future__ import annotations

from typing import Any

import pytest
from handoffs import client_request, handoff
from kvroute.disagg.connector import Connector
from kvroute.disagg.registry import make_connector

PORTS = {"decoder_host": "d", "decoder_init_port": 1, "decoder_alloc_port": 2}
NAMES = ["nixl", "sglang", "mooncake", "p2p_nccl", "shared_storage", "lmcache"]
TEXT = {"prompt": "x"}


def connector(name: str) -> Connector:
    return make_connector(name, PORTS if name == "lmcache" else {})


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"n": 2}, "n"),
        ({"n": "2"}, "n"),
        ({"best_of": 3}, "best_of"),
        ({"use_beam_search": True}, "beam_search"),
        ({"echo": True}, "echo"),
        ({"prompt_logprobs": 0}, "prompt_logprobs"),
        ({"prompt_embeds": "AA"}, "prompt_embeds"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_completion_tokens": 0}, "max_tokens"),
        ({"max_tokens": "9"}, "max_tokens"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"max_tokens": True}, "max_tokens"),
    ],
)
def test_what_no_protocol_serves_goes_whole(name: str, fields: dict[str, Any], reason: str) -> None:
    assert connector(name).refusal(client_request({**TEXT, **fields})) == reason


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", [list, dict])
def test_a_body_that_can_be_read_and_not_be_written_goes_whole(name: str, kind: type) -> None:
    def nested(levels: int) -> Any:
        value: Any = 1
        for _ in range(levels):
            value = [value] if kind is list else {"a": value}
        return value

    asked = connector(name)
    for field in ("metadata", "messages"):
        assert asked.refusal(client_request({**TEXT, field: nested(300)})) == "nesting"
    request = client_request({**TEXT, "metadata": nested(199)})
    assert asked.refusal(request) is None
    legs = ("nixl", "sglang", "shared_storage")  # whose bodies need nothing but the request
    if name in legs:
        transfer = asked.begin(handoff(request))
        assert b"metadata" in transfer.prefill().body
        assert b"metadata" in transfer.decode().body


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("prompt", [["a", "b"], [[1], [2]]])
def test_only_sglang_takes_several_prompts(name: str, prompt: Any) -> None:
    expected = None if name == "sglang" else "batch"
    assert connector(name).refusal(client_request({"prompt": prompt})) == expected


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("prompt", ["a", ["a"], [1, 2], [[1, 2]]])
def test_one_prompt_in_any_form_goes_in_two_legs(name: str, prompt: Any) -> None:
    fields = {"prompt": prompt, "n": 1, "best_of": 1, "echo": False, "max_tokens": 1, "stop": ["a"]}
    assert connector(name).refusal(client_request(fields)) is None


def image() -> dict[str, Any]:
    return {"role": "user", "content": [{"type": "text", "text": "?"}, {"type": "image_url"}]}


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"tools": [{}]}, "tools"),
        ({"functions": [{}]}, "tools"),
        ({"reasoning_effort": "low"}, "reasoning"),
        ({"include_reasoning": False}, "reasoning"),
        ({"chat_template_kwargs": {"enable_thinking": True}}, "reasoning"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"response_format": "json"}, "response_format"),
        ({"guided_regex": "a"}, "structured_outputs"),
        ({"structured_outputs": {"json": {}}}, "structured_outputs"),
        ({"presence_penalty": 0.5}, "penalties"),
        ({"frequency_penalty": -1}, "penalties"),
        ({"logits_processors": ["x"]}, "logits_processors"),
        ({"bad_words": ["x"]}, "bad_words"),
        ({"return_token_ids": True}, "token_ids_asked"),
        ({"truncate_prompt_tokens": 8}, "truncation"),
        ({"min_tokens": "3"}, "min_tokens"),
        ({"min_tokens": -1}, "min_tokens"),
        ({"min_tokens": 9, "max_completion_tokens": 8}, "min_tokens"),
        ({"stream_options": True}, "stream_options"),
        ({"stream_options": {"include_usage": 1}}, "stream_options"),
        ({"messages": [image()]}, "media"),
        ({"messages": None}, "media"),
    ],
)
def test_where_the_first_token_is_anothers_some_chats_go_whole(
    fields: dict[str, Any], reason: str
) -> None:
    chat = {"messages": [{"role": "user", "content": "?"}], **fields}
    assert connector("lmcache").refusal(client_request(chat, chat=True)) == reason
    assert connector("nixl").refusal(client_request(chat, chat=True)) is None


def test_what_changes_nothing_keeps_no_chat_from_two_legs() -> None:
    chat = {
        "messages": [{"role": "user", "content": [{"type": "text", "text": "?"}, "more"]}],
        "tools": [],
        "response_format": {"type": "text"},
        "presence_penalty": 0,
        "frequency_penalty": 0.0,
        "guided_json": None,
        "chat_template_kwargs": {"enable_thinking": False},
        "repetition_penalty": 1.2,
        "min_tokens": 3,
        "max_tokens": 3,
        "stream_options": {"include_usage": True, "continuous_usage_stats": None},
    }
    assert connector("lmcache").refusal(client_request(chat, chat=True)) is None
