"""Families as users write them, and how each is made of noise; nothing is registered by importing this."""

from __future__ import annotations

import math
from typing import Any

import pyro.distributions as dist
import torch
from pyro.distributions import constraints
from torch import Tensor


class Triangular(dist.TorchDistribution):
    """The difference of two uniforms, scaled; ``width`` is that of the whole base."""

    arg_constraints = {"loc": constraints.real, "scale": constraints.positive, "width": constraints.positive}  # noqa: RUF012
    support = constraints.real

    def __init__(self, loc: Any, scale: Any = None, width: Any = None, validate_args: Any = None) -> None:
        scale = torch.as_tensor(width) / 2 if scale is None else torch.as_tensor(scale)
        self.loc, self.scale = torch.broadcast_tensors(torch.as_tensor(loc), scale)
        super().__init__(self.scale.shape, validate_args=False)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        new, batch_shape = self._get_checked_instance(Triangular, _instance), torch.Size(batch_shape)
        new.loc, new.scale = self.loc.expand(batch_shape), self.scale.expand(batch_shape)
        super(Triangular, new).__init__(batch_shape, validate_args=False)
        return new

    def sample(self, sample_shape: Any = ()) -> Tensor:
        shape = self._extended_shape(sample_shape)
        return self.loc + self.scale * (torch.rand(shape) - torch.rand(shape))

    def log_prob(self, value: Tensor) -> Tensor:
        return log_prob_triangular(value, self.loc, self.scale)


SIDES = 1.0
"""Of a number that formulas read."""


def between(right: Tensor, left: Tensor) -> Tensor:
    return SIDES * (right - left)


def triangular_from_noise(right: Tensor, left: Tensor, loc: Tensor | float, scale: Tensor | float) -> Tensor:
    """Triangular(loc, scale)."""
    return loc + scale * between(right, left)


def log_prob_triangular(value: Tensor, loc: Tensor | float, scale: Tensor | float) -> Tensor:
    """-inf outside."""
    scale = torch.as_tensor(scale)
    height = (1 - ((value - loc) / scale).abs()) / scale
    return torch.where(height > 0, torch.where(height > 0, height, 1.0).log(), -math.inf)


def half(width: Tensor | float) -> Tensor | float:
    return width / 2


TRIANGULAR: dict[str, Any] = {
    "forward": triangular_from_noise,
    "params": ("loc", "scale"),
    "noises": ("StandardUniform", "StandardUniform"),
    "conversions": {"scale": {"width": half}},
    "log_prob": log_prob_triangular,
}


def triangular_cdf(value: Tensor, loc: float, scale: float | None = None, width: float | None = None) -> Tensor:
    """The exact distribution function."""
    scale = scale or (width or 0.0) / 2
    side = ((value - loc) / scale).clamp(-1, 1)
    return torch.where(side < 0, (1 + side) ** 2 / 2, 1 - (1 - side) ** 2 / 2)


class Dice(dist.TorchDistribution):
    """A whole number from 1 to ``sides``."""

    arg_constraints = {"sides": constraints.positive}  # noqa: RUF012
    support = constraints.positive_integer

    def __init__(self, sides: Tensor, validate_args: Any = None) -> None:
        self.sides = sides
        super().__init__(sides.shape, validate_args=False)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        return Dice(self.sides.expand(batch_shape))

    def sample(self, sample_shape: Any = ()) -> Tensor:
        return (torch.rand(self._extended_shape(sample_shape)) * self.sides).ceil()

    def log_prob(self, value: Tensor) -> Tensor:
        return log_prob_dice(value, self.sides)


def dice_from_noise(noise: Tensor, sides: Tensor | float) -> Tensor:
    sides = torch.as_tensor(sides)
    return torch.ceil(noise * sides.detach()).to(sides.dtype)


def log_prob_dice(value: Tensor, sides: Tensor | float) -> Tensor:
    sides = torch.as_tensor(sides)
    return torch.where((value >= 1) & (value <= sides), -sides.log(), -math.inf)


DICE: dict[str, Any] = {
    "forward": dice_from_noise,
    "params": ("sides",),
    "noises": ("StandardUniform",),
    "log_prob": log_prob_dice,
}


class Shifted(dist.TorchDistribution):
    """A draw from another distribution, and ``shift``."""

    arg_constraints = {}  # noqa: RUF012

    def __init__(self, base_dist: Any, shift: Tensor, validate_args: Any = None) -> None:
        self.base_dist, self.shift = base_dist, shift
        super().__init__(base_dist.batch_shape, base_dist.event_shape, validate_args=False)

    @property
    def support(self) -> Any:  # type: ignore[override]
        return self.base_dist.support

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        return Shifted(self.base_dist.expand(batch_shape), self.shift)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        return self.base_dist.sample(sample_shape) + self.shift

    def log_prob(self, value: Tensor) -> Tensor:
        return self.base_dist.log_prob(value - self.shift)


def moved(value: Tensor, shift: Tensor) -> Tensor:
    return value + shift


def moved_back(value: Tensor, shift: Tensor) -> Tensor:
    return value - shift


def write_shifted(params: Any, shape: Any, draws: Any) -> Any:
    return draws.call("", moved, draws.draw(params["base_dist"], shape, "base"), params["shift"])


def write_log_prob_shifted(params: Any, value: Any, write: Any) -> Any:
    return write.log_prob(params["base_dist"], write.call("base_value", moved_back, value, params["shift"]), "base")


SHIFTED: dict[str, Any] = {
    "write": write_shifted,
    "params": ("base_dist", "shift"),
    "formulas": (moved_back, moved),
    "log_prob": write_log_prob_shifted,
}
