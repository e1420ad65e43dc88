"""PrefixIndex: snapshots in memory and in files."""

from __future__ import annotations

import os
import struct
import threading
from pathlib import Path
from typing import Any

import kvroute
import pytest
from index_contents import ENGINE, LOCAL, answers, blocks, filled


@pytest.mark.parametrize("seed", range(5))
def test_a_restored_index_answers_alike(seed: int) -> None:
    index, again = filled(seed), kvroute.PrefixIndex()
    snapshot = index.snapshot()
    again.restore(snapshot)
    assert again.targets() == index.targets()
    assert answers(again, seed) == answers(index, seed)
    assert again.stats().held == index.stats().held
    assert again.stats().held_lower == index.stats().held_lower
    assert blocks(again) == blocks(index)


def test_a_restored_index_goes_on_as_the_other_would() -> None:
    index, again = kvroute.PrefixIndex(), kvroute.PrefixIndex()
    for _ in range(2):
        index.store("w", ENGINE, LOCAL)
    index.store(-5, ENGINE[:1], LOCAL[:1], dp_rank=7)
    index.store("é", [2], [12], parent=1)  # waits
    again.restore(index.snapshot())
    for one in (index, again):
        one.remove("w", ENGINE[2:])
        assert one.match(LOCAL) == {("w", 0): 4, (-5, 7): 1}  # of two copies one is left
        one.remove("w", ENGINE[2:])
        assert one.match(LOCAL) == {("w", 0): 2, (-5, 7): 1}
        assert one.store("é", [1], [11]) == 2
        one.remove_worker("w")
        assert one.targets() == [(-5, 7), ("é", 0)]


def test_restoring_replaces_what_was_there() -> None:
    index = kvroute.PrefixIndex()
    empty = index.snapshot()
    index.store("w", ENGINE, LOCAL)
    full = index.snapshot()
    index.store("v", [1], [1])
    index.restore(memoryview(full))
    assert index.targets() == [("w", 0)]
    assert index.match([1]) == {}
    index.restore(empty)
    assert index.targets() == []
    assert index.match(LOCAL) == {}
    assert index.stats().blocks == 0


def changed(snapshot: bytes, at: int, by: bytes) -> bytes:
    return snapshot[:at] + by + snapshot[at + len(by) :]


def test_damaged_and_foreign_bytes_are_refused_and_change_nothing() -> None:
    index = kvroute.PrefixIndex()
    index.store("w", ENGINE, LOCAL)
    good = index.snapshot()
    index.store("v", ENGINE[:1], LOCAL[:1])
    bad = [
        (b"", "expected bytes that PrefixIndex::snapshot gave, got 0 bytes"),
        (b"PK\x03\x04" * 100, "got 400 bytes that begin otherwise"),
        (good[:11], "expected at least 20 bytes, got 11"),
        (good[:-1], "damaged or cut off"),
        (good + b"\0", "damaged or cut off"),
        (changed(good, 8, struct.pack("<I", 2)), "expected version 1, got version 2"),
        *((changed(good, at, bytes([good[at] ^ 4])), "damaged") for at in range(12, len(good))),
    ]
    for snapshot, message in bad:
        with pytest.raises(kvroute.InvalidArgument, match=f"^snapshot: .*{message}"):
            index.restore(snapshot)
    for wrong in (None, "text", 7, [1]):
        with pytest.raises(kvroute.InvalidArgument, match="^snapshot: expected bytes, got"):
            index.restore(wrong)  # type: ignore[arg-type]
    assert index.match(LOCAL) == {("w", 0): 4, ("v", 0): 1}


def test_a_snapshot_within_a_smaller_limit_keeps_to_it() -> None:
    index = kvroute.PrefixIndex()
    for first in range(0, 60_000, 100):
        names = range(first + 1, first + 101)
        index.store("w", list(names), list(names))
    small = kvroute.PrefixIndex(memory_limit="1MiB")
    small.restore(index.snapshot())
    assert small.stats().bytes <= 2**20
    assert small.targets() == [("w", 0)]


def test_matches_go_on_while_snapshots_are_made_and_restored() -> None:
    index = kvroute.PrefixIndex()
    index.store("w", ENGINE, LOCAL)
    stop = threading.Event()
    wrong: list[Any] = []

    def match() -> None:
        while not stop.is_set():
            if (found := index.match(LOCAL)) != {("w", 0): 4}:
                wrong.append(found)

    def flap() -> None:
        while not stop.is_set():
            index.store("flap", ENGINE, [1, 2, 3, 4])
            index.clear("flap")
            try:
                index.remove_worker("flap")
            except kvroute.UnknownWorker:  # a snapshot without it was restored meanwhile
                continue

    threads = [threading.Thread(target=match), threading.Thread(target=flap)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(300):
            index.restore(index.snapshot())
    finally:
        stop.set()
        for thread in threads:
            thread.join(30)
    assert wrong == []
    assert {worker for worker, _ in index.targets()} <= {"w", "flap"}


def test_a_file_holds_a_snapshot(tmp_path: Path) -> None:
    index, again = filled(9), kvroute.PrefixIndex()
    path = tmp_path / "index.kvr"
    path.write_bytes(b"what was there before")
    index.save(path)
    assert path.read_bytes() == index.snapshot()
    again.load(str(path))
    assert answers(again, 9) == answers(index, 9)
    again.load(bytes(path))
    assert [entry.name for entry in tmp_path.iterdir()] == ["index.kvr"]


def test_drafts_that_a_process_left_behind_are_in_nobodys_way(tmp_path: Path) -> None:
    index = filled(9)
    path = tmp_path / "index.kvr"
    for number in range(200):
        (tmp_path / f"index.kvr.{os.getpid()}.{number}.tmp").write_bytes(b"left")
    index.save(path)
    assert path.read_bytes() == index.snapshot()
    left = list(tmp_path.glob("*.tmp"))
    assert len(left) == 200
    assert {draft.read_bytes() for draft in left} == {b"left"}


def test_a_file_in_the_working_directory_is_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    kvroute.PrefixIndex().save("index.kvr")
    assert (tmp_path / "index.kvr").stat().st_size > 0


def test_a_file_that_cannot_be_used_is_an_error_and_changes_nothing(tmp_path: Path) -> None:
    index = kvroute.PrefixIndex()
    index.store("w", ENGINE, LOCAL)
    damaged = tmp_path / "damaged"
    damaged.write_bytes(index.snapshot()[:-3])
    with pytest.raises(kvroute.InvalidArgument, match="^snapshot: .*damaged or cut off"):
        index.load(damaged)
    with pytest.raises(FileNotFoundError) as missing:
        index.load(tmp_path / "missing")
    assert Path(missing.value.filename) == tmp_path / "missing"
    with pytest.raises(IsADirectoryError):
        index.load(tmp_path)
    with pytest.raises(FileNotFoundError):
        index.save(tmp_path / "nowhere" / "index.kvr")
    with pytest.raises(IsADirectoryError):
        index.save(tmp_path)
    for call in (index.save, index.load):
        with pytest.raises(
            kvroute.InvalidArgument, match="^path: expected a str, bytes or os.Path"
        ):
            call(7)  # type: ignore[arg-type]
    assert index.match(LOCAL) == {("w", 0): 4}
    assert [entry.name for entry in tmp_path.iterdir()] == ["damaged"]
    assert list(tmp_path.parent.glob(f"{tmp_path.name}.*")) == []
