"""The lines of a function's body: one for each node that its results need."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import torch

from dgmcompile.codegen.expressions import Names, expression, literal, shape_text
from dgmcompile.codegen.names import Namespace, is_plain, one_line
from dgmcompile.diagnostics import InternalError, Location
from dgmcompile.ir.graph import (
    Argument,
    Call,
    Constant,
    DeviceOf,
    Formula,
    Graph,
    Guard,
    Input,
    Node,
    Noise,
    Parameter,
    Sample,
    is_size,
    leaves,
    names_in,
)
from dgmcompile.reparam import NOISE_LAWS

_OWN = ("self", "noise", "generator", "return")


@dataclass
class Frame:
    """One function that is being written: which nodes it computes, and what they are called there.

    Args:
        graph: whose nodes they are.
        results: names of the nodes that it is for.
        parameter, module: path -> expression of the parameter or submodule.
        constants: name of a `Constant` -> expression of it.
        anchor: dtype -> expression of a parameter of that dtype (None: of any), or None where there is none.
        reserved: names of the file, which no local variable takes.
        formulas: filled with the formulas that the lines call.
        draws: is it the function that draws the noise, or one that is given it?
        titles: name of a node -> what the comment on its line says.
    """

    graph: Graph
    results: Sequence[str]
    parameter: Callable[[str], str]
    module: Callable[[str], str]
    constants: Mapping[str, str]
    anchor: Callable[[torch.dtype | None], str | None]
    reserved: Iterable[str]
    formulas: dict[str, Formula]
    draws: bool = False
    titles: Mapping[str, str] = field(default_factory=dict[str, str])
    nodes: list[Node] = field(init=False)
    guards: tuple[Guard, ...] = field(init=False)

    def __post_init__(self) -> None:
        self._local: dict[str, str] = {}
        self._namespace = Namespace([*self.reserved, "noise", "generator"])
        self.arguments = {a.name: self._argument(a) for a in self.graph.arguments}
        first = {(guard.path, guard.dim, repr(guard.expected)): guard for guard in reversed(self.graph.guards)}
        self.guards = () if self.draws else tuple(reversed(first.values()))
        results = [*self.results, *names_in([guard.expected for guard in self.guards])]
        self.nodes = self._needed(results)
        self.nodes = self._needed([*results, *self._followed()])
        self._reads = Counter(name for node in self.nodes for name in self._read_by(node))
        self._reads.update(name for name in self.results if not self.draws)
        draws = self.draws and any(isinstance(node, Noise) for node in self.nodes)
        self._uses_device = draws or self._reads_device()
        self._device = self._namespace.new("device") if self._uses_device else "device"
        self._dtypes: dict[torch.dtype | None, str] = {}
        self._last_place = ""
        self.names = Names(self.value, self.module, self._device, self.formulas)

    def _argument(self, argument: Argument) -> str:
        name = argument.name.lstrip("*")
        if is_plain(name) and not name.startswith("__") and name not in _OWN and name not in self.reserved:
            self._namespace.reserve(name)
            return name  # callers pass it by this name
        return self._namespace.new(name, "argument")

    def _read_by(self, node: Node) -> tuple[str, ...]:
        return () if isinstance(node, Noise) and not self.draws else node.inputs

    def _needed(self, results: Sequence[str]) -> list[Node]:
        wanted = set(results)
        for node in reversed(list(self.graph)):
            if node.name in wanted:
                if isinstance(node, Sample):
                    raise InternalError(f"{node.name!r} is still a sample", self.graph)
                wanted.update(self._read_by(node))
        return [node for node in self.graph if node.name in wanted]

    def _followed(self) -> set[str]:
        """The inputs whose device or dtype is followed at run time, where no parameter's can be."""
        dtypes = {node.dtype or torch.float32 for node in self.nodes if isinstance(node, Noise) and self.draws}
        wanted = {None, *dtypes} if dtypes or self._reads_device() else set[torch.dtype | None]()
        found = {self._input_like(dtype) for dtype in wanted if self.anchor(dtype) is None}
        return {node.name for node in found if node is not None}

    def _reads_device(self) -> bool:
        return any(isinstance(leaf, DeviceOf) for node in self.nodes for leaf in leaves(node.arguments))

    def _input_like(self, dtype: torch.dtype | None) -> Input | None:
        inputs = (node for node in self.graph if isinstance(node, Input) and node.dtype is not None)
        return next((node for node in inputs if dtype in (None, node.dtype)), None)

    def value(self, name: str) -> str:
        """Expression of the value of the node ``name``."""
        if name not in self._local:
            raise InternalError(f"{name!r} is read before it is there", self.graph)
        return self._local[name]

    # The parts of a body, in the order in which they are asked for.

    def head(self) -> list[str]:
        """Arguments unpacked, guards checked, the device and the dtypes of draws named."""
        lines = [line for node in self.nodes if isinstance(node, Input) for line in self._input(node)]
        early = self._sizes_of_guards()
        lines += [line for node in self.nodes if node.name in early for line in self._line(node)]
        lines += [line for guard in self.guards for line in self._guard(guard)]
        if self._uses_device:
            lines.append(f"{self._device} = {self._like(None)}")
        if self.draws:
            lines += self._name_dtypes()
        else:
            lines += [line for node in self.nodes if isinstance(node, Noise) for line in self._noise(node)]
        return lines

    def body(self, wanted: Callable[[Node], bool] = lambda node: True) -> list[str]:
        """A line for each node that is not computed yet and that is ``wanted``."""
        return [
            line for node in self.nodes if node.name not in self._local and wanted(node) for line in self._line(node)
        ]

    def _sizes_of_guards(self) -> set[str]:
        """What has to be computed before the guards are checked."""
        wanted = set(names_in([guard.expected for guard in self.guards]))
        for node in reversed(self.nodes):
            if node.name in wanted:
                wanted.update(self._read_by(node))
        return {name for name in wanted if not isinstance(self.graph[name], Input)}

    def _new(self, name: str) -> str:
        self._local[name] = self._namespace.new(name)
        return self._local[name]

    def _input(self, node: Input) -> list[str]:
        text = self._place(node.path)
        if len(node.path) == 1:
            self._local[node.name] = text
            return []
        return [f"{self._new(node.name)} = {text}"]

    def _place(self, path: tuple[str | int, ...]) -> str:
        argument, *keys = path
        name = str(argument).lstrip("*")
        if (
            local := self.arguments.get(name) or self.arguments.get(f"*{name}") or self.arguments.get(f"**{name}")
        ) is None:
            raise InternalError(f"{path} is part of no argument", self.graph)
        return local + "".join(f"[{key!r}]" for key in keys)

    def _guard(self, guard: Guard) -> list[str]:
        known = {node.path: self._local[node.name] for node in self.nodes if isinstance(node, Input)}
        found = known.get(guard.path) or self._place(guard.path)
        shown = _path_text(guard.path)
        if guard.dim is not None:
            found, shown = f"{found}.shape[{guard.dim}]", f"{shown}.shape[{guard.dim}]"
        expected = literal(guard.expected, self.names)
        same = "is not" if guard.expected is None or isinstance(guard.expected, bool) else "!="
        message = one_line(f"{shown} has to be {expected}: {guard.reason}")
        return [f"if {found} {same} {expected}:", f"    raise ValueError({message!r})"]

    def _noise(self, node: Noise) -> list[str]:
        return [f"{self._new(node.name)} = noise[{node.name!r}]"]

    def _like(self, dtype: torch.dtype | None) -> str:
        """Expression of the device (where ``dtype`` is None) or of the dtype to follow at run time."""
        attribute = "device" if dtype is None else "dtype"
        if (anchor := self.anchor(dtype)) is not None:
            return f"{anchor}.{attribute}"
        if (node := self._input_like(dtype)) is not None:
            return f"{self._local[node.name]}.{attribute}"
        if dtype is None:
            return "torch.get_default_device()"
        return "torch.get_default_dtype()" if dtype == torch.float32 else str(dtype)

    def _name_dtypes(self) -> list[str]:
        """A variable for each dtype that follows the model's at run time."""
        lines = list[str]()
        for node in self.nodes:
            dtype = node.dtype or torch.float32
            if isinstance(node, Noise) and dtype not in self._dtypes:
                text = self._like(dtype)
                if text.endswith(".dtype"):
                    self._dtypes[dtype] = self._namespace.new("dtype")
                    lines.append(f"{self._dtypes[dtype]} = {text}")
                else:
                    self._dtypes[dtype] = text
        return lines

    def _draw(self, node: Noise) -> str:
        draw = self.names.formula(NOISE_LAWS[node.law].draw)
        shape = shape_text(node.shape or (), self.value)
        dtype = self._dtypes[node.dtype or torch.float32]
        return f"{draw}({shape}, dtype={dtype}, device={self._device}, generator=generator)"

    def _line(self, node: Node) -> list[str]:
        """The line that computes ``node``; none where it is written out where it is read."""
        match node:
            case Parameter() | Constant():
                text = self.constants[node.name] if isinstance(node, Constant) else self.parameter(node.path)
                if self._reads[node.name] <= 1 or text.isidentifier():
                    self._local[node.name] = text
                    return []
                return [f"{self._new(node.name)} = {text}"]
            case Call():
                text = expression(_without_fixed(node, self.graph), self.names)
                return [f"{self._new(node.name)} = {text}{self._comment(node)}"]
            case Noise():
                text = self._draw(node)
                return [f"{self._new(node.name)} = {text}{self._comment(node)}"]
            case _:
                raise InternalError(f"{node.name!r} has no line", self.graph)

    def _comment(self, node: Node) -> str:
        """The site and the source line; a line that the one above names is not named again."""
        place = location_text(node.location)
        title = self.titles.get(node.name) or (f"site {node.site.name!r}" if node.site else "")
        parts = [title, place] if title else [place] if place != self._last_place else []
        said = ", ".join(part for part in parts if part)
        self._last_place = place
        return f"  # {one_line(said)}" if said else ""


