"""KL(p || q) of Student's t, by quadrature of one expectation."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from dgmcompile.distill.divergences.elementary import as_tensors
from dgmcompile.distill.divergences.linear import in_one_shape
from dgmcompile.distill.divergences.moments import normal_surprise, student_t_negentropy
from dgmcompile.distill.divergences.special import log_gamma_bregman, log_gamma_ratio


def kl_student_t(p_df: Tensor, p_loc: Tensor, p_scale: Tensor, q_df: Tensor, q_loc: Tensor, q_scale: Tensor) -> Tensor:
    """KL(p || q) of Student's t, to 1e-8 for df of 0.05 and more: in float64, as a large df multiplies errors."""
    given = as_tensors(p_df, p_loc, p_scale, q_df, q_loc, q_scale)
    p_df, p_loc, p_scale, q_df, q_loc, q_scale = (x.double() for x in given)
    shapes = log_gamma_bregman(p_df / 2, q_df / 2) - log_gamma_bregman((p_df + 1) / 2, (q_df + 1) / 2)
    log_width = torch.log(q_scale / p_scale) + 0.5 * torch.log(q_df / p_df)
    moment = student_t_log_ratio(p_df, (q_loc - p_loc) / p_scale, log_width)
    return (shapes + (q_df + 1) * moment - q_df * log_width).to(given[0].dtype)


def student_t_log_ratio(df: Tensor, shift: Tensor, log_width: Tensor) -> Tensor:
    """E log of |x - shift - i e^log_width sqrt(df)| / |x - i sqrt(df)| for a standard t variable x.

    That is the real part of E log (w - x) / (w0 - x), analytic in x below the real line. So x runs below
    it, along sqrt(df) sinh(s - i angle), where no singularity comes near whatever the shift and the width:
    the trapezoid rule converges geometrically. ``angle`` keeps the density from oscillating at large df.
    """
    df, shift, log_width = in_one_shape(df, shift, log_width)
    fixed = df.detach()
    angle = 2 / torch.sqrt(fixed + (8 / math.pi) ** 2)
    size = shift.detach().abs() / torch.sqrt(fixed) + torch.exp(log_width.detach())
    depth = (37 + torch.log1p(size)) / (fixed + 1)
    end = depth + torch.log1p(torch.sqrt(-torch.expm1(-2 * depth)))
    nodes = torch.asinh(0.1 * end).unsqueeze(-1) * (torch.arange(257, dtype=df.dtype, device=df.device) / 128 - 1)
    s, spacing = 10 * torch.sinh(nodes), torch.cosh(nodes)  # wider apart in heavy tails

    # The density: cosh(s - i angle)^-df.
    angle, df = angle.unsqueeze(-1), df.unsqueeze(-1)
    log_cosh = 0.5 * (torch.log1p((torch.sinh(s) / torch.cos(angle)) ** 2) + torch.log1p(-(torch.sin(angle) ** 2)))
    phase = df * torch.atan(torch.tanh(s) * torch.tan(angle))
    log_norm = 0.5 * math.log(math.pi) - log_gamma_ratio(df / 2, torch.full_like(df, 0.5))
    mass = spacing * torch.exp(-df * log_cosh - log_norm)

    # log (w - x) / (w0 - x) = log(1 + (w - w0) / (w0 - x)).
    root = torch.sqrt(df)
    real, imaginary = -root * torch.sinh(s) * torch.cos(angle), root * (1 + torch.cosh(s) * torch.sin(angle))
    length = torch.hypot(real, imaginary)
    cosine, sine = real / length, imaginary / length
    right, up = shift.unsqueeze(-1) / length, root * torch.expm1(log_width).unsqueeze(-1) / length
    along, across = right * cosine + up * sine, up * cosine - right * sine
    log_length = 0.5 * torch.log1p(2 * along + along**2 + across**2)
    turn = torch.atan2(across, 1 + along)
    integrand = mass * (torch.cos(phase) * log_length - torch.sin(phase) * turn)
    return integrand.sum(-1) * torch.asinh(0.1 * end) * (10 / 128)


def kl_student_t_normal(p_df: Tensor, p_loc: Tensor, p_scale: Tensor, q_loc: Tensor, q_scale: Tensor) -> Tensor:
    """KL(p || q) of Student's t from a normal; infinite where p has no variance."""
    p_df, p_loc, p_scale, q_loc, q_scale = as_tensors(p_df, p_loc, p_scale, q_loc, q_scale)
    finite = p_df > 2
    variance = torch.where(finite, p_df / torch.where(finite, p_df - 2, 1.0), math.inf) * p_scale**2
    return student_t_negentropy(p_df, p_scale) + normal_surprise(p_loc, variance, q_loc, q_scale)
