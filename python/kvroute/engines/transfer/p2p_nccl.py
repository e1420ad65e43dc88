"""P2P NCCL: the request's id says where both engines are; the prefill engine pushes.

After vLLM's P2pNcclConnector: ``___prefill_addr_HOST:PORT___decode_addr_HOST:PORT_UNIQUE`` in
X-Request-Id, the addresses being those of the engines' data planes. An engine that has one role
only refuses a request without one. With a proxy port the engine registers there, as vLLM's do.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from typing import Any

import msgpack  # type: ignore[import-untyped]  # it ships no types
import zmq
import zmq.asyncio

from kvroute.engines.config import KvRole
from kvroute.engines.errors import RequestRefusedError
from kvroute.engines.prefix_cache import BlockName
from kvroute.engines.transfer.arrivals import Arrivals
from kvroute.engines.transfer.channel_role import ChannelRole
from kvroute.engines.transfer.fields import MAX_PORT, Fields, refused
from kvroute.engines.transfer.holds import Hold
from kvroute.engines.transfer.meetings import within
from kvroute.engines.transfer.role import (
    Call,
    Leg,
    Site,
    check_prefill,
    only_prompt,
)
from kvroute.engines.transfer.side_channel import TransferFailedError, ask

_ID = re.compile(r"___prefill_addr_(.+):(\d{1,5})___decode_addr_(.+):(\d{1,5})_([^_]+)")
_HEADER = "X-Request-Id"
_HEARTBEAT = 3.0


class P2pNcclRole(ChannelRole):
    """Pushes under the whole request id; a decode leg waits for what came under its own."""

    name = "p2p_nccl"

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        self.arrivals = Arrivals(site.ledger, 1, site.config.transfer_expiry)

    async def close(self) -> None:
        await super().close()
        self.arrivals.close()

    @property
    def address(self) -> str:
        """Of its data plane, as request ids name it."""
        return f"{self.site.config.host}:{self.channel.port}"

    def addresses(self) -> dict[str, Any]:
        return {"zmq_address": self.address}

    def serve_http_at(self, address: str) -> None:
        config = self.site.config
        if config.kv_proxy_port is not None and config.kv_role is not KvRole.BOTH:
            kind = "P" if config.kv_role is KvRole.PREFILL else "D"
            word = {"type": kind, "http_address": address, "zmq_address": self.address}
            proxy = f"tcp://{config.kv_proxy_host}:{config.kv_proxy_port}"
            self.spawn(_register(proxy, msgpack.packb(word)))

    def waiting(self) -> int:
        return len(self.arrivals)

    def leg(self, call: Call) -> Leg:
        if call.params is not None:
            call.params.null("do_remote_prefill", "do_remote_decode")
        found = _ID.search(call.request_id)
        role = self.site.config.kv_role
        if found is None:
            if role is KvRole.BOTH:
                return Leg()
            raise refused(_HEADER, "the addresses of both engines in it", call.request_id)
        prefill, decode = f"{found[1]}:{found[2]}", f"{found[3]}:{found[4]}"
        if not (1 <= int(found[2]) <= MAX_PORT and 1 <= int(found[4]) <= MAX_PORT):
            raise refused(_HEADER, "ports from 1 to 65535 in it", call.request_id)
        prompt = only_prompt(call)
        keys = self.site.keys(prompt, call.request.salt)
        if role is KvRole.PREFILL or (role is KvRole.BOTH and prefill == self.address):
            self._require_address("prefill", prefill)
            check_prefill(call, streams=True)
            if call.params is not None and call.params.get("remote_kv_addr") not in (None, decode):
                told = call.params.get("remote_kv_addr")
                raise refused("kv_transfer_params.remote_kv_addr", decode, told)
            return _PrefillLeg(self, keys, call.request_id, found[3], int(found[4]))
        self._require_address("decode", decode)
        return _DecodeLeg(self, keys, call.request_id)

    def _require_address(self, role: str, address: str) -> None:
        if address != self.address:
            message = f"{_HEADER}: expected {self.address} as its {role}_addr, got {address}"
            raise RequestRefusedError(message, _HEADER)

    async def _serve(self, question: dict[str, Any]) -> dict[str, Any]:
        await self.site.faults.reach("transfer")
        fields = Fields("", question)
        request_id, keys = fields.text("request_id"), fields.get("keys")
        await asyncio.sleep(self.site.transfer_seconds(len(keys)))
        try:
            self.arrivals.write(request_id, 0, keys)
        except ValueError as error:
            raise self.failure("request_id", f"{request_id}: {error}") from error
        return {}


async def _register(proxy: str, word: bytes) -> None:
    """Tells the proxy who is here, again and again."""
    context = zmq.asyncio.Context()
    try:
        socket = context.socket(zmq.DEALER)
        socket.connect(proxy)
        while True:
            await socket.send(word)
            await asyncio.sleep(_HEARTBEAT)
    finally:
        context.destroy(linger=0)


class _PrefillLeg(Leg):
    is_prefill = True

    def __init__(
        self, role: P2pNcclRole, keys: list[int], request_id: str, host: str, port: int
    ) -> None:
        self._role = role
        self._keys = keys
        self._request_id = request_id
        self._to = (host, port)
        if role.site.holds.get(request_id):
            raise refused(_HEADER, "one that is not in use", request_id)

    def computed(self, _index: int, names: Sequence[BlockName], /) -> None:
        hold = self._role.site.holds.take(self._request_id, names, self._keys)
        self._role.spawn(self._push(hold))

    async def _push(self, hold: Hold) -> None:
        question = {"op": "put", "request_id": self._request_id, "keys": self._keys}
        holds = self._role.site.holds
        try:
            await ask(*self._to, question, self._role.site.patience)
        except TransferFailedError as error:
            self._role.site.ledger.failed[error.reason] += 1
            holds.release(hold)
        else:
            holds.finish_read(hold)


class _DecodeLeg(Leg):
    def __init__(self, role: P2pNcclRole, keys: list[int], request_id: str) -> None:
        self._role = role
        self._keys = keys
        self._request_id = request_id

    async def receive(self) -> Sequence[int]:
        role = self._role
        seconds = role.site.config.rendezvous_timeout
        arrival = role.arrivals.expect(self._request_id)
        try:
            if not await within(arrival.complete, seconds):
                message = f"nothing came for {self._request_id!r} within {seconds:g} s"
                raise role.failure("request_id", message)
            if list(arrival.keys) != self._keys:
                raise role.failure("prompt", "the blocks are those of another prompt")
        except BaseException:
            role.arrivals.drop(arrival)
            raise
        return [role.arrivals.claim(arrival)]
