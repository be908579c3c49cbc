"""Functions broken in one place: the first fitting of a few changes, each a mistake that people make."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.MatMult: ast.Add,
    ast.Pow: ast.Mult,
}
_COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.GtE,
    ast.Gt: ast.LtE,
    ast.LtE: ast.Gt,
    ast.GtE: ast.Lt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
_INVERSE = {"exp": "log", "log": "exp", "log1p": "expm1", "expm1": "log1p", "logit": "sigmoid", "sigmoid": "logit"}
_INVERSE |= {"tan": "atan", "atan": "tan", "sqrt": "square", "abs": "neg", "argmax": "argmin", "floor": "ceil"}
_INVERSE |= {"softmax": "log_softmax", "softplus": "relu", "tanh": "atanh", "atanh": "tanh", "cumsum": "cumprod"}


@dataclass(frozen=True)
class Mutant:
    """One change of a function: ``source`` is the file's text with it."""

    file: Path
    function: str
    change: str
    source: str


def mutants(file: Path, function: str) -> Iterator[Mutant]:
    """Every single change of the function that is known here: signs first, then parents, then broadcasts."""
    text = file.read_text(encoding="utf-8")
    definition = next(
        node for node in ast.parse(text).body if isinstance(node, ast.FunctionDef) and node.name == function
    )
    for kind in (_sign, _parents, _broadcast, _comparison, _function, _condition, _result):
        for index in range(len(list(ast.walk(definition)))):
            changed = ast.parse(ast.unparse(definition)).body[0]
            nodes = list(ast.walk(changed))
            if index < len(nodes) and not _is_annotation(changed, nodes[index]) and (change := kind(nodes[index])):
                yield Mutant(file, function, change, _with(text, definition, ast.unparse(changed)))


def _is_annotation(function: ast.stmt, node: ast.AST) -> bool:
    assert isinstance(function, ast.FunctionDef)
    annotations = [a.annotation for a in ast.walk(function.args) if isinstance(a, ast.arg) and a.annotation]
    return any(node is inner for a in (*annotations, function.returns) if a for inner in ast.walk(a))


def _with(text: str, definition: ast.FunctionDef, new: str) -> str:
    lines = text.splitlines()
    end = definition.end_lineno or definition.lineno
    return "\n".join([*lines[: definition.lineno - 1], new, *lines[end:], ""])


def _sign(node: ast.AST) -> str:
    """+ for -, * for /, no minus."""
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS and not _is_rounding(node):
        before = ast.unparse(node)
        node.op = _OPERATORS[type(node.op)]()
        return f"{before} -> {ast.unparse(node)}"
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) and not isinstance(node.operand, ast.Constant):
        before = ast.unparse(node)
        node.op = ast.UAdd()
        return f"{before} -> {ast.unparse(node)}"
    return ""


def _is_rounding(node: ast.BinOp) -> bool:
    """Is it a step of the size of an error of rounding, or no sum of numbers at all?"""
    text = ast.unparse(node)
    return isinstance(node.left, ast.Tuple) or any(word in text for word in ("eps", "tiny", "limits.", "e-1"))


def _parents(node: ast.AST) -> str:
    """Two arguments for each other."""
    if isinstance(node, ast.Call) and len(node.args) >= 2 and not any(isinstance(a, ast.Constant) for a in node.args):
        before = ast.unparse(node)
        node.args[-2:] = node.args[:-3:-1]
        return f"{before} -> {ast.unparse(node)}"
    return ""


def _broadcast(node: ast.AST) -> str:
    """A tensor without its new, or its lost, dim."""
    words = ("unsqueeze", "squeeze", "expand", "sum")
    for name, value in ast.iter_fields(node):
        if isinstance(value, ast.Call) and isinstance(value.func, ast.Attribute) and value.func.attr in words:
            before = ast.unparse(value)
            setattr(node, name, value.func.value)
            return f"{before} -> {ast.unparse(value.func.value)}"
    return ""


def _comparison(node: ast.AST) -> str:
    if isinstance(node, ast.Compare) and type(node.ops[0]) in _COMPARISONS:
        before = ast.unparse(node)
        node.ops[0] = _COMPARISONS[type(node.ops[0])]()
        return f"{before} -> {ast.unparse(node)}"
    return ""


def _function(node: ast.AST) -> str:
    """A function for its inverse."""
    if isinstance(node, ast.Attribute) and node.attr in _INVERSE:
        before = node.attr
        node.attr = _INVERSE[before]
        return f"{before} -> {node.attr}"
    return ""


def _condition(node: ast.AST) -> str:
    """A test that never holds."""
    if isinstance(node, ast.If | ast.IfExp):
        before = ast.unparse(node.test)
        node.test = ast.Constant(False)
        return f"if {before} -> if False"
    return ""


def _result(node: ast.AST) -> str:
    """A result twice as large."""
    if isinstance(node, ast.Return) and node.value is not None:
        before = ast.unparse(node)
        node.value = ast.BinOp(ast.Constant(2), ast.Mult(), node.value)
        return f"{before} -> {ast.unparse(node)}"
    return ""
