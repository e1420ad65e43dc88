"""A bounded load on an OpenAI server: streamed chats over a few prompts, and how it went.

Exit code 0 if every request succeeded. Prints time to first token (TTFT), time between tokens
(ITL: from the first to the last, over the tokens after the first), throughput and failures.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import aiohttp
import orjson

WORDS = (
    "river",
    "stone",
    "cloud",
    "paper",
    "green",
    "seven",
    "window",
    "market",
    "silver",
    "garden",
)


@dataclass
class Outcome:
    """One request; seconds from its start. `error` is empty where it succeeded."""

    worker: str = "?"
    first_token: float = 0.0
    last_token: float = 0.0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    error: str = ""


class Load:
    """Requests against one server."""

    def __init__(self, session: aiohttp.ClientSession, url: str, model: str, osl: int) -> None:
        self._session = session
        self._url = url
        self._model = model
        self._osl = osl

    async def prompt_of(self, number: int, tokens: int, generator: random.Random) -> str:
        """A prompt of about that many tokens; the number leads, so that no two share a prefix.

        The length is found by asking the server, which counts the chat template too.
        """
        words = [str(number), *generator.choices(WORDS, k=2 * tokens)]
        count = tokens
        for _ in range(6):
            counted = await self._count_tokens(" ".join(words[:count]))
            if counted == tokens:
                break
            count = min(max(1, round(count * tokens / counted)), len(words))
        return " ".join(words[:count])

    async def stream(self, prompt: str) -> Outcome:
        """One streamed chat completion; never raises for what the server does."""
        outcome, start = Outcome(), time.perf_counter()
        try:
            async with self._session.post(
                f"{self._url}/v1/chat/completions", data=orjson.dumps(self._body(prompt))
            ) as response:
                if response.status != 200:
                    outcome.error = f"status {response.status}: {await response.text()}"
                    return outcome
                outcome.worker = response.headers.get("x-kvroute-worker", "?")
                await self._read_events(response, outcome, start)
        except asyncio.TimeoutError:
            outcome.error = "timed out"
        except aiohttp.ClientError as error:
            outcome.error = str(error) or type(error).__name__
        return outcome

    async def _read_events(
        self, response: aiohttp.ClientResponse, outcome: Outcome, start: float
    ) -> None:
        ended = False
        async for line in response.content:
            if not line.startswith(b"data:"):
                continue
            data = line[5:].strip()
            if data == b"[DONE]":
                ended = True
                continue
            event = orjson.loads(data)
            if "error" in event:
                outcome.error = str(event["error"])
                return
            if any(choice.get("delta", {}).get("content") for choice in event["choices"]):
                outcome.last_token = time.perf_counter() - start
                outcome.first_token = outcome.first_token or outcome.last_token
            if usage := event.get("usage"):
                details = usage.get("prompt_tokens_details") or {}
                outcome.prompt_tokens = usage["prompt_tokens"]
                outcome.output_tokens = usage["completion_tokens"]
                outcome.cached_tokens = details.get("cached_tokens") or 0
        if not ended:
            outcome.error = "the stream ended early"

    async def _count_tokens(self, prompt: str) -> int:
        question = {"model": self._model, "messages": [{"role": "user", "content": prompt}]}
        async with self._session.post(
            f"{self._url}/tokenize", data=orjson.dumps(question)
        ) as response:
            response.raise_for_status()
            return int(orjson.loads(await response.read())["count"])

    def _body(self, prompt: str) -> dict[str, object]:
        return {
            "model": self._model,
            "messages": [{"role": "user", "content": prompt}],
            "max_tokens": self._osl,
            "min_tokens": self._osl,
            "ignore_eos": True,
            "temperature": 0,
            "stream": True,
            "stream_options": {"include_usage": True},
        }


async def run(args: argparse.Namespace) -> bool:
    """Sends all requests, at most `concurrency` at once; True if none failed."""
    async with aiohttp.ClientSession(
        timeout=aiohttp.ClientTimeout(total=args.timeout),
        connector=aiohttp.TCPConnector(limit=0),
        headers={"content-type": "application/json"},
        read_bufsize=2**20,
    ) as session:
        async with session.get(f"{args.url}/v1/models") as response:
            response.raise_for_status()
            model = orjson.loads(await response.read())["data"][0]["id"]
        load = Load(session, args.url, model, args.osl)
        generator = random.Random(args.seed)
        prompts = [await load.prompt_of(i, args.isl, generator) for i in range(args.prefixes)]
        schedule = [generator.choice(prompts) for _ in range(args.requests)]
        slots = asyncio.Semaphore(args.concurrency)

        async def one(prompt: str) -> Outcome:
            async with slots:
                return await load.stream(prompt)

        start = time.perf_counter()
        outcomes = await asyncio.gather(*(one(prompt) for prompt in schedule))
        report(outcomes, time.perf_counter() - start)
    return not any(outcome.error for outcome in outcomes)


def report(outcomes: Sequence[Outcome], seconds: float) -> None:
    """Prints the figures of the requests that succeeded, and why the others did not."""
    good = [outcome for outcome in outcomes if not outcome.error]
    print(f"requests      {len(outcomes)} in {seconds:.2f} s, {len(outcomes) - len(good)} failed")
    for error, count in Counter(o.error for o in outcomes if o.error).most_common(5):
        print(f"  {count} x {error[:200]}")
    if not good:
        return
    prompt_tokens = sum(outcome.prompt_tokens for outcome in good)
    output_tokens = sum(outcome.output_tokens for outcome in good)
    cached = sum(outcome.cached_tokens for outcome in good) / max(prompt_tokens, 1)
    workers = Counter(outcome.worker for outcome in good)
    print(
        f"tokens        {prompt_tokens / len(good):.0f} in, {cached:.1%} of them cached; ", end=""
    )
    print(f"{output_tokens / len(good):.0f} out")
    print_times("TTFT", [outcome.first_token for outcome in good])
    print_times(
        "ITL",
        [
            (outcome.last_token - outcome.first_token) / (outcome.output_tokens - 1)
            for outcome in good
            if outcome.output_tokens > 1
        ],
    )
    print(f"throughput    {len(good) / seconds:.2f} requests/s, ", end="")
    print(f"{output_tokens / seconds:.0f} output tokens/s")
    print("per worker    " + ", ".join(f"{name}: {n}" for name, n in sorted(workers.items())))


def print_times(name: str, seconds: Sequence[float]) -> None:
    if not seconds:
        return
    ordered = sorted(seconds)
    p50, p99 = ordered[len(ordered) // 2], ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)]
    mean = statistics.fmean(ordered)
    print(f"{name:<13} mean {mean * 1e3:.1f} ms, p50 {p50 * 1e3:.1f} ms, p99 {p99 * 1e3:.1f} ms")


def positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected at least 1, got {value}")
    return value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--isl", type=positive, default=3000, help="prompt tokens, about")
    parser.add_argument("--osl", type=positive, default=100, help="output tokens")
    parser.add_argument("--concurrency", type=positive, default=25)
    parser.add_argument("--requests", type=positive, default=100)
    parser.add_argument("--prefixes", type=positive, default=10, help="number of prompts")
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--timeout", type=float, default=120.0, help="seconds for one request")
    try:
        succeeded = asyncio.run(run(parser.parse_args()))
    except aiohttp.ClientError as error:
        sys.exit(f"perf: the server does not serve: {error}")
    sys.exit(0 if succeeded else 1)


if __name__ == "__main__":
    main()
