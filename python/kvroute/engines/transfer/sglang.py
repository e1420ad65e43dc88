"""SGLang: both legs at once, with the same body; they meet in a bootstrap room.

After SGLang's disaggregation: the prefill engine computes nothing before the decode engine has
come to the room at its bootstrap server, generates one token whatever was asked for, and answers
when the blocks have gone. A request without a room is refused by an engine that has one role only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kvroute.engines.config import KvRole
from kvroute.engines.prefix_cache import BlockName
from kvroute.engines.transfer.channel_role import ChannelRole
from kvroute.engines.transfer.fields import MAX_PORT, Fields, refused
from kvroute.engines.transfer.meetings import Meeting, Meetings, within
from kvroute.engines.transfer.role import Call, Leg, Site
from kvroute.engines.transfer.side_channel import ask, ask_all

_FIELDS = ("bootstrap_host", "bootstrap_port", "bootstrap_room")
_MAX_ROOM = (1 << 63) - 1


class SglangRole(ChannelRole):
    """A room is open while one of its legs is here."""

    name = "sglang"

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        self.meetings = Meetings()

    def waiting(self) -> int:
        return len(self.meetings)

    def leg(self, call: Call) -> Leg:
        fields = Fields("", call.document)
        role = self.site.config.kv_role
        if role is KvRole.BOTH and not any(name in fields for name in _FIELDS):
            return Leg()
        if call.request.n != 1:
            raise refused("n", "1 in a request of two legs", call.request.n)
        hosts, ports, rooms = _bootstrap(call, fields)
        if len(set(rooms)) != len(rooms):
            raise refused("bootstrap_room", "a room for each prompt", rooms)
        keys = [self.site.keys(prompt, call.request.salt) for prompt in call.request.prompts]
        here = (self.site.config.host, self.channel.port)
        is_here = [pair == here for pair in zip(hosts, ports, strict=True)]
        if role is KvRole.DECODE or (role is KvRole.BOTH and not all(is_here)):
            return _DecodeLeg(self, keys, hosts, ports, rooms)
        if not all(is_here):
            name = "bootstrap_port" if self.channel.port not in ports else "bootstrap_host"
            expected = f"{here[0]}:{here[1]}, where this prefill engine is"
            raise refused(name, expected, fields.get(name))
        for room in rooms:
            meeting = self.meetings.get(str(room))
            if self.site.holds.get(str(room)) or (meeting is not None and meeting.has_prefill):
                raise refused("bootstrap_room", "a room that is not in use", room)
        return _PrefillLeg(self, keys, [self.meetings.enter(str(room)) for room in rooms])

    async def _serve(self, question: dict[str, Any]) -> dict[str, Any]:
        fields = Fields("", question)
        room = str(fields.integer("room", 0, _MAX_ROOM))
        seconds = self.site.config.rendezvous_timeout
        meeting = self.meetings.enter(room)
        try:
            if meeting.joined.is_set():
                raise self.failure("bootstrap_room", f"room {room} is in use")
            meeting.joined.set()
            if not await within(meeting.settled, seconds):
                message = f"room {room}: nothing was computed within {seconds:g} s"
                raise self.failure("bootstrap_room", message)
            await self.site.faults.reach("transfer")
            hold = self.site.holds.get(room)
            if hold is None:
                raise self.failure("prefill", f"room {room}: {meeting.failure or 'it is empty'}")
            await self.hand_over(hold, fields.get("keys"))
        except BaseException:
            meeting.fail("the decode engine went without its blocks")
            raise
        finally:
            meeting.ended.set()
            self.meetings.leave(meeting)
        return {}


def _bootstrap(call: Call, fields: Fields) -> tuple[list[str], list[int], list[int]]:
    """Host, port and room of each prompt: lists for a list of prompts, plain values otherwise."""
    prompt = call.document.get("prompt")
    if not isinstance(prompt, list) or type(prompt[0]) is int:
        return (
            [fields.text("bootstrap_host")],
            [fields.port("bootstrap_port")],
            [fields.integer("bootstrap_room", 0, _MAX_ROOM)],
        )
    count = len(call.request.prompts)
    hosts = fields.get("bootstrap_host")
    if (
        not isinstance(hosts, list)
        or len(hosts) != count
        or not all(isinstance(host, str) and host for host in hosts)
    ):
        raise refused("bootstrap_host", f"a list of {count} names", hosts)
    return (
        hosts,
        fields.integers("bootstrap_port", count, 1, MAX_PORT),
        fields.integers("bootstrap_room", count, 0, _MAX_ROOM),
    )


class _PrefillLeg(Leg):
    is_prefill = True
    max_tokens = 1

    def __init__(self, role: SglangRole, keys: list[list[int]], meetings: list[Meeting]) -> None:
        self._role = role
        self._keys = keys
        self._meetings = meetings
        for meeting in meetings:
            meeting.has_prefill = True

    async def receive(self) -> Sequence[int]:
        seconds = self._role.site.config.rendezvous_timeout
        for meeting in self._meetings:
            if not await within(meeting.joined, seconds):
                message = f"room {meeting.name}: no decode engine came within {seconds:g} s"
                raise self._role.failure("bootstrap_room", message)
        self._check()
        return ()

    def computed(self, index: int, names: Sequence[BlockName], /) -> None:
        meeting = self._meetings[index]
        if meeting.failure is None:
            self._role.site.holds.take(meeting.name, names, self._keys[index])
            meeting.settled.set()

    async def answer(self) -> dict[str, Any] | None:
        for meeting in self._meetings:
            seconds = self._role.site.config.transfer_expiry
            if not await within(meeting.ended, seconds):
                message = f"room {meeting.name}: nobody read the blocks within {seconds:g} s"
                raise self._role.failure("bootstrap_room", message)
        self._check()
        return None

    def close(self) -> None:
        for meeting in self._meetings:
            hold = self._role.site.holds.get(meeting.name)
            if hold is not None:
                self._role.site.holds.release(hold)
            if not meeting.ended.is_set():
                meeting.fail("the prefill engine's request ended")
            meeting.has_prefill = False
            self._role.meetings.leave(meeting)

    def _check(self) -> None:
        for meeting in self._meetings:
            if meeting.failure is not None:
                raise self._role.failure("decode", f"room {meeting.name}: {meeting.failure}")


class _DecodeLeg(Leg):
    def __init__(
        self,
        role: SglangRole,
        keys: list[list[int]],
        hosts: list[str],
        ports: list[int],
        rooms: list[int],
    ) -> None:
        self._role = role
        self._keys = keys
        self._questions = [
            (host, port, {"op": "join", "room": room, "keys": blocks})
            for host, port, room, blocks in zip(hosts, ports, rooms, keys, strict=True)
        ]

    async def receive(self) -> Sequence[int]:
        timeout = self._role.site.patience
        await ask_all([ask(*question, timeout) for question in self._questions])
        return [len(blocks) for blocks in self._keys]
