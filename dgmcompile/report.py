"""What was rewritten, site by site, and what was kept and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from dgmcompile.ir.graph import Call, Graph, Guard, Node, Sample
from dgmcompile.passes import stochastic_depth
from dgmcompile.reparam import NOISE_TRANSFORMS


@dataclass(frozen=True)
class SiteRow:
    """One site. ``transform`` is "" where the site is still random; ``reason`` says why it is as it is."""

    site: str
    role: str
    family: str
    noise: str
    transform: str
    differentiable: bool | None
    reason: str
    line: str


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
    """Rows by site, the size of the graph before and after, and what was taken as fixed."""

    name: str
    rows: tuple[SiteRow, ...]
    before: Measure
    after: Measure
    guards: tuple[str, ...]

    @classmethod
    def of(cls, graph: Graph, original: Graph | None = None) -> Report:
        reasons = {decision.node: decision.reason for decision in graph.history}
        rows = tuple(_row(node, reasons.get(node.name, "")) for node in graph if node.site is not None)
        guards = tuple(guard_text(guard) for guard in graph.guards)
        return cls(graph.name, rows, Measure.of(original or graph), Measure.of(graph), guards)

    def to_json(self) -> dict[str, Any]:
        """Plain data, for ``report.json``."""
        return asdict(self)

    def __str__(self) -> str:
        return "\n".join([*_table(self.rows), "", self.summary, *self.guards])

    @property
    def summary(self) -> str:
        """Nodes and stochastic depth, before and after."""
        a, b = self.before, self.after
        return (
            f"{self.name}: {a.nodes} nodes -> {b.nodes}, stochastic depth {a.stochastic_depth} -> {b.stochastic_depth}"
        )


COLUMNS: Mapping[str, str] = {
    "site": "site",
    "family": "family",
    "noise": "noise law",
    "transform": "transform",
    "differentiable": "gradient",
    "reason": "why",
}
"""Field of `SiteRow` -> heading."""


def cell(row: SiteRow, column: str) -> str:
    """One entry of the table as text."""
    value = getattr(row, column)
    if column == "differentiable":
        return {True: "yes", False: "zero", None: "-"}[value]
    return value or "-"


def _table(rows: tuple[SiteRow, ...]) -> list[str]:
    lines = [list(COLUMNS.values())] + [[cell(row, column) for column in COLUMNS] for row in rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(COLUMNS))]
    return ["  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip() for line in lines]


def _row(node: Node, reason: str) -> SiteRow:
    assert node.site is not None
    site, line = node.site, str(node.location or "")
    entry = NOISE_TRANSFORMS.get(site.family)
    if isinstance(node, Sample) or site.role == "deterministic" or entry is None:
        return SiteRow(site.name, site.role, site.family, "", "", None, reason, line)
    noise = ", ".join(source.law.name for source in entry.noises)
    return SiteRow(site.name, site.role, site.family, noise, _transform(node), entry.differentiable, reason, line)


def _transform(node: Node) -> str:
    if not isinstance(node, Call):
        return ""
    if node.target == "identity":
        return f"= {node.inputs[0]}"
    return node.target_name.removeprefix("torch.")


def guard_text(guard: Guard) -> str:
    """What the compiled form checks of its arguments, in words."""
    what = ".".join(map(str, guard.path)) + ("" if guard.dim is None else f".shape[{guard.dim}]")
    return f"guard: {what} == {guard.expected!r} ({guard.reason})"
