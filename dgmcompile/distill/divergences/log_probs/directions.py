"""Log-densities of directions, as unit vectors or as angles, over the last dim."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from dgmcompile.distill.divergences.elementary import as_tensors
from dgmcompile.distill.divergences.special import log_sinhc, scaled_bessel_0, surface_tolerance


def is_off_the_sphere(value: Tensor) -> Tensor:
    """Has a vector another length than 1, but for rounding? NaN is on it."""
    return (value.square().sum(-1) - 1).abs() > surface_tolerance(value)


def log_prob_von_mises_3d(value: Tensor, concentration: Tensor) -> Tensor:
    """Log-density of a von Mises-Fisher direction in space, per area of the unit sphere."""
    value, concentration = as_tensors(value, concentration)
    log_area = log_sinhc(concentration.square().sum(-1)) + math.log(4 * math.pi)
    return torch.where(is_off_the_sphere(value), -math.inf, (concentration * value).sum(-1) - log_area)


def log_prob_projected_normal(value: Tensor, concentration: Tensor) -> Tensor:
    """Log-density of the direction of a standard normal vector around ``concentration``, per area, in any dimension.

    The density along the ray r * value is integrated by the trapezoid rule in u, r = log(1 + e^u): all
    terms are positive, and 128 nodes give the integral to rounding.
    """
    value, concentration = as_tensors(value, concentration)
    dim = value.shape[-1]
    along = (value * concentration).sum(-1)
    ahead, behind = torch.where(along > 0, along, 0.0), torch.where(along > 0, 0.0, along)
    beside = (concentration - ahead.unsqueeze(-1) * value).square().sum(-1)

    # r^(dim - 1) exp(-(r - ahead)^2 / 2 + behind * r) is below e^-37 of its peak outside these ends.
    start, end = ahead.detach(), behind.detach()
    far = start + (74 + 12 * dim) / (torch.sqrt(end**2 + 74 + 12 * dim) - end)
    near = torch.maximum(-37 / dim - torch.log(1 - end), start - 10)
    nodes = torch.arange(128, dtype=value.dtype, device=value.device) / 127
    top = far + torch.log(-torch.expm1(-far))
    u = near.unsqueeze(-1) + (top - near).unsqueeze(-1) * nodes
    r = F.softplus(u)
    log_mass = (dim - 1) * torch.log(r) - 0.5 * (r - ahead.unsqueeze(-1)) ** 2 + behind.unsqueeze(-1) * r
    ray = torch.logsumexp(log_mass + F.logsigmoid(u), -1) + torch.log((top - near) / 127)
    log_density = ray - 0.5 * beside - 0.5 * dim * math.log(2 * math.pi)
    return torch.where(is_off_the_sphere(value), -math.inf, log_density)


def log_prob_sine_bivariate_von_mises(
    value: Tensor,
    phi_loc: Tensor,
    psi_loc: Tensor,
    phi_concentration: Tensor,
    psi_concentration: Tensor,
    correlation: Tensor,
) -> Tensor:
    """Log-density of two angles, in any turn: Singh, Hnizdo & Demchuk 2002, Biometrika 89(3)."""
    value, phi_loc, psi_loc, phi_concentration, psi_concentration, correlation = as_tensors(
        value, phi_loc, psi_loc, phi_concentration, psi_concentration, correlation
    )
    phi, psi = value[..., 0] - phi_loc, value[..., 1] - psi_loc
    fall = phi_concentration * torch.sin(phi / 2) ** 2 + psi_concentration * torch.sin(psi / 2) ** 2
    log_norm = log_sine_normaliser(phi_concentration, psi_concentration, correlation)
    return correlation * torch.sin(phi) * torch.sin(psi) - 2 * fall - log_norm


def log_sine_normaliser(phi_concentration: Tensor, psi_concentration: Tensor, correlation: Tensor) -> Tensor:
    """log of the density's integral over both angles where its value at the locations is 1.

    One angle by a Bessel function, the other by the midpoint rule, which is exact to rounding for
    periodic functions that are no narrower than some nodes: concentrations up to about 2e4.
    """
    angle = (torch.arange(512, dtype=correlation.dtype, device=correlation.device) + 0.5) * (math.pi / 512)
    sine = correlation.unsqueeze(-1) * torch.sin(angle)
    length = torch.hypot(psi_concentration.unsqueeze(-1), sine)
    gain = sine**2 / (length + psi_concentration.unsqueeze(-1))
    fall = 2 * phi_concentration.unsqueeze(-1) * torch.sin(angle / 2) ** 2
    log_mass = torch.log(scaled_bessel_0(length)) + gain - fall
    return torch.logsumexp(log_mass, -1) + math.log(4 * math.pi**2 / 512)
