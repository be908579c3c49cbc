"""The examples in plain PyTorch: the loss of each is the one that stands by hand beside it."""

import inspect
import runpy
from pathlib import Path
from typing import Any

import pytest
import torch

import dgmcompile as dgm
from tests import seeds

EXAMPLES = Path(__file__).parents[2] / "examples" / "pytorch"
NAMES = sorted(path.stem for path in EXAMPLES.glob("*.py"))


@pytest.mark.parametrize("name", NAMES)
def test_the_loss_is_the_one_by_hand(name: str):
    torch.manual_seed(0)
    example: dict[str, Any] = runpy.run_path(str(EXAMPLES / f"{name}.py"))
    teacher, student, inputs = example["model"], example["student"], example["example_inputs"]
    loss: Any = dgm.compile(dgm.pair(teacher, student, model_args=inputs), **example["OPTIONS"])
    noise = loss.sample_noise(*inputs, generator=seeds.generator(1))
    ours = loss(*inputs, noise=noise).total
    more = [drawn(teacher, inputs, noise)] if len(inspect.signature(example["by_hand"]).parameters) > 3 else []
    by_hand = example["by_hand"](teacher, student, *inputs, *more)
    torch.testing.assert_close(ours, by_hand, rtol=1e-6, atol=1e-6)
    parameters = list(student.parameters())
    found, expected = (torch.autograd.grad(value, parameters, allow_unused=True) for value in (ours, by_hand))
    for a, b in zip(found, expected, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def drawn(teacher: Any, inputs: Any, noise: dict[str, Any]) -> dict[str, Any]:
    """The noise, and what the teacher makes of it."""
    compiled: Any = dgm.compile(dgm.auxiliary(dgm.trace(teacher, inputs)))
    return {**noise, **compiled(*inputs, noise={**compiled.sample_noise(*inputs), **noise})}


@pytest.mark.parametrize("name", NAMES)
def test_it_is_the_program_that_it_was(name: str):
    example: dict[str, Any] = runpy.run_path(str(EXAMPLES / f"{name}.py"))
    for model in (example["model"], example["student"]):
        report = dgm.check(model, example["example_inputs"])
        assert report.ok, str(report)
