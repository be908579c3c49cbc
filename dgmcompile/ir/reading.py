"""Canonical text -> the graph; the form is described in `dgmcompile.ir.text`."""

from __future__ import annotations

import ast
import inspect
import io
import re
import tokenize
from collections.abc import Callable, Iterable, Mapping, Set
from dataclasses import dataclass, replace
from typing import Any, NoReturn

import torch

from dgmcompile.diagnostics import CompileError, Diagnostic, InternalError, Location
from dgmcompile.ir.graph import (
    Arg,
    Argument,
    Call,
    Carry,
    Constant,
    DeviceOf,
    Dim,
    Final,
    Formula,
    Graph,
    Guard,
    Input,
    Law,
    Loop,
    Node,
    Noise,
    Parameter,
    Plate,
    Ref,
    Role,
    Sample,
    Shape,
    Site,
    Stacked,
    TransformStep,
    name_of_parts,
)
from dgmcompile.ir.size import Size, add, multiply
from dgmcompile.ir.writing import PLAIN_TARGETS, TORCH_LITERALS

_ROLES: dict[str, Role] = {"latent": "latent", "target": "target", "deterministic": "deterministic"}


def parse(text: str, formulas: Mapping[str, Formula] | None = None) -> Graph:
    """The graph whose text ``format_graph`` wrote, or a person did.

    A comment ``# model.py:14:8`` is the node's source line; others are skipped.

    Args:
        text: may be indented, as in a test's triple quotes.
        formulas: by name, those that the text calls.
    Errors:
        `CompileError` with code ``graph-text`` at the line that is wrong.
    """
    text = inspect.cleandoc(text)
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError) as error:
        line, column = (error.lineno, error.offset) if isinstance(error, SyntaxError) else (1, 1)
        _refuse(f"not in the text form of a graph: {error}", line or 1, column or 1)
    return _read(tree.body, formulas or {}, _locations(text))


_LOCATION = re.compile(r"# (.+):(\d+):(\d+)")


def _locations(text: str) -> dict[int, Location]:
    """Line of the text -> the source line that its comment names."""
    found = dict[int, Location]()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT and (match := _LOCATION.fullmatch(token.string)):
            found[token.start[0]] = Location(match[1], int(match[2]), int(match[3]))
    return found


def _read(body: list[ast.stmt], formulas: Mapping[str, Formula], locations: Mapping[int, Location]) -> Graph:
    lines, changes = list[_Line](), dict[str, Any]()
    guards, returned = list[ast.Call](), list[ast.Return]()
    for statement in body:
        match statement:
            case ast.Assign(targets=[target], value=ast.Call(func=ast.Name("graph")) as call) if not lines:
                changes |= {"name": _name(target), "arguments": tuple(map(_argument, call.args))}
            case ast.Assign(targets=[target], value=ast.Call() as call):
                lines.append(_line(statement, target, None, call))
            case ast.AnnAssign(target=target, annotation=annotation, value=ast.Call() as call):
                lines.append(_line(statement, target, annotation, call))
            case ast.Expr(value=ast.Call(func=ast.Name("guard")) as call):
                guards.append(call)
            case ast.Return():
                returned.append(statement)
            case _:
                _refuse_at(statement, "expected `name: dtype[shape] = head(...)`, `guard(...)` or `return ...`")
    reader = _Reader({line.name for line in lines if line.is_size}, formulas)
    nodes = [replace(reader.node(line), location=locations.get(line.statement.end_lineno or 0)) for line in lines]
    changes |= {"guards": tuple(map(reader.guard, guards))}
    if returned:
        changes["outputs"] = _outputs(returned[-1])
    try:
        return Graph(nodes, **changes)
    except InternalError as error:
        _refuse(str(error).splitlines()[0].removeprefix("bug in dgmcompile: "), 1, 1)


def _refuse(message: str, line: int, column: int) -> NoReturn:
    raise CompileError(
        Diagnostic(
            code="graph-text",
            message=message,
            location=Location("<graph>", line, column),
            help="write the text as str(graph) does",
        )
    )


def _refuse_at(at: ast.AST, message: str) -> NoReturn:
    _refuse(message, getattr(at, "lineno", 1), getattr(at, "col_offset", 0) + 1)


