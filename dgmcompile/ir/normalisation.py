"""Calls that normalise by the statistics of the batch, and move running ones by the way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_PLACES: Mapping[str, tuple[int, str, bool]] = {
    "torch.nn.functional.batch_norm": (1, "training", False),
    "torch.nn.functional.instance_norm": (1, "use_input_stats", True),
    "torch.batch_norm": (3, "training", False),
    "torch.instance_norm": (3, "use_input_stats", True),
    "torch.native_batch_norm": (3, "training", False),
}
"""Of the running mean, after which the variance comes; name and default of what says, at the sixth place, by which."""


def moved_statistics(target: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[int | str, ...]:
    """Places and names of the running statistics that the call is given, where it writes these and reads none."""
    if target not in _PLACES:
        return ()
    first, name, default = _PLACES[target]
    if not (args[5] if len(args) > 5 else kwargs.get(name, default)):
        return ()
    by_place = (place for place in (first, first + 1) if place < len(args))
    return (*by_place, *(word for word in ("running_mean", "running_var") if word in kwargs))
