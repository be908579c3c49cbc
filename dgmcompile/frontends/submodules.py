"""Calls of the user's own submodules kept whole: a span of recorded nodes becomes one call and a body."""

from __future__ import annotations

import inspect
from bisect import bisect_right
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Any

from torch import nn

from dgmcompile.frontends.calls import module_hint
from dgmcompile.frontends.merge import renamed
from dgmcompile.frontends.naming import named
from dgmcompile.frontends.recording import ModuleSpan
from dgmcompile.ir.binding import Binding, Submodule
from dgmcompile.ir.graph import (
    Argument,
    Call,
    Constant,
    Graph,
    Input,
    Node,
    Noise,
    Parameter,
    Ref,
    Sample,
    is_size,
    names_in,
)
from dgmcompile.ir.normalisation import moved_statistics
from dgmcompile.ir.size import Size


@dataclass(frozen=True)
class Collapsed:
    """Nodes in which whole calls stand for spans, names for them, and the modules called."""

    nodes: list[Node]
    hints: dict[str, str]
    modules: dict[str, Submodule]


def collapse(nodes: Sequence[Node], spans: Sequence[ModuleSpan], hints: dict[str, str], binding: Binding) -> Collapsed:
    """Replace each outermost span that depends on nothing but its arguments and the module's own parameters.

    A module that is called several times, by itself or by another one, is kept whole where every call has
    the same body; the other calls stay recorded call by call. ``spans`` are in the order in which they ended.
    """
    scope = _Scope(nodes, dict(hints), binding)
    modules = dict(binding.modules)
    known: dict[str, Graph] = {}
    replaced: dict[str, list[Node]] = {}
    end = -1
    for span in sorted(reversed(spans), key=lambda s: (s.start, -s.end)):
        if span.start < end or type(span.module).__call__ is not nn.Module.__call__:
            continue  # inside a span that is whole already; or it does more than its forward says
        inside = scope.inside(span)
        if not inside or (body := _body(scope, inside, span, spans)) is None:
            continue
        bodies = dict(_bodies(span.path, body))
        if any(known.get(path, inner) != inner for path, inner in bodies.items()):
            continue
        known |= bodies
        modules[span.path] = Submodule(span.module, body)
        replaced.update((node.name, []) for node in inside)
        replaced[inside[-1].name] = list(_whole_call(span, inside, scope))
        end = span.end
    kept = [new for node in nodes for new in replaced.get(node.name, [node])]
    return Collapsed(kept, scope.hints, modules)


def _bodies(path: str, body: Graph) -> Iterator[tuple[str, Graph]]:
    """The module's own body and those of the modules that it calls whole, by their paths."""
    yield path, body
    for name, inner in body.binding.modules.items():
        if inner.body is not None:
            yield from _bodies(f"{path}.{name}", inner.body)


class _Scope:
    """Recorded nodes, found by name, by number and by reader."""

    def __init__(self, nodes: Sequence[Node], hints: dict[str, str], binding: Binding) -> None:
        self.hints = hints
        self.binding = binding
        self.by_name = {node.name: node for node in nodes}
        self.readers: dict[str, set[str]] = {}
        for node in nodes:
            for name in (*names_in(node.arguments), *names_in(node.shape or ())):
                self.readers.setdefault(name, set()).add(node.name)
        self._recorded = sorted((_number(n), n.name) for n in nodes if _number(n) >= 0 and not _is_lifted(n))

    def inside(self, span: ModuleSpan) -> list[Node]:
        """The nodes recorded during the span; parameters, constants and sizes are nobody's."""
        first = bisect_right(self._recorded, span.start, key=lambda entry: entry[0])
        last = bisect_right(self._recorded, span.end, key=lambda entry: entry[0])
        return [self.by_name[name] for _, name in self._recorded[first:last]]


def _number(node: Node) -> int:
    return int(node.name[1:]) if node.name[1:].isdigit() else -1


