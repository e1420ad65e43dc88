"""Mooncake: both legs at once; the decode engine pulls by the transfer's id.

After vLLM's MooncakeConnector: the prefill engine's bootstrap server tells the engine ids of its
ranks (``GET /query``); a pull names the transfer and waits until its prompt is computed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from kvroute.engines.errors import RequestRefusedError
from kvroute.engines.prefix_cache import BlockName
from kvroute.engines.transfer.channel_role import ChannelRole
from kvroute.engines.transfer.fields import Fields, refused
from kvroute.engines.transfer.meetings import Meeting, Meetings, within
from kvroute.engines.transfer.role import (
    Call,
    Leg,
    Site,
    check_prefill,
    only_prompt,
)
from kvroute.engines.transfer.side_channel import TransferFailedError, ask, get

_PREFILL = ("do_remote_prefill", "do_remote_decode", "transfer_id")
_DECODE = (*_PREFILL, "remote_bootstrap_addr", "remote_engine_id")


class MooncakeRole(ChannelRole):
    """Bootstrap server and data plane are one port."""

    name = "mooncake"

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        self.meetings = Meetings()

    def waiting(self) -> int:
        return len(self.meetings)

    def leg(self, call: Call) -> Leg:
        params = call.params
        if params is None:
            return Leg()
        to_decode, to_prefill = params.flag("do_remote_decode"), params.flag("do_remote_prefill")
        if to_decode == to_prefill:
            name = params.name("do_remote_prefill")
            raise RequestRefusedError(f"{name}: expected it or do_remote_decode, one of both", name)
        if to_prefill:
            self.require(self.site.is_decode, params.name("do_remote_prefill"), "decode")
            params.only(_DECODE)
            prompt = only_prompt(call)
            return _DecodeLeg(self, self.site.keys(prompt, call.request.salt), params)
        self.require(self.site.is_prefill, params.name("do_remote_decode"), "prefill")
        params.only(_PREFILL)
        prompt = only_prompt(call)
        check_prefill(call)
        transfer_id = params.text("transfer_id")
        meeting = self.meetings.get(transfer_id)
        if self.site.holds.get(transfer_id) or (meeting is not None and meeting.has_prefill):
            raise refused(params.name("transfer_id"), "one that is not in use", transfer_id)
        keys = self.site.keys(prompt, call.request.salt)
        return _PrefillLeg(self, keys, self.meetings.enter(transfer_id))

    async def _serve(self, question: dict[str, Any]) -> dict[str, Any]:
        site = self.site
        if question.get("op") == "get":
            if question.get("path") != "/query":
                raise TransferFailedError("path", f"no {question.get('path')} here")
            return {"0": {"engine_id": site.engine_id, "worker_addr": {"0": self.channel.port}}}
        await site.faults.reach("transfer")
        fields = Fields("", question)
        if fields.get("engine_id") != site.engine_id:
            raise self.failure("engine_id", f"no engine {fields.get('engine_id')!r} here")
        transfer_id = fields.text("transfer_id")
        hold = site.holds.get(transfer_id)
        if hold is None:
            await self._wait_for(transfer_id)
            hold = site.holds.get(transfer_id)
        if hold is None:
            raise self.failure("expired", f"the blocks of {transfer_id!r} have expired")
        await self.hand_over(hold, fields.get("keys"))
        return {}

    async def _wait_for(self, transfer_id: str) -> None:
        seconds = self.site.config.rendezvous_timeout
        meeting = self.meetings.enter(transfer_id)
        try:
            if not await within(meeting.settled, seconds):
                message = f"no prompt was computed for {transfer_id!r} within {seconds:g} s"
                raise self.failure("transfer_id", message)
            if meeting.failure is not None:
                raise self.failure("prefill", meeting.failure)
        finally:
            self.meetings.leave(meeting)


class _PrefillLeg(Leg):
    is_prefill = True

    def __init__(self, role: MooncakeRole, keys: list[int], meeting: Meeting) -> None:
        self._role = role
        self._keys = keys
        self._meeting = meeting
        meeting.has_prefill = True

    def computed(self, _index: int, names: Sequence[BlockName], /) -> None:
        self._role.site.holds.take(self._meeting.name, names, self._keys)
        self._meeting.settled.set()

    def close(self) -> None:
        if not self._meeting.settled.is_set():
            self._meeting.fail("the prompt's request ended before it was computed")
        self._meeting.has_prefill = False
        self._role.meetings.leave(self._meeting)


class _DecodeLeg(Leg):
    def __init__(self, role: MooncakeRole, keys: list[int], params: Fields) -> None:
        self._role = role
        self._address = params.text("remote_bootstrap_addr")
        name = params.name("remote_bootstrap_addr")
        parts = urlsplit(self._address)
        try:
            host, port = parts.hostname, parts.port
        except ValueError:
            host, port = None, None
        if not self._address.startswith("http://") or not host or not port or parts.path:
            raise refused(name, "http://host:port", self._address)
        self._host, self._port = host, port
        self._question = {
            "op": "pull",
            "engine_id": params.text("remote_engine_id"),
            "transfer_id": params.text("transfer_id"),
            "keys": keys,
        }
        self._num_blocks = len(keys)

    async def receive(self) -> Sequence[int]:
        config = self._role.site.config
        ranks = await get(self._host, self._port, "/query", config.rendezvous_timeout)
        known = [rank.get("engine_id") for rank in ranks.values() if isinstance(rank, dict)]
        if self._question["engine_id"] not in known:
            shown = self._question["engine_id"]
            raise self._role.failure("engine_id", f"{self._address} has no engine {shown!r}")
        await ask(self._host, self._port, self._question, self._role.site.patience)
        return [self._num_blocks]