_Suffix = tuple[tuple[str, ...], ast.Call]


@dataclass(frozen=True)
class _Line:
    """One node, taken apart: its head is a path, as ``("torch", "exp")``; suffixes are the ``.event(1)``."""

    statement: ast.stmt
    name: str
    annotation: ast.expr | None
    head: tuple[str, ...]
    call: ast.Call
    suffixes: tuple[_Suffix, ...]

    @property
    def is_size(self) -> bool:
        return _has_no_shape(self.annotation) and self.head in (("input",), ("size",), ("call", "size"), ("loop",))


def _has_no_shape(annotation: ast.expr | None) -> bool:
    return annotation is None or (
        isinstance(annotation, ast.Subscript)
        and isinstance(annotation.slice, ast.Constant)
        and annotation.slice.value is ...
    )


def _line(statement: ast.stmt, target: ast.expr, annotation: ast.expr | None, call: ast.Call) -> _Line:
    head, call, suffixes = _chain(call)
    return _Line(statement, _name(target), annotation, head, call, suffixes)


def _chain(call: ast.Call) -> tuple[tuple[str, ...], ast.Call, tuple[_Suffix, ...]]:
    """``head(...).a(...).b(...)`` as the head's path, its call, and the suffixes."""
    suffixes = list[_Suffix]()
    while True:
        path, root = _path(call.func)
        match root:
            case ast.Call():
                suffixes.append((path, call))
                call = root
            case ast.Name(id):
                return (id, *path), call, tuple(reversed(suffixes))
            case _:
                _refuse_at(call, "expected a call by name")


def _path(node: ast.expr) -> tuple[tuple[str, ...], ast.expr]:
    """``root.a["b"]`` as ``("a", "b")`` and the root."""
    path = list[str]()
    while True:
        match node:
            case ast.Attribute(value=inner, attr=name):
                pass
            case ast.Subscript(value=inner, slice=ast.Constant(str() as name)):
                pass
            case _:
                return tuple(reversed(path)), node
        path.append(name)
        node = inner


def _name(node: ast.expr) -> str:
    match node:
        case ast.Name(id):
            return id
        case ast.Attribute(value=inner, attr=name):
            return f"{_name(inner)}.{name}"
        case ast.Subscript(value=ast.Name("ref"), slice=ast.Constant(str() as name)):
            return name
        case _:
            _refuse_at(node, "expected a node's name")


def _argument(node: ast.expr) -> Argument:
    required, keyword_only = True, False
    while isinstance(node, ast.Call):
        match node:
            case ast.Call(func=ast.Name("optional"), args=[inner], keywords=[]):
                required = False
            case ast.Call(func=ast.Name("keyword"), args=[inner], keywords=[]):
                keyword_only = True
            case _:
                _refuse_at(node, "expected an argument's name, optional(...) or keyword(...)")
        node = inner
    return Argument(_name(node), required, keyword_only)


def _outputs(statement: ast.Return) -> dict[str, str]:
    match statement.value:
        case None:
            return {}
        case ast.Dict(keys, values):
            return {str(_literal(key)): _name(value) for key, value in zip(keys, values, strict=True)}
        case ast.Tuple(elts):
            return {_name(item): _name(item) for item in elts}
        case single:
            return {_name(single): _name(single)}


def _literal(node: ast.expr | None) -> Any:
    return _Reader(frozenset(), {}).value(node)


