"""One loss term: the divergence of two laws, elementwise, and what reduces it to a number."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, replace
from functools import reduce
from typing import Literal

from dgmcompile.diagnostics import CompileError, Diagnostic
from dgmcompile.distill.densities import Densities, has_density, is_one_to_one
from dgmcompile.distill.divergences import (
    BIJECTION_INVARIANT,
    NO_LOG_PROBS,
    ZERO_AT_EQUALITY,
    Estimator,
    Term,
    divergence,
    estimator,
)
from dgmcompile.distill.measures import are_comparable, measure_of
from dgmcompile.distill.nodes import Nodes, Values
from dgmcompile.distill.pair import Pair, PairedSite
from dgmcompile.ir.graph import Arg, Dim, Input, Noise, Parameter, Ref, Sample, Shape, is_size, refs_in
from dgmcompile.ir.size import Size, add, broadcast_shapes, multiply, quotient

Reduction = Literal["sum", "mean"]


@dataclass(frozen=True)
class Elementwise:
    """A divergence before it is reduced. Its ``value`` may lack dims of ``shape``, along which it repeats itself.

    ``shape`` is the site's batch shape, then the event dims that are still to be summed.
    """

    value: Ref
    shape: Shape


def kind_of(site: PairedSite) -> str:
    """What its term is called."""
    return "surrogate" if site.role == "target" else "latent"


class TermWriter:
    """Writes the terms of a pair's sites."""

    def __init__(self, pair: Pair, nodes: Nodes) -> None:
        self._pair, self._nodes = pair, nodes
        self._values = Values(pair)
        self.densities = Densities(pair, nodes)
        self.batch = Batch.of(pair)

    def is_zero(self, site: PairedSite, name: str) -> bool:
        """Have both models this one law, at which the divergence ``name`` is 0?"""
        return name in ZERO_AT_EQUALITY and self._values.same_law(site.teacher, site.student)

    def term(self, site: PairedSite, name: str, reduction: Reduction, temperature: float | None) -> Ref:
        """The reduced divergence ``name`` of one site.

        Errors:
            `CompileError` ``no-divergence``.
        """
        self._nodes.location = site.teacher.location
        prefix = f"{kind_of(site)}.{site.name}"
        counts = self._labels(site.teacher), self._labels(site.student)
        if counts[0] != counts[1]:
            raise CompileError(_no_divergence(site, name, f"they have {counts[0]} and {counts[1]} labels"))
        found = self._closed(site, name, prefix, temperature) or self._estimated(site, name, prefix)
        if found is None:
            raise CompileError(_no_divergence(site, name, *self._measures(site)))
        return self.reduced(site.teacher, found, prefix, reduction)

    def _labels(self, law: Sample) -> Dim | None:
        """How many there are, where the value does not show it."""
        match law.family:
            case "Categorical":
                return self._nodes.shape(law.params["logits"])[-1]
            case "OrderedLogistic":
                return add(self._nodes.shape(law.params["cutpoints"])[-1], 1)
            case _:
                return None

    def _measures(self, site: PairedSite) -> Iterator[str]:
        """Why densities cannot be compared, where this is known."""
        p, q = (measure_of(law, self._pair) for law in (site.teacher, site.student))
        if p is not None and q is not None and p != q:
            yield f"the density of one is per unit of {p}, that of the other per unit of {q}"

    # the divergence

    def _closed(self, site: PairedSite, name: str, prefix: str, temperature: float | None) -> Elementwise | None:
        p, q = site.teacher, site.student
        closed = divergence(name, p.family, q.family)
        if closed is None or not self._bases_suffice(p, q, name):
            return None
        shape = self.densities.base_shape(p)
        reduced = shape[: len(shape) - closed.event_dim]
        return self._call(closed, f"{prefix}.{name}", closed.arguments(p.params, q.params), reduced, temperature)

    def _bases_suffice(self, p: Sample, q: Sample, name: str) -> bool:
        """Is the divergence that of the laws before their transforms?"""
        if not p.transforms and not q.transforms:
            return True
        return all(map(is_one_to_one, p.transforms)) and name in BIJECTION_INVARIANT and self._values.same_steps(p, q)

    def _call(
        self, term: Term, name: str, args: tuple[Arg, ...], shape: Shape, temperature: float | None = None
    ) -> Elementwise:
        options = {"temperature": temperature} if temperature is not None and "temperature" in term.options else {}
        return Elementwise(self._nodes.call(name, term.formula, args, shape, **options), shape)

    def estimator(self, site: PairedSite, name: str) -> Estimator | None:
        """The estimate of a divergence, where these laws have one."""
        p, q = site.teacher, site.student
        entry = estimator(name, p.family, q.family)
        if entry is None or "value" in entry.q_params:
            return entry
        if not has_density(p) or not has_density(q):
            return None
        if self._bases_suffice(p, q, name):
            p, q = replace(p, transforms=()), replace(q, transforms=())
        known = are_comparable(p, q, self._pair) if entry.p_params else measure_of(q, self._pair) is not None
        return entry if known else None

    def _estimated(self, site: PairedSite, name: str, prefix: str) -> Elementwise | None:
        p, q = site.teacher, site.student
        entry = self.estimator(site, name)
        if entry is None:
            return None
        shape = p.shape or ()
        if "value" in entry.q_params:
            args = entry.arguments({"value": Ref(p.name)}, {"value": Ref(q.name)})
            return None if p.transforms or q.transforms else self._call(entry, f"{prefix}.{name}", args, shape)
        event_dim = max(self.densities.event_dim(p), self.densities.event_dim(q))
        args = self._densities(entry, p, q, event_dim, prefix)
        return self._call(entry, f"{prefix}.{name}", args, shape[: len(shape) - event_dim])

    def _densities(self, entry: Estimator, p: Sample, q: Sample, event_dim: int, prefix: str) -> tuple[Arg, ...]:
        """What the estimate reads: log-densities at the teacher's value, summed over so many event dims."""
        value, sides = Ref(p.name), {"teacher": p, "student": q}
        reads = {"teacher": entry.p_params, "student": entry.q_params}
        found = {
            side: {"log_prob": self.densities.log_prob(law, value, f"{prefix}.{side}_log_prob", event_dim)}
            for side, law in sides.items()
            if reads[side]
        }
        return entry.arguments(found.get("teacher", {}), found.get("student", {}))

    # the reduction

    def reduced(self, p: Sample, found: Elementwise, name: str, reduction: Reduction = "sum") -> Ref:
        """The number: summed over event dims and plates, averaged over the batch; times mask and scale."""
        scale = p.scale if isinstance(p.scale, int | float) else None
        weighs = scale is None and p.scale is not None
        averaged = self.batch.within(p) or self.batch.inside(p, found.shape)
        if p.mask is not None:
            found = self._without_events(len(found.shape) - len(p.masked_shape), found, reduction)
            found = self._weighted(found, p.mask, True, name)
            found = self._without_events(p.mask_event_dim, found, reduction)
        elif weighs:
            found = self._without_events(len(found.shape) - len(p.batch_shape), found, reduction)
        elif reduction == "mean":
            averaged |= dict.fromkeys(range(len(p.batch_shape), len(found.shape)), 1)
        if weighs:
            found = self._weighted(found, p.scale, False, name)
        if p.mask is not None or weighs:  # which may have more dims than the site's batch
            averaged = {len(found.shape) - len(p.batch_shape) + place: rest for place, rest in averaged.items()}
        return self._averaged(found, averaged, name, scale)

    def _without_events(self, events: int, found: Elementwise, reduction: Reduction) -> Elementwise:
        """Without the rightmost dims, in a shape that a mask or a scale broadcasts with."""
        value = self._nodes.expanded(found.value, found.shape) if events else found.value
        return Elementwise(self._nodes.summed(value, events, reduction), found.shape[: len(found.shape) - events])

    def _weighted(self, found: Elementwise, weight: Arg, is_mask: bool, name: str) -> Elementwise:
        shape = broadcast_shapes(self._nodes.shape(found.value), self._nodes.shape(weight))
        if weight is False:
            value = self._nodes.call(f"{name}.masked", "torch.zeros_like", (found.value,), shape)
        elif is_mask:
            value = self._nodes.call(f"{name}.masked", "torch.where", (weight, found.value, 0.0), shape)
        else:
            value = self._nodes.call(f"{name}.scaled", "torch.Tensor.mul", (found.value, weight), shape)
        return Elementwise(value, broadcast_shapes(found.shape, self._nodes.shape(weight)))

    def _averaged(self, found: Elementwise, averaged: Mapping[int, Dim], name: str, scale: float | None) -> Ref:
        """A mean over some dims of the full shape, a sum over the others: in as few calls as there can be.

        Where another size is folded into a dim it is summed over that: ``averaged`` has it for each place, or 1.
        """
        own = self._nodes.shape(found.value)
        own = (*(1,) * (len(found.shape) - len(own)), *own)
        there = [i for i, dim in enumerate(own) if dim == found.shape[i]]
        counted = _product(averaged.get(i, dim) for i, dim in enumerate(found.shape) if i not in there)
        divided = _product(found.shape[i] if averaged[i] == 1 else self.batch.size or 1 for i in there if i in averaged)
        factor = counted if scale is None else counted * scale if isinstance(counted, int) else counted
        calls: list[tuple[str, str, tuple[Arg, ...]]] = []
        if there and all(averaged.get(i) == 1 for i in there):
            calls.append(("mean", "torch.Tensor.mean", ()))
        else:
            calls += [("sum", "torch.Tensor.sum", ())] if self._nodes.shape(found.value) else []
            calls += [("mean", "torch.Tensor.div", (divided,))] if divided != 1 else []
        calls += [("counted", "torch.Tensor.mul", (factor,))] if factor != 1 else []
        calls += (
            [("scaled", "torch.Tensor.mul", (scale,))] if scale is not None and not isinstance(counted, int) else []
        )
        value = found.value
        for i, (word, target, args) in enumerate(calls):
            last = i == len(calls) - 1
            value = self._nodes.call(name if last else f"{name}.{word}", target, (value, *args))
        return value


