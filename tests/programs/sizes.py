"""Sizes that the program computes with."""

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from torch import Tensor, nn

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


def weighed_by_the_batch(x: Tensor) -> None:
    """A mini-batch stands for a thousand points, by hand."""
    mean = pyro.sample("mean", dist.Normal(0.0, 1.0))
    with poutine.scale(scale=1000 / len(x)), pyro.plate("data", len(x)):
        pyro.sample("x", dist.Normal(mean, 1 / len(x)), obs=x)


def weighed_in_a_module(x: Tensor) -> None:
    """A number that follows a size, inside of a submodule."""
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(_AVERAGED(z), 1.0), obs=x)


class _Averaged(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(2.0))

    def forward(self, z: Tensor) -> Tensor:
        return self.gain * z.sum() * (1 / len(z)) + z


_AVERAGED = _Averaged()


def at_most_a_hundred(x: Tensor) -> None:
    """Holds up to a hundred points."""
    z = pyro.sample("z", dist.Normal(torch.zeros(min(len(x), 100)), 1.0).to_event(1))
    with pyro.plate("data", len(x)):
        pyro.sample("x", dist.Normal(z.sum(), 1.0), obs=x)


def first_three(x: Tensor) -> None:
    """Holds from three points on."""
    with pyro.plate("data", len(x)):
        for i in range(len(x))[:3]:
            pyro.sample(f"y_{i}", dist.Normal(x[i], 1.0))


PROGRAMS = (
    Program(arithmetic, (values(4, 3),)),
    Program(flattened, (values(4, 3),)),
    Program(averaged, (values(4),)),
    Program(square, (values(3, 3),)),
    Program(batch_of_one, (values(1, 3),)),
    Program(halved, (values(4),), other_size=False),
    Program(weighed_by_the_batch, (values(7),)),
    Program(weighed_in_a_module, (values(7),)),
    Program(at_most_a_hundred, (values(4),)),
    Program(first_three, (values(5),)),
    Program(positions, (values(4, 3),)),
    Program(loops_over_features, (values(4, 3),)),
)
