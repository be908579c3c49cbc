"""What a program does with a value that it reads: it decides something by it, or does nothing but complain."""

from __future__ import annotations

import ast
import builtins
import inspect
from collections.abc import Iterator
from types import FrameType
from typing import Any, Literal

from dgmcompile.frontends.libraries import is_library, is_recording, is_users
from dgmcompile.frontends.source import (
    Span,
    node_span,
    of_files,
    span_of,
    tree_of,
    version_of,
)

Use = Literal["branch", "loop", "index"]
"""What a Python value decides."""


def use_of(frame: FrameType | None) -> Use | None:
    """What the value decides that the frame evaluates, by the innermost expression around it; None if nothing."""
    if frame is None or (span := span_of(frame)) is None:
        return None
    file = frame.f_code.co_filename
    version = version_of(file)
    around: dict[Span, Use] = {where: use for where, use in _uses(file, version) if _lies_in(span, where)}
    if not around:
        return _whole_statements(file, version).get(span)
    return around[max(around, key=lambda where: (where[:2], [-x for x in where[2:]]))]


@of_files
def _uses(file: str, version: tuple[object, ...]) -> tuple[tuple[Span, Use], ...]:
    """Spans of the expressions that decide something."""
    return tuple(
        (node_span(expression), use) for node in tree_of(file, version) for expression, use in _decisions(node)
    )


def _decisions(node: ast.AST) -> Iterator[tuple[ast.expr, Use]]:
    match node:
        case ast.If() | ast.IfExp():
            yield node.test, "branch"
        case ast.comprehension():
            for test in node.ifs:
                yield test, "branch"
        case ast.While():
            yield node.test, "loop"
        case ast.Call(func=ast.Name(id="range")):
            yield node, "loop"
        case ast.Subscript():
            yield node.slice, "index"
        case _:
            pass


@of_files
def _whole_statements(file: str, version: tuple[object, ...]) -> dict[Span, Use]:
    """The jump on a condition that is a call counts as the statement."""
    uses: dict[type, Use] = {ast.If: "branch", ast.While: "loop"}
    return {
        node_span(node): uses[type(node)] for node in tree_of(file, version) if isinstance(node, ast.If | ast.While)
    }


# -- harmless reads ----------------------------------------------------------------------------------------------------

_TALK = frozenset(
    ["print", "warn", "warn_explicit", "_warn", "warning", "info", "debug", "error", "critical", "exception", "log"]
)


def is_harmless(frame: FrameType | None) -> bool:
    """Does the frame read a value only to say it, or to complain?

    To complain is an ``assert``, or an ``if`` that only raises or warns, where no ``try`` of the program's own goes on
    after the exception. To say is a statement that prints or logs. Neither is, if it keeps the value by ``:=``.
    """
    if frame is None or (span := span_of(frame)) is None:
        return False
    file = frame.f_code.co_filename
    version = version_of(file)
    statements, conditions = _complaints(file, version)
    if span in statements or any(_lies_in(span, where) for where in conditions):
        return not _is_caught(frame)
    said = (func for where, func in _sayings(file, version) if _lies_in(span, where))
    return any(_only_talks(func, frame) for func in said)


@of_files
def _complaints(file: str, version: tuple[object, ...]) -> tuple[frozenset[Span], tuple[Span, ...]]:
    """Spans of the statements that only complain, and of their conditions.

    The jump on a condition that is a call counts as the whole statement.
    """
    found = [n for n in tree_of(file, version) if isinstance(n, ast.Assert | ast.If) and _only_complains(n)]
    return frozenset(map(node_span, found)), tuple(node_span(node.test) for node in found)


def _only_complains(node: ast.Assert | ast.If) -> bool:
    if _keeps(node.test):
        return False
    if isinstance(node, ast.Assert):
        return True
    return not node.orelse and all(
        isinstance(statement, ast.Raise | ast.Pass | ast.Assert) or _saying(statement) for statement in node.body
    )


@of_files
def _sayings(file: str, version: tuple[object, ...]) -> tuple[tuple[Span, ast.expr], ...]:
    """Spans of the calls that only say something, and the functions called, as written."""
    found = (_saying(node) for node in tree_of(file, version) if isinstance(node, ast.stmt))
    return tuple((node_span(call), call.func) for call in found if call is not None and not _keeps(call))


def _saying(statement: ast.stmt) -> ast.Call | None:
    match statement:
        case ast.Expr(value=ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)) as call) if name in _TALK:
            return call
        case _:
            return None


def _keeps(expression: ast.expr) -> bool:
    return any(isinstance(node, ast.NamedExpr) for node in ast.walk(expression))


def _is_caught(frame: FrameType) -> bool:
    """Would some function of the program's own, from this one outwards, go on after an exception here?"""
    caller: FrameType | None = frame
    while caller is not None and not is_recording(caller):
        file, span = caller.f_code.co_filename, span_of(caller)
        tried = _tried(file, version_of(file)) if span is not None and not is_library(file) else ()
        if span is not None and any(_lies_in(span, where) for where in tried):
            return True
        caller = caller.f_back
    return False


@of_files
def _tried(file: str, version: tuple[object, ...]) -> tuple[Span, ...]:
    """Spans of what ``try`` guards, where a handler does not raise in its turn."""
    tried = (n for n in tree_of(file, version) if isinstance(n, ast.Try | ast.With) and _goes_on(n))
    return tuple(node_span(statement) for node in tried for statement in node.body)


def _goes_on(node: ast.Try | ast.With) -> bool:
    if isinstance(node, ast.Try):
        return not all(isinstance(handler.body[-1], ast.Raise) for handler in node.handlers)
    return any("suppress" in ast.unparse(item.context_expr) for item in node.items)


def _only_talks(func: ast.expr, frame: FrameType) -> bool:
    """Is it a function that the program did not write itself?"""
    match func:
        case ast.Attribute(value=ast.Call(func=maker)):  # as logging.getLogger(name).info
            return _only_talks(maker, frame)
        case _:
            function = inspect.unwrap(getattr(found := _resolved(func, frame), "__func__", found))
    code = getattr(function, "__code__", None)
    return callable(function) and (code is None or not is_users(code.co_filename))


def _resolved(name: ast.expr, frame: FrameType) -> Any:
    """What a name, or an attribute of one, stands for; None if that is not known. No code of the program's runs."""
    match name:
        case ast.Name(id=word):
            scopes = (frame.f_locals, frame.f_globals, vars(builtins))
            return next((scope[word] for scope in scopes if word in scope), None)
        case ast.Attribute(value=owner, attr=word):
            return inspect.getattr_static(_resolved(owner, frame), word, None)
        case _:
            return None


def _lies_in(span: Span, where: Span) -> bool:
    return where[:2] <= span[:2] and span[2:] <= where[2:]
