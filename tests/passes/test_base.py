"""Passes verify, collect every problem, and name what they make."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

import pytest

from dgmcompile.diagnostics import CompileError, Diagnostic, InternalError, Location
from dgmcompile.ir.graph import Call, Decision, Graph, Node, Ref
from dgmcompile.ir.text import parse
from dgmcompile.ir.verify import COMPACT, TRACED, Stage
from dgmcompile.passes import FreshNames, GraphPass, Keep, NodePass, Reject, Rewrite, run_passes


@dataclass(frozen=True)
class Doubler(NodePass):
    """Writes ``torch.exp`` as two calls; refuses ``torch.log``."""

    name: ClassVar[str] = "doubler"

    @property
    def requires(self) -> Stage:
        return TRACED

    @property
    def ensures(self) -> Stage:
        return TRACED

    def visit(self, node: Node, graph: Graph, fresh: Callable[[str], str]) -> Rewrite | Keep | Reject:
        if not isinstance(node, Call):
            return Keep("no call")
        if node.target == "torch.log":
            return Reject(Diagnostic(code="no-log", message=node.name, location=node.location))
        inner = replace(node, name=fresh(f"{node.name}_inner"), site=None)
        return Rewrite((inner, replace(node, args=(Ref(inner.name),))), "twice")


@dataclass(frozen=True)
class Breaker(GraphPass):
    """Leaves dead code behind, and promises not to."""

    name: ClassVar[str] = "breaker"

    @property
    def requires(self) -> Stage:
        return TRACED

    @property
    def ensures(self) -> Stage:
        return COMPACT

    def rewrite(self, graph: Graph) -> tuple[Graph, list[Decision]]:
        return graph.evolve(outputs={}), []


def test_a_rewrite_stands_in_place_and_is_recorded():
    graph = Doubler()(parse("x: [2] = input()\ny: [2] = torch.exp(x)\nreturn y"))
    assert str(graph) == "x: [2] = input()\ny_inner: [2] = torch.exp(x)\ny: [2] = torch.exp(y_inner)\nreturn y"
    assert graph.history == (
        Decision("doubler", "x", "keep", "no call"),
        Decision("doubler", "y", "rewrite", "twice"),
    )


def test_fresh_names_avoid_the_graph_and_one_another():
    fresh = FreshNames(parse("z_noise: [2] = input()"))
    assert [fresh("z_noise"), fresh("z_noise"), fresh("y"), fresh("y")] == ["z_noise_1", "z_noise_2", "y", "y_1"]


def test_every_problem_is_reported_at_once_in_source_order():
    nodes = [
        Call(name=name, target="torch.log", shape=(), location=Location("gone.py", line))
        for name, line in (("late", 9), ("early", 2))
    ]
    with pytest.raises(CompileError) as caught:
        Doubler()(Graph(nodes))
    assert [diagnostic.message for diagnostic in caught.value.diagnostics] == ["early", "late"]


def test_what_a_pass_promises_is_verified():
    with pytest.raises(InternalError, match=r"(?s)stage 'compact': nothing reads 'y'.*y: \[2\] = torch.exp\(x\)"):
        Breaker()(parse("x: [2] = input()\ny: [2] = torch.exp(x)\nreturn y"))


def test_what_a_pass_requires_is_verified():
    with pytest.raises(InternalError, match="'y' is neither latent nor target"):
        Doubler()(parse("y: [2] = sample.Normal(loc=0.0, scale=1.0)"))


def test_passes_run_in_order():
    graph = run_passes(parse("x: [2] = input()\ny: [2] = torch.exp(x)\nreturn y"), (Doubler(), Doubler()))
    assert [node.name for node in graph] == ["x", "y_inner_inner", "y_inner", "y_inner_1", "y"]
