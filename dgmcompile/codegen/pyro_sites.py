"""A graph of any form as a Pyro program has it: each variable a draw, or a deterministic site of a value."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, replace
from functools import cache
from itertools import chain

import torch

from dgmcompile.codegen.inlining import anonymous_name
from dgmcompile.codegen.state import called_path
from dgmcompile.diagnostics import InternalError
from dgmcompile.ir.graph import (
    Arg,
    Call,
    DeviceOf,
    Graph,
    Input,
    Node,
    Noise,
    Parameter,
    Plate,
    Ref,
    Sample,
    Shape,
    Site,
    map_names,
    names_in,
)
from dgmcompile.ir.names import unused

Params = Callable[[Callable[[float], Arg], torch.dtype], dict[str, Arg]]
"""(a tensor of one value in the noise's event shape, or that number; dtype) -> parameters."""


def _uniform(filled: Callable[[float], Arg], dtype: torch.dtype) -> dict[str, Arg]:
    """From less than the spacing of ``torch.rand`` on: it may return 0, of which formulas take the logarithm."""
    return {"low": filled(_smallest(dtype)), "high": 1.0}


@cache
def _smallest(dtype: torch.dtype) -> float:
    return float(f"1e{math.floor(math.log10(torch.finfo(dtype).eps / 4))}")


STANDARD_LAWS: Mapping[str, tuple[str, Params]] = {
    "StandardNormal": ("Normal", lambda filled, dtype: {"loc": filled(0.0), "scale": 1.0}),
    "StandardExponential": ("Exponential", lambda filled, dtype: {"rate": filled(1.0)}),
    "StandardUniform": ("Uniform", _uniform),
}
"""Law of noise -> the family, and its parameters, that Pyro draws it from."""


@dataclass(frozen=True)
class Variables:
    """``graph`` has no `Noise`, and a site on nothing but samples and ``identity`` calls.

    ``event_dims``: deterministic site -> how many of its dims are one event; None where that cannot be told.
    ``weighed``: sites that were a Delta with a density of its own, which they keep: they observe their own value.
    """

    graph: Graph
    event_dims: Mapping[str, int | None]
    weighed: Set[str] = frozenset()


def variables_of(graph: Graph, original: Graph | None = None) -> Variables:
    """Noise becomes samples in the plates of the variable that it is for, under the mask and scale of that variable.

    Args:
        original: the traced graph, which knows masks, scales and event dims of variables that are rewritten.
    """
    return _Writing(graph, original or graph).variables()


class _Writing:
    def __init__(self, graph: Graph, original: Graph) -> None:
        self._graph, self._original = graph, original
        self._laws = {s.site.name: s for s in (*original.samples, *graph.samples) if s.site is not None}
        self._sites = {node.name: node.site for node in graph if node.site is not None}
        self._taken = {node.name for node in graph}
        self._renamed: dict[str, str] = {}
        self._weighed = set[str]()
        self._like = _likeness(graph)

    def variables(self) -> Variables:
        nodes = [new for node in self._graph for new in self._written(node)]
        found = self._graph.evolve(nodes)
        sites = ((node.site, node) for node in found if node.site is not None and isinstance(node, Call))
        event_dims = {site.name: self._event_dim(site, node.shape or ()) for site, node in sites}
        return Variables(found, event_dims, self._weighed)

    def _fresh(self, wanted: str) -> str:
        self._taken.add(name := unused(wanted, self._taken))
        return name

    def _written(self, node: Node) -> Iterator[Node]:
        if isinstance(node, Noise):
            yield from self._noise(node)
        elif isinstance(node, Call) and node.site is not None and node.target != "identity":
            value = replace(node, name=self._fresh(anonymous_name(node)), site=None)
            yield value
            yield from self._site(replace(node, target="identity", args=(Ref(value.name),), kwargs={}), node.site)
        elif isinstance(node, Call) and node.site is not None:
            yield from self._site(node, node.site)
        else:
            yield node

    def _site(self, node: Call, site: Site) -> Iterator[Node]:
        """A deterministic site, which has no density; one that had a density without being random keeps it."""
        law = self._laws.get(site.name)
        if law is None or law.family != "Delta" or law.transforms or law.params.get("log_density", 0.0) == 0.0:
            yield node
            return
        params = {name: value for name, value in law.params.items() if name != "v"}
        yield from self._carried((params, law.mask, law.scale))
        self._weighed.add(site.name)
        delta = replace(law.map_names(self._name), name=node.name, shape=node.shape, site=site, location=node.location)
        yield replace(delta, params={"v": node.args[0], **{n: delta.params[n] for n in params}})

    def _event_dim(self, site: Site, shape: Shape) -> int | None:
        if site.name in self._laws:
            return self._laws[site.name].event_dim
        batch = _batch_rank(site.plates, shape)
        return len(shape) - batch if site.plates and batch is not None else None

    # noise

    def _noise(self, noise: Noise) -> Iterator[Node]:
        if noise.law not in STANDARD_LAWS:
            raise InternalError(f"{noise.name!r} has a law that no distribution of Pyro's is known for: {noise.law!r}")
        owner, value_shape = self._owner(noise)
        law = self._laws.get(owner.name) if owner else None
        mask, scale = (law.mask, law.scale) if law is not None else (None, None)
        outside = law.mask_event_dim if law is not None else 0
        shape, dtype = noise.shape or (), noise.dtype or torch.get_default_dtype()
        plates = owner.plates if owner else ()
        batch = _batch_rank(plates, value_shape) if law is None else len(law.batch_shape)
        if batch is None or shape[: batch + outside] != value_shape[: batch + outside]:
            plates, batch, mask, outside = (), 0, None, 0  # one event, whatever the variable's batch is
        elif not plates and not isinstance(mask, Ref):
            batch = 0
        yield from self._carried((mask, scale))
        made = list[Node]()
        family, params = STANDARD_LAWS[noise.law]
        given = params(lambda value: self._filled(value, shape[batch:], dtype, made), dtype)
        yield from made
        yield Sample(
            name=noise.name,
            family=family,
            params=given,
            event_dim=len(shape) - batch,
            mask=map_names(mask, self._name),
            mask_event_dim=outside,
            scale=map_names(scale, self._name),
            shape=shape,
            dtype=dtype,
            site=Site(noise.name, "latent", family, plates),
            location=noise.location,
        )

    def _owner(self, noise: Noise) -> tuple[Site | None, Shape]:
        """The variable that the noise is for, and the shape of its value."""
        found = list(self._first_sites(noise.name))
        named = [name for name in found if noise.name.startswith(f"{self._sites[name].name}_")]
        chosen = max(named, key=len, default=found[0] if found else None)
        return (self._sites[chosen], self._graph[chosen].shape or ()) if chosen is not None else (None, ())

    def _first_sites(self, name: str) -> Iterable[str]:
        """The sites that depend on the node, through no other site."""
        seen, todo = set[str](), [name]
        while todo:
            for user in self._graph.users(todo.pop()):
                if user not in seen:
                    seen.add(user)
                    todo += [] if user in self._sites else [user]
        return [node.name for node in self._graph if node.name in seen and node.name in self._sites]

    def _filled(self, value: float, shape: Shape, dtype: torch.dtype, made: list[Node]) -> Arg:
        """A tensor of the program's own device and dtype, full of ``value``."""
        word = {0.0: "zeros", 1.0: "ones"}.get(value, "full")
        args: tuple[Arg, ...] = (shape, value) if word == "full" else shape or ((),)
        like = self._like(dtype)
        if isinstance(like, Node):
            kwargs: dict[str, Arg] = {} if like.dtype == dtype else {"dtype": dtype}
            target, args = f"torch.Tensor.new_{word}", (Ref(like.name), *args)
        elif like is None and dtype == torch.float32:
            return value
        else:
            kwargs = {**({} if dtype == torch.float32 else {"dtype": dtype}), **({"device": like} if like else {})}
            target = f"torch.{word}"
        name = self._fresh(target.rpartition(".")[2])
        made.append(Call(name=name, target=target, args=args, kwargs=kwargs, shape=shape, dtype=dtype))
        return Ref(name)

    # masks and scales, which only the traced graph has

    def _carried(self, arg: Arg) -> Iterator[Node]:
        """Copies of the nodes that ``arg`` needs and the graph does not have any more."""
        above = self._original.ancestors(names_in(arg))
        for node in self._original:
            if node.name in above and node.name not in self._graph and node.name not in self._renamed:
                self._renamed[node.name] = self._fresh(node.name)
                yield replace(node.map_names(self._name), name=self._renamed[node.name])

    def _name(self, name: str) -> str:
        return self._renamed.get(name, name)


def _batch_rank(plates: tuple[Plate, ...], shape: Shape) -> int | None:
    """How many dims of a value are batch dims, at the least: those that are plates, where they fit."""
    least = max((-plate.dim for plate in plates), default=0)
    for rank in range(least, len(shape) + 1):
        if all(plate.size in (-1, shape[rank + plate.dim]) for plate in plates):
            return rank
    return None


def _likeness(graph: Graph) -> Callable[[torch.dtype], Node | DeviceOf | None]:
    """What new tensors are like: an input or a parameter, else the device of what the program holds, else nothing."""
    required = {argument.name for argument in graph.arguments if argument.required}
    data = set(graph.binding.data.values())
    inputs = [n for n in graph if isinstance(n, Input) and n.dtype is not None and n.path[0] in required]
    inputs = [n for n in inputs if len(n.path) == 1 and (graph.users(n.name) or n.path not in data)]
    parameters = [n for n in graph if isinstance(n, Parameter) and n.path not in graph.binding.constrained]
    has_state = any(isinstance(node, Parameter) or called_path(node) for node in graph)

    def like(dtype: torch.dtype) -> Node | DeviceOf | None:
        same = (node for node in (*inputs, *parameters) if node.dtype == dtype)
        return next(chain(same, inputs), DeviceOf() if has_state else None)

    return like
