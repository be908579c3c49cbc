"""Gamma and what is made of it: one uniform through the inverse CDF, as a logarithm to the end.

A root is found without gradients by Newton's method. `root_of_tail` then takes one more step from it, of third
order and through expressions that hold the parameter: the value becomes exact to rounding, and so do its first two
derivatives. All of it is in float64, where log x of the smallest draws and the normaliser of the largest
concentrations keep their digits.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from dgmcompile.ir.graph import Formula, Shape
from dgmcompile.reparam.laws import STANDARD_NORMAL, STANDARD_UNIFORM
from dgmcompile.reparam.registry import NoiseSource, NoiseTransform


def in_double(value: Tensor | float) -> Tensor:
    """A tensor in float64; a number keeps all its digits."""
    return value.double() if isinstance(value, Tensor) else torch.tensor(float(value), dtype=torch.float64)


def half_line_quadrature(count: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Nodes and weights for integrals over (0, inf) of functions that decay like exp(-w) or faster."""
    step = 7.8 / (count - 1)
    t = torch.arange(count, dtype=like.dtype, device=like.device) * step - 3.6
    nodes = torch.exp(t - torch.exp(-t))
    return nodes, step * nodes * (1 + torch.exp(-t))


def root_of_tail(root: Tensor, residual: Tensor, slope: Tensor, bend: Tensor) -> Tensor:
    """The third-order step from ``root`` to where the log of a tail has its value.

    ``residual`` is the log of the tail at ``root`` less that value, ``slope`` its derivative, and ``bend`` the
    derivative of the log-density. With ``root`` free of gradients, the step gives the first two derivatives of the
    true root exactly; those beyond are not its.
    """
    step = residual / slope
    return root - step - (bend - slope) * step**2 / 2


