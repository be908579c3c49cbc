"""Where a list of tokens repeats itself: ``a b c a b c a b c`` is three steps of three."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass

FEWEST = 3
"""Steps, of what counts as a loop."""


@dataclass(frozen=True)
class Repeat:
    """``steps`` times the same ``period`` tokens, from ``start`` on."""

    start: int
    period: int
    steps: int

    @property
    def end(self) -> int:
        return self.start + self.period * self.steps

    def shifted(self) -> Repeat:
        """Without the first step."""
        return Repeat(self.start + self.period, self.period, self.steps - 1)


def periods(tokens: Sequence[Hashable]) -> list[int]:
    """Those that a repeat may have, the shortest first: the distances between tokens that are alike."""
    last, distances = dict[Hashable, int](), Counter[int]()
    for index, token in enumerate(tokens):
        if token in last:
            distances[index - last[token]] += 1
        last[token] = index
    return sorted(period for period, count in distances.items() if count >= FEWEST - 1)


def repeats(tokens: Sequence[Hashable], period: int) -> Iterator[list[Repeat]]:
    """Each stretch that repeats with this period, as the ways to cut it into steps, from each token of the first on."""
    index, end = 0, len(tokens) - period
    while index < end:
        first = index
        while index < end and tokens[index] == tokens[index + period]:
            index += 1
        if index - first >= (FEWEST - 1) * period:
            cuts = (Repeat(cut, period, (index + period - cut) // period) for cut in range(first, first + period))
            yield [cut for cut in cuts if cut.steps >= FEWEST]
        index += 1
