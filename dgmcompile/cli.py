"""``dgmcompile``: arguments in, pipeline, files out. Nothing here loads torch before a command runs."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.markup import escape

if TYPE_CHECKING:
    from dgmcompile.diagnostics import CompileError
    from dgmcompile.pipeline import Transformed
    from dgmcompile.replay import CheckReport

app = typer.Typer(
    name="dgmcompile",
    help="A compiler for deep directed graphical models, written in Pyro or in plain PyTorch.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)

REFUSED, WRONG_USAGE = 1, 2

USAGE = frozenset({"no-file", "no-student", "unknown-site"})
"""Diagnostics that blame the command line and not the program."""

OPTIONS_OF_TWO = {
    "--match": "SITE=SITE",
    "--name": "VARIABLE=NAME",
    "--student-name": "VARIABLE=NAME",
}

METHODS = ("surrogate", "local", "marginalised")

Model = Annotated[
    str, typer.Argument(metavar="FILE[:NAME]", help="Python file; the model is `model` unless NAME says otherwise.")
]
Targets = Annotated[
    list[str] | None,
    typer.Option(
        "--target",
        metavar="SITE",
        help="A target site (may be repeated; `all` for all of them). By default the observed sites; "
        "if there are none, those that no other site depends on.",
    ),
]
Names = Annotated[
    list[str] | None,
    typer.Option(
        "--name",
        metavar="VARIABLE=NAME",
        help="Of plain PyTorch: another name for a variable, or one for what a submodule returns (may be repeated).",
    ),
]
ShareDropout = Annotated[
    bool,
    typer.Option(
        "--share-dropout", help="Dropout of plain PyTorch is noise of the model, and not drawn anew by every call."
    ),
]
Roll = Annotated[
    bool,
    typer.Option(
        "--roll", help="Put the steps of loops of Pyro programs together, so that there may be more or fewer."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


@app.callback(invoke_without_command=True)
def version(
    show: Annotated[bool, typer.Option("--version", help="Print the version and exit.", is_eager=True)] = False,
) -> None:
    if show:
        from dgmcompile import __version__

        print(__version__)
        raise typer.Exit


@app.command()
def transform(
    model: Model,
    student: Annotated[
        str | None,
        typer.Option(metavar="FILE[:NAME]", help="The student. By default `student` beside `model`, if there is one."),
    ] = None,
    out: Annotated[Path, typer.Option("-o", "--out", metavar="DIR", help="Folder for the results.")] = Path("dgm_out"),
    target: Targets = None,
    keep: Annotated[
        list[str] | None, typer.Option(metavar="SITE", help="A latent to leave random (may be repeated).")
    ] = None,
    match: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SITE=SITE", help="Teacher's site = student's (may be repeated); `SITE=` leaves one unmatched."
        ),
    ] = None,
    name: Names = None,
    student_name: Annotated[
        list[str] | None, typer.Option(metavar="VARIABLE=NAME", help="The same for the student's (may be repeated).")
    ] = None,
    method: Annotated[str, typer.Option(help=f"{', '.join(METHODS[:-1])} or {METHODS[-1]}.")] = "surrogate",
    latent_weight: Annotated[
        float | None, typer.Option(help="Weight of the latents' loss terms. By default it goes by the method.")
    ] = None,
    divergence: Annotated[str, typer.Option(help="kl, reverse_kl, js, wasserstein2 or cross_entropy.")] = "kl",
    share_dropout: ShareDropout = False,
    roll: Roll = False,
    no_student: Annotated[
        bool, typer.Option("--no-student", help="Leave out the student that stands beside the model.")
    ] = False,
    picture: Annotated[
        list[str] | None, typer.Option(metavar="FORMAT", help="Draw as png or dot too, beside SVG (may be repeated).")
    ] = None,
    explain: Annotated[bool, typer.Option("--explain", help="Say what each pass did to which node, and why.")] = False,
    as_json: Json = False,
) -> None:
    """Write the model's graphs, its semi-auxiliary form as PyTorch, and with a student the distillation loss."""
    _require_one_of("--method", method, METHODS)
    pairs = {teacher: student or None for teacher, student in _renamings("--match", match)}
    if student and no_student:
        _wrong_usage("--student and --no-student exclude each other")
    if out.exists() and not out.is_dir():
        _wrong_usage(f"{str(out)!r} is no folder")
    with _compiling() as progress:
        from dgmcompile import pipeline
        from dgmcompile.distill.divergences import NAMES
        from dgmcompile.distill.losses import LossOptions

        _require_one_of("--divergence", divergence, NAMES)
        for given in picture or ():
            _require_one_of("--picture", given, pipeline.PICTURES)
        try:
            result = pipeline.transform(
                model,
                out,
                student=student,
                targets=_targets(target),
                keep=keep or (),
                match=pairs,
                names=_names("--name", name),
                student_names=_names("--student-name", student_name),
                method=method,  # type: ignore[arg-type]
                options=LossOptions(latent_weight=latent_weight, divergence=divergence),
                alone=no_student,
                share_dropout=share_dropout,
                roll=roll,
                pictures=picture or (),
                progress=progress,
            )
        except pipeline.CannotWrite as error:
            _wrong_usage(f"cannot write to {str(out)!r}: {error}")
    _show_transformed(result, explain, as_json)


