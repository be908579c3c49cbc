"""The one place that puts the stages in order: program -> graphs -> forms -> code, pictures, files."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import torch
from torch import fx, nn

from dgmcompile.codegen import compile_graph, source_of
from dgmcompile.codegen.fx import fx_module
from dgmcompile.diagnostics import CompileError, Diagnostic
from dgmcompile.distill.losses import LossOptions, overview, with_losses
from dgmcompile.distill.pair import STUDENT, TEACHER, Match, Method, Pair, pair_graphs
from dgmcompile.frontends.load import loading
from dgmcompile.frontends.trace import trace
from dgmcompile.ir.graph import Graph, Loop
from dgmcompile.passes import compact, lower, semi_auxiliary
from dgmcompile.passes.hoisting import hoisted
from dgmcompile.passes.loops import distributed
from dgmcompile.passes.splitting import split
from dgmcompile.registration import preserved
from dgmcompile.replay import CheckReport, check
from dgmcompile.report import PairReport, Report
from dgmcompile.viz.dot import dot_of
from dgmcompile.viz.page import page_of
from dgmcompile.viz.picture import Detail
from dgmcompile.viz.render import render, svg_of

FORMS = ("original", "semi_auxiliary", "compact")


def forms_of(graph: Graph, keep: Iterable[str] = ()) -> dict[str, Graph]:
    """The traced graph and its two rewritten forms, in the order of `FORMS`."""
    semi = semi_auxiliary(graph, keep=keep)
    return dict(zip(FORMS, (graph, semi, compact(semi)), strict=True))


def loss_graph(pair: Pair, options: LossOptions | None = None) -> Graph:
    """The pair with its loss terms, compacted."""
    graph = compact(with_losses(pair, options))
    if not any(isinstance(node, Loop) for node in graph):
        return graph
    return compact(hoisted(split(distributed(graph, (TEACHER, STUDENT)))))


def compiled(
    graph: Graph, options: LossOptions | None = None, memory_format: torch.memory_format | None = None
) -> nn.Module:
    """The module that runs the emitted text; of a pair, its loss."""
    return compile_graph(_runnable(graph, options), memory_format)


def emitted(graph: Graph, options: LossOptions | None = None) -> str:
    """The text of one Python file that imports torch and nothing else; of a pair, its loss."""
    return source_of(_runnable(graph, options))


def as_fx(graph: Graph) -> fx.GraphModule:
    """The module's calls as fx nodes."""
    return fx_module(lower(graph))


def _runnable(graph: Graph, options: LossOptions | None) -> Graph:
    return loss_graph(graph, options) if isinstance(graph, Pair) else lower(graph)


@dataclass(frozen=True)
class Transformed:
    """What ``transform`` made: its graphs by name, the reports, and the files written."""

    graphs: Mapping[str, Graph]
    report: Report
    pair: PairReport | None
    files: tuple[Path, ...]

    @property
    def warnings(self) -> tuple[Diagnostic, ...]:
        """What its user should know of the program, and of the student."""
        return tuple(dict.fromkeys(warning for graph in self.graphs.values() for warning in graph.warnings))

    def to_json(self) -> dict[str, Any]:
        """Plain data; ``report.json`` is this, with names of files for paths."""
        return {
            **self.report.to_json(),
            "pair": self.pair and self.pair.to_json(),
            "warnings": [warning.render() for warning in self.warnings],
            "files": [str(file) for file in self.files],
        }


def transform(
    spec: str,
    out: Path,
    *,
    student: str | None = None,
    targets: list[str] | Literal["all"] | None = None,
    keep: Iterable[str] = (),
    match: Match | None = None,
    names: Mapping[str, str] | None = None,
    student_names: Mapping[str, str] | None = None,
    method: Method = "surrogate",
    options: LossOptions | None = None,
    alone: bool = False,
    share_dropout: bool = False,
    roll: bool = False,
    pictures: Iterable[str] = (),
    progress: Callable[[str], None] = lambda stage: None,
) -> Transformed:
    """``FILE[:NAME]`` -> pictures, emitted code and ``report.json`` in the folder ``out``.

    Args:
        student: ``FILE[:NAME]`` of the student; by default ``student`` in the model's file, if there is one.
        targets, keep: names of target sites, and of latents to leave random.
        match, method, options: of the pair.
        names, student_names: of variables and submodules of plain PyTorch, in the model and in the student.
        alone: no student, whatever stands beside the model.
        share_dropout: dropout is noise of the models, if they are plain PyTorch.
        roll: the steps of loops are one body.
        pictures: formats beside SVG, of `PICTURES`.
        progress: is told each stage as it begins.
    Errors:
        `CompileError`; `CannotWrite` where ``out`` is no place to write, or a file of the user's own stands in
        the way. Nothing is written then.
    """
    out, given = out.absolute(), out
    with preserved(), loading() as loader:
        progress("loading")
        program = loader.program(spec)
        pupil = None if alone else loader.student(student) if student else program.student
        if pupil is None and (
            match or student_names or method != "surrogate" or (options or LossOptions()) != LossOptions()
        ):
            raise CompileError(_no_student(spec))
        progress("recording the model")
        record = partial(trace, model_args=program.example_inputs, share_dropout=share_dropout, roll=roll)
        in_eval = pupil is not None and not share_dropout
        graph = record(program.model, targets=targets, names=names, name=program.title, eval_mode=in_eval)
        progress("rewriting")
        graphs = forms_of(graph, keep)
        texts = {f"{program.title}_semi_auxiliary.py": emitted(graphs["compact"])}
        pair, shown = None, dict[str, Graph]()
        if pupil is not None:
            progress("recording the student")
            theirs = targets if targets is None or targets == "all" else _matching(targets, match or {})
            pupil_graph = record(pupil, targets=theirs, names=student_names, name=f"{program.title}_student")
            progress("pairing")
            joint = pair_graphs(graph, pupil_graph, match, method)
            graphs["pair"] = loss_graph(joint, options)
            shown = {"pair": overview(joint, options)}
            pair = PairReport.of(joint, options or LossOptions())
            texts[f"{program.title}_distill.py"] = source_of(graphs["pair"])
    progress("drawing")
    report = Report.of(graphs["compact"], graph)
    drawn = _pictures(graphs, shown, program.title, tuple(pictures))
    files = tuple(given / name for name in (*drawn, *texts, "report.json"))
    result = Transformed(graphs, report, pair, files)
    write_files(out, {**drawn, **texts, "report.json": _report_text(result)})
    return result