def _is_lifted(node: Node) -> bool:
    return isinstance(node, Parameter | Constant | Input) or is_size(node)


def _whole_call(span: ModuleSpan, inside: list[Node], scope: _Scope) -> Iterator[Node]:
    """The call, and where the module returns several tensors, those of them that are read."""
    by_name = scope.by_name
    hint = span.hints[0] or module_hint(span.path)
    if isinstance(span.output, Ref):
        made = by_name[span.output.name]
        scope.hints[made.name] = hint
        yield _call(span, made.name, made)
        return
    call = _call(span, f"{inside[-1].name}.whole", None)
    scope.hints[call.name] = hint
    yield call
    for position, (key, ref) in enumerate(_elements(span.output)):
        if (made := by_name.get(ref.name)) is not None:
            variable = (span.hints[1 + position : 2 + position] or ("",))[0]
            scope.hints[made.name] = variable or (key if isinstance(key, str) else hint)
            yield Call(
                name=made.name,
                target="getitem",
                args=(Ref(call.name), key),
                shape=made.shape,
                dtype=made.dtype,
                location=span.location,
            )


def _elements(output: Any) -> Iterable[tuple[int | str, Any]]:
    """The parts of a tuple by their places, of a dict by their keys."""
    return output.items() if isinstance(output, dict) else enumerate(output)


def _call(span: ModuleSpan, name: str, made: Node | None) -> Call:
    return Call(
        name=name,
        target=f"self.{span.path}",
        args=span.args,
        kwargs=span.kwargs,
        shape=made.shape if made else None,
        dtype=made.dtype if made else None,
        location=span.location,
    )


def _body(scope: _Scope, inside: list[Node], span: ModuleSpan, spans: Sequence[ModuleSpan]) -> Graph | None:
    """The graph of the module's forward, or None where the span cannot stand alone."""
    by_name, binding = scope.by_name, scope.binding
    own = {node.name for node in inside}
    outputs = _outputs(span.output, by_name)
    if outputs is None or len(set(outputs.values())) < len(outputs) or not set(outputs.values()) <= own:
        return None
    if any(isinstance(node, Sample | Noise) or node.site is not None for node in inside):
        return None
    if not span.module.training and any(map(_moves_statistics, inside)):
        return None  # its mode does not say what it does
    if any(not scope.readers.get(name, set()) <= own for name in own - set(outputs.values())):
        return None
    arguments = _arguments(span)
    if arguments is None:
        return None
    inputs = {
        ref: Input(name=ref, path=path, shape=by_name[ref].shape, dtype=by_name[ref].dtype)
        for path, ref in arguments.items()
    }
    lifted: dict[str, Node] = {}
    for name in (name for node in inside for name in names_in(node.arguments)):
        if name in own or name in inputs:
            continue
        if (node := _own_lifted(by_name[name], span.path, inputs)) is None:
            return None
        lifted[name] = node
    ended = takewhile(lambda s: s is not span, spans)
    inner = [s for s in ended if span.start <= s.start]
    paths = _Paths.of(span, binding, inner)
    body = [*inputs.values(), *lifted.values(), *(paths.relative(node) for node in inside)]
    relative = replace(binding, modules={paths.within(p): m for p, m in binding.modules.items() if paths.has(p)})
    inner = [replace(s, path=paths.within(s.path)) for s in inner]
    collapsed = collapse(body, inner, scope.hints, relative)
    names = named(collapsed.nodes, collapsed.hints)
    tensors = {p[len(span.path) + 1 :]: t for p, t in binding.tensors.items() if p.startswith(span.path + ".")}
    return Graph(
        renamed(_with_known_sizes(collapsed.nodes), names.__getitem__),
        name=type(span.module).__name__,
        outputs={key: names[name] for key, name in outputs.items()},
        arguments=_signature(span.module, {str(path[0]) for path in arguments}),
        binding=Binding(tensors, collapsed.modules),
    )


