"""POST /v1/kvroute/explain: where a request would go, and why."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from kvroute.frontend.errors import bad_request
from kvroute.frontend.intake import Job
from kvroute.frontend.prompts import TokenIds
from kvroute.frontend.protocols import Phase
from kvroute.frontend.token_source import TokenSource


class Explanations:
    """Takes the body of a completion or chat and tells every target's cost. Changes nothing."""

    def __init__(
        self, tokens: TokenSource, phases: Sequence[Phase], *, chooses_pairs: bool
    ) -> None:
        """`phases`: those that workers have roles for. `chooses_pairs`: the workers of both legs
        are chosen together."""
        self._tokens = tokens
        self._phases = phases
        self._chooses_pairs = chooses_pairs

    async def serve(self, job: Job) -> None:
        """Answers with JSON. Raises ApiError 400 for a prompt whose tokens nobody can tell."""
        exchange, group = job.exchange, job.group
        prompts = await self._tokens.token_ids(group, job.request, headers=exchange.authorization())
        if not prompts[0]:
            raise bad_request("the prompt's tokens could not be had", "prompt")
        whole = group.explain(prompts[0], job.session_id, job.request.salt)
        content = {"model": group.name, **explained(whole)}
        if self._phases:
            content["phases"] = {
                phase: explained(leg) for phase, leg in self._legs(job, prompts[0]).items()
            }
        body = orjson.dumps(content)
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(body)),
        ]
        await exchange.start(200, headers, ())
        await exchange.send_chunk(body)
        await exchange.finish()

    def _legs(self, job: Job, ids: TokenIds) -> dict[Phase, Any]:
        group, salt = job.group, job.request.salt
        ready = [phase for phase in self._phases if group.count_ready(phase)]
        if self._chooses_pairs and len(ready) == len(self._phases):
            return group.explain_pair(ids, salt)
        return {phase: group.explain(ids, job.session_id, salt, phase) for phase in ready}


def explained(explanation: Any) -> dict[str, Any]:
    """A ``kvroute.Explanation`` for JSON."""
    return {
        "policy": explanation.policy,
        "rule": explanation.rule,
        "num_tokens": explanation.num_tokens,
        "text": str(explanation),
        "targets": [
            {
                "worker": target.worker,
                "dp_rank": target.dp_rank,
                "eligible": target.eligible,
                "reason": target.reason,
                "cost": target.cost,
                "cached_tokens": target.cached_tokens,
                "terms": dict(target.terms),
            }
            for target in explanation.targets
        ],
    }
