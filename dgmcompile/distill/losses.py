"""The loss of a pair: a divergence for each target, a weighted one for each latent, and their sum.

    L = sum_j d(p_phi(y_j | y_<j, e, x), p_theta(y_j | y_<j, e, x)) + sum_i lambda_i L_z,i

A term is summed over event dims and over plates other than the batch, and averaged over the batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from dgmcompile.diagnostics import CompileError, Diagnostic
from dgmcompile.distill.divergences import (
    BIJECTION_INVARIANT,
    DEFAULT,
    LOG_PROBS,
    NAMES,
    Term,
    divergence,
    estimator,
)
from dgmcompile.distill.pair import Pair, PairedSite
from dgmcompile.ir.graph import Arg, Call, Dim, Formula, Graph, Node, Ref, Sample, Shape
from dgmcompile.passes.inference import infer_type
from dgmcompile.reparam import NOISE_TRANSFORMS, STEP_TRANSFORMS

Reduction = Literal["sum", "mean"]
LATENT_WEIGHTS = {"surrogate": 0.1, "local": 1.0, "marginalised": 0.0}
"""Weight of each latent's term where the caller gives none, by the pair's method."""


@dataclass(frozen=True)
class LossOptions:
    """How the terms are made and weighed; each is one value, or a mapping from site to value.

    Args:
        latent_weight: of each latent's term; 0 leaves the term out. By default `LATENT_WEIGHTS`.
        target_weight: of each target's term.
        divergence: a name in `divergences.NAMES`.
        reduction: over event dims, ``sum`` or ``mean``.
        temperature: of ``cross_entropy``.
    """

    latent_weight: float | Mapping[str, float] | None = None
    target_weight: float | Mapping[str, float] = 1.0
    divergence: str | Mapping[str, str] = DEFAULT
    reduction: Reduction | Mapping[str, Reduction] = "sum"
    temperature: float | Mapping[str, float] | None = None

    def weight(self, site: PairedSite, default: float) -> float:
        """Of this site's term."""
        given = self.target_weight if site.role == "target" else self.latent_weight
        return float(_chosen(default if given is None else given, site.name, 1.0 if site.role == "target" else default))


def _chosen(given: Any, site: str, default: Any) -> Any:
    return given.get(site, default) if isinstance(given, Mapping) else given


def with_losses(pair: Pair, options: LossOptions | None = None) -> Graph:
    """The pair with its loss terms; outputs are ``total``, ``surrogate.<site>`` and ``latent.<site>``.

    Errors:
        `CompileError` ``unknown-site`` for an option of a site that is not compared, ``unknown-divergence``,
        and ``no-divergence`` where two laws admit neither a closed form nor an estimate.
    """
    options = options or LossOptions()
    _check(pair, options)
    writer = _TermWriter(pair)
    outputs: dict[str, str] = {}
    weighted: list[Arg] = []
    problems: list[Diagnostic] = []
    for site in pair.sites:
        weight = options.weight(site, LATENT_WEIGHTS[pair.method])
        if weight == 0:
            continue
        try:
            term = writer.term(site, options)
        except CompileError as error:
            problems += error.diagnostics
            continue
        kind = "surrogate" if site.role == "target" else "latent"
        outputs[f"{kind}.{site.name}"] = term.name
        weighted.append(
            term if weight == 1 else writer.add(f"{kind}.{site.name}.weighted", "torch.Tensor.mul", (term, weight))
        )
    if problems:
        raise CompileError(*problems)
    outputs["total"] = writer.total(weighted).name
    graph = Graph([*pair, *writer.nodes], **_kept(pair), outputs=outputs)
    live = graph.live()
    return graph.evolve(node for node in graph if node.name in live)


def _kept(pair: Pair) -> dict[str, Any]:
    return {"name": pair.name, "arguments": pair.arguments, "guards": pair.guards, "binding": pair.binding}


def _check(pair: Pair, options: LossOptions) -> None:
    known = {site.name for site in pair.sites}
    given = (options.latent_weight, options.target_weight, options.divergence, options.reduction, options.temperature)
    named = {name for value in given if isinstance(value, Mapping) for name in value}
    problems = [
        Diagnostic(
            code="unknown-site",
            message=f"{name!r} is no site that the pair compares",
            notes=(f"sites: {', '.join(map(repr, sorted(known)))}",),
            help="name a site of the teacher",
        )
        for name in sorted(named - known)
    ]
    names = options.divergence.values() if isinstance(options.divergence, Mapping) else [options.divergence]
    problems += [
        Diagnostic(
            code="unknown-divergence",
            message=f"there is no divergence {name!r}",
            notes=(f"divergences: {', '.join(NAMES)}",),
            help="choose one of these",
        )
        for name in names
        if name not in NAMES
    ]
    if problems:
        raise CompileError(*problems)


