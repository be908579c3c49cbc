"""Discrete families: a threshold, a rounded inverse CDF, Gumbel-max. No gradient reaches a parameter.

All work on logits, where probabilities of exactly 0 and 1 are infinite and still behave. A scalar
family compares one uniform in float64, whatever the parameters' dtype: below 2**-24 the float32 grid
has nothing left to compare with.

Where values are vectors or numbers that a mean can stand for, ``gradients`` names biased stand-ins for
the gradient that is zero. A label is an index: nothing can be added to it, so Categorical and
OrderedLogistic have none.
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
    """log(p / (1 - p)): infinite at 0 and 1, as it should be, and constant there, so that no gradient is inf * 0."""
    probs = tensor_or_number(probs)
    inside = (probs > 0) & (probs < 1)
    return torch.where(inside, torch.logit(torch.where(inside, probs, 0.5)), torch.logit(probs.detach()))


def bernoulli_from_noise(noise: Tensor, logits: Tensor | float) -> Tensor:
    """1 where the noise exceeds 1 - p, compared as logits, which do not saturate."""
    logits = tensor_or_number(logits)
    return (torch.logit(noise) > -logits).to(logits.dtype)


def bernoulli_straight_through(noise: Tensor, logits: Tensor | float) -> Tensor:
    """The value, with the gradient of its mean."""
    mean = torch.sigmoid(tensor_or_number(logits))
    return bernoulli_from_noise(noise, logits) + (mean - mean.detach())


def bernoulli_relaxed(noise: Tensor, logits: Tensor | float, temperature: float = 0.5) -> Tensor:
    """The value, with the gradient of the concrete value of the same noise."""
    logits = tensor_or_number(logits)
    soft = torch.sigmoid((logits + torch.logit(noise)) / temperature).to(logits.dtype)
    return bernoulli_from_noise(noise, logits) + (soft - soft.detach())


_BERNOULLI_SOURCE = "inverse CDF; Devroye 1986, Non-Uniform Random Variate Generation, section III.2"

BERNOULLI = NoiseTransform(
    family="Bernoulli",
    noises=(NoiseSource(STANDARD_UNIFORM, torch.float64),),
    params=("logits",),
    forward=Formula.of(bernoulli_from_noise),
    conversions={"logits": {"probs": Formula.of(logits_from_probs)}},
    differentiable=False,
    discrete=True,
    gradients={
        "straight_through": Formula.of(bernoulli_straight_through),
        "relaxed": Formula.of(bernoulli_relaxed),
    },
    source=_BERNOULLI_SOURCE,
)


def geometric_from_noise(noise: Tensor, logits: Tensor | float) -> Tensor:
    """Inverse CDF of the number of failures before the first success: floor(log noise / log(1 - p))."""
    logits = tensor_or_number(logits).detach()
    failures = torch.log(noise) / F.logsigmoid(-logits.double())
    return torch.floor(failures).to(logits.dtype)


def geometric_straight_through(noise: Tensor, logits: Tensor | float) -> Tensor:
    """The value, with the gradient of its mean (1 - p) / p."""
    mean = torch.exp(-tensor_or_number(logits))
    return geometric_from_noise(noise, logits) + (mean - mean.detach())


GEOMETRIC = NoiseTransform(
    family="Geometric",
    noises=(NoiseSource(STANDARD_UNIFORM, torch.float64),),
    params=("logits",),
    forward=Formula.of(geometric_from_noise),
    conversions={"logits": {"probs": Formula.of(logits_from_probs)}},
    differentiable=False,
    discrete=True,
    gradients={"straight_through": Formula.of(geometric_straight_through)},
    source="inverse CDF; Devroye 1986, Non-Uniform Random Variate Generation, section X.2",
)


def log_probs_from_probs(probs: Tensor) -> Tensor:
    """log p of what the user gave: -inf at 0, where the library's own logits are clamped, and constant there."""
    possible = probs > 0
    return torch.where(possible, torch.log(torch.where(possible, probs, 1.0)), torch.log(probs.detach()))


def with_gumbel_noise(noise: Tensor, logits: Tensor) -> Tensor:
    """Logits and their noise: -log of an Exponential is Gumbel. What all logits share would cost it digits."""
    return logits - logits.detach().amax(-1, keepdim=True) - torch.log(noise)


def categorical_from_noise(noise: Tensor, logits: Tensor) -> Tensor:
    """Gumbel-max."""
    return torch.argmax(with_gumbel_noise(noise, logits), dim=-1)


def categorical_by_inverse_cdf(noise: Tensor, logits: Tensor) -> Tensor:
    """How many labels but the last lie wholly below the noise; one of probability 0 is never drawn."""
    weights = torch.exp(logits.double() - logits.double().amax(-1, keepdim=True))
    below = torch.cumsum(weights, -1)
    return (below[..., :-1] < noise.unsqueeze(-1) * below[..., -1:]).sum(-1)


def _one_noise_a_label(value: Shape, params: Mapping[str, Shape]) -> tuple[Shape, ...]:
    return ((*value, params["logits"][-1]),)


