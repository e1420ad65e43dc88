"""A whole engine in process: what it publishes is what its cache holds."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

import aiohttp
import msgpack
import orjson
import pytest
import zmq
import zmq.asyncio
from kvroute.engines import CostModel, SimulatedEngine
from kvroute.engines.core import EngineCore
from kvroute.engines.errors import InvalidConfigError
from kvroute.engines.event_publisher import END_SEQ
from kvroute.engines.events import EventFormat

FAST = CostModel(speed=1000)
TIMEOUT = 60.0
Until: TypeAlias = Callable[[Callable[[], bool]], Awaitable[None]]


@asynccontextmanager
async def connected(kind: int, endpoint: str | None) -> AsyncIterator[zmq.asyncio.Socket]:
    assert endpoint is not None
    context = zmq.asyncio.Context()
    socket = context.socket(kind)
    if kind == zmq.SUB:
        socket.subscribe(b"")
    socket.connect(endpoint)
    try:
        yield socket
    finally:
        context.destroy(linger=0)


async def replayed_batches(engine: SimulatedEngine) -> list[Any]:
    async with connected(zmq.DEALER, engine.kv_replay) as dealer:
        await dealer.send_multipart([b"", bytes(8)])
        batches = []
        while True:
            frames = await asyncio.wait_for(dealer.recv_multipart(), TIMEOUT)
            if frames[2] == END_SEQ:
                return batches
            assert int.from_bytes(frames[2], "big") == len(batches)
            batches.append(msgpack.unpackb(frames[3]))


async def complete(engine: SimulatedEngine, prompt: list[int], **body: Any) -> Any:
    async with aiohttp.ClientSession() as session:
        request = {"prompt": prompt, **body}
        async with session.post(f"{engine.http_url}/v1/completions", json=request) as response:
            assert response.status == 200, await response.text()
            return await response.json()


def fields(event: Any) -> tuple[str, list[int], int | None, list[int]]:
    """Tag, hashes, parent and tokens of an event in either form."""
    if isinstance(event, dict):
        hashes = event.get("block_hashes", [])
        return event["type"], hashes, event.get("parent_block_hash"), event.get("token_ids", [])
    if event[0] == "BlockStored":
        return event[0], event[1], event[2], event[3]
    return event[0], event[1] if len(event) > 1 else [], None, []


@pytest.mark.parametrize("event_format", list(EventFormat))
async def test_events_replayed_into_a_set_are_the_cache_at_every_step(
    event_format: EventFormat, monkeypatch: pytest.MonkeyPatch
) -> None:
    contents: list[set[object]] = []
    publish = EngineCore._publish_events

    def publish_and_remember(core: EngineCore, events: list[Any]) -> None:
        publish(core, events)
        contents.append(core.cache.names())

    monkeypatch.setattr(EngineCore, "_publish_events", publish_and_remember)
    random_numbers = random.Random(11)
    families = [[random_numbers.randrange(1 << 32) for _ in range(200)] for _ in range(4)]
    async with SimulatedEngine(
        block_size=8, num_blocks=64, max_num_seqs=4, event_format=event_format, cost=FAST
    ) as engine:
        requests = []
        for number in range(60):
            prompt = families[number % 4][: random_numbers.randint(1, 200)]
            requests.append(complete(engine, prompt, max_tokens=random_numbers.randint(1, 20)))
        answers = await asyncio.gather(*requests)
        batches = await replayed_batches(engine)
    assert sum(a["usage"]["prompt_tokens_details"]["cached_tokens"] for a in answers) > 0

    held: set[object] = set()
    prefixes: dict[int, tuple[int, ...]] = {}
    removals = 0
    for batch, content in zip(batches, contents, strict=True):
        for event in batch[1]:
            tag, hashes, parent, tokens = fields(event)
            if tag == "BlockStored":
                assert len(tokens) == 8 * len(hashes)
                assert parent is None or parent in held
                before = () if parent is None else prefixes[parent]
                for position, name in enumerate(hashes):
                    before = (*before, *tokens[position * 8 : position * 8 + 8])
                    assert prefixes.setdefault(name, before) == before
                held |= set(hashes)
            else:
                removals += len(hashes)
                held -= set(hashes)
        assert held == content
    assert removals > 0


async def test_a_second_identical_request_finds_its_prefix() -> None:
    async with SimulatedEngine(block_size=16, cost=FAST) as engine:
        prompt = list(range(100))
        first = await complete(engine, prompt, max_tokens=4)
        second = await complete(engine, prompt, max_tokens=4)
        longer = await complete(engine, [*prompt, 1, 2, 3], max_tokens=4)
    cached = [
        answer["usage"]["prompt_tokens_details"]["cached_tokens"]
        for answer in (first, second, longer)
    ]
    assert cached == [0, 96, 96]
    assert first["choices"] == second["choices"]


async def test_a_prompt_of_100k_tokens_is_served() -> None:
    async with SimulatedEngine(block_size=16, num_blocks=8000, cost=FAST) as engine:
        prompt = list(range(100_000))
        await complete(engine, prompt, max_tokens=2)
        answer = await complete(engine, prompt, max_tokens=2)
    assert answer["usage"]["prompt_tokens_details"]["cached_tokens"] == 99_984


async def test_different_salts_share_nothing_and_are_named_in_the_events() -> None:
    async with SimulatedEngine(block_size=4, cost=FAST) as engine:
        answers = [
            await complete(engine, list(range(12)), max_tokens=1, cache_salt=salt)
            for salt in ("a", "b", "a")
        ]
        batches = await replayed_batches(engine)
    cached = [a["usage"]["prompt_tokens_details"]["cached_tokens"] for a in answers]
    assert cached == [0, 0, 8]
    keys = [event["extra_keys"] for batch in batches for event in batch[1]]
    assert keys == [[["a"], None, None], [["b"], None, None]]


async def test_engines_name_blocks_alike_only_when_told_to() -> None:
    async def names(hash_seed: int | None) -> list[int]:
        async with SimulatedEngine(hash_seed=hash_seed, cost=FAST) as engine:
            await complete(engine, list(range(64)), max_tokens=1)
            batches = await replayed_batches(engine)
            return list(batches[0][1][0]["block_hashes"])

    assert await names(None) != await names(None)
    assert await names(5) == await names(5)


async def test_the_load_is_told_also_while_idle() -> None:
    async with (
        SimulatedEngine(cost=FAST) as engine,
        connected(zmq.SUB, engine.load_events) as subscriber,
    ):
        for _ in range(2):
            report = orjson.loads(await asyncio.wait_for(subscriber.recv(), TIMEOUT))
            assert report == {"num_waiting_reqs": 0, "kv_cache_usage": 0.0}


async def test_the_load_counts_who_waits_and_what_is_used() -> None:
    slow = CostModel(base_step=0.1)
    async with (
        SimulatedEngine(block_size=16, num_blocks=64, max_num_seqs=1, cost=slow) as engine,
        connected(zmq.SUB, engine.load_events) as subscriber,
    ):
        await asyncio.wait_for(subscriber.recv(), TIMEOUT)
        requests = asyncio.gather(
            *(complete(engine, [number] * 256, max_tokens=8) for number in range(3))
        )
        reports = []
        while not requests.done() or reports[-1]["kv_cache_usage"]:
            reports.append(orjson.loads(await asyncio.wait_for(subscriber.recv(), TIMEOUT)))
        await requests
    assert max(report["num_waiting_reqs"] for report in reports) == 2
    assert max(report["kv_cache_usage"] for report in reports) == pytest.approx(17 / 64)
    assert reports[-1] == {"num_waiting_reqs": 0, "kv_cache_usage": 0.0}


async def test_an_engine_without_sockets_has_no_endpoints() -> None:
    async with SimulatedEngine(kv_events=None, load_events=None, cost=FAST) as engine:
        assert (engine.kv_events, engine.kv_replay, engine.load_events) == (None, None, None)
        await complete(engine, [1, 2, 3], max_tokens=2)


async def test_a_stopped_engine_ends_what_runs(until: Until) -> None:
    slow = CostModel(base_step=30.0)
    async with aiohttp.ClientSession() as session:
        async with SimulatedEngine(cost=slow) as engine:
            url = f"{engine.http_url}/v1/completions"
            request = asyncio.ensure_future(session.post(url, json={"prompt": "a"}))
            await until(lambda: engine.core.scheduler.num_running > 0)
        response = await asyncio.wait_for(request, TIMEOUT)
        assert response.status == 503
        assert "stopped" in (await response.json())["error"]["message"]


@pytest.mark.parametrize(
    "settings",
    [{"block_size": 0}, {"num_blocks": 0}, {"model": ""}, {"port": -1}, {"max_num_seqs": 0}],
)
def test_settings_out_of_range_are_refused_by_name(settings: dict[str, Any]) -> None:
    with pytest.raises(InvalidConfigError, match=next(iter(settings))):
        SimulatedEngine(**settings)


async def test_a_breakdown_is_logged_and_answered_503(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def break_down(*_: Any) -> None:
        raise RuntimeError("broken on purpose")

    async with SimulatedEngine(cost=FAST) as engine, aiohttp.ClientSession() as session:
        monkeypatch.setattr(engine.core.scheduler, "step", break_down)
        url = f"{engine.http_url}/v1/completions"
        for _ in range(2):
            async with session.post(url, json={"prompt": "a"}) as response:
                assert response.status == 503
        async with session.get(f"{engine.http_url}/health") as response:
            assert response.status == 503
    assert "broken on purpose" in caplog.text
