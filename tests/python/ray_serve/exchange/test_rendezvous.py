"""The table of members that a rendezvous is."""

from __future__ import annotations

import pytest
from kvroute.ray_serve.exchange import LocalRendezvous, Member
from kvroute.ray_serve.exchange.rendezvous import EXPIRY_S, MAX_MEMBERS, MemberTable

A, B = Member("aa", "10.0.0.1", 1), Member("bb", "10.0.0.2", 2)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_all_get_the_first_secret_and_see_each_other() -> None:
    table = MemberTable()
    assert table.meet(A, b"of a") == (b"of a", [A])
    assert table.meet(B, b"of b") == (b"of a", [A, B])
    assert table.meet(A, b"of a").members == [A, B]


def test_a_table_that_lost_its_memory_takes_the_secret_that_members_bring() -> None:
    secret = MemberTable().meet(A, b"of a").secret
    anew = MemberTable()
    assert anew.meet(B, secret).secret == b"of a"
    assert anew.meet(Member("cc", "h", 3), b"of c").secret == b"of a"


def test_a_member_that_does_not_call_is_forgotten() -> None:
    clock = Clock()
    table = MemberTable(clock)
    table.meet(A, b"")
    clock.now = EXPIRY_S - 1
    assert table.meet(B, b"").members == [A, B]
    clock.now = EXPIRY_S + 1
    assert table.meet(B, b"").members == [B]


def test_a_member_that_leaves_is_forgotten_at_once() -> None:
    rendezvous = LocalRendezvous()
    rendezvous.meet(A, b"")
    rendezvous.meet(B, b"")
    rendezvous.leave("aa")
    rendezvous.leave("nobody")
    assert rendezvous.meet(B, b"").members == [B]


def test_members_are_bounded() -> None:
    table = MemberTable()
    for number in range(MAX_MEMBERS):
        table.meet(Member(str(number), "h", 1), b"")
    with pytest.raises(ValueError, match="members"):
        table.meet(A, b"")
    table.meet(Member("0", "h", 1), b"")
