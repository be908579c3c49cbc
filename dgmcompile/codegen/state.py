"""Where a program's parameters and submodules live: paths of the user -> attributes of the emitted module.

The state is laid out as a tree of live modules first (`state_root`): the user's own tensors and submodules under
holders that the program itself does not have. The emitted text constructs that tree, and a compiled module takes
its tensors from it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dgmcompile.codegen.names import is_plain
from dgmcompile.codegen.tables import buffers_of, children_of, modules_of, own_tensors, parameters_of, tensors_of
from dgmcompile.diagnostics import CompileError, Diagnostic
from dgmcompile.ir.binding import Submodule
from dgmcompile.ir.graph import Call, Graph, Node, Parameter

_INDEXED = (nn.Sequential, nn.ModuleList, nn.ParameterList)
_KEYED = (nn.ModuleDict, nn.ParameterDict)
CONTAINERS = (*_INDEXED, *_KEYED)
_OURS = frozenset({"names_in_program", "source", "sample_noise", "teacher", "student"})


class Holder(nn.Module):
    """A part of the tree that no submodule of the user stands for."""


@dataclass(frozen=True)
class State:
    """The tree; ``keys`` maps a path of the user to the path in the tree (the same wherever it can be)."""

    root: nn.Module
    keys: Mapping[str, str]

    def access(self, path: str, base: str = "self") -> str:
        """Expression of what stands at the user's ``path``."""
        return access(self.root, self.keys.get(path, path), base)


def called_path(node: Node) -> str | None:
    """Path of the submodule that ``node`` calls."""
    if isinstance(node, Call) and isinstance(node.target, str) and node.target.startswith("self."):
        return node.target.removeprefix("self.")
    return None


def state_root(graph: Graph, prefix: str = "") -> State:
    """The tree of what ``graph`` reads below ``prefix`` ("teacher.", say; the keys keep it).

    Errors:
        `CompileError` ``unbound-module`` for a submodule that the graph's binding lacks.
    """
    root, keys = Holder(), dict[str, str]()
    called = {path: node for node in graph if (path := called_path(node)) and path.startswith(prefix)}
    held = dict.fromkeys([*called, *_opened(graph, prefix)])
    for path in sorted(held, key=lambda path: path.count(".")):
        live = _bound(graph, path, called.get(path))
        keys[path] = _insert(root, path.removeprefix(prefix), live.module)
    for node in graph:
        if isinstance(node, Parameter) and node.path.startswith(prefix):
            keys[node.path] = _insert(root, node.path.removeprefix(prefix), _tensor(graph, node))
    _lists(root)
    return State(root, keys)


def _opened(graph: Graph, prefix: str) -> Iterator[str]:
    """Paths of submodules that the graph holds and whose parameters it reads by themselves."""
    read = [node.path for node in graph if isinstance(node, Parameter) and node.path.startswith(prefix)]
    for path in graph.binding.modules:
        if any(parameter.startswith(f"{path}.") for parameter in read):
            yield path


def _bound(graph: Graph, path: str, node: Node | None) -> Submodule:
    if path in graph.binding.modules:
        return graph.binding.modules[path]
    message = f"the graph calls submodule {path!r}, but holds no module of that name"
    raise CompileError(
        Diagnostic(
            code="unbound-module",
            message=message,
            location=node and node.location,
            help="compile the traced program itself, not its text",
        )
    )


def _tensor(graph: Graph, node: Parameter) -> Tensor:
    if (live := graph.binding.tensors.get(node.path)) is not None:
        return live
    shape = [dim for dim in node.shape or () if isinstance(dim, int)]
    empty = torch.empty(shape, dtype=node.dtype or torch.float32, device="meta")
    return nn.Parameter(empty) if node.trainable else empty


def _insert(root: nn.Module, path: str, value: Tensor | nn.Module) -> str:
    """Put ``value`` at ``path``, or near it where the name is taken; the path at which it stands."""
    parent, parts = root, list[str]()
    *holders, last = path.split(".")
    for depth, part in enumerate(holders, start=1):
        child = modules_of(parent).get(part)
        if child is None or not (isinstance(child, Holder) or _has(child, path.split(".")[depth:], value)):
            part = _free(parent, part)
            child = modules_of(parent)[part] = Holder()
        parent = child
        parts.append(part)
    if not _has(parent, [last], value):
        last = _free(parent, last)
        _table(parent, value)[last] = value
    return ".".join([*parts, last])


def _has(module: nn.Module, path: list[str], value: Tensor | nn.Module) -> bool:
    """Does something of the kind of ``value`` stand at ``path`` below ``module`` already?"""
    *inner, last = path
    found: nn.Module | None = module
    for part in inner:
        found = modules_of(found).get(part) if found is not None else None
    if found is None:
        return False
    if isinstance(value, nn.Module):
        return last in modules_of(found)
    return last in parameters_of(found) or last in buffers_of(found)


def _table(parent: nn.Module, value: Tensor | nn.Module) -> dict[str, Any]:
    if isinstance(value, nn.Module):
        return modules_of(parent)
    return parameters_of(parent) if isinstance(value, nn.Parameter) or value.requires_grad else buffers_of(parent)


def _free(parent: nn.Module, name: str) -> str:
    """``name``, or one like it that an attribute of ``parent`` may have."""
    name = name or "empty"
    while hasattr(parent, name) or name in _OURS:
        name += "_"
    return name


def _lists(module: nn.Module) -> None:
    """Holders of modules 0, 1, ... become lists of them."""
    for name, child in list(modules_of(module).items()):
        if not isinstance(child, Holder):
            continue
        _lists(child)
        children = dict(children_of(child))
        numbered = [children.get(str(i)) for i in range(len(children))]
        if children and None not in numbered and not any(own_tensors(child)):
            modules_of(module)[name] = nn.ModuleList(m for m in numbered if m is not None)


def access(root: nn.Module, path: str, base: str) -> str:
    """Expression of what stands at ``path`` below ``root``, whose own expression is ``base``."""
    module: nn.Module | None = root
    for part in path.split("."):
        if type(module) in _INDEXED and part.isdecimal():
            base = f"{base}[{part}]"
        elif type(module) in _KEYED:
            base = f"{base}[{part!r}]"
        else:
            base = f"{base}.{part}" if is_plain(part) else f"getattr({base}, {part!r})"
        module = modules_of(module).get(part) if module is not None else None
    return base


def assignment(root: nn.Module, path: str, value: str, base: str = "self") -> str:
    """Statement that gives ``path`` below ``root`` another value."""
    parent, _, name = path.rpartition(".")
    holder = access(root, parent, base) if parent else base
    if "." in parent:  # a type checker does not know what stands in a container
        holder = f"{base}.get_submodule({parent!r})"
    return f"{holder}.{name} = {value}" if is_plain(name) else f"setattr({holder}, {name!r}, {value})"


def ties(root: nn.Module) -> Iterator[tuple[str, str]]:
    """(path, earlier path) of every tensor that stands under two."""
    first = dict[int, str]()
    for path, tensor in tensors_of(root):
        if (earlier := first.setdefault(id(tensor), path)) != path:
            yield path, earlier
