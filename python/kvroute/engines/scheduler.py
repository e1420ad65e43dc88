"""Continuous batching with chunked prefill and preemption, on a time given by the caller."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from kvroute.engines.cost_model import CostModel
from kvroute.engines.errors import InvalidConfigError, RequestRefusedError
from kvroute.engines.prefix_cache import BlockName, CacheEvent, PrefixCache
from kvroute.engines.sequence import EngineSequence


@dataclass(slots=True)
class StepResult:
    """What one step did. Tokens exist from ``ends_at`` on; cache events are out at the start.

    Attributes:
        started_at, ends_at: seconds on the caller's clock; equal when there was nothing to do.
        emitted: sequences that generated one token each, in batch order.
        first_tokens: those of them that generated their first.
        finished: those of them that generated their last; they have left the scheduler.
        preempted: sequences that lost their blocks and wait again.
        admitted: sequences that joined the batch; their ``cached_tokens`` is known from here on.
        cache_events: changes of the prefix cache, in order.
        prefill_tokens, decode_tokens: tokens computed.
    """

    started_at: float
    ends_at: float
    emitted: list[EngineSequence] = field(default_factory=list)
    first_tokens: list[EngineSequence] = field(default_factory=list)
    finished: list[EngineSequence] = field(default_factory=list)
    preempted: list[EngineSequence] = field(default_factory=list)
    admitted: list[EngineSequence] = field(default_factory=list)
    cache_events: list[CacheEvent] = field(default_factory=list)
    prefill_tokens: int = 0
    decode_tokens: int = 0

    @property
    def is_empty(self) -> bool:
        """Nothing was computed and nothing preempted: nothing that waits fits."""
        return not (self.prefill_tokens or self.decode_tokens or self.preempted)


class _Work:
    """The sums that the cost model takes, over one step's batch."""

    __slots__ = ("attention_pairs", "context_tokens", "decodes", "prefill_tokens")

    def __init__(self) -> None:
        self.prefill_tokens = 0
        self.attention_pairs = 0.0
        self.decodes = 0
        self.context_tokens = 0

    def add(self, start: int, count: int, sequence_tokens: int) -> None:
        if count == 1 and start + 1 == sequence_tokens:
            self.decodes += 1
            self.context_tokens += sequence_tokens
        else:
            self.prefill_tokens += count
            self.attention_pairs += count * (start + count / 2)


