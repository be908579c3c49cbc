"""Special functions, written so that no large numbers cancel and no gradient is NaN.

Densities with gamma functions are written around their peaks (C. Loader 2000, Fast and Accurate
Computation of Binomial Probabilities): where ``lgamma(1e6)`` alone has an error of 1 in single precision,
the log-density has one of 1e-4.
"""

# torch.special has no types:
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import math

import torch
from torch import Tensor

from dgmcompile.distill.divergences.linear import in_one_shape


def factorial_correction(x: Tensor) -> Tensor:
    """log x! - (x log x - x), for any real x >= 0: grows as log(2 pi x) / 2."""
    small, large = x.clamp(max=10.0), x.clamp(min=10.0)
    positive = torch.where(small == 0, 1.0, small)
    direct = torch.lgamma(small + 1) - torch.where(small == 0, 0.0, positive * torch.log(positive) - small)
    r = 1 / (large * large)
    series = 1 / 12 - r * (1 / 360 - r * (1 / 1260 - r * (1 / 1680 - r * (1 / 1188 - r * (691 / 360360)))))
    return torch.where(x < 10, direct, 0.5 * torch.log(2 * math.pi * large) + series / large)


def poisson_excess(count: Tensor, mean: Tensor, log_mean: Tensor) -> Tensor:
    """mean - count + count log(count / mean): at least 0, and 0 where both agree.

    ``log_mean`` serves where ``mean`` is far from ``count``, or rounds to 0.
    """
    positive = torch.where(count == 0, 1.0, count)
    step = mean / positive - 1
    near = step.abs() < 0.5
    step = torch.where(near, (mean - positive) / positive, 0.0)
    log_ratio = torch.where(near, torch.log1p(step), log_mean - torch.log(positive))
    excess = mean - count - torch.where(count == 0, 0.0, positive * log_ratio)
    return torch.where(mean.isinf(), mean, excess)


def binomial_term(a: Tensor, b: Tensor, p: Tensor, q: Tensor, log_p: Tensor, log_q: Tensor) -> Tensor:
    """log of (a + b)! / (a! b!) p^a q^b, for any real a, b >= 0; p + q = 1."""
    total = a + b
    log_total = torch.log(torch.where(total == 0, 1.0, total))
    ways = factorial_correction(total) - factorial_correction(a) - factorial_correction(b)
    a_excess = poisson_excess(a, total * p, log_total + log_p)
    return ways - a_excess - poisson_excess(b, total * q, log_total + log_q)


def multinomial_term(counts: Tensor, probs: Tensor, log_probs: Tensor) -> Tensor:
    """log of (sum_i k_i)! prod_i p_i^(k_i) / k_i! over the last dim, for any real k_i >= 0."""
    total = counts.sum(-1, keepdim=True)
    log_total = torch.log(torch.where(total == 0, 1.0, total))
    excess = poisson_excess(counts, total * probs, log_total + log_probs)
    return factorial_correction(total).squeeze(-1) - (factorial_correction(counts) + excess).sum(-1)


def log_gamma_ratio(a: Tensor, b: Tensor) -> Tensor:
    """log Gamma(a + b) / Gamma(a), for a > 0 and b >= 0."""
    growth = torch.log1p(b / a)
    corrections = factorial_correction(a + b) - factorial_correction(a)
    return (a - 1) * growth + b * torch.log(a + b) - b + corrections


