"""Graph -> `torch.fx.GraphModule`: the same calls as fx nodes, for the passes, drawers and exporters that take one."""

from __future__ import annotations

import operator
from collections.abc import Callable
from functools import reduce
from types import EllipsisType, NoneType
from typing import Any, cast

import torch
from torch import Tensor, fx, nn
from torch.fx.node import base_types

from dgmcompile.codegen.names import Namespace, class_name
from dgmcompile.diagnostics import CompileError, Diagnostic, InternalError, Location
from dgmcompile.ir.graph import (
    Arg,
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
    Ref,
    is_size,
    leaves,
    map_arg,
)
from dgmcompile.ir.size import Size

NOISE = "noise"

_WRITABLE = (fx.Node, NoneType, EllipsisType, *base_types)
"""What an fx node may be given."""


def fx_module(graph: Graph) -> fx.GraphModule:
    """The graph as fx nodes, with the user's own parameters, buffers and submodules.

    ``forward(*args, noise)`` takes the program's arguments and a dict of its noise, and returns a dict of its outputs.

    Errors:
        `InternalError` where a `Sample` is left.
    """
    written = _Writer(graph)
    given = [node for node in graph if isinstance(node, Input) or is_size(node)]
    for node in given:
        written.node(node)
    written.guards()
    for node in graph:
        if node.name not in written.values:
            written.node(node)
    written.graph.output({key: written.values[node] for key, node in graph.outputs.items()})
    written.graph.lint()
    return fx.GraphModule(written.root, written.graph, class_name=class_name(graph.name))


