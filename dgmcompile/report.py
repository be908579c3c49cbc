"""What was rewritten, site by site, and what was kept and why."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Any

from dgmcompile.distill.losses import LATENT_WEIGHTS, LossOptions, terms_of
from dgmcompile.distill.pair import STUDENT, Pair
from dgmcompile.distill.terms import kind_of
from dgmcompile.ir.graph import Arg, Call, Decision, Graph, Guard, Law, Node, Ref, Sample
from dgmcompile.ir.size import Size
from dgmcompile.passes import Reparameterize, stochastic_depth
from dgmcompile.reparam import COMPOSITIONS, NOISE_TRANSFORMS, STEP_TRANSFORMS


@dataclass(frozen=True)
class SiteRow:
    """One site.

    Args:
        family: of the distribution; the steps of a transformed one stand behind it.
        noise, transform, differentiable: how its value is made from noise; "" and None where it is still random.
        kept: is it still random?
        reason: why it is as it is, where the other fields do not say that already.
        line: ``file:line`` of the site.
    """

    site: str
    role: str
    family: str
    noise: str
    transform: str
    differentiable: bool | None
    kept: bool
    reason: str
    line: str


@dataclass(frozen=True)
class GuardRow:
    """What the compiled form checks of its arguments, and why."""

    condition: str
    reason: str

    @classmethod
    def of(cls, guard: Guard, graph: Graph) -> GuardRow:
        what = guard.read(".".join(map(str, guard.path)))
        if isinstance(guard.expected, slice):
            low, high = guard.expected.start, guard.expected.stop
            above = "" if low is None else f"{low} <= "
            return cls(f"{what} >= {low}" if high is None else f"{above}{what} < {high}", guard.reason)
        return cls(f"{what} == {_expected(guard.expected, graph)}", guard.reason)

    def __str__(self) -> str:
        return printable(f"guard: {self.condition} ({self.reason})")


def _expected(value: Arg, graph: Graph) -> str:
    if isinstance(value, Ref):
        return _size_words(value.name, graph)
    return value.format(lambda name: _size_words(name, graph)) if isinstance(value, Size) else repr(value)


def _size_words(name: str, graph: Graph) -> str:
    """A size as the user would write it: ``x.shape[0]``."""
    if name not in graph:
        return name
    node = graph[name]
    if isinstance(node, Call) and node.target == "size" and isinstance(node.args[0], Ref):
        return f"{node.args[0].name}.shape[{node.args[1]}]"
    return name


@dataclass(frozen=True)
class Measure:
    """Nodes of the graph, and the longest chain of random variables that feed one another."""

    nodes: int
    stochastic_depth: int

    @classmethod
    def of(cls, graph: Graph) -> Measure:
        return cls(len(graph), stochastic_depth(graph))


@dataclass(frozen=True)
class Report:
    """Rows by site, the size of the graph before and after, what was taken as fixed, what the passes did."""

    name: str
    sites: tuple[SiteRow, ...]
    before: Measure
    after: Measure
    guards: tuple[GuardRow, ...]
    decisions: tuple[Decision, ...] = ()

    @classmethod
    def of(cls, graph: Graph, original: Graph | None = None) -> Report:
        """Of ``graph``, whose sites were those of ``original`` before any pass."""
        original = original or graph
        reasons = _reasons(graph)
        sites = {node.site.name: node for node in original if node.site}
        rows = tuple(
            _row(node, sites.get(node.site.name, node), reasons.get(node.name, "")) for node in graph if node.site
        )
        guards = tuple(GuardRow.of(guard, graph) for guard in graph.guards)
        return cls(graph.name, rows, Measure.of(original), Measure.of(graph), guards, graph.history)

    def to_json(self) -> dict[str, Any]:
        """Plain data, for ``report.json``."""
        return {
            "name": self.name,
            "sites": [asdict(row) for row in self.sites],
            "before": asdict(self.before),
            "after": asdict(self.after),
            "guards": [asdict(guard) for guard in self.guards],
        }

    def __str__(self) -> str:
        return "\n".join([*_table(self.sites), "", self.summary, *map(str, self.guards)])

    @property
    def summary(self) -> str:
        """Nodes and stochastic depth, before and after."""
        a, b = self.before, self.after
        return (
            f"{self.name}: {a.nodes} nodes -> {b.nodes}, stochastic depth {a.stochastic_depth} -> {b.stochastic_depth}"
        )

    def decisions_as_data(self) -> list[dict[str, str]]:
        """Of every pass on every node."""
        return [asdict(decision) for decision in self.decisions]

    @property
    def explanation(self) -> str:
        """What each pass rewrote, and why the sites that it kept were kept."""
        sites = {row.site for row in self.sites}
        told = [d for d in self.decisions if d.action == "rewrite" or d.node in sites]
        return "\n\n".join(_explained(stage, list(group)) for stage, group in groupby(told, lambda d: d.stage))


@dataclass(frozen=True)
class TermRow:
    """One term of a distillation loss."""

    term: str
    site: str
    student_site: str
    family: str
    student_family: str
    divergence: str
    weight: float
    line: str


@dataclass(frozen=True)
class PairReport:
    """What the loss compares, and which sites stand alone."""

    method: str
    terms: tuple[TermRow, ...]
    unmatched: tuple[str, ...]

    @classmethod
    def of(cls, pair: Pair, options: LossOptions) -> PairReport:
        """Of ``pair``, for whose loss these are the options."""
        terms = tuple(_terms(pair, options))
        compared = {law.name for site in pair.compared for law in (site.teacher, site.student)}
        sites = (node for node in pair if node.site and node.site.role != "deterministic")
        return cls(pair.method, terms, tuple(node.name for node in sites if node.name not in compared))

    def to_json(self) -> dict[str, Any]:
        """Plain data, for ``report.json``."""
        return {
            "method": self.method,
            "terms": [asdict(term) for term in self.terms],
            "unmatched": list(self.unmatched),
        }

    def __str__(self) -> str:
        cells = [
            (t.site, t.student_site, t.family, t.student_family, t.term, t.divergence, f"{t.weight:g}")
            for t in self.terms
        ]
        rows = [tuple(map(printable, row)) for row in cells]
        heading = ("site", "student's site", "family", "student's family", "loss term", "divergence", "weight")
        lines = _aligned([heading, *(_runs(rows) if len(rows) > LONG_TABLE else rows)])
        alone = [f"unmatched: {printable(', '.join(self.unmatched))}"] if self.unmatched else []
        return "\n".join([*lines, *alone])


def _terms(pair: Pair, options: LossOptions) -> Iterator[TermRow]:
    for site in (site for sites in terms_of(pair, options).values() for site in sites):
        p, q = site.teacher, site.student
        if not p.site or not q.site:
            continue
        yield TermRow(
            term=kind_of(site),
            site=site.name,
            student_site=q.site.name.removeprefix(STUDENT),
            family=p.family,
            student_family=q.family,
            divergence=options.divergence_of(site),
            weight=options.weight(site, LATENT_WEIGHTS[pair.method]),
            line=str(p.location or ""),
        )


COLUMNS: Mapping[str, str] = {
    "site": "site",
    "family": "family",
    "noise": "noise law",
    "transform": "transform",
    "differentiable": "differentiable",
    "reason": "why",
}
"""Field of `SiteRow` -> heading."""

LONG_TABLE = 24
"""With more rows than these, sites that differ in a number only (``z_1``, ``z_2``, ...) share one."""


def printable(text: str) -> str:
    """Site names are data: no control character of theirs reaches a terminal."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


