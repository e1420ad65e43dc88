"""LMCache's two legs give the client what one engine would."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from client_view import view_stream, view_whole
from handoffs import CHAT, COMPLETIONS, body_of, client_request, handoff
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kvroute.disagg import sse
from kvroute.disagg.connectors.lmcache import LmcacheConnector
from kvroute.disagg.registry import make_connector
from single_engine import PROMPT, SingleEngine, Token

SETTINGS = settings(
    deadline=None,  # and no check of speed: machines are busy
    derandomize=True,
    max_examples=100,
    suppress_health_check=[HealthCheck.too_slow],
)
PIECES = st.sampled_from(["a", "b", "ab", "ba", " c", "é", "", "\ufffd", "stop", '"usage"'])
SCRIPTS = st.lists(PIECES, max_size=5).map(
    lambda texts: [Token(100 + index, text) for index, text in enumerate(texts)]
)
LIMITS = st.none() | st.integers(1, 7)
STOPS = st.none() | st.sampled_from(["ab", "ba", "a", "abc", "c"]) | st.just(["bb", "b c"])


@st.composite
def bodies(draw: Any) -> tuple[bool, dict[str, Any]]:
    """A chat's or a completion's body, with what changes the shape of its answer."""
    chat = draw(st.booleans())
    fields: dict[str, Any] = {"messages": [{"role": "user", "content": "?"}]}
    if not chat:
        fields = {"prompt": PROMPT}
    limit = draw(LIMITS)
    if limit is not None:
        name = draw(st.sampled_from(["max_tokens", "max_completion_tokens"])) if chat else ""
        fields[name or "max_tokens"] = limit
    stop = draw(STOPS)
    if stop is not None:
        fields["stop"] = stop
    top = draw(st.none() | st.integers(0, 2))
    if top is not None:
        fields.update({"logprobs": True, "top_logprobs": top} if chat else {"logprobs": top})
    if draw(st.booleans()):
        fields["stream"] = True
        fields["stream_options"] = draw(
            st.fixed_dictionaries(
                {"include_usage": st.booleans(), "continuous_usage_stats": st.booleans()}
            )
        )
    return chat, fields


def lmcache() -> LmcacheConnector:
    ports = {"decoder_host": "d", "decoder_init_port": 1, "decoder_alloc_port": 2}
    connector = make_connector("lmcache", ports)
    assert isinstance(connector, LmcacheConnector)
    return connector


def in_two_legs(
    script: list[Token], chat: bool, fields: dict[str, Any], decode_path: list[str]
) -> bytes:
    """What the client gets of two engines that generate the same list."""
    connector = lmcache()
    request = client_request(fields, chat=chat)
    assert connector.refusal(request) is None
    transfer = connector.begin(handoff(request))
    first = transfer.prefill()
    prefill = SingleEngine(script, "both", cached=2)
    transfer.prefilled(orjson.loads(prefill.answer(first.path, body_of(first))))
    whole = transfer.finished()
    if whole is None:
        second = transfer.decode()
        decode_path.append(second.path)
        assert "kv_transfer_params" not in body_of(second)
        decoder = SingleEngine(script, "both", cached=1000)
        answer = decoder.answer(second.path, body_of(second))
        relay = transfer.relay()
        whole = relay.head()
        if request.is_streamed:
            whole += b"".join(relay.chunk(event) for event in sse.events(answer))
        else:
            whole += relay.whole(answer)
    transfer.close()
    assert connector.notices.expected == 0
    return whole


def in_one(script: list[Token], chat: bool, fields: dict[str, Any]) -> bytes:
    return SingleEngine(script, "one", cached=2).answer(CHAT if chat else COMPLETIONS, fields)


@SETTINGS
@given(SCRIPTS, bodies())
def test_two_legs_answer_as_one_engine(
    script: list[Token], request_body: tuple[bool, dict[str, Any]]
) -> None:
    chat, fields = request_body
    view = view_stream if fields.get("stream") else view_whole
    assert view(in_two_legs(script, chat, fields, [])) == view(in_one(script, chat, fields))


ABC = [Token(100 + index, text) for index, text in enumerate("abc")]


@pytest.mark.parametrize("chat", [False, True])
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("script", "options"),
    [
        (ABC, {"max_tokens": 1}),
        ([], {"max_tokens": 5}),
        (ABC, {"max_tokens": 5, "stop": "a"}),
        (ABC, {"max_tokens": 5, "stop": ["xa", "a"]}),
    ],
)
def test_a_first_token_that_ends_the_answer_needs_no_decode_leg(
    chat: bool, stream: bool, script: list[Token], options: dict[str, Any]
) -> None:
    prompt: dict[str, Any] = {"messages": []} if chat else {"prompt": PROMPT}
    usage = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
    fields = {**prompt, **options, **usage}
    path: list[str] = []
    view = view_stream if stream else view_whole
    assert view(in_two_legs(script, chat, fields, path)) == view(in_one(script, chat, fields))
    assert path == []


@pytest.mark.parametrize(
    ("first", "stop", "is_used"),
    [
        ("ab", "bc", False),
        ("ab", "abc", False),
        ("ab", ["zz", "b and more"], False),
        ("ab", "cd", True),
        ("ab", "ax", True),
        ("ab", None, True),
        ("ab", [], True),
        ("ab", 7, True),
        ("", None, False),
        ("a\ufffd", None, False),
    ],
)
def test_a_first_token_is_used_only_where_nothing_depends_on_its_neighbour(
    first: str, stop: Any, is_used: bool
) -> None:
    script = [Token(100, first), Token(101, "cd")]
    fields = {"messages": [{"role": "user", "content": "?"}], "stop": stop}
    path: list[str] = []
    in_two_legs(script, True, fields, path)
    assert path == [COMPLETIONS if is_used else CHAT]


@pytest.mark.parametrize(
    ("chat", "options", "is_used"),
    [
        (False, {"seed": 7}, False),
        (False, {"seed": 7, "temperature": 0.5}, False),
        (False, {"seed": 7, "temperature": 0}, True),
        (False, {"temperature": 0.5}, True),
        (False, {"logprobs": 2}, True),
        (True, {"logprobs": True}, True),
        (True, {"logprobs": True, "top_logprobs": 2}, False),
        (True, {"logprobs": True, "top_logprobs": 2, "max_tokens": 1}, False),
    ],
)
def test_a_first_token_is_used_only_where_a_completion_can_tell_it_all(
    chat: bool, options: dict[str, Any], is_used: bool
) -> None:
    prompt: dict[str, Any] = {"messages": []} if chat else {"prompt": PROMPT}
    transfer = lmcache().begin(handoff(client_request({**prompt, **options}, chat=chat)))
    leg = transfer.prefill()
    transfer.prefilled(orjson.loads(SingleEngine(ABC, "x", 0).answer(leg.path, body_of(leg))))
    assert transfer.finished() is None
    second = transfer.decode()
    if is_used:
        assert body_of(second)["prompt"] == [*PROMPT, ABC[0].id]
    else:
        assert (second.path, body_of(second)) == (
            CHAT if chat else COMPLETIONS,
            {**prompt, **options},
        )


def test_an_error_in_mid_stream_and_comments_go_through() -> None:
    connector = lmcache()
    transfer = connector.begin(handoff(client_request({"prompt": PROMPT, "stream": True})))
    leg = transfer.prefill()
    transfer.prefilled(orjson.loads(SingleEngine(ABC, "x", None).answer(leg.path, body_of(leg))))
    relay = transfer.relay()
    for event in (
        b'data: {"error": {"message": "no"}}\n\n',
        b": ping\n\n",
        sse.DONE,
        b"data: {\n\n",
    ):
        assert relay.chunk(event) == event
    assert relay.whole(b"not json") == b"not json"
    assert relay.whole(b'{"error":1}') == b'{"error":1}'


def test_the_role_is_that_of_the_message_to_be_continued() -> None:
    fields = {
        "messages": [{"role": "critic", "content": "well"}],
        "add_generation_prompt": False,
        "continue_final_message": True,
        "max_tokens": 1,
    }
    assert view_whole(in_two_legs(ABC, True, fields, []))["role"] == "critic"
