"""What a user of plain PyTorch is told of a graph: noise that is no variable, targets that have no law."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dgmcompile.diagnostics import Diagnostic
from dgmcompile.frontends import refusals
from dgmcompile.frontends.lifting import Lifted
from dgmcompile.frontends.merge import Run
from dgmcompile.ir.graph import Graph, Node, Noise, Sample


def notes_on(graph: Graph, recovered: Lifted, base: Run) -> Iterator[Diagnostic]:
    """What its user should know of the graph of a plain program, in which laws were ``recovered``."""
    yield from _kept_noises(recovered, base)
    by_value = [sample for sample in graph.samples if sample.site and sample.site.role == "target"]
    by_value = [sample for sample in by_value if not is_drawn(sample)]
    if not {"random-call", "random-module"} & {warning.code for warning in base.recording.warnings}:
        yield from _certain_targets(by_value, graph)
    for sample in by_value:
        if sample.dtype is not None and not (sample.dtype.is_floating_point or sample.dtype.is_complex):
            yield refusals.whole_target(sample.name, sample.location)


def _kept_noises(recovered: Lifted, base: Run) -> Iterator[Diagnostic]:
    """Of what stays noise, but for dropout's."""
    kept = recovered.kept.keys() - base.recording.dropouts
    noises = [node for node in recovered.nodes if node.name in kept]
    families = {node.name: node.family for node in noises if isinstance(node, Sample)}
    yield from dict.fromkeys(
        refusals.kept_noise(recovered.kept[node.name], families.get(node.name, ""), node.location) for node in noises
    )


def _certain_targets(by_value: Sequence[Sample], graph: Graph) -> Iterator[Diagnostic]:
    """Of the results that no draw reaches."""
    draws = {node.name for node in graph if isinstance(node, Noise) or is_drawn(node)}
    for sample in by_value:
        if draws.isdisjoint(graph.ancestors([sample.name])):
            yield refusals.certain_target(sample.name, bool(draws), sample.location)


def is_drawn(node: Node) -> bool:
    """Is it a random variable?"""
    return isinstance(node, Sample) and node.family != "Delta"