@dataclass(frozen=True)
class Batch:
    """What terms are averaged over: a plate, or the leading dim of the arguments.

    ``fixed``: names of sites that have a dim of that many elements, a fixed number, by their own parameters.
    """

    plate: str | None
    size: Dim | None
    fixed: Set[str] = frozenset()

    @classmethod
    def of(cls, pair: Pair) -> Batch:
        """The outermost vectorised plate of the first target that has one, or else of the first latent.

        Without plates the size of the first tensor's leading dim, or the first whole number, among the arguments that a
        target has, or else a latent; of plain PyTorch without either, the leading dim of the first target that has one.
        """
        sites = sorted(pair.compared, key=lambda site: site.role != "target")
        for site in sites:
            if site.teacher.site and site.teacher.site.plates:
                return cls(site.teacher.site.plates[0].name, None)
        inputs = [node for node in pair if isinstance(node, Input)]
        given: list[Dim] = [node.shape[0] for node in inputs if node.shape]
        given += [Size.symbol(node.name) for node in inputs if is_size(node)]
        targets = [site.teacher.batch_shape for site in sites if site.role == "target"]
        drawn = [shape[0] for shape in targets if shape] if pair.binding.draws is not None else []
        tried = [cls(None, size, _fixed(pair, size)) for size in given]
        met = (batch for site in sites for batch in tried if batch.is_in(site.teacher))
        return next(met, cls(None, next(iter([*given, *drawn]), None)))

    def is_in(self, law: Sample) -> bool:
        """Is some dim of what is compared the batch?"""
        return bool(self.within(law) or self.inside(law, law.shape or ()))

    def position(self, law: Sample) -> int | None:
        """Which dim of the law's shape is the batch, if it is in it."""
        return next((place for place, rest in self.within(law).items() if rest == 1), None)

    def within(self, law: Sample) -> dict[int, Dim]:
        """The dim of the law's shape that the batch is in, and what it is folded with, or 1.

        A fixed number may be another's as well: it has to come first.
        """
        dims = law.batch_shape
        if self.plate is not None:
            plates = law.site.plates if law.site else ()
            return {len(dims) + plate.dim: 1 for plate in plates if plate.name == self.plate}
        if not isinstance(self.size, Size):
            return {0: 1} if dims[:1] == (self.size,) and law.name not in self.fixed else {}
        return dict(list(self._places(dims).items())[:1])

    def inside(self, law: Sample, shape: Shape) -> dict[int, Dim]:
        """Of a value, all but whose first dim is one event: where the batch is, which need not come first."""
        return self._places(shape) if law.family == "Delta" and isinstance(self.size, Size) else {}

    def _places(self, dims: Shape) -> dict[int, Dim]:
        """Where it is by itself, or else where it is folded with others."""
        assert isinstance(self.size, Size)
        rests = {place: quotient(dim, self.size) for place, dim in enumerate(dims) if isinstance(dim, Size)}
        found: dict[int, Dim] = {place: rest for place, rest in rests.items() if rest is not None}
        return {place: rest for place, rest in found.items() if rest == 1} or found


