"""Beta and Dirichlet: inverse CDFs in the logit, or in the log, which do not round to 0 and 1.

The roots get their gradients as those of gamma.py do.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from dgmcompile.ir.graph import Formula
from dgmcompile.reparam.gamma import (
    half_line_quadrature,
    in_double,
    log_gamma_from_noise,
    log_gamma_guess,
    root_of_tail,
)
from dgmcompile.reparam.laws import STANDARD_UNIFORM
from dgmcompile.reparam.registry import NoiseSource, NoiseTransform


def beta_side_is_lower(logit: Tensor, smaller: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Which tail to take at ``logit``: the ``smaller``, but not one whose density is flat in the logit for long."""
    left = torch.sigmoid(logit) * (a + b) < 1
    right = torch.sigmoid(-logit) * (a + b) < 1
    return torch.where(left & right, logit < 0, left | (smaller & ~right))


def log_beta_times_first(a: Tensor, b: Tensor) -> Tensor:
    """log(a B(a, b)): a large concentration beside a small one takes no digits from it."""
    few, many = torch.where(a < b, a, b), torch.where(a < b, b, a)
    # log Gamma(many + few) - log Gamma(many), by Stirling's series where `many` is large
    large, total = many.clamp(min=20.0), many.clamp(min=20.0) + few
    change = (large - 0.5) * torch.log1p(few / large) + few * torch.log(total) - few
    for power, coefficient in ((1, 1 / 12), (3, -1 / 360), (5, 1 / 1260), (7, -1 / 1680), (9, 1 / 1188)):
        change = change + coefficient * (total**-power - large**-power)
    change = torch.where(many > 20, change, torch.lgamma(many + few) - torch.lgamma(many))
    return torch.where(a < b, torch.lgamma(few + 1), torch.log(a) + torch.lgamma(few)) - change


