"""The loss of a pair: a divergence for each target, a weighted one for each latent, and their sum.

    L = sum_j d(p_phi(y_j | y_<j, e, x), p_theta(y_j | y_<j, e, x)) + sum_i lambda_i L_z,i

A term is summed over event dims and over plates other than the batch, and averaged over the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from dgmcompile.diagnostics import CompileError, Diagnostic
from dgmcompile.distill.marginal import marginal_term
from dgmcompile.distill.nodes import Nodes
from dgmcompile.distill.options import LATENT_WEIGHTS, LossOptions, check_options
from dgmcompile.distill.pair import Pair, PairedSite
from dgmcompile.distill.terms import TermWriter, kind_of
from dgmcompile.ir.graph import Arg, Graph, Ref

__all__ = ["LATENT_WEIGHTS", "LossOptions", "with_losses"]

Weighted = tuple[str, Ref, float]


def with_losses(pair: Pair, options: LossOptions | None = None) -> Graph:
    """The pair with its loss terms; outputs are ``total``, ``surrogate.<site>`` and ``latent.<site>``.

    Terms of weight 0 are left out; one that is 0 whatever the models do, as both have the
    same law, is the constant 0. Of the method ``marginalised`` all targets are one term, whose name is
    theirs, joined by ", ".

    Errors:
        `CompileError` with every problem: those of `check_options`, ``no-divergence`` where two laws admit
        neither a closed form nor an estimate, and ``intractable`` where latents cannot be summed out.
    """
    options = options or LossOptions()
    check_options(pair, options)
    writer = _LossWriter(pair, options)
    writer.write()
    graph = Graph(
        [*pair, *writer.nodes.added],
        name=pair.name,
        outputs=writer.outputs,
        arguments=pair.arguments,
        guards=pair.guards,
        binding=pair.binding,
        warnings=pair.warnings,
    )
    live = graph.live()
    return graph.evolve(node for node in graph if node.name in live)


class _LossWriter:
    """Terms in the order of the sites, then their weighted sum."""

    def __init__(self, pair: Pair, options: LossOptions) -> None:
        self._pair, self._options = pair, options
        self.nodes = Nodes(pair)
        self.outputs: dict[str, str] = {}
        self._terms = TermWriter(pair, self.nodes)
        self._weighted: list[Weighted] = []
        self._problems: list[Diagnostic] = []

    def write(self) -> None:
        sites = [site for site in self._pair.compared if self._weight(site) != 0]
        if self._pair.method == "marginalised":
            targets = [site for site in sites if site.role == "target"]
            sites = [site for site in sites if site.role == "latent"]
            self._attempt(self._marginal, targets)
        for site in sites:
            self._attempt(self._site, [site])
        if self._problems:
            raise CompileError(*self._problems)
        self.outputs["total"] = self._total().name

    def _weight(self, site: PairedSite) -> float:
        return self._options.weight(site, LATENT_WEIGHTS[self._pair.method])

    def _attempt(self, write: Any, sites: Sequence[PairedSite]) -> None:
        """All problems are reported at once."""
        try:
            write(*sites) if sites else None
        except CompileError as error:
            self._problems += error.diagnostics

    def _site(self, site: PairedSite) -> None:
        name = self._options.divergence_of(site)
        output = f"{kind_of(site)}.{site.name}"
        if self._terms.is_zero(site, name):
            self.nodes.location = site.teacher.location
            self.outputs[output] = self._zero(output).name
            return
        term = self._terms.term(site, name, self._options.reduction_of(site), self._options.temperature_of(site))
        self._add(output, kind_of(site), term, self._weight(site))

    def _marginal(self, *targets: PairedSite) -> None:
        term = marginal_term(self._pair, targets, self._options, self._terms, self.nodes)
        name = ", ".join(site.name for site in targets)
        self._add(f"surrogate.{name}", "surrogate", term, self._weight(targets[0]))

    def _add(self, output: str, kind: str, term: Ref, weight: float) -> None:
        self.outputs[output] = term.name
        self._weighted.append((kind, term, weight))

    def _zero(self, name: str) -> Ref:
        dtypes = [site.teacher.dtype for site in self._pair.compared]
        floating = (dtype for dtype in dtypes if dtype is not None and dtype.is_floating_point)
        return self.nodes.constant(name, 0.0, (), next(floating, torch.get_default_dtype()))

    def _total(self) -> Ref:
        """Terms of one weight are added up first, then weighed; a pair that compares nothing has the loss 0."""
        self.nodes.location = None
        groups: dict[float, list[tuple[str, Ref]]] = {}
        for kind, term, weight in sorted(self._weighted, key=lambda found: found[2] != 1):
            groups.setdefault(weight, []).append((kind, term))
        parts = [self._group(weight, terms) for weight, terms in groups.items()]
        if not parts:
            return self._zero("total")
        if len(parts) == 1:
            return self.nodes.call("total", "identity", (parts[0],))
        return self._sum(parts, "total", last="total")

    def _group(self, weight: float, terms: list[tuple[str, Ref]]) -> Ref:
        kinds = {kind for kind, _ in terms}
        name = kinds.pop() if len(kinds) == 1 else "terms"
        added = self._sum([term for _, term in terms], name, last=name)
        return added if weight == 1 else self.nodes.call(f"{name}.weighted", "torch.Tensor.__rmul__", (added, weight))

    def _sum(self, terms: list[Ref], name: str, last: str) -> Ref:
        total = terms[0]
        for i, term in enumerate(terms[1:], start=2):
            args: tuple[Arg, ...] = (total, term)
            total = self.nodes.call(last if i == len(terms) else f"{name}.part", "torch.Tensor.add", args)
        return total
