"""What to look at, in this order, for each thing that a cache watch finds."""

from __future__ import annotations

from collections.abc import Mapping

from kvroute.frontend.cache_watch import Cause

LIKELY: Mapping[Cause, str] = {
    "prompt_length": (
        "The router makes other tokens of a prompt than the engine, so their blocks do not match. "
        "Look at: --tokenizer (the model's own directory?), the engine's --chat-template and its "
        "defaults for template variables, special tokens, truncation, images in chats"
    ),
    "misses": (
        "Look at: a warning of its prompt lengths or its events; its prefix caching (on?); whether "
        "URL and event endpoint belong to the same engine; several engines or ranks behind one URL "
        "(--dp-ranks); a cache so small that blocks go before a request is scheduled "
        "(kvroute_target_kv_usage); a restart of the engine"
    ),
    "unforeseen_hits": (
        "The engine holds more than the router knows. Look at: lost or missing events "
        "(--kv-events, --kv-replay); --block-size; requests that reach the engine on another way; "
        "blocks below the device, which the engine counts and decisions do not; "
        "kvroute_index_forgotten_total"
    ),
    "unreported": (
        "Whether its cache is hit cannot be seen: start vLLM with --enable-prompt-tokens-details, "
        "SGLang with --enable-cache-report. If it runs with that, nothing was hit: look at its "
        "prefix caching, its events, and its prompt lengths"
    ),
    "reports_ended": (
        "It told of hits before. Either it hits nothing any more (look at its events and its "
        "prefix caching), or it was restarted without --enable-prompt-tokens-details (vLLM) or "
        "--enable-cache-report (SGLang)"
    ),
}
"""By cause. `unreported` is for information, the others are warnings."""
