"""The text of a formula is what an emitted file contains: it runs there, where nothing of ours is imported."""

import ast
import builtins
import inspect
import math
from collections.abc import Callable, Iterator
from types import FunctionType
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from dgmcompile.ir.graph import Formula
from dgmcompile.reparam import NOISE_LAWS, NOISE_TRANSFORMS, STEP_TRANSFORMS

EMITTED = {"torch": torch, "math": math, "Tensor": Tensor, "F": F}
"""What the head of every emitted file imports."""


def formulas() -> Iterator[Formula]:
    for law in NOISE_LAWS:
        yield law.draw
    for transform in NOISE_TRANSFORMS:
        for construction in (transform, *transform.variants.values()):
            yield from (f for f in (construction.forward, construction.inverse) if f is not None)
            yield from (f for given in construction.conversions.values() for f in given.values())
            yield from construction.gradients.values()
    for step in STEP_TRANSFORMS:
        yield from (f for f in (step.forward, step.inverse, step.log_abs_det_jacobian) if f is not None)


FORMULAS = {formula.name: formula for formula in formulas()}


def called(function: Callable[..., Any]) -> list[FunctionType]:
    """The formulas that ``function`` calls, those that they call first."""
    names = {node.id for node in ast.walk(ast.parse(inspect.getsource(function))) if isinstance(node, ast.Name)}
    found: list[FunctionType] = []
    for name in sorted(names & set(function.__globals__) - {function.__name__}):
        value = function.__globals__[name]
        if isinstance(value, FunctionType):
            found += [*called(value), value]
    return found


def test_one_name_is_one_function():
    for formula in formulas():
        assert formula.function is FORMULAS[formula.name].function


@pytest.mark.parametrize("formula", FORMULAS.values(), ids=FORMULAS)
def test_text_runs_on_its_own(formula: Formula):
    text = "\n\n".join(inspect.getsource(f) for f in [*called(formula.function), formula.function])
    namespace = dict(EMITTED)
    exec(compile(text, formula.name, "exec"), namespace)
    tree = ast.parse(text)
    local = {n.arg for n in ast.walk(tree) if isinstance(n, ast.arg)}
    local |= {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    read = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}
    assert read - local - set(dir(builtins)) <= set(namespace)


@pytest.mark.parametrize("formula", FORMULAS.values(), ids=FORMULAS)
def test_every_argument_and_the_result_are_typed(formula: Formula):
    signature = inspect.signature(formula.function)
    assert signature.return_annotation is not inspect.Signature.empty
    assert all(p.annotation is not inspect.Parameter.empty for p in signature.parameters.values())
