"""Scales that are 0 in some element have no density there: what they multiply stays noise, however they are made."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch import distributions as td

import dgmcompile as dgm
from tests.programs.program import seeded, values

NET: Any = seeded(lambda: nn.Linear(3, 3))
X = values(4, 3)
DIAGONAL = torch.eye(4)[:, :3].bool()

Scale = Callable[[Tensor], Tensor]

SOMETIMES_0: dict[str, Scale] = {
    "distance": lambda x: torch.cdist(x, x)[:, :3],
    "masked_softmax": lambda x: F.softmax(NET(x).masked_fill(DIAGONAL, -1e9), -1),
    "remainder": lambda x: (torch.arange(3.0) % 2).expand(4, 3),
    "whole": lambda x: (0.1 * x).to(torch.int64).float(),
    "schedule": lambda x: torch.linspace(0, 1, 3).expand(4, 3),
    "rectified": lambda x: NET(x).relu(),
}
DRAWS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "by_hand": lambda loc, scale: loc + scale * torch.randn_like(loc),
    "torch": torch.normal,
    "law": lambda loc, scale: td.Normal(loc, scale).rsample(),
}


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
@pytest.mark.parametrize("scale", SOMETIMES_0.values(), ids=SOMETIMES_0)
def test_it_stays_noise(scale: Scale, draw: Callable[[Tensor, Tensor], Tensor]):
    def model(x: Tensor) -> Tensor:
        z = draw(NET(x), scale(x))
        return torch.sin(z)

    graph = dgm.trace(model, (X,))
    assert graph.latents == () and len(graph.noises) == 1
    assert [warning.code for warning in graph.warnings] == ["kept-noise"]
    assert dgm.check(model, (X,)).ok
    loss: Any = dgm.compile(dgm.pair(model, model, model_args=(X,)))
    assert loss(X).total == 0


def test_bounds_that_are_computed_are_compared_by_their_distance():
    class Model(nn.Module):
        def __init__(self, shift: float) -> None:
            super().__init__()
            self.shift = nn.Parameter(torch.full((3,), shift))

        def forward(self, x: Tensor) -> Tensor:
            z = x + self.shift + torch.rand_like(x)
            return z.sin()

    teacher, student = Model(0.0), Model(0.5)
    loss: Any = dgm.compile(dgm.pair(teacher, student, model_args=(X,)))
    out = loss(X)
    assert dgm.trace(teacher, (X,)).samples[0].family == "Uniform"
    torch.testing.assert_close(out.latent["z"], torch.tensor(0.75))
    out.total.backward()
    assert student.shift.grad is not None and (student.shift.grad != 0).all()


@pytest.mark.parametrize(
    "high", [np.int64(5), np.int32(5), torch.tensor(5), 5], ids=["int64", "int32", "tensor", "int"]
)
def test_bounds_of_whole_numbers_are_numbers_of_any_kind(high: Any):
    def below(x: Tensor) -> Tensor:
        return torch.randint(high, x.shape).float()

    def between(x: Tensor) -> Tensor:
        return torch.randint(low=high - 2, high=high, size=x.shape).float()

    def from_a_low(x: Tensor) -> Tensor:
        return torch.randint(high - 2, high=high, size=x.shape).float()

    def by_place(x: Tensor) -> Tensor:
        return torch.randint(high - 2, high, x.shape).float()

    x = torch.zeros(500, 1)
    for model, expected in ((below, 5), (between, 2), (from_a_low, 2), (by_place, 2)):
        made: Any = dgm.compile(dgm.trace(model, (x,)))
        assert len(made(x)["output"].unique()) == expected
        assert made(x)["output"].max() == 4


@pytest.mark.parametrize("result", [lambda h: h > 0, lambda h: h.argmax(-1), lambda h: torch.complex(h, -h)])
def test_results_that_are_no_real_numbers_are_compared(result: Callable[[Tensor], Tensor]):
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Linear(3, 3)

        def forward(self, x: Tensor) -> Tensor:
            return result(self.net(x))

    teacher, student = seeded(Model), seeded(Model, seed=1)
    loss: Any = dgm.compile(dgm.pair(teacher, student, model_args=(X,)))
    gap = teacher(X).to(torch.complex64) - student(X).to(torch.complex64)
    by_hand = gap.abs().square().reshape(4, -1).sum(-1).mean()
    torch.testing.assert_close(loss(X).total, by_hand)


@pytest.mark.filterwarnings("ignore:`sample_n")
def test_sample_n_is_a_draw():
    def model(x: Tensor) -> Tensor:
        z = td.Normal(NET(x), 1.0).sample_n(2)
        return z.sin()

    graph = dgm.trace(model, (X,))
    assert graph.latents == ("z",)
    assert not any(getattr(node, "target", "") == "torch.Tensor.detach" for node in graph)
    assert dgm.check(model, (X,)).ok
