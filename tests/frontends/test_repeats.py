"""Stretches of a list that repeat themselves."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dgmcompile.frontends.repeats import FEWEST, Repeat, periods, repeats


def test_each_way_to_cut_a_stretch():
    assert periods("xabcabcabcay") == [3]
    (cuts,) = repeats("xabcabcabcay", 3)
    assert cuts == [Repeat(1, 3, 3), Repeat(2, 3, 3)]
    assert cuts[0].end == 10


def test_two_stretches():
    tokens = "abababxcdcdcd"
    assert periods(tokens) == [2]
    assert [cuts[0] for cuts in repeats(tokens, 2)] == [Repeat(0, 2, 3), Repeat(7, 2, 3)]


def test_what_comes_twice_is_no_loop():
    assert not list(repeats("abcabc", 3))


@given(
    before=st.text("xy", max_size=4),
    body=st.text("abc", min_size=1, max_size=5),
    steps=st.integers(FEWEST, 6),
    after=st.text("xy", max_size=4),
)
def test_a_loop_is_found(before: str, body: str, steps: int, after: str):
    tokens = before + body * steps + after
    found = [cut for period in periods(tokens) for cuts in repeats(tokens, period) for cut in cuts]
    for cut in found:
        assert len({tokens[i : i + cut.period] for i in range(cut.start, cut.end, cut.period)}) == 1
    if len(set(body)) == len(body):
        assert Repeat(len(before), len(body), steps) in found
