"""What bench_peers.py measures, against which targets, and its table."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median

# What one process prints; and those of all processes, by (index, mode, fill).
Result = dict[str, float]
Results = dict[tuple[str, str, str], list[Result]]

OURS = "kvroute"
PEERS = {
    "radix": "RadixTree",
    "crtc": "CRTC",
    "chain": "ChainIndex",
    "chain_into": "ChainIndex, buffer",
    "dynamo": "Dynamo",
}

# Fill as `index_peer_side write` takes it: number, slots, own names.
FILLS = {
    "A 8": (0, 8, False),
    "A 64": (0, 64, False),
    "A 512": (0, 512, False),
    "A 4096": (0, 4096, False),
    "B 64": (1, 64, False),
    "C 64": (2, 64, False),
    "C 512": (2, 512, False),
    "C 4096": (2, 4096, False),
    "D 64": (3, 64, False),
    "D 512": (3, 512, False),
    "A 64 own": (0, 64, True),
    "B 64 own": (1, 64, True),
    "C 512 own": (2, 512, True),
    "D 64 own": (3, 64, True),
}
# 25.6 M block holders, which a peer's process keeps four times: as read, as events, in the index.
BIG_FILLS = ("C 4096",)

SHARED_MEMORY = ("A 64", "B 64", "C 512", "D 64", "A 4096", "C 4096")
OWN_MEMORY = ("A 64 own", "B 64 own", "C 512 own", "D 64 own")
CYCLED = ("B 64", "B 64 own")
CYCLES = 8


@dataclass(frozen=True)
class Job:
    """One measurement of kvroute and of these peers."""

    mode: str  # "speed", "memory", "hash", or "readers 1" for one reader
    fill: str
    peers: tuple[str, ...]

    @property
    def program_mode(self) -> str:
        return self.mode.split()[0]

    def numbers(self, quick: bool) -> list[str]:
        """The program's last arguments."""
        if self.program_mode == "readers":
            return ["12", self.mode.split()[1]]
        if self.mode == "memory":
            return [str(CYCLES if self.fill in CYCLED else 0)]
        if self.fill in BIG_FILLS:
            return ["1"]
        return ["3" if quick else "5"]


def knowing(fill: str, *peers: str) -> tuple[str, ...]:
    """The peers that take as many workers: ChainIndex takes 1,024."""
    few = FILLS[fill][1] < 4096
    return tuple(peer for peer in peers if few or not peer.startswith("chain"))


# Dynamo's trees know one name a block, so that own names are nothing for them; the two faces of
# ChainIndex differ in lookups alone.
SPEED_FILLS = ("A 8", "A 64", "A 512", "A 4096", "B 64", "C 64", "C 512", "C 4096", "D 64", "D 512")
JOBS = [
    Job("hash", "tokens", ("dynamo", "chain")),
    *(
        Job("speed", fill, knowing(fill, "radix", "crtc", "chain", "chain_into"))
        for fill in SPEED_FILLS
    ),
    *(Job("memory", fill, knowing(fill, "radix", "crtc", "chain")) for fill in SHARED_MEMORY),
    *(Job("memory", fill, ("chain",)) for fill in OWN_MEMORY),
    *(Job(f"readers {n}", "A 64", ("crtc", "chain", "chain_into")) for n in (1, 2)),
]


@dataclass(frozen=True)
class Row:
    label: str
    mode: str
    fill: str
    key: str
    target: str = ""
    scale: float = 1.0
    more_is_better: bool = False
    compared: bool = True
    skipped: tuple[str, ...] = ()

    def value(self, results: Results, index: str) -> float | None:
        runs = results.get((index, self.mode, self.fill))
        if not runs or index in self.skipped:
            return None
        return median(run[self.key] for run in runs) * self.scale


