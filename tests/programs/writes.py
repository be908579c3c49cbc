"""In-place calls, writes through views, ``out=``."""

import pyro
import pyro.distributions as dist
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.programs.program import Program, seeded, values


def accumulates(x: Tensor) -> None:
    total = torch.zeros(len(x))
    with pyro.plate("data", len(x)):
        for i in range(3):
            total += pyro.sample(f"z_{i}", dist.Normal(0.0, 1.0))
            total.mul_(0.9)
        pyro.sample("x", dist.Normal(total, 1.0), obs=x)


def fills_a_table(x: Tensor) -> None:
    table = x.new_zeros(len(x), 3)
    with pyro.plate("data", len(x)):
        for i in range(3):
            table[:, i] = pyro.sample(f"z_{i}", dist.Normal(float(i), 1.0))
        pyro.sample("x", dist.Normal(table.sum(-1), 1.0), obs=x)


def fills_rows_of_a_view(x: Tensor) -> None:
    """Writes a row through a view that was taken before."""
    table = torch.zeros(2, 3)
    first, second = table
    first.copy_(pyro.sample("a", dist.Normal(torch.zeros(3), 1.0).to_event(1)))
    second.add_(1.0)
    with pyro.plate("data", len(x)):
        pyro.sample("x", dist.Normal(table.sum(), 1.0), obs=x)


def jitter_on_the_diagonal(x: Tensor) -> None:
    """A strided write, as Pyro's Gaussian processes do it."""
    scale = pyro.sample("scale", dist.LogNormal(0.0, 1.0))
    kernel = scale * torch.exp(-((x.unsqueeze(0) - x.unsqueeze(1)) ** 2))
    kernel.view(-1)[:: len(x) + 1] += 0.1
    pyro.sample("f", dist.MultivariateNormal(torch.zeros(len(x)), covariance_matrix=kernel), obs=x)


def writes_after_reading(x: Tensor) -> None:
    """What read the tensor before the write keeps the old value."""
    z = pyro.sample("z", dist.Normal(torch.zeros(3), 1.0).to_event(1))
    work = z.clone()
    before = work * 2
    work[0] = 5.0
    with pyro.plate("data", len(x)):
        pyro.sample("x", dist.Normal(before.sum() + work.sum(), 1.0), obs=x)


def masked_assignment(x: Tensor) -> None:
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        clipped = z.clone()
        clipped[z < 0] = 0.0
        pyro.sample("x", dist.Normal(clipped, 1.0), obs=x)


def out_argument(x: Tensor) -> None:
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(0.0, 1.0)).detach()
        buffer = torch.empty(len(x))
        torch.exp(z, out=buffer)
        torch.add(buffer, 1.0, out=buffer)
        pyro.sample("x", dist.Normal(buffer, 1.0), obs=x)


class InPlaceLayers(nn.Module):
    """``inplace=True`` in modules and functions."""

    def __init__(self) -> None:
        super().__init__()
        self.net = seeded(lambda: nn.Sequential(nn.Linear(2, 3), nn.ReLU(inplace=True), nn.Linear(3, 2)))

    def forward(self, x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            h = self.net(z)
            g = F.relu(h, inplace=True)
            F.leaky_relu_(g, 0.1)
            pyro.sample("x", dist.Normal(h + g, 1.0).to_event(1), obs=x)


def augmented_element(x: Tensor) -> None:
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        h = z * 1.0
        h[..., 0] += 1.0
        h[..., 1:] *= h[..., :1]
        pyro.sample("x", dist.Normal(h.prod(-1), 1.0), obs=x)


def scattered(x: Tensor) -> None:
    with pyro.plate("data", len(x)):
        k = pyro.sample("k", dist.Categorical(torch.ones(3)))
        hot = x.new_zeros(len(x), 3).scatter_(-1, k.unsqueeze(-1), 1.0)
        hot.index_fill_(1, torch.tensor([0]), 0.5)
        pyro.sample("x", dist.Normal(hot @ torch.tensor([1.0, 2.0, 3.0]), 1.0), obs=x)


PROGRAMS = (
    Program(accumulates, (values(4),)),
    Program(fills_a_table, (values(4),)),
    Program(fills_rows_of_a_view, (values(4),)),
    Program(jitter_on_the_diagonal, (values(4),)),
    Program(writes_after_reading, (values(4),)),
    Program(masked_assignment, (values(4),)),
    Program(out_argument, (values(4),)),
    Program(InPlaceLayers(), (values(4, 2),)),
    Program(augmented_element, (values(4),)),
    Program(scattered, (values(4),)),
)
