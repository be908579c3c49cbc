"""How a diagnostic is laid out."""

from pathlib import Path

import pytest

from dgmcompile.diagnostics import CompileError, Diagnostic, Location

TEXT = "first\n\tz = sample(x)\né = sample(y)\n"


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "models" / "net.py"
    path.parent.mkdir()
    path.write_text(TEXT, encoding="utf-8")
    return str(path)


def test_everything_at_its_place(file: str):
    shown = Diagnostic(
        code="value-branch",
        message="the value of site 'z' decides a branch",
        location=Location(file, 3, 5, 14),
        notes=("one", "two"),
        help="use torch.where",
    ).render()
    assert shown == (
        "models/net.py:3:5: error[value-branch]: the value of site 'z' decides a branch\n"
        "  3 | é = sample(y)\n"
        "    |     ^^^^^^^^^\n"
        "  note: one\n"
        "  note: two\n"
        "  help: use torch.where"
    )


def test_carets_stand_below_tabs(file: str):
    lines = Diagnostic(code="a", message="b", location=Location(file, 2, 6, 15)).render().splitlines()
    assert lines[1:] == ["  2 | \tz = sample(x)", "    | \t    ^^^^^^^^^"]


def test_to_the_end_of_the_line_where_the_expression_goes_on(file: str):
    lines = Diagnostic(code="a", message="b", location=Location(file, 3, 5)).render().splitlines()
    assert lines[2] == "    |     ^^^^^^^^^"


def test_without_a_place_or_a_source():
    assert Diagnostic(code="a", message="b").render() == "error[a]: b"
    gone = Diagnostic(code="a", message="b", location=Location("/gone/model.py", 3, 5), severity="warning")
    assert gone.render() == "model.py:3:5: warning[a]: b"


def test_nothing_reaches_the_terminal_but_text(tmp_path: Path):
    hostile = "\x1b[31m\nerror: fake\r"
    path = tmp_path / "model.py"
    path.write_text("x = '\x1b[31m'\n")
    shown = Diagnostic(
        code="a", message=hostile, notes=(hostile,), help=hostile, location=Location(str(path), 1)
    ).render()
    assert "\x1b" not in shown and "\r" not in shown
    assert len(shown.splitlines()) == 5


def test_an_error_lists_all_in_the_order_of_the_source(file: str):
    later, earlier = (Diagnostic(code="a", message=f"line {n}", location=Location(file, n)) for n in (3, 1))
    error = CompileError(later, earlier)
    assert error.diagnostics == (earlier, later)
    assert str(error) == f"{earlier.render()}\n{later.render()}"
