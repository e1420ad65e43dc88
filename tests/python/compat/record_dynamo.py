"""Records what `ai-dynamo-runtime` answers, for the tests where it is not installed:

python tests/python/compat/record_dynamo.py
"""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

from dynamo._core import RadixTree, compute_block_hash_for_seq
from dynamo_streams import Fleet, Step, take

RECORDED = Path(__file__).with_name("dynamo_recorded.json")

TOKENS = list(range(10))


def objects(*hashes: int) -> dict[str, Any]:
    return {"mm_objects": [{"mm_hash": found, "offsets": []} for found in hashes]}


HASHED: list[tuple[Any, ...]] = [
    (TOKENS, 4),
    (TOKENS, 1),
    (TOKENS, 11),
    ([], 4),
    ([0, 2**32 - 1, 7], 3),
    (TOKENS, 4, None, "lora"),
    (TOKENS, 4, None, "aé"),
    (TOKENS, 4, None, ""),
    (TOKENS, 4, None, None, None, "salt"),
    (TOKENS, 4, None, "lora", None, "salt"),
    (TOKENS, 4, None, None, True),
    (list(range(9)), 4, None, None, True),
    (list(range(8)), 4, None, "lora", True),
    ([1], 4, None, None, True),
    (TOKENS, 4, []),
    (TOKENS, 4, [objects()]),
    (TOKENS, 4, [objects(7, 3)]),
    (TOKENS, 4, [None, objects(3, 3)]),
    (TOKENS, 4, [objects(2**64 - 1)] * 4, "lora"),
    (list(range(9)), 4, [objects(5)], None, True),
]

BAD_EVENTS = [
    "",
    "{}",
    "[]",
    "nonsense",
    '{"event_id":0}',
    '{"data":"cleared"}',
    '{"event_id":-1,"data":"cleared"}',
    '{"event_id":true,"data":"cleared"}',
    '{"event_id":"0","data":"cleared"}',
    '{"event_id":18446744073709551616,"data":"cleared"}',
    '{"event_id":0,"data":null}',
    '{"event_id":0,"data":"what"}',
    '{"event_id":0,"data":{"cleared":{}}}',
    '{"event_id":0,"data":"cleared","dp_rank":-1}',
    '{"event_id":0,"data":"cleared","dp_rank":null}',
    '{"event_id":0,"data":"cleared","dp_rank":4294967296}',
    '{"event_id":0,"data":"cleared"} x',
    '{"event_id":0,"data":"cleared","extra":NaN}',
    '{"event_id":0,"data":{"stored":null}}',
    '{"event_id":0,"data":{"removed":{}}}',
    '{"event_id":0,"data":{"stored":{"parent_hash":null,"blocks":[]},"cleared":null}}',
    '{"event_id":0,"data":{"stored":{"parent_hash":null,"blocks":[{"block_hash":1}]}}}',
    '{"event_id":0,"data":{"stored":{"blocks":[{"block_hash":1.0,"tokens_hash":2}]}}}',
    '{"event_id":0,"data":{"stored":{"blocks":[{"block_hash":"1","tokens_hash":2}]}}}',
    '{"event_id":0,"data":{"stored":{"blocks":[{"block_hash":-1,"tokens_hash":2}]}}}',
    '{"event_id":0,"data":{"stored":{"blocks":[{"block_hash":1,"tokens_hash":-2}]}}}',
    '{"event_id":0,"data":{"stored":{"parent_hash":-1,"blocks":[]}}}',
    '{"event_id":0,"data":{"stored":{"start_position":-1,"blocks":[]}}}',
    '{"event_id":0,"data":{"removed":{"block_hashes":[-5]}}}',
    '{"event_id":0,"data":{"removed":{"block_hashes":[18446744073709551616]}}}',
]

