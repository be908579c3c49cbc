"""Nodes that a loss adds to its pair, and which of the pair's nodes have the same value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from dgmcompile.diagnostics import Location
from dgmcompile.ir.graph import (
    Arg,
    Call,
    Constant,
    Formula,
    Graph,
    Loop,
    Node,
    Parameter,
    Ref,
    Sample,
    Shape,
    Site,
    Stacked,
    map_arg,
)
from dgmcompile.ir.names import unused
from dgmcompile.ir.size import Size
from dgmcompile.ir.text import format_type, format_value
from dgmcompile.ir.torch_calls import is_pure
from dgmcompile.passes.inference import infer_type


@dataclass
class Nodes:
    """The nodes that are added to ``graph``; each gets a name of its own, and the ``location`` that is set."""

    graph: Graph
    added: list[Node] = field(default_factory=list[Node])
    location: Location | None = None

    def __post_init__(self) -> None:
        self._types = {node.name: node for node in self.graph}

    def call(self, name: str, target: str | Formula, args: tuple[Arg, ...], shape: Shape = (), **kwargs: Arg) -> Ref:
        """A call of this ``shape``; a formula's is found by itself where it can be."""
        inferred = infer_type(target, args, self._types) if isinstance(target, Formula) else None
        shape, dtype = inferred or (shape, None)
        return self.append(
            Call(
                name=self.unused(name),
                target=target,
                args=args,
                kwargs=kwargs,
                shape=shape,
                dtype=dtype,
                location=self.location,
            )
        )

    def constant(self, name: str, value: Arg, shape: Shape, dtype: torch.dtype | None) -> Ref:
        """A literal tensor."""
        name = self.unused(name)
        return self.append(Constant(name=name, value=value, shape=shape, dtype=dtype, location=self.location))

    def append(self, node: Node) -> Ref:
        """A node whose name is unused."""
        self.added.append(node)
        self._types[node.name] = node
        return Ref(node.name)

    def unused(self, name: str) -> str:
        """``name``, with a number where a node has it."""
        return unused(name, self._types)

    def shape(self, value: Arg) -> Shape:
        """Of a node; a number has none."""
        return (self._types[value.name].shape or ()) if isinstance(value, Ref) else ()

    def of_steps(self, value: Ref, site: Site) -> Ref:
        """``value``, which is in a loop, as one that has a name in each step."""
        made = self._types[value.name]
        if made not in self.added or made.site is not None:
            value = self.call(site.name, "identity", (value,), made.shape or ())
            made = self._types[value.name]
        self.added[self.added.index(made)] = self._types[value.name] = replace(made, site=site)
        return value

    def over_steps(self, value: Ref, steps: tuple[Size, ...]) -> Ref:
        """The sum of a number over the steps of its loops."""
        stacked, shape = value, ()
        for step in reversed(steps):
            loop = self._types[step.symbols[0]]
            assert isinstance(loop, Loop)
            shape = (loop.length, *shape)
            name, dtype = self.unused(f"{value.name}.steps"), self._types[value.name].dtype
            stacked = self.append(Stacked(name=name, step=step, value=stacked, shape=shape, dtype=dtype))
        return self.call(f"{value.name}.sum", "torch.Tensor.sum", (stacked,)) if steps else value

    def expanded(self, value: Ref, shape: Shape) -> Ref:
        """``value`` in this shape."""
        if self.shape(value) == shape:
            return value
        return self.call(f"{value.name}.expanded", "torch.Tensor.expand", (value, shape), shape)

    def summed(self, value: Ref, dims: int, how: str = "sum") -> Ref:
        """Over the rightmost ``dims``."""
        if dims <= 0:
            return value
        shape = self.shape(value)
        axes = tuple(range(-dims, 0)) if dims > 1 else -1
        return self.call(f"{value.name}.{how}", f"torch.Tensor.{how}", (value, axes), shape[: len(shape) - dims])


class Values:
    """Which nodes of a graph have the same value, whatever the noise, the arguments and the training."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._first: dict[str, str] = {}
        first: dict[tuple[str, ...], str] = {}
        for node in graph:
            key = self._key(node)
            self._first[node.name] = first.setdefault(key, node.name) if key else node.name

    def same_law(self, p: Sample, q: Sample) -> bool:
        """One family with the same parameters and transforms?"""
        ours, theirs = self._law(p), self._law(q)
        return p.family == q.family and ours == theirs

    def same_steps(self, p: Sample, q: Sample) -> bool:
        """The same transforms?"""
        return self._law(p)[1] == self._law(q)[1]

    def _law(self, law: Sample) -> tuple[str, list[tuple[str, str]]]:
        return self._text(law.params), [(step.name, self._text(step.params)) for step in law.transforms]

    def _text(self, arg: Mapping[str, Arg] | tuple[Arg, ...]) -> str:
        def leaf(value: Any) -> Any:
            return Ref(self._first[value.name]) if isinstance(value, Ref) else value

        sorted_arg = {key: arg[key] for key in sorted(arg)} if isinstance(arg, Mapping) else arg
        return format_value(map_arg(sorted_arg, leaf))

    def _key(self, node: Node) -> tuple[str, ...] | None:
        match node:
            case Constant():
                return ("constant", format_value(node.value), format_type(node))
            case Parameter():
                tensor = self._graph.binding.tensors.get(node.path)
                fixed = tensor is not None and not node.trainable and not tensor.requires_grad
                return ("parameter", str(id(tensor)) if fixed else node.path)
            case Call() if is_pure(node, self._graph.binding):
                kind = "formula" if isinstance(node.target, Formula) else "call"
                return (kind, node.target_name, self._text(node.args), self._text(node.kwargs), format_type(node))
            case _:
                return None
