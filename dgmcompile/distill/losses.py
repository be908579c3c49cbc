"""The loss of a pair: a divergence for each target, a weighted one for each latent, and their sum.

    L = sum_j d(p_phi(y_j | y_<j, e, x), p_theta(y_j | y_<j, e, x)) + sum_i lambda_i L_z,i

A term is summed over event dims and over plates other than the batch, and averaged over the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from dgmcompile.diagnostics import CompileError, Diagnostic
from dgmcompile.distill.gradients import no_gradient
from dgmcompile.distill.marginal import marginal_term
from dgmcompile.distill.nodes import Nodes
from dgmcompile.distill.options import LATENT_WEIGHTS, LossOptions, check_options
from dgmcompile.distill.pair import TEACHER, Pair, PairedSite
from dgmcompile.distill.terms import TermWriter, kind_of
from dgmcompile.ir.graph import Arg, Call, Graph, Ref, Site

__all__ = ["LATENT_WEIGHTS", "LossOptions", "overview", "terms_of", "with_losses"]

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
    loss = graph.evolve(node for node in graph if node.name in live)
    return loss.evolve(warnings=(*loss.warnings, *no_gradient(loss)))


def terms_of(pair: Pair, options: LossOptions) -> dict[str, tuple[PairedSite, ...]]:
    """Each term of the loss by its output's name, and the sites that it compares; those of weight 0 have none."""
    default = LATENT_WEIGHTS[pair.method]
    sites = [site for site in pair.compared if options.weight(site, default) != 0]
    targets = tuple(site for site in sites if site.role == "target") if pair.method == "marginalised" else ()
    joint = {f"surrogate.{', '.join(site.name for site in targets)}": targets} if targets else {}
    return joint | {f"{kind_of(site)}.{site.name}": (site,) for site in sites if site not in targets}


def overview(pair: Pair, options: LossOptions | None = None) -> Graph:
    """A pair and its loss as readers see them: each term reads the variables that it compares.

    What the loss computes a term from is what their laws are made of, to which many a variable itself is of no use.
    """
    options = options or LossOptions()
    laws = TermWriter(pair, Nodes(pair))
    nodes, outputs = Nodes(pair), dict[str, str]()
    for name, sites in terms_of(pair, options).items():
        if not all(laws.is_zero(site, options.divergence_of(site)) for site in sites):
            compared = tuple(Ref(law.name) for site in sites for law in (site.teacher, site.student))
            outputs[name] = nodes.append(Call(name=nodes.unused(name), target="compared", args=compared)).name
    if len(outputs) > 1:
        steps = {name: pair.steps_of(site.teacher.name) for name, (site, *_) in terms_of(pair, options).items()}
        summed = tuple(nodes.over_steps(Ref(term), steps[name]) for name, term in outputs.items())
        total = Call(name=nodes.unused("total"), target="total", args=summed)
        outputs["total"] = nodes.append(total).name
    graph = Graph([*pair, *nodes.added], name=pair.name, outputs=outputs, arguments=pair.arguments)
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
        for name, sites in terms_of(self._pair, self._options).items():
            is_joint = self._pair.method == "marginalised" and sites[0].role == "target"
            self._attempt(self._marginal if is_joint else self._site, name, sites)
        if self._problems:
            raise CompileError(*self._problems)
        self.outputs["total"] = self._total().name

    def _weight(self, site: PairedSite) -> float:
        return self._options.weight(site, LATENT_WEIGHTS[self._pair.method])

    def _attempt(self, write: Callable[..., None], name: str, sites: Sequence[PairedSite]) -> None:
        """All problems are reported at once."""
        try:
            write(name, *sites)
        except CompileError as error:
            self._problems += error.diagnostics

    def _site(self, output: str, site: PairedSite) -> None:
        name = self._options.divergence_of(site)
        if self._terms.is_zero(site, name):
            self.nodes.location = site.teacher.location
            self.outputs[output] = self._in_steps(output, self._zero(output), site).name
            return
        term = self._terms.term(site, name, self._options.reduction_of(site), self._options.temperature_of(site))
        term = self._in_steps(output, term, site)
        self.outputs[output] = term.name
        over_steps = self.nodes.over_steps(term, self._pair.steps_of(site.teacher.name))
        self._weighted.append((kind_of(site), over_steps, self._weight(site)))

    def _in_steps(self, output: str, term: Ref, site: PairedSite) -> Ref:
        """A term of a site in a loop is one in each step."""
        parts = site.teacher.site.parts if site.teacher.site is not None else ()
        if not parts:
            return term
        first = str(parts[0]).removeprefix(TEACHER)
        own = Site(output, "deterministic", parts=(f"{kind_of(site)}.{first}", *parts[1:]))
        return self.nodes.of_steps(term, own)

    def _marginal(self, output: str, *targets: PairedSite) -> None:
        term = marginal_term(self._pair, targets, self._options, self._terms, self.nodes)
        self.outputs[output] = term.name
        self._weighted.append(("surrogate", term, self._weight(targets[0])))

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