class Scheduler:
    """The scheduler of one simulated engine, after vLLM's (v1): first come, first served.

    A step gives each running sequence its next tokens (one when decoding, a chunk of its prompt
    before that) while ``max_num_batched_tokens`` lasts, then admits waiting ones: at most
    ``max_num_seqs`` run. A sequence is admitted when all of its tokens so far would fit, and takes
    blocks as it goes. When a running one finds no block, the latest admitted is preempted: it
    loses its blocks, waits at the head of the queue, and computes again what is no longer cached.
    A prompt that is cached to its end still computes its last block, for its first token's sake.
    Full blocks are named (and so announced) when the step that computes them is scheduled.

    Pure: time is an argument. Not thread-safe. A step costs O(batch + blocks it touches).

    Args:
        cache: the prefix cache, used by this scheduler alone.
        cost: how long steps take.
        block_size: tokens a block.
        max_num_seqs, max_num_batched_tokens: as vLLM's flags of these names.
        max_model_len: the most tokens that a prompt and its output may have together; None for as
            many as the cache holds.
    """

    def __init__(
        self,
        cache: PrefixCache,
        cost: CostModel,
        *,
        block_size: int,
        max_num_seqs: int = 256,
        max_num_batched_tokens: int = 8192,
        max_model_len: int | None = None,
    ) -> None:
        limits = {
            "block_size": block_size,
            "max_num_seqs": max_num_seqs,
            "max_num_batched_tokens": max_num_batched_tokens,
        }
        for name, value in limits.items():
            if value < 1:
                raise InvalidConfigError(f"{name}: expected at least 1, got {value}")
        capacity = cache.num_blocks * block_size
        self.cache = cache
        self.block_size = block_size
        self.max_model_len = capacity if max_model_len is None else min(max_model_len, capacity)
        if self.max_model_len < 2:
            raise InvalidConfigError(f"max_model_len: expected at least 2, got {max_model_len}")
        self._cost = cost
        self._max_num_seqs = max_num_seqs
        self._max_num_batched_tokens = max_num_batched_tokens
        self._waiting: deque[EngineSequence] = deque()
        self._running: list[EngineSequence] = []
        self._blocked: tuple[EngineSequence, int] | None = None

    @property
    def num_waiting(self) -> int:
        """Sequences that hold no blocks yet, preempted ones included."""
        return len(self._waiting)

    @property
    def num_running(self) -> int:
        """Sequences in the batch."""
        return len(self._running)

    @property
    def has_work(self) -> bool:
        """A step would do something."""
        return bool(self._running or self._waiting)

    def add(self, sequence: EngineSequence) -> None:
        """Queue a sequence. Raises RequestRefusedError when it could never run to its end here."""
        if sequence.prompt_tokens < 1:
            raise RequestRefusedError("prompt: expected at least one token, got none", "prompt")
        if sequence.max_tokens < 1:
            raise RequestRefusedError(
                f"max_tokens: expected at least 1, got {sequence.max_tokens}", "max_tokens"
            )
        total = sequence.prompt_tokens + sequence.max_tokens
        if total > self.max_model_len:
            raise RequestRefusedError(
                f"prompt: this model's maximum context length is {self.max_model_len} tokens, but "
                f"{total} were requested ({sequence.prompt_tokens} in the prompt, "
                f"{sequence.max_tokens} for the output)",
                "prompt",
            )
        self._waiting.append(sequence)

    def abort(self, sequence: EngineSequence) -> bool:
        """Drop a sequence and free its blocks; False when it is not here (any more)."""
        if sequence in self._running:
            self._running.remove(sequence)
            self._release(sequence)
            return True
        if sequence in self._waiting:
            self._waiting.remove(sequence)
            return True
        return False

    def step(self, now: float) -> StepResult:
        """Schedule one batch at ``now`` and say when it ends and what comes out of it."""
        result = StepResult(now, now)
        work = _Work()
        budget = self._schedule_running(self._max_num_batched_tokens, work, result)
        if not result.preempted:
            self._admit_waiting(budget, work, result)
        if work.prefill_tokens or work.decodes:
            result.ends_at = now + self._cost.step_seconds(
                work.prefill_tokens, work.attention_pairs, work.decodes, work.context_tokens
            )
        result.prefill_tokens = work.prefill_tokens
        result.decode_tokens = work.decodes
        self._emit_tokens(result)
        result.cache_events = self.cache.take_events()
        return result

    def _schedule_running(self, budget: int, work: _Work, result: StepResult) -> int:
        running = self._running
        block_size = self.block_size
        position = 0
        while position < len(running) and budget > 0:
            sequence = running[position]
            computed = sequence.computed
            count = min(sequence.tokens - computed, budget)
            if count == 1 and computed % block_size and (computed + 1) % block_size:
                budget -= 1  # one more token in a block that it neither opens nor fills
                work.add(computed, 1, sequence.tokens)
                sequence.computed = computed + 1
                position += 1
            elif self._grow(sequence, count, result):
                budget -= count
                work.add(computed, count, sequence.tokens)
                sequence.computed = computed + count
                position += 1
        return budget

    def _grow(self, sequence: EngineSequence, count: int, result: StepResult) -> bool:
        """Blocks for ``count`` more tokens; False when ``sequence`` itself had to be preempted."""
        while not self._take_blocks(sequence, count):
            victim = self._running.pop()
            self._release(victim)
            victim.computed = 0
            victim.preemptions += 1
            self._waiting.appendleft(victim)
            result.preempted.append(victim)
            if victim is sequence:
                return False
        return True

    def _admit_waiting(self, budget: int, work: _Work, result: StepResult) -> None:
        waiting = self._waiting
        cache = self.cache
        while waiting and budget > 0 and len(self._running) < self._max_num_seqs:
            sequence = waiting[0]
            if self._is_still_blocked(sequence, work):
                break
            names = sequence.names_until(sequence.tokens // self.block_size)
            most = (sequence.tokens - 1) // self.block_size
            hits = cache.match(names, most)
            whole = -(-sequence.tokens // self.block_size)
            if whole - hits > cache.num_available - cache.num_idle(names, hits):
                self._blocked = (sequence, cache.num_available)
                break
            waiting.popleft()
            self._blocked = None
            cache.reference(names, hits)
            sequence.blocks_named = hits
            self._place_received(sequence, names, min(sequence.received_blocks, most))
            sequence.computed = sequence.blocks_named * self.block_size
            if sequence.cached_tokens < 0:
                sequence.cached_tokens = min(sequence.computed, sequence.prompt_tokens)
            count = min(sequence.tokens - sequence.computed, budget)
            taken = self._take_blocks(sequence, count)
            assert taken, "a sequence that fits as a whole fits in part"
            self._running.append(sequence)
            result.admitted.append(sequence)
            budget -= count
            work.add(sequence.computed, count, sequence.tokens)
            sequence.computed += count

    def _place_received(
        self, sequence: EngineSequence, names: Sequence[BlockName], received: int
    ) -> None:
        """Blocks that another engine computed, past those that are cached here."""
        sequence.received_blocks = 0
        missing = received - sequence.blocks_named
        if missing > 0:
            taken = self.cache.take_blocks(missing)
            assert taken, "a sequence that fits as a whole fits in part"
            self.cache.name_blocks(names, sequence.blocks_named, received, sequence)
            sequence.blocks_named = received

    def _is_still_blocked(self, sequence: EngineSequence, work: _Work) -> bool:
        """It did not fit before, and since then no block came free and no prompt was computed.

        Spares a walk over a long prompt's blocks in every step that others only decode in.
        """
        if self._blocked is None or work.prefill_tokens:
            return False
        blocked, available = self._blocked
        return blocked is sequence and self.cache.num_available <= available

    def _take_blocks(self, sequence: EngineSequence, count: int) -> bool:
        end = sequence.computed + count
        block_size = self.block_size
        missing = -(-end // block_size) - sequence.blocks_named - sequence.blocks_unnamed
        if missing > 0:
            if not self.cache.take_blocks(missing):
                return False
            sequence.blocks_unnamed += missing
        full = end // block_size
        named = sequence.blocks_named
        if full > named:
            names = sequence.names_until(full)
            full = min(full, len(names))
            if full > named:
                self.cache.name_blocks(names, named, full, sequence)
                sequence.blocks_named = full
                sequence.blocks_unnamed -= full - named
        return True

    def _emit_tokens(self, result: StepResult) -> None:
        emitted = [s for s in self._running if s.computed == s.tokens]
        result.emitted = emitted
        for sequence in emitted:
            sequence.tokens += 1
            sequence.emitted += 1
            if sequence.emitted == 1:
                result.first_tokens.append(sequence)
            if sequence.emitted >= sequence.max_tokens:
                result.finished.append(sequence)
                if sequence.on_computed is not None:
                    full = sequence.prompt_tokens // self.block_size
                    sequence.on_computed(sequence.names[:full])
        if result.finished:
            self._running = [s for s in self._running if s.emitted < s.max_tokens]
            for sequence in result.finished:
                self._release(sequence)

    def _release(self, sequence: EngineSequence) -> None:
        self.cache.release(sequence.names, sequence.blocks_named, sequence.blocks_unnamed)
        sequence.blocks_named = 0
        sequence.blocks_unnamed = 0
