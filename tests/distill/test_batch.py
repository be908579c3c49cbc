"""What a loss is averaged over, in programs of plain PyTorch, which have no plates to say so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import dgmcompile as dgm
from dgmcompile.ir.size import Size, add, multiply, quotient
from tests.programs.program import seeded, values


class Sequences(nn.Module):
    """A latent and a target in each step of each sequence; all steps may be one dim."""

    def __init__(self, hidden: int, folded: bool) -> None:
        super().__init__()
        self.folded = folded
        self.below, self.above = nn.Linear(4, hidden), nn.Linear(hidden, 3)
        self.mean = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.below(x))
        if self.folded:
            h = h.reshape(-1, h.shape[-1])
        z = self.above(h) + 0.5 * torch.randn(*h.shape[:-1], 3)
        y = torch.distributions.Normal(self.mean(z), 1.0).sample()
        return y


class Repeated(Sequences):
    """Five latents for each row."""

    def forward(self, x: Tensor) -> Tensor:
        mean = self.above(torch.tanh(self.below(x))).repeat(5, 1)
        z = mean + 0.5 * torch.randn_like(mean)
        return torch.distributions.Normal(self.mean(z), 1.0).sample()


def pair_of(make: Callable[[int], nn.Module], *args: Tensor) -> Any:
    teacher, student = (seeded(lambda n=n: make(n), seed=n).double() for n in (8, 5))
    return dgm.compile(dgm.pair(teacher, student, method="local", model_args=args), latent_weight=1.0)


@pytest.mark.parametrize("batch", [4, 9])
def test_steps_that_are_folded_with_the_batch_are_summed(batch: int):
    x = values(batch, 7, 4).double()
    unfolded, folded = (pair_of(lambda n, f=f: Sequences(n, f), values(5, 7, 4).double()) for f in (False, True))
    noise = unfolded.sample_noise(x, generator=torch.Generator().manual_seed(0))
    one = unfolded(x, noise=noise)
    other = folded(x, noise={name: value.flatten(0, 1) for name, value in noise.items()})
    torch.testing.assert_close(other.latent["z"], one.latent["z"])
    torch.testing.assert_close(other.total, one.total)


@pytest.mark.parametrize("batch", [4, 9])
def test_copies_of_the_batch_are_summed(batch: int):
    loss = pair_of(lambda n: Repeated(n, False), values(5, 4).double())
    x = values(batch, 4).double()
    found = loss(x, noise=loss.sample_noise(x))
    with torch.no_grad():
        teacher, student = (seeded(lambda n=n: Repeated(n, False), seed=n).double() for n in (8, 5))
        means = [model.above(torch.tanh(model.below(x))) for model in (teacher, student)]
    expected = 5 * ((means[0] - means[1]) ** 2 / (2 * 0.25)).sum() / batch
    torch.testing.assert_close(found.latent["z"], expected)


def test_the_batch_is_that_of_the_argument_that_the_targets_share():
    class Scaled(nn.Module):
        def __init__(self, bias: float) -> None:
            super().__init__()
            self.bias = nn.Parameter(torch.tensor(bias))

        def forward(self, scales: Tensor, x: Tensor) -> Tensor:
            y = torch.normal(x + self.bias, scales.mean())
            return y

    loss = dgm.compile(dgm.pair(Scaled(0.0), Scaled(1.0), model_args=(torch.ones(3), values(6, 4))))
    for batch in (6, 60):
        torch.testing.assert_close(loss(torch.ones(3), values(batch, 4)).total, torch.tensor(2.0))


class Bayesian(nn.Module):
    """A weight that is drawn."""

    def __init__(self, mean: float) -> None:
        super().__init__()
        self.mean, self.spread = nn.Parameter(torch.full((4, 3), mean)), nn.Parameter(torch.zeros(4, 3))

    def forward(self, x: Tensor) -> Tensor:
        w = self.mean + self.spread.exp() * torch.randn_like(self.mean)
        y = torch.bernoulli(torch.sigmoid(x @ w.T))
        return y


@pytest.mark.parametrize("batch", [4, 5])
def test_rows_of_a_weight_are_no_batch_even_if_there_are_as_many(batch: int):
    x = (values(batch, 3),)
    programs = [torch.export.export(Bayesian(mean), x) for mean in (0.0, 1.0)]
    loss = dgm.compile(dgm.pair(*programs, model_args=x), latent_weight=1.0)
    torch.testing.assert_close(loss(*x).latent["w"], torch.tensor(12 * 0.5))


def test_quotients_of_sizes():
    n, m = Size.symbol("n"), Size.symbol("m")
    assert quotient(multiply(n, m), n) == m and quotient(multiply(3, n), n) == 3 and quotient(n, n) == 1
    assert quotient(add(multiply(n, m), multiply(2, n)), n) == add(m, 2)
    assert quotient(add(n, 1), n) is None and quotient(m, n) is None and quotient(add(n, 1), add(n, 1)) == 1
    assert quotient(multiply(6, n), multiply(2, n)) == 3 and quotient(multiply(3, n), 2) is None
