"""What may be chosen for one site, by ``infer={"dgm": {...}}`` in the model or by the caller."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Set
from typing import Any, cast

from dgmcompile.diagnostics import Diagnostic, Location


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_word(value: object) -> bool:
    return isinstance(value, str)


def _is_flag(value: object) -> bool:
    return isinstance(value, bool)


_VALUES: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "keep": (_is_flag, "True or False"),
    "target": (_is_flag, "True or False"),
    "variant": (_is_word, "a name"),
    "gradient": (_is_word, "a name"),
    "temperature": (lambda value: _is_number(value) and value > 0, "a finite number above 0"),
    "weight": (lambda value: _is_number(value) and value >= 0, "a finite number at least 0"),
    "divergence": (_is_word, "a name"),
    "reduction": (lambda value: value in ("sum", "mean"), "'sum' or 'mean'"),
}
"""Option -> which values it may have, and words for these."""


SITE_OPTIONS = frozenset(_VALUES)
OF_CALLERS = SITE_OPTIONS - {"target"}
"""Those that a caller may choose; targets are named where the program is traced."""


def wrong_options(
    site: str, options: object, location: Location | None = None, known: Set[str] = SITE_OPTIONS
) -> Iterator[Diagnostic]:
    """One for each option that is not among ``known``, or that cannot have its value."""
    if not isinstance(options, Mapping):
        yield _wrong(f"site {site!r} has {options!r} for its options, which is no dict", location, known)
        return
    for name, value in cast(Mapping[Any, Any], options).items():
        if name not in known:
            yield _wrong(f"site {site!r} has the option {name!r}, which there is not", location, known)
            continue
        allows, words = _VALUES[name]
        if not allows(value):
            yield _wrong(f"site {site!r} has the {name} {value!r}, where {words} is meant", location, known)


def _wrong(message: str, location: Location | None, known: Set[str]) -> Diagnostic:
    return Diagnostic(
        code="unknown-option",
        message=message,
        location=location,
        notes=(f"options: {', '.join(sorted(known))}",),
        help="choose one of these, with such a value, or leave it out",
    )