# rows


def _reasons(graph: Graph) -> dict[str, str]:
    """The last word on each node that the row does not say by itself."""
    if not graph.history:
        return {node.name: "not rewritten yet" for node in graph.samples}
    return {d.node: d.reason for d in graph.history if not _is_plain(d)}


def _is_plain(decision: Decision) -> bool:
    """Family, noise law and transform say it; a call that a later pass keeps needs no reason."""
    if decision.stage == Reparameterize.name:
        return decision.action == "rewrite" or decision.reason == "not a random variable"
    return decision.action == "keep"


def _row(node: Node, original: Node, reason: str) -> SiteRow:
    assert node.site is not None
    site, line = node.site, str(node.location or "")
    family = site.family
    if isinstance(original, Sample):
        family = " + ".join([original.family, *(step.name for step in original.transforms)])
    if isinstance(node, Sample):
        return SiteRow(site.name, site.role, family, "", "", None, True, reason, line)
    law = original.law if isinstance(original, Sample) else Law(family=site.family, params={})
    if site.role == "deterministic" or (law.family not in NOISE_TRANSFORMS and law.family not in COMPOSITIONS):
        why = reason or ("deterministic" if site.role == "deterministic" else "")
        return SiteRow(site.name, site.role, family, "", "", None, False, why, line)
    noise = ", ".join(_noise_laws(law))
    transform = f"= {node.inputs[0]}" if isinstance(node, Call) and node.target == "identity" else _transform(law)
    return SiteRow(site.name, site.role, family, noise, transform, _is_differentiable(law), False, reason, line)


