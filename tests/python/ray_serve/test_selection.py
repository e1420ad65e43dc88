"""Selection as a service, in one process."""

from __future__ import annotations

import logging
import re
from array import array
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import kvroute
import pytest
from kvroute.ray_serve import selection_requests
from kvroute.ray_serve.selection import RankState, SelectionService

DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "ray-serve-selection.md"
PROMPT = list(range(100, 200))
BIGGEST_ID = 2**64 - 1


@pytest.fixture
def clock() -> kvroute.VirtualClock:
    return kvroute.VirtualClock()


@pytest.fixture
async def service(clock: kvroute.VirtualClock) -> AsyncIterator[SelectionService]:
    service = SelectionService(
        block_size=16, seed=0, clock=clock, request_ttl_s=100.0, early_ttl_s=10.0
    )
    for worker_id in ("a", "b", "c"):
        await service.upsert_worker(worker_id)
    yield service
    await service.close()


async def states(service: SelectionService) -> dict[Any, RankState]:
    return {state["worker_id"]: state for state in await service.list_workers()}


async def booked(service: SelectionService) -> dict[Any, tuple[int, int]]:
    """Requests and prompt tokens that wait, of workers that have any request."""
    return {
        worker_id: (state["active_requests"], state["active_prefill_tokens"])
        for worker_id, state in (await states(service)).items()
        if state["active_requests"]
    }


# Choices.


async def test_select_worker_tells_where_and_books_nothing(service: SelectionService) -> None:
    choice = await service.select_worker("r", PROMPT, ["b"])
    assert choice == {
        "worker_id": "b",
        "dp_rank": 0,
        "overlap_tokens": 0,
        "effective_prefill_tokens": 100,
    }
    assert await booked(service) == {}
    assert (await states(service))["b"]["held_blocks"] == 0


async def test_a_prompt_goes_where_it_was_before(service: SelectionService) -> None:
    first = await service.select_and_reserve("r1", PROMPT)
    await service.on_request_completed("r1")
    for i in range(5):
        again = await service.select_worker(f"s{i}", PROMPT)
        assert again["worker_id"] == first["worker_id"]
        assert (again["overlap_tokens"], again["effective_prefill_tokens"]) == (96, 4)


async def test_running_requests_are_load(service: SelectionService) -> None:
    chosen = {
        (await service.select_and_reserve(f"r{i}", [i * 1000 + j for j in range(100)]))["worker_id"]
        for i in range(3)
    }
    assert chosen == {"a", "b", "c"}


@pytest.mark.parametrize("token_ids", [[], (), array("I"), None])
async def test_no_token_ids_are_a_value_error(service: SelectionService, token_ids: Any) -> None:
    with pytest.raises(ValueError, match="token_ids: expected at least one"):
        await service.select_worker("r", token_ids, ["nobody"])
    with pytest.raises(ValueError, match="token_ids: expected at least one"):
        await service.select_and_reserve("r", token_ids)
    with pytest.raises(ValueError, match="token_ids: expected at least one"):
        await service.on_request_added("r", "a", token_ids)


@pytest.mark.parametrize("kind", [list, tuple, lambda ids: array("I", ids)])
async def test_token_ids_of_several_kinds(service: SelectionService, kind: Any) -> None:
    await service.on_request_added("r", "b", PROMPT)
    choice = await service.select_worker("s", kind(PROMPT), ["b"])
    assert choice["overlap_tokens"] == 96


async def test_allowed_workers_that_are_not_there_are_left_out(service: SelectionService) -> None:
    choice = await service.select_worker("r", PROMPT, ["not yet", "c"])
    assert choice["worker_id"] == "c"


@pytest.mark.parametrize("allowed", [[], ["not yet"]])
async def test_nobody_among_the_allowed_is_an_error(
    service: SelectionService, allowed: list[str]
) -> None:
    with pytest.raises(kvroute.NoEligibleWorker):
        await service.select_worker("r", PROMPT, allowed)
    with pytest.raises(RuntimeError):
        await service.select_and_reserve("r", PROMPT, allowed)


async def test_an_adapter_s_blocks_are_its_own(service: SelectionService) -> None:
    await service.on_request_added("r", "a", PROMPT, lora_name="sql")
    with_it = await service.select_worker("s", PROMPT, ["a"], lora_name="sql")
    without = await service.select_worker("s", PROMPT, ["a"])
    assert (with_it["overlap_tokens"], without["overlap_tokens"]) == (96, 0)


