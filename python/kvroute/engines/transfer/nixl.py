"""NIXL: the prefill engine says where its blocks are, the decode engine reads them from there.

After vLLM's NixlConnector (pull): the prefill leg's ``kv_transfer_params`` ask for a remote decode,
its answer's name the engine, the blocks and the side channel; the decode leg brings them unchanged.
Full blocks only: the answer of a shorter prompt has null.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import Sequence
from typing import Any

from kvroute.engines.errors import RequestRefusedError
from kvroute.engines.prefix_cache import BlockName
from kvroute.engines.transfer.channel_role import ChannelRole
from kvroute.engines.transfer.fields import Fields, refused
from kvroute.engines.transfer.holds import Hold
from kvroute.engines.transfer.role import (
    Call,
    Leg,
    check_prefill,
    only_prompt,
)
from kvroute.engines.transfer.side_channel import TransferFailedError, ask

_REMOTE = ("remote_engine_id", "remote_block_ids", "remote_host", "remote_port")
_ASKED = ("do_remote_prefill", "do_remote_decode", *_REMOTE)
_ANSWERED = (
    *_ASKED,
    "remote_request_id",
    "remote_num_tokens",
    "remote_blocks_expiry_time",
    "tp_size",
)
_MAX_INT = (1 << 31) - 1
_FREE_TIMEOUT = 5.0


class NixlRole(ChannelRole):
    """Holds blocks under the request that computed them; serves reads of exactly those."""

    name = "nixl"

    def leg(self, call: Call) -> Leg:
        params = call.params
        if params is None:
            return Leg()
        to_decode, to_prefill = params.flag("do_remote_decode"), params.flag("do_remote_prefill")
        if to_decode == to_prefill:
            name = params.name("do_remote_prefill")
            raise RequestRefusedError(f"{name}: expected it or do_remote_decode, one of both", name)
        if to_decode:
            self.require(self.site.is_prefill, params.name("do_remote_decode"), "prefill")
            params.only(_ASKED)
            params.null(*_REMOTE)
            prompt = only_prompt(call)
            check_prefill(call)
            return _PrefillLeg(self, self.site.keys(prompt, call.request.salt), len(prompt))
        self.require(self.site.is_decode, params.name("do_remote_prefill"), "decode")
        params.only(_ANSWERED)
        prompt = only_prompt(call)
        return _DecodeLeg(self, self.site.keys(prompt, call.request.salt), params)

    async def _serve(self, question: dict[str, Any]) -> dict[str, Any]:
        site = self.site
        await site.faults.reach("transfer")
        fields = Fields("", question)
        if fields.get("engine_id") != site.engine_id:
            raise self.failure("engine_id", f"no engine {fields.get('engine_id')!r} here")
        handoff = str(fields.get("request_id"))
        hold = site.holds.get(handoff)
        if hold is None:
            message = f"request {handoff!r} is unknown, was read or has expired"
            raise self.failure("request_id", message)
        if fields.get("op") == "free":
            site.holds.release(hold)
            return {}
        if fields.get("block_ids") != hold.block_ids:
            raise self.failure("block_ids", "these are not the request's blocks")
        await self.hand_over(hold, fields.get("keys"))
        return {}


class _PrefillLeg(Leg):
    is_prefill = True

    def __init__(self, role: NixlRole, keys: list[int], num_tokens: int) -> None:
        self._role = role
        self._keys = keys
        self._num_tokens = num_tokens
        self._request_id = uuid.uuid4().hex
        self._hold: Hold | None = None

    def computed(self, _index: int, names: Sequence[BlockName], /) -> None:
        if names:
            self._hold = self._role.site.holds.take(self._request_id, names, self._keys)

    async def answer(self) -> dict[str, Any] | None:
        hold = self._hold
        if hold is None:
            return None
        site = self._role.site
        return {
            "do_remote_prefill": True,
            "do_remote_decode": False,
            "remote_block_ids": [hold.block_ids],
            "remote_engine_id": site.engine_id,
            "remote_request_id": self._request_id,
            "remote_host": site.config.host,
            "remote_port": self._role.channel.port,
            "tp_size": site.config.tensor_parallel_size,
            "remote_num_tokens": self._num_tokens,
            "remote_blocks_expiry_time": None,
        }


class _DecodeLeg(Leg):
    def __init__(self, role: NixlRole, keys: list[int], params: Fields) -> None:
        self._role = role
        self._host = params.text("remote_host")
        self._port = params.port("remote_port")
        self._block_ids = _block_ids(params, len(keys))
        self._question = {
            "engine_id": params.text("remote_engine_id"),
            "request_id": params.text("remote_request_id"),
            "block_ids": self._block_ids,
            "keys": keys[: len(self._block_ids)],
        }
        params.integer("tp_size", 1, _MAX_INT)
        if "remote_num_tokens" in params:
            params.integer("remote_num_tokens", 1, _MAX_INT)

    async def receive(self) -> Sequence[int]:
        timeout = self._role.site.patience
        try:
            await ask(self._host, self._port, {"op": "read", **self._question}, timeout)
        except asyncio.CancelledError:
            self._role.spawn(self._give_back())
            raise
        return [len(self._block_ids)]

    async def _give_back(self) -> None:
        """The client left before the blocks were read; what was read cannot be given back."""
        with contextlib.suppress(TransferFailedError):
            await ask(self._host, self._port, {"op": "free", **self._question}, _FREE_TIMEOUT)


def _block_ids(params: Fields, num_blocks: int) -> list[int]:
    """A flat list, or one list for each group of layers, of which there is one here."""
    value = params.get("remote_block_ids")
    grouped = isinstance(value, list) and len(value) == 1 and isinstance(value[0], list)
    ids = value[0] if grouped else value
    if (
        not isinstance(ids, list)
        or len(ids) != num_blocks
        or not all(type(one) is int and 0 <= one <= _MAX_INT for one in ids)
    ):
        expected = f"the numbers of the prompt's {num_blocks} full blocks"
        raise refused(params.name("remote_block_ids"), expected, value)
    return ids
