"""Distributions of the library with given parameters, and the density of a value."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor

from dgmcompile.ir.graph import Law, Sample


def within_mask(sample: Sample) -> int:
    """Event dims that are summed before the mask is applied."""
    return sample.event_dim - sample.mask_event_dim


def log_prob_at(law: Any, value: Tensor, event_dim: int) -> Tensor:
    """Log-density of ``value``, of which so many dims are one event."""
    if isinstance(law, dist.GroupedNormalNormal):  # it has the dim of its data, and says that it has none
        return law.log_prob(value)
    if (missing := event_dim - law.event_dim) > 0:
        law = law.expand(value.shape[: value.dim() - law.event_dim]).to_event(missing)
    batch = value.shape[: value.dim() - event_dim]
    return (law if law.batch_shape == batch else law.expand(batch)).log_prob(value)


def distribution_of(law: Law, original: Law, classes: Mapping[str, type]) -> Any:
    """A distribution with these parameters; those inside it have the batch shape of the original's."""
    params = {}
    for name, part in law.params.items():
        other = original.params.get(name)
        params[name] = _part(part, other, classes) if isinstance(part, Law) and isinstance(other, Law) else part
    cls: Any = getattr(dist, law.family, None) or classes[law.family]  # a user's own is not Pyro's
    return cls(**params)


def _part(law: Law, original: Law, classes: Mapping[str, type]) -> Any:
    made = distribution_of(law, original, classes)
    if law.transforms:
        made = dist.TransformedDistribution(made, [transform_of(step.name, step.params) for step in law.transforms])
    made = made.expand(torch.Size(original.shape[: len(original.shape) - made.event_dim]))  # type: ignore[arg-type]
    missing = law.event_dim - made.event_dim
    return made.to_event(missing) if missing else made


def transform_of(name: str, params: Mapping[str, Any]) -> Any:
    made = getattr(dist.transforms, name.removesuffix(".inv"))(**params)
    return made.inv if name.endswith(".inv") else made