# Bookings.


async def test_select_and_reserve_books_once(service: SelectionService) -> None:
    first = await service.select_and_reserve("r", PROMPT, ["b"])
    assert await booked(service) == {"b": (1, 100)}
    assert await service.select_and_reserve("r", PROMPT, ["a", "b", "c"]) == first
    assert await service.select_and_reserve("r", PROMPT) == first
    assert await booked(service) == {"b": (1, 100)}


async def test_a_worker_that_is_no_longer_allowed_is_replaced(service: SelectionService) -> None:
    await service.select_and_reserve("r", PROMPT, ["b"])
    assert (await service.select_and_reserve("r", PROMPT, ["c"]))["worker_id"] == "c"
    assert await booked(service) == {"c": (1, 100)}


async def test_the_news_of_a_request(service: SelectionService) -> None:
    await service.select_and_reserve("r", PROMPT, ["a"])
    blocks = (await states(service))["a"]["active_blocks"]
    await service.on_first_token("r")
    await service.on_prefill_complete("r")
    assert await booked(service) == {"a": (1, 0)}
    await service.on_decode_progress("r", 32)
    assert (await states(service))["a"]["active_blocks"] == blocks + 2
    await service.on_request_completed("r")
    await service.on_request_completed("r")
    assert await booked(service) == {}


async def test_the_answer_is_held_where_its_tokens_are_told(service: SelectionService) -> None:
    answer = list(range(500, 529))
    await service.select_and_reserve("r", PROMPT, ["a"])
    await service.on_request_completed("r", answer)
    next_turn = await service.select_worker("s", PROMPT + answer + [1], ["a"])
    assert next_turn["overlap_tokens"] == 128


async def test_a_request_id_may_be_used_again(service: SelectionService) -> None:
    for _ in range(3):
        await service.select_and_reserve("r", PROMPT, ["a"])
        assert await booked(service) == {"a": (1, 100 if not _ else 4)}
        await service.on_request_completed("r")
    assert await booked(service) == {}


async def test_a_booking_made_elsewhere(service: SelectionService) -> None:
    assert await service.on_request_added("r", "c", PROMPT, expected_output_tokens=10)
    assert await service.on_request_added("r", "c", PROMPT)
    assert await booked(service) == {"c": (1, 100)}
    assert (await service.select_and_reserve("r", PROMPT))["worker_id"] == "c"
    assert await service.on_request_added("r", "a", PROMPT)
    assert await booked(service) == {"a": (1, 100)}
    with pytest.raises(kvroute.UnknownWorker):
        await service.on_request_added("r2", "nobody", PROMPT)


# News that come in another order.


async def test_news_before_their_booking_count_when_it_comes(service: SelectionService) -> None:
    await service.on_first_token("r")
    await service.on_decode_progress("r", 32)
    await service.on_decode_progress("r", 16)
    await service.on_request_added("r", "a", PROMPT)
    await service.on_request_added("in order", "b", PROMPT)
    await service.on_first_token("in order")
    await service.on_decode_progress("in order", 32)
    assert await booked(service) == {"a": (1, 0), "b": (1, 0)}
    now = await states(service)
    assert now["a"]["active_blocks"] == now["b"]["active_blocks"]


async def test_an_end_before_its_booking_is_remembered(service: SelectionService) -> None:
    await service.on_first_token("r")
    await service.on_request_completed("r")
    assert not await service.on_request_added("r", "a", PROMPT)
    assert await booked(service) == {}


async def test_a_late_copy_of_a_booking_is_left_out(service: SelectionService) -> None:
    await service.select_and_reserve("r", PROMPT, ["a"])
    await service.on_request_completed("r")
    await service.on_decode_progress("r", 32)
    assert not await service.on_request_added("r", "a", PROMPT)
    assert await booked(service) == {}


async def test_news_that_came_too_early_are_forgotten(
    service: SelectionService, clock: kvroute.VirtualClock
) -> None:
    await service.on_first_token("r1")
    await service.on_request_completed("r2")
    clock.advance(10.0)
    assert await service.on_request_added("r1", "a", PROMPT)
    assert await service.on_request_added("r2", "b", PROMPT)
    assert await booked(service) == {"a": (1, 100), "b": (1, 100)}