def _no_student(spec: str) -> Diagnostic:
    return Diagnostic(
        code="no-student",
        message=f"{spec} has no student, whose loss or names are chosen here",
        help="name the student, --student FILE[:NAME], or call it `student` beside the model",
    )


def check_file(
    spec: str,
    targets: list[str] | Literal["all"] | None = None,
    names: Mapping[str, str] | None = None,
    share_dropout: bool = False,
    roll: bool = False,
    progress: Callable[[str], None] = lambda stage: None,
) -> CheckReport:
    """``FILE[:NAME]`` replayed; see `dgmcompile.replay.check`."""
    with preserved(), loading() as loader:
        progress("loading")
        program = loader.program(spec)
        progress("recording and replaying")
        how: dict[str, Any] = {"names": names, "share_dropout": share_dropout, "roll": roll}
        report = check(program.model, program.example_inputs, targets=targets, **how)
    return replace(report, name=program.title)


def _matching(targets: list[str], match: Match) -> list[str]:
    """The student's names of the teacher's targets."""
    return [match.get(name) or name for name in targets]


DETAILS: Mapping[str, Detail] = {"compact": "random"}
"""What a picture shows: of the compact form each target as p(y_j | y_<j, e, x), latents substituted away."""


PICTURES = ("png", "dot")
"""Formats in which the pictures are written beside SVG, if asked for."""


def _pictures(
    graphs: Mapping[str, Graph], shown: Mapping[str, Graph], title: str, formats: tuple[str, ...]
) -> dict[str, str | bytes]:
    """File name -> content: each graph, as it is ``shown``, as SVG and in the ``formats``, and all on one page."""
    seen = {**graphs, **shown}
    drawn = {name: svg_of(graph, detail=DETAILS.get(name, "variables")) for name, graph in seen.items()}
    pictures: dict[str, str | bytes] = {f"{name}.svg": f"<!-- {MADE_BY} -->\n{svg}\n" for name, svg in drawn.items()}
    dots = {name: dot_of(g, detail=DETAILS.get(name, "variables")) for name, g in seen.items()} if formats else {}
    if "png" in formats:
        pictures.update((f"{name}.png", _signed_png(render(dot, "png"))) for name, dot in dots.items())
    if "dot" in formats:
        pictures.update((f"{name}.dot", f"// {MADE_BY}\n{dot}") for name, dot in dots.items())
    doctype, _, page = page_of(graphs, title, details=DETAILS, shown=shown).partition("\n")
    return {**pictures, "graph.html": f"{doctype}\n<!-- {MADE_BY} -->\n{page}"}


_PNG_HEADER = 8 + 25
"""Bytes of a PNG's signature and of its first chunk, IHDR."""


def _signed_png(png: bytes) -> bytes:
    """The picture with `MADE_BY` in a text chunk."""
    content = b"tEXtSoftware\0" + MADE_BY.encode()
    chunk = struct.pack(">I", len(content) - 4) + content + struct.pack(">I", zlib.crc32(content))
    return png[:_PNG_HEADER] + chunk + png[_PNG_HEADER:]


def _report_text(result: Transformed) -> str:
    data = {"generator": MADE_BY, **result.to_json(), "files": [file.name for file in result.files]}
    return json.dumps(data, indent=2, ensure_ascii=False) + "\n"


# files

MADE_BY = "made by dgmcompile"
"""Stands near the beginning of every file that is written, and so tells ours from the user's."""


class CannotWrite(Exception):
    """The folder cannot be written, or holds a file of the user's own under a name that is needed."""


def write_files(folder: Path, contents: Mapping[str, str | bytes]) -> None:
    """Each file at once and whole; a file of the user's own is never overwritten.

    Errors: `CannotWrite`.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if theirs := [name for name in contents if not _may_write(folder / name)]:
            raise CannotWrite(f"{', '.join(theirs)} stands there already, and was not made by dgmcompile")
        with TemporaryDirectory(dir=folder, prefix=".dgmcompile_") as work:
            for name, content in contents.items():
                (Path(work) / name).write_bytes(content.encode() if isinstance(content, str) else content)
            for name in contents:
                (Path(work) / name).replace(folder / name)
    except OSError as error:
        raise CannotWrite(error.strerror or str(error)) from error


def _may_write(path: Path) -> bool:
    if not path.exists():
        return True
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return b"by dgmcompile" in file.read(2000)
