"""kvroute's prefix index beside other routers' indexes, in one run on one machine.

Peers: Dynamo's RadixTree and ConcurrentRadixTreeCompressed (CRTC; crate dynamo-kv-router) and SMG's
ChainIndex (crate kv-index), measured by benchmarks/peers; kvroute by benchmarks/cpp. All read the
same workload files, answer the same lookups, and are checked to answer right. Every figure comes
from a process of its own; processes of all indexes take turns, and the table has their medians.

    python benchmarks/bench_peers.py [--quick] [--json FILE]

Needs CMake and a C++ compiler, and cargo for the peers; without cargo it measures kvroute alone.
Then, from Python, PrefixIndex beside Dynamo's RadixTree (see peer_python.py).
`KVROUTE_TRACES=DIR` names the folder of the traces for fills A and D.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from peer_cells import BIG_FILLS, FILLS, JOBS, OURS, Job, Result, Results, spread, table
from peer_python import python_table

ROOT = Path(__file__).resolve().parents[1]
CARGO_TARGET = ROOT / "build" / "peers"
OUR_PROGRAM = ROOT / "build" / "release" / "benchmarks" / "cpp" / "index_peer_side"
PEER_PROGRAM = CARGO_TARGET / "release" / "kvroute-peers"
BUILD_SECONDS = 1500
RUN_SECONDS = 300
BIG_FILL_BYTES = 6 << 30


def build_ours() -> None:
    target = ["--target", "index_peer_side"]
    for command in (["--preset", "release"], ["--build", "--preset", "release", *target]):
        subprocess.run(
            ["cmake", *command],
            cwd=ROOT,
            check=True,
            timeout=BUILD_SECONDS,
            stdout=subprocess.DEVNULL,
        )


def build_peers() -> bool:
    """Whether there is a program to measure the peers with."""
    cargo = shutil.which("cargo")
    if cargo is None:
        print("cargo is not installed: kvroute is measured alone")
        return False
    command = [cargo, "build", "--release", "--locked", "--quiet"]
    environment = {**os.environ, "CARGO_TARGET_DIR": str(CARGO_TARGET)}
    folder = ROOT / "benchmarks" / "peers"
    try:
        subprocess.run(command, cwd=folder, check=True, timeout=BUILD_SECONDS, env=environment)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        print(f"the peers cannot be built ({error}): kvroute is measured alone")
        return False
    return True


def available_bytes() -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) << 10
    return 0


def write_fills(folder: Path) -> tuple[dict[str, Path], dict[str, str]]:
    """Files by fill, and where the content of the traces among them comes from."""
    files = {fill: folder / fill.replace(" ", "-") for fill in (*FILLS, "tokens")}
    sources = {}
    for fill, (number, slots, own_names) in FILLS.items():
        if fill in BIG_FILLS and available_bytes() < BIG_FILL_BYTES:
            print(f"{fill} is left out: it needs {BIG_FILL_BYTES >> 30} GiB of free memory")
            del files[fill]
            continue
        arguments = [str(number), str(slots), "1" if own_names else "0"]
        done = subprocess.run(
            [OUR_PROGRAM, "write", files[fill], *arguments],
            check=True,
            timeout=RUN_SECONDS,
            stdout=subprocess.PIPE,
            text=True,
        )
        sources[f"fill {fill[0]}"] = done.stdout.strip()
    subprocess.run([OUR_PROGRAM, "write-tokens", files["tokens"]], check=True, timeout=RUN_SECONDS)
    return files, {fill: source for fill, source in sources.items() if source != "computed"}


def measure(index: str, job: Job, file: Path, quick: bool) -> Result | None:
    """None where a peer failed: beside a writer ChainIndex now and then gives a wrong depth."""
    program: list[str | Path] = [OUR_PROGRAM] if index == OURS else [PEER_PROGRAM, index]
    command = [*program, job.program_mode, file, *job.numbers(quick)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=RUN_SECONDS)
    if done.returncode != 0 and index != OURS:
        print(f"{index} {job.mode} {file.name} failed and has no figure:\n{done.stderr}")
        return None
    if done.returncode != 0:
        sys.exit(f"{index} {job.mode} {file.name} failed:\n{done.stderr}")
    result: Result = json.loads(done.stdout)
    return result


def measure_all(files: dict[str, Path], repeats: int, with_peers: bool) -> Results:
    results: Results = {}
    for repeat in range(repeats):
        for job in JOBS:
            if job.fill not in files:
                continue
            indexes = [OURS, *(job.peers if with_peers else ())]
            turn = repeat % len(indexes)
            for index in indexes[turn:] + indexes[:turn]:
                result = measure(index, job, files[job.fill], repeats == 1)
                if result is not None:
                    results.setdefault((index, job.mode, job.fill), []).append(result)
            print(f"  {repeat + 1}/{repeats} {job.mode} {job.fill}", file=sys.stderr)
    checksums = {
        index: runs[0]["checksum"] for (index, mode, _), runs in results.items() if mode == "hash"
    }
    if len(set(checksums.values())) != 1:
        sys.exit(f"the block hashes differ: {checksums}")
    return results


def machine() -> dict[str, str]:
    model = platform.processor()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.split(":", 1)[1].strip()
    return {
        "processor": f"{os.cpu_count()} x {model}",
        "system": f"{platform.system()} {platform.release()}, {' '.join(platform.libc_ver())}",
        "load": ", ".join(f"{load:.1f}" for load in os.getloadavg()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="kvroute's prefix index beside its peers")
    parser.add_argument("--quick", action="store_true", help="one process a cell, not three")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write all runs' figures")
    arguments = parser.parse_args()

    build_ours()
    with_peers = build_peers()
    about = machine()
    with tempfile.TemporaryDirectory(prefix="kvroute-peers-") as folder:
        files, sources = write_fills(Path(folder))
        results = measure_all(files, 1 if arguments.quick else 3, with_peers)
    about.update({**sources, "load after": machine()["load"]})
    from_python = python_table(arguments.quick)

    print("\n".join(f"{name}: {value}" for name, value in about.items()))
    print(spread(results), end="\n\n")
    print(table(results), end="\n\n")
    print(from_python)
    if arguments.json:
        runs = [
            {"index": index, "mode": mode, "fill": fill, "runs": figures}
            for (index, mode, fill), figures in results.items()
        ]
        arguments.json.write_text(json.dumps({"about": about, "results": runs}, indent=1) + "\n")


if __name__ == "__main__":
    main()
