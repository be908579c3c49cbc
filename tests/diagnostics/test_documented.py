"""Every code is documented by a program that is refused with it, in these words, and by the program mended.

``pytest --update-golden`` rewrites the words in ``docs/diagnostics``; they are read in review like code.
"""

from __future__ import annotations

import ast
import contextlib
import importlib.util
import linecache
import re
import runpy
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

import dgmcompile as dgm
from dgmcompile import cli
from dgmcompile.viz import render
from tests.diagnostics.cases import FOLDER, Case, cases, rewrite

ROOT = Path(__file__).parents[2]
CASES = cases()

Run = Callable[[str], str]


@pytest.fixture(scope="module")
def tables() -> ModuleType:
    spec = importlib.util.spec_from_file_location("tables", ROOT / "docs" / "tables.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def codes() -> set[str]:
    """Every ``code="..."`` in the package."""
    found: set[str] = set()
    for file in (ROOT / "dgmcompile").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            match node:
                case ast.keyword(arg="code", value=ast.Constant(value=str(code))):
                    found.add(code)
    return found


def test_every_code_has_a_page_and_every_page_a_code():
    assert sorted(file.stem for file in FOLDER.glob("*.md")) == sorted(codes())
    assert len(codes()) > 60


def test_codes_are_words():
    assert [code for code in codes() if not re.fullmatch(r"[a-z]+(-[a-z]+)*", code)] == []


def test_every_diagnostic_names_its_code_and_a_way_out():
    for file in (ROOT / "dgmcompile").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Diagnostic":
                given = {keyword.arg: keyword.value for keyword in node.keywords}
                assert {"code", "message", "help"} <= given.keys(), (file.name, node.lineno)
                plain = isinstance(given["code"], ast.Constant)
                assert plain or ast.unparse(given["code"]).endswith(".code"), (file.name, node.lineno)


# -- what a case needs of the machine ----------------------------------------------------------------------------------


def _no_renderer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(render, "renderers", lambda: ())


def _failing_renderer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(render, "renderers", lambda: ("/usr/bin/dot",))

    def fails(*_: Any, **__: Any) -> Any:
        raise OSError("No such file or directory")

    monkeypatch.setattr(render.subprocess, "run", fails)


SETTINGS = {"no-renderer": _no_renderer, "render-failed": _failing_renderer}


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the lines of a command in the temporary folder; what it writes to standard error."""
    monkeypatch.chdir(tmp_path)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)

    def run(command: str) -> str:
        capsys.readouterr()
        linecache.clearcache()  # each case has a model.py of its own
        program, *args = shlex.split(command)
        if program == "dgmcompile":
            monkeypatch.setattr(sys, "argv", [program, *args])
            with contextlib.suppress(SystemExit):
                cli.main()
            return capsys.readouterr().err
        assert program == "python"
        try:
            runpy.run_path(args[0])
        except dgm.CompileError as error:
            return f"{error}\n"
        return ""

    yield run
    torch.set_num_threads(threads)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_refused_in_these_words(
    case: Case, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
):
    (tmp_path / "model.py").write_text(case.program, "utf-8")
    with monkeypatch.context() as setting:
        SETTINGS.get(case.code, lambda _: None)(setting)
        printed = run(case.command)
    assert f"[{case.code}]" in printed, printed
    assert "  help: " in printed
    if request.config.getoption("--update-golden") and not case.agrees(printed):
        rewrite(case, printed)
    else:
        assert case.agrees(printed), printed


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_mended(case: Case, run: Run, tmp_path: Path):
    assert (case.mended, case.mended_command) != (case.program, case.command) or case.code in SETTINGS
    (tmp_path / "model.py").write_text(case.mended, "utf-8")
    printed = run(case.mended_command)
    assert "error[" not in printed and f"[{case.code}]" not in printed, printed


# -- the page ----------------------------------------------------------------------------------------------------------


def test_the_page_has_every_code_once(tables: ModuleType):
    page = "\n".join(tables.diagnostics_page())
    assert re.findall(r"^## (.*)$", page, re.MULTILINE) == sorted(codes())
    assert all(f"[{code}](#{code})" in page for code in codes())


def test_forms_are_made(tables: ModuleType, tmp_path: Path):
    tables.write_tables(tmp_path / "pages")
    assert "z_noise: float32[batch] = noise.StandardNormal()" in (tmp_path / "pages" / "forms.md").read_text()
