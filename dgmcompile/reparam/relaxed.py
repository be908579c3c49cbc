"""Concrete laws, and hard values that take their gradient from a concrete or a mean value.

``probs`` are clamped where the library clamps them: a relaxed value of 0 or 1 has no density.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dgmcompile.ir.graph import Formula
from dgmcompile.reparam.discrete import (
    ONE_HOT_CATEGORICAL,
    bernoulli_from_noise,
    one_hot_categorical_from_noise,
    one_hot_categorical_straight_through,
    with_gumbel_noise,
)
from dgmcompile.reparam.laws import STANDARD_EXPONENTIAL, STANDARD_UNIFORM
from dgmcompile.reparam.registry import NoiseSource, NoiseTransform, tensor_or_number
from dgmcompile.reparam.steps import sigmoid


def inner_logits_from_probs(probs: Tensor | float) -> Tensor:
    """log(p / (1 - p)) of p in [eps, 1 - eps]."""
    probs = tensor_or_number(probs)
    eps = torch.finfo(probs.dtype).eps
    return torch.logit(probs.clamp(eps, 1 - eps))


def inner_log_probs_from_probs(probs: Tensor) -> Tensor:
    """log of the normalised p, in [eps, 1 - eps]."""
    eps = torch.finfo(probs.dtype).eps
    return torch.log((probs / probs.sum(-1, keepdim=True)).clamp(eps, 1 - eps))


def relaxed_bernoulli_from_noise(noise: Tensor, temperature: Tensor | float, logits: Tensor | float) -> Tensor:
    return sigmoid((logits + torch.logit(noise)) / temperature)


def noise_from_relaxed_bernoulli(value: Tensor, temperature: Tensor | float, logits: Tensor | float) -> Tensor:
    """CDF."""
    return torch.sigmoid(temperature * torch.logit(value) - logits)


RELAXED_BERNOULLI = NoiseTransform(
    family="RelaxedBernoulli",
    noises=(NoiseSource(STANDARD_UNIFORM),),
    params=("temperature", "logits"),
    forward=Formula.of(relaxed_bernoulli_from_noise),
    inverse=Formula.of(noise_from_relaxed_bernoulli),
    conversions={"logits": {"probs": Formula.of(inner_logits_from_probs)}},
    source="Maddison, Mnih & Teh 2017, arXiv:1611.00712, appendix B",
)


def relaxed_bernoulli_straight_through_from_noise(
    noise: Tensor, temperature: Tensor | float, logits: Tensor | float
) -> Tensor:
    """0 or 1, whichever the relaxed value is nearer to; the gradient is that of the relaxed value."""
    soft = relaxed_bernoulli_from_noise(noise, temperature, logits)
    return bernoulli_from_noise(noise, logits) + (soft - soft.detach())


RELAXED_BERNOULLI_STRAIGHT_THROUGH = NoiseTransform(
    family="RelaxedBernoulliStraightThrough",
    noises=(NoiseSource(STANDARD_UNIFORM),),
    params=("temperature", "logits"),
    forward=Formula.of(relaxed_bernoulli_straight_through_from_noise),
    conversions={"logits": {"probs": Formula.of(inner_logits_from_probs)}},
    discrete=True,
    biased=True,
    source="Maddison, Mnih & Teh 2017, arXiv:1611.00712, appendix B; "
    "straight-through: Jang, Gu & Poole 2017, arXiv:1611.01144, section 2.2",
)


def relaxed_one_hot_categorical_from_noise(noise: Tensor, temperature: Tensor | float, logits: Tensor) -> Tensor:
    """Gumbel-softmax."""
    return torch.softmax(with_gumbel_noise(noise, logits) / temperature, dim=-1)


RELAXED_ONE_HOT_CATEGORICAL = NoiseTransform(
    family="RelaxedOneHotCategorical",
    noises=(NoiseSource(STANDARD_EXPONENTIAL),),
    params=("temperature", "logits"),
    forward=Formula.of(relaxed_one_hot_categorical_from_noise),
    conversions={"logits": {"probs": Formula.of(inner_log_probs_from_probs)}},
    event_dim=1,
    source="Maddison, Mnih & Teh 2017, arXiv:1611.00712, section 3; Jang, Gu & Poole 2017, arXiv:1611.01144",
)


def relaxed_one_hot_categorical_straight_through_from_noise(
    noise: Tensor, temperature: Tensor | float, logits: Tensor
) -> Tensor:
    """The largest label of the relaxed value as a one-hot vector; the gradient is that of the relaxed value."""
    soft = relaxed_one_hot_categorical_from_noise(noise, temperature, logits)
    return one_hot_categorical_from_noise(noise, logits) + (soft - soft.detach())


RELAXED_ONE_HOT_CATEGORICAL_STRAIGHT_THROUGH = NoiseTransform(
    family="RelaxedOneHotCategoricalStraightThrough",
    noises=(NoiseSource(STANDARD_EXPONENTIAL),),
    params=("temperature", "logits"),
    forward=Formula.of(relaxed_one_hot_categorical_straight_through_from_noise),
    conversions={"logits": {"probs": Formula.of(inner_log_probs_from_probs)}},
    event_dim=1,
    discrete=True,
    biased=True,
    source="straight-through Gumbel-softmax; Jang, Gu & Poole 2017, arXiv:1611.01144, section 2.2",
)

ONE_HOT_CATEGORICAL_STRAIGHT_THROUGH = NoiseTransform(
    family="OneHotCategoricalStraightThrough",
    noises=ONE_HOT_CATEGORICAL.noises,
    params=ONE_HOT_CATEGORICAL.params,
    forward=Formula.of(one_hot_categorical_straight_through),
    conversions=ONE_HOT_CATEGORICAL.conversions,
    event_dim=1,
    discrete=True,
    biased=True,
    source="Bengio, Leonard & Courville 2013, arXiv:1308.3432, section 2.2; " + ONE_HOT_CATEGORICAL.source,
)
