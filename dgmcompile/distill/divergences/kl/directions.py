"""KL(p || q) of von Mises and von Mises-Fisher directions: Bregman divergences of the log-normaliser."""

from __future__ import annotations

import torch
from torch import Tensor

from dgmcompile.distill.divergences.elementary import as_tensors
from dgmcompile.distill.divergences.special import langevin_ratio, log_sinhc, scaled_bessel_0, scaled_bessel_1


def kl_von_mises(p_loc: Tensor, p_concentration: Tensor, q_loc: Tensor, q_concentration: Tensor) -> Tensor:
    """KL(p || q) of angles."""
    p_loc, p_concentration, q_loc, q_concentration = as_tensors(p_loc, p_concentration, q_loc, q_concentration)
    p_norm, q_norm = scaled_bessel_0(p_concentration), scaled_bessel_0(q_concentration)
    length = scaled_bessel_1(p_concentration) / p_norm
    turn = 2 * q_concentration * torch.sin((p_loc - q_loc) / 2) ** 2
    return torch.log(q_norm / p_norm) + (q_concentration - p_concentration) * (1 - length) + length * turn


def kl_von_mises_3d(p_concentration: Tensor, q_concentration: Tensor) -> Tensor:
    """KL(p || q) of directions in space: one value an event."""
    p_concentration, q_concentration = as_tensors(p_concentration, q_concentration)
    p_square, q_square = p_concentration.square().sum(-1), q_concentration.square().sum(-1)
    slope = (p_concentration * (q_concentration - p_concentration)).sum(-1) * langevin_ratio(p_square)
    return log_sinhc(q_square) - log_sinhc(p_square) - slope
