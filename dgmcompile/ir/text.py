"""Canonical text of a graph, and back: what people read in documentation, diffs and tests.

Each line is one node, in Python's syntax (it is read with `ast` and never run)::

    vae = graph(x, optional(mask))
    x: float32[batch, 784] = input()
    batch = size(x, 0)
    loc: float32[batch, 16] = self.encoder(x)
    z_noise: float32[batch, 16] = noise.StandardNormal()
    z: float32[batch, 16] = normal_from_noise(z_noise, loc, 1.0).latent(plate("data", -2, batch), family="Normal")
    y: float32[batch, 784] = sample.Bernoulli(logits=z).event(1).target(plate("data", -2, batch))

A bare name is a node's value; of a size node, the `Size` it makes. A dotted name (``teacher.z``)
stands as it is, any other that is no identifier as ``ref["weird name"]``. ``float32`` alone is a scalar
tensor. ``return`` stands where the outputs are not just the sites.
"""

from __future__ import annotations

import ast
import inspect
import io
import keyword
import re
import tokenize
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn, cast

import torch

from dgmcompile.diagnostics import CompileError, Diagnostic, InternalError, Location
from dgmcompile.ir.graph import (
    Arg,
    Argument,
    Call,
    Constant,
    DeviceOf,
    Dim,
    Formula,
    Graph,
    Guard,
    Input,
    Law,
    Node,
    Noise,
    Parameter,
    Plate,
    Ref,
    Role,
    Sample,
    Shape,
    Site,
    TransformStep,
    is_size,
    names_in,
)
from dgmcompile.ir.size import Size, add, multiply

_PLAIN_TARGETS = ("size", "getitem", "identity", "probe")
_PLAIN_ROOTS = ("torch", "self")
_NODE_HEADS = ("input", "param", "constant", "sample", "noise")
_RESERVED = frozenset((*_PLAIN_TARGETS, *_PLAIN_ROOTS, *_NODE_HEADS, "call", "formula", "graph", "guard", "law"))
_TORCH_LITERALS = (torch.dtype, torch.memory_format, torch.layout)
_ROLES: dict[str, Role] = {"latent": "latent", "target": "target", "deterministic": "deterministic"}


def format_graph(graph: Graph, *, locations: bool = True) -> str:
    """The text of ``graph``; ``parse`` gives it back. ``locations`` adds source lines as comments."""
    writer = _Writer(frozenset(node.name for node in graph if is_size(node)))
    lines = list(writer.header(graph))
    for node in graph:
        comment = _comment(node.location) if locations else ""
        lines.append(writer.node(node) + comment)
    lines += [writer.guard(guard) for guard in graph.guards]
    lines += writer.outputs(graph)
    return "\n".join(lines)


def format_value(arg: Arg) -> str:
    """The text of one argument; equal texts are equal arguments, also for nan, ``-0.0``, ``1`` and ``1.0``."""
    return _Writer(frozenset()).value(arg)


def format_type(node: Node) -> str:
    """Dtype and shape, as ``float32[batch, 16]``; "" for what is no tensor."""
    return _Writer(frozenset(names_in(node.shape))).type(node)


def _is_plain(name: str) -> bool:
    # Python normalises identifiers while reading them: only those it leaves alone come back as they were.
    return name.isidentifier() and not keyword.iskeyword(name) and unicodedata.normalize("NFKC", name) == name


def _quote(text: str) -> str:
    quoted = str.__repr__(text)
    return quoted if '"' in quoted else f'"{quoted[1:-1]}"'


def _show_name(name: str) -> str:
    root, *parts = name.split(".")
    readable = root != "torch" and all(map(_is_plain, (root, *parts)))
    return name if readable else f"ref[{_quote(name)}]"


def _member(name: str) -> str:
    return f".{name}" if _is_plain(name) else f"[{_quote(name)}]"


def _call(head: str, *args: str) -> str:
    return f"{head}({', '.join(args)})"


