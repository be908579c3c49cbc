"""Angles: inverse CDFs by quadrature, from the nearer of the two tails around the location.

The roots get their gradients as those of gamma.py do. Values lie in [-pi, pi), as those of the library.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from dgmcompile.ir.graph import Formula, Shape
from dgmcompile.reparam.binomial import quadrature_on_unit_interval
from dgmcompile.reparam.gamma import in_double, root_of_tail
from dgmcompile.reparam.laws import STANDARD_UNIFORM
from dgmcompile.reparam.registry import NoiseSource, NoiseTransform, tensor_or_number


def wrapped_angle(angle: Tensor) -> Tensor:
    """The same angle in [-pi, pi)."""
    return torch.remainder(angle + math.pi, 2 * math.pi) - math.pi


def von_mises_reach(angle: Tensor, concentration: Tensor) -> Tensor:
    """The angle, at most pi, up to which all but e^-37 of the density at ``angle`` is lost."""
    height = torch.sin(angle / 2) ** 2 + 18.5 / concentration
    return 2 * torch.asin(torch.sqrt(height.clamp(max=1.0)))


def von_mises_integral(angle: Tensor, concentration: Tensor, *, constant: bool = False) -> Tensor:
    """Integral of exp(concentration (cos t - cos angle)) from ``angle`` to pi.

    ``angle`` is free of gradients, and so is ``concentration`` where ``constant``.
    """
    fixed = concentration.detach()
    nodes, weights = quadrature_on_unit_interval(48, angle)
    step = von_mises_reach(angle, fixed) - angle
    half = step.unsqueeze(-1) * nodes / 2
    fall = -2 * torch.sin(angle.unsqueeze(-1) + half) * torch.sin(half)
    mass = torch.exp(fixed.unsqueeze(-1) * fall) * weights * step.unsqueeze(-1)
    if constant:
        return mass.sum(-1)
    # Near `concentration`, to second order: no node carries a gradient.
    change = concentration - fixed
    return mass.sum(-1) + change * ((mass * fall).sum(-1) + change * (mass * fall**2).sum(-1) / 2)


def log_von_mises_tail(
    angle: Tensor, concentration: Tensor, *, constant: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """Log of P(|X| > angle), with its derivative in ``angle``, and that of the log-density; X ~ VonMises(0)."""
    integral = von_mises_integral(angle, concentration, constant=constant)
    total = von_mises_integral(torch.zeros_like(angle), concentration, constant=constant)
    log_tail = torch.log(integral / total) - 2 * concentration * torch.sin(angle / 2) ** 2
    return log_tail, -1 / integral, -concentration * torch.sin(angle)


def von_mises_root(tail: Tensor, concentration: Tensor) -> Tensor:
    """The angle with P(|X| > angle) = tail: from a table of the density, two steps of third order."""
    end = von_mises_reach(torch.zeros_like(tail), concentration)
    width = end / 64
    grid = width.unsqueeze(-1) * torch.arange(65, dtype=tail.dtype, device=tail.device)
    density = torch.exp(-2 * concentration.unsqueeze(-1) * torch.sin(grid / 2) ** 2)
    cells = (density[..., :-1] + density[..., 1:]) / 2
    above = torch.flip(torch.flip(cells, (-1,)).cumsum(-1), (-1,))  # of each cell and those after it
    wanted = (tail * above[..., 0]).unsqueeze(-1)
    cell = ((above > wanted).sum(-1, keepdim=True) - 1).clamp(min=0)
    part = (above.gather(-1, cell) - wanted) / cells.gather(-1, cell)
    angle = width * (cell + part.clamp(0.0, 1.0)).squeeze(-1)
    for _ in range(2):
        log_tail, slope, bend = log_von_mises_tail(angle, concentration, constant=True)
        moved = root_of_tail(angle, log_tail - torch.log(tail), slope, bend)
        angle = torch.minimum(moved.clamp(min=0.0), (angle + math.pi) / 2)
    return angle


def centred_von_mises_from_noise(noise: Tensor, concentration: Tensor | float) -> Tensor:
    """Inverse CDF of a VonMises around 0, in float64."""
    u = noise.double()
    kappa = in_double(concentration) + torch.zeros_like(u)
    tail = 2 * torch.minimum(u, 1 - u)
    root = von_mises_root(tail.detach(), kappa.detach())
    log_tail, slope, bend = log_von_mises_tail(root, kappa)
    angle = root_of_tail(root, log_tail - torch.log(tail), slope, bend)
    return torch.where(u < 0.5, -angle, angle)


def von_mises_from_noise(noise: Tensor, loc: Tensor | float, concentration: Tensor | float) -> Tensor:
    """Inverse CDF of the angle from ``loc``."""
    return wrapped_angle(in_double(loc) + centred_von_mises_from_noise(noise, concentration)).to(noise.dtype)


def noise_from_von_mises(value: Tensor, loc: Tensor | float, concentration: Tensor | float) -> Tensor:
    """CDF of the angle from ``loc``."""
    angle = wrapped_angle(value.double() - in_double(loc))
    kappa = in_double(concentration) + torch.zeros_like(angle)
    fixed = torch.abs(angle.detach())
    tail, slope, bend = log_von_mises_tail(fixed, kappa)
    change = torch.where(angle < 0, -angle, angle) - fixed
    tail = 0.5 * torch.exp(tail + slope * change + slope * (bend - slope) * change**2 / 2)
    return torch.where(angle < 0, tail, 1 - tail).to(value.dtype)


VON_MISES = NoiseTransform(
    family="VonMises",
    noises=(NoiseSource(STANDARD_UNIFORM),),
    params=("loc", "concentration"),
    forward=Formula.of(von_mises_from_noise),
    inverse=Formula.of(noise_from_von_mises),
    source="inverse CDF; Mardia & Jupp 2000, Directional Statistics, section 3.5.4; quadrature: Waldvogel 2006, BIT 46",
)


def second_angle_concentration(phi: Tensor, psi_concentration: Tensor, correlation: Tensor) -> Tensor:
    """That of psi given phi, which is VonMises."""
    return torch.sqrt(psi_concentration**2 + (correlation * torch.sin(phi)) ** 2)


def log_first_angle_density(
    phi: Tensor, phi_concentration: Tensor, psi_concentration: Tensor, correlation: Tensor
) -> Tensor:
    """Log of the density of phi, psi integrated out, up to a constant; it is even."""
    alpha = second_angle_concentration(phi, psi_concentration, correlation)
    gain = (correlation * torch.sin(phi)) ** 2 / (alpha + psi_concentration)  # alpha less its smallest value
    return gain + torch.log(torch.special.i0e(alpha)) - 2 * phi_concentration * torch.sin(phi / 2) ** 2


def first_angle_range(
    phi_concentration: Tensor, psi_concentration: Tensor, correlation: Tensor
) -> tuple[Tensor, Tensor]:
    """Where in (0, pi) the density of phi is at least e^-40 of its largest value, and a little more."""
    index = torch.arange(65, dtype=phi_concentration.dtype, device=phi_concentration.device)
    params = (p.unsqueeze(-1) for p in (phi_concentration, psi_concentration, correlation))
    log_density = log_first_angle_density(index * (math.pi / 64), *params)
    large = log_density > log_density.amax(-1, keepdim=True) - 40
    low = torch.where(large, index, 65.0).amin(-1) - 1
    high = torch.where(large, index, -1.0).amax(-1) + 1
    return low.clamp(min=0) * (math.pi / 64), high.clamp(max=64) * (math.pi / 64)


def first_angle_integral(
    low: Tensor, high: Tensor, phi_concentration: Tensor, psi_concentration: Tensor, correlation: Tensor
) -> Tensor:
    """Log of the integral of the density of phi, up to the same constant, between angles that are free of gradients."""
    nodes, weights = quadrature_on_unit_interval(128, low)
    step = (high - low).unsqueeze(-1)
    params = (p.unsqueeze(-1) for p in (phi_concentration, psi_concentration, correlation))
    log_density = log_first_angle_density(low.unsqueeze(-1) + step * nodes, *params)
    top = log_density.detach().amax(-1, keepdim=True)
    return top.squeeze(-1) + torch.log((step * weights * torch.exp(log_density - top)).sum(-1))


def log_first_angle_tail(
    angle: Tensor,
    high: Tensor,
    total: Tensor,
    phi_concentration: Tensor,
    psi_concentration: Tensor,
    correlation: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Log of P(|phi| > angle), with its derivative in ``angle``, and that of the log-density.

    ``total`` is the log of the integral over the whole range, which ends at ``high``.
    """
    params = (phi_concentration, psi_concentration, correlation)
    above = first_angle_integral(angle, high, *params)
    slope = -torch.exp(log_first_angle_density(angle, *params) - above)
    alpha = second_angle_concentration(angle, psi_concentration, correlation)
    turn = correlation**2 * torch.sin(angle) * torch.cos(angle) / alpha
    bend = torch.special.i1e(alpha) / torch.special.i0e(alpha) * turn - phi_concentration * torch.sin(angle)
    return above - total, slope, bend


