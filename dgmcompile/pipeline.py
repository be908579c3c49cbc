"""The one place that puts the stages in order: program -> graphs -> forms -> code, pictures, files."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from dgmcompile.codegen import compile_graph, source_of
from dgmcompile.distill.divergences import CLOSED_FORMS, ESTIMATORS, LOG_PROBS
from dgmcompile.distill.losses import LossOptions, with_losses
from dgmcompile.distill.pair import Match, Method, Pair, pair_graphs
from dgmcompile.frontends.load import load
from dgmcompile.frontends.trace import trace
from dgmcompile.ir.formulas import FORMULAS
from dgmcompile.ir.graph import Formula, Graph
from dgmcompile.passes import compact, lower, semi_auxiliary
from dgmcompile.passes.lower import DRAWN
from dgmcompile.reparam import reparam_formulas
from dgmcompile.report import Report
from dgmcompile.viz.page import page_of
from dgmcompile.viz.render import draw

FORMS = ("original", "semi_auxiliary", "compact")


def forms_of(graph: Graph, keep: Iterable[str] = ()) -> dict[str, Graph]:
    """The traced graph and its two rewritten forms, in the order of `FORMS`."""
    semi = semi_auxiliary(graph, keep=keep)
    return dict(zip(FORMS, (graph, semi, compact(semi)), strict=True))


def loss_graph(pair: Pair, options: LossOptions | None = None) -> Graph:
    """The pair with its loss terms, compacted."""
    return compact(with_losses(pair, options))


def compiled(graph: Graph, options: LossOptions | None = None) -> nn.Module:
    """The module that runs the emitted text; of a pair, its loss."""
    return compile_graph(_runnable(graph, options))


def emitted(graph: Graph, options: LossOptions | None = None) -> str:
    """The text of one Python file that imports torch and nothing else; of a pair, its loss."""
    return source_of(_runnable(graph, options))


def _runnable(graph: Graph, options: LossOptions | None) -> Graph:
    return loss_graph(graph, options) if isinstance(graph, Pair) else lower(graph)


def known_formulas() -> dict[str, Formula]:
    """Every formula that a graph may call, by name."""
    closed = (entry.formula for table in CLOSED_FORMS.values() for entry in table.values())
    estimators = (entry.formula for entry in ESTIMATORS.values())
    found = [*FORMULAS.values(), *reparam_formulas(), *closed, *estimators, *LOG_PROBS.values(), DRAWN]
    return {formula.name: formula for formula in found}


@dataclass(frozen=True)
class Transformed:
    """What ``transform`` made: its graphs by name, the report, and the files written."""

    graphs: Mapping[str, Graph]
    report: Report
    files: tuple[Path, ...]


def transform(
    spec: str,
    out: Path,
    *,
    student: str | None = None,
    targets: Any = None,
    keep: Iterable[str] = (),
    match: Match | None = None,
    method: Method = "surrogate",
    options: LossOptions | None = None,
    progress: Callable[[str], None] = lambda stage: None,
) -> Transformed:
    """``FILE[:NAME]`` -> pictures, emitted code and ``report.json`` in the folder ``out``.

    Args:
        student: ``FILE[:NAME]`` of the student; by default ``student`` in the model's file, if there is one.
        targets, keep: names of target sites, and of latents to leave random.
        match, method, options: of the pair.
        progress: is told each stage as it begins.
    Errors:
        `CompileError`; nothing is written then.
    """
    progress("loading")
    program = load(spec)
    pupil = load(student).model if student else program.student
    progress("recording the model")
    paired = pupil is not None
    graph = trace(program.model, program.example_inputs, targets=targets, name=program.file.stem, eval_mode=paired)
    progress("rewriting")
    graphs = forms_of(graph, keep)
    texts = {f"{program.file.stem}_semi_auxiliary.py": emitted(graphs["compact"])}
    if pupil is not None:
        progress("recording the student")
        pupil_graph = trace(pupil, program.example_inputs, targets=targets, name=f"{program.file.stem}_student")
        progress("pairing")
        pair = pair_graphs(graph, pupil_graph, match, method)
        graphs["pair"] = loss_graph(pair, options)
        texts[f"{program.file.stem}_distill.py"] = source_of(graphs["pair"])
    progress("drawing")
    report = Report.of(graphs["compact"], graph)
    return Transformed(graphs, report, tuple(_written(out, program.file.stem, graphs, texts, report)))


def _written(
    out: Path, title: str, graphs: Mapping[str, Graph], texts: Mapping[str, str], report: Report
) -> Iterable[Path]:
    out.mkdir(parents=True, exist_ok=True)
    for name, graph in graphs.items():
        draw(graph, out / f"{name}.svg")
        yield out / f"{name}.svg"
    pages = {"graph.html": page_of(graphs, title), **texts, "report.json": json.dumps(report.to_json(), indent=2)}
    for name, text in pages.items():
        (out / name).write_text(text, encoding="utf-8")
        yield out / name
