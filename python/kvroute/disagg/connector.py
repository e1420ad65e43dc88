"""What a connector is: how two engines are told to hand a prompt's KV cache over."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal, TypeAlias

from kvroute.disagg.legs import ClientRequest, Handoff, LegRequest, Worker

Fetch: TypeAlias = Callable[[str], Awaitable[bytes]]
"""GETs a URL: the body of an answer with status 200. Raises OSError for any other and where none
comes."""


class HandoffError(Exception):
    """This attempt cannot go on: an engine's answer is not what the protocol says, or something
    that had to come did not come in time. The message names the leg and what was expected.

    `leg`: whose worker another attempt should do without, where that is not plain from when it was
    raised.
    """

    def __init__(
        self,
        message: str,
        *,
        timed_out: bool = False,
        leg: Literal["prefill", "decode"] | None = None,
    ) -> None:
        super().__init__(message)
        self.timed_out = timed_out
        self.leg = leg


class AnswerRelay(ABC):
    """Makes the client's answer of the decode leg's. One for each answer; no I/O."""

    is_identity: bool = False
    """Whether the answer passes as it is: then none of the methods but `head` is called."""

    def head(self) -> bytes:
        """What a streaming client gets before the decode leg has answered; b"" for nothing."""
        return b""

    @abstractmethod
    def chunk(self, data: bytes) -> bytes:
        """Of a stream: whole events of the decode leg, as the client shall see them."""

    @abstractmethod
    def whole(self, body: bytes) -> bytes:
        """Of a whole answer: the decode leg's body, as the client shall see it."""


class Transfer(ABC):
    """One handoff under a connector's protocol, from its plan to its end. Not thread-safe.

    Sequential connectors are called in this order: `prefill`, `prefilled` with the prefill leg's
    answer, then, unless `finished` says that the answer is complete, `ready`, `decode`, `relay`.
    Concurrent ones: `prepare`, then `prefill` and `decode`, sent at once, and `relay`; the prefill
    leg's answer is read to its end and thrown away. `close` comes last, on every path, once: when a
    streamed answer has begun, from when on only the relay is asked, or at the attempt's end.

    Whatever a method raises ends the attempt, as a failure of the leg that it is about.
    """

    async def prepare(self) -> None:  # noqa: B027 - few protocols need it
        """Before anything is sent. Raises HandoffError."""

    @abstractmethod
    def prefill(self) -> LegRequest:
        """What the prefill leg is sent."""

    def prefilled(self, answer: Mapping[str, Any]) -> None:  # noqa: B027 - few protocols need it
        """Takes the prefill leg's answer (status 200). Raises HandoffError where the protocol is
        broken."""

    def finished(self) -> bytes | None:
        """The client's whole answer (a body, or a stream to its end) where the prefill leg has
        given all of it already; None otherwise."""
        return None

    async def ready(self) -> None:  # noqa: B027 - few protocols need it
        """Returns when the decode leg may be sent. Raises HandoffError after the connector's own
        limit of time."""

    @abstractmethod
    def decode(self) -> LegRequest:
        """What the decode leg is sent."""

    @abstractmethod
    def relay(self) -> AnswerRelay:
        """How the decode leg's answer becomes the client's."""

    def failed(self) -> None:  # noqa: B027 - few protocols need it
        """A leg failed: what was learned of its workers is forgotten. Comes before `close`."""

    def close(self) -> None:  # noqa: B027 - few protocols need it
        """Forgets the handoff. Idempotent."""


class Connector(ABC):
    """A protocol between engines, with its configuration. One for a deployment.

    Third parties register a subclass under the entry point group ``kvroute.disagg_connectors``;
    the entry's name is what ``--disagg-connector-type`` takes. A connector is made with one
    argument, its `options_type`.
    """

    name: ClassVar[str]
    options_type: ClassVar[type[Any]]
    """A dataclass with the connector's options, each with a default. It raises ValueError naming
    the option that is wrong."""
    is_concurrent: ClassVar[bool] = False
    """Whether both legs are sent at once."""
    needs_token_ids: ClassVar[bool] = False
    """Whether the prompt's token ids must be known; a request without them goes whole."""
    serves_whole: ClassVar[bool] = True
    """Whether an engine of the protocol serves a whole request. Where it does not, no worker
    may have both roles, only those with the role "whole" get one, and without such a worker a
    request that cannot go in two legs is refused."""

    async def open(self, fetch: Fetch | None = None) -> None:  # noqa: B027 - few protocols need it
        """Opens what the protocol needs (sockets). Needs a running event loop.

        `fetch` is for protocols that ask a worker's side server: a connector does no HTTP itself.
        """

    async def close(self) -> None:  # noqa: B027 - few protocols need it
        """Closes it. Waiting handoffs end with HandoffError. Idempotent."""

    def workers_are(  # noqa: B027 - few protocols need it
        self, prefill: Sequence[Worker], decode: Sequence[Worker]
    ) -> None:
        """Tells the fleet: before `open`, and when it changes. Raises ValueError where the
        configuration knows nothing of one of them, which concerns that worker's handoffs alone."""

    def messages(self) -> Mapping[str, int]:
        """For metrics: how many messages engines have sent to the connector itself, by what became
        of them ("taken", "malformed"). None counts down."""
        return {}

    @abstractmethod
    def refusal(self, request: ClientRequest) -> str | None:
        """Why the request cannot be served in two legs with one engine's content, as a short
        snake_case reason for metrics ("n", "tools"); None where it can. Cheap; no I/O."""

    @abstractmethod
    def begin(self, handoff: Handoff) -> Transfer:
        """Starts a handoff. Raises HandoffError where the configuration does not know one of its
        workers (LMCache: a decoder that is not in the registry)."""
