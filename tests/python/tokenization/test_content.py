"""What a template sees of OpenAI messages, and the detection of the content format."""

from __future__ import annotations

from typing import Any

import pytest
from jinja2 import Environment
from kvroute.tokenization import TokenizationError
from kvroute.tokenization.content import (
    conversation_for_template,
    detect_content_format,
    tools_for_template,
)


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{% for m in messages %}{{ m.content }}{% endfor %}", "string"),
        ("{% for m in messages %}{% for p in m.content %}{% endfor %}{% endfor %}", "openai"),
        ("{% for m in messages %}{% for p in m['content'] %}{% endfor %}{% endfor %}", "openai"),
        (
            "{% for m in messages[1:] %}{% for p in m.content | list %}{% endfor %}{% endfor %}",
            "openai",
        ),
        (
            "{% set a = messages %}{% set b = a[1:] %}"
            "{% for m in b %}{% for p in m.content %}{% endfor %}{% endfor %}",
            "openai",
        ),
        (
            "{% set b = a %}{% set a = messages %}"
            "{% for m in b %}{% for p in m.content %}{% endfor %}{% endfor %}",
            "openai",
        ),
        ("{% for m in messages %}{% for c in m.tool_calls %}{% endfor %}{% endfor %}", "string"),
        ("{% for m in others %}{% for p in m.content %}{% endfor %}{% endfor %}", "string"),
        ("{% for p in content %}{% endfor %}", "string"),
        ("{% for k, v in messages %}{% for p in k.content %}{% endfor %}{% endfor %}", "string"),
        ("plain", "string"),
    ],
)
def test_format_follows_from_loops_over_content(template: str, expected: str) -> None:
    assert detect_content_format(Environment().parse(template)) == expected


@pytest.mark.parametrize(
    ("content", "as_string"),
    [
        (None, ""),
        ("a", "a"),
        ([], ""),
        (["a", "b"], "a\nb"),
        ([{"type": "text", "text": "a"}, {"type": "refusal", "refusal": "no"}], "a\nno"),
        ([{"type": "text", "text": None}, {"type": "input_text", "text": "b"}], "b"),
    ],
)
def test_contents_become_strings_or_lists_of_parts(content: Any, as_string: str) -> None:
    messages = [{"role": "user", "content": content}]
    assert conversation_for_template(messages, "string") == [{"role": "user", "content": as_string}]
    (message,) = conversation_for_template(messages, "openai")
    assert "\n".join(part["text"] for part in message["content"]) == as_string


def test_a_tools_text_is_a_string_in_both_formats() -> None:
    messages = [
        {"role": "tool", "content": [{"type": "text", "text": "4"}], "tool_call_id": "c1"},
    ]
    for content_format in ("string", "openai"):
        assert conversation_for_template(messages, content_format) == [
            {"role": "tool", "content": "4", "tool_call_id": "c1"}
        ]


@pytest.mark.parametrize(
    ("given", "seen"),
    [('{"a": 1}', {"a": 1}), ("{", {}), ("", {}), (None, {}), ({"b": 2}, {"b": 2}), ([1], [1])],
)
def test_arguments_of_tool_calls_become_objects(given: Any, seen: Any) -> None:
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": given}}
    (message,) = conversation_for_template([{"role": "assistant", "tool_calls": [call]}], "string")
    assert message["tool_calls"][0]["function"] == {"name": "f", "arguments": seen}
    assert call["function"]["arguments"] == given  # type: ignore[index]


def test_empty_tool_calls_disappear() -> None:
    (message,) = conversation_for_template(
        [{"role": "assistant", "content": "x", "tool_calls": []}], "string"
    )
    assert "tool_calls" not in message


def test_reasoning_is_visible_under_both_names() -> None:
    (message,) = conversation_for_template(
        [{"role": "assistant", "content": "x", "reasoning": "because"}], "string"
    )
    assert message["reasoning"] == message["reasoning_content"] == "because"


def test_tools_come_in_the_order_of_the_engines_request_model() -> None:
    tools = tools_for_template(
        [{"function": {"strict": True, "parameters": {"b": 1, "a": 2}, "name": "f"}}]
    )
    assert tools is not None
    assert repr(tools[0]) == repr(
        {
            "type": "function",
            "function": {
                "name": "f",
                "description": None,
                "parameters": {"b": 1, "a": 2},
                "strict": True,
            },
        }
    )


@pytest.mark.parametrize("tools", [["f"], [{}], [{"function": {}}], [{"function": {"name": 3}}]])
def test_wrong_tools_are_named(tools: list[Any]) -> None:
    with pytest.raises(TokenizationError, match=r"tools\[0\]\.function"):
        tools_for_template(tools)
