"""What the page of families shows and nobody can read from the registry: which oracle, how close, and `AutoReparam`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import dgmcompile as dgm
from dgmcompile.family_checks import CHECKS
from dgmcompile.reparam import COMPOSITIONS, NOISE_TRANSFORMS
from tests.reparam.checking import ALONE, LIBRARY_IS_WRONG, cdf_of, report_of, report_of_composition

FILE = Path(__file__).parents[2] / "docs" / "families.json"

OF_THE_LAW = ("law", "jacobian", "score")
"""Checks of the law, the strongest first."""


def measured(family: str) -> list[dict[str, Any]]:
    """Each check of the law: its oracle, and the error that came closest to its limit at any setting of any variant."""
    if family in ALONE:
        return []
    others = tuple(name for name in CHECKS if name not in OF_THE_LAW)
    if family in COMPOSITIONS:
        reports = [report_of_composition(family, skip=others)]
    else:
        reports = [report_of(family, variant, skip=others) for variant in (None, *NOISE_TRANSFORMS[family].variants)]
    worst = [_worst(reports, name) for name in OF_THE_LAW]
    return [_row(family, check) for check in worst if check is not None]


def _worst(reports: list[dgm.FamilyReport], name: str) -> dgm.FamilyCheck | None:
    checks = [check for report in reports if (check := report.worst(name)) is not None]
    return max(checks, key=lambda check: check.error, default=None)


def _row(family: str, check: dgm.FamilyCheck) -> dict[str, Any]:
    oracle, unit = _words(family, check.name)
    numbers = {"error": float(f"{check.statistic:.2g}"), "limit": float(f"{check.limit:.2g}")}
    return {"check": check.name, "oracle": oracle, "unit": unit, **numbers}


def _words(family: str, check: str) -> tuple[str, str]:
    """What the draws are compared with, and what is measured."""
    density = "our density" if family in LIBRARY_IS_WRONG else "density"
    transform = NOISE_TRANSFORMS.get(family)
    if check != "law":
        return density, {"jacobian": "log-density", "score": "score"}[check]
    exact = transform is not None and cdf_of(family) is not None
    oracle = "distribution function" if exact else density
    return oracle, "chi-square" if transform is None or transform.discrete else "Kolmogorov-Smirnov"


def stored() -> dict[str, Any]:
    """What was measured when the page was last made."""
    return json.loads(FILE.read_text(encoding="utf-8"))
