"""Takes out of a request what a client says of transfers between engines, before it is served."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable

import orjson

from kvroute.disagg.client_words import names_addresses, without_transfers
from kvroute.frontend.errors import bad_request
from kvroute.frontend.intake import Job

PathServe = Callable[[str, Job], Awaitable[None]]


class WithoutClientTransfers:
    """Serves requests as `serve` does, in one leg or two, of which no engine is told what the
    client said of a transfer."""

    def __init__(self, serve: PathServe) -> None:
        self._serve = serve

    async def serve(self, path: str, job: Job) -> None:
        """Answers a request to `path`. Raises as the `serve` it was made with, and ApiError 400
        for a body that cannot be written again."""
        if names_addresses(job.exchange.request_id):
            job.exchange.request_id = uuid.uuid4().hex
        kept = without_transfers(job.request.fields)
        if kept is not None:
            job.request.fields = kept
            try:
                job.body = orjson.dumps(kept)
            except orjson.JSONEncodeError as error:
                raise bad_request(
                    f"the body: it has fields of transfers, which are taken out, and cannot be "
                    f"written again without them: {error}"
                ) from error
        await self._serve(path, job)
