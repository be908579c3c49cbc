"""Sizes that the program computes with."""

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

from tests.programs.program import Program, values


def arithmetic(x: Tensor) -> None:
    n, d = x.shape
    z = pyro.sample("z", dist.Normal(torch.zeros(2 * n + 1), 1.0).to_event(1))
    w = pyro.sample("w", dist.Normal(torch.zeros(n - 1, n * d), 1.0).to_event(2))
    with pyro.plate("data", n):
        loc = z[:n] + z[n : 2 * n] + w.view(-1)[:n] + w.sum()
        pyro.sample("x", dist.Normal(loc.unsqueeze(-1).expand(n, d), 1.0).to_event(1), obs=x)


def flattened(x: Tensor) -> None:
    flat = x.view(-1)
    with pyro.plate("pixels", flat.shape[0]):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(z.reshape(x.shape).reshape(-1), 1.0), obs=flat)


def averaged(x: Tensor) -> None:
    """A size becomes a number in the arithmetic of values."""
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
    pyro.sample("mean", dist.Normal(z.sum() / len(x), 1.0), obs=x.mean())


def square(x: Tensor) -> None:
    """Both dims are of one length by coincidence."""
    with pyro.plate("data", x.shape[0]):
        z = pyro.sample("z", dist.Normal(torch.zeros(x.shape[1]), 1.0).to_event(1))
        pyro.sample("x", dist.Normal(z, 1.0).to_event(1), obs=x)


def batch_of_one(x: Tensor) -> None:
    with pyro.plate("data", x.shape[0]):
        z = pyro.sample("z", dist.Normal(x.new_zeros(x.shape[0], 2), 1.0).to_event(1))
        pyro.sample("x", dist.Normal(z @ torch.ones(2, 3), 1.0).to_event(1), obs=x)


def halved(x: Tensor) -> None:
    """Floor division is no polynomial: the size is fixed, and a guard says so."""
    z = pyro.sample("z", dist.Normal(torch.zeros(len(x) // 2), 1.0).to_event(1))
    with pyro.plate("data", len(x)):
        pyro.sample("x", dist.Normal(z.sum(), 1.0), obs=x)


def positions(x: Tensor) -> None:
    n = x.shape[-1]
    time = torch.arange(n, dtype=x.dtype) / (n - 1)
    with pyro.plate("batch", x.shape[0]):
        slope = pyro.sample("slope", dist.Normal(0.0, 1.0))
        loc = slope.unsqueeze(-1) * torch.linspace(0, 1, n).to(x.dtype) + time
        pyro.sample("x", dist.Normal(loc, 1.0).to_event(1), obs=x)


def loops_over_features(x: Tensor) -> None:
    with pyro.plate("data", x.shape[0]):
        for i in range(x.shape[1]):
            pyro.sample(f"x_{i}", dist.Normal(float(i), 1.0), obs=x[:, i])


PROGRAMS = (
    Program(arithmetic, (values(4, 3),)),
    Program(flattened, (values(4, 3),)),
    Program(averaged, (values(4),)),
    Program(square, (values(3, 3),)),
    Program(batch_of_one, (values(1, 3),)),
    Program(halved, (values(4),), other_size=False),
    Program(positions, (values(4, 3),)),
    Program(loops_over_features, (values(4, 3),)),
)
