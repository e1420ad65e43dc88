"""A mapping that forgets."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from kvroute.ray_serve.expiring import Expiring

LIMIT, SECONDS = 3, 5.0


def test_what_is_put_again_is_the_newest() -> None:
    values: Expiring[int] = Expiring(LIMIT, SECONDS)
    for now, key in enumerate("abcad"):
        values.put(key, now, float(now))
    assert list(values.items()) == [("c", 2), ("a", 3), ("d", 4)]
    assert "b" not in values


def test_a_none_is_a_value() -> None:
    values: Expiring[int | None] = Expiring(LIMIT, SECONDS)
    values.put("a", None, 0.0)
    assert "a" in values
    assert values.get("a") is None


steps = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.sampled_from("abcdef")),
        st.tuples(st.just("pop"), st.sampled_from("abcdef")),
        st.tuples(st.just("wait"), st.integers(1, 4)),
    )
)


@given(steps)
def test_holds_the_newest_of_the_last_seconds(steps: list[tuple[str, str | int]]) -> None:
    values: Expiring[int] = Expiring(LIMIT, SECONDS)
    model: list[tuple[str, int, float]] = []
    now = 0.0
    for number, (step, argument) in enumerate(steps):
        if step == "wait":
            now += int(argument)
            kept = [entry for entry in model if now - entry[2] < SECONDS]
            assert values.sweep(now) == len(model) - len(kept)
            model = kept
            continue
        found = [value for key, value, _ in model if key == argument]
        model = [entry for entry in model if entry[0] != argument]
        if step == "put":
            values.put(str(argument), number, now)
            model = [*model, (str(argument), number, now)][-LIMIT:]
        else:
            assert values.pop(str(argument)) == (found[0] if found else None)
        assert list(values.items()) == [(key, value) for key, value, _ in model]
        assert len(values) == len(model)
