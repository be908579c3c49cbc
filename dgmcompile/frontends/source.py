"""Where in the user's source a call stands, and the name it is assigned to."""

from __future__ import annotations

import ast
import linecache
import os
import sys
from functools import cache, lru_cache
from types import CodeType, FrameType

import pyro
import torch

from dgmcompile.diagnostics import Location


def _folder(file: str | None) -> str:
    return os.path.join(os.path.dirname(os.path.abspath(file or "")), "")


_PACKAGE = _folder(os.path.dirname(__file__))
_LIBRARIES = (_PACKAGE, _folder(torch.__file__), _folder(pyro.__file__))
_CALLERS = tuple(
    os.path.join(_PACKAGE, *path)
    for path in (("frontends", "trace.py"), ("replay", "__init__.py"), ("replay", "original.py"))
)
"""What runs a model."""
_STANDARD_LIBRARY = _folder(os.__file__)
_DISPATCH = (os.path.join("torch", "_tensor.py"), os.path.join("torch", "overrides.py"))
_SITE_PACKAGES = os.path.join(_STANDARD_LIBRARY, "site-packages", "")

Span = tuple[int, int, int, int]
"""First line, first column, last line, last column; columns count UTF-8 bytes from 0, as in ast."""


def is_users(file: str) -> bool:
    """Is it the user's own, and no package's that is installed?"""
    return not is_library(file) and not os.path.abspath(file).startswith(_SITE_PACKAGES)


def is_recording(frame: FrameType) -> bool:
    """Is it where this package runs the model?"""
    return frame.f_code.co_filename in _CALLERS


@cache
def is_library(file: str) -> bool:
    if file.startswith("<") and not linecache.getlines(file):
        return True
    path = os.path.abspath(file)
    if path.startswith(_LIBRARIES):
        return True
    return path.startswith(_STANDARD_LIBRARY) and not path.startswith(_SITE_PACKAGES)


def user_frame() -> FrameType | None:
    """The innermost frame of the model outside torch, pyro, this package and the standard library.

    A model may be a library's own, as Pyro's guides are; the frame that asked for its graph is none of the model.
    """
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and is_library(frame.f_code.co_filename):
        frame = None if is_recording(frame) else frame.f_back
    return frame


def calling_frame() -> FrameType | None:
    """The innermost frame outside this package and torch's dispatch: the code that made the call."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and (
        frame.f_code.co_filename.startswith(_PACKAGE) or frame.f_code.co_filename.endswith(_DISPATCH)
    ):
        frame = frame.f_back
    return frame


def in_torch_or_pyro(frame: FrameType | None) -> bool:
    """Is it code of the two libraries themselves?"""
    return frame is not None and os.path.abspath(frame.f_code.co_filename).startswith(_LIBRARIES)


def in_expand() -> bool:
    """Is a distribution of the libraries being expanded, as in a plate? What it computes then is its own affair."""
    frame = calling_frame()
    while frame is not None and in_torch_or_pyro(frame):
        owner = frame.f_locals.get("self") if frame.f_code.co_name == "expand" else None
        if isinstance(owner, torch.distributions.Distribution):
            return True
        frame = frame.f_back
    return False


_Positions = list[tuple[int | None, int | None, int | None, int | None]]

_POSITIONS: dict[int, tuple[CodeType, _Positions]] = {}
"""By the code's identity: its hash is that of all that it holds, made anew at each question."""


def _positions(code: CodeType) -> _Positions:
    if id(code) not in _POSITIONS:
        _POSITIONS[id(code)] = code, list(code.co_positions())
    return _POSITIONS[id(code)][1]


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


of_files = lru_cache(maxsize=256)
"""Of functions of a file and its version."""


def forget_changed_files() -> None:
    """Programs are edited and loaded again while the process goes on."""
    linecache.checkcache()


def version_of(file: str) -> tuple[object, ...]:
    """Another one after the file was edited."""
    if file not in linecache.cache:
        linecache.getlines(file)
    return linecache.cache.get(file, ())[:2]


@of_files
def _assigned_names(file: str, version: tuple[object, ...]) -> dict[Span, tuple[str, ...]]:
    """Span of each assigned expression -> the names on the left."""
    names: dict[Span, tuple[str, ...]] = {}
    for node in tree_of(file, version):
        if isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign) and node.value is not None:
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            value = node if isinstance(node, ast.AugAssign) else node.value
            elements = target.elts if isinstance(target, ast.Tuple) else [target]
            names[node_span(value)] = tuple(_target_name(element) for element in elements)
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
    file = frame.f_code.co_filename
    names = _assigned_names(file, version_of(file)).get(span, ())
    if element is None:
        return names[0] if len(names) == 1 else ""
    return names[element] if len(names) > 1 and element < len(names) else ""


def called_for(frame: FrameType | None, element: int | None = None) -> str:
    """`assigned_name` where the program itself makes the call, and no library function on its behalf."""
    return assigned_name(frame, element) if calling_frame() is frame else ""


def variable_of(frame: FrameType | None) -> str:
    """The variable that receives what the frame evaluates, or what it returns; "" if none."""
    name = assigned_name(frame)
    while not name and frame is not None and _is_returned(frame):
        frame = _caller(frame)
        name = assigned_name(frame)
    return name


def _caller(frame: FrameType) -> FrameType | None:
    """The frame of the model that called this one, outside of libraries."""
    outer = frame.f_back
    while outer is not None and is_library(outer.f_code.co_filename):
        outer = None if is_recording(outer) else outer.f_back
    return outer


def _is_returned(frame: FrameType) -> bool:
    file = frame.f_code.co_filename
    return span_of(frame) in _returned(file, version_of(file))


@of_files
def _returned(file: str, version: tuple[object, ...]) -> frozenset[Span]:
    """Spans of the expressions that functions return."""
    nodes = tree_of(file, version)
    found = [n.value for n in nodes if isinstance(n, ast.Return) and n.value is not None]
    return frozenset(map(node_span, [*found, *(n.body for n in nodes if isinstance(n, ast.Lambda))]))


@of_files
def tree_of(file: str, version: tuple[object, ...]) -> list[ast.AST]:
    try:
        return list(ast.walk(ast.parse("".join(linecache.getlines(file)))))
    except (SyntaxError, ValueError):
        return []


def node_span(node: ast.stmt | ast.expr) -> Span:
    return node.lineno, node.col_offset, node.end_lineno or 0, node.end_col_offset or 0
