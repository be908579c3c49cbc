"""A teacher's running statistics are not its student's to move."""

from __future__ import annotations

from dataclasses import replace

from dgmcompile.ir.graph import Call, Graph, Node
from dgmcompile.ir.normalisation import moved_statistics


def without_statistics(graph: Graph) -> Graph:
    """The same values by calls that are given no running statistics where they would write them and read none."""
    return graph.evolve(map(_without, graph))


def _without(node: Node) -> Node:
    if not isinstance(node, Call) or not (moved := moved_statistics(node.target_name, node.args, node.kwargs)):
        return node
    args = tuple(None if place in moved else arg for place, arg in enumerate(node.args))
    return replace(node, args=args, kwargs={name: arg for name, arg in node.kwargs.items() if name not in moved})
