"""Engine hashes: chained, seeded, and not what kvroute computes."""

from __future__ import annotations

import kvroute
import pytest
from kvroute.engines.block_names import BlockNamer

TOKENS = list(range(100, 164))


def test_names_cover_full_blocks_and_are_distinct_64_bit_integers() -> None:
    namer = BlockNamer(16, seed=1)
    names = namer.name([7] * 70, namer.root())
    assert len(names) == len(set(names)) == 4
    assert all(0 <= name < 1 << 64 for name in names)


def test_a_name_stands_for_all_tokens_before_it() -> None:
    namer = BlockNamer(16, seed=1)
    names = namer.name(TOKENS, namer.root())
    other = namer.name([0, *TOKENS[1:]], namer.root())
    assert not set(names) & set(other)


def test_naming_goes_on_from_any_block() -> None:
    namer = BlockNamer(16, seed=1)
    names = namer.name(TOKENS, namer.root())
    assert namer.name(TOKENS[32:], names[1]) == names[2:]


def test_engines_agree_only_under_one_seed() -> None:
    first, second = BlockNamer(16), BlockNamer(16)
    assert first.name(TOKENS, first.root()) != second.name(TOKENS, second.root())
    equal = BlockNamer(16, seed=5), BlockNamer(16, seed=5)
    assert equal[0].name(TOKENS, equal[0].root()) == equal[1].name(TOKENS, equal[1].root())


def test_a_salt_changes_every_name() -> None:
    namer = BlockNamer(16, seed=1)
    roots = {namer.root(), namer.root("a"), namer.root("b")}
    assert len(roots) == 3
    plain = namer.name(TOKENS, namer.root())
    salted = namer.name(TOKENS, namer.root("a"))
    assert not set(plain) & set(salted)


def test_names_are_not_the_router_s_own_hashes() -> None:
    namer = BlockNamer(16, seed=0)
    local = set(kvroute.hash_blocks(TOKENS, 16))
    assert not local & set(namer.name(TOKENS, namer.root()))


@pytest.mark.parametrize("tokens", [[-1], [1 << 32], [1.5], ["a"]])
def test_what_is_no_token_id_is_refused(tokens: list[int]) -> None:
    namer = BlockNamer(1, seed=0)
    with pytest.raises(ValueError, match=r"token_ids|prompt|expected"):
        namer.name(tokens, namer.root())
