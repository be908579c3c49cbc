"""Counts: Poisson by its inverse CDF, and the families that mix Poisson and Binomial.

As for the Binomial, ``P(X < s)`` is a ratio of two integrals of a Gamma density (DLMF 8.4.10), which needs no
log-gamma; a Cornish-Fisher guess says at which ``s`` to start, and the next 32 probabilities follow from each other.
A rate stays a logarithm, a probability a logit. All base noise is float64: it decides discrete values.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from dgmcompile.ir.graph import Formula, Shape
from dgmcompile.ir.size import add
from dgmcompile.reparam.beta import logit_beta_from_noise
from dgmcompile.reparam.binomial import binomial_from_noise, quadrature_on_unit_interval
from dgmcompile.reparam.discrete import log_probs_from_probs, logits_from_probs
from dgmcompile.reparam.gamma import in_double, log_gamma_from_noise, two_of_the_value
from dgmcompile.reparam.laws import STANDARD_NORMAL, STANDARD_UNIFORM
from dgmcompile.reparam.registry import NoiseSource, NoiseTransform

_UNIFORM = NoiseSource(STANDARD_UNIFORM, torch.float64)


def float_dtype_of(*values: Tensor | float) -> torch.dtype:
    """The floating dtype that a sample of a family with these parameters has."""
    dtypes = [value.dtype for value in values if isinstance(value, Tensor) and value.is_floating_point()]
    found = dtypes[0] if dtypes else torch.get_default_dtype()
    for dtype in dtypes:
        found = torch.promote_types(found, dtype)
    return found


def gamma_integral(rate: Tensor, step: Tensor, a: Tensor) -> Tensor:
    """Integral of t^a e^-t between rate and rate + step, divided by rate^a e^-rate."""
    nodes, weights = quadrature_on_unit_interval(48, rate)
    t = step.unsqueeze(-1) * nodes
    integrand = torch.exp(a.unsqueeze(-1) * torch.log1p(t / rate.unsqueeze(-1)) - t)
    return torch.abs(step) * (weights * integrand).sum(-1)


def count_from_log_rate(noise: Tensor, log_rate: Tensor) -> Tensor:
    """Inverse CDF of a Poisson: the smallest count whose CDF reaches the noise; all in float64, no gradients."""
    log_rate = log_rate.detach().clamp(-80.0, 80.0) + torch.zeros_like(noise)  # below, the count is 0
    rate = torch.exp(log_rate)

    # Cornish-Fisher: never off by 16, half of the window that is searched.
    z = torch.special.ndtri(noise)
    guess = rate + torch.sqrt(rate) * z + (z**2 - 1) / 6
    first = (torch.floor(guess) - 16).clamp(min=0)

    # P(X < s) = P(Gamma(s) > rate); all but 1e-16 of the Gamma lies within `reach` of its mean.
    s = first.clamp(min=1)
    reach = 8.6 * torch.sqrt(s) + 37
    left = gamma_integral(rate, -torch.minimum(rate, rate - s + reach).clamp(min=0), s - 1)
    right = gamma_integral(rate, (s - rate + reach).clamp(min=0), s - 1)
    below = torch.where(first > 0, right / (left + right), 0.0)
    log_first = torch.where(first > 0, torch.log(rate / s / (left + right)), -rate)

    # P(X = k + 1) / P(X = k) = rate / (k + 1)
    k = first.unsqueeze(-1) + torch.arange(1, 32, dtype=noise.dtype, device=noise.device)
    log_probs = log_first.unsqueeze(-1) + F.pad((log_rate.unsqueeze(-1) - torch.log(k)).cumsum(-1), (1, 0))
    cdf = below.unsqueeze(-1) + torch.exp(log_probs).cumsum(-1)
    return first + (cdf < noise.unsqueeze(-1)).sum(-1)


def poisson_from_noise(noise: Tensor, rate: Tensor | float) -> Tensor:
    """Inverse CDF."""
    return count_from_log_rate(noise, torch.log(in_double(rate))).to(float_dtype_of(rate))


_POISSON = "inverse CDF through the incomplete gamma function, DLMF 8.4.10"

POISSON = NoiseTransform(
    family="Poisson",
    noises=(_UNIFORM,),
    params=("rate",),
    forward=Formula.of(poisson_from_noise),
    differentiable=False,
    discrete=True,
    source=f"{_POISSON}; quadrature: Waldvogel 2006, BIT 46, 195-202",
)


def gamma_poisson_from_noise(
    noise: Tensor, rate_noise: Tensor, concentration: Tensor | float, rate: Tensor | float
) -> Tensor:
    """A Poisson count of a Gamma rate."""
    log_rate = log_gamma_from_noise(rate_noise, concentration) - torch.log(in_double(rate))
    return count_from_log_rate(noise, log_rate).to(float_dtype_of(concentration, rate))


GAMMA_POISSON = NoiseTransform(
    family="GammaPoisson",
    noises=(_UNIFORM, _UNIFORM),
    params=("concentration", "rate"),
    forward=Formula.of(gamma_poisson_from_noise),
    noise_shapes=two_of_the_value,
    differentiable=False,
    discrete=True,
    source="Greenwood & Yule 1920, Journal of the Royal Statistical Society 83, 255-279",
)


def count_from_gamma_noise(noise: Tensor, rate_noise: Tensor, total_count: Tensor | float, logits: Tensor) -> Tensor:
    """A negative binomial count in float64: a Poisson of a Gamma(total_count) rate times exp(logits)."""
    shape = in_double(total_count).detach().clamp(min=1e-100)  # below, the count is 0
    return count_from_log_rate(noise, log_gamma_from_noise(rate_noise, shape) + logits.detach())


def negative_binomial_from_noise(
    noise: Tensor, rate_noise: Tensor, total_count: Tensor | float, logits: Tensor | float
) -> Tensor:
    """A Poisson count of a Gamma rate."""
    count = count_from_gamma_noise(noise, rate_noise, total_count, in_double(logits))
    return count.to(float_dtype_of(total_count, logits))


_NEGATIVE_BINOMIAL = "a Poisson of a Gamma rate; Greenwood & Yule 1920, Journal of the Royal Statistical Society 83"

NEGATIVE_BINOMIAL = NoiseTransform(
    family="NegativeBinomial",
    noises=(_UNIFORM, _UNIFORM),
    params=("total_count", "logits"),
    forward=Formula.of(negative_binomial_from_noise),
    noise_shapes=two_of_the_value,
    conversions={"logits": {"probs": Formula.of(logits_from_probs)}},
    differentiable=False,
    discrete=True,
    source=_NEGATIVE_BINOMIAL,
)


def extended_binomial_from_noise(noise: Tensor, total_count: Tensor | float, logits: Tensor | float) -> Tensor:
    """A Binomial; of a negative total count, which has no law, NaN."""
    count = binomial_from_noise(noise, total_count, logits)
    return torch.where(torch.zeros_like(noise) + total_count < 0, torch.nan, count)


EXTENDED_BINOMIAL = NoiseTransform(
    family="ExtendedBinomial",
    noises=(_UNIFORM,),
    params=("total_count", "logits"),
    forward=Formula.of(extended_binomial_from_noise),
    conversions={"logits": {"probs": Formula.of(logits_from_probs)}},
    differentiable=False,
    discrete=True,
    source="inverse CDF through the incomplete beta function, DLMF 8.17.5",
)


def beta_binomial_from_noise(
    noise: Tensor,
    odds_noise: Tensor,
    concentration1: Tensor | float,
    concentration0: Tensor | float,
    total_count: Tensor | float = 1,
) -> Tensor:
    """A Binomial count of a Beta probability, of which only the logit is taken."""
    logits = logit_beta_from_noise(odds_noise, concentration1, concentration0)
    count = binomial_from_noise(noise, in_double(total_count), logits)
    return count.to(float_dtype_of(concentration1, concentration0, total_count))


_SKELLAM = "a Binomial of a Beta probability; Skellam 1948, Journal of the Royal Statistical Society B 10, 257-261"

BETA_BINOMIAL = NoiseTransform(
    family="BetaBinomial",
    noises=(_UNIFORM, _UNIFORM),
    params=("concentration1", "concentration0", "total_count"),
    forward=Formula.of(beta_binomial_from_noise),
    noise_shapes=two_of_the_value,
    differentiable=False,
    discrete=True,
    source=_SKELLAM,
)


def extended_beta_binomial_from_noise(
    noise: Tensor,
    odds_noise: Tensor,
    concentration1: Tensor | float,
    concentration0: Tensor | float,
    total_count: Tensor | float = 1,
) -> Tensor:
    """A BetaBinomial; of a negative total count, which has no law, NaN."""
    count = beta_binomial_from_noise(noise, odds_noise, concentration1, concentration0, total_count)
    return torch.where(torch.zeros_like(noise) + total_count < 0, torch.nan, count)


EXTENDED_BETA_BINOMIAL = NoiseTransform(
    family="ExtendedBetaBinomial",
    noises=(_UNIFORM, _UNIFORM),
    params=("concentration1", "concentration0", "total_count"),
    forward=Formula.of(extended_beta_binomial_from_noise),
    noise_shapes=two_of_the_value,
    differentiable=False,
    discrete=True,
    source=_SKELLAM,
)


def counts_of_parts(noise: Tensor, total_count: Tensor, log_probs: Tensor) -> Tensor:
    """``total_count`` things in the K parts of the last dim of ``log_probs``, which need no normalising; in float64.

    Neighbours are joined two by two until one part is left, which has everything; then each split is a Binomial.
    K - 1 noises, in about log2(K) rounds.
    """
    levels = [log_probs.detach()]
    while levels[-1].shape[-1] > 1:
        parts = levels[-1]
        paired = parts.shape[-1] // 2 * 2
        joined = torch.logaddexp(parts[..., 0:paired:2], parts[..., 1:paired:2])
        levels.append(torch.cat([joined, parts[..., paired:]], dim=-1))
    no_counts = torch.zeros_like(levels[-1][..., 0]) + torch.zeros_like(noise.sum(-1))  # in the whole batch's shape
    counts = (total_count.detach() + no_counts).unsqueeze(-1)
    start = 0
    for parts in reversed(levels[:-1]):
        pairs = parts.shape[-1] // 2
        logits = parts[..., 0 : 2 * pairs : 2] - parts[..., 1 : 2 * pairs : 2]
        logits = torch.where(torch.isnan(logits), 0.0, logits)  # two impossible parts: nothing is there to split
        whole, rest = counts[..., :pairs], counts[..., pairs:]
        left = binomial_from_noise(noise[..., start : start + pairs], whole, logits)
        counts = torch.cat([torch.stack([left, whole - left], dim=-1).flatten(-2), rest], dim=-1)
        start += pairs
    return counts


def multinomial_from_noise(noise: Tensor, total_count: Tensor | float, logits: Tensor) -> Tensor:
    """Binomial counts of halves of the categories, of halves of these, and so on."""
    return counts_of_parts(noise, in_double(total_count), logits.double()).to(logits.dtype)


def _one_noise_a_split(value: Shape, params: Mapping[str, Shape]) -> tuple[Shape, ...]:
    return ((*value[:-1], add(value[-1], -1)),)


MULTINOMIAL = NoiseTransform(
    family="Multinomial",
    noises=(_UNIFORM,),
    params=("total_count", "logits"),
    forward=Formula.of(multinomial_from_noise),
    noise_shapes=_one_noise_a_split,
    conversions={"logits": {"probs": Formula.of(log_probs_from_probs)}},
    differentiable=False,
    event_dim=1,
    discrete=True,
    source="conditional Binomials; Devroye 1986, Non-Uniform Random Variate Generation, section XI.1.4",
)


def dirichlet_multinomial_from_noise(
    noise: Tensor, split_noise: Tensor, concentration: Tensor, total_count: Tensor | float = 1
) -> Tensor:
    """Counts of parts whose logarithms are those of Gammas."""
    log_parts = log_gamma_from_noise(noise, concentration.detach())
    return counts_of_parts(split_noise, in_double(total_count), log_parts).to(concentration.dtype)


def _one_noise_a_part_and_a_split(value: Shape, params: Mapping[str, Shape]) -> tuple[Shape, ...]:
    return (value, (*value[:-1], add(value[-1], -1)))


DIRICHLET_MULTINOMIAL = NoiseTransform(
    family="DirichletMultinomial",
    noises=(_UNIFORM, _UNIFORM),
    params=("concentration", "total_count"),
    forward=Formula.of(dirichlet_multinomial_from_noise),
    noise_shapes=_one_noise_a_part_and_a_split,
    differentiable=False,
    event_dim=1,
    discrete=True,
    source="a Multinomial of Dirichlet probabilities; Mosimann 1962, Biometrika 49, 65-82",
)


def zero_inflated_poisson_from_noise(
    noise: Tensor, gate_noise: Tensor, rate: Tensor | float, gate_logits: Tensor | float
) -> Tensor:
    """0 where the gate's noise is below its probability, compared as logits; elsewhere a Poisson."""
    count = count_from_log_rate(noise, torch.log(in_double(rate)))
    return torch.where(torch.logit(gate_noise) < gate_logits, 0.0, count).to(float_dtype_of(rate, gate_logits))


