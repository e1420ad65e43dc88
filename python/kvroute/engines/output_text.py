"""What a simulated engine answers: words drawn by a small generator, the same for the same seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from kvroute._core import hash_blocks

_WORDS = (
    "amber", "anchor", "autumn", "basin", "beacon", "birch", "brook", "candle", "canyon", "cedar",
    "cinder", "clover", "copper", "coral", "crane", "delta", "dune", "ember", "falcon", "fern",
    "fjord", "flint", "garden", "glacier", "granite", "harbor", "hazel", "heron", "indigo",
    "island", "ivory", "jasper", "juniper", "lantern", "laurel", "linen", "lotus", "maple",
    "marble", "meadow", "mist", "moss", "nectar", "north", "ocean", "opal", "orchard", "otter",
    "pebble", "pine", "prairie", "quartz", "raven", "reed", "river", "saffron", "sage", "slate",
    "sparrow", "stone", "thistle", "tidal", "timber", "valley", "velvet", "walnut", "willow",
    "winter",
)  # fmt: skip
_MASK = (1 << 64) - 1
_HASHED_TOGETHER = 1024


class Tokenizer(Protocol):
    """What an engine needs of a tokenizer."""

    @property
    def vocab_size(self) -> int:
        """Number of token ids."""

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        """Ids of a text."""

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids."""

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
        """Ids of a chat. `add_special_tokens` adds what surrounds a text to what the template put.

        `template_kwargs` are visible to the template, where there is one.
        """


def prompt_hash(token_ids: Sequence[int]) -> int:
    """A hash of all of a prompt's tokens, the same in every engine; microseconds for thousands."""
    whole = len(token_ids) // _HASHED_TOGETHER * _HASHED_TOGETHER
    return hash((*hash_blocks(token_ids, _HASHED_TOGETHER), *token_ids[whole:]))


class Lexicon:
    """The words an engine speaks, as the tokens of one tokenizer.

    Each word is encoded with the space before it. Pieces joined are the words' text: each token
    shows its own part where the tokenizer can tell, else the last one of a word shows all of it.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.words: list[list[tuple[int, str]]] = []
        for word in _WORDS:
            text = f" {word}"
            ids = tokenizer.encode(text, add_special_tokens=False)
            pieces = [tokenizer.decode([token]) for token in ids]
            if "".join(pieces) != text:
                pieces = [""] * (len(ids) - 1) + [text]
            if ids:
                self.words.append(list(zip(ids, pieces, strict=True)))
        if not self.words:
            self.words = [[(0, " word")]]


class OutputText:
    """An endless text, made as far as it is asked for. The same seed gives the same text."""

    def __init__(self, lexicon: Lexicon, seed: int) -> None:
        self._words = lexicon.words
        self._state = (seed * 2 + 1) & _MASK
        self._ids: list[int] = []
        self._pieces: list[str] = []

    def ids(self, start: int, stop: int) -> list[int]:
        """Ids of tokens ``start`` to ``stop``."""
        self._extend(stop)
        return self._ids[start:stop]

    def text(self, start: int, stop: int) -> str:
        """Text of tokens ``start`` to ``stop``."""
        self._extend(stop)
        return "".join(self._pieces[start:stop])

    def _extend(self, count: int) -> None:
        while len(self._ids) < count:
            self._state = (self._state * 6364136223846793005 + 1442695040888963407) & _MASK
            for token, piece in self._words[(self._state >> 33) % len(self._words)]:
                self._ids.append(token)
                self._pieces.append(piece)