def _fixed(pair: Pair, size: Dim) -> Set[str]:
    """Sites of which a parameter is made of trainable ones alone, one of which has that many rows."""
    return frozenset(
        site.teacher.name
        for site in pair.compared
        if isinstance(size, int) and any(_is_of_rows(ref, size, pair) for ref in refs_in(site.teacher.params))
    )


def _is_of_rows(name: str, size: int, pair: Pair) -> bool:
    made_of = [pair[node] for node in (name, *pair.ancestors([name]))]
    drawn = any(isinstance(node, Input | Noise | Sample) for node in made_of)
    rows = [(node.shape or ())[:1] for node in made_of if isinstance(node, Parameter) and node.trainable]
    return not drawn and (pair[name].shape or ())[:1] == (size,) and (size,) in rows


def _product(dims: Iterable[Dim]) -> Dim:
    return reduce(multiply, dims, 1)


def _no_divergence(site: PairedSite, name: str, *notes: str) -> Diagnostic:
    laws = (site.teacher, site.student)
    p, q = (" + ".join([law.family, *(step.name.rpartition(".")[2] for step in law.transforms)]) for law in laws)
    notes += tuple(f"{law.family}: {NO_LOG_PROBS[law.family]}" for law in laws if law.family in NO_LOG_PROBS)[:1]
    if "Delta" in (p, q):
        notes = ("two points have no density to compare" if p == q else "a point has no density to compare",)
    if lost := {step.name for law in laws for step in law.transforms if not is_one_to_one(step)}:
        notes = (f"{', '.join(sorted(lost))} cannot be undone: the density of a given value is not known",)
    return Diagnostic(
        code="no-divergence",
        message=f"site {site.name!r}: there is no {name} from {p} to {q}, in closed form or by sampling",
        location=site.teacher.location,
        notes=notes,
        help="choose another divergence for it (wasserstein2 compares deterministic sites), or give it the weight 0",
    )
