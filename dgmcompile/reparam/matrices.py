"""Random matrices: Wishart by Bartlett's decomposition, LKJ by the onion method."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from dgmcompile.ir.graph import Formula, Shape
from dgmcompile.ir.size import add
from dgmcompile.reparam.beta import logit_beta_from_noise
from dgmcompile.reparam.gamma import in_double, log_gamma_from_noise, positive_from_log
from dgmcompile.reparam.laws import STANDARD_NORMAL, STANDARD_UNIFORM
from dgmcompile.reparam.multivariate import scale_tril_from_covariance, scale_tril_from_precision
from dgmcompile.reparam.registry import NoiseSource, NoiseTransform


def wishart_from_noise(diagonal_noise: Tensor, noise: Tensor, df: Tensor | float, scale_tril: Tensor) -> Tensor:
    """Bartlett: scale_tril A A^T scale_tril^T; A has roots of Chi2 on its diagonal and Normals below."""
    order = torch.arange(noise.shape[-1], dtype=torch.float64, device=noise.device)
    degrees = in_double(df) + torch.zeros_like(diagonal_noise[..., 0], dtype=torch.float64)
    half = 0.5 * (degrees.unsqueeze(-1) - order)
    log_root = 0.5 * (log_gamma_from_noise(diagonal_noise, half) + math.log(2))
    bartlett = torch.tril(noise, -1) + torch.diag_embed(positive_from_log(log_root, noise.dtype))
    root = scale_tril @ bartlett
    return root @ root.mT


def _rows_and_square(value: Shape, params: Mapping[str, Shape]) -> tuple[Shape, ...]:
    return (value[:-1], value)


WISHART = NoiseTransform(
    family="Wishart",
    noises=(NoiseSource(STANDARD_UNIFORM), NoiseSource(STANDARD_NORMAL)),
    params=("df", "scale_tril"),
    forward=Formula.of(wishart_from_noise),
    noise_shapes=_rows_and_square,
    conversions={
        "scale_tril": {
            "covariance_matrix": Formula.of(scale_tril_from_covariance),
            "precision_matrix": Formula.of(scale_tril_from_precision),
        }
    },
    event_dim=2,
    source="Bartlett 1933, Proceedings of the Royal Society of Edinburgh 53, 260-283",
)


def lkj_cholesky_from_noise(
    radius_noise: Tensor, noise: Tensor, dim: int, concentration: Tensor | float = 1.0
) -> Tensor:
    """Each row is a point in the ball of those before it: a direction from Normals, a Beta for its squared radius."""
    order = torch.arange(1, noise.shape[-1], dtype=torch.float64, device=noise.device)
    base = in_double(concentration) + torch.zeros_like(radius_noise[..., 0], dtype=torch.float64)
    rest = base.unsqueeze(-1) + 0.5 * (noise.shape[-1] - 1 - order)
    logit = logit_beta_from_noise(radius_noise, 0.5 * order, rest)
    radius = torch.exp(0.5 * F.logsigmoid(logit)).to(noise.dtype)
    diagonal = torch.exp(0.5 * F.logsigmoid(-logit)).to(noise.dtype)
    below = torch.tril(noise, -1)[..., 1:, :]
    below = below / torch.linalg.vector_norm(below, dim=-1, keepdim=True)
    below = F.pad(radius.unsqueeze(-1) * below, (0, 0, 1, 0))
    return below + torch.diag_embed(F.pad(diagonal, (1, 0), value=1.0))


def _rows_but_one_and_square(value: Shape, params: Mapping[str, Shape]) -> tuple[Shape, ...]:
    return ((*value[:-2], add(value[-1], -1)), value)


_ONION = "onion method; Lewandowski, Kurowicka & Joe 2009, Journal of Multivariate Analysis 100, section 3.2"

LKJ_CHOLESKY = NoiseTransform(
    family="LKJCholesky",
    noises=(NoiseSource(STANDARD_UNIFORM), NoiseSource(STANDARD_NORMAL)),
    params=("dim", "concentration"),
    forward=Formula.of(lkj_cholesky_from_noise),
    noise_shapes=_rows_but_one_and_square,
    event_dim=2,
    source=_ONION,
)


def lkj_corr_cholesky_from_noise(radius_noise: Tensor, noise: Tensor, d: int, eta: Tensor | float) -> Tensor:
    """LKJCholesky under its former name."""
    return lkj_cholesky_from_noise(radius_noise, noise, d, eta)


LKJ_CORR_CHOLESKY = NoiseTransform(
    family="LKJCorrCholesky",
    noises=(NoiseSource(STANDARD_UNIFORM), NoiseSource(STANDARD_NORMAL)),
    params=("d", "eta"),
    forward=Formula.of(lkj_corr_cholesky_from_noise),
    noise_shapes=_rows_but_one_and_square,
    event_dim=2,
    source=_ONION,
)


def lkj_from_noise(radius_noise: Tensor, noise: Tensor, dim: int, concentration: Tensor | float = 1.0) -> Tensor:
    """The correlation matrix of a Cholesky factor."""
    root = lkj_cholesky_from_noise(radius_noise, noise, dim, concentration)
    return root @ root.mT


LKJ = NoiseTransform(
    family="LKJ",
    noises=(NoiseSource(STANDARD_UNIFORM), NoiseSource(STANDARD_NORMAL)),
    params=("dim", "concentration"),
    forward=Formula.of(lkj_from_noise),
    noise_shapes=_rows_but_one_and_square,
    event_dim=2,
    source=_ONION,
)
