"""KvRouter: what each mistake is told."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import kvroute
import pytest

PROMPT = list(range(160))  # ten blocks of 16


def test_each_mistake_has_its_own_error(router: kvroute.KvRouter) -> None:
    with pytest.raises(kvroute.InvalidArgument, match="^token_ids: expected at least one"):
        router.select_worker([])
    with pytest.raises(kvroute.InvalidArgument, match="^allowed: .* at least one worker, got none"):
        router.select_worker(PROMPT, allowed=[])
    with pytest.raises(kvroute.InvalidArgument, match="^allowed: .* got the str 'w0'"):
        router.select_worker(PROMPT, allowed="w0")
    with pytest.raises(kvroute.InvalidArgument, match="^allowed: .* got float"):
        router.select_worker(PROMPT, allowed=[1.5])  # type: ignore[list-item]
    with pytest.raises(kvroute.UnknownWorker, match='^allowed: .* got "w9"'):
        router.select_worker(PROMPT, allowed=["w0", "w9"])
    with pytest.raises(kvroute.UnknownWorker, match="^worker: .* got 0"):
        router.remove_worker(0)
    empty = kvroute.KvRouter(16)
    with pytest.raises(kvroute.NoEligibleWorker, match="^no workers"):
        empty.select_worker(PROMPT)


def test_errors_are_the_builtin_ones_too() -> None:
    assert issubclass(kvroute.InvalidArgument, (ValueError,))
    assert issubclass(kvroute.UnknownWorker, (KeyError,))
    assert issubclass(kvroute.NoEligibleWorker, (RuntimeError,))
    for error in (kvroute.InvalidArgument, kvroute.UnknownWorker, kvroute.NoEligibleWorker):
        assert issubclass(error, kvroute.KvRouteError)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"block_size": 0}, "block_size: expected 1 to 65536 tokens, got 0"),
        ({"block_size": -1}, "block_size: expected an integer from 0 to 4294967295, got -1"),
        ({"block_size": 16, "policy": "best"}, "policy: expected one of .* got 'best'"),
        ({"block_size": 16, "memory_limit": "lots"}, "memory_limit: .* got the str 'lots'"),
        ({"block_size": 16, "memory_limit": -1}, "memory_limit: .* got the int -1"),
        ({"block_size": 16, "memory_limit": 1.5}, "memory_limit: .* got the float 1.5"),
        ({"block_size": 16, "memory_limit": 10}, "memory_limit: .* 10"),
        ({"block_size": 16, "predicted_ttl": 0}, "predicted_ttl: expected seconds"),
        ({"block_size": 16, "reservation_ttl": float("nan")}, "reservation_ttl: expected seconds"),
    ],
    ids=str,
)
def test_a_router_refuses_bad_options(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(kvroute.InvalidArgument, match=f"^{message}"):
        kvroute.KvRouter(**arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"worker": "w0"}, 'worker: expected a name that is not in use, got "w0"'),
        ({"worker": 1.5}, "worker: expected a str or an int, got float"),
        ({"worker": True}, "worker: expected a str or an int, got bool"),
        ({"worker": 2**70}, "worker: expected a str or an int of 64 bits"),
        ({"worker": "x", "dp_ranks": 0}, "dp_ranks: expected 1 to 4096, got 0"),
        ({"worker": "x", "dp_ranks": 4095}, "dp_ranks: expected at most 4093"),
        ({"worker": "x", "block_size": 0}, "block_size: expected 1 to 65536"),
        ({"worker": "x", "kv_events": "localhost:5557"}, "kv_events: expected an endpoint like"),
        ({"worker": "x", "kv_events": "tcp://a:99999"}, "kv_events: expected an endpoint like"),
        ({"worker": "x", "kv_events": 7}, "kv_events: expected None, an endpoint, or a list"),
        (
            {"worker": "x", "dp_ranks": 3, "kv_events": ["tcp://a:1", "tcp://a:2"]},
            "kv_events: expected one endpoint, or one for each of the 3 ranks, got 2",
        ),
        (
            {"worker": "x", "dp_ranks": 3, "kv_events": "tcp://a:65534"},
            "kv_events: expected ports up to 65535 for all 3 ranks",
        ),
        ({"worker": "x", "kv_replay": "tcp://a:1"}, "kv_replay: expected none without kv_events"),
        (
            {"worker": "x", "total_blocks": 0},
            "total_blocks: expected an integer from 1 to .* got 0",
        ),
    ],
    ids=str,
)
def test_add_worker_refuses_bad_specs_and_changes_nothing(
    router: kvroute.KvRouter, arguments: dict[str, object], message: str
) -> None:
    with pytest.raises(kvroute.InvalidArgument, match=f"^{message}"):
        router.add_worker(**arguments)  # type: ignore[arg-type]
    assert router.workers() == ["w0", "w1", "w2"]
    assert len(router.stats().targets) == 3


def wrong_types(router: kvroute.KvRouter) -> list[tuple[str, Callable[[], object]]]:
    """A call with an argument of a wrong type or range, and the field that must be named."""
    r: Any = router
    index: Any = kvroute.PrefixIndex()
    make: Any = kvroute.KvRouter
    running: Any = router.reserve(PROMPT)
    return [
        ("lora", lambda: r.select_worker(PROMPT, lora=5)),
        ("salt", lambda: r.select_worker(PROMPT, salt=b"x")),
        ("namespace", lambda: r.reserve(PROMPT, namespace=1.5)),
        ("session_id", lambda: r.select_worker(PROMPT, session_id=7)),
        ("salt", lambda: r.select_worker(PROMPT, salt="\ud800")),
        ("assume_kv_reuse", lambda: r.select_worker(PROMPT, assume_kv_reuse=1)),
        ("track_prefill_tokens", lambda: r.reserve(PROMPT, track_prefill_tokens="no")),
        ("request_id", lambda: r.reserve(PROMPT, request_id=7)),
        ("request_id", lambda: r.reserve(PROMPT, request_id="")),
        ("expected_output_tokens", lambda: r.reserve(PROMPT, expected_output_tokens="3")),
        ("num_tokens", lambda: r.select_worker_by_hashes([], 2**70)),
        ("num_tokens", lambda: r.select_worker_by_hashes([], True)),
        ("output_tokens", lambda: running.progress("x")),
        ("output_tokens", lambda: running.progress(-1)),
        ("output_token_ids", lambda: running.release("abc")),
        ("waiting", lambda: r.update_load("w0", waiting="3")),
        ("kv_usage", lambda: r.update_load("w0", kv_usage="half")),
        ("dp_rank", lambda: r.update_load("w0", dp_rank=-1)),
        ("labels", lambda: r.add_worker("x", labels={"a": 1})),
        ("labels", lambda: r.add_worker("x", labels=[1])),
        ("worker", lambda: r.add_worker("\ud800")),
        ("kv_events", lambda: r.add_worker("x", kv_events=[5])),
        ("dp_rank", lambda: index.store("w", [1], [1], dp_rank=-1)),
        ("dp_rank", lambda: index.clear("w", dp_rank="0")),
        ("parent", lambda: index.store("w", [1], [1], parent="7")),
        ("block_size", lambda: make("16")),
        ("block_size", lambda: make(True)),
        ("policy", lambda: make(16, policy=3)),
        ("policy", lambda: make(16, policy=None)),
        ("seed", lambda: make(16, seed=-1)),
        ("predicted_ttl", lambda: make(16, predicted_ttl="long")),
    ]


def test_a_wrong_type_is_refused_by_the_argument_s_name(router: kvroute.KvRouter) -> None:
    for field, call in wrong_types(router):
        with pytest.raises(kvroute.InvalidArgument, match=f"^{field}: expected"):
            call()


def test_a_closed_router_refuses_and_its_reservations_do_nothing(router: kvroute.KvRouter) -> None:
    reservation = router.reserve(PROMPT)
    router.close()
    router.close()
    reservation.first_token()
    reservation.progress(3)
    reservation.release([1, 2])
    for call in (
        lambda: router.select_worker(PROMPT),
        lambda: router.reserve(PROMPT),
        lambda: router.add_worker("x"),
        lambda: router.stats(),
        lambda: router.workers(),
        lambda: router.remove_worker("w0"),
    ):
        with pytest.raises(kvroute.InvalidArgument, match="^router: it has been closed"):
            call()


def test_a_router_refuses_pickling(router: kvroute.KvRouter) -> None:
    with pytest.raises(TypeError, match="KvRouter cannot be pickled"):
        pickle.dumps(router)