def log_gamma_bregman(a: Tensor, b: Tensor) -> Tensor:
    """log Gamma(b) - log Gamma(a) - (b - a) digamma(a): at least 0, and exactly 0 at a = b.

    A sum of such differences for the parts of log Gamma(x): x' = x + 8 is large enough for Stirling's
    series, and the eight logarithms between have gaps of their own.
    """
    a, b = in_one_shape(a, b)
    steps = torch.arange(8, dtype=a.dtype, device=a.device)
    below = log_bregman(a.unsqueeze(-1) + steps, b.unsqueeze(-1) + steps).sum(-1)
    a, b = a + 8, b + 8
    stirling = b * log_bregman(b, a) + 0.5 * log_bregman(a, b)
    r, s = 1 / (a * a), 1 / (b * b)
    series = [(1 / 12, 1), (-1 / 360, 3), (1 / 1260, 5), (-1 / 1680, 7), (1 / 1188, 9), (-691 / 360360, 11)]
    for weight, power in series:
        slope = -power * r ** ((power + 1) // 2)
        stirling = stirling + weight * (s ** (power // 2) / b - r ** (power // 2) / a - (b - a) * slope)
    return below + stirling


def log_bregman(a: Tensor, b: Tensor) -> Tensor:
    """b / a - 1 - log(b / a): how far -log b lies above its tangent at a."""
    step = (b - a) / a
    near = step.abs() < 0.5
    ratio = torch.where(near, 1.0, b / a)
    return step - torch.where(near, torch.log1p(torch.where(near, step, 0.0)), torch.log(ratio))


def log_sinhc(square: Tensor) -> Tensor:
    """log(sinh(x) / x), of x^2."""
    small = square < 0.09
    s = torch.where(small, square, 0.0)
    series = s * (1 / 6 - s * (1 / 180 - s * (1 / 2835 - s * (1 / 37800 - s * (1 / 467775 - s * 1.8036669e-7)))))
    x = torch.sqrt(torch.where(small, 1.0, square))
    return torch.where(small, series, x + torch.log1p(-torch.exp(-2 * x)) - torch.log(2 * x))


def langevin_ratio(square: Tensor) -> Tensor:
    """(coth(x) - 1 / x) / x, of x^2: twice the derivative of `log_sinhc`."""
    small = square < 0.09
    s = torch.where(small, square, 0.0)
    series = 1 / 3 - s * (1 / 45 - s * (2 / 945 - s * (1 / 4725 - s * (2 / 93555 - s * 2.1644003e-6))))
    x = torch.sqrt(torch.where(small, 1.0, square))
    return torch.where(small, series, (1 / torch.tanh(x) - 1 / x) / x)


def log_power_of_zero(exponent: Tensor) -> Tensor:
    """log 0^exponent: infinite of either sign, or 0."""
    return torch.where(exponent > 0, -math.inf, torch.where(exponent < 0, math.inf, exponent.detach()))


def log_of_or_minus_infinity(x: Tensor) -> Tensor:
    """log x, and -inf at 0 without a gradient."""
    return torch.where(x == 0, -math.inf, torch.log(torch.where(x == 0, 1.0, x)))


def log1p_square(x: Tensor) -> Tensor:
    """log(1 + x^2), also where x^2 overflows."""
    small, large = x.clamp(-1e3, 1e3), x.abs().clamp(min=1e3)
    return torch.where(x.abs() < 1e3, torch.log1p(small * small), 2 * torch.log(large) + torch.log1p((1 / large) ** 2))


def log1p_ratio(x: Tensor) -> Tensor:
    """log(1 + x) / x, of any x > -1."""
    small = x.abs() < 0.05
    s = torch.where(small, x, 0.0)
    series = 1 - s * (1 / 2 - s * (1 / 3 - s * (1 / 4 - s * (1 / 5 - s * (1 / 6 - s * (1 / 7 - s * (1 / 8)))))))
    series = series + s**8 * (1 / 9 - s * (1 / 10 - s * (1 / 11 - s / 12)))
    large = torch.where(small, 1.0, x)
    return torch.where(small, series, torch.log1p(large) / large)


def scaled_erfc(x: Tensor) -> Tensor:
    """e^(x^2) erfc(x)."""
    return torch.special.erfcx(x)


def scaled_bessel_0(x: Tensor) -> Tensor:
    """The modified Bessel function I_0(x) e^-|x|."""
    return torch.special.i0e(x)


def scaled_bessel_1(x: Tensor) -> Tensor:
    """The modified Bessel function I_1(x) e^-|x|."""
    return torch.special.i1e(x)


def log_erfc(x: Tensor) -> Tensor:
    """log erfc(x), on both sides of 0."""
    positive = torch.where(x > 0, x, 0.0)
    right = torch.log(scaled_erfc(positive)) - positive * positive
    return torch.where(x > 0, right, torch.log(torch.erfc(torch.where(x > 0, 0.0, x))))


def surface_tolerance(x: Tensor) -> float:
    """By how much rounding, to single precision at least, may lead a value off the surface that holds its support."""
    return max(torch.finfo(x.dtype).eps, 2.0**-23) ** 0.5
