"""Legs that clients send by themselves: production-stack's `disaggregated_prefill`."""

from __future__ import annotations

from kvroute.frontend.completions import Completions
from kvroute.frontend.intake import Job


class SentLegs:
    """Sends a request for one token to a prefill worker, any other to a decode worker."""

    def __init__(self, completions: Completions) -> None:
        self._completions = completions

    async def serve(self, path: str, job: Job) -> None:
        """As `Completions.serve`."""
        fields = job.request.fields
        limit = fields.get("max_completion_tokens")
        if limit is None:
            limit = fields.get("max_tokens")
        job.phase = "prefill" if limit == 1 else "decode"
        await self._completions.serve(path, job)
