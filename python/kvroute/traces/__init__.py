"""Request traces: reading, downloading and generating them, and turning them into token ids.

>>> trace = load_trace(limit=1000)                    # the real one where it is, else generated
>>> prompts = PromptBuilder(length_scale=0.25)
>>> prompts.prompt(trace.requests[0])                 # array('I', [...])
"""

from __future__ import annotations

from kvroute.traces.generated import FULL_TRACE_REQUESTS, generate_trace
from kvroute.traces.locate import Trace, TraceSource, cache_folder, find_trace, load_trace
from kvroute.traces.prompts import PromptBuilder
from kvroute.traces.public_source import DownloadError, download, has_sha256
from kvroute.traces.reader import read_trace
from kvroute.traces.request import TRACE_BLOCK_TOKENS, TraceError, TraceRequest
from kvroute.traces.statistics import TraceStatistics, describe, infinite_cache_tokens

__all__ = [
    "FULL_TRACE_REQUESTS",
    "TRACE_BLOCK_TOKENS",
    "DownloadError",
    "PromptBuilder",
    "Trace",
    "TraceError",
    "TraceRequest",
    "TraceSource",
    "TraceStatistics",
    "cache_folder",
    "describe",
    "download",
    "find_trace",
    "generate_trace",
    "has_sha256",
    "infinite_cache_tokens",
    "load_trace",
    "read_trace",
]
