"""A model's tokenizer directory as an engine's tokenizer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kvroute.engines.errors import InvalidConfigError
from kvroute.tokenization import TokenizationError, Tokenizer


class ModelTokenizer:
    """`kvroute.tokenization.Tokenizer` with vLLM's choice of special tokens around a chat."""

    def __init__(self, directory: Path) -> None:
        """Raises InvalidConfigError naming the file that is missing or wrong."""
        try:
            self._tokenizer = Tokenizer.from_directory(directory)
        except TokenizationError as error:
            raise InvalidConfigError(f"tokenizer: {error}") from error

    @property
    def vocab_size(self) -> int:
        """Number of token ids, added tokens included."""
        return self._tokenizer.vocab_size

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        """Ids of a text."""
        return self._tokenizer.encode(text, add_special_tokens)

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids."""
        return self._tokenizer.decode(ids)

    def encode_chat(
        self,
        messages: Sequence[Any],
        tools: Sequence[Any] | None = None,
        *,
        add_generation_prompt: bool = True,
        continue_final_message: bool = False,
        add_special_tokens: bool = False,
        template_kwargs: Mapping[str, Any] | None = None,
    ) -> list[int]:
        """Ids of a chat. Raises TokenizationError for what cannot be rendered, TypeError for
        template arguments that are not the caller's to give.
        """
        text = self._tokenizer.render_chat(
            messages,
            tools,
            add_generation_prompt,
            continue_final_message,
            **(template_kwargs or {}),
        )
        return self._tokenizer.encode(text, add_special_tokens)
