"""The text of our functions: with all that they call, in an order in which it can stand."""

import math
from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from pyro.distributions import Normal
from torch import Tensor

from dgmcompile.codegen import compile_graph, source_of
from dgmcompile.codegen.formatting import formatted
from dgmcompile.codegen.formulas import import_lines, texts_of
from dgmcompile.diagnostics import InternalError
from dgmcompile.ir.formulas import FORMULAS
from dgmcompile.ir.graph import Call, Formula, Graph, Ref
from dgmcompile.reparam import reparam_formulas

from .test_emitted import imported, ruff_check

LOG_TWO_PI = math.log(2 * math.pi)


def outer(x: Tensor) -> Tensor:
    return F.softplus(inner(x)) + LOG_TWO_PI


def inner(x: Tensor) -> Tensor:
    return torch.sum(x) if x.dim() else Cube.apply(x)


class Cube(torch.autograd.Function):
    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        return x**3


def test_what_a_formula_calls_stands_before_it():
    texts = texts_of([Formula.of(outer)])
    assert list(texts.definitions) == ["LOG_TWO_PI", "Cube", "inner", "outer"]
    assert texts.definitions["LOG_TWO_PI"] == f"LOG_TWO_PI = {LOG_TWO_PI!r}"
    body = "\n\n".join(texts.definitions.values())
    scope: dict[str, Callable[[Tensor], Tensor]] = {}
    exec(import_lines([body], texts.imports) + "\n" + body, scope)
    assert torch.equal(scope["outer"](torch.ones(2)), outer(torch.ones(2)))


@pytest.mark.parametrize("formula", [*reparam_formulas(), *FORMULAS.values()], ids=lambda formula: formula.name)
def test_every_formula_of_ours_can_be_printed(formula: Formula):
    texts = texts_of([formula])
    body = "\n\n\n".join(texts.definitions.values())
    file = formatted(f"{import_lines([body], texts.imports)}\n\n\n{body}\n")
    assert imported(file) <= {"torch", "math", "typing"}
    assert "All checks passed" in ruff_check(file)
    scope: dict[str, object] = {}
    exec(compile(file, "formula", "exec", dont_inherit=True), scope)
    assert callable(scope[formula.name])


def reads_pyro(x: Tensor) -> Tensor:
    return Normal(x, 1.0).mean


def reads_nothing(x: Tensor) -> Tensor:
    return no_such_name(x)  # noqa: F821


def closure() -> Callable[[Tensor], Tensor]:
    factor = 2.0

    def closed(x: Tensor) -> Tensor:
        return factor * x

    return closed


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (reads_pyro, "reads 'Normal', which has no text"),
        (reads_nothing, "reads 'no_such_name', which its module does not define"),
        (closure(), "reads variables of the function around it"),
        (lambda x: x, "is not one definition of that name"),
        (torch.exp, "has no source text"),
    ],
)
def test_a_formula_that_cannot_stand_alone_is_ours_to_mend(function: Callable[..., Tensor], reason: str):
    with pytest.raises(InternalError, match=reason):
        texts_of([Formula.of(function)])


def test_two_formulas_of_one_name_are_ours_to_mend(graph_of: Callable[..., Graph]):
    def other(x: Tensor) -> Tensor:
        return x

    first = Call(name="y", target=Formula("inner", inner), args=(Ref("x"),))
    second = Call(name="z", target=Formula("inner", other), args=(Ref("y"),))
    with pytest.raises(InternalError, match="inner"):
        source_of(graph_of(first, second, outputs={"z": "z"}))


def test_a_variable_does_not_hide_a_formula(graph_of: Callable[..., Graph]):
    first = Call(name="inner", target=Formula.of(inner), args=(Ref("x"),))
    second = Call(name="outer", target=Formula.of(outer), args=(Ref("inner"),))
    found = compile_graph(graph_of(first, second, outputs={"y": "outer"}))(torch.ones(2, 3))
    assert torch.equal(found["y"], outer(torch.tensor(6.0)))


def test_literals_that_a_recorded_submodule_has_no_use_for_are_not_passed(blocks: SimpleNamespace):
    """Its body was recorded with them: they are part of it."""
    graph: Graph = blocks.graph
    bodies = {path: sub.body for path, sub in graph.binding.modules.items()}
    for body in bodies.values():
        assert body is not None
        body.arguments, body.guards = body.arguments[:1], ()
    assert "self.blocks[0](input_1)\n" in source_of(graph)
    x = torch.randn(2, 3)
    assert torch.equal(compile_graph(graph)({"input": x})["a"], blocks.reference(x)["a"])
