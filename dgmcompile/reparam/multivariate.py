"""Gaussian vectors: a matrix root of the covariance times Normal noise."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from dgmcompile.ir.graph import Formula, Shape
from dgmcompile.reparam.laws import STANDARD_NORMAL
from dgmcompile.reparam.registry import NoiseSource, NoiseTransform


def multivariate_normal_from_noise(noise: Tensor, loc: Tensor, scale_tril: Tensor) -> Tensor:
    return loc + (scale_tril @ noise.unsqueeze(-1)).squeeze(-1)


def noise_from_multivariate_normal(value: Tensor, loc: Tensor, scale_tril: Tensor) -> Tensor:
    return torch.linalg.solve_triangular(scale_tril, (value - loc).unsqueeze(-1), upper=False).squeeze(-1)


def scale_tril_from_covariance(covariance_matrix: Tensor) -> Tensor:
    return torch.linalg.cholesky(covariance_matrix)


def scale_tril_from_precision(precision_matrix: Tensor) -> Tensor:
    """The Cholesky factor of the inverse: that of the precision, read backwards, is inverted."""
    backwards = torch.linalg.cholesky(torch.flip(precision_matrix, (-2, -1)))
    inverse_tril = torch.flip(backwards, (-2, -1)).mT
    eye = torch.eye(precision_matrix.shape[-1], dtype=precision_matrix.dtype, device=precision_matrix.device)
    return torch.linalg.solve_triangular(inverse_tril, eye, upper=False)


MULTIVARIATE_NORMAL = NoiseTransform(
    family="MultivariateNormal",
    noises=(NoiseSource(STANDARD_NORMAL),),
    params=("loc", "scale_tril"),
    forward=Formula.of(multivariate_normal_from_noise),
    inverse=Formula.of(noise_from_multivariate_normal),
    conversions={
        "scale_tril": {
            "covariance_matrix": Formula.of(scale_tril_from_covariance),
            "precision_matrix": Formula.of(scale_tril_from_precision),
        }
    },
    event_dim=1,
    source="Rezende, Mohamed & Wierstra 2014, arXiv:1401.4082, section 4",
)


def low_rank_multivariate_normal_from_noise(
    factor_noise: Tensor, noise: Tensor, loc: Tensor, cov_factor: Tensor, cov_diag: Tensor
) -> Tensor:
    """Factor analysis: common factors through ``cov_factor``, and each coordinate's own noise."""
    return loc + (cov_factor @ factor_noise.unsqueeze(-1)).squeeze(-1) + torch.sqrt(cov_diag) * noise


def _factors_and_coordinates(value: Shape, params: Mapping[str, Shape]) -> tuple[Shape, ...]:
    return ((*value[:-1], params["cov_factor"][-1]), value)


LOW_RANK_MULTIVARIATE_NORMAL = NoiseTransform(
    family="LowRankMultivariateNormal",
    noises=(NoiseSource(STANDARD_NORMAL), NoiseSource(STANDARD_NORMAL)),
    params=("loc", "cov_factor", "cov_diag"),
    forward=Formula.of(low_rank_multivariate_normal_from_noise),
    noise_shapes=_factors_and_coordinates,
    event_dim=1,
    source="Rezende, Mohamed & Wierstra 2014, arXiv:1401.4082, section 4.3",
)
