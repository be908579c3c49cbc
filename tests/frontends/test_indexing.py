"""An index without dims makes torch return a view: where in memory it lies is a value, which no recording may keep."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor, nn

import dgmcompile as dgm
from dgmcompile.frontends import record

LIKELY = torch.tensor([0.9999, 0.0001])
"""So that the recordings draw the same index, and nothing but the index can tell the reads apart."""


def two_indices() -> None:
    table = pyro.param("table", torch.tensor([1.0, 2.0]))
    i = pyro.sample("i", dist.Categorical(LIKELY))
    j = pyro.sample("j", dist.Categorical(LIKELY))
    pyro.sample("x", dist.Normal(table[i], 1.0))
    pyro.sample("y", dist.Normal(table[j], 1.0))


def index_and_number() -> None:
    table = pyro.param("table", torch.tensor([1.0, 2.0]))
    i = pyro.sample("i", dist.Categorical(LIKELY))
    pyro.sample("x", dist.Normal(table[i], 1.0))
    pyro.sample("y", dist.Normal(table[0], 1.0))


def written_before() -> None:
    table = torch.zeros(2)
    table[1] = pyro.sample("z", dist.Normal(0.0, 1.0))
    i = pyro.sample("i", dist.Categorical(LIKELY))
    pyro.sample("x", dist.Normal(table[i], 1.0))


def counted() -> None:
    counts = torch.zeros(2)
    i = pyro.sample("i", dist.Categorical(LIKELY))
    counts[i] += 1.0
    pyro.sample("x", dist.Normal(counts, 1.0).to_event(1))


@pytest.mark.parametrize(
    ("model", "edges"),
    [
        (two_indices, {("i", "x"), ("j", "y")}),
        (index_and_number, {("i", "x")}),
        (written_before, {("i", "x"), ("z", "x")}),
        (counted, {("i", "x")}),
    ],
)
def test_reads_by_an_index_are_reads_by_that_index(model: Callable[..., Any], edges: set[tuple[str, str]]):
    assert set(dgm.trace(model).variables().edges) == edges


@pytest.mark.parametrize("index", [0, 1])
def test_a_count_is_counted_at_the_index_that_is_drawn(index: int):
    module = dgm.compile(dgm.auxiliary(dgm.trace(counted)))
    waits = torch.ones(2)
    waits[index] = 1e-9  # the first of two exponential clocks is the label
    values = module(noise={"i_noise": waits, "x_noise": torch.zeros(2)})
    assert values["i"] == index
    assert values["x"].tolist() == [float(index == 0), float(index == 1)]


class Looked(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(5, 2)

    def forward(self, x: Tensor, rows: Tensor) -> None:
        counts = torch.zeros(6).index_add_(0, rows, torch.ones(len(rows)))
        counts[rows[:1]] = 2.0
        values = x[rows].sum(-1) + self.table(rows % 5).sum(-1) + counts.gather(0, rows)
        with pyro.plate("data", len(rows)):
            pyro.sample("y", dist.Normal(values, 1.0), obs=torch.zeros(len(rows)))


def test_calls_that_are_tried_first_are_recorded_and_run_once(monkeypatch: pytest.MonkeyPatch):
    """As they are on an accelerator, where an index out of range would end all work."""
    monkeypatch.setattr(record, "_RAISE", ())
    rehearsed, rehearse = list[str](), record._rehearse

    def noted(func: Any, *arguments: Any) -> None:
        rehearsed.append(func.__name__)
        rehearse(func, *arguments)

    monkeypatch.setattr(record, "_rehearse", noted)
    model = Looked()
    assert dgm.check(model, (torch.randn(6, 2), torch.tensor([0, 5, 3, 4, 1]))).ok
    assert {"__getitem__", "__setitem__", "index_add_", "gather", "embedding"} <= set(rehearsed)
