"""Graph -> its canonical text; the form is described in `dgmcompile.ir.text`."""

from __future__ import annotations

import keyword
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch

from dgmcompile.diagnostics import InternalError, Location
from dgmcompile.ir.graph import (
    Arg,
    Argument,
    Call,
    Carry,
    Constant,
    DeviceOf,
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
    Ref,
    Sample,
    Stacked,
    is_size,
    names_in,
)
from dgmcompile.ir.size import Size

PLAIN_TARGETS = ("size", "getitem", "identity", "probe")


_PLAIN_ROOTS = ("torch", "self")


_NODE_HEADS = ("input", "param", "constant", "sample", "noise", "loop", "carry", "stacked", "final")


_RESERVED = frozenset((*PLAIN_TARGETS, *_PLAIN_ROOTS, *_NODE_HEADS, "call", "formula", "graph", "guard", "law"))


TORCH_LITERALS = (torch.dtype, torch.memory_format, torch.layout)


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
            case _ if isinstance(arg, TORCH_LITERALS):
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
                return self.call(f"noise{_member(node.law)}", node.steps)
            case Loop():
                return self.call("loop", (node.length, *node.around))
            case Carry():
                return self.call("carry", (node.step, node.init, node.next))
            case Stacked():
                return self.call("stacked", (node.step, node.value))
            case Final():
                return self.call("final", (node.carry,))
            case Call():
                each = self.call(".each", node.steps) if node.steps else ""
                return self.call(_head(node.target), node.args, node.kwargs) + each
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
        if node.infer:
            yield self.call(".infer", (), node.infer)

    def _site(self, node: Node) -> str:
        if (site := node.site) is None:
            return ""
        name = [self.value(part) for part in site.parts]
        name = name or ([] if site.name == node.name else [_quote(site.name)])
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
    if target in PLAIN_TARGETS or (root in _PLAIN_ROOTS and rest):
        return root + "".join(map(_member, rest))
    return f"call{_member(target)}"


def _format_argument(argument: Argument) -> str:
    text = _show_name(argument.name)
    text = text if argument.required else f"optional({text})"
    return f"keyword({text})" if argument.keyword_only else text
