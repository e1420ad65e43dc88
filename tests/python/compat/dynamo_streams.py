"""Event streams as orderly engines send them, in Dynamo's JSON, and how a tree takes them."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, Protocol

Step = dict[str, Any]
Scores = list[list[int]]


class Tree(Protocol):
    def find_matches(self, sequence: Any, early_exit: bool = False) -> Any: ...
    def apply_event(self, worker_id: int, kv_cache_event_bytes: bytes) -> None: ...
    def remove_worker(self, worker_id: int) -> None: ...
    def clear_all_blocks(self, worker_id: int) -> None: ...


def name_of(prefix: tuple[int, ...]) -> int:
    """The engines agree on this name of a prefix's last block."""
    return int.from_bytes(blake2b(repr(prefix).encode(), digest_size=8).digest(), "little")


@dataclass
class Rank:
    """What one rank of a worker holds: prefixes, each named by its tuple of local hashes."""

    held: set[tuple[int, ...]] = field(default_factory=set)

    def leaves(self) -> list[tuple[int, ...]]:
        parents = {prefix[:-1] for prefix in self.held}
        return sorted(self.held - parents)


class Fleet:
    """Workers that cache prompts with common beginnings, and evict from the ends."""

    def __init__(self, seed: int, workers: int = 4, ranks: int = 2) -> None:
        self.random = random.Random(seed)
        self.prompts: list[tuple[int, ...]] = [()]
        self.ranks = {(w, r): Rank() for w in range(workers) for r in range(ranks)}

    def prompt(self) -> tuple[int, ...]:
        """A prompt of before, cut somewhere and continued."""
        old = self.random.choice(self.prompts)
        cut = self.random.randint(0, len(old))
        new = tuple(self.random.randint(1, 6) for _ in range(self.random.randint(0, 8)))
        prompt = old[:cut] + new
        self.prompts.append(prompt)
        del self.prompts[1 : max(1, len(self.prompts) - 40)]
        return prompt

    def steps(self, count: int) -> Iterator[Step]:
        while count > 0:
            for step in self.some_steps():
                yield step
                count -= 1

    def some_steps(self) -> Iterator[Step]:
        worker, rank = target = self.random.choice(sorted(self.ranks))
        choice = self.random.random()
        if choice < 0.35:
            yield from self.store(target)
        elif choice < 0.55:
            yield from self.evict(target)
        elif choice < 0.97:
            yield {"find": list(self.prompt())}
        elif choice < 0.98:
            self.ranks[target].held.clear()
            yield {"worker": worker, "event": {"event_id": 3, "data": "cleared", "dp_rank": rank}}
        else:
            for (other, _), state in self.ranks.items():
                if other == worker:
                    state.held.clear()
            yield {self.random.choice(["remove_worker", "clear_all_blocks"]): worker}

    def store(self, target: tuple[int, int]) -> Iterator[Step]:
        held, prompt = self.ranks[target].held, self.prompt()
        known = 0
        while known < len(prompt) and prompt[: known + 1] in held:
            known += 1
        if self.random.random() < 0.2:
            known = 0  # some engines repeat the whole chain
        while known < len(prompt):
            end = self.random.randint(known + 1, len(prompt))
            prefixes = [prompt[: i + 1] for i in range(known, end)]
            blocks = [{"block_hash": name_of(p), "tokens_hash": p[-1]} for p in prefixes]
            parent = name_of(prompt[:known]) if known else None
            yield self.event(target, {"stored": {"parent_hash": parent, "blocks": blocks}})
            held.update(prefixes)
            known = end

    def evict(self, target: tuple[int, int]) -> Iterator[Step]:
        held, names = self.ranks[target].held, []
        for _ in range(self.random.randint(1, 6)):
            if not (leaves := self.ranks[target].leaves()):
                break
            leaf = self.random.choice(leaves)
            held.discard(leaf)
            names.append(name_of(leaf))
        if self.random.random() < 0.1:
            names.insert(0, self.random.getrandbits(64))
        if names:
            yield self.event(target, {"removed": {"block_hashes": names}})

    def event(self, target: tuple[int, int], data: dict[str, Any]) -> Step:
        worker, rank = target
        event: dict[str, Any] = {"event_id": 1, "data": data}
        if rank or self.random.random() < 0.5:
            event["dp_rank"] = rank
        return {"worker": worker, "event": event}


def take(tree: Tree, step: Step) -> Scores | str | None:
    """What a step gives: scores in order, or the name of the error."""
    try:
        if "find" in step:
            scores = tree.find_matches(step["find"]).scores
            return sorted([worker, rank, depth] for (worker, rank), depth in scores.items())
        if "event" in step:
            event = step["event"]
            text = event if isinstance(event, str) else json.dumps(event)
            tree.apply_event(step["worker"], text.encode())
        elif "remove_worker" in step:
            tree.remove_worker(step["remove_worker"])
        else:
            tree.clear_all_blocks(step["clear_all_blocks"])
    except ValueError:
        return "ValueError"
    except RuntimeError:
        return "RuntimeError"
    return None