async def test_early_news_are_bounded(
    monkeypatch: pytest.MonkeyPatch, clock: kvroute.VirtualClock
) -> None:
    monkeypatch.setattr(selection_requests, "MAX_EARLY_REQUESTS", 3)
    service = SelectionService(block_size=16, clock=clock)
    for i in range(4):
        await service.on_first_token(f"r{i}")
        await service.upsert_worker(i)
    for i in range(4):
        await service.on_request_added(f"r{i}", i, PROMPT)
    assert await booked(service) == {0: (1, 100), 1: (1, 0), 2: (1, 0), 3: (1, 0)}
    await service.close()


async def test_bookings_are_bounded(
    monkeypatch: pytest.MonkeyPatch, clock: kvroute.VirtualClock
) -> None:
    monkeypatch.setattr(selection_requests, "MAX_REQUESTS", 2)
    service = SelectionService(block_size=16, clock=clock)
    for i in range(3):
        await service.upsert_worker(i)
        await service.on_request_added(f"r{i}", i, PROMPT)
    assert await booked(service) == {1: (1, 100), 2: (1, 100)}
    await service.close()


async def test_a_booking_without_news_is_dropped(
    service: SelectionService, clock: kvroute.VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    await service.select_and_reserve("silent", PROMPT, ["a"])
    await service.select_and_reserve("heard", PROMPT, ["b"])
    clock.advance(60.0)
    await service.on_decode_progress("heard", 1)
    clock.advance(60.0)
    with caplog.at_level(logging.WARNING, "kvroute"):
        await service.on_request_completed("another")
    assert await booked(service) == {"b": (1, 100)}
    assert "1 bookings were dropped" in caplog.text


async def test_lifecycle_events_by_one_call(
    service: SelectionService, caplog: pytest.LogCaptureFixture
) -> None:
    await service.select_and_reserve("r1", PROMPT, ["a"])
    await service.select_and_reserve("r2", PROMPT, ["b"])
    with caplog.at_level(logging.WARNING, "kvroute"):
        await service.on_lifecycle_events(
            [
                ("on_prefill_complete", ("r1",)),
                ("close", ()),
                ("on_decode_progress", ("r1",)),
                ("on_decode_progress", ("r1", 10)),
                ("on_request_completed", ("r2",)),
            ]
        )
    assert await booked(service) == {"a": (1, 0)}
    assert len(caplog.records) == 2


# Workers.


async def test_ids_are_strings_or_unsigned_integers(clock: kvroute.VirtualClock) -> None:
    service = SelectionService(clock=clock)
    ids = [0, "0", 2**63 - 1, 2**63, BIGGEST_ID]
    for worker_id in ids:
        await service.upsert_worker(worker_id)
    for worker_id in ids:
        assert (await service.select_worker("r", PROMPT, [worker_id]))["worker_id"] == worker_id
    assert [state["worker_id"] for state in await service.list_workers()] == ids
    for wrong in (-1, 2**64, True, 1.5):
        with pytest.raises(kvroute.InvalidArgument, match="worker_id"):
            await service.upsert_worker(wrong)  # type: ignore[arg-type]  # that is the test
    await service.close()


async def test_a_worker_that_leaves_takes_its_requests_along(service: SelectionService) -> None:
    await service.select_and_reserve("r", PROMPT, ["a"])
    await service.on_request_completed("r")
    await service.select_and_reserve("r", PROMPT, ["a"])
    await service.delete_worker("a")
    await service.on_first_token("r")  # sent before it left
    assert await service.on_request_added("s", "b", PROMPT)
    assert (await service.select_and_reserve("r", PROMPT, ["a", "c"]))["worker_id"] == "c"
    assert await booked(service) == {"b": (1, 100), "c": (1, 100)}
    with pytest.raises(kvroute.UnknownWorker):
        await service.delete_worker("a")


async def test_a_worker_with_the_same_facts_stays_as_it_is(service: SelectionService) -> None:
    await service.select_and_reserve("r", PROMPT, ["a"])
    await service.upsert_worker("a")
    assert await booked(service) == {"a": (1, 100)}
    await service.upsert_worker("a", total_blocks=50)
    assert await booked(service) == {}
    assert (await service.select_worker("s", PROMPT, ["a"]))["overlap_tokens"] == 0


async def test_a_worker_whose_new_facts_are_no_good_is_gone(service: SelectionService) -> None:
    await service.select_and_reserve("r", PROMPT, ["a"])
    with pytest.raises(kvroute.InvalidArgument, match="kv_events"):
        await service.upsert_worker("a", kv_events="nowhere")
    assert (await service.select_and_reserve("r", PROMPT))["worker_id"] != "a"


async def test_ranks_count_from_the_one_that_a_worker_starts_with(
    service: SelectionService,
) -> None:
    await service.upsert_worker("ranked", dp_start_rank=4, dp_ranks=2)
    assert await service.on_request_added("r", "ranked", PROMPT, dp_rank=5)
    choice = await service.select_worker("s", PROMPT, ["ranked"])
    assert (choice["dp_rank"], choice["overlap_tokens"]) == (4, 0)  # 5 is busy with it
    await service.on_first_token("r")
    await service.on_request_completed("r")
    choice = await service.select_worker("s", PROMPT, ["ranked"])
    assert (choice["dp_rank"], choice["overlap_tokens"]) == (5, 96)
    for rank in (3, 6):
        with pytest.raises((kvroute.InvalidArgument, kvroute.UnknownWorker)):
            await service.on_request_added("q", "ranked", PROMPT, dp_rank=rank)


async def test_workers_in_the_shape_that_ray_gives_them(clock: kvroute.VirtualClock) -> None:
    service = SelectionService(clock=clock)
    await service.upsert_worker(
        {
            "worker_id": BIGGEST_ID,
            "model_name": "default",
            "tenant_id": "default",
            "endpoint": "ray://replica",
            "block_size": 64,
            "max_num_batched_tokens": 8192,
            "data_parallel_start_rank": 1,
            "data_parallel_size": 2,
            "kv_events_endpoints": {1: "tcp://127.0.0.1:1", 2: "tcp://127.0.0.1:2"},
            "replay_endpoint": "tcp://127.0.0.1:3",
        }
    )
    await service.upsert_worker("next")  # has the block size of the first one
    for worker_id, rank in ((BIGGEST_ID, 2), ("next", 0)):
        assert await service.on_request_added(f"r {worker_id}", worker_id, PROMPT, dp_rank=rank)
    choice = await service.select_worker("s", PROMPT, ["next"])
    assert choice["overlap_tokens"] == 64
    await service.close()


async def test_fields_that_nobody_knows_are_refused(service: SelectionService) -> None:
    with pytest.raises(kvroute.InvalidArgument, match="got 'blocksize'"):
        await service.upsert_worker("d", blocksize=16)
    with pytest.raises(kvroute.InvalidArgument, match="worker_id"):
        await service.upsert_worker({"block_size": 16})
    with pytest.raises(kvroute.InvalidArgument, match=r"each of the ranks \[0, 1\], got .* \[0\]"):
        await service.upsert_worker("d", dp_ranks=2, kv_events={0: "tcp://127.0.0.1:1"})
    assert "d" not in await states(service)


async def test_what_an_engine_reports_counts(clock: kvroute.VirtualClock) -> None:
    service = SelectionService(block_size=16, clock=clock, max_waiting=4)
    for worker_id in ("a", "b"):
        await service.upsert_worker(worker_id)
    await service.update_load("a", waiting=5)
    assert (await service.select_worker("r", PROMPT))["worker_id"] == "b"
    await service.update_load("b", 0, waiting=5)
    with pytest.raises(kvroute.Overloaded):
        await service.select_worker("r", PROMPT)
    await service.close()


async def test_a_policy_and_the_router_s_options(clock: kvroute.VirtualClock) -> None:
    service = SelectionService(policy="round_robin", clock=clock, memory_limit="64MiB")
    for worker_id in range(3):
        await service.upsert_worker(worker_id)
    chosen = [(await service.select_worker("r", PROMPT))["worker_id"] for _ in range(6)]
    assert sorted(chosen) == [0, 0, 1, 1, 2, 2]
    await service.close()
    with pytest.raises(kvroute.InvalidArgument, match="policy"):
        SelectionService(policy="nearest")


async def test_nothing_is_chosen_after_the_end(service: SelectionService) -> None:
    await service.close()
    with pytest.raises(kvroute.InvalidArgument):
        await service.select_worker("r", PROMPT)


def test_the_example_of_the_documentation_runs() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    (example,) = [block for block in blocks if "SelectionService" in block]
    exec(compile(example, DOCUMENT.name, "exec"), {})
