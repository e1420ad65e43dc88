"""Texts and whole chats against Hugging Face Transformers, on the same directory."""

from __future__ import annotations

import contextlib
import copy
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kvroute.tokenization import TokenizationError, Tokenizer, UnsupportedContentError
from tokenizers import Tokenizer as Backend
from tokenizers.processors import TemplateProcessing
from transformers import AutoTokenizer

FAMILIES = ["chatml", "tools", "parts", "reasoning", "named", "file"]
ACCEPTS_PARTS = {"parts"}
SLOW_FIXTURES = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@cache
def ours(path: Path) -> Tokenizer:
    return Tokenizer.from_directory(path)


@cache
def theirs(path: Path) -> Any:
    return AutoTokenizer.from_pretrained(str(path))


words = st.text(
    st.characters(codec="utf-8", exclude_characters="\x00") | st.sampled_from(" \n\t<|>{}&'\""),
    max_size=30,
) | st.sampled_from(["<s>", " leading", "trailing ", "<|im_end|>", "<b>&amp;</b>", "{{ x }}", ""])
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | words,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(words, inner, max_size=2),
    max_leaves=4,
)
tool = st.builds(
    lambda name, description, parameters: {
        "type": "function",
        "function": {"name": name, "description": description, "parameters": parameters},
    },
    words,
    st.none() | words,
    st.none() | st.dictionaries(words, json_values, max_size=3),
)
assistant = st.builds(
    lambda content, arguments: {
        "role": "assistant",
        "content": content,
        **(
            {
                "tool_calls": [
                    {"id": "1", "type": "function", "function": {"name": "f", "arguments": a}}
                    for a in arguments
                ]
            }
            if arguments
            else {}
        ),
    },
    words,
    st.lists(st.dictionaries(words, json_values, max_size=2), max_size=2),
)
plain = st.fixed_dictionaries({"role": st.just("user"), "content": words}) | st.fixed_dictionaries(
    {"role": st.just("user"), "content": words, "name": words}
)
tool_answer = st.fixed_dictionaries(
    {"role": st.just("tool"), "content": words, "tool_call_id": st.just("1")}
)
system = st.fixed_dictionaries({"role": st.just("system"), "content": words})
chats = st.builds(
    lambda head, rest, last: [*head, *rest, last],
    st.lists(system, max_size=1),
    st.lists(plain | assistant | tool_answer, max_size=4),
    plain,
)


@SLOW_FIXTURES
@given(text=words, special=st.booleans())
def test_encoding_equals_transformers(
    template_directories: dict[str, Path], text: str, special: bool
) -> None:
    path = template_directories["chatml"]
    ids = ours(path).encode(text, add_special_tokens=special)
    assert ids == theirs(path).encode(text, add_special_tokens=special)
    assert ours(path).decode(ids) == theirs(path).decode(ids, clean_up_tokenization_spaces=False)


@pytest.mark.parametrize("family", FAMILIES)
@SLOW_FIXTURES
@given(chat=chats, tools=st.none() | st.lists(tool, min_size=1, max_size=2), prompt=st.booleans())
def test_chats_equal_transformers(
    template_directories: dict[str, Path],
    family: str,
    chat: list[dict[str, Any]],
    tools: list[dict[str, Any]] | None,
    prompt: bool,
) -> None:
    path = template_directories[family]
    before = copy.deepcopy(chat)
    expected_chat = as_parts(chat) if family in ACCEPTS_PARTS else chat
    expected = theirs(path).apply_chat_template(
        expected_chat, tools=tools, add_generation_prompt=prompt, tokenize=True, return_dict=False
    )
    assert ours(path).apply_chat_template(chat, tools, add_generation_prompt=prompt) == expected
    assert chat == before