class _Writer:
    """Node by node; ``values`` are the fx nodes by our names."""

    def __init__(self, graph: Graph) -> None:
        self.graph, self.root = fx.Graph(), nn.Module()
        self.values: dict[str, Any] = {}
        self._nodes = graph
        held = [*graph.binding.tensors, *graph.binding.modules]
        self._names = Namespace([NOISE, *(_path(path).partition(".")[0] for path in held)])
        self._with_default = False
        self._arguments = {argument.name.lstrip("*"): self._argument(argument) for argument in graph.arguments}
        self._noise = self.graph.placeholder(NOISE, default_value=None) if graph.noises else None
        self._device: Any = None

    def _argument(self, argument: Argument) -> fx.Node:
        """All have a default after one that has: what the graph takes them to be, or None."""
        bare = argument.name.lstrip("*")
        stars = argument.name.removesuffix(bare)
        self._with_default = not stars and (self._with_default or not argument.required)
        name = stars + self._names.new(bare)
        if self._with_default:
            fixed = (g.expected for g in self._nodes.guards if g.path == (bare,) and g.dim is None)
            return self.graph.placeholder(name, default_value=next(fixed, None))
        return self.graph.placeholder(name)

    def node(self, node: Node) -> None:
        match node:
            case Input():
                self.values[node.name] = self._part(node.path)
            case Parameter():
                self.values[node.name] = self._held(_path(node.path), self._nodes.binding.tensors[node.path])
            case Constant():
                tensor = torch.tensor(node.value, dtype=node.dtype)
                self.values[node.name] = self._held(self._names.new("constant"), tensor)
            case Noise():
                self.values[node.name] = self.graph.call_function(operator.getitem, (self._noise, node.name))
            case Call():
                self.values[node.name] = self._call(node)
            case _:
                raise InternalError(f"{node.name!r} cannot be written as a call", self._nodes)

    def _part(self, path: tuple[str | int, ...]) -> Any:
        argument, *keys = path
        whole = self._arguments[str(argument)]
        return reduce(lambda value, key: self.graph.call_function(operator.getitem, (value, key)), keys, whole)

    def _held(self, path: str, value: Tensor) -> fx.Node:
        self._hold(path, value)
        return self.graph.get_attr(path)

    def _hold(self, path: str, value: Tensor | nn.Module) -> None:
        """A parameter, a buffer or a submodule of the root, at its path."""
        *above, last = path.split(".")
        owner = self.root
        for part in above:
            if part not in dict(owner.named_children()):
                owner.add_module(part, nn.Module())
            owner = owner.get_submodule(part)
        if getattr(owner, last, None) is value:  # the user's own module holds it
            return
        if isinstance(value, nn.Module):
            owner.add_module(last, value)
        elif isinstance(value, nn.Parameter):
            owner.register_parameter(last, value)
        else:
            owner.register_buffer(last, value)

    # -- guards -----------------------------------------------------------------------------------------------

    def guards(self) -> None:
        """What the graph takes as fixed; of an argument that may be left out, its size is not."""
        if self._noise is not None:
            self._assert(operator.is_not, self._noise, None, "noise has to be what sample_noise draws")
        optional = {argument.name for argument in self._nodes.arguments if not argument.required}
        for guard in sorted(
            self._nodes.guards, key=lambda guard: isinstance(guard.dim, int)
        ):  # a dim is there, or is not
            if guard.path[0] not in optional or not isinstance(guard.expected, Size):
                self._guard(guard)

    def _guard(self, guard: Guard) -> None:
        found, shown = self._read(guard), guard.read(".".join(map(str, guard.path)))
        if isinstance(fixed := guard.expected, slice):
            allowed = cast("slice[int | None, int | None, None]", fixed)
            for compare, bound in ((operator.ge, allowed.start), (operator.lt, allowed.stop)):
                if bound is not None:
                    self._assert(compare, found, bound, f"{shown}: {guard.reason}")
            return
        self._assert(operator.eq, found, self._leaf(fixed), f"{shown} has to be {fixed}: {guard.reason}")

    def _read(self, guard: Guard) -> Any:
        value = self._part(guard.path)
        match guard.dim:
            case None:
                return value
            case "len":
                return self.graph.call_function(len, (value,))
            case "rank":
                return self.graph.call_method("dim", (value,))
            case "floating":
                return self.graph.call_method("is_floating_point", (value,))
            case dim:
                return self.graph.call_method("size", (value, dim))

    def _assert(self, compare: Callable[[Any, Any], bool], found: Any, expected: Any, message: str) -> None:
        held = self.graph.call_function(compare, (found, expected))
        self.graph.call_function(cast(Callable[..., None], getattr(torch, "_assert")), (held, message))  # noqa: B009

    # -- calls ------------------------------------------------------------------------------------------------

    def _call(self, call: Call) -> Any:
        args, kwargs = self._arg(call.args), self._arg(dict(call.kwargs))
        if isinstance(call.target, Formula):
            made = self.graph.call_function(call.target.function, args, kwargs)
            made.meta["is_wrapped"] = True  # tools that trace again take a formula as it is
            return made
        word = call.target.rpartition(".")[2]
        match call.target.split("."):
            case ["identity"]:
                return args[0]
            case ["size"]:
                return self.graph.call_method("size", args)
            case ["getitem"]:
                return self.graph.call_function(operator.getitem, args)
            case ["self", *path]:
                return self._submodule(".".join(path), args, kwargs, call.location)
            case ["torch", "Tensor", "__getitem__"]:
                return self.graph.call_function(operator.getitem, args)
            case ["torch", "Tensor", _] if not callable(getattr(Tensor, word)):
                return self.graph.call_function(getattr, (args[0], word))
            case ["torch", "Tensor", _]:
                return self.graph.call_method(word, args, kwargs)
            case ["torch", *path]:
                return self.graph.call_function(reduce(getattr, path, torch), args, kwargs)
            case _:
                raise InternalError(f"{call.target!r} is no call", self._nodes)

    def _submodule(self, path: str, args: Any, kwargs: Any, location: Location | None) -> fx.Node:
        if strange := [leaf for leaf in leaves((args, kwargs)) if not isinstance(leaf, _WRITABLE)]:
            raise CompileError(_not_written(path, strange[0], location))
        module, path = self._nodes.binding.modules[path].module, _path(path)
        try:
            held = self.root.get_submodule(path)
        except AttributeError:
            held = None
        if held is not module:
            self._hold(path, module)
        return self.graph.call_module(path, args, kwargs)

    # -- arguments --------------------------------------------------------------------------------------------

    def _arg(self, arg: Arg) -> Any:
        return map_arg(arg, self._leaf)

    def _leaf(self, leaf: Any) -> Any:
        if isinstance(leaf, Ref):
            return self.values[leaf.name]
        if isinstance(leaf, Size):
            return self._size(leaf)
        return self._of_program() if isinstance(leaf, DeviceOf) else leaf

    def _size(self, size: Size) -> Any:
        """The polynomial, by Python's arithmetic on sizes."""
        total: Any = None
        for names, coefficient in size.terms:
            factors = [self.values[name] for name in names] + ([coefficient] if coefficient != 1 or not names else [])
            term = reduce(lambda a, b: self.graph.call_function(operator.mul, (a, b)), factors)
            total = term if total is None else self.graph.call_function(operator.add, (total, term))
        return total

    def _of_program(self) -> fx.Node:
        """The device on which it runs: that of its first tensor."""
        if self._device is None:
            tensors = [
                self.values[node.name] for node in self._nodes if node.name in self.values and node.shape is not None
            ]
            self._device = self.graph.call_function(getattr, (tensors[0], "device")) if tensors else torch.device("cpu")
        return self._device


def _path(path: str) -> str:
    """Where the module holds what the program holds at ``path``: not where fx has something of its own."""
    return f"program_{path}" if hasattr(fx.GraphModule, path.partition(".")[0]) else path


def _not_written(path: str, given: object, location: Location | None) -> Diagnostic:
    return Diagnostic(
        code="no-fx-module",
        message=f"submodule {path!r} is given a {type(given).__name__}, which no fx graph can hold",
        location=location,
        help="call it without, as with use_cache=False",
    )
