"""In which order Serve is to try replicas.

Serve takes, from the first group to the last, whoever has room; inside a group it goes by queue
length. So an order is a group for each replica.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from typing import Any

Ranked = list[list[Any]]


def tiers(router: Any, candidates: Sequence[Any], model: str) -> Ranked:
    """The candidates in the groups that come one after the other whatever their caches hold; none
    is empty. `router`: with Ray's LocalityMixin and MultiplexMixin.

    A multiplexed model's: who has it, who has the fewest models, the others. Else the handle's
    preference for its node and zone, where it has one.
    """
    if model:
        groups = router.rank_replicas_via_multiplex(list(candidates), model)
    elif router._prefer_local_node_routing or router._prefer_local_az_routing:
        node, zone, others = router.rank_replicas_via_locality(list(candidates))
        if not router._prefer_local_az_routing:
            groups = [node, zone + others]
        elif router._prefer_local_node_routing:
            groups = [node, zone, others]
        else:
            groups = [node + zone, others]
    else:
        return [list(candidates)]
    return [group for group in groups if group]


def best_ranks(targets: Iterable[tuple[Any, int]]) -> dict[str, int]:
    """Of each worker, in the order of its best target: the rank of that."""
    ranks: dict[str, int] = {}
    for worker, rank in targets:
        ranks.setdefault(worker, rank)
    return ranks


def in_order(candidates: Sequence[Any], workers: Iterable[str]) -> Ranked:
    """A group for each candidate that the core ranked, and a last one of those that it did not."""
    by_name = {replica.replica_id.unique_id: replica for replica in candidates}
    ranked = [[by_name.pop(worker)] for worker in workers if worker in by_name]
    if by_name:
        ranked.append(shuffled(by_name.values()))
    return ranked


def shuffled(candidates: Iterable[Any]) -> list[Any]:
    """One group, for Serve to choose in: it takes the first of those with equally short queues."""
    group = list(candidates)
    random.shuffle(group)
    return group
