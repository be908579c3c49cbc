"""Where in the user's source a call stands, and the name it is assigned to."""

from __future__ import annotations

import ast
import linecache
import sys
from collections.abc import Iterable, Iterator
from functools import lru_cache
from types import CodeType, FrameType

import torch

from dgmcompile.diagnostics import Location
from dgmcompile.frontends.fx_source import Stack, is_graph, place_in_line, stack_of
from dgmcompile.frontends.libraries import in_torch_or_pyro, is_dispatch, is_library, is_recording, is_users

Span = tuple[int, int, int, int]
"""First line, first column, last line, last column; columns count UTF-8 bytes from 0, as in ast."""


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
    while frame is not None and is_dispatch(frame.f_code.co_filename):
        frame = frame.f_back
    return frame


def users_location() -> Location | None:
    """Where the user's own code is, which may have called that of a package; None where none of it runs."""
    frame = user_frame()
    while frame is not None and not is_users(frame.f_code.co_filename):
        frame = _caller(frame)
    return location_of(frame)


def library_call() -> FrameType | None:
    """The library's function that the model has called, and that makes the call; None if the model itself makes it."""
    called, frame = None, calling_frame()
    while frame is not None and is_library(frame.f_code.co_filename):
        called, frame = frame, frame.f_back
    return called


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
    if is_graph(frame) and (stack := stack_of(frame, _assigned(frame))):
        text = linecache.getline(*stack[-1])
        return Location(*stack[-1], len(text) - len(text.lstrip()) + 1, len(text.rstrip()) + 1)
    file = frame.f_code.co_filename
    if (span := span_of(frame)) is None:
        return Location(file, frame.f_lineno)
    return _location(file, version_of(file), span)


@lru_cache(maxsize=4096)
def _location(file: str, version: tuple[object, ...], span: Span) -> Location:
    line, column, end_line, end_column = span
    text = linecache.getline(file, line).encode()
    start = len(text[:column].decode(errors="replace")) + 1
    end = len(text[:end_column].decode(errors="replace")) + 1 if end_line == line else None
    return Location(file, line, start, end)


of_files = lru_cache(maxsize=256)
"""Of functions of a file and its version."""


def loop_variable(location: Location | None) -> str:
    """What counts the steps of the innermost loop around a place, as ``t`` in ``for t, x in enumerate(xs)``."""
    if location is None:
        return ""
    loops = [
        node
        for node in tree_of(location.file, version_of(location.file))
        if isinstance(node, ast.For | ast.comprehension) and _is_inside(location, node)
    ]
    innermost = max(loops, key=lambda loop: loop.target.lineno, default=None)
    target = innermost and innermost.target
    first = target.elts[0] if isinstance(target, ast.Tuple) else target
    counts = innermost and isinstance(innermost.iter, ast.Call) and _name_of(innermost.iter.func) in _COUNTING
    return first.id if counts and isinstance(first, ast.Name) else ""


_COUNTING = ("range", "enumerate", "markov", "plate")


def _is_inside(location: Location, loop: ast.For | ast.comprehension) -> bool:
    last = loop.body[-1].end_lineno if isinstance(loop, ast.For) else loop.iter.end_lineno
    return loop.target.lineno <= location.line <= (last or 0)