def _keyword(key: str, value: str) -> str:
    return f"{key}={value}" if _is_plain(key) else f"**{{{_quote(key)}: {value}}}"


def _float(number: float) -> str:
    text = float.__repr__(number)
    return text if text[-1].isdigit() else f'float("{text}")'


def _comment(location: Location | None) -> str:
    if location is None:
        return ""
    file = "".join(c if c.isprintable() else "?" for c in Path(location.file).name)
    return f"  # {file}:{location.line}:{location.column}"


@dataclass(frozen=True)
class _Writer:
    """``sizes``: names of the size nodes, whose bare name is a `Size`."""

    sizes: Set[str]

    def value(self, arg: Arg) -> str:
        match arg:
            case Ref():
                return f"ref[{_quote(arg.name)}]" if arg.name in self.sizes else _show_name(arg.name)
            case Size():
                return self._size(arg)
            case None | bool() | bytes():
                return repr(arg)
            case str():
                return _quote(arg)
            case int():
                return int.__repr__(arg)
            case float():
                return _float(arg)
            case complex():
                return f"complex({_float(arg.real)}, {_float(arg.imag)})"
            case _:
                return self._container(arg)

    def _size(self, size: Size) -> str:
        if (name := size.symbols[0]) in self.sizes and _is_plain(name) and size == Size.symbol(name):
            return name
        return f"1 * {_show_name(name)}" if size == Size.symbol(name) else size.format(_show_name)

    def _container(self, arg: Arg) -> str:
        match arg:
            case tuple():
                items = [self.value(item) for item in cast(tuple[Arg, ...], arg)]
                return f"({items[0]},)" if len(items) == 1 else f"({', '.join(items)})"
            case list():
                return f"[{', '.join(self.value(item) for item in cast(list[Arg], arg))}]"
            case dict():
                items = cast(dict[Arg, Arg], arg).items()
                return f"{{{', '.join(f'{self.value(key)}: {self.value(item)}' for key, item in items)}}}"
            case slice():
                cut = cast("slice[Arg, Arg, Arg]", arg)
                return f"slice({self.value(cut.start)}, {self.value(cut.stop)}, {self.value(cut.step)})"
            case Law():
                return self._law(arg)
            case DeviceOf():
                return "device()"
            case torch.device():
                return f"device({_quote(str(arg))})"
            case _ if arg is ...:
                return "..."
            case _ if isinstance(arg, _TORCH_LITERALS):
                return str(arg)
            case _:
                return f"opaque({_quote(repr(arg))})"  # has no text form: shown, and refused by `parse`

    def type(self, node: Node) -> str:
        dtype = "" if node.dtype is None else str(node.dtype).removeprefix("torch.")
        if node.shape is None:
            return dtype and f"{dtype}[...]"
        dims = ", ".join(self.value(dim) for dim in node.shape)
        return dtype if dtype and not dims else f"{dtype}[{dims}]"

    def call(self, head: str, args: Iterable[Arg] = (), kwargs: Mapping[str, Arg] | None = None) -> str:
        named = {key: self.value(value) for key, value in (kwargs or {}).items()}
        return _call(head, *map(self.value, args), *(_keyword(key, value) for key, value in named.items()))

    def header(self, graph: Graph) -> Iterator[str]:
        if graph.name != "model" or graph.arguments:
            yield f"{_show_name(graph.name)} = {_call('graph', *map(_format_argument, graph.arguments))}"

    def node(self, node: Node) -> str:
        annotation = f": {text}" if (text := self.type(node)) else ""
        return f"{_show_name(node.name)}{annotation} = {self._value_of(node)}{self._site(node)}"

    def _value_of(self, node: Node) -> str:
        match node:
            case Input():
                return self.call("input", () if node.path == (node.name,) else node.path)
            case Parameter():
                path = () if node.path == node.name else (node.path,)
                return self.call("param", path, {} if node.trainable else {"trainable": False})
            case Constant():
                return self.call("constant", (node.value,))
            case Noise():
                return self.call(f"noise{_member(node.law)}")
            case Call():
                return self.call(_head(node.target), node.args, node.kwargs)
            case Sample():
                return "".join(self._sample(node))
            case _:
                raise InternalError(f"{type(node).__name__} has no text form")

    def _law(self, law: Law) -> str:
        return self.call(f"law{_member(law.family)}", law.shape, law.params) + "".join(self._pushed(law))

    def _pushed(self, law: Law | Sample) -> Iterator[str]:
        for step in law.transforms:
            yield self.call(f".transform{_member(step.name)}", (), step.params)
        if law.event_dim:
            yield self.call(".event", (law.event_dim,))

    def _sample(self, node: Sample) -> Iterator[str]:
        yield self.call(f"sample{_member(node.family)}", (), node.params)
        yield from self._pushed(node)
        if node.mask is not None:
            yield self.call(".mask", (node.mask, node.mask_event_dim) if node.mask_event_dim else (node.mask,))
        if node.scale is not None:
            yield self.call(".scale", (node.scale,))
        if node.kept:
            yield self.call(".keep")
        if node.options:
            yield self.call(".options", (), node.options)

    def _site(self, node: Node) -> str:
        if (site := node.site) is None:
            return ""
        name = [] if site.name == node.name else [_quote(site.name)]
        plates = [self.call("plate", (plate.name, plate.dim, plate.size)) for plate in site.plates]
        usual = node.family if isinstance(node, Sample) else ""
        family = [] if site.family == usual else [_keyword("family", _quote(site.family))]
        return _call(f".{site.role}", *name, *plates, *family)

    def guard(self, guard: Guard) -> str:
        return self.call("guard", guard.path, {"dim": guard.dim, "expected": guard.expected, "reason": guard.reason})

    def outputs(self, graph: Graph) -> list[str]:
        outputs = graph.outputs
        if outputs == graph.sites():
            return []
        if outputs and all(name == node for name, node in outputs.items()):
            return [f"return {', '.join(map(_show_name, outputs))}"]
        return [f"return {{{', '.join(f'{_quote(name)}: {_show_name(node)}' for name, node in outputs.items())}}}"]


