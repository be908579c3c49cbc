"""A module has one body: a call that runs another one is recorded call by call, wherever the module is called."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor, nn

import dgmcompile as dgm
from dgmcompile.ir.graph import Call


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


class Around(nn.Module):
    """Does what the one module inside of it does, and nothing else."""

    def __init__(self, inside: nn.Module) -> None:
        super().__init__()
        self.inside = inside

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.inside(x)
        return result


def test_modules_that_only_call_another_one_are_kept_whole():
    net = Around(nn.Sequential(Around(Doubled())))

    def model(x: Tensor) -> None:
        pyro.sample("y", dist.Normal(net(x), 1.0).to_event(2))

    x = torch.randn(4, 3)
    assert dgm.check(model, (x,)).ok
    graph = dgm.trace(model, (x,))
    assert [node.target for node in graph if isinstance(node, Call) and node.target_name.startswith("self.")] == [
        "self.net"
    ]


class TwoHeads(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.mean, self.log_scale = nn.Linear(3, 3), nn.Linear(3, 3)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.mean(x), self.log_scale(x).exp()


class Doubled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) * 2


def tuple_of(module: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    with torch.no_grad():
        mean, scale = module(x)
    return mean, scale


def rows_of_state(module: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    with torch.no_grad():
        output, state = module(x)
    return output[:, :3], state[0, :1].exp()


def columns(module: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    with torch.no_grad():
        found = module(x)
    return found[:, :3], found[:, :1].exp()


@pytest.mark.parametrize(
    ("kind", "run"),
    [
        (TwoHeads, tuple_of),
        (partial(nn.GRU, 3, 3), rows_of_state),
        (Doubled, columns),
        (partial(nn.Linear, 3, 3), columns),
    ],
    ids=["tuple", "state", "whole", "view"],
)
def test_a_module_under_no_grad_passes_no_gradient_on(kind: Callable[[], nn.Module], run: Any):
    """Whole or not, of one tensor or of several; a view that is taken afterwards shows what was cut off."""
    frozen = kind()

    def model(x: Tensor) -> None:
        mean, scale = run(frozen, x)
        pyro.sample("y", dist.Normal(mean, scale).to_event(2))

    x = torch.randn(5, 3)
    assert dgm.check(model, (x,)).ok
    assert not dgm.compile(dgm.auxiliary(dgm.trace(model, (x,))))(x)["y"].requires_grad