def as_parts(chat: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What a template that iterates over parts gets for string contents; a tool's stays text."""
    return [
        message
        if message["role"] == "tool"
        else {**message, "content": [{"type": "text", "text": message["content"]}]}
        for message in chat
    ]


@pytest.mark.parametrize("family", FAMILIES)
@SLOW_FIXTURES
@given(texts=st.lists(words, min_size=2, max_size=4))
def test_text_parts_are_joined_by_newlines_or_passed_as_a_list(
    template_directories: dict[str, Path], family: str, texts: list[str]
) -> None:
    path = template_directories[family]
    parts = [{"type": "text", "text": text} for text in texts]
    seen = parts if family in ACCEPTS_PARTS else "\n".join(texts)
    expected = theirs(path).apply_chat_template(
        [{"role": "user", "content": seen}],
        add_generation_prompt=True,
        tokenize=True,
        return_dict=False,
    )
    assert ours(path).apply_chat_template([{"role": "user", "content": parts}]) == expected


@pytest.mark.parametrize("family", ["chatml", "tools", "parts", "reasoning"])
@SLOW_FIXTURES
@given(content=words.filter(lambda text: bool(text.strip())))
def test_continuing_the_final_message_equals_transformers(
    template_directories: dict[str, Path], family: str, content: str
) -> None:
    path = template_directories[family]
    chat = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": content}]
    expected = theirs(path).apply_chat_template(
        as_parts(chat) if family in ACCEPTS_PARTS else chat,
        continue_final_message=True,
        tokenize=True,
        return_dict=False,
    )
    got = ours(path).apply_chat_template(
        chat, add_generation_prompt=False, continue_final_message=True
    )
    assert got == expected


def test_template_variables_reach_the_template(template_directories: dict[str, Path]) -> None:
    path = template_directories["reasoning"]
    chat = [{"role": "user", "content": "hi"}]
    expected = theirs(path).apply_chat_template(
        chat, add_generation_prompt=True, enable_thinking=False, tokenize=True, return_dict=False
    )
    got = ours(path).apply_chat_template(chat, enable_thinking=False)
    assert got == expected != ours(path).apply_chat_template(chat)


@pytest.mark.parametrize("add_bos", [None, True, False])
def test_what_surrounds_a_prompt_is_said_by_the_tokenizers_file(
    make_directory: Any, add_bos: bool | None
) -> None:
    path = make_directory(add_bos_token=add_bos) if add_bos is not None else make_directory()
    backend = Backend.from_file(str(path / "tokenizer.json"))
    backend.post_processor = TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    backend.enable_truncation(4)
    backend.enable_padding(length=99)
    backend.save(str(path / "tokenizer.json"))
    tokenizer = Tokenizer.from_directory(path)
    ids = tokenizer.encode("The quick brown fox jumps")
    assert ids == AutoTokenizer.from_pretrained(str(path)).encode("The quick brown fox jumps")
    assert (ids[0], ids[-1]) == (0, 1)
    assert tokenizer.encode("The quick brown fox jumps", add_special_tokens=False) == ids[1:-1]


def test_vocabulary_counts_added_tokens(template_directories: dict[str, Path]) -> None:
    path = template_directories["chatml"]
    assert ours(path).vocab_size == len(theirs(path))


def test_the_template_that_refuses_says_why(template_directories: dict[str, Path]) -> None:
    with pytest.raises(TokenizationError, match="unknown role bishop"):
        ours(template_directories["tools"]).apply_chat_template(
            [{"role": "bishop", "content": "hi"}]
        )


def test_images_are_placed_by_templates_of_parts_and_refused_by_others(
    template_directories: dict[str, Path],
) -> None:
    chat = [
        {
            "role": "user",
            "content": [
                {"type": "image_url", "image_url": {"url": "http://x/y.png"}},
                {"type": "text", "text": "what is it"},
            ],
        }
    ]
    text = ours(template_directories["parts"]).render_chat(chat)
    assert "<|image|>[2]what is it" in text
    with pytest.raises(UnsupportedContentError, match=r"messages\[0\]\.content\[0\]"):
        ours(template_directories["chatml"]).render_chat(chat)


def test_both_ways_to_end_a_chat_exclude_each_other(
    template_directories: dict[str, Path],
) -> None:
    with pytest.raises(TokenizationError, match="exclude each other"):
        ours(template_directories["chatml"]).apply_chat_template(
            [{"role": "user", "content": "hi"}], continue_final_message=True
        )


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        ([], "at least one message"),
        (["hi"], r"messages\[0\]: expected an object, got str"),
        ([{"content": "hi"}], r"messages\[0\]\.role"),
        ([{"role": "user", "content": 7}], r"messages\[0\]\.content: .* got int"),
        ([{"role": "user", "content": [7]}], r"messages\[0\]\.content\[0\]: .* got int"),
        ([{"role": "user", "content": [{"type": "smell"}]}], r"content\[0\]\.type: .*smell"),
        ([{"role": "user", "content": [{"type": "text", "text": 1}]}], r"text: expected a string"),
        ([{"role": "assistant", "tool_calls": "f"}], r"tool_calls: expected a list"),
        ([{"role": "assistant", "tool_calls": [1]}], r"tool_calls\[0\]\.function"),
        ([{"role": "user", "content": [{"type": ["x"]}]}], r"content\[0\]\.type: .*\['x'\]"),
        ({"role": "user"}, r"messages: expected a list, got dict"),
        (
            [{"role": "assistant", "tool_calls": [{"function": {"arguments": "[" * 5000}}]}],
            r"tool_calls\[0\]\.function\.arguments: nested too deeply",
        ),
    ],
)
def test_wrong_messages_are_named(
    template_directories: dict[str, Path], messages: list[Any], message: str
) -> None:
    with pytest.raises(TokenizationError, match=message):
        ours(template_directories["chatml"]).apply_chat_template(messages)


