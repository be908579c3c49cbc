"""Families that hold other distributions: draws from these, and what is made of them.

Components that are alternatives share one noise, as only one of them is looked at: the noise then does
not depend on how many there are.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import cast

import torch
from torch import Tensor

from dgmcompile.ir.graph import Arg, Formula, Law, Shape
from dgmcompile.reparam.discrete import logits_from_probs
from dgmcompile.reparam.registry import Composition, Draws, tensor_or_number


def component_at(values: Tensor, index: Tensor, event_dim: int) -> Tensor:
    """The component that ``index`` names, of values of shape ``(*batch, components, *event)``.

    A single component stands for all of them.
    """
    dim = -1 - event_dim
    index = index.long().reshape(index.shape + (1,) * (event_dim + 1)) % values.shape[dim]
    values = values.reshape((1,) * (index.dim() - values.dim()) + values.shape)
    return torch.take_along_dim(values, index, dim).squeeze(dim)


def _mixture(params: Mapping[str, Arg], shape: Shape, draws: Draws, variant: str = "") -> Arg:
    mixture, component = cast(Law, params["mixture_distribution"]), cast(Law, params["component_distribution"])
    batch, event = shape[: len(shape) - component.event_dim], shape[len(shape) - component.event_dim :]
    index = draws.draw(mixture, batch, "component", variant)
    values = draws.draw(component, (*batch, 1, *event), "components")
    return draws.call("value", COMPONENT_AT, values, index, component.event_dim)


COMPONENT_AT = Formula.of(component_at)

_MIXTURE = Composition(
    family="MixtureSameFamily",
    params=("mixture_distribution", "component_distribution"),
    write=_mixture,
    formulas=(COMPONENT_AT,),
    differentiable=False,
    source="composition; Devroye 1986, Non-Uniform Random Variate Generation, section II.4",
)

MIXTURE_SAME_FAMILY = replace(
    _MIXTURE, variants={"inverse_cdf": replace(_MIXTURE, write=partial(_mixture, variant="inverse_cdf"))}
)
"""By ``inverse_cdf`` the label comes from one uniform, however many components there are."""


def masked_mixture(mask: Tensor, component0: Tensor, component1: Tensor, event_dim: int) -> Tensor:
    """component1 where the mask is true."""
    return torch.where(mask.reshape(mask.shape + (1,) * event_dim), component1, component0)


def _masked_mixture(params: Mapping[str, Arg], shape: Shape, draws: Draws) -> Arg:
    parts = [cast(Law, params[name]) for name in ("component0", "component1")]
    values = [draws.draw(part, shape, f"component{i}") for i, part in enumerate(parts)]
    return draws.call("value", MASKED_MIXTURE_OF, params["mask"], *values, parts[0].event_dim)


MASKED_MIXTURE_OF = Formula.of(masked_mixture)

MASKED_MIXTURE = Composition(
    family="MaskedMixture",
    params=("mask", "component0", "component1"),
    write=_masked_mixture,
    formulas=(MASKED_MIXTURE_OF,),
    source="a choice that is known: one of two draws",
)


def zero_inflated(is_zero: Tensor, value: Tensor) -> Tensor:
    """0 where the gate says so."""
    return torch.where(is_zero == 1, 0.0, value)


def _zero_inflated(params: Mapping[str, Arg], shape: Shape, draws: Draws) -> Arg:
    is_zero = draws.draw(Law(family="Bernoulli", params={"logits": params["gate_logits"]}), shape, "gate")
    return draws.call("value", ZERO_INFLATED_OF, is_zero, draws.draw(cast(Law, params["base_dist"]), shape, "base"))


ZERO_INFLATED_OF = Formula.of(zero_inflated)

ZERO_INFLATED_DISTRIBUTION = Composition(
    family="ZeroInflatedDistribution",
    params=("base_dist", "gate_logits"),
    conversions={"gate_logits": {"gate": Formula.of(logits_from_probs)}},
    write=_zero_inflated,
    formulas=(ZERO_INFLATED_OF,),
    also=("Bernoulli",),
    differentiable=False,
    source="composition; Lambert 1992, Technometrics 34(1), section 2",
)


def folded(value: Tensor) -> Tensor:
    return torch.abs(value)


def _folded(params: Mapping[str, Arg], shape: Shape, draws: Draws) -> Arg:
    return draws.call("value", FOLDED, draws.draw(cast(Law, params["base_dist"]), shape, "base"))


FOLDED = Formula.of(folded)

FOLDED_DISTRIBUTION = Composition(
    family="FoldedDistribution",
    params=("base_dist",),
    write=_folded,
    formulas=(FOLDED,),
    source="push-forward of |x|",
)


def mean_von_mises(loc: Tensor | float) -> Tensor:
    return tensor_or_number(loc)


def mean_sine_bivariate_von_mises(phi_loc: Tensor, psi_loc: Tensor) -> Tensor:
    """The two locations as one event."""
    return torch.stack(torch.broadcast_tensors(phi_loc, psi_loc), -1)


def mean_uniform(low: Tensor | float, high: Tensor | float) -> Tensor:
    """The middle of the arc."""
    return tensor_or_number((low + high) / 2)


MEANS_ON_THE_TORUS: Mapping[str, tuple[Formula, tuple[str, ...]]] = {
    "SineBivariateVonMises": (Formula.of(mean_sine_bivariate_von_mises), ("phi_loc", "psi_loc")),
    "Uniform": (Formula.of(mean_uniform), ("low", "high")),
    "VonMises": (Formula.of(mean_von_mises), ("loc",)),
}
"""Family of angles -> around what it is symmetric, and the parameters that this is made of."""


def sine_skew(value: Tensor, mean: Tensor, skewness: Tensor) -> Tensor:
    """By how much the density at a value exceeds the symmetric one, as a share of it."""
    return (skewness * torch.sin(value - mean)).sum(-1)


def probability_of_this_side(value: Tensor, mean: Tensor, skewness: Tensor) -> Tensor:
    """Of a value and its mirror image, the skewed density's share at the value."""
    return 0.5 + 0.5 * sine_skew(value, mean, skewness)