def first_angle_root(
    tail: Tensor,
    low: Tensor,
    high: Tensor,
    phi_concentration: Tensor,
    psi_concentration: Tensor,
    correlation: Tensor,
) -> Tensor:
    """The angle with P(|phi| > angle) = tail: from a table of the density, four steps of third order."""
    width = (high - low).unsqueeze(-1) / 64
    grid = low.unsqueeze(-1) + width * torch.arange(65, dtype=tail.dtype, device=tail.device)
    params = (p.unsqueeze(-1) for p in (phi_concentration, psi_concentration, correlation))
    log_density = log_first_angle_density(grid, *params)
    density = torch.exp(log_density - log_density.amax(-1, keepdim=True))
    cells = (density[..., :-1] + density[..., 1:]) / 2
    above = torch.flip(torch.flip(cells, (-1,)).cumsum(-1), (-1,))  # of each cell and those after it
    wanted = (tail * above[..., 0]).unsqueeze(-1)
    cell = ((above > wanted).sum(-1, keepdim=True) - 1).clamp(min=0)
    part = ((above.gather(-1, cell) - wanted) / cells.gather(-1, cell)).clamp(0.0, 1.0)
    angle = low + (width * (cell + part)).squeeze(-1)
    total = first_angle_integral(low, high, phi_concentration, psi_concentration, correlation)
    for _ in range(4):
        log_tail, slope, bend = log_first_angle_tail(
            angle, high, total, phi_concentration, psi_concentration, correlation
        )
        moved = root_of_tail(angle, log_tail - torch.log(tail), slope, bend)
        angle = torch.minimum(torch.maximum(moved, (angle + low) / 2), (angle + high) / 2)
    return angle


