"""What a simulated engine answers: words drawn by the tokens before them, as a model's are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from kvroute.engines.context_hash import ContextHash

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
_NATURAL_TOKENS = 64
_SCORES = 1024
_END_SALT = 0x5851F42D4C957F2D


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


class _Node:
    """A place in the tree of words: the tokens since a word began."""

    __slots__ = ("after", "depth", "edges", "steps")

    def __init__(self, depth: int = 0) -> None:
        self.depth = depth
        self.edges: dict[int, tuple[str, _Node]] = {}
        self.steps: list[tuple[int, str, _Node]] = []
        """The edges in order, with where the text goes on after each."""
        self.after: _Node = self


class Lexicon:
    """The words an engine speaks, as the tokens of one tokenizer.

    Each word is encoded with the space before it. Pieces joined are the words' text: each token
    shows what can be told of the text up to it; one that ends in half a character shows nothing,
    and the next one the character, as engines stream it.
    """

    def __init__(self, tokenizer: Tokenizer, words: Sequence[str] = ()) -> None:
        """`words` instead of the built-in ones."""
        self._root = _Node()
        self._longest = 1
        words_ids: list[list[int]] = []
        for word in words or _WORDS:
            text = f" {word}"
            ids = tokenizer.encode(text, add_special_tokens=False)
            words_ids.append(ids)
            self._add(ids, _pieces(tokenizer, ids, text))
        if not self._root.edges:
            words_ids.append([0])
            self._add([0], [" word"])
        for ids in words_ids:
            self._finish(ids)

    def node_after(self, token_ids: Sequence[int]) -> _Node:
        """Where a text stands: in the longest beginning of a word that it ends with."""
        for length in range(min(self._longest - 1, len(token_ids)), 0, -1):
            node: _Node | None = self._root
            for token in token_ids[len(token_ids) - length :]:
                edge = None if node is None else node.edges.get(token)
                node = None if edge is None else edge[1]
            if node is not None and node.edges:
                return node
        return self._root

    def _add(self, ids: Sequence[int], pieces: Sequence[str]) -> None:
        node = self._root
        for token, piece in zip(ids, pieces, strict=True):
            node = node.edges.setdefault(token, (piece, _Node(node.depth + 1)))[1]
        self._longest = max(self._longest, len(ids))

    def _finish(self, ids: Sequence[int]) -> None:
        node = self._root
        for depth, token in enumerate(ids, 1):
            if not node.steps:
                node.steps = [(one, *edge) for one, edge in node.edges.items()]
            node = node.edges[token][1]
            if not node.edges:
                node.after = self.node_after(ids[1:depth])


def _pieces(tokenizer: Tokenizer, ids: Sequence[int], text: str) -> list[str]:
    """The part of `text` that each of its tokens shows."""
    pieces, shown = [], ""
    for count in range(1, len(ids) + 1):
        so_far = text if count == len(ids) else tokenizer.decode(ids[:count])
        if not (text.startswith(so_far) and so_far.startswith(shown)):
            so_far = shown
        pieces.append(so_far[len(shown) :])
        shown = so_far
    return pieces


class Ranked:
    """A token and what could have stood in its place."""

    __slots__ = ("_chosen", "_steps", "logprob")

    def __init__(
        self, steps: Sequence[tuple[int, str, _Node]], chosen: int, logprob: float
    ) -> None:
        self._steps = steps
        self._chosen = chosen
        self.logprob = logprob

    def best(self, count: int) -> list[tuple[str, float]]:
        """The token, and up to `count - 1` others of lower probability, with their logarithms."""
        steps = self._steps
        places = [(self._chosen + step) % len(steps) for step in range(min(count, len(steps)))]
        return [
            (steps[at][1], self.logprob - rank) for rank, at in enumerate(places or [self._chosen])
        ]


class OutputText:
    """An endless text, made as far as it is asked for.

    Each token follows from the seed and from all tokens before it, the prompt's included: the
    text after a prompt and the first tokens of its answer is the rest of that answer. So do the
    words after which it could end by itself, one in 64 tokens.
    """

    def __init__(self, lexicon: Lexicon, seed: int, prompt_ids: Sequence[int] = ()) -> None:
        self._seed = seed & _MASK
        self._context = ContextHash(prompt_ids)
        self._node = lexicon.node_after(prompt_ids)
        self._ids: list[int] = []
        self._pieces: list[str] = []
        self._ends: list[int] = []
        self._choices: list[Sequence[tuple[int, str, _Node]]] = []
        self._draws: list[int] = []

    def ranked(self, start: int, stop: int) -> list[Ranked]:
        """What stood to choice for tokens ``start`` to ``stop``, the token itself first."""
        self._extend(stop)
        drawn = zip(self._choices[start:stop], self._draws[start:stop], strict=True)
        return [
            Ranked(steps, draw % len(steps), -(draw % _SCORES) / _SCORES) for steps, draw in drawn
        ]

    def natural_end(self, least: int, most: int) -> int | None:
        """After how many tokens, from `least` to `most`, it first could end; None for nowhere."""
        seen = 0
        while True:
            for end in self._ends[seen:]:
                if least <= end <= most:
                    return end
            if len(self._ids) >= most:
                return None
            seen = len(self._ends)
            self._extend(min(most, len(self._ids) + _NATURAL_TOKENS))

    def end_of(self, texts: Sequence[str], least: int, most: int) -> tuple[int, int, str] | None:
        """Where one of `texts` first comes to its end: after how many tokens, at least `least` and
        at most `most`; where it begins, in characters; and which it is. None for nowhere."""
        if not texts:
            return None
        said, longest = "", max(map(len, texts))
        for count in range(1, most + 1):
            self._extend_by_some(count, most)
            before = max(0, len(said) - longest + 1)
            said += self._pieces[count - 1]
            found = [(said.find(text, before), text) for text in texts] if count >= least else []
            hits = [hit for hit in found if hit[0] >= 0]
            if hits:
                return (count, *min(hits))
        return None

    def first_of(self, ids: Sequence[int], least: int, most: int) -> int | None:
        """After how many tokens, from `least` to `most`, one of `ids` is the last; None for
        nowhere."""
        if not ids:
            return None
        wanted = set(ids)
        for count in range(least, most + 1):
            self._extend_by_some(count, most)
            if self._ids[count - 1] in wanted:
                return count
        return None

    def ids(self, start: int, stop: int) -> list[int]:
        """Ids of tokens ``start`` to ``stop``."""
        self._extend(stop)
        return self._ids[start:stop]

    def text(self, start: int, stop: int) -> str:
        """Text of tokens ``start`` to ``stop``."""
        self._extend(stop)
        return "".join(self._pieces[start:stop])

    def _extend_by_some(self, count: int, most: int) -> None:
        """To `count` tokens at least, and `most` at most: a search may end soon."""
        if len(self._ids) < count:
            self._extend(min(most, count + _NATURAL_TOKENS))

    def _extend(self, count: int) -> None:
        context = self._context
        while len(self._ids) < count:
            steps = self._node.steps
            draw = self._draw(0)
            token, piece, node = steps[draw % len(steps)]
            self._choices.append(steps)
            self._draws.append(draw)
            self._ids.append(token)
            self._pieces.append(piece)
            self._node = node.after
            context.push(token)
            if not node.edges and self._draw(_END_SALT) % _NATURAL_TOKENS < node.depth:
                self._ends.append(len(self._ids))

    def _draw(self, salt: int) -> int:
        value = self._context.value ^ self._seed ^ salt
        return (value * 0x9E3779B97F4A7C15 & _MASK) >> 33
