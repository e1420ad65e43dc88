"""LMCache: the prefill engine writes the prompt's KV cache into the decode engine's, and says when.

Source: LMCache, examples/disagg_prefill/disagg_proxy_server.py,
lmcache/v1/storage_backend/pd_backend.py and lmcache/integration/vllm/vllm_v1_adapter.py.
Sequential, both legs on ``/v1/completions`` with token ids. The prefill leg is told the decoder's
receiver (``disagg_spec``) and gives the answer's first token, which is the client's first and the
decode leg's last prompt token; the decode leg is sent when every rank's notice has come.

A prompt one token short of the model's limit ends after its first token, and the prefill leg's
answer does not tell that from the end of its own limit: the decode engine refuses such a request.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar

from kvroute.disagg.connector import AnswerRelay, Connector, Fetch, HandoffError, Transfer
from kvroute.disagg.connectors.chat_shape import completion_fields
from kvroute.disagg.connectors.decoder_registry import (
    DecoderRegistry,
    Receiver,
    UnknownDecoderError,
    read_receiver,
    read_registry,
)
from kvroute.disagg.connectors.first_token import FirstToken, read_first_token
from kvroute.disagg.connectors.leg_requests import leg_request, prefill_fields
from kvroute.disagg.connectors.merged_answer import MergedAnswer
from kvroute.disagg.connectors.notices import Notices
from kvroute.disagg.connectors.option_values import checked_host, checked_port, checked_seconds
from kvroute.disagg.connectors.refusals import first_token_refusal, shared_refusal
from kvroute.disagg.legs import ClientRequest, Handoff, LegRequest, Worker
from kvroute.disagg.usage import UsageRelay, prefill_change

_PATH = "/v1/completions"
_DEFAULT_COMPLETION_TOKENS = 16  # OpenAI's, and vLLM's


@dataclass(frozen=True, slots=True)
class LmcacheOptions:
    """The flags of production-stack's pull request #890 and of LMCache's example.

    Attributes:
        decoder_registry: where each decoder's receiver listens: `decoder_registry.read_registry`.
        decoder_host, decoder_init_port, decoder_alloc_port: the same of the deployment's only
            decoder; the ports an int, or one for each tensor-parallel rank.
        proxy_host, proxy_port: where notices come in (``pd_proxy_host``, ``pd_proxy_port`` of the
            prefill engines). Port 0: the system's choice.
        notice_timeout: seconds that a handoff waits for them after the prefill leg's answer.
        chats: whether chats go in two legs. Set it to false where the engines parse reasoning or
            tool calls of every chat (``--reasoning-parser``): nothing parses a completion.
    """

    decoder_registry: str | Mapping[str, Any] | None = None
    decoder_host: str | None = None
    decoder_init_port: int | Sequence[int] | str | None = None
    decoder_alloc_port: int | Sequence[int] | str | None = None
    proxy_host: str = "localhost"
    proxy_port: int = 8500
    notice_timeout: float = 30.0
    chats: bool = True
    entries: Mapping[str, Receiver] = field(init=False, repr=False)
    only: Receiver | None = field(init=False, repr=False)

    def __post_init__(self) -> None:
        checked_host("proxy_host", self.proxy_host)
        checked_port("proxy_port", self.proxy_port, least=0)
        checked_seconds("notice_timeout", self.notice_timeout)
        given = self.decoder_registry
        object.__setattr__(self, "entries", {} if given is None else read_registry(given))
        object.__setattr__(self, "only", self._only_receiver())
        if not self.entries and self.only is None:
            raise ValueError(
                "decoder_registry: lmcache needs it, or decoder_host, decoder_init_port and "
                "decoder_alloc_port where there is one decoder"
            )

    def _only_receiver(self) -> Receiver | None:
        given = {
            "host": self.decoder_host,
            "init_port": self.decoder_init_port,
            "alloc_port": self.decoder_alloc_port,
        }
        if all(value is None for value in given.values()):
            return None
        for name, value in given.items():
            if value is None:
                raise ValueError(f"decoder_{name}: expected one beside the other decoder_ options")
        host = checked_host("decoder_host", self.decoder_host)
        ports = {f"receiver_{name}": given[name] for name in ("init_port", "alloc_port")}
        return read_receiver("decoder", {"receiver_host": host, **ports})


class LmcacheTransfer(Transfer):
    """One handoff. The notices are expected from its making on."""

    def __init__(
        self, handoff: Handoff, receiver: Receiver, notices: Notices, timeout: float
    ) -> None:
        self._handoff = handoff
        self._request = handoff.request
        self._receiver = receiver
        self._notices = notices
        self._timeout = timeout
        self._first: FirstToken | None = None
        self._is_continued = False
        fields = dict(handoff.request.fields)
        fields.pop("kv_transfer_params", None)
        self._fields = fields
        self._completion = completion_fields(fields) if handoff.request.is_chat else fields
        self._limit = self._completion.get("max_tokens", _DEFAULT_COMPLETION_TOKENS)
        # A completion's alternatives are keyed by their text: two of one text are one.
        self._keeps_shape = not (handoff.request.is_chat and fields.get("top_logprobs"))
        notices.expect(handoff.transfer_id, receiver.ranks)

    def prefill(self) -> LegRequest:
        body = prefill_fields(self._completion)
        least = self._completion.get("min_tokens")
        if type(least) is int and least > 0:
            body["min_tokens"] = 1  # the token counts: it must not be one that ends the answer
        body["prompt"] = list(self._request.token_ids)
        body["kv_transfer_params"] = {
            "ret_first_tok": True,
            "disagg_spec": self._receiver.spec(self._handoff.transfer_id),
        }
        return leg_request(self._request, self._handoff.prefill, body, path=_PATH)

    def prefilled(self, answer: Mapping[str, Any]) -> None:
        self._first = read_first_token(answer)
        self._is_continued = self._keeps_shape and self._first.can_be_continued(
            self._request.fields
        )

    def finished(self) -> bytes | None:
        first = self._taken()
        if self._keeps_shape and (first.ends_the_answer or self._limit == 1):
            return MergedAnswer(self._request, first).of_first_token_alone()
        return None

    async def ready(self) -> None:
        await self._notices.wait(self._handoff.transfer_id, self._timeout)

    def decode(self) -> LegRequest:
        first, worker = self._taken(), self._handoff.decode
        if not self._is_continued:
            return leg_request(self._request, worker, self._fields)
        body = dict(self._completion)
        body["prompt"] = [*self._request.token_ids, first.token]
        body["max_tokens"] = None if self._limit is None else self._limit - 1
        least = body.get("min_tokens")
        if type(least) is int and least > 0:
            body["min_tokens"] = least - 1
        return leg_request(self._request, worker, body, path=_PATH)

    def relay(self) -> AnswerRelay:
        first = self._taken()
        if self._is_continued:
            return MergedAnswer(self._request, first)
        return UsageRelay(prefill_change(first.answer))

    def close(self) -> None:
        self._notices.forget(self._handoff.transfer_id)

    def _taken(self) -> FirstToken:
        if self._first is None:
            raise HandoffError("lmcache: the prefill leg has not answered")
        return self._first


class LmcacheConnector(Connector):
    """``--disagg-connector-type lmcache``."""

    name: ClassVar[str] = "lmcache"
    options_type: ClassVar[type[Any]] = LmcacheOptions
    needs_token_ids: ClassVar[bool] = True

    def __init__(self, options: LmcacheOptions) -> None:
        self.options = options
        self.notices = Notices(options.proxy_host, options.proxy_port)
        self._decoders = DecoderRegistry(options.entries, options.only)

    async def open(self, fetch: Fetch | None = None) -> None:  # noqa: ARG002 - asks no server
        await self.notices.open()

    async def close(self) -> None:
        await self.notices.close()

    def workers_are(self, prefill: Sequence[Worker], decode: Sequence[Worker]) -> None:  # noqa: ARG002 - senders need no entry
        self._decoders.decoders_are(worker.url for worker in decode)

    def messages(self) -> Mapping[str, int]:
        return asdict(self.notices.counts)

    def refusal(self, request: ClientRequest) -> str | None:
        reason = shared_refusal(request) or first_token_refusal(request)
        if reason is not None:
            return reason
        if request.is_chat and not self.options.chats:
            return "chat"
        return None if request.token_ids else "unknown_tokens"

    def begin(self, handoff: Handoff) -> Transfer:
        try:
            receiver = self._decoders.receiver(handoff.decode.url)
        except (UnknownDecoderError, ValueError) as error:
            raise HandoffError(f"lmcache: {error}") from None
        return LmcacheTransfer(handoff, receiver, self.notices, self.options.notice_timeout)