@dataclass
class _TermWriter:
    """Appends the nodes of loss terms."""

    pair: Pair
    nodes: list[Node] = field(default_factory=list[Node])

    def __post_init__(self) -> None:
        self._types: dict[str, Node] = {node.name: node for node in self.pair}

    def add(self, name: str, target: str | Formula, args: tuple[Arg, ...], shape: Shape = (), **kwargs: Arg) -> Ref:
        unique, count = name, 0
        while unique in self._types:
            count += 1
            unique = f"{name}_{count}"
        node = Call(name=unique, target=target, args=args, kwargs=kwargs, shape=shape, location=self._location)
        self.nodes.append(node)
        self._types[unique] = node
        return Ref(unique)

    def total(self, terms: list[Arg]) -> Ref:
        """The sum; a pair that compares nothing has the loss 0."""
        self._location = None
        if not terms:
            return self.add("total", "torch.zeros", ((),))
        total = terms[0]
        for term in terms[1:-1]:
            total = self.add("total.part", "torch.Tensor.add", (total, term))
        if len(terms) == 1:
            return self.add("total", "identity", (total,))
        return self.add("total", "torch.Tensor.add", (total, terms[-1]))

    # one term

    def term(self, site: PairedSite, options: LossOptions) -> Ref:
        """The reduced divergence of one site."""
        self._location = site.teacher.location
        self._prefix = f"{'surrogate' if site.role == 'target' else 'latent'}.{site.name}"
        name = _chosen(options.divergence, site.name, DEFAULT)
        value, event_dim = self._divergence(site, name, _chosen(options.temperature, site.name, None))
        return self._reduced(site, value, event_dim, _chosen(options.reduction, site.name, "sum"))

    def _divergence(self, site: PairedSite, name: str, temperature: float | None) -> tuple[Ref, int]:
        """The elementwise divergence, and how many event dims of the site it has summed already."""
        p, q = site.teacher, site.student
        closed = divergence(name, p.family, q.family)
        same_steps = p.transforms == q.transforms
        if closed is not None and same_steps and (not p.transforms or name in BIJECTION_INVARIANT):
            shape = self._base_shape(p)
            reduced = shape[: len(shape) - closed.event_dim]
            args = closed.arguments(p.params, q.params)
            return self._full(self._call(closed, name, args, reduced, temperature), reduced), self._event_dim(p)
        return self._estimated(site, name)

    def _call(self, term: Term, name: str, args: tuple[Arg, ...], shape: Shape, temperature: float | None) -> Ref:
        options = {"temperature": temperature} if temperature is not None and "temperature" in term.options else {}
        inferred = infer_type(term.formula, args, self._types)
        return self.add(f"{self._prefix}.{name}", term.formula, args, inferred[0] if inferred else shape, **options)

    def _full(self, value: Ref, shape: Shape) -> Ref:
        """Expanded to the site's own shape: parameters may be smaller."""
        if self._types[value.name].shape == shape:
            return value
        return self.add(f"{value.name}.expanded", "torch.Tensor.expand", (value, shape), shape)

    def _event_dim(self, p: Sample) -> int:
        """Event dims that the family and the steps take as one."""
        steps = [STEP_TRANSFORMS[step.name].codomain_event_dim for step in p.transforms]
        return max([NOISE_TRANSFORMS[p.family].event_dim, *steps])

    def _base_shape(self, p: Sample) -> Shape:
        shape = p.shape or ()
        for step in reversed(p.transforms):
            shape = STEP_TRANSFORMS[step.name].domain_shape(shape)
        return shape

    # estimates

    def _estimated(self, site: PairedSite, name: str) -> tuple[Ref, int]:
        p, q = site.teacher, site.student
        entry = estimator(name, p.family, q.family)
        coupled = entry is not None and "value" in entry.q_params
        if entry is None or not ((coupled and not p.transforms) or self._have_densities(p, q)):
            raise CompileError(_no_divergence(site, name))
        value = Ref(p.name)
        if coupled:
            args = entry.arguments({"value": value}, {"value": Ref(q.name)})
            shape = p.shape or ()
        else:
            densities = {
                "p": {"log_prob": self._log_prob(p, value, "teacher")} if "log_prob" in entry.p_params else {},
                "q": {"log_prob": self._log_prob(q, value, "student")},
            }
            args = entry.arguments(densities["p"], densities["q"])
            shape = (p.shape or ())[: len(p.shape or ()) - self._event_dim(p)]
        return self._full(self._call(entry, name, args, shape, None), shape), 0 if coupled else self._event_dim(p)

    def _have_densities(self, p: Sample, q: Sample) -> bool:
        steps = [STEP_TRANSFORMS[step.name] for step in (*p.transforms, *q.transforms)]
        one_to_one = all(step.inverse is not None and step.log_abs_det_jacobian is not None for step in steps)
        return one_to_one and {p.family, q.family} <= set(LOG_PROBS)

    def _log_prob(self, law: Sample, value: Ref, side: str) -> Ref:
        """log-density at the teacher's value: of the base at the value pulled back, less the steps' Jacobians."""
        event_dim = self._event_dim(law)
        shape = law.shape or ()
        jacobians: list[Ref] = []
        for given in reversed(law.transforms):
            step = STEP_TRANSFORMS[given.name]
            args = tuple(given.params[name] for name in step.params if name in given.params)
            assert step.inverse is not None and step.log_abs_det_jacobian is not None
            domain = step.domain_shape(shape)
            before = self.add(f"{self._prefix}.{side}_{_word(given.name)}", step.inverse, (value, *args), domain)
            jacobian_shape = shape[: len(shape) - step.codomain_event_dim]
            jacobian = self.add(
                f"{self._prefix}.{side}_log_jacobian", step.log_abs_det_jacobian, (before, value, *args), jacobian_shape
            )
            jacobians.append(self._summed(jacobian, event_dim - step.codomain_event_dim))
            value, shape = before, domain
        family = NOISE_TRANSFORMS[law.family]
        args = tuple(law.params[name] for name in family.params if name in law.params)
        base_shape = shape[: len(shape) - family.event_dim]
        inferred = infer_type(LOG_PROBS[law.family], (value, *args), self._types)
        base = self.add(
            f"{self._prefix}.{side}_log_prob",
            LOG_PROBS[law.family],
            (value, *args),
            inferred[0] if inferred else base_shape,
        )
        total = self._summed(self._full(base, base_shape), event_dim - family.event_dim)
        for jacobian in jacobians:
            total = self.add(
                f"{self._prefix}.{side}_log_prob", "torch.Tensor.sub", (total, jacobian), self._shape(total)
            )
        return total

    def _shape(self, value: Ref) -> Shape:
        return self._types[value.name].shape or ()

    def _summed(self, value: Ref, dims: int, how: str = "torch.Tensor.sum") -> Ref:
        """Over the rightmost ``dims``."""
        if dims <= 0:
            return value
        shape = self._shape(value)
        axes = tuple(range(-dims, 0)) if dims > 1 else -1
        return self.add(f"{value.name}.{how.rpartition('.')[2]}", how, (value, axes), shape[: len(shape) - dims])

    # reduction

    def _reduced(self, site: PairedSite, value: Ref, done: int, reduction: Reduction) -> Ref:
        p = site.teacher
        remaining = p.event_dim - done
        if reduction == "mean":
            value = self._summed(value, remaining, "torch.Tensor.mean")
        elif p.mask is not None or p.scale is not None:
            value = self._summed(value, remaining)
        if p.scale is not None:
            value = self.add(f"{self._prefix}.scaled", "torch.Tensor.mul", (value, p.scale), self._shape(value))
        if p.mask is not None:
            value = self._masked(value, p.mask)
        batch = self._batch(p)
        if batch is None and self._shape(value) == ():
            return value
        total = self.add(f"{self._prefix}.sum", "torch.Tensor.sum", (value,))
        return total if batch is None else self.add(self._prefix, "torch.Tensor.div", (total, batch))

    def _masked(self, value: Ref, mask: Arg) -> Ref:
        if mask is False:
            return self.add(f"{self._prefix}.masked", "torch.zeros_like", (value,), self._shape(value))
        return self.add(f"{self._prefix}.masked", "torch.where", (mask, value, 0.0), self._shape(value))

    def _batch(self, p: Sample) -> Dim | None:
        """Size of the batch where this site is in it."""
        assert p.site is not None
        name = self._batch_plate()
        if name is not None:
            return next((plate.size for plate in p.site.plates if plate.name == name), None)
        leading = [node.shape[0] for node in map(self.pair.__getitem__, self.pair.inputs) if node.shape]
        return p.shape[0] if p.shape and leading and p.shape[0] == leading[0] else None

    def _batch_plate(self) -> str | None:
        """The outermost vectorised plate."""
        for role in ("target", "latent"):
            for site in self.pair.sites:
                if site.role == role and site.teacher.site and site.teacher.site.plates:
                    return site.teacher.site.plates[0].name
        return None


def _word(step: str) -> str:
    return step.removesuffix(".inv").removesuffix("Transform").lower()


def _no_divergence(site: PairedSite, name: str) -> Diagnostic:
    p, q = site.teacher.family, site.student.family
    return Diagnostic(
        code="no-divergence",
        message=f"site {site.name!r}: there is no {name} from {p} to {q}, in closed form or by sampling",
        location=site.teacher.location,
        notes=("two points have no density to compare",) if "Delta" in (p, q) else (),
        help="choose another divergence for it (wasserstein2 compares deterministic sites), or give it the weight 0",
    )
