"""Gaussian vectors: a matrix root of the covariance times Normal noise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from dgmcompile.ir.graph import Dim, Formula, Shape
from dgmcompile.reparam.laws import STANDARD_NORMAL
from dgmcompile.reparam.registry import NoiseSource, NoiseTransform
from dgmcompile.reparam.steps import STICK_BREAKING, stick_breaking, stick_breaking_inverse


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

NAN_MASKED_MULTIVARIATE_NORMAL = replace(MULTIVARIATE_NORMAL, family="NanMaskedMultivariateNormal")
OMT_MULTIVARIATE_NORMAL = replace(MULTIVARIATE_NORMAL, family="OMTMultivariateNormal", conversions={})


def avf_multivariate_normal_from_noise(noise: Tensor, loc: Tensor, scale_tril: Tensor, control_var: Tensor) -> Tensor:
    """A Normal vector; ``control_var`` is of the library's own gradient estimator, and no draw depends on it."""
    return multivariate_normal_from_noise(noise, loc, scale_tril)


AVF_MULTIVARIATE_NORMAL = NoiseTransform(
    family="AVFMultivariateNormal",
    noises=(NoiseSource(STANDARD_NORMAL),),
    params=("loc", "scale_tril", "control_var"),
    forward=Formula.of(avf_multivariate_normal_from_noise),
    differentiable=False,
    no_gradient=frozenset({"control_var"}),
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


def scale_tril_from_factor(cov_factor: Tensor, cov_diag: Tensor) -> Tensor:
    return torch.linalg.cholesky(cov_factor @ cov_factor.mT + torch.diag_embed(cov_diag))


def low_rank_multivariate_normal_by_cholesky(
    noise: Tensor, loc: Tensor, cov_factor: Tensor, cov_diag: Tensor
) -> Tensor:
    """As any Normal vector: its noise does not depend on the rank."""
    return multivariate_normal_from_noise(noise, loc, scale_tril_from_factor(cov_factor, cov_diag))


def noise_from_low_rank_multivariate_normal(value: Tensor, loc: Tensor, cov_factor: Tensor, cov_diag: Tensor) -> Tensor:
    return noise_from_multivariate_normal(value, loc, scale_tril_from_factor(cov_factor, cov_diag))


LOW_RANK_MULTIVARIATE_NORMAL_BY_CHOLESKY = NoiseTransform(
    family="LowRankMultivariateNormal",
    noises=(NoiseSource(STANDARD_NORMAL),),
    params=("loc", "cov_factor", "cov_diag"),
    forward=Formula.of(low_rank_multivariate_normal_by_cholesky),
    inverse=Formula.of(noise_from_low_rank_multivariate_normal),
    event_dim=1,
    source="Rezende, Mohamed & Wierstra 2014, arXiv:1401.4082, section 4",
)

LOW_RANK_MULTIVARIATE_NORMAL = NoiseTransform(
    family="LowRankMultivariateNormal",
    noises=(NoiseSource(STANDARD_NORMAL), NoiseSource(STANDARD_NORMAL)),
    params=("loc", "cov_factor", "cov_diag"),
    forward=Formula.of(low_rank_multivariate_normal_from_noise),
    noise_shapes=_factors_and_coordinates,
    event_dim=1,
    variants={"cholesky": LOW_RANK_MULTIVARIATE_NORMAL_BY_CHOLESKY},
    source="Rezende, Mohamed & Wierstra 2014, arXiv:1401.4082, section 4.3",
)


def logistic_normal_from_noise(noise: Tensor, loc: Tensor | float, scale: Tensor | float) -> Tensor:
    return stick_breaking(loc + scale * noise)


def noise_from_logistic_normal(value: Tensor, loc: Tensor | float, scale: Tensor | float) -> Tensor:
    return (stick_breaking_inverse(value) - loc) / scale


def _one_noise_a_break(value: Shape, params: Mapping[str, Shape]) -> tuple[Shape, ...]:
    return (STICK_BREAKING.domain_shape(value),)


LOGISTIC_NORMAL = NoiseTransform(
    family="LogisticNormal",
    noises=(NoiseSource(STANDARD_NORMAL),),
    params=("loc", "scale"),
    forward=Formula.of(logistic_normal_from_noise),
    inverse=Formula.of(noise_from_logistic_normal),
    noise_shapes=_one_noise_a_break,
    event_dim=1,
    source="stick-breaking of a Normal vector, as in torch.distributions; Aitchison & Shen 1980, Biometrika 67(2)",
)


def grouped_normal_normal_from_noise(
    group_noise: Tensor,
    noise: Tensor,
    prior_loc: Tensor,
    prior_scale: Tensor,
    obs_scale: Tensor,
    group_idx: Tensor,
) -> Tensor:
    """Each group's mean, and each observation's deviation from that of its group."""
    means = prior_loc + prior_scale * group_noise
    return means[..., group_idx] + obs_scale * noise


def _groups_and_observations(value: Shape, params: Mapping[str, Shape]) -> tuple[Shape, ...]:
    groups, observations = ("prior_loc", "prior_scale"), ("obs_scale", "group_idx")
    return tuple((*value[:-1], _broadcast_size([params[name] for name in names])) for names in (groups, observations))


def _broadcast_size(shapes: list[Shape]) -> Dim:
    """Of the last dim of vectors and numbers that are broadcast."""
    return next((shape[-1] for shape in shapes if shape and shape[-1] != 1), 1)


GROUPED_NORMAL_NORMAL = NoiseTransform(
    family="GroupedNormalNormal",
    noises=(NoiseSource(STANDARD_NORMAL), NoiseSource(STANDARD_NORMAL)),
    params=("prior_loc", "prior_scale", "obs_scale", "group_idx"),
    forward=Formula.of(grouped_normal_normal_from_noise),
    noise_shapes=_groups_and_observations,
    event_dim=1,
    source="by definition; Murphy 2007, Conjugate Bayesian analysis of the Gaussian distribution, section 2",
)
