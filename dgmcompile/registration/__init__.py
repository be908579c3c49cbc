"""Families and divergences of a user's own, beside those that the tables begin with.

What is registered holds for the whole process, until it is removed again.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from dataclasses import replace as replaced
from typing import Any

import torch

from dgmcompile.diagnostics import CompileError, Diagnostic
from dgmcompile.distill.compositions import COMPOSED_LOG_PROBS
from dgmcompile.distill.divergences import CLOSED_FORMS, LOG_PROBS, MEASURES, NAMES, Divergence
from dgmcompile.distill.writing import ComposedLogProb
from dgmcompile.frontends.distributions import family_of
from dgmcompile.frontends.source import calling_frame, location_of
from dgmcompile.ir.graph import Arg, Formula, Law, Ref, Shape
from dgmcompile.registration.problems import Conversions, Function, Noise, Problems
from dgmcompile.registration.tables import ABSENT, Registered, known_formulas, preserved
from dgmcompile.reparam import (
    COMPOSITIONS,
    NOISE_LAWS,
    NOISE_TRANSFORMS,
    Composition,
    NoiseSource,
    NoiseTransform,
)
from dgmcompile.reparam.registry import CAPABILITIES, NoiseShapes

__all__ = [
    "Registered",
    "known_formulas",
    "preserved",
    "register",
    "register_composition",
    "register_divergence",
]


def register(
    family: type,
    *,
    forward: Function,
    params: Iterable[str],
    noises: Iterable[Noise] = ("StandardNormal",),
    log_prob: Function | None = None,
    inverse: Function | None = None,
    conversions: Conversions | None = None,
    noise_shapes: NoiseShapes | None = None,
    differentiable: bool | None = None,
    biased: bool = False,
    no_gradient: Iterable[str] = (),
    discrete: bool | None = None,
    event_dim: int | None = None,
    gradients: Mapping[str, Function] | None = None,
    limits: Mapping[str, str] | None = None,
    source: str = "",
    replace: bool = False,
) -> Registered:
    """Let sites that draw from ``family`` be compiled: how it is made of noise without parameters.

    ``forward``, ``log_prob`` and the other functions are plain functions of tensors. Their text goes into emitted
    files, so they read ``torch``, ``math``, ``F`` (torch.nn.functional), numbers, and functions like themselves. They
    are elementwise over batch dims that broadcast, and a parameter may be a Python number. `check_family` tells
    whether they are right.

    Args:
        family: the class that programs construct.
        forward: ``forward(*noises, *params)`` has exactly the law of ``family(**params)``.
        params: names of constructor parameters, in the order in which ``forward`` takes them.
        noises: "StandardNormal", "StandardExponential", "StandardUniform" (open at both ends), in the order in which
            ``forward`` takes them. ``(name, dtype)`` draws in that dtype; a discrete family's are float64 by default.
        log_prob: ``log_prob(value, *params)``, summed over the event dims. Losses estimate divergences by it.
        inverse: ``inverse(value, *params)`` gives the noise (the only one) back.
        conversions: parameter -> {constructor parameter that may be given instead: function that converts it}.
        noise_shapes: (shape of the value, shapes of the parameters) -> shape of each noise; by default the value's.
        differentiable: do gradients reach every parameter? By default where the family is not discrete.
        biased: is the gradient of ``forward`` not its derivative, as of a straight-through draw?
        no_gradient: the parameters that get none, where others do.
        discrete, event_dim: of the family; by default what its ``support`` says.
        gradients: named stand-ins for a zero gradient; see `NoiseTransform`.
        limits: what ``forward`` cannot do ("torch.compile", "vmap", "double backward") -> why.
        source: where the construction comes from.
        replace: put it in the place of what is known of the family.
    Errors:
        `CompileError` ``family-taken``, ``family-arguments``, ``family-formula``: all problems at once.
    """
    problems = Problems(family, location_of(calling_frame()))
    kind = problems.kind(discrete, event_dim)
    given = {"params": tuple(params), "noises": tuple(noises), "no_gradient": frozenset(no_gradient)}
    conversions, gradients, limits = dict(conversions or {}), dict(gradients or {}), dict(limits or {})
    problems.of_parameters(given["params"], conversions)
    problems.of_noises(given["noises"])
    problems.of_names("limits", limits, CAPABILITIES)
    problems.of_names("no_gradient", given["no_gradient"], given["params"])
    both, count = len(given["noises"]) + len(given["params"]), len(given["params"])
    formulas = problems.formulas(
        {
            "forward": (forward, both),
            "inverse": (inverse, 1 + count),
            "log_prob": (log_prob, 1 + count),
            **{f"the gradient {name!r}": (function, both) for name, function in gradients.items()},
            **_converting(conversions),
        },
    )
    if inverse is not None and len(given["noises"]) != 1:
        problems.say("an inverse gives the only noise back, and there are " + str(len(given["noises"])))
    with problems.about_to_change(replace, given["params"], log_prob) as made:
        problems.of_texts(formulas)
    smooth = not (kind.discrete or given["no_gradient"]) if differentiable is None else differentiable
    entry = NoiseTransform(
        family=made.family,
        noises=tuple(_noise(noise, kind.discrete) for noise in given["noises"]),
        params=given["params"],
        forward=Formula.of(forward),
        source=source or f"registered by {family.__module__}",
        inverse=None if inverse is None else Formula.of(inverse),
        differentiable=smooth,
        biased=biased,
        no_gradient=given["no_gradient"],
        conversions=_formulas_of(conversions),
        event_dim=kind.event_dim,
        discrete=kind.discrete,
        gradients={name: Formula.of(function) for name, function in gradients.items()},
        limits=limits,
        noise_shapes=noise_shapes or (lambda value, _: (value,) * len(given["noises"])),
    )
    made.put(COMPOSITIONS.table, made.family, ABSENT)
    made.put(NOISE_TRANSFORMS.table, made.family, entry)
    if log_prob is not None:
        made.put(LOG_PROBS, made.family, Formula.of(log_prob))
    if (measure := kind.measure(made.family)) is not None:
        made.put(MEASURES, made.family, measure)
    return made


def register_composition(
    family: type,
    *,
    write: Callable[[Mapping[str, Arg], Shape, Any], Arg],
    params: Iterable[str],
    formulas: Iterable[Function],
    log_prob: Callable[[Mapping[str, Arg], Ref, Any], Ref] | None = None,
    conversions: Conversions | None = None,
    also: Iterable[type | str] = (),
    differentiable: bool = True,
    event_dim: int | None = None,
    source: str = "",
    replace: bool = False,
) -> Registered:
    """As `register`, of a family among whose constructor's parameters are other distributions.

    ``write(params, shape, draws)`` says how a value of ``shape`` is made, by two methods: ``draws.draw(law, shape,
    label)`` draws from a distribution among ``params``, and ``draws.call(label, function, *args)`` calls a function on
    what was drawn. It is called while a program is compiled, and sees no tensors.

    Args:
        formulas: the functions that ``write`` and ``log_prob`` call, under the conditions of `register`.
        log_prob: ``log_prob(params, value, write)`` says how the log-density is made, by ``write.log_prob(law, value,
            label)`` of a distribution among ``params`` and by ``write.call`` as above.
        also: families that ``write`` draws from beside those that it is given.
        differentiable: do gradients reach the parameters of every part?
        event_dim: of a single draw; by default that of the parts.
        params, conversions, source, replace: as in `register`.
    Errors: as in `register`.
    """
    problems = Problems(family, location_of(calling_frame()))
    names, conversions = tuple(params), dict(conversions or {})
    problems.of_parameters(names, conversions)
    called = {function: Formula.of(function) for function in formulas}
    if not called:
        problems.say("a composition calls at least one function, and formulas is empty")
    more = problems.formulas(_converting(conversions))
    with problems.about_to_change(replace, names, log_prob) as made:
        problems.of_texts({**{formula.name: formula for formula in called.values()}, **more})
    entry = Composition(
        family=made.family,
        params=names,
        write=lambda params, shape, draws: write(params, shape, _PlainDraws(made.family, called, draws)),
        formulas=tuple(called.values()),
        source=source or f"registered by {family.__module__}",
        conversions=_formulas_of(conversions),
        also=tuple(other if isinstance(other, str) else family_of(other) for other in also),
        differentiable=differentiable,
    )
    if event_dim is not None:
        entry = replaced(entry, event_dim=lambda params: event_dim)
    made.put(NOISE_TRANSFORMS.table, made.family, ABSENT)
    made.put(COMPOSITIONS.table, made.family, entry)
    if log_prob is not None:
        density = ComposedLogProb(
            lambda params, value, logs: log_prob(params, value, _PlainLogProbs(made.family, called, logs))
        )
        made.put(COMPOSED_LOG_PROBS, made.family, density)
    return made


@dataclass(frozen=True)
class _Calls:
    """Functions of the user's in the place of formulas."""

    family: str
    formulas: Mapping[Function, Formula]
    inner: Any

    def call(self, label: str, function: Function, *args: Arg) -> Any:
        if function not in self.formulas:
            raise CompileError(
                Diagnostic(
                    code="family-formula",
                    message=f"{self.family} calls {getattr(function, '__name__', function)!r}, "
                    "which is not among its formulas",
                    help="name it in formulas= where the family is registered",
                )
            )
        return self.inner.call(label, self.formulas[function], *args)


