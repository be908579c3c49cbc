"""Marginalised distillation: finite discrete latents are summed out exactly, in both models.

    p(y | x) = sum_z p(z | x) p(y | z, x)

The law of every site is written once for each assignment of the latents that it depends on, with
constants in their place; two assignments that differ elsewhere only share it. All targets are one term:
the sum over the latents does not fall apart into a chain rule.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import product
from math import prod
from typing import Any

from dgmcompile.diagnostics import CompileError, Diagnostic
from dgmcompile.distill.divergences import Divergence, Estimator, divergence
from dgmcompile.distill.nodes import Nodes
from dgmcompile.distill.options import LossOptions
from dgmcompile.distill.pair import STUDENT, TEACHER, Pair, PairedSite
from dgmcompile.distill.terms import Batch, Elementwise, TermWriter
from dgmcompile.ir.graph import Dim, Ref, Sample, Shape
from dgmcompile.reparam import NOISE_TRANSFORMS

MOST_ASSIGNMENTS = 256
"""Of the latents (and targets) of one model: each is written out. It is eight binary units."""

Assignment = Mapping[str, int]
"""Site's node -> which of its values."""


def marginal_term(
    pair: Pair, targets: Sequence[PairedSite], options: LossOptions, terms: TermWriter, nodes: Nodes
) -> Ref:
    """The divergence of both models' joint law of the targets given the inputs, averaged over the batch.

    Exact where the targets are finite and discrete as well and have few values; otherwise the estimate
    at the teacher's sample.

    Errors:
        `CompileError` ``intractable`` with the reason, ``no-divergence``, and ``loss-option`` where the
        targets' options differ.
    """
    _refuse_other_options(targets, options)
    name, chosen = f"surrogate.{', '.join(site.name for site in targets)}", options.divergence_of(targets[0])
    nodes.location = targets[0].teacher.location
    choices = _Choices(terms.batch, nodes)
    sides = [
        _Side(pair, [site.teacher for site in targets], TEACHER, choices, terms, nodes),
        _Side(pair, [site.student for site in targets], STUDENT, choices, terms, nodes),
    ]
    observed = {site.teacher.name: site.teacher for site in targets}
    most, values = _refuse_intractable(sides, targets, choices), choices.count(observed.values())
    closed = divergence(chosen, "Categorical", "Categorical")
    if closed is not None and isinstance(values, int) and values * most <= MOST_ASSIGNMENTS:
        found = _exact(sides, observed, choices, closed, nodes, f"{name}.{chosen}", options.temperature_of(targets[0]))
    elif (entry := _estimator(targets, chosen, terms)) is not None:
        found = _estimate(sides, entry, nodes, f"{name}.{chosen}")
    else:
        raise CompileError(_no_divergence(targets, chosen))
    unit = choices.unit(targets[0].teacher)
    return terms.reduced(unit, Elementwise(found, unit.shape or ()), name)


def _estimator(targets: Sequence[PairedSite], name: str, terms: TermWriter) -> Estimator | None:
    """The estimate that reads log-densities, where every target has one."""
    entries = [terms.estimator(site, name) for site in targets]
    entry = entries[0]
    return entry if None not in entries and entry is not None and "value" not in entry.q_params else None


