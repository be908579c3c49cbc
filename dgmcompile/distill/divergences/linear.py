"""Linear algebra that the multivariate normals share, as small formulas."""
# torch.linalg has no types:
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import torch
from torch import Tensor


def expand_like(x: Tensor, like: Tensor) -> Tensor:
    """x, broadcast against ``like``."""
    return x.expand(torch.broadcast_shapes(x.shape, like.shape))


def in_one_shape(*tensors: Tensor) -> tuple[Tensor, ...]:
    """All of them, broadcast against each other."""
    return tuple(torch.broadcast_tensors(*tensors))


def in_one_batch(*vectors: Tensor) -> tuple[Tensor, ...]:
    """Vectors of several lengths, whose batch dims are broadcast against each other."""
    batch = torch.broadcast_shapes(*(vector.shape[:-1] for vector in vectors))
    return tuple(vector.expand(batch + vector.shape[-1:]) for vector in vectors)


def cholesky_if_any(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """The lower triangular L with L L' = matrix, and whether there is none; raises nothing."""
    result = torch.linalg.cholesky_ex(matrix)
    return result.L, result.info > 0


def cholesky(covariance: Tensor) -> Tensor:
    """The lower triangular L with L L' = covariance."""
    return torch.linalg.cholesky(covariance)


def solve_lower(tril: Tensor, x: Tensor) -> Tensor:
    """tril^-1 x."""
    return torch.linalg.solve_triangular(tril, x, upper=False)


def nearest_rotation(matrix: Tensor) -> Tensor:
    """The orthogonal matrix nearest to ``matrix``: its polar factor."""
    left, _, right = torch.linalg.svd(matrix)
    return left @ right


def capacitance_tril(cov_factor: Tensor, cov_diag: Tensor) -> Tensor:
    """Cholesky factor of I + W' D^-1 W, which is as small as the rank."""
    capacitance = cov_factor.mT / cov_diag.unsqueeze(-2) @ cov_factor
    identity = torch.eye(cov_factor.shape[-1], dtype=cov_factor.dtype, device=cov_factor.device)
    return cholesky(capacitance + identity)


def low_rank_log_det(cov_factor: Tensor, cov_diag: Tensor) -> Tensor:
    """log det(W W' + D), by the matrix determinant lemma."""
    tril = capacitance_tril(cov_factor, cov_diag)
    return 2 * tril.diagonal(0, -2, -1).log().sum(-1) + cov_diag.log().sum(-1)


def low_rank_whitened_square(cov_factor: Tensor, cov_diag: Tensor, x: Tensor) -> Tensor:
    """Sum over the columns of x of x' (W W' + D)^-1 x, by Woodbury's identity."""
    scaled = x / cov_diag.unsqueeze(-1)
    explained = solve_lower(capacitance_tril(cov_factor, cov_diag), cov_factor.mT @ scaled)
    return (x * scaled).sum((-2, -1)) - explained.square().sum((-2, -1))


def low_rank_second_moment(
    p_loc: Tensor,
    p_cov_factor: Tensor,
    p_cov_diag: Tensor,
    q_loc: Tensor,
    q_cov_factor: Tensor,
    q_cov_diag: Tensor,
) -> Tensor:
    """E_p (x - q_loc)' (W W' + D)^-1 (x - q_loc), with the W and D of q."""
    shift = expand_like(p_loc - q_loc, q_cov_diag)
    moments = low_rank_whitened_square(q_cov_factor, q_cov_diag, shift.unsqueeze(-1))
    moments = moments + low_rank_whitened_square(q_cov_factor, q_cov_diag, p_cov_factor)
    columns = q_cov_factor.mT * (p_cov_diag.sqrt() / q_cov_diag).unsqueeze(-2)
    explained = solve_lower(capacitance_tril(q_cov_factor, q_cov_diag), columns).square().sum((-2, -1))
    return moments + (p_cov_diag / q_cov_diag).sum(-1) - explained