def log_gamma_tail(y: Tensor, lower: Tensor, a: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Log of P(log X <= y), or of P(log X > y) where not ``lower``; X ~ Gamma(a), ``y`` free of gradients.

    Returns it with its derivative in ``y``, and that of the log-density. With w the distance from y,
    P = x^a e^-x / Gamma(a + 1) (1 + x integral exp(-(a + 1) w + x (1 - e^-w)) dw), and
    Q = x^a e^-x / Gamma(a) integral (1 + w)^(a - 1) exp(-x w) dw.
    """
    x, a_fixed = torch.exp(y), a.detach()
    nodes, weights = half_line_quadrature(48, y)
    decay = torch.where(lower, a_fixed + 1 - x, x - a_fixed).clamp(min=0)
    width = 1 / (decay + torch.sqrt(torch.where(lower, x + 1, a_fixed.clamp(min=1))))
    w = width.unsqueeze(-1) * nodes
    log_moment = torch.where(lower.unsqueeze(-1), -w, torch.log1p(w))
    power = torch.where(lower, a_fixed + 1, a_fixed - 1).unsqueeze(-1)
    rest = x.unsqueeze(-1) * torch.where(lower.unsqueeze(-1), -torch.expm1(-w), -w)
    mass = torch.exp(power * log_moment + rest) * weights * width.unsqueeze(-1)

    # The integral near `a`, to second order: no node carries a gradient.
    change = a - a_fixed
    first, second = (mass * log_moment).sum(-1), (mass * log_moment**2).sum(-1)
    integral = mass.sum(-1) + change * (first + change * second / 2)
    part = torch.where(lower, 1 + x * integral, integral)
    shape = torch.where(lower, a + 1, a)
    slope = torch.where(lower, a, -1.0) / part
    return a * y - x - torch.lgamma(shape) + torch.log(part), slope, a - x


def log_gamma_guess(noise: Tensor, a: Tensor) -> tuple[Tensor, Tensor]:
    """Two of the log of the Gamma(a) quantile: the power law of the lower end, a lower bound, and the better one."""
    power_law = (torch.log(noise) + torch.lgamma(a + 1)) / a
    ninth = 1 / (9 * a)
    root = (1 - ninth + torch.special.ndtri(noise) * torch.sqrt(ninth)).clamp(min=1e-3)
    wilson_hilferty = torch.log(a) + 3 * torch.log(root)
    return power_law, torch.where(a < 0.5, power_law, torch.maximum(power_law, wilson_hilferty))


def log_gamma_root(noise: Tensor, a: Tensor) -> Tensor:
    """log of the Gamma(a) quantile to about 1e-8, by Newton's method on the log of the smaller tail."""
    power_law, guess = log_gamma_guess(noise, a)
    y = guess.clamp(min=-40.0)
    lower = noise < 0.5
    target = torch.where(lower, torch.log(noise), torch.log1p(-noise))
    for _ in range(5):
        x = torch.exp(y)
        tail = torch.where(lower, torch.special.gammainc(a, x), torch.special.gammaincc(a, x))
        density = torch.exp(a * y - x - torch.lgamma(a))
        step = (torch.log(tail) - target) * tail / density
        y = y + torch.where(lower, -step, torch.log1p(step.clamp(min=-0.9)))  # in log x, and in x
    return torch.where(power_law < -40, power_law, y)  # exact to e^-40


def log_gamma_from_noise(noise: Tensor, concentration: Tensor | float) -> Tensor:
    """Inverse CDF of the logarithm of a Gamma of rate 1, in float64."""
    u = noise.double()
    a = in_double(concentration) + torch.zeros_like(u)
    root = log_gamma_root(u.detach(), a.detach())
    lower = (u < 0.5) | (root < 0)
    tail, slope, bend = log_gamma_tail(root, lower, a)
    return root_of_tail(root, tail - torch.where(lower, torch.log(u), torch.log1p(-u)), slope, bend)


def noise_from_log_gamma(log_value: Tensor, concentration: Tensor | float) -> Tensor:
    """CDF of the logarithm of a Gamma of rate 1, in float64."""
    y = log_value.double()
    a = in_double(concentration) + torch.zeros_like(y)
    fixed = y.detach()
    lower = (fixed < 0) | (torch.exp(fixed) < a)
    tail, slope, bend = log_gamma_tail(fixed, lower, a)
    change = y - fixed
    tail = tail + slope * change + slope * (bend - slope) * change**2 / 2
    return torch.where(lower, torch.exp(tail), -torch.expm1(tail))


def positive_from_log(log_value: Tensor, dtype: torch.dtype) -> Tensor:
    """exp, kept between the smallest normal number and the largest of ``dtype``, as torch.distributions does."""
    limits = torch.finfo(dtype)
    low, high = math.log(limits.tiny) + 1e-12, math.log(limits.max) - 1e-12
    return torch.exp(log_value.clamp(low, high)).to(dtype)


def gamma_from_noise(noise: Tensor, concentration: Tensor | float, rate: Tensor | float) -> Tensor:
    """Inverse CDF."""
    log_value = log_gamma_from_noise(noise, concentration) - torch.log(in_double(rate))
    return positive_from_log(log_value, noise.dtype)


def noise_from_gamma(value: Tensor, concentration: Tensor | float, rate: Tensor | float) -> Tensor:
    """CDF."""
    log_value = torch.log(value.double()) + torch.log(in_double(rate))
    return noise_from_log_gamma(log_value, concentration).to(value.dtype)


_SOURCE = "inverse CDF; Newton's method from Wilson & Hilferty 1931, PNAS 17, 684-688; tails: DLMF 8.2, 8.5.1, 8.6.5"

GAMMA = NoiseTransform(
    family="Gamma",
    noises=(NoiseSource(STANDARD_UNIFORM),),
    params=("concentration", "rate"),
    forward=Formula.of(gamma_from_noise),
    inverse=Formula.of(noise_from_gamma),
    source=_SOURCE,
)


def chi2_from_noise(noise: Tensor, df: Tensor | float) -> Tensor:
    """Inverse CDF: twice a Gamma of half the degrees of freedom."""
    return gamma_from_noise(noise, 0.5 * in_double(df), 0.5)


def noise_from_chi2(value: Tensor, df: Tensor | float) -> Tensor:
    """CDF."""
    return noise_from_gamma(value, 0.5 * in_double(df), 0.5)


CHI2 = NoiseTransform(
    family="Chi2",
    noises=(NoiseSource(STANDARD_UNIFORM),),
    params=("df",),
    forward=Formula.of(chi2_from_noise),
    inverse=Formula.of(noise_from_chi2),
    source=_SOURCE,
)


def inverse_gamma_from_noise(noise: Tensor, concentration: Tensor | float, rate: Tensor | float) -> Tensor:
    """Inverse CDF: one over a Gamma at the opposite end."""
    log_value = torch.log(in_double(rate)) - log_gamma_from_noise(1 - noise, concentration)
    return positive_from_log(log_value, noise.dtype)


def noise_from_inverse_gamma(value: Tensor, concentration: Tensor | float, rate: Tensor | float) -> Tensor:
    """CDF."""
    log_value = torch.log(in_double(rate)) - torch.log(value.double())
    return (1 - noise_from_log_gamma(log_value, concentration)).to(value.dtype)


INVERSE_GAMMA = NoiseTransform(
    family="InverseGamma",
    noises=(NoiseSource(STANDARD_UNIFORM),),
    params=("concentration", "rate"),
    forward=Formula.of(inverse_gamma_from_noise),
    inverse=Formula.of(noise_from_inverse_gamma),
    source=_SOURCE,
)


def log_mean_gamma_from_noise(noise: Tensor, df: Tensor | float) -> Tensor:
    """Log of a Chi2 divided by its degrees of freedom, in float64."""
    half = 0.5 * in_double(df)
    return log_gamma_from_noise(noise, half) - torch.log(half)


def two_of_the_value(value: Shape, params: Mapping[str, Shape]) -> tuple[Shape, ...]:
    """Noise shapes: two noises of the value's shape."""
    return (value, value)


def student_t_from_noise(
    noise: Tensor, spread_noise: Tensor, df: Tensor | float, loc: Tensor | float = 0.0, scale: Tensor | float = 1.0
) -> Tensor:
    """A Normal over the root of an independent Chi2 divided by its degrees of freedom."""
    spread = positive_from_log(-0.5 * log_mean_gamma_from_noise(spread_noise, df), noise.dtype)
    return loc + scale * (noise * spread)


STUDENT_T = NoiseTransform(
    family="StudentT",
    noises=(NoiseSource(STANDARD_NORMAL), NoiseSource(STANDARD_UNIFORM)),
    params=("df", "loc", "scale"),
    forward=Formula.of(student_t_from_noise),
    noise_shapes=two_of_the_value,
    source="Student 1908, Biometrika 6, 1-25; Devroye 1986, Non-Uniform Random Variate Generation, section IX.5",
)


def fisher_snedecor_from_noise(noise: Tensor, other_noise: Tensor, df1: Tensor | float, df2: Tensor | float) -> Tensor:
    """The ratio of two independent Chi2, each divided by its degrees of freedom."""
    log_value = log_mean_gamma_from_noise(noise, df1) - log_mean_gamma_from_noise(other_noise, df2)
    return positive_from_log(log_value, noise.dtype)


FISHER_SNEDECOR = NoiseTransform(
    family="FisherSnedecor",
    noises=(NoiseSource(STANDARD_UNIFORM), NoiseSource(STANDARD_UNIFORM)),
    params=("df1", "df2"),
    forward=Formula.of(fisher_snedecor_from_noise),
    noise_shapes=two_of_the_value,
    source="Devroye 1986, Non-Uniform Random Variate Generation, section IX.2",
)


def multivariate_student_t_from_noise(
    noise: Tensor, spread_noise: Tensor, df: Tensor | float, loc: Tensor, scale_tril: Tensor
) -> Tensor:
    """A Gaussian vector over the root of one Chi2 divided by its degrees of freedom."""
    spread = positive_from_log(-0.5 * log_mean_gamma_from_noise(spread_noise, df), noise.dtype)
    return loc + (scale_tril @ (noise * spread.unsqueeze(-1)).unsqueeze(-1)).squeeze(-1)


def _vector_and_scalar(value: Shape, params: Mapping[str, Shape]) -> tuple[Shape, ...]:
    return (value, value[:-1])


MULTIVARIATE_STUDENT_T = NoiseTransform(
    family="MultivariateStudentT",
    noises=(NoiseSource(STANDARD_NORMAL), NoiseSource(STANDARD_UNIFORM)),
    params=("df", "loc", "scale_tril"),
    forward=Formula.of(multivariate_student_t_from_noise),
    noise_shapes=_vector_and_scalar,
    event_dim=1,
    source="Kotz & Nadarajah 2004, Multivariate t Distributions and Their Applications, section 1.2",
)