def _head(target: str | Formula) -> str:
    if isinstance(target, Formula):
        usual = _is_plain(target.name) and target.name not in _RESERVED
        return target.name if usual else f"formula{_member(target.name)}"
    root, *rest = target.split(".")
    if target in _PLAIN_TARGETS or (root in _PLAIN_ROOTS and rest):
        return root + "".join(map(_member, rest))
    return f"call{_member(target)}"


def _format_argument(argument: Argument) -> str:
    text = _show_name(argument.name)
    text = text if argument.required else f"optional({text})"
    return f"keyword({text})" if argument.keyword_only else text


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
        return _has_no_shape(self.annotation) and self.head in (("input",), ("size",), ("call", "size"))


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
                return Noise(**common, law=law)
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
            case (name,) if name in _PLAIN_TARGETS:
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
                case ("keep",), [] if of_sample:
                    fields["kept"] = True
                case ("options",), [] if of_sample:
                    fields["options"] = self.values(call)
                case _:
                    _refuse_at(call, f"no such suffix: .{'.'.join(path)}")
        return {**fields, **self._pushed(pushed)}

    def _site(self, name: str, role: Role, family: str, call: ast.Call) -> Site:
        plates = list[Plate]()
        for arg in call.args:
            match arg:
                case ast.Constant(str() as given):
                    name = given
                case ast.Call(func=ast.Name("plate"), args=[_, _, _] as fields, keywords=[]):
                    plates.append(Plate(*map(self.value, fields)))
                case _:
                    _refuse_at(arg, "expected the site's name or plate(name, dim, size)")
        return Site(name, role, self.values(call).get("family", family), tuple(plates))

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
    return literal if isinstance(literal, _TORCH_LITERALS) else _refuse_at(at, f"torch.{name} is no literal")
