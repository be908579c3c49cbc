"""Graph -> graph, one file a pass: the auxiliary forms, compaction, and what can be measured of a graph."""

from __future__ import annotations

from dgmcompile.ir.graph import Graph
from dgmcompile.passes.auxiliary import Reparameterize, auxiliary, semi_auxiliary, with_options
from dgmcompile.passes.base import FreshNames, GraphPass, Keep, NodePass, Pass, Reject, Rewrite
from dgmcompile.passes.canonicalize import Canonicalize, canonicalize
from dgmcompile.passes.compact import Compact, compact
from dgmcompile.passes.lower import DrawKept, lower
from dgmcompile.passes.measure import node_counts, stochastic_depth

__all__ = [
    "PIPELINE",
    "Canonicalize",
    "Compact",
    "DrawKept",
    "FreshNames",
    "GraphPass",
    "Keep",
    "NodePass",
    "Pass",
    "Reject",
    "Reparameterize",
    "Rewrite",
    "auxiliary",
    "canonicalize",
    "compact",
    "lower",
    "node_counts",
    "run_passes",
    "semi_auxiliary",
    "stochastic_depth",
    "with_options",
]

PIPELINE: tuple[Pass, ...] = (Reparameterize(), Compact())
"""From a traced graph to the compact one, in the order they run."""


def run_passes(graph: Graph, passes: tuple[Pass, ...] = PIPELINE) -> Graph:
    """``graph`` after each of ``passes``; invariants are verified in between."""
    for one in passes:
        graph = one(graph)
    return graph
