"""What a Pyro program holds: parameters that keep their constraints, and the modules around them."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any, cast

import torch
from pyro.distributions import constraints
from pyro.nn import PyroModule
from torch import Tensor, nn
from torch.distributions import transform_to

from dgmcompile.codegen.expressions import Names as ExpressionNames
from dgmcompile.codegen.expressions import dtype_argument, literal, shape_text
from dgmcompile.codegen.modules import value_text
from dgmcompile.codegen.names import class_name, is_plain
from dgmcompile.codegen.state import Holder, State, access, state_root
from dgmcompile.codegen.tables import modules_of
from dgmcompile.ir.binding import Binding
from dgmcompile.ir.graph import Call, Graph, Node, Parameter

_RAW = "_unconstrained"
"""How `PyroModule` calls the tensor behind a `PyroParam`."""


@dataclass(frozen=True)
class PyroState:
    """What ``graph`` holds, laid out; see `pyro_state`.

    ``graph`` reads constrained parameters as the program does, wherever it can. ``params`` are the values of
    `PyroParam` attributes, by path; ``expressions`` are those of parameters, by the path in the graph.
    ``root_name`` is what the names of parameters in the store begin with.
    """

    graph: Graph
    state: State
    params: Mapping[str, str]
    expressions: Mapping[str, str]
    root_name: str = ""

    def parameter(self, path: str) -> str:
        """Expression of the parameter, buffer or submodule at the user's ``path``."""
        return self.expressions.get(path) or self.state.access(path)


def pyro_state(graph: Graph) -> PyroState:
    """Where the parameters and submodules of ``graph`` live in a `PyroModule`.

    Parameters that ``pyro.param`` made become `PyroParam` attributes of the same name and constraint, in the place
    of their unconstrained tensors and of what was computed from these alone.
    """
    texts = {path: text for path in graph.binding.constrained if (text := _declared(graph, path)) is not None}
    raw = {path: f"{_attribute(path)}{_RAW}" for path in texts}
    graph = _renamed(graph, raw)
    state = state_root(graph)
    owned = [path for path in texts if raw[path] in state.keys and _is_ours(state.root, state.keys[raw[path]])]
    expressions, params = dict[str, str](), dict[str, str]()
    read = dict[str, Parameter]()
    for path in owned:
        key = state.keys[raw[path]]
        value = access(state.root, key.removesuffix(_RAW), "self")
        params[key] = texts[path]
        expressions[raw[path]] = f"{value}.unconstrained()"
        graph, found = _with_own_name(graph, graph.binding.constrained[path].value, value)
        for name in _reads_of(graph, found):
            node = graph[name]
            expressions[f"{raw[path]} constrained"] = value
            read[name] = Parameter(
                name=name, path=f"{raw[path]} constrained", shape=node.shape, dtype=node.dtype, location=node.location
            )
    graph = graph.evolve(read.get(node.name, node) for node in graph)
    return PyroState(graph, state, params, expressions, _root_name(graph, state))


def _with_own_name(graph: Graph, value: str | None, text: str) -> tuple[Graph, str | None]:
    """The constrained ``value`` by the name of its attribute: compaction leaves the name of a step to it."""
    wanted = text.rpartition(".")[2]
    is_taken = wanted in graph and not isinstance(graph[wanted], Parameter)
    if value is None or value not in graph or is_taken or not wanted.isidentifier():
        return graph, value
    swapped = {value: wanted, wanted: value}

    def named(name: str) -> str:
        return swapped.get(name, name)

    nodes = (replace(node.map_names(named), name=named(node.name)) for node in graph)
    return graph.evolve(nodes, outputs={key: named(name) for key, name in graph.outputs.items()}), wanted


def _reads_of(graph: Graph, value: str | None) -> list[str]:
    """The nodes that compute ``value`` from the parameter: a program that reads it twice computes it twice."""
    firsts, known = dict[str, str](), list[tuple[Node, str]]()
    for node in graph:
        if isinstance(node, Parameter) or (isinstance(node, Call) and firsts.keys() >= {*node.inputs} != set()):
            plain = replace(node.map_names(lambda name: firsts.get(name, name)), name="", location=None)
            firsts[node.name] = next((first for other, first in known if other == plain), node.name)
            known.append((plain, firsts[node.name]))
    return [name for name, first in firsts.items() if first == firsts.get(value or "")]