def _rows() -> list[Row]:
    rows = [
        Row("hashing 8,192 tokens, µs", "hash", "tokens", "hash_8192_us"),
        Row("hashing 100,000 tokens, µs", "hash", "tokens", "hash_100000_us", "≤ 23 (AVX-512: 20)"),
    ]
    lookups = {
        "A 8": ("", ""),
        "A 64": ("≤ 0.4", "≤ 1.4"),
        "A 512": ("≤ 0.5", ""),
        "B 64": ("≤ 1.0", ""),
        "C 64": ("≤ 1.8", ""),
        "C 512": ("≤ 1.8", ""),
        "A 4096": ("", ""),
        "C 4096": ("", ""),
        "D 64": ("", ""),
        "D 512": ("", ""),
    }
    for fill, (p50, p99) in lookups.items():
        rows.append(Row(f"lookup {fill}, p50 µs", "speed", fill, "lookup_p50_ns", p50, 1e-3))
        rows.append(Row(f"lookup {fill}, p99 µs", "speed", fill, "lookup_p99_ns", p99, 1e-3))
    writes = {
        "A 64": ("≥ 12", "≥ 13"),
        "B 64": ("≥ 20", "≥ 24"),
        "C 64": ("≥ 150", "≥ 150"),
        "D 64": ("", ""),
        "A 4096": ("", ""),
        "C 4096": ("", ""),
    }
    for fill, targets in writes.items():
        for verb, target in zip(("store", "remove"), targets, strict=True):
            rows.append(
                Row(
                    f"{verb} {fill}, M blocks/s",
                    "speed",
                    fill,
                    f"{verb}_mps",
                    target,
                    more_is_better=True,
                    skipped=("chain_into",),
                )
            )
    sizes = {"A 64": 28, "B 64": 28, "C 512": 1, "A 64 own": 44, "B 64 own": 40, "C 512 own": 20}
    for fill in SHARED_MEMORY + OWN_MEMORY:
        for kind in ("live", "resident"):
            label = f"bytes per block and holder {fill}, {kind}"
            target = f"≤ {sizes[fill]}" if fill in sizes else ""
            rows.append(Row(label, "memory", fill, kind, target))
    moments = {
        "_left": "all removed",
        "_cycled": f"after {CYCLES} cycles of other content",
        "_cycled_left": f"after {CYCLES} cycles, all removed",
    }
    for fill in CYCLED:
        for suffix, moment in moments.items():
            for kind in ("live", "resident"):
                label = f"the same {fill}, {moment}, {kind}"
                rows.append(Row(label, "memory", fill, kind + suffix))
    for readers, who in ((1, "1 reader"), (2, "2 readers")):
        mode = f"readers {readers}"
        p99 = "≤ 2" if readers == 1 else ""
        writer = "≥ 6" if readers == 1 else ""
        rows += [
            Row(f"{who} beside a writer A 64, p50 µs", mode, "A 64", "reader_p50_ns", "", 1e-3),
            Row(f"{who} beside a writer A 64, p99 µs", mode, "A 64", "reader_p99_ns", p99, 1e-3),
            Row(f"{who}, M lookups/s", mode, "A 64", "lookups_mps", more_is_better=True),
            Row("that writer, M blocks/s", mode, "A 64", "written_mps", writer, compared=False),
            Row(
                "that writer, M blocks per s of processor time",
                mode,
                "A 64",
                "written_busy_mps",
                compared=False,
            ),
        ]
    return rows


ROWS = _rows()


def _figure(value: float | None) -> str:
    if value is None:
        return "-"
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def table(results: Results) -> str:
    """The medians as Markdown. The ratio says how many times better than the best peer kvroute is:
    above 1 kvroute leads, below 1 the peer does."""
    measured = {index for index, _, _ in results}
    peers = [index for index in PEERS if index in measured]
    names = [PEERS[index] for index in peers if index != "dynamo"]
    lines = ["| | target | kvroute | " + "".join(f"{name} | " for name in names) + "ratio |"]
    lines.append("| --- " * (len(names) + 4) + "|")
    for row in ROWS:
        ours = row.value(results, OURS)
        if ours is None:
            continue
        theirs = {index: row.value(results, index) for index in peers}
        known = [value for value in theirs.values() if value is not None]
        ratio = "-"
        if known and row.compared and ours > 0 and min(known) > 0:
            best = max(known) if row.more_is_better else min(known)
            ratio = _figure(ours / best if row.more_is_better else best / ours)
        if "dynamo" in theirs and theirs["dynamo"] is not None:
            theirs["crtc"] = theirs["radix"] = theirs["dynamo"]  # one function for both trees
        cells = [_figure(theirs[index]) for index in peers if index != "dynamo"]
        lines.append(f"| {' | '.join([row.label, row.target, _figure(ours), *cells, ratio])} |")
    return "\n".join(lines)


def spread(results: Results) -> str:
    """How far the runs of one cell lie apart: half of the cells, and the worst."""
    spreads = []
    for row in ROWS:
        for index in (OURS, *PEERS):
            runs = results.get((index, row.mode, row.fill), [])
            values = [run[row.key] for run in runs]
            if len(values) > 1 and median(values) > 0:
                spreads.append(((max(values) - min(values)) / median(values), row.label, index))
    if not spreads:
        return "one run each: no spread"
    spreads.sort()
    worst, label, index = spreads[-1]
    return (
        f"highest less lowest run: {median(s for s, _, _ in spreads):.0%} of the median in the "
        f"middle of all cells, {worst:.0%} at worst ({label}, {PEERS.get(index, index)})"
    )
