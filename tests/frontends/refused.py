"""Programs that are refused, what is said of each, and the same program with the help followed."""

from __future__ import annotations

from dataclasses import dataclass
from textwrap import dedent

HEAD = """
import math, random
import numpy as np
import pyro, torch
import pyro.distributions as dist
import torch.nn.functional as F
from pyro import poutine
from torch import nn
"""


@dataclass(frozen=True)
class Refused:
    """``program`` is refused with ``text``; ``mended`` is accepted."""

    name: str
    program: str
    mended: str

    @property
    def source(self) -> str:
        return HEAD.lstrip() + dedent(self.program)

    @property
    def mended_source(self) -> str:
        return HEAD.lstrip() + dedent(self.mended)


CASES = (
    Refused(
        "value-branch",
        """
        def model():
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            if z > 0:
                z = z * 2
            pyro.sample("x", dist.Normal(z, 1.0))
        """,
        """
        def model():
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            z = torch.where(z > 0, z * 2, z)
            pyro.sample("x", dist.Normal(z, 1.0))
        """,
    ),
    Refused(
        "value-branch on an input",
        """
        def model(x=torch.ones(2)):
            total = 1.0 if x.sum() > 0 else 2.0
            pyro.sample("x", dist.Normal(total, 1.0))
        """,
        """
        def model(x=torch.ones(2)):
            total = torch.where(x.sum() > 0, 1.0, 2.0)
            pyro.sample("x", dist.Normal(total, 1.0))
        """,
    ),
    Refused(
        "value-branch while",
        """
        def model():
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            while z < 3.0:
                z = z + 1.0
            pyro.sample("x", dist.Normal(z, 1.0))
        """,
        """
        def model():
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            z = z + (3.0 - z).ceil().clamp(min=0.0)
            pyro.sample("x", dist.Normal(z, 1.0))
        """,
    ),
    Refused(
        "value-escape item",
        """
        def model():
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(z.item(), 1.0))
        """,
        """
        def model():
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(z.detach(), 1.0))
        """,
    ),
    Refused(
        "value-escape float",
        """
        def model():
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(math.exp(z), 1.0))
        """,
        """
        def model():
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(z.exp(), 1.0))
        """,
    ),
    Refused(
        "value-escape int",
        """
        def model():
            k = pyro.sample("k", dist.Categorical(torch.ones(3)))
            pyro.sample("x", dist.Normal([0.1, 0.2, 0.3][int(k)], 1.0))
        """,
        """
        def model():
            k = pyro.sample("k", dist.Categorical(torch.ones(3)))
            pyro.sample("x", dist.Normal(torch.tensor([0.1, 0.2, 0.3])[k], 1.0))
        """,
    ),
    Refused(
        "value-escape index",
        """
        def model():
            k = pyro.sample("k", dist.Categorical(torch.ones(3)))
            pyro.sample("x", dist.Normal([0.1, 0.2, 0.3][k], 1.0))
        """,
        """
        def model():
            k = pyro.sample("k", dist.Categorical(torch.ones(3)))
            pyro.sample("x", dist.Normal(torch.tensor([0.1, 0.2, 0.3])[k], 1.0))
        """,
    ),
    Refused(
        "value-escape numpy",
        """
        def model():
            z = pyro.sample("z", dist.Normal(torch.zeros(3), 1.0).to_event(1))
            top = np.sort(z.detach().numpy())
            pyro.sample("x", dist.Normal(torch.from_numpy(top), 1.0).to_event(1))
        """,
        """
        def model():
            z = pyro.sample("z", dist.Normal(torch.zeros(3), 1.0).to_event(1))
            top = z.sort().values
            pyro.sample("x", dist.Normal(top, 1.0).to_event(1))
        """,
    ),
    Refused(
        "value-escape asarray",
        """
        def model():
            z = pyro.sample("z", dist.Normal(torch.zeros(3), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(float(np.asarray(z.detach()).mean()), 1.0))
        """,
        """
        def model():
            z = pyro.sample("z", dist.Normal(torch.zeros(3), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z.mean(), 1.0))
        """,
    ),
    Refused(
        "value-escape tolist",
        """
        def model():
            z = pyro.sample("z", dist.Normal(torch.zeros(3), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(sum(z.tolist()), 1.0))
        """,
        """
        def model():
            z = pyro.sample("z", dist.Normal(torch.zeros(3), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(sum(z), 1.0))
        """,
    ),
    Refused(
        "value-escape of a parameter",
        """
        def model():
            w = pyro.param("w", torch.tensor(0.5))
            pyro.sample("x", dist.Normal(w.item(), 1.0))
        """,
        """
        def model():
            w = pyro.param("w", torch.tensor(0.5))
            pyro.sample("x", dist.Normal(w, 1.0))
        """,
    ),
    Refused(
        "value-shape",
        """
        def model():
            z = pyro.sample("z", dist.Normal(torch.zeros(5), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z[z > 0].sum(), 1.0))
        """,
        """
        def model():
            z = pyro.sample("z", dist.Normal(torch.zeros(5), 1.0).to_event(1))
            pyro.sample("x", dist.Normal((z * (z > 0)).sum(), 1.0))
        """,
    ),
    Refused(
        "stray-random",
        """
        def model():
            eps = torch.randn(3)
            pyro.sample("x", dist.Normal(eps, 1.0).to_event(1))
        """,
        """
        def model():
            eps = pyro.sample("eps", dist.Normal(torch.zeros(3), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(eps, 1.0).to_event(1))
        """,
    ),
    Refused(
        "stray-random in place",
        """
        def model():
            eps = torch.empty(3).normal_()
            pyro.sample("x", dist.Normal(eps, 1.0).to_event(1))
        """,
        """
        def model():
            eps = pyro.sample("eps", dist.Normal(torch.zeros(3), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(eps, 1.0).to_event(1))
        """,
    ),
    Refused(
        "stray-random subsample",
        """
        def model(x=torch.arange(6.0)):
            with pyro.plate("data", len(x), subsample_size=2) as index:
                pyro.sample("y", dist.Normal(x[index], 1.0))
        """,
        """
        def model(x=torch.arange(2.0)):
            with pyro.plate("data", 6, subsample_size=len(x)):
                pyro.sample("y", dist.Normal(x, 1.0))
        """,
    ),
    Refused(
        "factor",
        """
        def model():
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.factor("prior", -(z**4))
        """,
        """
        def model():
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("prior", dist.Normal(z**2, 0.5**0.5), obs=torch.tensor(0.0))
        """,
    ),
    Refused(
        "improper-prior",
        """
        def model():
            z = pyro.sample("z", dist.ImproperUniform(dist.constraints.real, (), ()))
            pyro.sample("x", dist.Normal(z, 1.0))
        """,
        """
        def model():
            z = pyro.sample("z", dist.Normal(0.0, 100.0))
            pyro.sample("x", dist.Normal(z, 1.0))
        """,
    ),
    Refused(
        "observed-latent",
        """
        def model():
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(0.0, 1.0), obs=z.sin())
        """,
        """
        def model():
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            x = pyro.deterministic("x", z.sin())
            pyro.sample("y", dist.Normal(x, 1.0))
        """,
    ),
    Refused(
        "repeated-site",
        """
        def model():
            for _ in range(2):
                pyro.sample("z", dist.Normal(0.0, 1.0))
        """,
        """
        def model():
            for t in range(2):
                pyro.sample(f"z_{t}", dist.Normal(0.0, 1.0))
        """,
    ),
    Refused(
        "unstable-recording state",
        """
        calls = [0.0]

        def model():
            calls[0] += 1.0
            pyro.sample("x", dist.Normal(calls[0], 1.0))
        """,
        """
        def model(call=torch.tensor(1.0)):
            pyro.sample("x", dist.Normal(call, 1.0))
        """,
    ),
    Refused(
        "unstable-recording numpy",
        """
        def model():
            noise = torch.from_numpy(np.random.randn(100))
            pyro.sample("x", dist.Normal(noise.sum(), 1.0))
        """,
        """
        def model():
            noise = pyro.sample("noise", dist.Normal(torch.zeros(100), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(noise.sum(), 1.0))
        """,
    ),
    Refused(
        "unstable-recording random",
        """
        def model():
            pyro.sample("x", dist.Normal(random.random(), 1.0))
        """,
        """
        def model():
            u = pyro.sample("u", dist.Uniform(0.0, 1.0))
            pyro.sample("x", dist.Normal(u, 1.0))
        """,
    ),
    Refused(
        "unstable-recording scripted",
        """
        @torch.jit.script
        def doubled(x):
            return x * 2

        def model():
            z = pyro.sample("z", dist.Normal(torch.zeros(100), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(doubled(z), 1.0).to_event(1))
        """,
        """
        def doubled(x):
            return x * 2

        def model():
            z = pyro.sample("z", dist.Normal(torch.zeros(100), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(doubled(z), 1.0).to_event(1))
        """,
    ),
    Refused(
        "state-write",
        """
        class Counts(nn.Module):
            def __init__(self):
                super().__init__()
                self.register_buffer("count", torch.zeros(2))

            def forward(self):
                self.count.add_(1.0)
                pyro.sample("x", dist.Normal(self.count, 1.0).to_event(1))

        model = Counts()
        """,
        """
        class Counts(nn.Module):
            def __init__(self):
                super().__init__()
                self.register_buffer("count", torch.zeros(2))

            def forward(self):
                count = self.count.clone().add_(1.0)
                pyro.sample("x", dist.Normal(count, 1.0).to_event(1))

        model = Counts()
        """,
    ),
    Refused(
        "view-write",
        """
        def model():
            z = pyro.sample("z", dist.Normal(torch.zeros(2, 3), 1.0).to_event(2))
            turned = (z * 2).t().clone()
            row, column = turned[0], turned[:, 0]
            row.add_(1.0)
            pyro.sample("x", dist.Normal(column, 1.0).to_event(1))
        """,
        """
        def model():
            z = pyro.sample("z", dist.Normal(torch.zeros(2, 3), 1.0).to_event(2))
            turned = (z * 2).t().contiguous().clone()
            row, column = turned[0], turned[:, 0]
            row.add_(1.0)
            pyro.sample("x", dist.Normal(column, 1.0).to_event(1))
        """,
    ),
    Refused(
        "hidden-write",
        """
        def model():
            z = pyro.sample("z", dist.Normal(torch.zeros(4, 2), 1.0).to_event(2))
            mean = torch.zeros(2)
            h = F.batch_norm(z, mean, torch.ones(2), training=True)
            pyro.sample("x", dist.Normal(h + mean, 1.0).to_event(2))
        """,
        """
        def model():
            z = pyro.sample("z", dist.Normal(torch.zeros(4, 2), 1.0).to_event(2))
            mean = z.mean(0)
            h = F.batch_norm(z, None, None, training=True)
            pyro.sample("x", dist.Normal(h + mean, 1.0).to_event(2))
        """,
    ),
    Refused(
        "gradient-write",
        """
        def model():
            w = pyro.param("w", torch.ones(2))
            h = w * 2
            h.data.add_(1.0)
            pyro.sample("x", dist.Normal(h, 1.0).to_event(1))
        """,
        """
        def model():
            w = pyro.param("w", torch.ones(2))
            h = w * 2
            h = h + torch.ones(2)
            pyro.sample("x", dist.Normal(h, 1.0).to_event(1))
        """,
    ),
    Refused(
        "unrecorded-tensor",
        """
        weight = nn.Parameter(torch.ones(2))
        doubled = weight * 2

        def model():
            pyro.sample("x", dist.Normal(doubled, 1.0).to_event(1))
        """,
        """
        weight = nn.Parameter(torch.ones(2))

        def model():
            pyro.sample("x", dist.Normal(weight * 2, 1.0).to_event(1))
        """,
    ),
    Refused(
        "custom-function",
        """
        class Round(torch.autograd.Function):
            @staticmethod
            def forward(ctx, x):
                return x.round()

            @staticmethod
            def backward(ctx, gradient):
                return gradient

        def model():
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(Round.apply(z), 1.0))
        """,
        """
        def model():
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal((z.round() - z).detach() + z, 1.0))
        """,
    ),
    Refused(
        "autocast",
        """
        def model():
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            with torch.autocast("cpu"):
                h = z @ torch.eye(2)
            pyro.sample("x", dist.Normal(h.float(), 1.0).to_event(1))
        """,
        """
        def model():
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            h = z @ torch.eye(2)
            pyro.sample("x", dist.Normal(h.float(), 1.0).to_event(1))
        """,
    ),
    Refused(
        "unknown-call",
        """
        def model():
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            w = pyro.param("w", torch.tensor(1.0))
            (slope,) = torch.autograd.grad(w * 3.0, w, create_graph=True)
            pyro.sample("x", dist.Normal(z + slope, 1.0))
        """,
        """
        def model():
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(z + 3.0, 1.0))
        """,
    ),
    Refused(
        "unseen-distribution",
        """
        prior = dist.RelaxedOneHotCategorical(torch.tensor(1.0), probs=torch.tensor([0.5, 0.5]))

        def model():
            pyro.sample("x", prior)
        """,
        """
        def model():
            pyro.sample("x", dist.RelaxedOneHotCategorical(torch.tensor(1.0), probs=torch.tensor([0.5, 0.5])))
        """,
    ),
    Refused(
        "program-raised",
        """
        def model():
            z = pyro.sample("z", dist.Normal(torch.zeros(3), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z + torch.zeros(2), 1.0))
        """,
        """
        def model():
            z = pyro.sample("z", dist.Normal(torch.zeros(3), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z + torch.zeros(3), 1.0))
        """,
    ),
    Refused(
        "observed-shape",
        """
        def model(x=torch.tensor(0.5)):
            with pyro.plate("data", 3):
                pyro.sample("x", dist.Normal(0.0, 1.0), obs=x)
                pyro.sample("y", dist.Normal(x, 1.0), obs=torch.zeros(3))
        """,
        """
        def model(x=torch.tensor(0.5)):
            x = x.expand(3)
            with pyro.plate("data", 3):
                pyro.sample("x", dist.Normal(0.0, 1.0), obs=x)
                pyro.sample("y", dist.Normal(x, 1.0), obs=torch.zeros(3))
        """,
    ),
    Refused(
        "no-sites",
        """
        def model():
            return torch.zeros(3)
        """,
        """
        def model():
            return pyro.sample("x", dist.Normal(torch.zeros(3), 1.0).to_event(1))
        """,
    ),
    Refused(
        "example-inputs",
        """
        def model(x, y):
            pyro.sample("x", dist.Normal(x, 1.0))
        """,
        """
        def model():
            pyro.sample("x", dist.Normal(0.0, 1.0))
        """,
    ),
    Refused(
        "unknown-argument",
        """
        def model(x={1.0, 2.0}):
            pyro.sample("x", dist.Normal(0.0, 1.0))

        args = ({1.0, 2.0},)
        """,
        """
        def model(x=(1.0, 2.0)):
            pyro.sample("x", dist.Normal(0.0, 1.0))

        args = ((1.0, 2.0),)
        """,
    ),
    Refused(
        "unknown-site",
        """
        def model():
            pyro.sample("x", dist.Normal(0.0, 1.0))

        targets = ["y"]
        """,
        """
        def model():
            pyro.sample("x", dist.Normal(0.0, 1.0))

        targets = ["x"]
        """,
    ),
)
