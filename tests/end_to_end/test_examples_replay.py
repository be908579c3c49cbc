"""Every example, compiled, is the same program: at a second batch size, in both precisions."""

from __future__ import annotations

import pytest
import torch

import dgmcompile as dgm
from benchmarks.steps import EXAMPLES, example

PROGRAMS = [
    *((path.stem, name) for path in sorted(EXAMPLES.glob("*.py")) for name in ("model", "student")),
    ("vae", "guide"),
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("name", "program"), PROGRAMS)
def test_an_example_is_the_same_program(name: str, program: str, dtype: torch.dtype):
    module = example(name)
    inputs = module.example_inputs() if callable(module.example_inputs) else module.example_inputs
    report = dgm.check(getattr(module, program), inputs, dtype=dtype)
    assert report.ok and report.sites and report.gradients
    assert any(size != inputs[0].shape[0] for size in report.sizes.values())
    limit = 1e-10 if dtype == torch.float64 else 1e-5
    assert max(site.log_prob_error for site in report.sites) <= limit
    assert max(site.parameter_error for site in report.sites) <= limit
