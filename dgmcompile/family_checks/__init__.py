"""Is a family's transform right? What its users can ask in their own tests, and our tests ask of the registry."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

from dgmcompile.family_checks.laws import Composed, FamilyCheck, Law, Oracle, Transformed
from dgmcompile.frontends.distributions import family_of
from dgmcompile.frontends.state import preserved
from dgmcompile.reparam import COMPOSITIONS, NOISE_TRANSFORMS

__all__ = ["CHECKS", "FamilyCheck", "FamilyReport", "check_family"]

Setting = Mapping[str, Any]

CHECKS = (
    "shape",
    "law",
    "score",
    "jacobian",
    "density",
    "inverse",
    "gradient",
    "zero gradient",
    "batch",
    "numbers",
    "torch.compile",
    "vmap",
    "double backward",
)
"""What is checked, by name."""


@dataclass(frozen=True)
class FamilyReport:
    """``ok`` where every check is; ``str()`` is a table of them."""

    family: str
    checks: tuple[FamilyCheck, ...]

    @property
    def ok(self) -> bool:
        return all(check.ok for check in self.checks)

    @property
    def failed(self) -> tuple[FamilyCheck, ...]:
        return tuple(check for check in self.checks if not check.ok)

    @property
    def worst_error(self) -> float:
        """The largest statistic, in units of its limit."""
        return max((check.error for check in self.checks), default=0.0)

    def worst(self, *names: str) -> FamilyCheck | None:
        """The check of these names that comes closest to its limit, or is furthest beyond it."""
        return max((c for c in self.checks if c.name in names), key=lambda check: check.error, default=None)

    def __str__(self) -> str:
        rows = [
            f"{c.name:16}{c.setting:>7}  {c.dtype:8}{c.statistic:>11.2g}{c.limit:>11.2g}  {'ok' if c.ok else 'FAILS'}"
            f"{f'  ({c.note})' if c.note else ''}"
            for c in self.checks
        ]
        header = f"{'check':16}{'setting':>7}  {'dtype':8}{'found':>11}{'limit':>11}"
        return "\n".join([self.family, header, *rows])


def check_family(
    family: type | str,
    settings: Setting | Sequence[Setting],
    *,
    cdf: Callable[..., Any] | None = None,
    log_prob: Callable[..., Tensor] | None = None,
    make: Callable[..., Any] | None = None,
    variant: str | None = None,
    draws: int = 20_000,
    seed: int = 0,
    skip: Collection[str] = (),
) -> FamilyReport:
    """Is what is known of ``family`` right at these parameters? Nothing is asserted: ``assert report.ok, report``.

    ``shape``            a draw has the distribution's shape, and a dtype that fits
    ``law``              draws against ``cdf``: Kolmogorov-Smirnov, or chi-square where the family is discrete; without
                         a ``cdf``, of a discrete family, against the probabilities that the density gives
    ``score``            E grad log p = 0 over draws, by the density; where the parameter does not move the support.
                         It sees a wrong law only where a change of the parameters would mend it.
    ``jacobian``         the density against that of the noise, changed by ``forward``, where there is an ``inverse``
    ``density``          the registered ``log_prob`` against the distribution's own
    ``inverse``          inverse and forward undo each other
    ``gradient``         of a draw, against finite differences, where it is not a biased one
    ``zero gradient``    of a draw, where none is promised
    ``batch``            parameters in batches are taken elementwise, all of them and one beside others that are not
    ``numbers``          Python numbers are as good as tensors
    ``torch.compile``, ``vmap``, ``double backward``  unless the family's ``limits`` say otherwise

    The law is checked in float32 and float64; a right transform fails one such check once in a million.

    Args:
        family: a class, or the name of a public one. One that holds other distributions is drawn from through the
            compiler, and checked for its law and its gradients.
        settings: what the constructor is given, as ``{"loc": 0.0, "scale": 2.0}``, for one distribution without batch
            dims. Floats and lists become tensors of the dtype that is checked; everything else stays as it is.
        cdf: ``cdf(value, **setting)``, the exact distribution function of a family on the line, for a tensor of values
            in float64 (SciPy's take ``value.numpy()``).
        log_prob: ``log_prob(value, **setting)``; by default the distribution's own.
        make: ``make(**setting)`` constructs the distribution; by default the class does. With it, a setting may be
            numbers from which the distributions inside are made.
        variant: the name of another construction of the family.
        draws: in each check of a law.
        seed: of the noise.
        skip: names of checks to leave out.
    Errors:
        ValueError for a family that is not known, and for a check of an unknown name.
    """
    if unknown := set(skip) - set(CHECKS):
        raise ValueError(f"there is no check {', '.join(sorted(unknown))}; there are {', '.join(CHECKS)}")
    name = family if isinstance(family, str) else family_of(family)
    constructor = make or (getattr(dist, family) if isinstance(family, str) else family)
    checks = list[FamilyCheck]()
    for number, setting in enumerate([settings] if isinstance(settings, Mapping) else settings):
        with preserved(), pyro.validation_enabled(False):
            torch.manual_seed(seed)
            laws = [
                _law_of(name, constructor, dict(setting), dtype, variant) for dtype in (torch.float32, torch.float64)
            ]
            for law in laws:
                checks += law.run(number, Oracle(cdf, log_prob), draws, seed, frozenset(skip))
    return FamilyReport(name if variant is None else f"{name} ({variant})", tuple(checks))


def _law_of(
    name: str, make: Callable[..., Any], setting: dict[str, Any], dtype: torch.dtype, variant: str | None
) -> Law:
    if (entry := NOISE_TRANSFORMS.get(name)) is not None:
        return Transformed(name, make, setting, dtype, entry.variants[variant] if variant else entry)
    if name not in COMPOSITIONS:
        raise ValueError(f"nothing is known of the family {name}: register it first, by dgmcompile.register")
    return Composed(name, make, setting, dtype)
