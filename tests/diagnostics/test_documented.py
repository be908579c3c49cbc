"""Every diagnostic has a stable code and a way out, and the page that lists them is made from the code."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def tables() -> ModuleType:
    spec = importlib.util.spec_from_file_location("tables", ROOT / "docs" / "tables.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_diagnostic_is_found(tables: ModuleType):
    source = "".join(file.read_text() for file in (ROOT / "dgmcompile").rglob("*.py"))
    made = len(re.findall(r"\bDiagnostic\($", source, re.MULTILINE)) + len(re.findall(r"\bDiagnostic\(code=", source))
    assert len(list(tables.diagnostics())) == made > 40


def test_codes_are_words_and_each_has_a_way_out(tables: ModuleType):
    for code, message, help in tables.diagnostics():
        assert re.fullmatch(r"[a-z]+(-[a-z]+)*", code), (code, message)
        assert help, f"{code}: {message}"


def test_the_page_has_every_code_once(tables: ModuleType):
    page = "\n".join(tables.diagnostics_page())
    headings = re.findall(r"^## (.*)$", page, re.MULTILINE)
    assert headings == sorted({code for code, _, _ in tables.diagnostics()})


def test_families_and_forms_are_made(tables: ModuleType, tmp_path: Path):
    tables.write_tables(tmp_path / "pages")
    assert (
        "| Normal | StandardNormal | `normal_from_noise(noise, loc, scale)` | yes |"
        in (tmp_path / "pages" / "families.md").read_text()
    )
    assert "z_noise: float32[batch] = noise.StandardNormal()" in (tmp_path / "pages" / "forms.md").read_text()