ZERO_INFLATED_POISSON = NoiseTransform(
    family="ZeroInflatedPoisson",
    noises=(_UNIFORM, _UNIFORM),
    params=("rate", "gate_logits"),
    forward=Formula.of(zero_inflated_poisson_from_noise),
    noise_shapes=two_of_the_value,
    conversions={"gate_logits": {"gate": Formula.of(logits_from_probs)}},
    differentiable=False,
    discrete=True,
    source=f"Lambert 1992, Technometrics 34, 1-14; {_POISSON}",
)


def zero_inflated_negative_binomial_from_noise(
    noise: Tensor,
    rate_noise: Tensor,
    gate_noise: Tensor,
    total_count: Tensor | float,
    logits: Tensor | float,
    gate_logits: Tensor | float,
) -> Tensor:
    """0 where the gate's noise is below its probability, compared as logits; elsewhere a NegativeBinomial."""
    count = count_from_gamma_noise(noise, rate_noise, total_count, in_double(logits))
    count = torch.where(torch.logit(gate_noise) < gate_logits, 0.0, count)
    return count.to(float_dtype_of(total_count, logits, gate_logits))


def _three_of_the_value(value: Shape, params: Mapping[str, Shape]) -> tuple[Shape, ...]:
    return (value, value, value)


ZERO_INFLATED_NEGATIVE_BINOMIAL = NoiseTransform(
    family="ZeroInflatedNegativeBinomial",
    noises=(_UNIFORM, _UNIFORM, _UNIFORM),
    params=("total_count", "logits", "gate_logits"),
    forward=Formula.of(zero_inflated_negative_binomial_from_noise),
    noise_shapes=_three_of_the_value,
    conversions={
        "logits": {"probs": Formula.of(logits_from_probs)},
        "gate_logits": {"gate": Formula.of(logits_from_probs)},
    },
    differentiable=False,
    discrete=True,
    source=f"Lambert 1992, Technometrics 34, 1-14; {_NEGATIVE_BINOMIAL}",
)


def log_normal_negative_binomial_from_noise(
    noise: Tensor,
    rate_noise: Tensor,
    logits_noise: Tensor,
    total_count: Tensor | float,
    logits: Tensor | float,
    multiplicative_noise_scale: Tensor | float,
) -> Tensor:
    """A NegativeBinomial whose logits are Normal."""
    spread = in_double(multiplicative_noise_scale) * logits_noise.double()
    count = count_from_gamma_noise(noise, rate_noise, total_count, in_double(logits) + spread)
    return count.to(float_dtype_of(total_count, logits, multiplicative_noise_scale))


LOG_NORMAL_NEGATIVE_BINOMIAL = NoiseTransform(
    family="LogNormalNegativeBinomial",
    noises=(_UNIFORM, _UNIFORM, NoiseSource(STANDARD_NORMAL, torch.float64)),
    params=("total_count", "logits", "multiplicative_noise_scale"),
    forward=Formula.of(log_normal_negative_binomial_from_noise),
    noise_shapes=_three_of_the_value,
    differentiable=False,
    discrete=True,
    source=f"{_NEGATIVE_BINOMIAL}; its logits: pyro.distributions.LogNormalNegativeBinomial",
)