class _Choices:
    """The values that sites may take at one batch element, as nodes; both models share them."""

    def __init__(self, batch: Batch, nodes: Nodes) -> None:
        self._batch, self._nodes = batch, nodes
        self._made: dict[tuple[str, int], Ref] = {}

    def unit(self, law: Sample) -> Sample:
        """The law as if it had no dims but the batch."""
        position = self._batch.position(law)
        if position is None:
            return replace(law, shape=(), event_dim=0, site=None)
        size = (law.shape or ())[position]
        plates = tuple(replace(p, dim=-1) for p in (law.site.plates if law.site else ()) if p.name == self._batch.plate)
        site = replace(law.site, plates=plates) if law.site else None
        return replace(law, shape=(size,), event_dim=0, site=site)

    def shape(self, law: Sample) -> Shape:
        """Of the value at one batch element, with a dim of 1 in the place of the batch."""
        position = self._batch.position(law)
        return tuple(1 if i == position else dim for i, dim in enumerate(law.shape or ()))

    def count(self, laws: Iterable[Sample]) -> int | str:
        """How many values the sites take together at one batch element, or why they cannot be counted."""
        total = 1
        for law in laws:
            support, dims = self._support(law), self._free(law)
            if isinstance(support, str):
                return support
            if open_ended := [dim for dim in dims if not isinstance(dim, int)]:
                return (
                    f"how many values it has for each batch element depends on {open_ended[0]}, a size that may change"
                )
            total *= len(support) ** prod(dim for dim in dims if isinstance(dim, int))
        return total

    def _free(self, law: Sample) -> Shape:
        """Dims along which a batch element has independent values."""
        shape = self.shape(law)
        return shape[: len(shape) - NOISE_TRANSFORMS[law.family].event_dim]

    def _support(self, law: Sample) -> list[Any] | str:
        logits = self._nodes.shape(law.params.get("logits"))
        return _support(law, logits[-1] if logits else None)

    def value(self, law: Sample, index: int) -> Ref:
        """The value of that index, in the law's shape."""
        key = (law.name, index)
        if key not in self._made:
            self._made[key] = self._write(law, index)
        return self._made[key]

    def _write(self, law: Sample, index: int) -> Ref:
        support, shape = self._support(law), self.shape(law)
        assert not isinstance(support, str)
        dims = [dim for dim in self._free(law) if isinstance(dim, int)]
        elements = _digits(index, len(support), prod(dims))
        least = shape[next((i for i, dim in enumerate(shape) if dim != 1), len(shape)) :]
        nested = _nested([support[digit] for digit in elements], dims)
        for _ in range(len(shape) - len(least)):
            nested = nested[0]
        value = self._nodes.constant(f"{_name(law)}.{index}", nested, least, law.dtype)
        return self._nodes.expanded(value, law.shape or ())


def _digits(index: int, base: int, count: int) -> list[int]:
    """``index`` as so many digits, the last one counting single steps."""
    digits = list[int]()
    for _ in range(count):
        index, digit = divmod(index, base)
        digits.insert(0, digit)
    return digits


def _nested(elements: list[Any], dims: list[int]) -> Any:
    if not dims:
        return elements[0]
    step = len(elements) // dims[0]
    return tuple(_nested(elements[i * step : (i + 1) * step], dims[1:]) for i in range(dims[0]))


def _support(law: Sample, classes: Dim | None) -> list[Any] | str:
    """The values of one draw, or why there is no list of them."""
    if law.transforms:
        return "it is transformed"
    match law.family:
        case "Bernoulli":
            return [0.0, 1.0]
        case "Categorical" | "OneHotCategorical" if isinstance(classes, int):
            rows = range(classes)
            return [tuple(float(i == k) for i in rows) if law.family[0] == "O" else k for k in rows]
        case "Binomial" if isinstance(law.params.get("total_count"), int | float):
            return [float(value) for value in range(int(law.params["total_count"]) + 1)]
        case "Binomial":
            return "its total_count is no plain number"
        case _:
            return f"{law.family} has no finite set of values"


