"""The page of families says something of every public class, and what it says is so."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from dgmcompile.reparam import COMPOSITIONS, NOISE_TRANSFORMS, REFUSED
from tests.reparam.auto_reparam import auto_reparam
from tests.reparam.checking import ALONE, FAMILIES, LIBRARY_IS_WRONG, SKIPPED
from tests.reparam.measured import measured, stored
from tests.reparam.test_coverage import PUBLIC, UNWRAPPED

ROWS = stored()


@pytest.fixture(scope="module")
def page() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "families_table", Path(__file__).parents[2] / "docs/families_table.py"
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def cells(lines: Iterator[str]) -> dict[str, list[str]]:
    """First cell of each row -> the others."""
    rows = [line.strip("| ").split(" | ") for text in lines for line in text.splitlines() if line.startswith("| ")]
    return {first: rest for first, *rest in rows}


def test_every_entry_was_measured_and_nothing_else():
    assert set(ROWS) == {*NOISE_TRANSFORMS.names(), *COMPOSITIONS.names()} == set(FAMILIES)


def test_every_error_is_within_its_limit():
    for name, row in ROWS.items():
        assert all(0 <= check["error"] <= check["limit"] for check in row["checks"]), name
        assert bool(row["checks"]) == (name not in ALONE), name


def test_every_public_class_has_a_row(page: ModuleType):
    table = cells(page.families_page(ROWS))
    assert set(PUBLIC) <= set(table)
    assert set(page.WRAPPERS) == UNWRAPPED
    assert all(table[name] == [reason] for name, reason in REFUSED.items())
    assert table["Normal"][:3] == ["StandardNormal", "`normal_from_noise(noise, loc, scale)`", "yes"]
    assert table["Bernoulli"][0] == "StandardUniform (float64)" and table["Bernoulli"][2].startswith("zero; by name `")
    assert "variant `inverse_cdf`" in table["Categorical"][3]
    assert {len(table[name]) for name in FAMILIES} == {7}


def test_every_family_stands_beside_auto_reparam(page: ModuleType, tmp_path: Path):
    assert set(FAMILIES) <= set(cells(page.auto_reparam_page(ROWS)))
    page.write_families(tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == {"families.md", "auto_reparam.md"}


@pytest.mark.parametrize("name", ["Normal", "Geometric", "LogNormal", "MixtureSameFamily", "VonMises3D"])
def test_the_stored_row_is_what_is_measured(name: str):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found, row = measured(name), ROWS[name]["checks"]
    assert [{**check, "error": 0.0} for check in found] == [{**check, "error": 0.0} for check in row]
    for ours, theirs in zip(found, row, strict=True):  # as other machines round
        assert ours["error"] == pytest.approx(theirs["error"], rel=0.1, abs=1e-8)


@pytest.mark.parametrize("name", ["Normal", "Gamma", "Stable", "ProjectedNormal", "StudentT", "FoldedDistribution"])
def test_the_stored_row_is_what_auto_reparam_does(name: str):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert auto_reparam(name) == ROWS[name]["auto_reparam"]


def test_exceptions_are_of_families_that_there_are():
    assert {*LIBRARY_IS_WRONG, *SKIPPED, *ALONE} <= set(NOISE_TRANSFORMS.names())
