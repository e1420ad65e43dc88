"""What an engine with a connector does: the contract that every connector's module fulfils."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from kvroute.engines.block_names import BlockNamer
from kvroute.engines.config import EngineConfig, KvRole
from kvroute.engines.errors import RequestRefusedError
from kvroute.engines.openai_requests import GenerationRequest
from kvroute.engines.prefix_cache import BlockName
from kvroute.engines.transfer.faults import Faults
from kvroute.engines.transfer.fields import Fields, refused
from kvroute.engines.transfer.holds import Hold, Holds
from kvroute.engines.transfer.ledger import Ledger
from kvroute.engines.transfer.side_channel import TransferFailedError


@dataclass(frozen=True, slots=True)
class Call:
    """A request as it came: its body, what was read from it, and X-Request-Id ("" without)."""

    document: dict[str, Any]
    request: GenerationRequest
    request_id: str

    @property
    def params(self) -> Fields | None:
        """``kv_transfer_params``; None where there are none. RequestRefusedError for no object."""
        value = self.document.get("kv_transfer_params")
        return None if value is None else Fields("kv_transfer_params", value)


class Leg:
    """An engine's part in one request. This one takes no part: the request is served whole.

    In order: `receive`, then for each prompt that is computed to its end `computed`, then `answer`;
    `close` comes last, on every path, once.

    Attributes:
        is_prefill: only the first token is of use here, another engine goes on.
        max_tokens: tokens to generate instead of those asked for; None for those.
        first_token: the id of the first one, set before `answer`.
    """

    is_prefill = False
    max_tokens: int | None = None
    first_token = 0

    async def receive(self) -> Sequence[int]:
        """Fetch the prompts' blocks; how many leading ones each prompt has got. Raises
        TransferFailedError."""
        return ()

    def computed(self, index: int, names: Sequence[BlockName], /) -> None:
        """The prompt `index` is computed; `names` are its full blocks in the cache, still in use
        until this returns."""

    async def answer(self) -> dict[str, Any] | None:
        """The ``kv_transfer_params`` of a prefill leg's answer. Raises TransferFailedError."""
        return None

    def close(self) -> None:
        """The request has ended, well or not."""


@dataclass(slots=True)
class Site:
    """What a role has of its engine."""

    config: EngineConfig
    engine_id: str
    ledger: Ledger
    holds: Holds
    faults: Faults

    @property
    def is_prefill(self) -> bool:
        """It may compute prompts for others."""
        return self.config.kv_role in {KvRole.BOTH, KvRole.PREFILL}

    @property
    def is_decode(self) -> bool:
        """It may go on where others stopped."""
        return self.config.kv_role in {KvRole.BOTH, KvRole.DECODE}

    def keys(self, prompt: Sequence[int], salt: str | None) -> list[int]:
        """Names of a prompt's full blocks that all engines share."""
        namer = BlockNamer(self.config.block_size, seed=0)
        try:
            return namer.name(prompt, namer.root(salt))
        except ValueError as error:
            raise RequestRefusedError(f"prompt: {error}", "prompt") from error

    @property
    def patience(self) -> float:
        """Seconds after which an engine that has not answered never will."""
        return self.config.rendezvous_timeout + self.config.transfer_expiry

    def transfer_seconds(self, blocks: int) -> float:
        """How long so many blocks are under way."""
        return self.config.cost.transfer_seconds(blocks * self.config.block_size)


class TransferRole(ABC):
    """One engine's side of a connector's protocol. On one event loop.

    `leg` says what a request is: RequestRefusedError (400, naming the field) where it breaks the
    protocol or the engine does not have the role that the request wants.
    """

    name: ClassVar[str]

    def __init__(self, site: Site) -> None:
        self.site = site
        self._background: set[asyncio.Task[None]] = set()

    async def open(self) -> None:  # noqa: B027 - few roles need it
        """Open its ports."""

    async def close(self) -> None:
        """Close them and give up what is under way. Idempotent."""
        for task in list(self._background):
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)

    @abstractmethod
    def leg(self, call: Call) -> Leg:
        """Its part in a request."""

    @abstractmethod
    def addresses(self) -> dict[str, Any]:
        """Where other engines and the router find it, for the ready line."""

    def serve_http_at(self, address: str) -> None:  # noqa: B027 - few roles need it
        """The engine's HTTP server listens at ``host:port``."""

    def waiting(self) -> int:
        """Handoffs that have begun here and not ended, blocks held or not."""
        return 0

    def failure(self, reason: str, message: str) -> TransferFailedError:
        """A handoff that breaks here: counted, to be raised."""
        self.site.ledger.failed[reason] += 1
        return TransferFailedError(reason, message, is_counted=True)

    async def hand_over(self, hold: Hold, keys: object) -> None:
        """The other engine reads a hold: takes the transfer's time, then frees the blocks."""
        if keys != hold.keys:
            raise self.failure("prompt", "the blocks are those of another prompt")
        await asyncio.sleep(self.site.transfer_seconds(len(hold.names)))
        if hold.done:
            raise self.failure("expired", "the blocks expired while they were read")
        self.site.holds.finish_read(hold)

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Do `work` beside the requests; it ends with the engine."""
        task = asyncio.ensure_future(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    def require(self, condition: bool, name: str, role: str) -> None:
        """RequestRefusedError unless the engine has the role that `name` asks of it."""
        if not condition:
            raise RequestRefusedError(
                f"{name}: expected by a {role} engine, this one's role is "
                f"{self.site.config.kv_role.value}",
                name,
            )


def only_prompt(call: Call) -> list[int]:
    """The prompt of a request that may have one alone, answered once."""
    if call.request.n != 1:
        raise refused("n", "1 in a request of two legs", call.request.n)
    if len(call.request.prompts) != 1:
        count = len(call.request.prompts)
        raise RequestRefusedError(f"prompt: expected one in two legs, got {count}", "prompt")
    return call.request.prompts[0]


def check_prefill(call: Call, *, streams: bool = False) -> None:
    """A prefill leg asks for one token, whole: an engine that goes on holds no blocks for others,
    and a stream has no room for ``kv_transfer_params``."""
    fields = Fields("", call.document)
    if call.request.stream and not streams:
        raise refused("stream", "false in a prefill leg", True)
    for name in ("max_tokens", "max_completion_tokens"):
        if (name in fields or name == "max_tokens") and fields.get(name) != 1:
            raise refused(name, "1 in a prefill leg", fields.get(name))
    for name in ("min_tokens", "min_completion_tokens"):
        if name in fields and fields.get(name) not in {0, 1}:
            raise refused(name, "at most max_tokens", fields.get(name))
