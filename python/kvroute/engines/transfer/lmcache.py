"""LMCache: the prefill engine pushes to the decode engine's ports and tells the router.

After LMCache's PD backend: each TP rank initialises at the receiver's init port, writes through its
alloc port, and then sends one notice to the router's PULL socket. The prefill leg may ask for its
first token's id. The decode leg carries no ``kv_transfer_params``: the engine finds what came by
its content.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import msgpack  # type: ignore[import-untyped]  # it ships no types
import zmq
import zmq.asyncio

from kvroute.engines.config import KvRole
from kvroute.engines.prefix_cache import BlockName
from kvroute.engines.transfer.arrivals import Arrivals
from kvroute.engines.transfer.faults import DroppedError, FaultError
from kvroute.engines.transfer.fields import MAX_PORT, refused
from kvroute.engines.transfer.holds import Hold
from kvroute.engines.transfer.receiver_ports import ReceiverPorts
from kvroute.engines.transfer.role import (
    Call,
    Leg,
    Site,
    TransferRole,
    check_prefill,
    only_prompt,
)
from kvroute.engines.transfer.side_channel import TransferFailedError, ask

_SPEC = ("req_id", "receiver_host", "receiver_init_port", "receiver_alloc_port")


class LmcacheRole(TransferRole):
    """Sender and receiver; one notice a rank, once that rank's blocks are written."""

    name = "lmcache"

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        ranks = site.config.tensor_parallel_size
        self.arrivals = Arrivals(site.ledger, ranks, site.config.transfer_expiry)
        self.ports = ReceiverPorts(site, self.arrivals, self.failure)
        self._context = zmq.asyncio.Context()
        self._proxy: zmq.asyncio.Socket | None = None

    async def open(self) -> None:
        config = self.site.config
        if self.site.is_decode:
            await self.ports.open()
        if self.site.is_prefill:
            self._proxy = self._context.socket(zmq.PUSH)
            self._proxy.connect(f"tcp://{config.kv_proxy_host}:{config.kv_proxy_port}")

    async def close(self) -> None:
        await super().close()
        await self.ports.close()
        self.arrivals.close()
        self._context.destroy(linger=0)

    def addresses(self) -> dict[str, Any]:
        return {
            "receiver_host": self.site.config.host,
            "receiver_init_port": self.ports.init_ports,
            "receiver_alloc_port": self.ports.alloc_ports,
        }

    def waiting(self) -> int:
        return len(self.arrivals)

    def leg(self, call: Call) -> Leg:
        params = call.params
        if params is None:
            return _ContentLeg(self, call) if self.site.is_decode else Leg()
        self.require(self.site.is_prefill, params.path, "prefill")
        params.only(("ret_first_tok", "disagg_spec"))
        ret_first_tok = params.flag("ret_first_tok") if "ret_first_tok" in params else False
        prompt = only_prompt(call)
        check_prefill(call)
        spec = params.child("disagg_spec")
        spec.only(_SPEC)
        req_id = spec.text("req_id")
        if self.site.holds.get(req_id):
            raise refused(spec.name("req_id"), "one that is not in use", req_id)
        ranks = self.site.config.tensor_parallel_size
        keys = self.site.keys(prompt, call.request.salt)
        return _PrefillLeg(
            self,
            keys,
            req_id,
            spec.text("receiver_host"),
            spec.integers("receiver_init_port", ranks, 1, MAX_PORT),
            spec.integers("receiver_alloc_port", ranks, 1, MAX_PORT),
            ret_first_tok,
        )

    async def notify(self, req_id: str) -> None:
        """Tell the router that one rank has written. zmq.Again where it takes no more."""
        await self.site.faults.reach("notice")
        assert self._proxy is not None
        word = {"type": self.site.config.kv_notice, "req_id": req_id}
        await self._proxy.send(msgpack.packb(word), zmq.NOBLOCK)
        self.site.ledger.notices += 1


class _PrefillLeg(Leg):
    is_prefill = True

    def __init__(
        self,
        role: LmcacheRole,
        keys: list[int],
        req_id: str,
        host: str,
        init_ports: list[int],
        alloc_ports: list[int],
        ret_first_tok: bool,
    ) -> None:
        self._role = role
        self._keys = keys
        self._req_id = req_id
        self._host = host
        self._init_ports = init_ports
        self._alloc_ports = alloc_ports
        self._ret_first_tok = ret_first_tok

    async def receive(self) -> Sequence[int]:
        """The ports must be those of one receiver, rank by rank."""
        receivers = set()
        ranks = zip(self._init_ports, self._alloc_ports, strict=True)
        for rank, ports in enumerate(ranks):
            for kind, port in zip(("init", "alloc"), ports, strict=True):
                question = {"op": "hello", "kind": kind, "tp_rank": rank}
                answer = await ask(self._host, port, question, self._timeout)
                receivers.add(answer.get("engine_id"))
        if len(receivers) != 1:
            name = "kv_transfer_params.disagg_spec"
            raise self._role.failure("receiver", f"{name}: the ports are of several engines")
        return ()

    def computed(self, _index: int, names: Sequence[BlockName], /) -> None:
        hold = self._role.site.holds.take(self._req_id, names, self._keys)
        self._role.spawn(self._push(hold))

    async def answer(self) -> dict[str, Any] | None:
        return {"first_tok": self.first_token} if self._ret_first_tok else None

    async def _push(self, hold: Hold) -> None:
        holds = self._role.site.holds
        writes = [self._write(rank, port) for rank, port in enumerate(self._alloc_ports)]
        outcomes = await asyncio.gather(*writes, return_exceptions=True)
        broken = [one for one in outcomes if isinstance(one, BaseException)]
        for error in broken:
            if not isinstance(error, TransferFailedError):
                holds.release(hold)
                raise error
            self._role.site.ledger.failed[error.reason] += 1
        if broken:
            holds.release(hold)
            return
        holds.finish_read(hold)
        for _ in self._alloc_ports:
            try:
                await self._role.notify(self._req_id)
            except (FaultError, DroppedError, zmq.Again):
                self._role.site.ledger.failed["notice"] += 1

    async def _write(self, rank: int, port: int) -> None:
        question = {
            "op": "write",
            "kind": "alloc",
            "tp_rank": rank,
            "req_id": self._req_id,
            "keys": self._keys,
        }
        await ask(self._host, port, question, self._timeout)

    @property
    def _timeout(self) -> float:
        return self._role.site.patience


class _ContentLeg(Leg):
    """Any request of a decode engine: its blocks may have come, or it is computed here."""

    def __init__(self, role: LmcacheRole, call: Call) -> None:
        self._role = role
        self._keys = [role.site.keys(one, call.request.salt) for one in call.request.prompts]

    async def receive(self) -> Sequence[int]:
        return [self._claim(keys) for keys in self._keys]

    def _claim(self, keys: list[int]) -> int:
        site = self._role.site
        arrival = self._role.arrivals.find(keys)
        if arrival is None or not arrival.complete.is_set():
            if site.config.kv_role is KvRole.DECODE and keys:
                site.ledger.missed["nothing_came" if arrival is None else "not_yet_written"] += 1
            return 0
        return self._role.arrivals.claim(arrival)
