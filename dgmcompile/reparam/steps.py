"""The steps of a TransformedDistribution: ``torch.distributions.transforms`` as plain functions.

``X.inv`` names the inverse of the transform class ``X``; its parameters are those of ``X``.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from dgmcompile.ir.graph import Dim, Formula, Shape
from dgmcompile.ir.size import Size
from dgmcompile.reparam.registry import StepTransform

_TORCH = "torch.distributions.transforms"


def affine(value: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
    return loc + scale * value


def affine_inverse(value: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
    return (value - loc) / scale


def affine_log_jacobian(x: Tensor, y: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
    return torch.log(torch.abs(scale * torch.ones_like(y)))


def affine_inverse_log_jacobian(x: Tensor, y: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
    return -affine_log_jacobian(y, x, loc, scale)


def exponential(value: Tensor) -> Tensor:
    return torch.exp(value)


def logarithm(value: Tensor) -> Tensor:
    return torch.log(value)


def exponential_log_jacobian(x: Tensor, y: Tensor) -> Tensor:
    return x


def logarithm_log_jacobian(x: Tensor, y: Tensor) -> Tensor:
    return -y


def sigmoid(value: Tensor) -> Tensor:
    """Kept inside (0, 1), as torch.distributions does."""
    limits = torch.finfo(value.dtype)
    return torch.sigmoid(value).clamp(limits.tiny, 1 - limits.eps)


def logit(value: Tensor) -> Tensor:
    return torch.logit(value)


def sigmoid_log_jacobian(x: Tensor, y: Tensor) -> Tensor:
    return -F.softplus(-x) - F.softplus(x)


def logit_log_jacobian(x: Tensor, y: Tensor) -> Tensor:
    return -sigmoid_log_jacobian(y, x)


def hyperbolic_tangent(value: Tensor) -> Tensor:
    return torch.tanh(value)


def inverse_hyperbolic_tangent(value: Tensor) -> Tensor:
    return torch.atanh(value)


def tanh_log_jacobian(x: Tensor, y: Tensor) -> Tensor:
    """log(1 - tanh(x)^2), without the square."""
    return 2 * (math.log(2) - x - F.softplus(-2 * x))


def atanh_log_jacobian(x: Tensor, y: Tensor) -> Tensor:
    return -tanh_log_jacobian(y, x)


def softplus(value: Tensor) -> Tensor:
    return F.softplus(value)


def softplus_inverse(value: Tensor) -> Tensor:
    return value + torch.log(-torch.expm1(-value))


def softplus_log_jacobian(x: Tensor, y: Tensor) -> Tensor:
    return -F.softplus(-x)


def softplus_inverse_log_jacobian(x: Tensor, y: Tensor) -> Tensor:
    return -softplus_log_jacobian(y, x)


def power(value: Tensor, exponent: Tensor) -> Tensor:
    return value**exponent


def power_inverse(value: Tensor, exponent: Tensor) -> Tensor:
    return value ** (1 / exponent)


def power_log_jacobian(x: Tensor, y: Tensor, exponent: Tensor) -> Tensor:
    return torch.log(torch.abs(exponent * y / x))


def power_inverse_log_jacobian(x: Tensor, y: Tensor, exponent: Tensor) -> Tensor:
    return -power_log_jacobian(y, x, exponent)


def absolute_value(value: Tensor) -> Tensor:
    return torch.abs(value)


def softmax(value: Tensor) -> Tensor:
    return torch.softmax(value, dim=-1)


def stick_breaking(value: Tensor) -> Tensor:
    """K - 1 real numbers to K probabilities: each breaks its share off what the ones before it left."""
    remaining = torch.arange(value.shape[-1], 0, -1, dtype=value.dtype, device=value.device)
    share = sigmoid(value - torch.log(remaining))
    left = torch.cumprod(1 - share, dim=-1)
    return F.pad(share, (0, 1), value=1.0) * F.pad(left, (1, 0), value=1.0)


def stick_breaking_inverse(value: Tensor) -> Tensor:
    """K probabilities to K - 1 real numbers."""
    part = value[..., :-1]
    remaining = torch.arange(part.shape[-1], 0, -1, dtype=value.dtype, device=value.device)
    left = (1 - torch.cumsum(part, dim=-1)).clamp(min=torch.finfo(value.dtype).tiny)
    return torch.log(part) - torch.log(left) + torch.log(remaining)


def stick_breaking_log_jacobian(x: Tensor, y: Tensor) -> Tensor:
    remaining = torch.arange(x.shape[-1], 0, -1, dtype=x.dtype, device=x.device)
    return (torch.log(y[..., :-1]) + F.logsigmoid(torch.log(remaining) - x)).sum(-1)


def stick_breaking_inverse_log_jacobian(x: Tensor, y: Tensor) -> Tensor:
    return -stick_breaking_log_jacobian(y, x)


def lower_cholesky(value: Tensor) -> Tensor:
    """The lower triangle, its diagonal made positive by exp."""
    return torch.tril(value, -1) + torch.diag_embed(torch.exp(torch.diagonal(value, dim1=-2, dim2=-1)))


def positive_definite(value: Tensor) -> Tensor:
    """L times its transpose, L from `lower_cholesky`."""
    root = lower_cholesky(value)
    return root @ root.mT


def _one_less(shape: Shape) -> Shape:
    return (*shape[:-1], _plus(shape[-1], -1))


def _one_more(shape: Shape) -> Shape:
    return (*shape[:-1], _plus(shape[-1], 1))


def _plus(dim: Dim, number: int) -> Dim:
    if isinstance(dim, int):
        return dim + number
    terms = dict(dim.terms)
    return Size.of({**terms, (): terms.get((), 0) + number})


AFFINE = StepTransform(
    name="AffineTransform",
    params=("loc", "scale"),
    forward=Formula.of(affine),
    inverse=Formula.of(affine_inverse),
    log_abs_det_jacobian=Formula.of(affine_log_jacobian),
    source=_TORCH,
)
AFFINE_INVERSE = StepTransform(
    name="AffineTransform.inv",
    params=("loc", "scale"),
    forward=Formula.of(affine_inverse),
    inverse=Formula.of(affine),
    log_abs_det_jacobian=Formula.of(affine_inverse_log_jacobian),
    source=_TORCH,
)
EXP = StepTransform(
    name="ExpTransform",
    params=(),
    forward=Formula.of(exponential),
    inverse=Formula.of(logarithm),
    log_abs_det_jacobian=Formula.of(exponential_log_jacobian),
    source=_TORCH,
)
EXP_INVERSE = StepTransform(
    name="ExpTransform.inv",
    params=(),
    forward=Formula.of(logarithm),
    inverse=Formula.of(exponential),
    log_abs_det_jacobian=Formula.of(logarithm_log_jacobian),
    source=_TORCH,
)
SIGMOID = StepTransform(
    name="SigmoidTransform",
    params=(),
    forward=Formula.of(sigmoid),
    inverse=Formula.of(logit),
    log_abs_det_jacobian=Formula.of(sigmoid_log_jacobian),
    source=_TORCH,
)
SIGMOID_INVERSE = StepTransform(
    name="SigmoidTransform.inv",
    params=(),
    forward=Formula.of(logit),
    inverse=Formula.of(sigmoid),
    log_abs_det_jacobian=Formula.of(logit_log_jacobian),
    source=_TORCH,
)
TANH = StepTransform(
    name="TanhTransform",
    params=(),
    forward=Formula.of(hyperbolic_tangent),
    inverse=Formula.of(inverse_hyperbolic_tangent),
    log_abs_det_jacobian=Formula.of(tanh_log_jacobian),
    source=_TORCH,
)
TANH_INVERSE = StepTransform(
    name="TanhTransform.inv",
    params=(),
    forward=Formula.of(inverse_hyperbolic_tangent),
    inverse=Formula.of(hyperbolic_tangent),
    log_abs_det_jacobian=Formula.of(atanh_log_jacobian),
    source=_TORCH,
)
SOFTPLUS = StepTransform(
    name="SoftplusTransform",
    params=(),
    forward=Formula.of(softplus),
    inverse=Formula.of(softplus_inverse),
    log_abs_det_jacobian=Formula.of(softplus_log_jacobian),
    source=_TORCH,
)
SOFTPLUS_INVERSE = StepTransform(
    name="SoftplusTransform.inv",
    params=(),
    forward=Formula.of(softplus_inverse),
    inverse=Formula.of(softplus),
    log_abs_det_jacobian=Formula.of(softplus_inverse_log_jacobian),
    source=_TORCH,
)
POWER = StepTransform(
    name="PowerTransform",
    params=("exponent",),
    forward=Formula.of(power),
    inverse=Formula.of(power_inverse),
    log_abs_det_jacobian=Formula.of(power_log_jacobian),
    source=_TORCH,
)
POWER_INVERSE = StepTransform(
    name="PowerTransform.inv",
    params=("exponent",),
    forward=Formula.of(power_inverse),
    inverse=Formula.of(power),
    log_abs_det_jacobian=Formula.of(power_inverse_log_jacobian),
    source=_TORCH,
)
ABS = StepTransform(name="AbsTransform", params=(), forward=Formula.of(absolute_value), source=_TORCH)
SOFTMAX = StepTransform(
    name="SoftmaxTransform",
    params=(),
    forward=Formula.of(softmax),
    domain_event_dim=1,
    codomain_event_dim=1,
    source=_TORCH,
)
STICK_BREAKING = StepTransform(
    name="StickBreakingTransform",
    params=(),
    forward=Formula.of(stick_breaking),
    inverse=Formula.of(stick_breaking_inverse),
    log_abs_det_jacobian=Formula.of(stick_breaking_log_jacobian),
    domain_event_dim=1,
    codomain_event_dim=1,
    domain_shape=_one_less,
    source=f"{_TORCH}; Stan Reference Manual, section on unit simplexes",
)
STICK_BREAKING_INVERSE = StepTransform(
    name="StickBreakingTransform.inv",
    params=(),
    forward=Formula.of(stick_breaking_inverse),
    inverse=Formula.of(stick_breaking),
    log_abs_det_jacobian=Formula.of(stick_breaking_inverse_log_jacobian),
    domain_event_dim=1,
    codomain_event_dim=1,
    domain_shape=_one_more,
    source=f"{_TORCH}; Stan Reference Manual, section on unit simplexes",
)
LOWER_CHOLESKY = StepTransform(
    name="LowerCholeskyTransform",
    params=(),
    forward=Formula.of(lower_cholesky),
    domain_event_dim=2,
    codomain_event_dim=2,
    source=_TORCH,
)
POSITIVE_DEFINITE = StepTransform(
    name="PositiveDefiniteTransform",
    params=(),
    forward=Formula.of(positive_definite),
    domain_event_dim=2,
    codomain_event_dim=2,
    source=_TORCH,
)
