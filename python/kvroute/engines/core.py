"""The inside of a simulated engine: scheduler, cache, block names, events and metrics as one."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import time
from collections.abc import Callable, Sequence
from types import TracebackType

from kvroute.engines.block_names import BlockNamer
from kvroute.engines.byte_tokenizer import ByteTokenizer
from kvroute.engines.config import EngineConfig
from kvroute.engines.ending import ending_of
from kvroute.engines.errors import EngineBusyError, EngineStoppedError, RequestRefusedError
from kvroute.engines.event_publisher import KvEventPublisher
from kvroute.engines.events import EventEncoder
from kvroute.engines.generation import Generation
from kvroute.engines.load_publisher import LoadPublisher
from kvroute.engines.metrics import EngineMetrics
from kvroute.engines.output_text import Lexicon, OutputText, Tokenizer
from kvroute.engines.prefix_cache import (
    BlockName,
    BlocksRemoved,
    BlocksStored,
    CacheEvent,
    PrefixCache,
)
from kvroute.engines.scheduler import Scheduler, StepResult
from kvroute.engines.step_loop import StepLoop
from kvroute.engines.transfer.transfers import Transfers

_log = logging.getLogger("kvroute.engines")

_MAX_MODEL_LEN = 131_072
_HEARTBEAT = 0.5


class EngineCore:
    """Takes generations, steps them in real time, and publishes events and load.

    Used as an async context manager on one event loop. KV events go out once per step that
    changed the cache; the load goes out when tokens do, when held blocks come free, and every half
    second when idle.
    """

    def __init__(self, config: EngineConfig) -> None:
        self.config = config
        self.tokenizer = _load_tokenizer(config)
        self.cache = PrefixCache(config.num_blocks, record_events=config.kv_events is not None)
        self.scheduler = Scheduler(
            self.cache,
            config.cost,
            block_size=config.block_size,
            max_num_seqs=config.max_num_seqs,
            max_num_batched_tokens=config.max_num_batched_tokens,
            max_model_len=config.max_model_len or _MAX_MODEL_LEN,
        )
        self.metrics = EngineMetrics(config.model, self.scheduler)
        self.kv_events: KvEventPublisher | None = None
        self.load_events: LoadPublisher | None = None
        self._encoder = EventEncoder(config.event_format, config.block_size)
        self._namer = BlockNamer(config.block_size, config.hash_seed)
        self._lexicon = Lexicon(self.tokenizer, config.words)
        self._ids = itertools.count()
        self._loop = StepLoop(
            self.scheduler,
            on_step=self._note_step,
            on_progress=self._publish_load,
        )
        self.transfers = Transfers(config, self.cache, self._note_room)
        self._tasks: list[asyncio.Task[None]] = []
        self._exits = contextlib.AsyncExitStack()

    async def __aenter__(self) -> EngineCore:
        config = self.config
        async with contextlib.AsyncExitStack() as exits:
            if config.load_events is not None:
                self.load_events = LoadPublisher(
                    config.load_events, connect=config.kv_events_connect
                )
                exits.callback(self.load_events.close)
            if config.kv_events is not None:
                self.kv_events = await exits.enter_async_context(
                    KvEventPublisher(
                        config.kv_events,
                        connect=config.kv_events_connect,
                        replay_endpoint=config.kv_replay,
                        topic=config.topic,
                        buffer_steps=config.buffer_steps,
                    )
                )
            await self.transfers.open()
            self._exits = exits.pop_all()
        self._tasks = [
            asyncio.create_task(self._loop.run()),
            asyncio.create_task(self._beat()),
        ]
        for task in self._tasks:
            task.add_done_callback(_log_breakdown)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.stop()
        await self._exits.aclose()

    @property
    def alive(self) -> bool:
        """It was started, and neither stopped nor broke down."""
        return bool(self._tasks) and not any(task.done() for task in self._tasks)

    async def stop(self) -> None:
        """Give up what runs; every listener is told. Events may still be replayed."""
        await self.transfers.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []

    def generate(
        self,
        prompt_ids: list[int],
        max_tokens: int | None,
        *,
        count: int = 1,
        seed: int = 0,
        salt: str | None = None,
        min_tokens: int = 0,
        stops: Sequence[str] = (),
        stop_token_ids: Sequence[int] = (),
        stream: bool = False,
        received_blocks: int = 0,
        on_computed: Callable[[Sequence[BlockName]], None] | None = None,
        listener: Callable[[], None],
    ) -> list[Generation]:
        """Queue ``count`` generations from one prompt, all or none of them.

        ``max_tokens``, ``min_tokens``, ``stops`` and ``stop_token_ids`` say where they end, as
        `ending_of` has it.
        ``listener`` hears of every chunk with ``stream``, of each generation's end without.
        ``received_blocks`` and ``on_computed`` are as in `EngineSequence`.
        Raises RequestRefusedError, also for ids that are not unsigned 32-bit; EngineBusyError;
        EngineStoppedError.
        """
        if not self.alive:
            raise EngineStoppedError("engine: it does not run")
        if self.scheduler.num_waiting + count > self.config.max_waiting:
            raise EngineBusyError(f"engine: {self.scheduler.num_waiting} requests wait already")
        root = self._namer.root(salt)
        try:
            names = self._namer.name(prompt_ids, root)
            texts = [
                OutputText(self._lexicon, hash((seed, choice)), prompt_ids)
                for choice in range(count)
            ]
        except ValueError as error:
            raise RequestRefusedError(f"prompt: {error}", "prompt") from error
        room = self.scheduler.max_model_len - len(prompt_ids)
        now = time.monotonic()
        made: list[Generation] = []
        try:
            for text in texts:
                generation = Generation(
                    f"g{next(self._ids)}",
                    prompt_ids,
                    names,
                    root,
                    text,
                    ending_of(
                        text,
                        max_tokens,
                        room,
                        least=min_tokens,
                        stops=stops,
                        stop_token_ids=stop_token_ids,
                    ),
                    self._namer,
                    salt,
                    self.config.tokens_per_chunk if stream else None,
                    listener,
                    now,
                )
                generation.sequence.received_blocks = received_blocks
                generation.sequence.on_computed = on_computed
                self._loop.submit(generation)
                made.append(generation)
        except BaseException:
            self.abort(made)
            raise
        return made

    def abort(self, generations: list[Generation]) -> None:
        """Drop generations whose client has left; ended ones are left alone."""
        for generation in generations:
            self._loop.abort(generation)

    def reset_prefix_cache(self) -> bool:
        """Drop all cached blocks and announce it; False while a request runs."""
        if not self.cache.clear():
            return False
        self._publish_events(self.cache.take_events())
        return True

    def _note_step(self, result: StepResult) -> None:
        self.metrics.note_step(result)
        if result.cache_events:
            self._publish_events(result.cache_events)

    def _publish_events(self, events: list[CacheEvent]) -> None:
        if self.kv_events is not None:
            wire = [wire for event in events for wire in self._wire_events(event)]
            self.kv_events.publish(self._encoder.batch(time.time(), wire))

    def _wire_events(self, event: CacheEvent) -> list[bytes]:
        if isinstance(event, BlocksStored):
            generation = self._loop.generation_of(event.owner)
            tokens = generation.stored_tokens(event, self.config.block_size)
            return [self._encoder.stored(event.names, event.parent, tokens, generation.salt)]
        if isinstance(event, BlocksRemoved):
            return self._encoder.removed(event.names)
        return [self._encoder.cleared()]

    def _note_room(self) -> None:
        """Blocks that were held for another engine came free."""
        self._loop.wake()
        self._publish_load()

    def _publish_load(self) -> None:
        if self.load_events is not None:
            self.load_events.publish(self.scheduler.num_waiting, self.cache.usage)

    async def _beat(self) -> None:
        while True:
            self._publish_load()
            await asyncio.sleep(_HEARTBEAT)


def _log_breakdown(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and task.exception() is not None:
        _log.error("a simulated engine broke down", exc_info=task.exception())


def _load_tokenizer(config: EngineConfig) -> Tokenizer:
    if config.tokenizer is None:
        return ByteTokenizer()
    from kvroute.engines.model_tokenizer import ModelTokenizer

    return ModelTokenizer(config.tokenizer)
