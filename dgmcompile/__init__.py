"""dgmcompile: a compiler for deep directed graphical models.

Names are loaded when they are first used, so that ``import dgmcompile`` and ``--help`` load no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dgmcompile.api import (
        DGM,
        Distillation,
        FamilyCheck,
        FamilyReport,
        FullReparam,
        PairDGM,
        Registered,
        auxiliary,
        check,
        check_family,
        compact,
        compile,
        pair,
        parse,
        register,
        register_composition,
        register_divergence,
        semi_auxiliary,
        site,
        target,
        to_fx,
        to_pyro,
        trace,
    )
    from dgmcompile.diagnostics import CompileError, Diagnostic

__all__ = [
    "DGM",
    "CompileError",
    "Diagnostic",
    "Distillation",
    "FamilyCheck",
    "FamilyReport",
    "FullReparam",
    "PairDGM",
    "Registered",
    "auxiliary",
    "check",
    "check_family",
    "compact",
    "compile",
    "pair",
    "parse",
    "register",
    "register_composition",
    "register_divergence",
    "semi_auxiliary",
    "site",
    "target",
    "to_fx",
    "to_pyro",
    "trace",
]

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'dgmcompile' has no attribute {name!r}")
    home = "dgmcompile.diagnostics" if name in ("CompileError", "Diagnostic") else "dgmcompile.api"
    return getattr(import_module(home), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
