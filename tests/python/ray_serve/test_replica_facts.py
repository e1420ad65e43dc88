"""What replicas state: read from either of Ray's two channels, in our form or Ray LLM's."""

from __future__ import annotations

import kvroute
import pytest
from kvroute.ray_serve.replica_facts import MalformedFactsError, ReplicaFacts, ReplicaLoad
from serve_fakes import FakeReplica

STATED = {
    "block_size": 32,
    "dp_ranks": 2,
    "kv_events": "tcp://10.0.0.1:5557",
    "kv_replay": ["tcp://10.0.0.1:5600", "tcp://10.0.0.1:5601"],
    "total_blocks": 1000,
    "labels": {"zone": "a"},
}


@pytest.mark.parametrize("channel", ["metadata", "stats"])
def test_facts_are_read_from_the_metadata_and_else_from_the_stats(channel):
    facts = ReplicaFacts.of(FakeReplica("a", **{channel: {"kvroute": STATED, "mine": 1}}))
    assert facts == ReplicaFacts(
        32,
        2,
        "tcp://10.0.0.1:5557",
        ("tcp://10.0.0.1:5600", "tcp://10.0.0.1:5601"),
        None,
        1000,
        (("zone", "a"),),
    )


def test_facts_of_the_metadata_count_beside_load_in_the_stats():
    replica = FakeReplica("a", {"kvroute": STATED}, {"kvroute": {"load": [], "stamp": 1}})
    assert ReplicaFacts.of(replica).block_size == 32


def test_a_replica_that_states_nothing_is_predicted():
    assert ReplicaFacts.of(FakeReplica("a")) == ReplicaFacts()
    bare = FakeReplica("a")
    del bare.replica_metadata  # a Ray that has none
    bare.routing_stats = None
    assert ReplicaFacts.of(bare) == ReplicaFacts()
    assert ReplicaLoad.of(bare) is None


def test_ray_llm_facts_are_understood_and_its_own_address_is_made_the_nodes():
    stated = {
        "endpoint": "tcp://*:5557",
        "replay_endpoint": "tcp://0.0.0.0:6557",
        "block_size": 16,
        "max_num_batched_tokens": 8192,
        "dp_rank": 1,
    }
    replica = FakeReplica("a", stats={"kv_event_metadata": stated}, node_ip="10.1.2.3")
    facts = ReplicaFacts.of(replica)
    assert facts.kv_events == "tcp://10.1.2.3:5557"
    assert facts.kv_replay == "tcp://10.1.2.3:6557"
    assert (facts.block_size, facts.dp_ranks) == (16, 1)


def test_an_address_of_version_six_is_bracketed():
    stated = {"kvroute": {"kv_events": ["tcp://*:1", "tcp://[::]:2"]}}
    facts = ReplicaFacts.of(FakeReplica("a", stated, node_ip="fd00::1"))
    assert facts.kv_events == ("tcp://[fd00::1]:1", "tcp://[fd00::1]:2")


@pytest.mark.parametrize(
    ("stated", "message"),
    [
        (7, "kvroute: expected a mapping, got 7"),
        ({"block_size": "16"}, "block_size: expected an integer from 1, got '16'"),
        ({"block_size": True}, "block_size: expected an integer from 1, got True"),
        ({"dp_ranks": 0}, "dp_ranks: expected an integer from 1, got 0"),
        ({"kv_events": [1]}, r"kv_events: expected an endpoint or a list of them, got \[1\]"),
        ({"labels": {"zone": 1}}, "labels: expected a mapping of texts, got"),
    ],
)
def test_malformed_facts_name_the_field_and_what_came(stated, message):
    with pytest.raises(MalformedFactsError, match=message):
        ReplicaFacts.of(FakeReplica("a", {"kvroute": stated}))


def test_an_endpoint_that_only_the_replica_could_use_is_malformed():
    replica = FakeReplica("a", {"kvroute": {"kv_events": "tcp://*:5557"}}, node_ip=None)
    with pytest.raises(MalformedFactsError, match="kv_events: expected an address to connect to"):
        ReplicaFacts.of(replica)


@pytest.mark.parametrize("load", [{"waiting": 3}, [{"waiting": 3}]])
def test_load_is_reported_for_each_rank(load):
    with kvroute.KvRouter(16) as router:
        router.add_worker("a")
        report = ReplicaLoad.of(FakeReplica("a", stats={"kvroute": {"load": load, "stamp": 4}}))
        assert report.stamp == 4
        report.report_to(router, "a")
        assert router.stats().targets[0].waiting == 3


@pytest.mark.parametrize("load", [3, ["x"], "busy"])
def test_malformed_load_is_told(load):
    replica = FakeReplica("a", stats={"kvroute": {"load": load, "stamp": 1}})
    with pytest.raises(MalformedFactsError, match="load: expected a mapping for each rank"):
        ReplicaLoad.of(replica)
