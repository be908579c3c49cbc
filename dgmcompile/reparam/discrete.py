"""Discrete families: a threshold, a rounded inverse CDF, Gumbel-max. No gradient reaches a parameter.

All work on logits, where probabilities of exactly 0 and 1 are infinite and still behave. A scalar
family compares one uniform in float64, whatever the parameters' dtype: below 2**-24 the float32 grid
has nothing left to compare with.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from dgmcompile.ir.graph import Formula, Shape
from dgmcompile.reparam.laws import STANDARD_EXPONENTIAL, STANDARD_UNIFORM
from dgmcompile.reparam.registry import NoiseSource, NoiseTransform, tensor_or_number


def logits_from_probs(probs: Tensor | float) -> Tensor:
    """log(p / (1 - p)): infinite at 0 and 1, as it should be."""
    return torch.logit(tensor_or_number(probs))


def bernoulli_from_noise(noise: Tensor, logits: Tensor | float) -> Tensor:
    """1 where the noise exceeds 1 - p, compared as logits, which do not saturate."""
    logits = tensor_or_number(logits)
    return (torch.logit(noise) > -logits).to(logits.dtype)


BERNOULLI = NoiseTransform(
    family="Bernoulli",
    noises=(NoiseSource(STANDARD_UNIFORM, torch.float64),),
    params=("logits",),
    forward=Formula.of(bernoulli_from_noise),
    conversions={"logits": {"probs": Formula.of(logits_from_probs)}},
    differentiable=False,
    discrete=True,
    source="inverse CDF; Devroye 1986, Non-Uniform Random Variate Generation, section III.2",
)


def geometric_from_noise(noise: Tensor, logits: Tensor | float) -> Tensor:
    """Inverse CDF of the number of failures before the first success: floor(log noise / log(1 - p))."""
    logits = tensor_or_number(logits).detach()
    failures = torch.log(noise) / F.logsigmoid(-logits.double())
    return torch.floor(failures).to(logits.dtype)


GEOMETRIC = NoiseTransform(
    family="Geometric",
    noises=(NoiseSource(STANDARD_UNIFORM, torch.float64),),
    params=("logits",),
    forward=Formula.of(geometric_from_noise),
    conversions={"logits": {"probs": Formula.of(logits_from_probs)}},
    differentiable=False,
    discrete=True,
    source="inverse CDF; Devroye 1986, Non-Uniform Random Variate Generation, section X.2",
)


def log_probs_from_probs(probs: Tensor) -> Tensor:
    """log p of what the user gave: -inf at 0, where the library's own logits are clamped."""
    return torch.log(probs)


def categorical_from_noise(noise: Tensor, logits: Tensor) -> Tensor:
    """Gumbel-max: -log of Exponential noise is Gumbel."""
    return torch.argmax(logits - torch.log(noise), dim=-1)


def _one_noise_a_label(value: Shape, params: Mapping[str, Shape]) -> tuple[Shape, ...]:
    return ((*value, params["logits"][-1]),)


_GUMBEL_MAX = "Gumbel-max; Maddison, Tarlow & Minka 2014, A* Sampling, arXiv:1411.0030, section 2"

CATEGORICAL = NoiseTransform(
    family="Categorical",
    noises=(NoiseSource(STANDARD_EXPONENTIAL),),
    params=("logits",),
    forward=Formula.of(categorical_from_noise),
    noise_shapes=_one_noise_a_label,
    conversions={"logits": {"probs": Formula.of(log_probs_from_probs)}},
    differentiable=False,
    discrete=True,
    source=_GUMBEL_MAX,
)


def one_hot_categorical_from_noise(noise: Tensor, logits: Tensor) -> Tensor:
    """The Gumbel-max label as a one-hot vector."""
    label = categorical_from_noise(noise, logits)
    return torch.zeros_like(noise).scatter(-1, label.unsqueeze(-1), 1.0)


ONE_HOT_CATEGORICAL = NoiseTransform(
    family="OneHotCategorical",
    noises=(NoiseSource(STANDARD_EXPONENTIAL),),
    params=("logits",),
    forward=Formula.of(one_hot_categorical_from_noise),
    conversions={"logits": {"probs": Formula.of(log_probs_from_probs)}},
    differentiable=False,
    event_dim=1,
    discrete=True,
    source=_GUMBEL_MAX,
)
