"""Point masses: no noise."""

from __future__ import annotations

from torch import Tensor

from dgmcompile.ir.graph import Formula
from dgmcompile.reparam.registry import NoiseTransform


def delta_from_value(v: Tensor) -> Tensor:
    return v


DELTA = NoiseTransform(
    family="Delta",
    noises=(),
    params=("v",),
    forward=Formula.of(delta_from_value),
    noise_shapes=lambda value, params: (),
    source="a point mass is its value",
)