@dataclass(frozen=True)
class _Reader:
    """The counterpart of `_Writer`."""

    sizes: Set[str]
    formulas: Mapping[str, Formula]

    def value(self, node: ast.expr | None) -> Arg:
        match node:
            case ast.Constant(value):
                return value
            case ast.Name(id):
                return Size.symbol(id) if id in self.sizes else Ref(id)
            case ast.Subscript():
                return Ref(_name(node))
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(int() | float() as number)):
                return -number
            case ast.UnaryOp() | ast.BinOp():
                return _polynomial(node)
            case ast.Tuple(elts):
                return tuple(map(self.value, elts))
            case ast.List(elts):
                return list(map(self.value, elts))
            case ast.Dict(keys, values):
                return {self.value(key): self.value(item) for key, item in zip(keys, values, strict=True)}
            case ast.Attribute(value=ast.Name("torch"), attr=name):
                return _torch_literal(node, name)
            case ast.Attribute():
                return Ref(_name(node))
            case ast.Call(func=ast.Name(head), args=args, keywords=[]) if head in _LITERALS:
                return _build(node, _LITERALS[head], map(self.value, args))
            case ast.Call():
                return self._law(node)
            case _:
                _refuse_at(node or ast.Constant(None), "expected a value")

    def _law(self, node: ast.Call) -> Law:
        head, call, suffixes = _chain(node)
        match head:
            case ("law", family):
                fields = self._pushed(suffixes)
                shape = tuple(map(self._dim, call.args))
                return Law(family=family, params=self.values(call), shape=shape, **fields)
            case _:
                _refuse_at(node, "expected a value")

    def _pushed(self, suffixes: Iterable[_Suffix]) -> dict[str, Any]:
        fields, steps = dict[str, Any](), list[TransformStep]()
        for path, call in suffixes:
            match path, call.args:
                case ("transform", name), []:
                    steps.append(TransformStep(name, self.values(call)))
                case ("event",), [arg]:
                    fields["event_dim"] = self.value(arg)
                case _:
                    _refuse_at(call, f"no such suffix: .{'.'.join(path)}")
        return {**fields, "transforms": tuple(steps)} if steps else fields

    def values(self, call: ast.Call) -> dict[str, Arg]:
        """The named values; ``**{"weird name": value}`` among them."""
        found = dict[str, Arg]()
        for entry in call.keywords:
            found |= {entry.arg: self.value(entry.value)} if entry.arg else self.value(entry.value)
        return found

    def node(self, line: _Line) -> Node:
        return _build(line.statement, self._node, (line,))

    def _node(self, line: _Line) -> Node:
        shape, dtype = self._type(line.annotation)
        common: dict[str, Any] = {"name": line.name, "shape": shape, "dtype": dtype}
        args, kwargs = tuple(map(self.value, line.call.args)), self.values(line.call)
        common |= self._suffixes(line)
        match line.head:
            case ("input",):
                return Input(**common, path=args or (line.name,))
            case ("param",):
                return Parameter(**common, path=args[0] if args else line.name, **kwargs)
            case ("constant",) if args:
                return Constant(**common, value=args[0])
            case ("noise", law):
                return Noise(**common, law=law, steps=args)
            case ("loop",) if args:
                return Loop(**common, length=args[0], around=args[1:])
            case ("carry",) if len(args) == 3:
                return Carry(**common, step=args[0], init=args[1], next=args[2])
            case ("stacked",) if len(args) == 2:
                return Stacked(**common, step=args[0], value=args[1])
            case ("final",) if len(args) == 1:
                return Final(**common, carry=args[0])
            case ("sample", family):
                return Sample(**common, family=family, params=kwargs)
            case head:
                return Call(**common, target=self._target(head, line), args=args, kwargs=kwargs)

    def _target(self, head: tuple[str, ...], line: _Line) -> str | Formula:
        match head:
            case ("call", target):
                return target
            case ("torch" | "self", _, *_):
                return ".".join(head)
            case (name,) if name in PLAIN_TARGETS:
                return name
            case ("formula", name) | (name,):
                if name not in self.formulas:
                    _refuse_at(line.call, f"no formula is called {name!r}")
                return self.formulas[name]
            case _:
                _refuse_at(line.call, f"{'.'.join(head)} is no kind of node")

    def _suffixes(self, line: _Line) -> dict[str, Any]:
        fields, pushed = dict[str, Any](), list[_Suffix]()
        of_sample = line.head[0] == "sample"
        usual_family = line.head[1] if of_sample and len(line.head) == 2 else ""
        for path, call in line.suffixes:
            match path, call.args:
                case (role,), _ if role in _ROLES:
                    fields["site"] = self._site(line.name, _ROLES[role], usual_family, call)
                case (("transform", _), []) | (("event",), [_]) if of_sample:
                    pushed.append((path, call))
                case ("mask",), [_, dims] if of_sample:
                    fields |= {"mask": self.value(call.args[0]), "mask_event_dim": self.value(dims)}
                case ("mask" | "scale" as field,), [arg] if of_sample:
                    fields[field] = self.value(arg)
                case ("each",), [_, *_] if not of_sample:
                    fields["steps"] = tuple(map(self.value, call.args))
                case ("keep",), [] if of_sample:
                    fields["kept"] = True
                case ("options",), [] if of_sample:
                    fields["options"] = self.values(call)
                case ("infer",), [] if of_sample:
                    fields["infer"] = self.values(call)
                case _:
                    _refuse_at(call, f"no such suffix: .{'.'.join(path)}")
        return {**fields, **self._pushed(pushed)}

    def _site(self, name: str, role: Role, family: str, call: ast.Call) -> Site:
        plates, parts = list[Plate](), list[str | Size]()
        for arg in call.args:
            match arg:
                case ast.Constant(str() as given):
                    parts.append(given)
                case ast.Call(func=ast.Name("plate"), args=[_, _, _] as fields, keywords=[]):
                    plates.append(Plate(*map(self.value, fields)))
                case _ if isinstance(number := self.value(arg), Size):
                    parts.append(number)
                case _:
                    _refuse_at(arg, "expected the site's name or plate(name, dim, size)")
        in_loop = any(isinstance(part, Size) for part in parts)
        named = name_of_parts(parts) if parts else name
        return Site(
            named, role, self.values(call).get("family", family), tuple(plates), tuple(parts) if in_loop else ()
        )

    def _type(self, annotation: ast.expr | None) -> tuple[Shape | None, torch.dtype | None]:
        match annotation:
            case None:
                return None, None
            case ast.Name(dtype):
                return (), _dtype(annotation, dtype)
            case ast.List(dims):
                return self._dims(dims), None
            case ast.Subscript(value=ast.Name(dtype)) if _has_no_shape(annotation):
                return None, _dtype(annotation, dtype)
            case ast.Subscript(value=ast.Name(dtype), slice=ast.Tuple(dims)):
                return self._dims(dims), _dtype(annotation, dtype)
            case ast.Subscript(value=ast.Name(dtype), slice=dim):
                return self._dims([dim]), _dtype(annotation, dtype)
            case _:
                _refuse_at(annotation, "expected dtype[shape]")

    def _dims(self, nodes: Iterable[ast.expr]) -> Shape:
        return tuple(map(self._dim, nodes))

    def _dim(self, node: ast.expr) -> Dim:
        dim = self.value(node)
        return dim if isinstance(dim, int | Size) else _refuse_at(node, "expected a number or a size node")

    def guard(self, call: ast.Call) -> Guard:
        fields = self.values(call)
        return _build(call, lambda: Guard(tuple(map(self.value, call.args)), **fields), ())