class _Side:
    """One model's laws, given assignments of values to its latents and to the targets."""

    def __init__(
        self, pair: Pair, targets: Sequence[Sample], prefix: str, choices: _Choices, terms: TermWriter, nodes: Nodes
    ) -> None:
        self._pair, self._choices, self._terms, self._nodes = pair, choices, terms, nodes
        self.prefix = prefix
        self._targets = targets
        self._latents = {law.name: law for law in pair.laws.values() if law.name.startswith(prefix) and _is_latent(law)}
        self._cuts = {*self._latents, *(law.name for law in pair.laws.values() if law.name.startswith(TEACHER))}
        self._depends: dict[str, frozenset[str]] = {}
        for node in pair:
            self._depends[node.name] = self._reached(node.inputs)
        self._made: dict[tuple[Any, ...], Ref] = {}
        needed = self._needed()
        self.latents = {name: law for name, law in self._latents.items() if name in needed}

    def _reached(self, names: Iterable[str]) -> frozenset[str]:
        """The sites on which nodes depend, where these were fixed."""
        empty = frozenset[str]()
        return empty.union(*(frozenset([n]) if n in self._cuts else self._depends.get(n, empty) for n in names))

    def _needed(self) -> set[str]:
        """Latents that the targets depend on; all others sum to 1."""
        found, todo = set[str](), [law.inputs for law in self._targets]
        while todo:
            new = (self._reached(todo.pop()) & self._latents.keys()) - found
            found |= new
            todo += [self._latents[name].inputs for name in new]
        return found

    def log_prob(self, observed: Assignment) -> Ref:
        """log p(y | x) at each batch element: of the values in ``observed``, or of the teacher's sample."""
        counts = [range(int(self._choices.count([law]))) for law in self.latents.values()]
        joint = [self._joint(dict(zip(self.latents, chosen, strict=True)), observed) for chosen in product(*counts)]
        if len(joint) == 1:
            return joint[0]
        label = "_".join(map(str, observed.values()))
        shape = self._nodes.shape(joint[0])
        stacked = self._nodes.call(f"{self.prefix}joint.{label}", "torch.stack", (joint,), (len(joint), *shape))
        return self._nodes.call(f"{self.prefix}log_prob.{label}", "torch.logsumexp", (stacked, 0), shape)

    def _joint(self, latents: Assignment, observed: Assignment) -> Ref:
        """log p(z, y | x)."""
        given = {**latents, **observed}
        parts = [self._part(law, law, given) for law in self.latents.values()]
        parts += [self._part(law, self._pair.laws[node], given) for law, node in self._observed()]
        total = parts[0]
        for part in parts[1:]:
            total = self._nodes.call(f"{self.prefix}log_joint", "torch.Tensor.add", (total, part), self._shape(part))
        return total

    def _observed(self) -> list[tuple[Sample, str]]:
        """This model's law of each target, and the node that holds the teacher's value."""
        own = {site.student.name: site.teacher.name for site in self._pair.compared}
        return [(law, own.get(law.name, law.name)) for law in self._targets]

    def _shape(self, value: Ref) -> Shape:
        return self._nodes.shape(value)

    def _part(self, law: Sample, valued: Sample, given: Assignment) -> Ref:
        """log p(v | its parents), for the value of the node of ``valued``; of one batch element."""
        read = sorted(self._reached(law.inputs) & given.keys())
        key = (law.name, given.get(valued.name), *((name, given[name]) for name in read))
        if key not in self._made:
            label = ".".join([law.name, *(str(given[name]) for name in (valued.name, *read) if name in given)])
            value = self._choices.value(valued, given[valued.name]) if valued.name in given else Ref(valued.name)
            densities = self._terms.densities
            found = densities.log_prob(self._law(law, given), value, f"{label}.log_prob", densities.event_dim(law))
            self._made[key] = self._per_element(law, found)
        return self._made[key]

    def _per_element(self, law: Sample, value: Ref) -> Ref:
        """Summed over all dims but the batch."""
        shape, position = self._shape(value), self._terms.batch.position(law)
        axes = tuple(i for i in range(len(shape)) if i != position)
        if not axes:
            return value
        kept = () if position is None else (shape[position],)
        return self._nodes.call(f"{value.name}.sum", "torch.Tensor.sum", (value, axes), kept)

    def _law(self, law: Sample, given: Assignment) -> Sample:
        """The law where the sites that it reads have the given values."""
        todo, between = list(law.inputs), set[str]()
        while todo:
            name = todo.pop()
            if name not in self._cuts and name not in between and self._depends[name] & given.keys():
                between.add(name)
                todo += self._pair[name].inputs
        copies: dict[str, str] = {}

        def read(name: str) -> str:
            if name in self._cuts and name in given:
                return self._choices.value(self._pair.laws[name], given[name]).name
            return copies.get(name, name)

        for node in self._pair:
            if node.name in between:
                indices = [(name, given[name]) for name in sorted(self._depends[node.name]) if name in given]
                key = (node.name, *indices)
                if key not in self._made:
                    label = ".".join([node.name, *(str(index) for _, index in indices)])
                    copied = replace(node.map_names(read), name=self._nodes.unused(label), site=None)
                    self._made[key] = self._nodes.append(copied)
                copies[node.name] = self._made[key].name
        return law.map_names(read)


def _is_latent(law: Sample) -> bool:
    return law.site is not None and law.site.role == "latent"


def _exact(
    sides: Sequence[_Side],
    observed: Mapping[str, Sample],
    choices: _Choices,
    entry: Divergence,
    nodes: Nodes,
    name: str,
    temperature: float | None,
) -> Ref:
    """The divergence of two categorical laws, whose classes are the joint values of the targets."""
    counts = [range(int(choices.count([law]))) for law in observed.values()]
    values = [dict(zip(observed, chosen, strict=True)) for chosen in product(*counts)]
    classes: list[Ref] = []
    for side in sides:
        columns = [side.log_prob(value) for value in values]
        shape = (*nodes.shape(columns[0]), len(columns))
        classes.append(nodes.call(f"{side.prefix}log_probs", "torch.stack", (columns, -1), shape))
    options = {"temperature": temperature} if temperature is not None and "temperature" in entry.options else {}
    args = entry.arguments({"logits": classes[0]}, {"logits": classes[1]})
    return nodes.call(name, entry.formula, args, nodes.shape(classes[0])[:-1], **options)