def _moves_statistics(node: Node) -> bool:
    return isinstance(node, Call) and bool(moved_statistics(node.target_name, node.args, node.kwargs))


def _with_known_sizes(nodes: list[Node]) -> list[Node]:
    """Types that name sizes of the whole program, which a body does not know, are dropped."""
    known = {node.name for node in nodes}
    return [node if set(names_in(node.shape or ())) <= known else replace(node, shape=None) for node in nodes]


def _outputs(output: Any, known: Container[str]) -> dict[str, str] | None:
    """What the body returns, of that which is read: a tensor, or elements of a tuple or a dict."""
    if isinstance(output, Ref):
        return {"return": output.name}
    if not isinstance(output, tuple | list | dict) or not all(isinstance(item, Ref) for _, item in _elements(output)):
        return None
    if isinstance(output, dict) and not all(isinstance(key, str) and key.isidentifier() for key in output):
        return None
    return {str(key): item.name for key, item in _elements(output) if item.name in known} or None


def _arguments(span: ModuleSpan) -> dict[tuple[str | int, ...], str] | None:
    """Path of each tensor argument -> the node that is passed."""
    try:
        bound = inspect.signature(span.module.forward).bind(*span.args, **span.kwargs)
    except (TypeError, ValueError):
        return None
    found: dict[tuple[str | int, ...], str] = {}

    def walk(value: Any, path: tuple[str | int, ...]) -> None:
        if isinstance(value, Ref):
            found[path] = value.name
        elif isinstance(value, dict):
            for key, item in value.items():
                walk(item, (*path, key))
        elif isinstance(value, list | tuple):
            for index, item in enumerate(value):
                walk(item, (*path, index))

    for name, value in bound.arguments.items():
        walk(value, (name,))
    return found if len(set(found.values())) == len(found) else None


def _signature(module: nn.Module, read: Container[str]) -> tuple[Argument, ...]:
    """Those of the module's arguments that hold tensors."""
    parameters = inspect.signature(module.forward).parameters.values()
    return tuple(Argument(_STARS.get(p.kind, "") + p.name) for p in parameters if p.name in read)


_STARS = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}


def _own_lifted(node: Node, path: str, inputs: dict[str, Input]) -> Node | None:
    """What the body may read from outside: its own parameters, literals, and sizes of its arguments."""
    if isinstance(node, Constant):
        return node
    if isinstance(node, Parameter) and node.path.startswith(path + "."):
        return replace(node, path=node.path[len(path) + 1 :])
    if is_size(node):
        for given in inputs.values():
            for dim, size in enumerate(given.shape or ()):
                if size == Size.symbol(node.name):
                    return Call(name=node.name, target="size", args=(Ref(given.name), dim))
    return None


@dataclass(frozen=True)
class _Paths:
    """Paths of the program's modules as one of them sees them, at ``root``.

    ``shared`` are modules that it has in common with others, under whose path the program knows them.
    """

    root: str
    shared: Mapping[str, str]

    @classmethod
    def of(cls, span: ModuleSpan, binding: Binding, inner: Sequence[ModuleSpan]) -> _Paths:
        own = {id(module): name for name, module in span.module.named_modules(remove_duplicate=False) if name}
        called = {path: held.module for path, held in binding.modules.items()} | {s.path: s.module for s in inner}
        return cls(span.path, {path: own[id(module)] for path, module in called.items() if id(module) in own})

    def has(self, path: str) -> bool:
        return path.startswith(self.root + ".") or path in self.shared

    def within(self, path: str) -> str:
        """``path`` as the module sees it; one that is none of its own stays."""
        return path[len(self.root) + 1 :] if path.startswith(self.root + ".") else self.shared.get(path, path)

    def relative(self, node: Node) -> Node:
        if isinstance(node, Call) and isinstance(node.target, str) and self.has(node.target.removeprefix("self.")):
            return replace(node, target="self." + self.within(node.target.removeprefix("self.")))
        return node
