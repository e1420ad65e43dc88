"""What replicas state of their engines, through the mixin or through EngineFacts."""

from __future__ import annotations

import inspect
import logging
from typing import Any

import pytest
from kvroute.ray_serve import EngineFacts, InvalidOptionsError, KvRouteReplica, engine_facts
from kvroute.ray_serve import replica as replica_module

pytest.importorskip("ray.serve")


@pytest.fixture(autouse=True)
def node(monkeypatch: pytest.MonkeyPatch) -> None:
    """This node's address, in a cluster with others."""
    monkeypatch.setattr(engine_facts, "_node_address", lambda: "10.0.0.7")
    monkeypatch.setattr(engine_facts, "_is_only_node", lambda: False)


LOAD = {"waiting": 1, "running": 2, "kv_usage": 0.5}


class Model(KvRouteReplica):
    """Calls no constructor of the mixin, as users forget to."""

    load: Any = None

    def __init__(self, **facts: Any) -> None:
        if facts:
            self.kvroute_engine(**facts)

    def kvroute_load(self) -> Any:
        return self.load


# Facts.


def test_facts_are_stated_under_our_name_without_what_is_not_known() -> None:
    facts = EngineFacts("tcp://10.1.1.1:5557", block_size=16, labels={"zone": "a"})
    assert facts.metadata() == {
        "kvroute": {
            "kv_events": "tcp://10.1.1.1:5557",
            "block_size": 16,
            "dp_ranks": 1,
            "labels": {"zone": "a"},
        }
    }


@pytest.mark.parametrize("host", ["*", "0.0.0.0", "[::]", "127.0.0.1", "localhost", "[::1]"])
def test_what_only_the_node_understands_becomes_its_address(host: str) -> None:
    facts = EngineFacts(f"tcp://{host}:5557", f"tcp://{host}:6557", [f"tcp://{host}:7557"])
    assert facts.metadata()["kvroute"] == {
        "kv_events": "tcp://10.0.0.7:5557",
        "kv_replay": "tcp://10.0.0.7:6557",
        "load_events": ["tcp://10.0.0.7:7557"],
        "dp_ranks": 1,
    }


@pytest.mark.parametrize(
    "endpoint", ["tcp://10.1.1.1:5557", "tcp://engine-3:5557", "ipc:///run/engine"]
)
def test_other_addresses_stay(endpoint: str) -> None:
    assert EngineFacts(endpoint).metadata()["kvroute"]["kv_events"] == endpoint


def test_loopback_stays_on_the_clusters_only_node(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_facts, "_is_only_node", lambda: True)
    facts = EngineFacts("tcp://127.0.0.1:5557", "tcp://*:6557").metadata()["kvroute"]
    assert facts["kv_events"] == "tcp://127.0.0.1:5557"
    assert facts["kv_replay"] == "tcp://10.0.0.7:6557"


