"""The examples are plain Pyro: they run without this package, at any batch size, and student and teacher match."""

import runpy
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pyro
import pytest
import torch
from pyro import poutine
from torch import Tensor

EXAMPLES = Path(__file__).parents[2] / "examples"
NAMES = ("eight_schools", "gmm", "helmholtz", "hvae", "vae", "vrnn")
PROGRAMS = [(name, program) for name in NAMES for program in ("model", "student")] + [("vae", "guide")]

Row = tuple[bool, torch.Size, str]
"""Of a site: is it observed, its shape, its family."""


@cache
def example(name: str) -> dict[str, Any]:
    return runpy.run_path(str(EXAMPLES / f"{name}.py"))


def inputs(name: str, copies: int = 1) -> tuple[Tensor, ...]:
    """The example's inputs, their first dimension repeated."""
    given = example(name)["example_inputs"]
    tensors: tuple[Tensor, ...] = given() if callable(given) else given
    return tuple(torch.cat([x] * copies) for x in tensors)


def traced(program: Callable[..., Any], args: tuple[Tensor, ...]) -> poutine.Trace:
    with torch.no_grad(), pyro.validation_enabled():
        return poutine.trace(program).get_trace(*args)


def sites(trace: poutine.Trace) -> dict[str, Row]:
    names = [*trace.stochastic_nodes, *trace.observation_nodes]
    return {name: _row(trace.nodes[name]) for name in names}


def _row(site: dict[str, Any]) -> Row:
    law = site["fn"]
    while isinstance(law, pyro.distributions.Independent):
        law = law.base_dist
    return site["is_observed"], site["value"].shape, type(law).__name__


def test_every_example_is_named_here():
    assert sorted(path.stem for path in EXAMPLES.glob("*.py")) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_example_does_not_know_of_this_package(name: str):
    assert "dgmcompile" not in (EXAMPLES / f"{name}.py").read_text()


@pytest.mark.parametrize(("name", "program"), PROGRAMS)
def test_program_runs_at_two_batch_sizes(name: str, program: str):
    once, thrice = (traced(example(name)[program], inputs(name, copies)) for copies in (1, 3))
    for trace in (once, thrice):
        assert torch.isfinite(trace.log_prob_sum())
    grown = [n for n, (_, shape, _) in sites(thrice).items() if shape.numel() == 3 * sites(once)[n][1].numel()]
    assert set(grown) == set(sites(once)) - {"mu", "tau"}  # these two stand outside the plate


@pytest.mark.parametrize("name", NAMES)
def test_sites_of_the_student_are_those_of_the_teacher(name: str):
    teacher, student = (sites(traced(example(name)[program], inputs(name))) for program in ("model", "student"))
    assert list(student) == list(teacher)
    assert student == teacher
    assert any(observed for observed, _, _ in teacher.values())


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"eight_schools"}))
def test_student_is_smaller(name: str):
    teacher, student = (_parameters(name, program) for program in ("model", "student"))
    assert 0 < student < teacher


def _parameters(name: str, program: str) -> int:
    """Numbers that ``program`` learns, as Pyro's own parameter store counts them."""
    pyro.clear_param_store()
    traced(example(name)[program], inputs(name))
    return sum(value.numel() for value in pyro.get_param_store().values())


def test_importing_an_example_leaves_the_random_state_alone():
    before = torch.get_rng_state()
    for name in NAMES:
        runpy.run_path(str(EXAMPLES / f"{name}.py"))
    assert torch.equal(torch.get_rng_state(), before)


def test_old_faithful_is_complete():
    lines = (EXAMPLES / "data" / "old_faithful.csv").read_text().splitlines()
    assert lines[:3] == ["eruptions,waiting", "3.6,79", "1.8,54"]
    assert len(lines) == 1 + 272
    eruptions, waiting = inputs("helmholtz")
    assert eruptions.shape == waiting.shape == (272,)
    assert torch.corrcoef(torch.stack([eruptions, waiting]))[0, 1] == pytest.approx(0.9008, abs=1e-4)
