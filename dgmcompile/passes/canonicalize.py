"""Every random variable in its family's canonical parameters, so that two of one family can be compared."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

from dgmcompile.ir.graph import Graph, Node, Sample
from dgmcompile.ir.verify import TRACED, Stage
from dgmcompile.passes.auxiliary import SiteWriter
from dgmcompile.passes.base import Keep, NodePass, Reject, Rewrite
from dgmcompile.reparam import NOISE_TRANSFORMS


@dataclass(frozen=True)
class Canonicalize(NodePass):
    r"""Convert what the user gave to what the family's formulas read.

    probs                   probs -> z_logits
      |                                 |
    z ~ Bernoulli(probs)  =>  z ~ Bernoulli(logits)
    """

    name: ClassVar[str] = "canonicalize"

    @property
    def requires(self) -> Stage:
        return TRACED

    @property
    def ensures(self) -> Stage:
        return TRACED

    def visit(self, node: Node, graph: Graph, fresh: Callable[[str], str]) -> Rewrite | Keep | Reject:
        if not isinstance(node, Sample):
            return Keep("not a random variable")
        if (family := NOISE_TRANSFORMS.get(node.family)) is None:
            return Keep("no canonical parameters are known")
        if set(node.params) <= set(family.params):
            return Keep("already in canonical parameters")
        writer = SiteWriter(node, graph, fresh)
        params = writer.parameters(family)
        return Rewrite((*writer.nodes, replace(node, params=params)), f"{node.family} by {', '.join(params)}")


def canonicalize(graph: Graph) -> Graph:
    """Every sample of a known family in canonical parameters; see `Canonicalize`."""
    return Canonicalize()(graph)