_GUMBEL_MAX = "Gumbel-max; Maddison, Tarlow & Minka 2014, A* Sampling, arXiv:1411.0030, section 2"

CATEGORICAL_BY_INVERSE_CDF = NoiseTransform(
    family="Categorical",
    noises=(NoiseSource(STANDARD_UNIFORM, torch.float64),),
    params=("logits",),
    forward=Formula.of(categorical_by_inverse_cdf),
    conversions={"logits": {"probs": Formula.of(log_probs_from_probs)}},
    differentiable=False,
    discrete=True,
    source=_BERNOULLI_SOURCE,
)

CATEGORICAL = NoiseTransform(
    family="Categorical",
    noises=(NoiseSource(STANDARD_EXPONENTIAL),),
    params=("logits",),
    forward=Formula.of(categorical_from_noise),
    noise_shapes=_one_noise_a_label,
    conversions={"logits": {"probs": Formula.of(log_probs_from_probs)}},
    differentiable=False,
    discrete=True,
    variants={"inverse_cdf": CATEGORICAL_BY_INVERSE_CDF},
    source=_GUMBEL_MAX,
)


def one_hot_categorical_from_noise(noise: Tensor, logits: Tensor) -> Tensor:
    """The Gumbel-max label as a one-hot vector."""
    label = categorical_from_noise(noise, logits)
    return torch.zeros_like(noise).scatter(-1, label.unsqueeze(-1), 1.0)


def one_hot_categorical_straight_through(noise: Tensor, logits: Tensor) -> Tensor:
    """The value, with the gradient of its mean."""
    mean = torch.softmax(logits, dim=-1)
    return one_hot_categorical_from_noise(noise, logits) + (mean - mean.detach())


def one_hot_categorical_relaxed(noise: Tensor, logits: Tensor, temperature: float = 0.5) -> Tensor:
    """The value, with the gradient of the Gumbel-softmax value of the same noise."""
    soft = torch.softmax(with_gumbel_noise(noise, logits) / temperature, dim=-1)
    return one_hot_categorical_from_noise(noise, logits) + (soft - soft.detach())


def one_hot_categorical_by_inverse_cdf(noise: Tensor, logits: Tensor) -> Tensor:
    """The label of the inverse CDF as a one-hot vector."""
    label = categorical_by_inverse_cdf(noise, logits)
    return (torch.arange(logits.shape[-1], device=noise.device) == label.unsqueeze(-1)).to(logits.dtype)


def one_hot_categorical_by_inverse_cdf_straight_through(noise: Tensor, logits: Tensor) -> Tensor:
    """The value, with the gradient of its mean."""
    mean = torch.softmax(logits, dim=-1)
    return one_hot_categorical_by_inverse_cdf(noise, logits) + (mean - mean.detach())


def _one_noise_a_vector(value: Shape, params: Mapping[str, Shape]) -> tuple[Shape, ...]:
    return (value[:-1],)


ONE_HOT_CATEGORICAL_BY_INVERSE_CDF = NoiseTransform(
    family="OneHotCategorical",
    noises=(NoiseSource(STANDARD_UNIFORM, torch.float64),),
    params=("logits",),
    forward=Formula.of(one_hot_categorical_by_inverse_cdf),
    noise_shapes=_one_noise_a_vector,
    conversions={"logits": {"probs": Formula.of(log_probs_from_probs)}},
    differentiable=False,
    event_dim=1,
    discrete=True,
    gradients={"straight_through": Formula.of(one_hot_categorical_by_inverse_cdf_straight_through)},
    source=_BERNOULLI_SOURCE,
)

ONE_HOT_CATEGORICAL = NoiseTransform(
    family="OneHotCategorical",
    noises=(NoiseSource(STANDARD_EXPONENTIAL),),
    params=("logits",),
    forward=Formula.of(one_hot_categorical_from_noise),
    conversions={"logits": {"probs": Formula.of(log_probs_from_probs)}},
    differentiable=False,
    event_dim=1,
    discrete=True,
    gradients={
        "straight_through": Formula.of(one_hot_categorical_straight_through),
        "relaxed": Formula.of(one_hot_categorical_relaxed),
    },
    variants={"inverse_cdf": ONE_HOT_CATEGORICAL_BY_INVERSE_CDF},
    source=_GUMBEL_MAX,
)


def ordered_logistic_from_noise(noise: Tensor, predictor: Tensor, cutpoints: Tensor) -> Tensor:
    """Inverse CDF: the number of cutpoints below the predictor and its logistic noise."""
    return (predictor.unsqueeze(-1) + torch.logit(noise).unsqueeze(-1) > cutpoints).sum(-1)


ORDERED_LOGISTIC = NoiseTransform(
    family="OrderedLogistic",
    noises=(NoiseSource(STANDARD_UNIFORM, torch.float64),),
    params=("predictor", "cutpoints"),
    forward=Formula.of(ordered_logistic_from_noise),
    differentiable=False,
    discrete=True,
    source="latent variable of ordered regression; McCullagh 1980, JRSS B 42(2), 109-142, section 2",
)
