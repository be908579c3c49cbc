"""What is read of the user's source files."""

from __future__ import annotations

import runpy
from pathlib import Path

import torch

import dgmcompile as dgm

PROGRAM = """\
import pyro
import pyro.distributions as dist

def model(x):
    {name} = x.sum(-1)
    with pyro.plate("data", len(x)):
        return pyro.sample("y", dist.Normal({name}, 1.0))
"""


def test_a_file_that_was_edited_is_read_again(tmp_path: Path):
    """As in a notebook, where a module is loaded again after each change."""
    path = tmp_path / "program.py"
    for name, column in (("location", 16), ("m", 9)):
        path.write_text(PROGRAM.format(name=name))
        graph = dgm.trace(runpy.run_path(str(path))["model"], (torch.zeros(4, 3),))
        assert [f":{node.location.line}:{node.location.column}" for node in graph if node.name == name] == [
            f":5:{column}"
        ]
        assert graph["y"].inputs[0] == name


def test_a_chain_over_several_lines_is_called_as_its_variable():
    """What Python says of a method's call begins at the method's name, if that stands in another line."""

    def program(x: torch.Tensor) -> torch.Tensor:
        # fmt: off
        gate = (torch.rand_like(x) <
            torch.sigmoid(x)).float()
        chain = (torch
            .bernoulli(x.sigmoid())
            .double()
        )
        # fmt: on
        return chain + gate

    sites = dgm.trace(program, (torch.randn(4, 3),)).samples
    assert [(node.site.name, node.family) for node in sites if node.site] == [
        ("gate", "Bernoulli"),
        ("chain", "Bernoulli"),
        ("output", "Delta"),
    ]
