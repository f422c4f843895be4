"""The log apart from what `test_peer` asks of it: telling its first writes, dropping its beginning."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gossipmonger.state.log import Log


def written(keys: list[str]) -> tuple[Log, dict[str, tuple[int, int]]]:
    """A log in which these keys were written, each by its number to the version above that, and what it holds then."""
    log, model = Log(), dict[str, tuple[int, int]]()
    for number, key in enumerate(keys):
        log.write(key, number, number + 1)
        model.pop(key, None)
        model[key] = (number, number + 1)
        log._check()
    return log, model


@given(
    st.lists(st.sampled_from("abcdefgh"), max_size=100) | st.lists(st.text(max_size=3), unique=True, max_size=20),
    st.integers(-1, 110),
    st.none() | st.integers(0, 20),
)
def test_the_first_writes_above_a_version_are_told_in_their_order(keys: list[str], version: int, limit: int | None) -> None:
    log, model = written(keys)
    above = [(key, value, at) for key, (value, at) in model.items() if at > version]
    assert log.first_after(version, limit) == above[:limit]
    assert list(log.after(version)) == above
    assert log.count_after(version) == len(above)
    assert {key: log.version_of(key) for key in "abcdefgh"} == {key: model.get(key, (0, -1))[1] for key in "abcdefgh"}


@given(st.lists(st.sampled_from("abcdefgh"), max_size=100), st.integers(-1, 110))
def test_drop_removes_what_lies_at_or_below_and_tells_it(keys: list[str], version: int) -> None:
    log, model = written(keys)
    below = [(key, value) for key, (value, at) in model.items() if at <= version]
    assert log.drop(version) == below
    log._check()
    rest = [(key, value, at) for key, (value, at) in model.items() if at > version]
    assert list(log.after(-1)) == rest
    assert len(log) == len(rest)
    assert log.last == (rest[-1][2] if rest else -1)
    assert [log.get(key, "nothing") for key, _ in below] == ["nothing"] * len(below)
    log.write("a", "new", 200)
    assert log.get("a") == "new"
    log._check()