def _without_fixed(call: Call, graph: Graph) -> Call:
    """A call of a submodule without the arguments that its recorded body has no use for: literals are part of it."""
    path = call.target.removeprefix("self.") if isinstance(call.target, str) else ""
    submodule = graph.binding.modules.get(path) if call.target_name.startswith("self.") else None
    if submodule is None or submodule.body is None:
        return call
    taken = {argument.name for argument in submodule.body.arguments}
    given = inspect.signature(submodule.module.forward).bind(*call.args, **call.kwargs).arguments
    kept = {name: value for name, value in given.items() if name in taken}
    if len(kept) == len(given):
        return call
    positional = len(call.args) if list(given)[: len(kept)] == list(kept) else 0
    values = list(kept.values())
    return replace(call, args=tuple(values[:positional]), kwargs=dict(list(kept.items())[positional:]))


def location_text(location: Location | None) -> str:
    return one_line(str(location)) if location is not None else ""


def _path_text(path: tuple[str | int, ...]) -> str:
    return str(path[0]) + "".join(f"[{key!r}]" for key in path[1:])


def signature(frame: Frame) -> tuple[list[str], list[str]]:
    """(parameters as a ``def`` has them, positional ones first; the same passed on in a call)."""
    arguments = frame.graph.arguments
    positional = [a for a in arguments if not a.keyword_only and not a.name.startswith("**")]
    keywords = [a for a in arguments if a.keyword_only]
    rest = [a for a in arguments if a.name.startswith("**")]
    read = {str(n.path[0]).lstrip("*") for n in frame.graph if isinstance(n, Input) and _is_read(n, frame.graph)}
    required = {a.name for a in arguments if a.required or a.name.lstrip("*") in read}
    last_required = max((i for i, a in enumerate(positional) if a.name in required), default=-1)
    parameters = [_parameter(frame, a, default=i > last_required) for i, a in enumerate(positional)]
    if keywords and not any(a.name.startswith("*") for a in positional):
        parameters.append("*")
    parameters += [_parameter(frame, a, default=a.name not in required) for a in keywords]
    parameters += [_parameter(frame, a, default=False) for a in rest]
    passed = [_stars(a) + frame.arguments[a.name] for a in positional]
    passed += [f"{frame.arguments[a.name]}={frame.arguments[a.name]}" for a in keywords]
    return parameters, passed + [_stars(a) + frame.arguments[a.name] for a in rest]