def _estimate(sides: Sequence[_Side], entry: Estimator, nodes: Nodes, name: str) -> Ref:
    """The estimate at the teacher's sample of all targets."""
    reads = (entry.p_params, entry.q_params)
    found = [{"log_prob": side.log_prob({})} if read else {} for side, read in zip(sides, reads, strict=True)]
    shape = nodes.shape(next(iter(found[1].values())))
    return nodes.call(name, entry.formula, entry.arguments(found[0], found[1]), shape)


# what cannot be done


def _refuse_intractable(sides: Sequence[_Side], targets: Sequence[PairedSite], choices: _Choices) -> int:
    """How many assignments the latents of a model have at most."""
    latents = [law for side in sides for law in side.latents.values()]
    laws = [law for site in targets for law in (site.teacher, site.student)]
    problems = [_intractable(law, reason) for law in latents if (reason := _reason(law, choices, laws)) is not None]
    problems += [_intractable(law, reason) for law in laws if (reason := _weighted(law, targets, choices)) is not None]
    if problems:
        raise CompileError(*problems)
    counts = [choices.count(side.latents.values()) for side in sides]
    for side, count in zip(sides, counts, strict=True):
        if not isinstance(count, int) or count > MOST_ASSIGNMENTS:
            named = ", ".join(repr(_name(law)) for law in side.latents.values())
            raise CompileError(_too_many(side.prefix.rstrip("."), named, count, next(iter(side.latents.values()))))
    return max(int(count) for count in counts)


def _reason(latent: Sample, choices: _Choices, targets: Sequence[Sample]) -> str | None:
    """Why a latent cannot be summed out."""
    if isinstance(count := choices.count([latent]), str):
        return count
    if latent.mask is not None or latent.scale is not None:
        return "it is masked or scaled, and its weighted probabilities do not sum to 1"
    if choices.unit(latent).shape == () and any(choices.unit(target).shape for target in targets):
        return "one draw of it is shared by the batch, whose elements are then not independent"
    return None


def _weighted(target: Sample, targets: Sequence[PairedSite], choices: _Choices) -> str | None:
    """Why the term of these targets cannot be weighed as the target says."""
    if target.mask is None and target.scale is None:
        return None
    if len(targets) > 1:
        return "it is masked or scaled, and all targets are one term"
    if len(target.masked_shape) > len(choices.unit(target).shape or ()):
        return "it is masked or scaled along more dims than the batch"
    return None


def _intractable(law: Sample, reason: str) -> Diagnostic:
    return Diagnostic(
        code="intractable",
        message=f"site {_name(law)!r} cannot be marginalised: {reason}",
        location=law.location,
        notes=(_WHAT_CAN,),
        help="use method='surrogate', whose loss is an upper bound of this one",
    )


_WHAT_CAN = (
    "latents that are summed out are Bernoulli, Categorical, OneHotCategorical or Binomial, one draw a batch element"
)


def _too_many(model: str, named: str, count: int | str, law: Sample) -> Diagnostic:
    return Diagnostic(
        code="intractable",
        message=f"the {model}'s latents {named} have {count} joint values for each batch element",
        location=law.location,
        notes=(f"each is written out: {MOST_ASSIGNMENTS} at most",),
        help="use method='surrogate', whose loss is an upper bound of this one",
    )


def _name(law: Sample) -> str:
    return law.site.name.removeprefix(TEACHER).removeprefix(STUDENT) if law.site else law.name


def _refuse_other_options(targets: Sequence[PairedSite], options: LossOptions) -> None:
    """One term has one divergence, one weight and one temperature."""
    found = {
        "divergence": {options.divergence_of(site) for site in targets},
        "target_weight": {options.weight(site, 0.0) for site in targets},
        "temperature": {options.temperature_of(site) for site in targets},
    }
    problems = [f"{option} differs between the targets" for option, values in found.items() if len(values) > 1]
    problems += ["reduction 'mean' has no event to average over"] if _means(targets, options) else []
    if problems:
        way_out = "give all targets the same"
        note = "of method 'marginalised' all targets are one term, whose value is one for each batch element"
        raise CompileError(*(Diagnostic(code="loss-option", message=p, notes=(note,), help=way_out) for p in problems))


def _means(targets: Sequence[PairedSite], options: LossOptions) -> bool:
    return any(options.reduction_of(site) == "mean" for site in targets)


def _no_divergence(targets: Sequence[PairedSite], name: str) -> Diagnostic:
    return Diagnostic(
        code="no-divergence",
        message=f"there is no marginalised {name} of {', '.join(repr(site.name) for site in targets)}",
        location=targets[0].teacher.location,
        notes=("it needs the log-density of every target, or targets with few values",),
        help="choose kl, reverse_kl, js or cross_entropy",
    )
