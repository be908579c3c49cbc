"""Steps of transformed distributions that were recorded on probes: values put in the place of probes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from dgmcompile.ir.graph import Call, Graph, Node, Ref


def applied(
    graph: Graph, results: Sequence[Ref], values: Mapping[str, Ref], fresh: Callable[[str], str]
) -> tuple[list[Node], list[Ref]]:
    """Copies of the nodes by which ``results`` depend on probes, where these are ``values``; the copies of the results.

    Args:
        values: probe's name -> what stands in its place.
        fresh: makes an unused name of a node's.
    """
    above = graph.ancestors([result.name for result in results])
    names = {probe: value.name for probe, value in values.items()}
    copies: list[Node] = []
    for node in graph:
        if node.name in above and node.name not in names and not names.keys().isdisjoint(node.inputs):
            names[node.name] = fresh(node.name)
            copies.append(replace(node.map_names(lambda name: names.get(name, name)), name=names[node.name]))
    return copies, [Ref(names.get(result.name, result.name)) for result in results]


def without_probes(graph: Graph) -> Graph:
    """Without the probes that nothing needs any more, and the calls that were made on them."""
    probes = [node.name for node in graph if isinstance(node, Call) and node.target == "probe"]
    if not probes:
        return graph
    live, made = graph.live(), set(probes)
    for node in graph:
        if not made.isdisjoint(node.inputs):
            made.add(node.name)
    return graph.evolve(node for node in graph if node.name in live or node.name not in made)
