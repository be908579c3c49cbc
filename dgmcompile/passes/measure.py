"""How large a graph is, before and after: the numbers of the report."""

from __future__ import annotations

from collections import Counter

from dgmcompile.ir.graph import Graph, Sample, value_parents


def stochastic_depth(graph: Graph) -> int:
    """The longest chain of random variables of which each depends on the one before; noise counts as none."""
    depths: dict[str, int] = {}
    for node in graph:
        above = max((depths[name] for name in value_parents(node)), default=0)
        depths[node.name] = above + isinstance(node, Sample)
    return max(depths.values(), default=0)


def node_counts(graph: Graph) -> dict[str, int]:
    """Number of nodes of each kind, by the kind's class name, sorted; ``sum`` of them is ``len(graph)``."""
    counts = Counter(type(node).__name__ for node in graph)
    return {kind: counts[kind] for kind in sorted(counts)}
