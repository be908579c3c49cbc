"""What a replay found: errors of sites and of gradients, and whether they are within the tolerance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

TOLERANCES = {torch.float64: 1e-10, torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 2e-2}
"""Relative, by the dtype of what is compared; gradients, which are sums over sites, may differ by ten times that."""


@dataclass(frozen=True)
class SiteCheck:
    """Largest relative errors of one site, and whether they are within the tolerance."""

    name: str
    family: str
    role: str
    parameter_error: float
    log_prob_error: float
    ok: bool
    note: str = ""


@dataclass(frozen=True)
class CheckReport:
    """``ok`` where every site of the program agrees; ``sizes`` are those it was replayed at.

    ``gradients``: parameter path or latent -> the largest relative error of the gradient of the log-probabilities;
    ``not_compared`` says why there are none, where autograd refuses the original program.
    """

    name: str
    sites: tuple[SiteCheck, ...]
    sizes: Mapping[str, int]
    gradients: Mapping[str, float] = field(default_factory=dict)
    gradient_tolerance: float = 1e-4
    not_compared: str = ""

    @property
    def ok(self) -> bool:
        return all(site.ok for site in self.sites) and not self.wrong_gradients

    @property
    def wrong_gradients(self) -> tuple[str, ...]:
        """The parameters and latents whose gradients differ."""
        return tuple(name for name, error in self.gradients.items() if not error <= self.gradient_tolerance)

    def __str__(self) -> str:
        width = max([4, *(len(site.name) for site in self.sites)])
        rows = [
            f"{site.name:{width}}  {site.family:24} {site.parameter_error:9.1e} {site.log_prob_error:9.1e}  "
            f"{'ok' if site.ok else 'DIFFERS'} {site.note}".rstrip()
            for site in self.sites
        ]
        header = f"{'site':{width}}  {'family':24} {'parameter':>9} {'log-prob':>9}"
        if self.gradients:
            worst = max(self.gradients.values())
            wrong = "".join(f"\n  DIFFERS {name}" for name in self.wrong_gradients)
            rows.append(f"gradients of {len(self.gradients)} parameters and latents: {worst:.1e}{wrong}")
        if self.not_compared:
            rows.append(f"gradients not compared: {self.not_compared}")
        return "\n".join([header, *rows])


def relative_error(ours: Any, theirs: Any) -> float:
    """Largest difference, relative to the largest value."""
    if theirs is None:
        return float("inf")
    if not isinstance(ours, Tensor) and not isinstance(theirs, Tensor):
        return 0.0 if ours == theirs else float("inf")
    a, b = torch.as_tensor(ours, dtype=torch.float64), torch.as_tensor(theirs, dtype=torch.float64)
    try:
        a, b = torch.broadcast_tensors(a, b)
    except RuntimeError:
        return float("inf")
    different = ~((a == b) | (a.isnan() & b.isnan()))
    if not different.any():
        return 0.0
    scale = b[b.isfinite()].abs().max().clamp(min=1.0) if b.isfinite().any() else torch.tensor(1.0)
    return float((a - b)[different].abs().max() / scale) if (a - b)[different].isfinite().all() else float("inf")