GOOD_EVENTS = [
    '{"event_id":0,"data":"cleared"}',
    ' {"event_id":0,"data":{"cleared":null}}\n',
    '{"event_id":0,"data":{"stored":{"blocks":[]}},"storage_tier":"host"}',
    '{"event_id":0,"data":{"stored":{"parent_hash":null,"start_position":0,'
    '"blocks":[{"block_hash":1,"tokens_hash":2,"mm_extra_info":null,"extra":5}]}},"extra":1}',
    '{"event_id":18446744073709551615,"data":{"stored":{"parent_hash":1,'
    '"blocks":[{"block_hash":18446744073709551615,"tokens_hash":18446744073709551614}]}}}',
    '{"event_id":0,"data":{"stored":{"parent_hash":1,"blocks":[{"block_hash":1,"tokens_hash":3}]}}}',
    '{"event_id":0,"data":{"stored":{"parent_hash":1,'
    '"blocks":[{"block_hash":9,"tokens_hash":3},{"block_hash":1,"tokens_hash":4}]}}}',
    '{"event_id":0,"data":{"removed":{"block_hashes":[18446744073709551615]}}}',
    '{"event_id":0,"data":{"removed":{"block_hashes":[]}}}',
    '{"event_id":0,"data":{"removed":{"block_hashes":[777]}}}',
    '{"event_id":0,"data":{"removed":{"block_hashes":[777,1]}}}',
]


def stored(worker: int, parent: int | None, *blocks: tuple[int, int]) -> Step:
    listed = [{"block_hash": name, "tokens_hash": content} for name, content in blocks]
    data = {"stored": {"parent_hash": parent, "blocks": listed}}
    return {"worker": worker, "event": {"event_id": 0, "data": data}}


def removed(worker: int, *names: int) -> Step:
    return {
        "worker": worker,
        "event": {"event_id": 0, "data": {"removed": {"block_hashes": names}}},
    }


CHAIN = ((101, 11), (102, 12), (103, 13))
FIND = {"find": [11, 12, 13]}

# Where the two differ on purpose.
DIFFERENCES: dict[str, list[Step]] = {
    "a head that returns": [
        stored(1, None, *CHAIN), removed(1, 101), FIND, stored(1, None, CHAIN[0]), FIND,
    ],
    "a middle that returns": [
        stored(1, None, *CHAIN), removed(1, 102), FIND, stored(1, 101, CHAIN[1]), FIND,
    ],
    "a chain before its parent": [
        stored(1, 101, *CHAIN[1:]), FIND, stored(1, None, CHAIN[0]), FIND,
    ],
    "two workers' own names": [
        stored(1, None, *CHAIN[:2]), stored(2, None, (201, 11), (202, 12)),
        stored(2, 202, (203, 13)), FIND, removed(2, 202), FIND,
    ],
    "two names for one block": [
        stored(1, None, *CHAIN), stored(1, None, (201, 11)), removed(1, 101), FIND,
    ],
    "one name for other content": [
        stored(1, None, *CHAIN), stored(1, None, (103, 14)), FIND, removed(1, 103), FIND,
    ],
}  # fmt: skip


def recorded(steps: list[Step]) -> list[dict[str, Any]]:
    tree = RadixTree()
    return [{"step": step, "gives": take(tree, step)} for step in steps]


def main() -> None:
    events = [{"worker": 1, "event": event} for event in (*BAD_EVENTS, *GOOD_EVENTS)]
    record = {
        "package": f"ai-dynamo-runtime {version('ai-dynamo-runtime')}",
        "hashes": [
            {"of": list(arguments), "are": compute_block_hash_for_seq(*arguments)}
            for arguments in HASHED
        ],
        "events": recorded(events),
        "streams": [recorded(list(Fleet(seed).steps(60))) for seed in range(1000, 1004)],
        "differences": {name: recorded(steps) for name, steps in DIFFERENCES.items()},
    }
    RECORDED.write_text(json.dumps(record, separators=(",", ":")).replace('{"step"', '\n{"step"'))


if __name__ == "__main__":
    main()
