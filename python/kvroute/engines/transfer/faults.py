"""Failures on command, at named steps of a request: what ``POST /debug/faults`` sets."""

from __future__ import annotations

import asyncio
from dataclasses import asdict, dataclass
from typing import Any

from kvroute.engines.errors import EngineError
from kvroute.engines.transfer.fields import Fields, refused

STEPS = (
    "accepted",
    "prefill",
    "hold",
    "answer",
    "transfer",
    "notice",
    "decode_start",
    "decode_midway",
)
ACTIONS = ("error500", "close", "hang", "delay", "malformed")
_MAX_COUNT = 1_000_000
_MAX_SECONDS = 3600.0


class FaultError(EngineError, RuntimeError):
    """A failure that was asked for: the engine answers 500."""


class DroppedError(EngineError, RuntimeError):
    """A failure that was asked for: the connection is closed without another byte."""


class MalformedError(EngineError, RuntimeError):
    """A failure that was asked for: the engine answers what is none."""


@dataclass(slots=True)
class Fault:
    """A failure that is still to come, `count` times."""

    step: str
    action: str
    count: int
    seconds: float


class Faults:
    """The failures set on one engine. The oldest one of a step comes first."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []

    def set(self, document: dict[str, Any]) -> None:
        """Adds one: ``step`` and ``action``; ``count``, default 1; ``seconds`` of a delay."""
        fields = Fields("", document)
        fields.only(("step", "action", "count", "seconds"))
        for name, known in (("step", STEPS), ("action", ACTIONS)):
            if fields.get(name) not in known:
                raise refused(name, "one of " + ", ".join(known), fields.get(name))
        if document["action"] == "malformed" and document["step"] != "answer":
            raise refused("step", "answer, where the action is malformed", document["step"])
        count = fields.integer("count", 1, _MAX_COUNT) if "count" in fields else 1
        seconds = fields.get("seconds")
        if document["action"] != "delay":
            fields.null("seconds")
            seconds = 0.0
        elif type(seconds) not in {int, float} or not 0 <= seconds <= _MAX_SECONDS:
            raise refused("seconds", f"a number from 0 to {_MAX_SECONDS:.0f}", seconds)
        self._faults.append(Fault(document["step"], document["action"], count, float(seconds)))

    def clear(self) -> None:
        """Forgets all of them; what hangs goes on hanging."""
        self._faults.clear()

    def pending(self) -> list[dict[str, Any]]:
        """What is still to come."""
        return [asdict(fault) for fault in self._faults]

    def is_set(self, step: str) -> bool:
        """Whether `reach` would do anything at `step`."""
        return any(fault.step == step for fault in self._faults)

    async def reach(self, step: str) -> None:
        """A request is at `step`: raises FaultError, DroppedError or MalformedError, waits, or does
        nothing."""
        fault = next((one for one in self._faults if one.step == step), None)
        if fault is None:
            return
        fault.count -= 1
        if not fault.count:
            self._faults.remove(fault)
        if fault.action == "error500":
            raise FaultError(f"engine: asked to fail at {step}")
        if fault.action == "close":
            raise DroppedError(f"engine: asked to close at {step}")
        if fault.action == "malformed":
            raise MalformedError(f"engine: asked for a malformed {step}")
        if fault.action == "hang":
            await asyncio.Event().wait()
        await asyncio.sleep(fault.seconds)
