"""What a template sees besides the conversation's texts."""

from __future__ import annotations

import re
from datetime import datetime

import pytest
from kvroute.tokenization import ChatTemplate, TokenizationError


def test_keys_without_a_value_are_not_defined() -> None:
    template = ChatTemplate("{% for m in messages %}{{ m.name is defined }}{% endfor %}")
    assert template.render([{"role": "user", "name": None}, {"role": "user", "name": "x"}]) == (
        "FalseTrue"
    )


def test_todays_date_is_at_hand() -> None:
    text = ChatTemplate("{{ strftime_now('%Y') }}").render([{"role": "user"}])
    assert re.fullmatch(r"\d{4}", text)
    assert abs(int(text) - datetime.now().year) <= 1


def test_json_is_not_escaped_for_html() -> None:
    template = ChatTemplate("{{ tools | tojson }}")
    assert template.render([], tools=[{"é": "<&'>"}]) == """[{"é": "<&'>"}]"""


def test_whitespace_of_a_stripped_final_message_is_stripped() -> None:
    messages = [{"role": "assistant", "content": "so far  "}]
    strips = ChatTemplate("{{ messages[0].content | trim }} </s>")
    keeps = ChatTemplate("{{ messages[0].content }}</s>")
    assert keeps.render(messages, continue_final_message=True) == "so far  "
    assert strips.render(messages, continue_final_message=True) == "so far  "
    ends = ChatTemplate("{{ messages[0].content | trim }}</s>")
    assert ends.render(messages, continue_final_message=True) == "so far"


@pytest.mark.parametrize("content", [None, [], [{"type": "image"}]])
def test_a_final_message_without_text_cannot_be_continued(content: object) -> None:
    with pytest.raises(TokenizationError, match="no text to continue"):
        ChatTemplate("{{ messages }}").render(
            [{"role": "assistant", "content": content}], continue_final_message=True
        )


def test_a_final_message_that_the_template_drops_cannot_be_continued() -> None:
    with pytest.raises(TokenizationError, match="does not appear"):
        ChatTemplate("fixed").render(
            [{"role": "assistant", "content": "x"}], continue_final_message=True
        )