def _root_name(graph: Graph, state: State) -> str:
    """The user's own, or the program's where a site has the name of a parameter."""
    named = [(held.name, path.removesuffix(_RAW)) for path, held in graph.binding.constrained.items()]
    prefixes = {name.removesuffix(f".{path}") for name, path in named if name.endswith(f".{path}")}
    if len(prefixes) == 1 and all(name != path for name, path in named):
        return prefixes.pop()
    sites = {node.site.name for node in graph if node.site is not None}
    held = {key.removesuffix(_RAW) for key in (*state.keys.values(), *dict(state.root.named_parameters()))}
    return class_name(graph.name, "Program") if not sites.isdisjoint(held) else ""


def _attribute(path: str) -> str:
    """The path of the constrained parameter; its last name is no attribute of every `PyroModule`."""
    parent, dot, name = path.removesuffix(_RAW).rpartition(".")
    while hasattr(PyroModule, name):
        name += "_"
    return f"{parent}{dot}{name}"


def _renamed(graph: Graph, paths: Mapping[str, str]) -> Graph:
    """With other paths of some parameters."""

    def renamed(node: Node) -> Node:
        if isinstance(node, Parameter) and node.path in paths:
            return replace(node, path=paths[node.path])
        return node

    binding = graph.binding
    tensors = {paths.get(path, path): tensor for path, tensor in binding.tensors.items()}
    kept = Binding(tensors, binding.modules, binding.constrained, binding.data)
    return graph.evolve((renamed(node) for node in graph), binding=kept)


def _is_ours(root: nn.Module, path: str) -> bool:
    """Is the attribute held by modules that the emitted text makes by itself?"""
    module = root
    for name in path.split(".")[:-1]:
        child = modules_of(module).get(name)
        if type(child) is not Holder:
            return False
        module = child
    return path.endswith(_RAW)


def _declared(graph: Graph, path: str) -> str | None:
    """The `PyroParam` of a parameter; None for one that is none, and for a constraint that cannot be written."""
    tensor, constraint = graph.binding.tensors.get(path), graph.binding.constrained[path].constraint
    is_real = constraint is constraints.real
    if tensor is None or (is_real and isinstance(tensor, nn.Parameter) and not path.endswith(_RAW)):
        return None
    text = constraint_text(constraint)
    if text is None:
        return None
    with torch.no_grad():
        start: Tensor = cast(Any, transform_to(constraint))(torch.zeros(tensor.shape, dtype=tensor.dtype))
    return f"PyroParam({_start_text(start)}{'' if is_real else f', constraint={text}'})"


def _start_text(value: Tensor) -> str:
    """A tensor that the constraint allows, to be given its value by ``load_weights``."""
    shape, dtype = shape_text(tuple(value.shape), str), dtype_argument(value.dtype)
    first = float(value.reshape(-1)[0]) if value.numel() else 0.0
    if bool((value == first).all()):
        word = {0.0: "zeros", 1.0: "ones"}.get(first)
        return f"torch.{word}({shape}{dtype})" if word else f"torch.full({shape}, {first!r}{dtype})"
    if value.dim() == 2 and value.shape[0] == value.shape[1] and torch.equal(value, torch.eye(len(value)).to(value)):
        return f"torch.eye({len(value)}{dtype})"
    return value_text(value)


def constraint_text(constraint: Any) -> str | None:
    """Expression of a constraint of torch's or Pyro's; None where there is none."""
    public = {name: value for name, value in vars(constraints).items() if not name.startswith("_")}
    for name, value in public.items():
        if value is constraint:
            return f"constraints.{name}"
    made = cast(Any, type(constraint))
    arguments = list[str]()
    for name in inspect.signature(made).parameters:
        value = getattr(constraint, name, None)
        text = constraint_text(value) if isinstance(value, constraints.Constraint) else _number_text(value)
        if text is None:
            return None
        arguments.append(text)
    for name, value in public.items():
        if value is made:
            return f"constraints.{name}({', '.join(arguments)})"
        if type(value) is made and not arguments and not isinstance(value, ModuleType):
            return f"constraints.{name}"
    return None


def _number_text(value: object) -> str | None:
    if not isinstance(value, bool | int | float) or (isinstance(value, float) and not math.isfinite(value)):
        return None
    return literal(value, ExpressionNames(str, str))


def param_statements(params: Mapping[str, str], root: nn.Module) -> list[str]:
    """The lines of ``__init__`` that declare `PyroParam` attributes below the root; its own are parameters."""
    lines = list[str]()
    for key, text in params.items():
        parent, _, name = key.removesuffix(_RAW).rpartition(".")
        holder = access(root, parent, "self") if parent else "self"
        lines.append(f"{holder}.{name} = {text}" if is_plain(name) else f"setattr({holder}, {name!r}, {text})")
    return lines