def log_beta_tail(
    logit: Tensor, a: Tensor, b: Tensor, *, count: int = 48, constant: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """Log of P(logit X <= logit); X ~ Beta(a, b), ``logit`` free of gradients, and a and b too where ``constant``.

    Returns it with its derivative in ``logit``, and that of the log-density. With x = sigmoid(logit), o its odds and
    w the distance from log x, P is x^a (1 - x)^b / (a B(a, b)) times
    1 + (a + b) o integral exp(-(a + 1) w) (1 + o (1 - e^-w))^(b - 1) dw.
    """
    odds = torch.exp(logit)
    a_fixed, b_fixed = a.detach(), b.detach()
    nodes, weights = half_line_quadrature(count, logit)
    curve = (b_fixed - 1).clamp(min=0) * odds
    width = 1 / ((a_fixed + 1 - curve).clamp(min=0) + torch.sqrt(curve * (1 + odds) + 1))
    by_a = -width.unsqueeze(-1) * nodes
    by_b = torch.log1p(-odds.unsqueeze(-1) * torch.expm1(by_a))
    exponent = (a_fixed + 1).unsqueeze(-1) * by_a + (b_fixed - 1).unsqueeze(-1) * by_b
    mass = torch.exp(exponent) * weights * width.unsqueeze(-1)

    integral = mass.sum(-1)
    if not constant:  # the integral near (a, b), to second order: no node carries a gradient
        more_a, more_b = a - a_fixed, b - b_fixed
        linear = more_a * (mass * by_a).sum(-1) + more_b * (mass * by_b).sum(-1)
        square = more_a**2 * (mass * by_a**2).sum(-1) + more_b**2 * (mass * by_b**2).sum(-1)
        integral = integral + linear + square / 2 + more_a * more_b * (mass * by_a * by_b).sum(-1)
    part = 1 + (a + b) * odds * integral
    x, rest = torch.sigmoid(logit), torch.sigmoid(-logit)
    log_density = a * F.logsigmoid(logit) + b * F.logsigmoid(-logit)
    return log_density - log_beta_times_first(a, b) + torch.log(part), a / part, a * rest - b * x


def logit_beta_root(noise: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """logit of the Beta(a, b) quantile to about 1e-6, by Newton's method on the log of a tail, a concave one."""
    # Both large: Carter's approximation. Both small: the power laws of the two ends. Else the limit of a Gamma.
    p, q = 1 / (2 * a - 1), 1 / (2 * b - 1)
    z = torch.special.ndtri(noise)
    curve, mean = (z**2 - 3) / 6, 2 / (p + q)
    drift = (q - p) * (curve + 5 / 6 - 2 / (3 * mean))
    carter = torch.log(a / b) + 2 * (z * torch.sqrt((curve + mean).clamp(min=0.01)) / mean - drift)
    left, right = a * torch.log(a / (a + b)) - torch.log(a), b * torch.log(b / (a + b)) - torch.log(b)
    both = torch.logaddexp(left, right)
    from_left = (torch.log(a) + both + torch.log(noise)) / a
    from_right = -(torch.log(b) + both + torch.log1p(-noise)) / b
    ends = torch.where(torch.log(noise) < left - both, from_left, from_right)
    few, many = torch.minimum(a, b), torch.maximum(a, b)
    limit = log_gamma_guess(torch.where(a < b, noise, 1 - noise), few)[1] - torch.log(many + few / 2)
    guess = torch.where(many < 1, ends, torch.where(a < b, limit, -limit))
    logit = torch.where(few > 3, carter, guess)
    for _ in range(5):
        lower = beta_side_is_lower(logit, noise < 0.5, a, b)
        side = torch.where(lower, logit, -logit)
        tail, slope, _ = log_beta_tail(
            side, torch.where(lower, a, b), torch.where(lower, b, a), count=32, constant=True
        )
        miss = torch.where(lower, torch.log(noise), torch.log1p(-noise)) - tail
        log_x = F.logsigmoid(side)
        log_x = torch.minimum(log_x + miss / slope * torch.sigmoid(-side), 0.1 * log_x)
        side = log_x - torch.log(-torch.expm1(log_x))
        logit = torch.where(lower, side, -side)
    return logit


def logit_beta_from_noise(noise: Tensor, concentration1: Tensor | float, concentration0: Tensor | float) -> Tensor:
    """Inverse CDF of the logit of a Beta, in float64."""
    u = noise.double()
    a = in_double(concentration1) + torch.zeros_like(u)
    b = in_double(concentration0) + torch.zeros_like(u)
    root = logit_beta_root(u.detach(), a.detach(), b.detach())
    lower = beta_side_is_lower(root, u < 0.5, a, b)
    side = torch.where(lower, root, -root)
    tail, slope, bend = log_beta_tail(side, torch.where(lower, a, b), torch.where(lower, b, a))
    side = root_of_tail(side, tail - torch.where(lower, torch.log(u), torch.log1p(-u)), slope, bend)
    return torch.where(lower, side, -side)


def noise_from_logit_beta(logit: Tensor, concentration1: Tensor | float, concentration0: Tensor | float) -> Tensor:
    """CDF of the logit of a Beta; all in float64."""
    a = in_double(concentration1) + torch.zeros_like(logit)
    b = in_double(concentration0) + torch.zeros_like(logit)
    fixed = logit.detach()
    lower = beta_side_is_lower(fixed, torch.sigmoid(fixed) * (a + b) < a, a, b)
    side = torch.where(lower, fixed, -fixed)
    tail, slope, bend = log_beta_tail(side, torch.where(lower, a, b), torch.where(lower, b, a))
    change = torch.where(lower, logit, -logit) - side
    tail = tail + slope * change + slope * (bend - slope) * change**2 / 2
    return torch.where(lower, torch.exp(tail), -torch.expm1(tail))


def beta_from_noise(noise: Tensor, concentration1: Tensor | float, concentration0: Tensor | float) -> Tensor:
    """Inverse CDF, kept inside (0, 1) as torch.distributions does."""
    limits = torch.finfo(noise.dtype)
    logit = logit_beta_from_noise(noise, concentration1, concentration0)
    return torch.sigmoid(logit.clamp(math.log(limits.tiny) + 1e-12, -math.log(limits.eps))).to(noise.dtype)


def noise_from_beta(value: Tensor, concentration1: Tensor | float, concentration0: Tensor | float) -> Tensor:
    """CDF."""
    return noise_from_logit_beta(torch.logit(value.double()), concentration1, concentration0).to(value.dtype)


_SOURCE = "inverse CDF; Newton's method from Carter 1947, Biometrika 34, 352-358; tails: DLMF 8.17.2, 8.17.20"

BETA = NoiseTransform(
    family="Beta",
    noises=(NoiseSource(STANDARD_UNIFORM),),
    params=("concentration1", "concentration0"),
    forward=Formula.of(beta_from_noise),
    inverse=Formula.of(noise_from_beta),
    source=_SOURCE,
)


def affine_beta_from_noise(
    noise: Tensor,
    concentration1: Tensor | float,
    concentration0: Tensor | float,
    loc: Tensor | float,
    scale: Tensor | float,
) -> Tensor:
    """Inverse CDF, kept inside the interval by as much as Pyro does."""
    eps = torch.finfo(noise.dtype).eps
    return loc + scale * beta_from_noise(noise, concentration1, concentration0).clamp(eps, 1 - eps)


def noise_from_affine_beta(
    value: Tensor,
    concentration1: Tensor | float,
    concentration0: Tensor | float,
    loc: Tensor | float,
    scale: Tensor | float,
) -> Tensor:
    """CDF."""
    return noise_from_beta((value - loc) / scale, concentration1, concentration0)


AFFINE_BETA = NoiseTransform(
    family="AffineBeta",
    noises=(NoiseSource(STANDARD_UNIFORM),),
    params=("concentration1", "concentration0", "loc", "scale"),
    forward=Formula.of(affine_beta_from_noise),
    inverse=Formula.of(noise_from_affine_beta),
    source=_SOURCE,
)


def dirichlet_from_noise(noise: Tensor, concentration: Tensor) -> Tensor:
    """Independent Gammas divided by their sum, as logarithms."""
    limits = torch.finfo(noise.dtype)
    log_value = torch.log_softmax(log_gamma_from_noise(noise, concentration), dim=-1)
    return torch.exp(log_value.clamp(min=math.log(limits.tiny) + 1e-12)).to(noise.dtype)


DIRICHLET = NoiseTransform(
    family="Dirichlet",
    noises=(NoiseSource(STANDARD_UNIFORM),),
    params=("concentration",),
    forward=Formula.of(dirichlet_from_noise),
    event_dim=1,
    source="Devroye 1986, Non-Uniform Random Variate Generation, theorem XI.4.1",
)
