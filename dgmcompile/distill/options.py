"""What the user chooses of a loss, and whether it can be had."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

from dgmcompile.diagnostics import CompileError, Diagnostic, Location
from dgmcompile.distill.divergences import DEFAULT, NAMES, divergence
from dgmcompile.distill.pair import Pair, PairedSite
from dgmcompile.distill.terms import Reduction
from dgmcompile.ir.site_options import wrong_options

LATENT_WEIGHTS: Mapping[str, float] = {"surrogate": 0.1, "local": 1.0, "marginalised": 0.0}
"""Weight of each latent's term where the caller gives none, by the pair's method."""

REDUCTIONS = ("sum", "mean")


@dataclass(frozen=True)
class LossOptions:
    """How the terms are made and weighed; each is one value, or a mapping from site to value.

    Args:
        latent_weight: of each latent's term; 0 leaves the term out. By default `LATENT_WEIGHTS`.
        target_weight: of each target's term.
        divergence: a name in `divergences.NAMES`.
        reduction: over event dims, ``sum`` or ``mean``; dims that the family takes as one are not averaged.
        temperature: of ``cross_entropy`` between classes.
    """

    latent_weight: float | Mapping[str, float] | None = None
    target_weight: float | Mapping[str, float] = 1.0
    divergence: str | Mapping[str, str] = DEFAULT
    reduction: Reduction | Mapping[str, Reduction] = "sum"
    temperature: float | Mapping[str, float] | None = None

    def weight(self, site: PairedSite, latent_default: float) -> float:
        """Of this site's term; ``latent_default`` is the pair's of `LATENT_WEIGHTS`."""
        default = 1.0 if site.role == "target" else latent_default
        given = self.target_weight if site.role == "target" else self.latent_weight
        return float(_chosen(default if given is None else given, site, "weight", default))

    def divergence_of(self, site: PairedSite) -> str:
        """Name of the divergence of this site's term."""
        return _chosen(self.divergence, site, "divergence", DEFAULT)

    def reduction_of(self, site: PairedSite) -> Reduction:
        """How this site's term is reduced over event dims."""
        return _chosen(self.reduction, site, "reduction", "sum")

    def temperature_of(self, site: PairedSite) -> float | None:
        """Of this site's term, if there is one."""
        return _chosen(self.temperature, site, "", None)


def _chosen(given: Any, site: PairedSite, option: str, default: Any) -> Any:
    """By the caller for this site, by the model (the teacher's word first), by the caller for all sites."""
    own = site.teacher.options.get(option, site.student.options.get(option))
    if isinstance(given, Mapping):
        return cast(Mapping[str, Any], given).get(site.name, default if own is None else own)
    return given if own is None else own


def check_options(pair: Pair, options: LossOptions) -> None:
    """
    Errors:
        `CompileError` ``unknown-site`` for an option of a site that is not compared, ``unknown-divergence``,
        and ``loss-option`` for a value that makes no sense (``unknown-option`` for one of the model's), all at once.
    """
    problems = [*_unknown_sites(pair, options), *_unknown_words(options), *_bad_numbers(options), *_of_models(pair)]
    problems = problems or [*_wrong_roles(pair, options), *_unused_temperature(pair, options)]
    if problems:
        raise CompileError(*problems)


def _unknown_sites(pair: Pair, options: LossOptions) -> Iterator[Diagnostic]:
    known = sorted(site.name for site in pair.compared)
    given = [name for value in vars(options).values() if isinstance(value, Mapping) for name in _names(value)]
    for name in dict.fromkeys(given):
        if name not in known:
            yield Diagnostic(
                code="unknown-site",
                message=f"{name!r} is no site that the pair compares",
                notes=(f"sites: {', '.join(map(repr, known))}",),
                help="name a site of the teacher",
            )


def _names(mapping: Any) -> list[str]:
    return list(cast(Mapping[str, Any], mapping))


def _values(given: Any) -> list[Any]:
    return list(cast(Mapping[str, Any], given).values()) if isinstance(given, Mapping) else [given]


def _unknown_words(options: LossOptions) -> Iterator[Diagnostic]:
    for name in dict.fromkeys(_values(options.divergence)):
        if name not in NAMES:
            yield _unknown_divergence(name)
    for word in dict.fromkeys(_values(options.reduction)):
        if word not in REDUCTIONS:
            yield _bad(f"there is no reduction {word!r}", "choose 'sum' or 'mean'")


def _of_models(pair: Pair) -> Iterator[Diagnostic]:
    """What the models themselves choose."""
    for law in (law for site in pair.compared for law in (site.teacher, site.student)):
        name = law.site.name if law.site is not None else law.name
        yield from wrong_options(name, law.options, law.location)
        divergence = law.options.get("divergence", DEFAULT)
        if isinstance(divergence, str) and divergence not in NAMES:
            yield _unknown_divergence(divergence, law.location)


def _unknown_divergence(name: str, location: Location | None = None) -> Diagnostic:
    return Diagnostic(
        code="unknown-divergence",
        message=f"there is no divergence {name!r}",
        location=location,
        notes=(f"divergences: {', '.join(NAMES)}",),
        help="choose one of these",
    )


def _bad_numbers(options: LossOptions) -> Iterator[Diagnostic]:
    for option in ("latent_weight", "target_weight", "temperature"):
        for number in _values(getattr(options, option)):
            if number is None:
                continue
            usable = isinstance(number, int | float) and math.isfinite(number) and number >= 0
            if not usable or (option == "temperature" and number == 0):
                least = "above 0" if option == "temperature" else "at least 0"
                yield _bad(f"{option} {number!r} is no finite number {least}", "give such a number")


def _wrong_roles(pair: Pair, options: LossOptions) -> Iterator[Diagnostic]:
    roles = {site.name: site.role for site in pair.compared}
    for option, role, other in (("latent_weight", "latent", "target"), ("target_weight", "target", "latent")):
        given = getattr(options, option)
        for name in _names(given) if isinstance(given, Mapping) else []:
            if roles[name] != role:
                yield _bad(f"{option} names {name!r}, which is a {other}", f"its weight is {other}_weight")


def _unused_temperature(pair: Pair, options: LossOptions) -> Iterator[Diagnostic]:
    """One for all sites may be meant for some of them; one by name is meant."""
    if options.temperature is None:
        return
    takes = {site.name: _takes_temperature(site, options) for site in pair.compared}
    named = _names(options.temperature) if isinstance(options.temperature, Mapping) else []
    unused = [name for name in named if not takes[name]]
    if not named and not any(takes.values()):
        unused = list(takes)
    for name in unused:
        yield _bad(
            f"site {name!r} is given a temperature, which its divergence does not take",
            "cross_entropy takes one, of Bernoulli and categorical laws",
        )


def _takes_temperature(site: PairedSite, options: LossOptions) -> bool:
    found = divergence(options.divergence_of(site), site.teacher.family, site.student.family)
    return found is not None and "temperature" in found.options


def _bad(message: str, way_out: str) -> Diagnostic:
    return Diagnostic(code="loss-option", message=message, help=way_out)
