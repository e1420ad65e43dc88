"""In which order Serve is to try replicas.

Serve takes, from the first group to the last, whoever has room; inside a group it goes by queue
length. So an order is a group for each replica.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from typing import Any

Ranked = list[list[Any]]
Target = tuple[Any, int]


def tiers(router: Any, candidates: Sequence[Any], model: str) -> Ranked:
    """The candidates in groups that come one after the other whatever their caches hold; none is
    empty. `router`: with Ray's LocalityMixin and MultiplexMixin.

    Who has no room, as far as Serve knows, comes after all others: Serve would ask it first, and a
    request waits for each such answer. Otherwise by preference.
    """
    groups = _by_preference(router, candidates, model)
    with_room = [router.select_available_replicas(group) for group in groups]
    if sum(map(len, with_room)) == len(candidates):
        return groups
    full = [
        [replica for replica in group if replica not in room]
        for group, room in zip(groups, with_room, strict=True)
    ]
    return [group for group in with_room + full if group]


def _by_preference(router: Any, candidates: Sequence[Any], model: str) -> Ranked:
    """A multiplexed model's: who has it, who has the fewest models, the others. Else by node and
    zone, as far as the handle prefers its own."""
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


def best_ranks(ranks: dict[str, int], chosen: Target, others: Iterable[Target]) -> None:
    """Adds workers that are not there yet, in the order of their best target, and its rank."""
    ranks.setdefault(*chosen)
    for worker, rank in others:
        ranks.setdefault(worker, rank)


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