def first_angle_from_noise(
    noise: Tensor, phi_concentration: Tensor, psi_concentration: Tensor, correlation: Tensor
) -> Tensor:
    """Inverse CDF of phi around 0; all in float64."""
    params = (phi_concentration, psi_concentration, correlation)
    fixed = (phi_concentration.detach(), psi_concentration.detach(), correlation.detach())
    low, high = first_angle_range(*fixed)
    tail = 2 * torch.minimum(noise, 1 - noise)
    root = first_angle_root(tail.detach(), low, high, *fixed)
    log_tail, slope, bend = log_first_angle_tail(root, high, first_angle_integral(low, high, *params), *params)
    angle = root_of_tail(root, log_tail - torch.log(tail), slope, bend)
    return torch.where(noise < 0.5, -angle, angle)


def sine_bivariate_von_mises_from_noise(
    phi_noise: Tensor,
    psi_noise: Tensor,
    phi_loc: Tensor | float,
    psi_loc: Tensor | float,
    phi_concentration: Tensor | float,
    psi_concentration: Tensor | float,
    correlation: Tensor | float,
) -> Tensor:
    """The inverse CDF of phi, then that of psi given phi."""
    zeros = torch.zeros_like(phi_noise, dtype=torch.float64)
    kappa, other = in_double(phi_concentration) + zeros, in_double(psi_concentration) + zeros
    joint = in_double(correlation) + zeros
    phi = first_angle_from_noise(phi_noise.double(), kappa, other, joint)
    psi = torch.atan2(joint * torch.sin(phi), other)
    psi = psi + centred_von_mises_from_noise(psi_noise, second_angle_concentration(phi, other, joint))
    angles = torch.stack([phi + in_double(phi_loc), psi + in_double(psi_loc)], dim=-1)
    return wrapped_angle(angles).to(phi_noise.dtype)


def correlation_from_weighted(
    weighted_correlation: Tensor | float, phi_concentration: Tensor | float, psi_concentration: Tensor | float
) -> Tensor:
    """As a share of the geometric mean of the concentrations, up to which the law has one mode."""
    return weighted_correlation * torch.sqrt(tensor_or_number(phi_concentration * psi_concentration))


def _one_noise_an_angle(value: Shape, params: Mapping[str, Shape]) -> tuple[Shape, ...]:
    return (value[:-1], value[:-1])


SINE_BIVARIATE_VON_MISES = NoiseTransform(
    family="SineBivariateVonMises",
    noises=(NoiseSource(STANDARD_UNIFORM), NoiseSource(STANDARD_UNIFORM)),
    params=("phi_loc", "psi_loc", "phi_concentration", "psi_concentration", "correlation"),
    forward=Formula.of(sine_bivariate_von_mises_from_noise),
    noise_shapes=_one_noise_an_angle,
    conversions={"correlation": {"weighted_correlation": Formula.of(correlation_from_weighted)}},
    event_dim=1,
    source="Singh, Hnizdo & Demchuk 2002, Biometrika 89, 719-723; Rosenblatt's transformation",
)
