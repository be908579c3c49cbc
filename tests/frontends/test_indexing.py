"""An index without dims makes torch return a view: where in memory it lies is a value, which no recording may keep."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch

import dgmcompile as dgm

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
