"""The demo: simulated engines and a frontend as processes, a trace replayed through them."""

from __future__ import annotations

from kvroute.demo.demo import Demo, DemoError
from kvroute.demo.plan import DemoPlan

__all__ = ["Demo", "DemoError", "DemoPlan"]