@dataclass(frozen=True)
class _PlainDraws(_Calls):
    def draw(self, law: Law, shape: Shape, label: str, variant: str = "") -> Arg:
        return self.inner.draw(law, shape, label, variant)


@dataclass(frozen=True)
class _PlainLogProbs(_Calls):
    def log_prob(self, law: Law, value: Ref, label: str) -> Ref:
        return self.inner.log_prob(law, value, label)


def _noise(noise: Noise, discrete: bool) -> NoiseSource:
    name, dtype = (noise, torch.float64 if discrete else None) if isinstance(noise, str) else noise
    return NoiseSource(NOISE_LAWS[name], dtype)


def _formulas_of(conversions: Conversions) -> dict[str, dict[str, Formula]]:
    return {
        param: {name: Formula.of(function) for name, function in others.items()}
        for param, others in conversions.items()
    }


def _converting(conversions: Conversions) -> dict[str, tuple[Function | None, int]]:
    return {
        f"the conversion of {name!r}": (function, 1)
        for others in conversions.values()
        for name, function in others.items()
    }


def register_divergence(
    name: str,
    teacher: type | str,
    student: type | str,
    formula: Function,
    *,
    event_dim: int | None = None,
    source: str = "",
    replace: bool = False,
) -> Registered:
    """The closed form of a divergence between two families, which losses then take in the place of an estimate.

    Args:
        name: one of "kl", "reverse_kl", "js", "wasserstein2", "cross_entropy". Of "kl", the reverse follows.
        teacher, student: classes, or the names of public ones.
        formula: a plain function under the conditions of `register`. Its parameters are named for the side and the
            family's parameter, as ``kl(p_loc, p_scale, q_loc, q_scale)``; ``p`` is the teacher. It is elementwise.
        event_dim: of the value's dims, how many the result is summed over; by default those of the teacher's family.
        source, replace: as in `register`.
    Errors:
        `CompileError` ``family-taken``, ``family-arguments``, ``family-formula``.
    """
    p, q = (side if isinstance(side, str) else family_of(side) for side in (teacher, student))
    problems = Problems(None, location_of(calling_frame()), f"{name} of {p} and {q}")
    problems.of_names("name", (name,), NAMES)
    entry = Divergence(Formula.of(formula), source or f"registered by {formula.__module__}")
    expected = {f"{side}_{param}" for side, law in (("p", p), ("q", q)) for param in problems.params_of(law)}
    required = [n for n, v in inspect.signature(formula).parameters.items() if v.default is v.empty]
    problems.of_names(f"{formula.__name__}'s parameters", required, sorted(expected))
    table = CLOSED_FORMS.get(name, {})
    taken = table.pop((p, q), None) if replace else None
    try:
        if (p, q) in table:
            problems.taken(f"there is a formula of {name} for {p} and {q}")
        problems.of_texts({formula.__name__: entry.formula})
    finally:
        if taken is not None:
            table[p, q] = taken
    problems.raise_all()
    family = NOISE_TRANSFORMS.get(p)
    entry = replaced(entry, event_dim=(family.event_dim if family else 0) if event_dim is None else event_dim)
    made = Registered(p)
    made.put(table, (p, q), entry)
    if name == "kl" and (replace or (q, p) not in CLOSED_FORMS["reverse_kl"]):
        made.put(CLOSED_FORMS["reverse_kl"], (q, p), replaced(entry, exchanged=True))
    return made