def test_a_node_of_the_newer_internet_has_its_address_in_brackets(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(engine_facts, "_node_address", lambda: "fd00::7")
    facts = EngineFacts("tcp://*:5557").metadata()["kvroute"]
    assert facts["kv_events"] == "tcp://[fd00::7]:5557"


@pytest.mark.parametrize(
    ("facts", "field"),
    [
        ({"kv_events": "5557"}, "kv_events"),
        ({"kv_events": "tcp://*"}, "kv_events"),
        ({"kv_events": "tcp://*:0"}, "kv_events"),
        ({"kv_events": "tcp://*:70000"}, "kv_events"),
        ({"kv_events": "http://engine:5557"}, "kv_events"),
        ({"kv_replay": ["tcp://*:5557", 5558]}, r"kv_replay\[1\]"),
        ({"load_events": []}, "load_events"),
        ({"load_events": 5557}, "load_events"),
        ({"block_size": 0}, "block_size"),
        ({"dp_ranks": "2"}, "dp_ranks"),
        ({"total_blocks": True}, "total_blocks"),
        ({"labels": {"zone": 1}}, "labels"),
        ({"labels": ["zone"]}, "labels"),
    ],
)
def test_facts_that_nobody_could_use_are_refused(facts: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidOptionsError, match=f"^{field}: expected "):
        Model(**facts)


# Load.


def test_load_is_stated_with_a_growing_stamp() -> None:
    facts = EngineFacts()
    facts.metadata()
    assert facts.stats(LOAD) == {"kvroute": {"load": [LOAD], "stamp": 1}}
    assert facts.stats([LOAD, LOAD]) == {"kvroute": {"load": [LOAD, LOAD], "stamp": 2}}


def test_without_load_the_stats_never_change_so_that_ray_spreads_nothing() -> None:
    facts = EngineFacts(block_size=16)
    facts.metadata()
    assert facts.stats() == facts.stats() == {}


def test_a_ray_that_never_asks_for_metadata_gets_the_facts_with_the_load() -> None:
    facts = EngineFacts(block_size=16)
    assert facts.stats() == {"kvroute": {"block_size": 16, "dp_ranks": 1}}
    stated = facts.stats(LOAD)["kvroute"]
    assert (stated["block_size"], stated["load"]) == (16, [LOAD])


# The mixin.


async def test_a_replica_that_states_nothing_says_nothing() -> None:
    model = Model()
    assert await model.record_replica_metadata() == {}
    assert await model.record_routing_stats() == {}


async def test_the_mixin_answers_both_of_rays_hooks() -> None:
    model = Model(block_size=16)
    model.load = LOAD
    assert await model.record_replica_metadata() == {"kvroute": {"block_size": 16, "dp_ranks": 1}}
    assert await model.record_routing_stats() == {"kvroute": {"load": [LOAD], "stamp": 1}}


async def test_load_may_be_stated_without_facts_and_awaited() -> None:
    class Awaited(Model):
        async def kvroute_load(self) -> Any:
            return LOAD

    model = Awaited()
    await model.record_replica_metadata()
    stated = (await model.record_routing_stats())["kvroute"]
    assert stated["load"] == [LOAD]


async def test_an_engine_that_cannot_say_its_load_harms_nobody(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Failing(Model):
        def kvroute_load(self) -> Any:
            raise RuntimeError("engine")

    model = Failing(block_size=16)
    await model.record_replica_metadata()
    with caplog.at_level(logging.WARNING, "ray.serve"):
        assert await model.record_routing_stats() == {}
        assert await model.record_routing_stats() == {}
    assert len(caplog.records) == 1


class Own:
    def __init__(self, name: str) -> None:
        self.name = name

    def record_replica_metadata(self) -> dict[str, Any]:
        return {"own": self.name}

    async def record_routing_stats(self) -> dict[str, Any] | None:
        return None


class Both(KvRouteReplica, Own):
    async def record_routing_stats(self) -> dict[str, Any]:
        return {**await super().record_routing_stats(), "mine": 1}


async def test_hooks_of_other_bases_and_of_the_class_itself_stay() -> None:
    model = Both("a")
    model.kvroute_engine(block_size=16)
    assert await model.record_replica_metadata() == {
        "own": "a",
        "kvroute": {"block_size": 16, "dp_ranks": 1},
    }
    assert await model.record_routing_stats() == {"mine": 1}


def test_a_base_that_makes_its_objects_itself_gets_the_arguments() -> None:
    class Made:
        def __new__(cls, name: str) -> Any:
            made = super().__new__(cls)
            made.made_of = name  # type: ignore[attr-defined]
            return made

    class Combined(KvRouteReplica, Made):
        def __init__(self, name: str) -> None:
            pass

    assert Combined("a").made_of == "a"  # type: ignore[attr-defined]


def test_bad_options_fail_the_replica_before_its_model_is_loaded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse() -> None:
        raise InvalidOptionsError("request_router_kwargs.policy", "another", "'best'")

    monkeypatch.setattr(replica_module, "check_own_deployment", refuse)

    class Loading(KvRouteReplica):
        def __init__(self) -> None:
            raise AssertionError("loaded")

    with pytest.raises(InvalidOptionsError, match="request_router_kwargs.policy"):
        Loading()


def test_mixin_and_facts_take_the_same() -> None:
    of_mixin = inspect.signature(KvRouteReplica.kvroute_engine).parameters
    of_facts = inspect.signature(EngineFacts.__init__).parameters
    assert list(of_mixin.values()) == list(of_facts.values())
