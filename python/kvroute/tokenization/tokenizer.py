"""The tokenizer of one model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tokenizers

from kvroute.tokenization.content import (
    ContentFormat,
    conversation_for_template,
    tools_for_template,
)
from kvroute.tokenization.directory import read_directory
from kvroute.tokenization.errors import TokenizationError
from kvroute.tokenization.template import ChatTemplate


class Tokenizer:
    """Text and chats to token ids. Immutable; may be used from several threads at once.

    `encode` releases the GIL while it computes, so that a thread pool helps with long texts;
    rendering a template and the making of the list of ids do not. All are linear in the text.
    """

    def __init__(
        self,
        backend: tokenizers.Tokenizer,
        templates: Mapping[str, ChatTemplate],
        special_tokens: Mapping[str, str],
    ) -> None:
        self._backend = backend
        # Of the package's ways to encode only those for batches release the GIL (seen in 0.23);
        # the fast one leaves out the offsets.
        self._encode_batch = getattr(backend, "encode_batch_fast", backend.encode_batch)
        self._templates = dict(templates)
        self._special_tokens = dict(special_tokens)

    @classmethod
    def from_directory(
        cls, path: str | Path, *, content_format: ContentFormat | None = None
    ) -> Tokenizer:
        """Reads ``tokenizer.json`` and, where there are any, special tokens and chat templates.

        Templates come from ``chat_template.jinja`` (with ``additional_chat_templates/*.jinja``),
        else from ``tokenizer_config.json`` (one string, or a list of named templates).
        `content_format` overrides the detection for all of them, like vLLM's
        ``--chat-template-content-format``. Raises TokenizationError naming the file at fault.
        """
        directory = read_directory(Path(path))
        try:
            backend = tokenizers.Tokenizer.from_file(str(directory.tokenizer_file))
        except Exception as error:  # the package raises plain Exception for a bad file
            raise TokenizationError(f"{directory.tokenizer_file}: {error}") from error
        backend.no_truncation()
        backend.no_padding()
        templates = {
            name: ChatTemplate(source, content_format)
            for name, source in directory.templates.items()
        }
        return cls(backend, templates, directory.special_tokens)

    @property
    def vocab_size(self) -> int:
        """Number of token ids, added tokens included."""
        return int(self._backend.get_vocab_size(with_added_tokens=True))

    @property
    def special_tokens(self) -> dict[str, str]:
        """Named special tokens ("bos_token", …) and their text."""
        return dict(self._special_tokens)

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        """Token ids of a text; `add_special_tokens` adds what tokenizer.json puts around a prompt.

        (``add_bos_token`` of ``tokenizer_config.json`` says nothing beside a ``tokenizer.json``,
        as in Transformers 5.)
        """
        if not isinstance(text, str):
            raise TokenizationError(f"text: expected a string, got {type(text).__name__}")
        (encoding,) = self._encode_batch([text], add_special_tokens=add_special_tokens)
        ids: list[int] = encoding.ids
        return ids

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = False) -> str:
        """The text of token ids."""
        return str(self._backend.decode(list(ids), skip_special_tokens=skip_special_tokens))

    def apply_chat_template(
        self,
        messages: Sequence[Any],
        tools: Sequence[Any] | None = None,
        add_generation_prompt: bool = True,
        continue_final_message: bool = False,
        add_special_tokens: bool = False,
        **template_kwargs: Any,
    ) -> list[int]:
        """Token ids of a chat in OpenAI's shape; the arguments are those of the engines.

        Templates put special tokens themselves; `add_special_tokens` adds those of `encode` to
        them. Raises TokenizationError for messages of another shape, a missing template, or what
        the template refuses.
        """
        text = self.render_chat(
            messages, tools, add_generation_prompt, continue_final_message, **template_kwargs
        )
        return self.encode(text, add_special_tokens=add_special_tokens)

    def render_chat(
        self,
        messages: Sequence[Any],
        tools: Sequence[Any] | None = None,
        add_generation_prompt: bool = True,
        continue_final_message: bool = False,
        **template_kwargs: Any,
    ) -> str:
        """The text that `apply_chat_template` encodes."""
        template = self._template_for(tools)
        return template.render(
            conversation_for_template(messages, template.content_format),
            tools=tools_for_template(tools),
            add_generation_prompt=add_generation_prompt,
            continue_final_message=continue_final_message,
            **{**self._special_tokens, **template_kwargs},
        )

    def _template_for(self, tools: Sequence[Any] | None) -> ChatTemplate:
        if tools is not None and "tool_use" in self._templates:
            return self._templates["tool_use"]
        if "default" in self._templates:
            return self._templates["default"]
        if not self._templates:
            raise TokenizationError(
                "chat template: expected one in chat_template.jinja or tokenizer_config.json, "
                "found none"
            )
        raise TokenizationError(
            f"chat template: expected one named default, found {sorted(self._templates)}"
        )
