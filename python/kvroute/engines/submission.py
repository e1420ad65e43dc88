"""A request's generations into an engine, all of them or none."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

from kvroute.engines.core import EngineCore
from kvroute.engines.generation import Generation
from kvroute.engines.openai_requests import GenerationRequest
from kvroute.engines.transfer.role import Leg


def submit(
    core: EngineCore,
    request: GenerationRequest,
    listener: Callable[[], None],
    leg: Leg | None = None,
    received: Sequence[int] = (),
) -> list[Generation]:
    """Queue a request's choices, prompt by prompt.

    ``leg`` is the engine's part where the request goes in two legs; ``received`` says how many
    leading blocks of each prompt another engine has sent. `listener` and the errors are as in
    `EngineCore.generate`.
    """
    leg = leg or Leg()
    generations: list[Generation] = []
    try:
        for index, prompt in enumerate(request.prompts):
            generations += core.generate(
                prompt,
                leg.max_tokens or request.max_tokens,
                count=request.n,
                seed=request.seed,
                salt=request.salt,
                min_tokens=request.min_tokens,
                stops=request.stops,
                stop_token_ids=request.stop_token_ids,
                stream=request.stream,
                received_blocks=received[index] if received else 0,
                on_computed=functools.partial(leg.computed, index),
                listener=listener,
            )
    except BaseException:
        core.abort(generations)
        raise
    return generations
