"""Where in the user's source a call stands, the name it is assigned to, and whether it only asserts."""

from __future__ import annotations

import ast
import linecache
import os
import sys
from functools import cache
from types import CodeType, FrameType

import pyro
import torch

from dgmcompile.diagnostics import Location


def _folder(file: str | None) -> str:
    return os.path.join(os.path.dirname(os.path.abspath(file or "")), "")


_PACKAGE = _folder(os.path.dirname(__file__))
_LIBRARIES = (_PACKAGE, _folder(torch.__file__), _folder(pyro.__file__))
_STANDARD_LIBRARY = _folder(os.__file__)
_SITE_PACKAGES = os.path.join(_STANDARD_LIBRARY, "site-packages", "")

Span = tuple[int, int, int, int]
"""First line, first column, last line, last column; columns count UTF-8 bytes from 0, as in ast."""


@cache
def is_library(file: str) -> bool:
    if file.startswith("<") and not linecache.getlines(file):
        return True
    path = os.path.abspath(file)
    if path.startswith(_LIBRARIES):
        return True
    return path.startswith(_STANDARD_LIBRARY) and not path.startswith(_SITE_PACKAGES)


def user_frame() -> FrameType | None:
    """The innermost frame outside torch, pyro, this package and the standard library."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and is_library(frame.f_code.co_filename):
        frame = frame.f_back
    return frame


def calling_frame() -> FrameType | None:
    """The innermost frame outside this package and torch's dispatch: the code that made the call."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and (
        frame.f_code.co_filename.startswith(_PACKAGE) or frame.f_code.co_filename.endswith("torch/_tensor.py")
    ):
        frame = frame.f_back
    return frame


@cache
def _positions(code: CodeType) -> list[tuple[int | None, int | None, int | None, int | None]]:
    return list(code.co_positions())


def span_of(frame: FrameType) -> Span | None:
    """The expression that the frame is evaluating."""
    line, end_line, column, end_column = _positions(frame.f_code)[frame.f_lasti // 2]
    if line is None or end_line is None or column is None or end_column is None:
        return None
    return line, column, end_line, end_column


def location_of(frame: FrameType | None) -> Location | None:
    """The same as a `Location`, whose columns count characters from 1."""
    if frame is None:
        return None
    file = frame.f_code.co_filename
    if (span := span_of(frame)) is None:
        return Location(file, frame.f_lineno)
    line, column, end_line, end_column = span
    text = linecache.getline(file, line).encode()
    start = len(text[:column].decode(errors="replace")) + 1
    end = len(text[:end_column].decode(errors="replace")) + 1 if end_line == line else None
    return Location(file, line, start, end)


@cache
def _assigned_names(file: str) -> dict[Span, tuple[str, ...]]:
    """Span of each assigned expression -> the names on the left."""
    names: dict[Span, tuple[str, ...]] = {}
    for node in _walk(file):
        if isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign) and node.value is not None:
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            value = node if isinstance(node, ast.AugAssign) else node.value
            elements = target.elts if isinstance(target, ast.Tuple) else [target]
            names[_span(value)] = tuple(_target_name(element) for element in elements)
    return names


def _target_name(target: ast.expr) -> str:
    match target:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
        case ast.Subscript(value=value):
            return _target_name(value)
        case _:
            return ""


def assigned_name(frame: FrameType | None, element: int | None = None) -> str:
    """The variable that receives what the frame evaluates, as in ``loc, scale = net(z)``; "" if none."""
    if frame is None or (span := span_of(frame)) is None:
        return ""
    names = _assigned_names(frame.f_code.co_filename).get(span, ())
    if element is None:
        return names[0] if len(names) == 1 else ""
    return names[element] if len(names) > 1 and element < len(names) else ""


def called_for(frame: FrameType | None, element: int | None = None) -> str:
    """`assigned_name` where the program itself makes the call, and no library function on its behalf."""
    return assigned_name(frame, element) if calling_frame() is frame else ""


_ONLY_TALK = ("print", "warn", "warning", "info", "debug", "error", "_warn")


@cache
def _assertion_spans(file: str) -> tuple[Span, ...]:
    """Spans of conditions that decide nothing but whether the program complains."""
    return tuple(
        _span(node.test) for node in _walk(file) if isinstance(node, ast.Assert | ast.If) and _only_asserts(node)
    )


@cache
def _assertions(file: str) -> frozenset[Span]:
    """Spans of whole statements that only assert: the jump on a condition that is a call counts as the statement."""
    return frozenset(
        _span(node) for node in _walk(file) if isinstance(node, ast.Assert | ast.If) and _only_asserts(node)
    )


def _only_asserts(node: ast.Assert | ast.If) -> bool:
    return isinstance(node, ast.Assert) or _complains(node)


def _complains(node: ast.If) -> bool:
    return not node.orelse and all(
        isinstance(statement, ast.Raise | ast.Pass)
        or (
            isinstance(statement, ast.Expr)
            and isinstance(statement.value, ast.Call)
            and _target_name(statement.value.func) in _ONLY_TALK
        )
        for statement in node.body
    )


def only_asserts(frame: FrameType | None) -> bool:
    """Is what the frame evaluates part of an ``assert``, or of an ``if`` that only raises or warns?"""
    if frame is None or (span := span_of(frame)) is None:
        return False
    if span in _assertions(frame.f_code.co_filename):
        return True
    start, end = span[:2], span[2:]
    return any(test[:2] <= start and end <= test[2:] for test in _assertion_spans(frame.f_code.co_filename))


def _walk(file: str) -> list[ast.AST]:
    try:
        return list(ast.walk(ast.parse("".join(linecache.getlines(file)))))
    except (SyntaxError, ValueError):
        return []


def _span(node: ast.stmt | ast.expr) -> Span:
    return node.lineno, node.col_offset, node.end_lineno or 0, node.end_col_offset or 0
