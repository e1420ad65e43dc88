"""What token ids and hashes may be, and what is said of everything else."""

from __future__ import annotations

from array import array
from enum import IntEnum

import kvroute
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

IDS = list(range(40))
EXPECTED = list(kvroute.hash_blocks(IDS, 16))


@pytest.mark.parametrize(
    "token_ids",
    [
        IDS,
        tuple(IDS),
        *[array(code, IDS) for code in "bBhHiIlLqQ"],
        *[np.array(IDS, dtype=t) for t in ("i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8")],
        np.array(IDS * 2, dtype="u4")[::2] * 0 + np.array(IDS, dtype="u4"),
        np.repeat(np.array(IDS, dtype="u4"), 3)[::3],
        np.array(IDS, dtype="i8")[::-1][::-1],
        memoryview(array("I", IDS)),
        memoryview(array("I", IDS).tobytes()).cast("I"),
        [np.int64(i) for i in IDS],
        [np.uint32(i) for i in IDS],
    ],
    ids=lambda value: type(value).__name__,
)
def test_every_kind_of_integer_sequence_gives_the_same_hashes(token_ids: object) -> None:
    assert list(kvroute.hash_blocks(token_ids, 16)) == EXPECTED


@given(st.lists(st.integers(0, 2**32 - 1), max_size=200))
def test_lists_and_arrays_agree(ids: list[int]) -> None:
    expected = kvroute.hash_blocks(array("I", ids), 4)
    assert kvroute.hash_blocks(ids, 4) == expected
    assert kvroute.hash_blocks(np.array(ids, dtype="u8"), 4) == expected
    assert kvroute.hash_blocks(np.array(ids, dtype="i8"), 4) == expected


def test_an_int_subclass_counts_as_its_value() -> None:
    class Token(IntEnum):
        A = 0
        B = 2**31

    assert kvroute.hash_blocks([Token.A, Token.B], 2) == kvroute.hash_blocks([0, 2**31], 2)


@pytest.mark.parametrize(
    ("token_ids", "message"),
    [
        ([1, -1], r"token_ids\[1\]: expected an integer, 0 <= id < 2\*\*32, got -1"),
        ([2**32], r"token_ids\[0\]: .* got 4294967296"),
        ([10**30], r"token_ids\[0\]: .* got 1000000000000000000000000000000"),
        ([1, 2.0], r"token_ids\[1\]: .* got a float"),
        ([None], r"token_ids\[0\]: .* got a NoneType"),
        ([True], r"token_ids\[0\]: .* got a bool"),
        (["1"], r"token_ids\[0\]: .* got a str"),
        ([np.float32(1)], r"token_ids\[0\]: .* got a numpy.float32"),
        ([np.int64(-5)], r"token_ids\[0\]: .* got -5"),
        (np.array([1, -2]), r"token_ids\[1\]: .* got -2"),
        (np.array([1, 2**32], dtype="u8"), r"token_ids\[1\]: .* got 4294967296"),
        (np.array([1.0, 2.0]), r"token_ids: expected a list or tuple .* got floats of 8 bytes"),
        (np.array([1.0], dtype="f4"), r"token_ids: .* got floats of 4 bytes"),
        (np.array([True]), r"token_ids: .* got booleans"),
        (np.array([[1, 2], [3, 4]]), r"token_ids: .* got a buffer of 2 dimensions"),
        (np.array([1], dtype=">u4"), r"token_ids: .* got elements of format '>I'"),
        ("hello", r"token_ids: .* got str"),
        (b"hello", r"token_ids: .* got bytes"),
        (bytearray(8), r"token_ids: .* got bytearray"),
        (memoryview(b"abcd"), r"token_ids: .* got a memoryview of single bytes .*"),
        (None, r"token_ids: .* got NoneType"),
        (7, r"token_ids: .* got int"),
        ({1, 2}, r"token_ids: .* got set"),
        (iter([1]), r"token_ids: .* got list_iterator"),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str) else None,
)
def test_anything_else_is_refused_by_name(token_ids: object, message: str) -> None:
    with pytest.raises(kvroute.InvalidArgument, match=f"^{message}$"):
        kvroute.hash_blocks(token_ids, 16)  # type: ignore[arg-type]


def test_a_list_that_changes_while_it_is_read_is_refused() -> None:
    ids: list[object] = []

    class Shrinks:
        def __index__(self) -> int:
            ids.clear()
            return 1

    ids.extend([1, 2, Shrinks(), *range(1000)])
    with pytest.raises(kvroute.InvalidArgument, match="the list changed while it was read"):
        kvroute.hash_blocks(ids, 16)  # type: ignore[arg-type]


def test_an_error_raised_by_an_element_comes_through() -> None:
    class Fails:
        def __index__(self) -> int:
            raise RuntimeError("no index today")

    with pytest.raises(RuntimeError, match="no index today"):
        kvroute.hash_blocks([1, Fails()], 1)  # type: ignore[list-item]


def test_hashes_take_the_whole_unsigned_range() -> None:
    index = kvroute.PrefixIndex()
    top = 2**64 - 1
    assert index.store("w", [top], [top]) == 1
    assert dict(index.match(array("Q", [top]))) == {("w", 0): 1}
    with pytest.raises(kvroute.InvalidArgument, match=r"local_hashes\[0\]: .* 2\*\*64, got -1"):
        index.match([-1])
    with pytest.raises(kvroute.InvalidArgument, match=r"local_hashes\[0\]: .* got 1844674407"):
        index.match([2**64])


def test_hash_blocks_refuses_a_block_size_out_of_range() -> None:
    for block_size in (0, -1, 65_537):
        with pytest.raises(
            kvroute.InvalidArgument, match="^block_size: expected an integer from 1"
        ):
            kvroute.hash_blocks([1], block_size)


def test_a_buffer_is_let_go_after_the_call() -> None:
    ids = array("I", IDS)
    kvroute.hash_blocks(ids, 16)
    ids.append(1)  # raises BufferError while a view is held


def test_namespaces_give_other_hashes() -> None:
    plain = kvroute.hash_blocks(IDS, 16)
    named = [
        kvroute.hash_blocks(IDS, 16, lora="x"),
        kvroute.hash_blocks(IDS, 16, salt="x"),
        kvroute.hash_blocks(IDS, 16, namespace="x"),
    ]
    assert len({tuple(hashes) for hashes in [plain, *named]}) == 4
    assert kvroute.hash_blocks(IDS, 16, lora="", salt="") == plain