@app.command()
def check(
    model: Model,
    target: Targets = None,
    name: Names = None,
    share_dropout: ShareDropout = False,
    roll: Roll = False,
    as_json: Json = False,
) -> None:
    """Is the compiled form the same program? Replay it, site by site, at another batch size."""
    with _compiling() as progress:
        from dgmcompile.pipeline import check_file

        report = check_file(
            model,
            targets=_targets(target),
            names=_names("--name", name),
            share_dropout=share_dropout,
            roll=roll,
            progress=progress,
        )
    _show_checked(report, as_json)
    if not report.ok:
        raise typer.Exit(REFUSED)


def main() -> None:
    """The command ``dgmcompile``: exit code 0, 1 for a program that is refused, 2 for wrong usage."""
    for stream in (sys.stdout, sys.stderr):  # a terminal may not know each letter of a site's name
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    app(prog_name="dgmcompile")


# arguments


def _targets(given: list[str] | None) -> Any:
    return "all" if given == ["all"] else given or None


def _require_one_of(option: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        _wrong_usage(f"{option} is one of {', '.join(choices)}, not {value!r}")


def _names(option: str, given: list[str] | None) -> dict[str, str]:
    return dict(_renamings(option, given))


def _renamings(option: str, given: list[str] | None) -> Iterator[tuple[str, str]]:
    met = set[str]()
    for text in given or ():
        old, equals, new = text.partition("=")
        if not equals or not old:
            _wrong_usage(f"{option} takes {OPTIONS_OF_TWO[option]}, not {text!r}")
        if old in met:
            _wrong_usage(f"{option} names {old!r} twice")
        met.add(old)
        yield old, new


# how it goes


@contextmanager
def _compiling() -> Iterator[Callable[[str], None]]:
    """Progress on standard error, where that is a terminal; a refusal ends the command, with no traceback."""
    from dgmcompile.diagnostics import CompileError

    with Console(stderr=True).status("") as status:
        try:
            yield lambda stage: status.update(escape(stage))
        except CompileError as error:
            refusal = error
        else:
            return
    _refuse(refusal)


def _refuse(error: CompileError) -> NoReturn:
    print(error, file=sys.stderr)
    raise typer.Exit(WRONG_USAGE if {d.code for d in error.diagnostics} <= USAGE else REFUSED)


def _wrong_usage(message: str) -> NoReturn:
    print(f"error: {message}", file=sys.stderr)
    raise typer.Exit(WRONG_USAGE)


# what is printed


def _show_transformed(result: Transformed, explain: bool, as_json: bool) -> None:
    for warning in result.warnings:
        print(warning.render(), file=sys.stderr)
    if as_json:
        decisions = {"decisions": result.report.decisions_as_data()} if explain else {}
        print(json.dumps({**result.to_json(), **decisions}, indent=2))
        return
    print(result.report)
    if result.pair:
        print(f"\n{result.pair}")
    if explain:
        print(f"\n{result.report.explanation}")
    print()
    for file in result.files:
        print(f"wrote {file}")


def _show_checked(report: CheckReport, as_json: bool) -> None:
    from dataclasses import asdict

    from dgmcompile.report import printable

    if as_json:
        print(json.dumps({**asdict(report), "ok": report.ok}, indent=2))
        return
    print("\n".join(map(printable, str(report).split("\n"))))
    verdict = "the same program" if report.ok else "NOT the same program"
    sizes = ", ".join(f"{name} = {size}" for name, size in report.sizes.items())
    print(f"{printable(report.name)}: {verdict}{', at ' if sizes else ''}{printable(sizes)}")
