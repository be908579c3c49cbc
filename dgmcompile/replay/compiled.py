"""The compiled form: what it draws, and what its sites' parameters are where each site has a given value."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from dgmcompile.codegen import compile_graph
from dgmcompile.distill.densities import Densities, has_density, is_one_to_one
from dgmcompile.distill.nodes import Nodes
from dgmcompile.frontends.distributions import unwrapped
from dgmcompile.frontends.state import seed_everything
from dgmcompile.ir.graph import Argument, Graph, Input, Law, Node, Ref, Sample, map_arg, names_in
from dgmcompile.ir.size import Size
from dgmcompile.passes import compact, lower, semi_auxiliary
from dgmcompile.passes.canonicalize import canonicalize
from dgmcompile.replay.laws import log_prob_at, within_mask
from dgmcompile.replay.original import Replayed
from dgmcompile.replay.report import relative_error


class Compiled:
    """One draw of noise through the compact form, and each site's parameters along the way."""

    def __init__(self, graph: Graph, args: list[Any], kwargs: dict[str, Any], seed: int) -> None:
        wanted = {n.name: n.name for s in graph.samples for n in _read_by(s, graph)}
        drawn = lower(semi_auxiliary(graph.evolve(outputs={**wanted, **graph.outputs})))
        self._bases = {s.name: base for s in graph.samples if (base := _base_of(s, graph, drawn)) is not None}
        drawn = drawn.evolve(outputs={**drawn.outputs, **{base: base for base in self._bases.values()}})
        module = compile_graph(compact(drawn), readable=False)
        plain = compile_graph(lower(compact(semi_auxiliary(graph))), readable=False)
        seed_everything(seed)  # on every device
        noise = module.sample_noise(*args, **kwargs)  # type: ignore[operator]
        with torch.no_grad():
            seed_everything(seed)
            self._nodes = module(*args, **kwargs, noise=noise)
            seed_everything(seed)
            self.values: dict[str, Tensor] = plain(*args, **kwargs, noise=noise)

    def value(self, arg: Any) -> Any:
        """A parameter of a site as a value."""
        return map_arg(arg, partial(evaluated, self._nodes))

    def forward_error(self, sample: Sample, original: Replayed) -> float:
        """Do the original's steps map the value before them to the site's value?"""
        steps = unwrapped(original.distribution).transforms
        if sample.name not in self._bases:
            return float("inf") if steps or sample.transforms else 0.0
        value = self._nodes[self._bases[sample.name]]
        for step in steps:
            value = step(value)
        return relative_error(original.value, value)


def _base_of(sample: Sample, graph: Graph, drawn: Graph) -> str | None:
    """The node of the value before the steps, where there are any and the site was rewritten."""
    if not sample.transforms:
        return None
    name = re.compile(rf"{re.escape(sample.name)}_(base|value)(_\d+)?")
    return next((node.name for node in drawn if name.fullmatch(node.name) and node.name not in graph), None)


class Conditioned:
    """The sites' parameters where every site has a given value: the traced graph, with its samples as arguments."""

    def __init__(
        self, graph: Graph, args: list[Any], kwargs: dict[str, Any], values: Mapping[str, Tensor], seed: int
    ) -> None:
        self.values = values
        order = [sample for sample in graph.samples if sample.site]
        given = {s.name: _as_input(s, index) for index, s in enumerate(order)}
        wanted = {n.name: n.name for s in graph.samples for n in _read_by(s, graph)}
        argument = Argument(_VALUES, keyword_only=True)
        made = graph.evolve(
            [given.get(node.name, node) for node in graph], outputs=wanted, arguments=(*graph.arguments, argument)
        )
        nodes = Nodes(made)
        densities = Densities(made, nodes)
        self._behind: dict[str, tuple[str, list[str], int]] = {}
        for sample in graph.samples:
            if any(step.is_recorded for step in sample.transforms) and all(map(is_one_to_one, sample.transforms)):
                name, event_dim = sample.name, within_mask(sample)
                value, jacobians, event_dim = densities.pulled_back(sample, Ref(name), name, event_dim)
                self._behind[name] = (value.name, [jacobian.name for jacobian in jacobians], event_dim)
        self._densities = dict(_densities_of(graph, nodes))
        extra = {name: name for value, jacobians, _ in self._behind.values() for name in (value, *jacobians)}
        extra |= {name: name for name in self._densities.values()}
        made = made.evolve([*made, *nodes.added], outputs={**wanted, **extra})
        module = compile_graph(lower(compact(made)), readable=False)
        seed_everything(seed)
        sites = [values[sample.site.name] for sample in order if sample.site]
        self._nodes = module(*args, **kwargs, **({_VALUES: sites} if sites else {}))

    def value(self, arg: Any) -> Any:
        """A parameter of a site as a value."""
        return map_arg(arg, partial(evaluated, self._nodes))

    def log_prob_behind_steps(self, sample: Sample, base: Any) -> Tensor:
        """That of ``base`` at the value pulled back through the recorded steps, and what these change."""
        value, jacobians, event_dim = self._behind[sample.name]
        log_prob = log_prob_at(base, self._nodes[value], event_dim)
        return log_prob - sum(self._nodes[jacobian] for jacobian in jacobians)

    def density(self, sample: Sample) -> Tensor | None:
        """The log-density in our own words, of a law that the library could not be asked for."""
        return self._nodes[self._densities[sample.name]] if sample.name in self._densities else None


def _densities_of(graph: Graph, nodes: Nodes) -> Iterator[tuple[str, str]]:
    """Sites with recorded steps in the distributions inside theirs -> nodes of their log-densities."""
    wanted = [sample.name for sample in graph.samples if _has_recorded_parts(sample.params)]
    if not wanted:
        return
    canonical = canonicalize(graph)
    known = set(graph.graph)
    for node in canonical:
        if node.name not in known:
            nodes.append(node)
    densities = Densities(canonical, nodes)
    for sample in canonical.samples:
        if sample.name in wanted and has_density(sample):
            ref = densities.log_prob(sample, Ref(sample.name), f"{sample.name}.log_prob", within_mask(sample))
            yield sample.name, nodes.expanded(ref, sample.masked_shape).name


_VALUES = "values_of_sites"


def _as_input(sample: Sample, index: int) -> Node:
    return Input(name=sample.name, path=(_VALUES, index), shape=sample.shape, dtype=sample.dtype)


def _read_by(sample: Sample, graph: Graph) -> Iterator[Node]:
    law = without_recorded(sample.law)
    steps = [dict(step.params) for step in law.transforms]
    for name in names_in((dict(law.params), steps, sample.mask, sample.scale)):
        yield graph[name]


def without_recorded(law: Law) -> Law:
    """Without the steps that were recorded, in the distributions inside it too: they stand for calls on probes."""
    steps = tuple(step for step in law.transforms if not step.is_recorded)
    params = {name: without_recorded(part) if isinstance(part, Law) else part for name, part in law.params.items()}
    return replace(law, params=params, transforms=steps)


def _has_recorded_parts(params: Mapping[str, Any]) -> bool:
    parts = [part for part in params.values() if isinstance(part, Law)]
    return any(any(s.is_recorded for s in part.transforms) or _has_recorded_parts(part.params) for part in parts)


def evaluated(values: Mapping[str, Any], leaf: Any) -> Any:
    """A leaf of an argument as a value."""
    if isinstance(leaf, Ref):
        return values[leaf.name]
    return leaf.evaluate(values) if isinstance(leaf, Size) else leaf
