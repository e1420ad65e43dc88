"""One running sequence of a simulated engine: a prompt and the tokens generated from it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from kvroute.engines.prefix_cache import BlockName


class EngineSequence:
    """What the scheduler knows of one prompt and its output. It never sees the tokens themselves.

    Args:
        request_id: unique among the sequences in the scheduler.
        prompt_tokens: length of the prompt, at least 1.
        max_tokens: how many tokens are generated, at least 1; the sequence ends there.
        block_names: names of the prompt's full blocks, in order, all distinct. The list is the
            sequence's own from here on: names of generated blocks are appended to it.
        name_block: called with a block's position when a block past ``block_names`` is full and
            about to be computed; its name, or None to leave it and all after it unnamed (those
            are lost when the sequence ends). Without it no generated block is named.

    Attributes:
        cached_tokens: prompt tokens found in the cache at the first admission; -1 before.
        emitted: tokens generated so far.
        received_blocks: leading blocks of the prompt that come from another engine; those that
            are not cached at the first admission come into the cache without being computed.
        on_computed: called with the names of the prompt's full blocks when the last token is
            generated, while the blocks are still referenced.
        preemptions: how often it lost its blocks and had to begin anew.
    """

    __slots__ = (
        "blocks_named",
        "blocks_unnamed",
        "cached_tokens",
        "computed",
        "emitted",
        "max_tokens",
        "name_block",
        "names",
        "naming_ended",
        "on_computed",
        "preemptions",
        "prompt_tokens",
        "received_blocks",
        "request_id",
        "tokens",
    )

    def __init__(
        self,
        request_id: str,
        prompt_tokens: int,
        max_tokens: int,
        block_names: list[BlockName],
        name_block: Callable[[int], BlockName | None] | None = None,
    ) -> None:
        self.request_id = request_id
        self.prompt_tokens = prompt_tokens
        self.max_tokens = max_tokens
        self.names = block_names
        self.name_block = name_block
        self.naming_ended = name_block is None
        self.tokens = prompt_tokens
        self.computed = 0
        self.emitted = 0
        self.cached_tokens = -1
        self.preemptions = 0
        self.received_blocks = 0
        self.on_computed: Callable[[Sequence[BlockName]], None] | None = None
        self.blocks_named = 0
        self.blocks_unnamed = 0

    @property
    def finished(self) -> bool:
        """All of its tokens were generated."""
        return self.emitted >= self.max_tokens

    def names_until(self, full_blocks: int) -> Sequence[BlockName]:
        """The names of the first ``full_blocks`` blocks, or of as many as have one."""
        names = self.names
        while len(names) < full_blocks and not self.naming_ended:
            assert self.name_block is not None
            name = self.name_block(len(names))
            if name is None:
                self.naming_ended = True
            else:
                names.append(name)
        return names
