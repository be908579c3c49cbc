"""A module has one body: a call that runs another one is recorded call by call, wherever the module is called."""

from __future__ import annotations

from collections.abc import Callable

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor, nn

import dgmcompile as dgm


class Inner(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(2.0))

    def forward(self, x: Tensor, twice: bool = False) -> Tensor:
        return self.weight * x * (2 if twice else 1)


class Outer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = Inner()

    def forward(self, x: Tensor, twice: bool = False) -> Tensor:
        return self.inner(x, twice) + 1


def both_outer(net: Outer, x: Tensor) -> Tensor:
    return net(x) + 10 * net(x, True)


def inner_first(net: Outer, x: Tensor) -> Tensor:
    return net.inner(x, True) + 10 * net(x)


def inner_last(net: Outer, x: Tensor) -> Tensor:
    return net(x) + 10 * net.inner(x, True)


def alike(net: Outer, x: Tensor) -> Tensor:
    return net(x) + 10 * net.inner(net(x))


@pytest.mark.parametrize(
    ("formula", "whole"),
    [
        (both_outer, {"net"}),
        (inner_first, {"inner"}),
        (inner_last, {"net"}),
        (alike, {"net", "inner"}),
    ],
)
def test_a_module_that_runs_two_ways_is_whole_in_one_of_them(
    formula: Callable[[Outer, Tensor], Tensor], whole: set[str]
):
    net = Outer()

    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("y", dist.Normal(formula(net, x), 1.0))

    graph = dgm.trace(model, (torch.ones(4),))
    called = {node.target_name for node in graph if getattr(node, "target_name", "").startswith("self.")}
    assert {name.rpartition(".")[2] for name in called} == whole
    assert dgm.check(model, (torch.ones(4),)).ok
