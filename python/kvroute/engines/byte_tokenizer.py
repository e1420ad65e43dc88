"""The built-in tokenizer of a simulated engine that was given no tokenizer's directory."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from kvroute.engines.errors import RequestRefusedError

_BOS, _START, _END = 256, 257, 258
_SPECIAL_TEXT = {_BOS: "<|bos|>", _START: "<|im_start|>", _END: "<|im_end|>"}


class ByteTokenizer:
    """UTF-8 bytes are the ids 0 to 255; 256 begins a text, 257 and 258 stand around a message.

    A chat is ``START role \\n content END \\n`` for each message, then ``START assistant \\n``;
    tools come first, as a system message of JSON. Content is a string or a list of text parts.
    """

    vocab_size = 259

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        """Ids of a text, with the id that begins one before it unless told otherwise."""
        ids = list(text.encode("utf-8", "surrogatepass"))
        return [_BOS, *ids] if add_special_tokens else ids

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids; special ids are spelled out, what is no text becomes U+FFFD."""
        text = bytearray()
        for token in ids:
            if token < 256:
                text.append(token)
            else:
                text += _SPECIAL_TEXT.get(token, "\ufffd").encode()
        return text.decode("utf-8", "replace")

    def encode_chat(
        self,
        messages: Sequence[Any],
        tools: Sequence[Any] | None = None,
        *,
        add_generation_prompt: bool = True,
        continue_final_message: bool = False,
        add_special_tokens: bool = False,
        template_kwargs: Mapping[str, Any] | None = None,  # noqa: ARG002
    ) -> list[int]:
        """Ids of a chat. Raises RequestRefusedError naming the message that cannot be rendered.

        There is no template, so `template_kwargs` change nothing.
        """
        ids = [_BOS] if add_special_tokens else []
        if tools:
            ids += self._message("system", json.dumps(tools, sort_keys=True))
        for position, message in enumerate(messages):
            where = f"messages[{position}]"
            if not isinstance(message, Mapping):
                raise RequestRefusedError(f"{where}: expected an object", where)
            role = message.get("role")
            if not isinstance(role, str) or not role:
                raise RequestRefusedError(f"{where}.role: expected a string", f"{where}.role")
            content = _content_text(message.get("content"), f"{where}.content")
            if message.get("tool_calls"):
                content += json.dumps(message["tool_calls"], sort_keys=True)
            ids += self._message(role, content)
        if continue_final_message and messages:
            return ids[:-2]
        if add_generation_prompt:
            ids += [_START, *b"assistant\n"]
        return ids

    @staticmethod
    def _message(role: str, content: str) -> list[int]:
        body = f"{role}\n{content}".encode("utf-8", "surrogatepass")
        return [_START, *body, _END, *b"\n"]


def _content_text(content: Any, where: str) -> str:
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise RequestRefusedError(f"{where}: expected a string or a list of parts", where)
    texts = []
    for position, part in enumerate(content):
        text = part.get("text") if isinstance(part, Mapping) else None
        if not isinstance(text, str) or part.get("type") != "text":
            named = f"{where}[{position}]"
            raise RequestRefusedError(f"{named}: expected a part of type text", named)
        texts.append(text)
    return "\n".join(texts)