def _name_of(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


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
    """Span of each assigned expression -> the names on the left; of parts of it, of what is appended, too."""
    names: dict[Span, tuple[str, ...]] = {}
    for node in tree_of(file, version):
        match node:
            case ast.Assign(targets=[target, *_], value=value) | ast.NamedExpr(target=target, value=value):
                names.update(_received(value, target))
            case ast.AnnAssign(target=target, value=ast.expr() as value):
                names.update(_received(value, target))
            case ast.AugAssign(target=target, value=value):
                names.update(found for part in _parts(value) for found in _received(part, target))
                names[node_span(node)] = (_target_name(target),)
            case ast.Call(func=ast.Attribute(value=target, attr="append" | "extend" | "insert"), args=[*_, value]):
                names.update(_received(value, target))
            case ast.Call(func=ast.Attribute(value=ast.Subscript() as target, attr=word)) if word.endswith("_"):
                names[node_span(node)] = (_target_name(target),)
                if word == "copy_" and node.args:
                    names.update(_received(node.args[0], target))
            case ast.Dict(keys=keys, values=values):
                for key, value in zip(keys, values, strict=True):
                    if isinstance(key, ast.Constant) and isinstance(key.value, str):
                        names.update(_received(value, ast.Name(key.value)))
            case _:
                pass
    return names


def _received(value: ast.expr, target: ast.expr) -> Iterator[tuple[Span, tuple[str, ...]]]:
    """The expression and its parts, and the names that receive them."""
    elements = target.elts if isinstance(target, ast.Tuple | ast.List) else [target]
    parts = _parts(value)
    if isinstance(value, ast.Tuple | ast.List) and len(parts) == len(elements) > 1:
        for part, element in zip(parts, elements, strict=True):
            yield from _received(part, element)
    else:
        for part in parts:
            yield from _received(part, target)
    yield node_span(value), tuple(_target_name(element) for element in elements)


def _parts(value: ast.expr) -> list[ast.expr]:
    """The elements of what gathers several values: a list, a comprehension, what is stacked of them."""
    match value:
        case ast.Tuple(elts=elements) | ast.List(elts=elements):
            return elements
        case ast.ListComp(elt=element) | ast.GeneratorExp(elt=element) | ast.DictComp(value=element):
            return [element]
        case ast.IfExp(body=body, orelse=orelse):
            return [body, orelse]
        case ast.Call(func=ast.Attribute(attr=word) | ast.Name(id=word), args=[gathered, *_]) if word in _GATHER:
            return _parts(gathered)
        case _:
            return _paired(value)


def _paired(value: ast.expr) -> list[ast.expr]:
    """The call of which the expression is the indices, or the values: ``x.max(-1)[1]``, ``x.topk(1).indices``."""
    match value:
        case (
            ast.Subscript(value=ast.Call(func=ast.Attribute(attr=word)) as call, slice=ast.Constant(value=int()))
            | ast.Attribute(value=ast.Call(func=ast.Attribute(attr=word)) as call, attr="values" | "indices")
        ) if word in ("max", "min", "topk"):
            return [call]
        case _:
            return []


_GATHER = ("stack", "cat", "concat", "concatenate", "hstack", "vstack", "list", "tuple")


def _target_name(target: ast.expr) -> str:
    match target:
        case ast.Name(id=name) | ast.Attribute(attr=name) | ast.Subscript(slice=ast.Constant(value=str(name))):
            return name
        case ast.Subscript(value=value):
            return _target_name(value)
        case _:
            return ""


def assigned_name(frame: FrameType | None, element: int | None = None) -> str:
    """The variable that receives what the frame evaluates, as in ``loc, scale = net(z)``; "" if none.

    In a graph of torch.fx, that of the program from which the graph was taken, else the node's name.
    """
    return "" if frame is None else _in_source(frame) or _assigned(frame, element)


def fx_node_of(frame: FrameType | None) -> str:
    """What a graph of torch.fx calls what the frame evaluates; "" elsewhere."""
    return _assigned(frame) if frame is not None and is_graph(frame) else ""


def has_lines(frame: FrameType | None) -> bool:
    """Is the call's line in the user's source known, of a graph of torch.fx?"""
    return frame is not None and bool(stack_of(frame, _assigned(frame)))


def _in_source(frame: FrameType) -> str:
    """Of a graph of torch.fx: the variable of the program from which it was taken."""
    if not is_graph(frame):
        return ""
    name = _assigned(frame)
    stack, place = stack_of(frame, name), place_in_line(frame, name)
    return _assigned_by(stack, place) if stack and place else ""


def _assigned_by(stack: Stack, place: tuple[int, int] | None = None) -> str:
    """The variable that receives what the innermost line computes or returns, or part of it.

    Args:
        place: the how-manieth time the line does so, of how many in a row.
    """
    for file, number in reversed(stack):
        version = version_of(file)
        around = [
            (span, names) for span, names in _assigned_names(file, version).items() if span[0] <= number <= span[2]
        ]
        if around:  # that of the fewest lines, and of these the whole
            _, names = min(around, key=lambda found: (found[0][2] - found[0][0], -len(found[1])))
            if place is None or len(names) == 1:
                return "_".join(filter(None, names))
            return names[place[0]] if len(names) == place[1] else ""
        if not _is_in(_returned(file, version), number):
            return ""
    return ""


def _is_in(spans: Iterable[Span], number: int) -> bool:
    """Is a line among these?"""
    return any(span[0] <= number <= span[2] for span in spans)


def _assigned(frame: FrameType, element: int | None = None) -> str:
    names = _names_at(frame)
    if element is None:
        return names[0] if len(names) == 1 else ""
    return names[element] if len(names) > 1 and element < len(names) else ""


def _names_at(frame: FrameType) -> tuple[str, ...]:
    """The names on the left of what the frame evaluates."""
    if (span := span_of(frame)) is None:
        return ()
    file = frame.f_code.co_filename
    return _assigned_names(file, version_of(file)).get(span, ())


def called_for(frame: FrameType | None, element: int | None = None) -> str:
    """`assigned_name` where the program itself makes the call, and no library function on its behalf."""
    return assigned_name(frame, element) if calling_frame() is frame else ""


def variable_of(frame: FrameType | None) -> str:
    """The variable that receives what the frame evaluates, or what it returns; "" if none.

    ``a_b`` where ``a`` and ``b`` take it apart.
    """
    name = _received_by(frame)
    while not name and frame is not None and (places := _places_in_return(frame)) is not None:
        frame = _caller(frame)
        name = _received_by(frame, places)
    return name


def variable_around(frame: FrameType | None) -> str | None:
    """As `variable_of`, of the smallest expression around it that is received or returned.

    "" if there is none, None for what the program itself returns.
    """
    while frame is not None and not is_graph(frame):
        file = frame.f_code.co_filename
        received, returned = _assigned_names(file, version_of(file)), _returned(file, version_of(file))
        around = _innermost(frame, (*received, *returned))
        if around is None or around in received:
            return "_".join(filter(None, received[around])) if around else ""
        frame = _caller(frame)
    stack = () if frame is None else stack_of(frame, _assigned(frame))
    is_returned = all(_is_in(_returned(file, version_of(file)), number) for file, number in stack)
    return None if frame is None or (stack and is_returned) else _assigned_by(stack)


def _innermost(frame: FrameType, spans: Iterable[Span]) -> Span | None:
    """The smallest of these around what the frame evaluates."""
    if (span := span_of(frame)) is None:
        return None
    around = (one for one in spans if one[:2] <= span[:2] and span[2:] <= one[2:])
    return min(around, key=lambda one: (one[2] - one[0], one[3] - one[1]), default=None)


def _received_by(frame: FrameType | None, place: tuple[int, ...] = ()) -> str:
    if frame is None:
        return ""
    if is_graph(frame):
        return _in_source(frame)
    names = _names_at(frame)
    if place:
        return names[place[0]] if len(names) > max(1, place[0]) else ""
    return "_".join(filter(None, names))


def _caller(frame: FrameType) -> FrameType | None:
    """The frame of the model that called this one, outside of libraries."""
    outer = frame.f_back
    while outer is not None and is_library(outer.f_code.co_filename):
        outer = None if is_recording(outer) else outer.f_back
    return outer


def _places_in_return(frame: FrameType) -> tuple[int, ...] | None:
    """Where in what its function returns is what the frame evaluates? () for all of it; None if it is not returned."""
    file, span = frame.f_code.co_filename, span_of(frame)
    return None if span is None else _returned(file, version_of(file)).get(span)


@of_files
def _returned(file: str, version: tuple[object, ...]) -> dict[Span, tuple[int, ...]]:
    """Span of each expression that a function returns -> its place in a tuple, () for the whole."""
    nodes = tree_of(file, version)
    found = [n.value for n in nodes if isinstance(n, ast.Return) and n.value is not None]
    return {
        span: place
        for value in (*found, *(n.body for n in nodes if isinstance(n, ast.Lambda)))
        for span, place in _parts_returned(value)
    }


def _parts_returned(value: ast.expr, place: tuple[int, ...] = ()) -> Iterator[tuple[Span, tuple[int, ...]]]:
    yield node_span(value), place
    yield from ((node_span(call), place) for call in _paired(value))
    if isinstance(value, ast.IfExp):
        yield from _parts_returned(value.body, place)
        yield from _parts_returned(value.orelse, place)
    elif isinstance(value, ast.Tuple) and not place:
        for index, element in enumerate(value.elts):
            yield from _parts_returned(element, (index,))


@of_files
def tree_of(file: str, version: tuple[object, ...]) -> list[ast.AST]:
    try:
        return list(ast.walk(ast.parse("".join(linecache.getlines(file)))))
    except (SyntaxError, ValueError):
        return []


def node_span(node: ast.stmt | ast.expr) -> Span:
    """That of the instruction that evaluates it: of a chain over several lines, from its last name on."""
    line, column, end = node.lineno, node.col_offset, (node.end_lineno or 0, node.end_col_offset or 0)
    attribute = node.func if isinstance(node, ast.Call) else node
    if isinstance(attribute, ast.Attribute) and attribute.end_lineno not in (None, line):
        line, column = attribute.end_lineno or 0, (attribute.end_col_offset or 0) - len(attribute.attr)
    return line, column, *end