def _build(at: ast.AST, make: Callable[..., Any], args: Iterable[Any]) -> Any:
    try:
        return make(*args)
    except (TypeError, ValueError, RuntimeError) as error:
        _refuse_at(at, str(error))


_LITERALS: dict[str, Callable[..., Any]] = {
    "float": float,
    "complex": complex,
    "slice": slice,
    "device": lambda *name: torch.device(*name) if name else DeviceOf(),
}


def _polynomial(node: ast.expr) -> Size | int:
    match node:
        case ast.Constant(int() as number):
            return number
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return multiply(-1, _polynomial(operand))
        case ast.BinOp(left=left, op=ast.Mult(), right=right):
            return multiply(_polynomial(left), _polynomial(right))
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return add(_polynomial(left), _polynomial(right))
        case ast.BinOp(left=left, op=ast.Sub(), right=right):
            return add(_polynomial(left), multiply(-1, _polynomial(right)))
        case ast.Name() | ast.Subscript() | ast.Attribute():
            return Size.symbol(_name(node))
        case _:
            _refuse_at(node, "expected a sum of products of sizes")


def _dtype(at: ast.expr, name: str) -> torch.dtype:
    literal = _torch_literal(at, name)
    return literal if isinstance(literal, torch.dtype) else _refuse_at(at, f"torch.{name} is no dtype")


def _torch_literal(at: ast.expr, name: str) -> Any:
    literal = getattr(torch, name, None)
    return literal if isinstance(literal, TORCH_LITERALS) else _refuse_at(at, f"torch.{name} is no literal")