@pytest.mark.parametrize("tools", [5, "f", {"type": "function"}])
def test_tools_that_are_no_list_are_named(
    template_directories: dict[str, Path], tools: Any
) -> None:
    with pytest.raises(TokenizationError, match=r"tools: expected a list"):
        ours(template_directories["tools"]).apply_chat_template(
            [{"role": "user", "content": "hi"}], tools
        )


def test_special_tokens_around_a_chat_are_added_on_demand(make_directory: Any) -> None:
    path = make_directory("{{ messages[0].content }}")
    backend = Backend.from_file(str(path / "tokenizer.json"))
    backend.post_processor = TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    backend.save(str(path / "tokenizer.json"))
    tokenizer = Tokenizer.from_directory(path)
    chat = [{"role": "user", "content": "hi"}]
    bare = tokenizer.apply_chat_template(chat)
    assert tokenizer.apply_chat_template(chat, add_special_tokens=True) == [0, *bare, 1]


json_anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(
            ["role", "content", "type", "text", "name", "tool_calls", "function", "arguments"]
        )
        | st.text(max_size=4),
        inner,
        max_size=4,
    ),
    max_leaves=12,
)
message_like = st.dictionaries(
    st.sampled_from(["content", "tool_calls", "reasoning", "name", "tool_call_id"]),
    json_anything,
    max_size=4,
).map(lambda fields: {"role": "assistant", **fields})


@pytest.mark.parametrize("family", FAMILIES)
@SLOW_FIXTURES
@given(
    messages=json_anything | st.lists(message_like | json_anything, max_size=3),
    tools=json_anything | st.lists(json_anything, max_size=2),
)
def test_whatever_json_comes_gives_token_ids_or_a_tokenization_error(
    template_directories: dict[str, Path], family: str, messages: Any, tools: Any
) -> None:
    with contextlib.suppress(TokenizationError):
        ids = ours(template_directories[family]).apply_chat_template(messages, tools)
        assert all(type(token) is int for token in ids)
