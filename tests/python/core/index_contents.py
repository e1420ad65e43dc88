"""Indexes with some content, and all that they answer."""

from __future__ import annotations

import random
from typing import Any

import kvroute

LOCAL = [11, 12, 13, 14]
ENGINE = [101, 102, 103, 104]


def filled(seed: int) -> kvroute.PrefixIndex:
    """An index of some targets with common beginnings, holes, tiers and names of their own."""
    chance = random.Random(seed)
    index = kvroute.PrefixIndex()
    for worker in ("a", "b", 3, -4):
        for rank in range(2):
            for _ in range(12):
                prompt = [chance.randint(1, 3) for _ in range(chance.randint(1, 12))]
                own = 0 if worker == "a" else 1
                names = [hash((own, *prompt[: i + 1])) & (2**64 - 1) for i in range(len(prompt))]
                tier = chance.choice(["device", "device", "host", "external"])
                index.store(worker, names, prompt, dp_rank=rank, tier=tier)
                if chance.random() < 0.5:
                    index.remove(worker, chance.sample(names, 1), dp_rank=rank, tier=tier)
    return index


def requests_of(seed: int) -> list[list[int]]:
    chance = random.Random(seed)
    return [[chance.randint(1, 3) for _ in range(chance.randint(1, 12))] for _ in range(200)]


def answers(index: kvroute.PrefixIndex, seed: int) -> list[Any]:
    found = []
    for request in requests_of(seed):
        targets, depths = index.overlaps(request)
        found.append(sorted(map(repr, zip(targets, *depths, strict=True))))
    return found


def blocks(index: kvroute.PrefixIndex) -> set[tuple[Any, ...]]:
    """Every held block with its target, tier, parent and names, however the dump's chains are
    cut."""
    found = set()
    for _, worker, rank, parent, engine_hashes, local_hashes, tier in index.dump():
        before = [parent, *engine_hashes]
        for block in zip(before, engine_hashes, local_hashes, strict=False):
            found.add((worker, rank, tier, *block))
    return found
