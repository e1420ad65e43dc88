"""In which order Serve is to try replicas."""

from __future__ import annotations

from kvroute.ray_serve.ranking import best_ranks, in_order, shuffled, tiers
from serve_fakes import FakeMember, FakeReplica, names

A, B, C, D = (FakeReplica(name) for name in "abcd")


class Placed(FakeMember):
    """With Ray's two mixins, as their contracts say."""

    def rank_replicas_via_locality(self, replicas):
        return [[r for r in replicas if r is A], [r for r in replicas if r is B], [C, D]]

    def rank_replicas_via_multiplex(self, replicas, model):
        assert model == "lora"
        return [[r for r in replicas if r is D], [], [r for r in replicas if r is not D]]


def test_without_a_preference_all_are_one_tier():
    assert names(tiers(Placed(), [A, B, C, D], "")) == [["a", "b", "c", "d"]]


def test_who_has_the_model_comes_first():
    assert names(tiers(Placed(), [A, B, C, D], "lora")) == [["d"], ["a", "b", "c"]]


def test_locality_counts_as_far_as_the_handle_prefers_it():
    member = Placed()
    member._prefer_local_node_routing = True
    assert names(tiers(member, [A, B, C, D], "")) == [["a"], ["b", "c", "d"]]
    member._prefer_local_az_routing = True
    assert names(tiers(member, [A, B, C, D], "")) == [["a"], ["b"], ["c", "d"]]
    member._prefer_local_node_routing = False
    assert names(tiers(member, [A, B, C, D], "")) == [["a", "b"], ["c", "d"]]


def test_who_has_no_room_comes_last_in_the_order_of_preference():
    member = Placed()
    member.full = {"d", "a"}
    assert names(tiers(member, [A, B, C, D], "lora")) == [["b", "c"], ["d"], ["a"]]
    member.full = set("abcd")
    assert names(tiers(member, [A, B, C, D], "")) == [["a", "b", "c", "d"]]


def test_a_replica_has_the_place_of_its_best_rank():
    ranks: dict[str, int] = {}
    best_ranks(ranks, ("b", 1), [("a", 0), ("b", 0), ("a", 1)])
    best_ranks(ranks, ("c", 2), [("a", 3)])
    assert list(ranks.items()) == [("b", 1), ("a", 0), ("c", 2)]


def test_each_ranked_replica_is_a_group_and_the_others_are_the_last_one():
    ranked = names(in_order([A, B, C, D], ["c", "gone", "a"]))
    assert ranked[:2] == [["c"], ["a"]]
    assert sorted(ranked[2]) == ["b", "d"]
    assert names(in_order([A], ["a"])) == [["a"]]


def test_shuffling_leaves_the_list_that_it_was_given():
    given = [A, B, C, D]
    assert sorted(names([shuffled(given)])[0]) == ["a", "b", "c", "d"]
    assert given == [A, B, C, D]