def on_this_side(value: Tensor, mean: Tensor, stays: Tensor) -> Tensor:
    """The angles or their mirror images around the mean, in [-pi, pi)."""
    chosen = torch.where(stays.unsqueeze(-1) == 1, value, 2 * mean - value)
    return torch.remainder(chosen + math.pi, 2 * math.pi) - math.pi


PROBABILITY_OF_THIS_SIDE = Formula.of(probability_of_this_side)
ON_THIS_SIDE = Formula.of(on_this_side)


def _sine_skewed(params: Mapping[str, Arg], shape: Shape, draws: Draws) -> Arg:
    base = cast(Law, params["base_dist"])
    formula, names = MEANS_ON_THE_TORUS[base.family]
    value = draws.draw(base, shape, "base")
    mean = draws.call("mean", formula, *(base.params[name] for name in names))
    probability = draws.call("probability", PROBABILITY_OF_THIS_SIDE, value, mean, params["skewness"])
    stays = draws.draw(Law(family="Bernoulli", params={"probs": probability}), shape[:-1], "stays")
    return draws.call("value", ON_THIS_SIDE, value, mean, stays)


def _no_torus(params: Mapping[str, Arg]) -> str | None:
    base = cast(Law, params["base_dist"])
    if base.family in MEANS_ON_THE_TORUS and not base.transforms:
        return None
    return f"its base is {base.family}; angles around a mean are {', '.join(MEANS_ON_THE_TORUS)}"


def _vector_event(params: Mapping[str, Arg]) -> int:
    return 1


SINE_SKEWED = Composition(
    family="SineSkewed",
    params=("base_dist", "skewness"),
    write=_sine_skewed,
    formulas=(*(formula for formula, _ in MEANS_ON_THE_TORUS.values()), PROBABILITY_OF_THIS_SIDE, ON_THIS_SIDE),
    also=("Bernoulli",),
    differentiable=False,
    event_dim=_vector_event,
    refusal=_no_torus,
    source="Ameijeiras-Alonso & Ley 2022, Biostatistics 23(3), section 2.3; its gradients leave out the mirror",
)