def _is_read(node: Input, graph: Graph) -> bool:
    return bool(graph.users(node.name)) or node.name in graph.outputs.values()


def _stars(argument: Argument) -> Literal["", "*", "**"]:
    name = argument.name
    return "**" if name.startswith("**") else "*" if name.startswith("*") else ""


def _parameter(frame: Frame, argument: Argument, *, default: bool) -> str:
    name, kind = frame.arguments[argument.name], _annotation(frame.graph, argument)
    if stars := _stars(argument):
        return f"{stars}{name}: {kind}"
    if not default:
        return f"{name}: {kind}"
    expected = next((g.expected for g in frame.graph.guards if g.path == (argument.name,) and g.dim is None), None)
    optional = kind if expected is not None or kind == "Any" else f"{kind} | None"
    return f"{name}: {optional} = {literal(expected, frame.names)}"


def _annotation(graph: Graph, argument: Argument) -> str:
    name = argument.name.lstrip("*")
    inputs = [node for node in graph if isinstance(node, Input) and str(node.path[0]).lstrip("*") == name]
    tensors = all(node.shape is not None or node.dtype is not None for node in inputs)
    if not inputs:
        return "Any"
    if any(len(node.path) > 2 for node in inputs) or (not tensors and any(len(node.path) > 1 for node in inputs)):
        return "Any"
    if len(inputs[0].path) == 1:
        return "Tensor" if tensors else "int" if is_size(inputs[0]) else "Any"
    if argument.name.startswith("*"):
        return "Tensor"
    if all(isinstance(node.path[1], str) for node in inputs):
        return "dict[str, Tensor]"
    return "tuple[Tensor, ...]" if all(isinstance(node.path[1], int) for node in inputs) else "Any"
