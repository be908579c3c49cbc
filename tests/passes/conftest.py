"""Passes are tested on text: a graph before, and the graph after."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import pytest

from dgmcompile.ir.formulas import FORMULAS
from dgmcompile.ir.graph import Formula, Graph
from dgmcompile.ir.text import format_graph, parse
from dgmcompile.passes import Pass
from dgmcompile.reparam import NOISE_TRANSFORMS, STEP_TRANSFORMS

Parse = Callable[[str], Graph]
CheckPass = Callable[..., Graph]


def _formulas() -> Iterator[Formula]:
    yield from FORMULAS.values()
    for entry in NOISE_TRANSFORMS:
        yield entry.forward
        for others in entry.conversions.values():
            yield from others.values()
    for step in STEP_TRANSFORMS:
        yield step.forward


_BY_NAME = {formula.name: formula for formula in _formulas()}


@pytest.fixture(name="parse", scope="session")
def parse_with_formulas() -> Parse:
    """`parse` that knows every formula of ours."""
    return lambda text: parse(text, _BY_NAME)


@pytest.fixture(scope="session")
def check_pass(parse: Parse) -> CheckPass:
    """The pass turns ``before`` into ``after``, with these reasons, and a second run changes nothing."""

    def check(pass_: Pass, before: str, after: str, *, why: Mapping[str, str] | None = None) -> Graph:
        result = pass_(parse(before))
        assert format_graph(result) == format_graph(parse(after))
        reasons = {decision.node: decision.reason for decision in result.history}
        assert {name: reasons.get(name) for name in why or {}} == dict(why or {})
        assert pass_(result) == result
        return result

    return check
