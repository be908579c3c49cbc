"""``dgmcompile``: arguments in, pipeline, files out. Nothing here loads torch before a command runs."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from dgmcompile.diagnostics import CompileError
    from dgmcompile.pipeline import Transformed
    from dgmcompile.replay import CheckReport
    from dgmcompile.report import Report

app = typer.Typer(
    name="dgmcompile",
    help="A compiler for deep directed graphical models written in Pyro.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)

REFUSED, WRONG_USAGE = 1, 2

Model = Annotated[str, typer.Argument(metavar="FILE[:NAME]", help="Python file; the model is `model` unless named.")]
Targets = Annotated[
    list[str] | None, typer.Option("--target", metavar="SITE", help="A target site; by default the observed ones.")
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


@app.callback(invoke_without_command=True)
def version(
    show: Annotated[bool, typer.Option("--version", help="Print the version.", is_eager=True)] = False,
) -> None:
    if show:
        from dgmcompile import __version__

        print(__version__)
        raise typer.Exit


@app.command()
def transform(
    model: Model,
    student: Annotated[
        str | None, typer.Option(metavar="FILE[:NAME]", help="The student; by default `student` beside the model.")
    ] = None,
    out: Annotated[Path, typer.Option("-o", "--out", metavar="DIR", help="Folder for the results.")] = Path("dgm_out"),
    target: Targets = None,
    keep: Annotated[
        list[str] | None, typer.Option(metavar="SITE", help="A latent to leave random (may be repeated).")
    ] = None,
    match: Annotated[
        list[str] | None,
        typer.Option(metavar="SITE=SITE", help="Teacher's site = student's; `SITE=` leaves one unmatched."),
    ] = None,
    method: Annotated[str, typer.Option(help="surrogate, local or marginalised.")] = "surrogate",
    latent_weight: Annotated[float | None, typer.Option(help="Weight of the latents' loss terms.")] = None,
    divergence: Annotated[str, typer.Option(help="kl, reverse_kl, js, wasserstein2 or cross_entropy.")] = "kl",
    explain: Annotated[bool, typer.Option("--explain", help="Say what each pass did with each node, and why.")] = False,
    as_json: Json = False,
) -> None:
    """Write MODEL's graphs, its semi-auxiliary form as PyTorch, and with a student the distillation loss."""
    from dgmcompile import pipeline
    from dgmcompile.diagnostics import CompileError
    from dgmcompile.distill.losses import LossOptions

    _require_one_of("--method", method, ("surrogate", "local", "marginalised"))
    with _progress() as progress:
        try:
            result = pipeline.transform(
                model,
                out,
                student=student,
                targets=target or None,
                keep=keep or (),
                match=_matches(match or []),
                method=method,  # type: ignore[arg-type]
                options=LossOptions(latent_weight=latent_weight, divergence=divergence),
                progress=progress,
            )
        except CompileError as error:
            _refuse(error)
        except OSError as error:
            _wrong_usage(f"cannot write to {str(out)!r}: {error.strerror or error}")
    _show_transformed(result, explain, as_json)


@app.command()
def check(model: Model, target: Targets = None, as_json: Json = False) -> None:
    """Replay MODEL: is the compiled form the same program, site by site, at another batch size?"""
    from dgmcompile.diagnostics import CompileError
    from dgmcompile.frontends.load import load
    from dgmcompile.replay import check as replay

    with _progress() as progress:
        try:
            progress("loading")
            program = load(model)
            progress("recording and replaying")
            report = replay(program.model, program.example_inputs, targets=target or None)
        except CompileError as error:
            _refuse(error)
    _show_checked(report, as_json)
    if not report.ok:
        raise typer.Exit(REFUSED)


def main() -> None:
    """The command ``dgmcompile``: exit code 0, 1 for a program that is refused, 2 for wrong usage."""
    app()


# what is printed


def _progress() -> Any:
    """A status line on standard error, where that is a terminal."""
    console = Console(stderr=True)
    status = console.status("")

    class Progress:
        def __enter__(self) -> Any:
            status.start()
            return lambda stage: status.update(escape(stage))

        def __exit__(self, *_: object) -> None:
            status.stop()

    return Progress()


def _refuse(error: CompileError) -> NoReturn:
    print(error, file=sys.stderr)
    usage = {"no-file"}
    raise typer.Exit(WRONG_USAGE if {d.code for d in error.diagnostics} <= usage else REFUSED)


def _wrong_usage(message: str) -> NoReturn:
    print(f"error: {message}", file=sys.stderr)
    raise typer.Exit(WRONG_USAGE)


def _require_one_of(option: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        _wrong_usage(f"{option} is one of {', '.join(choices)}, not {value!r}")


def _matches(given: list[str]) -> dict[str, str | None]:
    pairs: dict[str, str | None] = {}
    for text in given:
        teacher, equals, student = text.partition("=")
        if not equals:
            _wrong_usage(f"--match takes SITE=SITE, not {text!r}")
        pairs[teacher] = student or None
    return pairs


def _show_transformed(result: Transformed, explain: bool, as_json: bool) -> None:
    if as_json:
        files = [str(file) for file in result.files]
        print(json.dumps({**result.report.to_json(), "files": files}, indent=2))
        return
    console = Console()
    console.print(_table(result.report))
    print(result.report.summary)
    for guard in result.report.guards:
        print(guard)
    if explain:
        _show_decisions(result)
    print()
    for file in result.files:
        print(f"wrote {file}")


def _table(report: Report) -> Table:
    from dgmcompile.report import COLUMNS, cell

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in COLUMNS.values():
        table.add_column(heading, overflow="fold")
    for row in report.rows:
        table.add_row(*(escape(_printable(cell(row, column))) for column in COLUMNS))
    return table


def _printable(text: str) -> str:
    """Site names are data: no control character of theirs reaches the terminal."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def _show_decisions(result: Transformed) -> None:
    print()
    for decision in result.graphs["compact"].history:
        print(_printable(f"{decision.stage}: {decision.action} {decision.node}: {decision.reason}"))


def _show_checked(report: CheckReport, as_json: bool) -> None:
    from dataclasses import asdict

    if as_json:
        print(json.dumps({**asdict(report), "ok": report.ok}, indent=2))
        return
    print("\n".join(_printable(line) for line in str(report).split("\n")))
    sizes = ", ".join(f"{name} = {size}" for name, size in report.sizes.items())
    print(
        f"{report.name}: {'the same program' if report.ok else 'NOT the same program'}{', at ' if sizes else ''}{sizes}"
    )