def _parts(law: Law) -> list[Law]:
    return [part for part in law.params.values() if isinstance(part, Law)]


def _noise_laws(law: Law) -> list[str]:
    """Of all that is drawn for one value."""
    if (composition := COMPOSITIONS.get(law.family)) is None:
        return [source.law.name for source in NOISE_TRANSFORMS[law.family].noises]
    also = [source.law.name for family in composition.also for source in NOISE_TRANSFORMS[family].noises]
    return [*also, *(name for part in _parts(law) for name in _noise_laws(part))]


def _is_differentiable(law: Law) -> bool:
    if (composition := COMPOSITIONS.get(law.family)) is None:
        return NOISE_TRANSFORMS[law.family].differentiable
    return composition.differentiable and all(map(_is_differentiable, _parts(law)))


def _transform(original: Law) -> str:
    """The functions that make the value."""
    family, composition = NOISE_TRANSFORMS.get(original.family), COMPOSITIONS.get(original.family)
    base = family.forward.name if family else composition.formulas[-1].name if composition else ""
    steps = (STEP_TRANSFORMS.get(step.name) for step in original.transforms)
    names = [known.forward.name if known else step.name for known, step in zip(steps, original.transforms, strict=True)]
    return ", ".join([base, *names])


# text


def cell(row: SiteRow, column: str) -> str:
    """One entry of the table as text."""
    value = getattr(row, column)
    if column == "differentiable":
        return {True: "yes", False: "no", None: "-"}[value]
    return printable(value or ("" if column == "reason" else "-"))


def _table(rows: tuple[SiteRow, ...]) -> list[str]:
    cells = [tuple(cell(row, column) for column in COLUMNS) for row in rows]
    if len(cells) > LONG_TABLE:
        cells = list(_runs(cells))
    return _aligned([tuple(COLUMNS.values()), *cells])


def _aligned(lines: list[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return ["  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip() for line in lines]


def _runs(lines: Iterable[tuple[str, ...]]) -> Iterator[tuple[str, ...]]:
    """Lines whose site names differ in one number only, and that say the same, as one line."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for site, *rest in lines:
        stem = re.sub(r"\d+$", "#", site)
        said = tuple(text.replace(site, stem) for text in rest)
        groups.setdefault((stem, *said), []).append(site)
    for (stem, *said), sites in groups.items():
        if len(sites) == 1:
            yield (sites[0], *(text.replace(stem, sites[0]) for text in said))
        else:
            yield (f"{sites[0]} ... {sites[-1]}", *said)


def _explained(stage: str, decisions: list[Decision]) -> str:
    rewrites = sum(decision.action == "rewrite" for decision in decisions)
    kept = len(decisions) - rewrites
    counts = [f"{rewrites} rewritten" if rewrites else "nothing to rewrite", *([f"{kept} kept"] if kept else [])]
    lines = [(printable(d.node), d.action, printable(d.reason)) for d in decisions]
    if len(lines) > LONG_TABLE:
        lines = list(_runs(lines))
    return "\n".join([f"{stage}: {', '.join(counts)}", *(f"  {line}" for line in (_aligned(lines) if lines else []))])
