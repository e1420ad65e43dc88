"""One generation of a simulated engine: a sequence with its tokens and its listener."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from kvroute.engines.block_names import BlockNamer
from kvroute.engines.ending import Ending
from kvroute.engines.output_text import OutputText
from kvroute.engines.prefix_cache import BlocksStored
from kvroute.engines.sequence import EngineSequence


class Generation:
    """A sequence in the scheduler, the token ids behind it, and who waits for its output.

    Args:
        sequence_id: unique in the engine.
        prompt_ids: token ids of the prompt; not copied, not changed.
        names: engine hashes of the prompt's full blocks; becomes the sequence's own.
        root: engine hash before the first block.
        output: what is generated.
        ending: why and where its text ends.
        namer: names generated blocks.
        salt: the request's cache salt.
        chunk_tokens: how many tokens are worth sending; the first one always is. None: only the
            end is.
        listener: called on the event loop when there is output worth sending, and at the end.

    Attributes:
        arrived_at, first_token_at: monotonic seconds; the latter 0 before the first token.
        available: tokens that may be sent.
        done: all tokens are there, or the engine gave it up (``failed``).
    """

    __slots__ = (
        "_listener",
        "_namer",
        "_root",
        "arrived_at",
        "available",
        "chunk_tokens",
        "done",
        "ending",
        "failed",
        "first_token_at",
        "output",
        "prompt_ids",
        "salt",
        "sent",
        "sequence",
    )

    def __init__(
        self,
        sequence_id: str,
        prompt_ids: list[int],
        names: list[int],
        root: int,
        output: OutputText,
        ending: Ending,
        namer: BlockNamer,
        salt: str | None,
        chunk_tokens: int | None,
        listener: Callable[[], None],
        arrived_at: float,
    ) -> None:
        self.sequence = EngineSequence(
            sequence_id, len(prompt_ids), ending.tokens, list(names), self._name_block
        )
        self.prompt_ids = prompt_ids
        self.output = output
        self.ending = ending
        self.salt = salt
        self.chunk_tokens = chunk_tokens
        self.arrived_at = arrived_at
        self.first_token_at = 0.0
        self.available = 0
        self.sent = 0
        self.done = False
        self.failed = False
        self._namer = namer
        self._root = root
        self._listener = listener

    def text(self, start: int, stop: int) -> str:
        """The text of tokens ``start`` to ``stop``, without a stop string and what follows it."""
        shown = self.ending.shown
        if shown is None:
            return self.output.text(start, stop)
        before = len(self.output.text(0, start))
        return self.output.text(0, min(stop, self.available))[before:shown]

    def offer(self) -> None:
        """Take note of what was generated; tell the listener when it is worth a chunk."""
        sequence = self.sequence
        self.available = sequence.emitted
        self.done = sequence.finished
        chunk = self.chunk_tokens
        if self.done or (
            chunk is not None and (not self.sent or self.available - self.sent >= chunk)
        ):
            self._listener()

    def give_up(self) -> None:
        """End it without its remaining tokens: the engine stops."""
        self.done = True
        self.failed = True
        self._listener()

    def stored_tokens(self, event: BlocksStored, block_size: int) -> list[int]:
        """The token ids of blocks that came into the cache."""
        first = event.first * block_size
        return self._tokens(first, first + len(event.names) * block_size)

    def _name_block(self, position: int) -> int:
        names: Sequence[object] = self.sequence.names
        parent = names[position - 1] if position else self._root
        assert isinstance(parent, int)
        size = self._namer.block_size
        return self._namer.name(self._tokens(position * size, (position + 1) * size), parent)[0]

    def _tokens(self, start: int, stop: int) -> list[int]:
        prompt = len(self.prompt_ids)
        if stop <= prompt:
            return self.prompt_ids[start:stop]
        return self.prompt_ids[start:] + self.output.ids(max(0, start - prompt), stop - prompt)
