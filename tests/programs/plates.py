"""Plates, and what stands around a site's batch: expand, to_event, masks, scales."""

from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from torch import Tensor

from tests.programs.program import Program, bits, edges, values


def regression(x: Tensor, y: Tensor) -> None:
    slope = pyro.sample("slope", dist.Normal(0.0, 2.0))
    intercept = pyro.sample("intercept", dist.Normal(0.0, 10.0))
    noise = pyro.sample("noise", dist.HalfCauchy(1.0))
    with pyro.plate("data", len(x)):
        pyro.sample("y", dist.Normal(intercept + slope * x, noise), obs=y)


def nested_plates(table: Tensor) -> None:
    rows = pyro.plate("rows", table.shape[0], dim=-2)
    columns = pyro.plate("columns", table.shape[1], dim=-1)
    with rows:
        row_effect = pyro.sample("row_effect", dist.Normal(0.0, 1.0))
    with columns:
        column_effect = pyro.sample("column_effect", dist.Laplace(0.0, 0.5))
    with rows, columns:
        pyro.sample("cell", dist.Normal(row_effect + column_effect, 0.3), obs=table)


def plate_of_a_stack(image: Tensor) -> None:
    level = pyro.sample("level", dist.Normal(0.0, 1.0))
    with pyro.plate_stack("pixels", image.shape):
        pyro.sample("image", dist.Normal(level, 1.0), obs=image)


def sequential_plate(y: Tensor) -> None:
    scale = pyro.sample("scale", dist.Exponential(1.0))
    for i in pyro.plate("data", 3):
        pyro.sample(f"y_{i}", dist.Normal(float(i), scale), obs=y[i])


def plate_without_size(y: Tensor) -> None:
    mean = pyro.sample("mean", dist.Normal(0.0, 1.0))
    with pyro.plate("data"):
        pyro.sample("y", dist.Normal(mean.expand(len(y)), 1.0), obs=y)


def subsampled(y: Tensor) -> None:
    """Half as many points stand for all: their log-probability counts double."""
    mean = pyro.sample("mean", dist.Normal(0.0, 1.0))
    with pyro.plate("data", 2 * len(y), subsample_size=len(y)):
        pyro.sample("y", dist.Normal(mean, 1.0), obs=y)


def mini_batch(y: Tensor) -> None:
    """Which points are drawn decides the data, and no data stand in the graph."""
    mean = pyro.sample("mean", dist.Normal(0.0, 1.0))
    with pyro.plate("data", len(y), subsample_size=3) as index:
        pyro.sample("y", dist.Normal(mean, 1.0), obs=y[index])


def masked_sequence(y: Tensor, lengths: Tensor) -> None:
    """A mask that every step of a padded sequence has of its own, as in Pyro's deep Markov model."""
    with pyro.plate("batch", len(y)):
        z = torch.zeros(len(y))
        for t in range(3):
            with poutine.mask(mask=t < lengths):
                z = pyro.sample(f"z_{t}", dist.Normal(0.9 * z, 1.0))
                pyro.sample(f"y_{t}", dist.Normal(z, 0.2), obs=y[:, t])


def masked_by_value(x: Tensor, seen: Tensor) -> None:
    level = pyro.sample("level", dist.Normal(0.0, 1.0))
    with pyro.plate("data", len(x)):
        pyro.sample("x", dist.Normal(level, 1.0).mask(seen > 0), obs=x)


def two_masks(x: Tensor, seen: Tensor, valid: Tensor) -> None:
    with pyro.plate("data", len(x)), poutine.mask(mask=valid > 0):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(z, 1.0).mask(seen > 0), obs=x)


def switched_off(x: Tensor) -> None:
    with pyro.plate("data", len(x)):
        with poutine.mask(mask=False):
            prior = pyro.sample("prior", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        pyro.sample("x", dist.Normal(prior.sum(-1), 1.0), obs=x)


def annealed(x: Tensor, weight: Tensor) -> None:
    """The weight of the prior is an argument, as when its KL term is annealed."""
    with pyro.plate("data", len(x)):
        with poutine.scale(scale=weight):
            z = pyro.sample("z", dist.Normal(torch.zeros(4), torch.ones(4)).to_event(1))
        pyro.sample("x", dist.Normal(z.mean(-1), 1.0), obs=x)


def scaled_twice(x: Tensor) -> None:
    with poutine.scale(scale=0.5), pyro.plate("data", 10, subsample_size=5):
        pyro.sample("x", dist.Normal(pyro.param("mean", torch.tensor(0.3)), 1.0), obs=x)


def expanded(x: Tensor) -> None:
    prior = dist.Normal(0.0, 1.0).expand([x.shape[1]]).to_event(1)
    weight = pyro.sample("weight", prior)
    with pyro.plate("data", x.shape[0]):
        y = pyro.sample("y", dist.Bernoulli(logits=x @ weight))
        pyro.sample("w", dist.Normal(y, 1.0).expand([x.shape[0]]), obs=x[:, 0])


def expanded_by(x: Tensor) -> None:
    z = pyro.sample("z", dist.Gumbel(torch.zeros(3), 1.0).expand_by([len(x)]).to_event(2))
    pyro.sample("x", dist.Normal(z, 1.0).to_event(2), obs=x)


def reinterpreted(x: Tensor) -> None:
    """``to_event`` of some dims only: the plate keeps the others."""
    with pyro.plate("batch", len(x), dim=-1):
        z = pyro.sample("z", dist.Normal(torch.zeros(2, 3), 1.0).to_event(2))
        pyro.sample("x", dist.Independent(dist.Normal(z, 1.0), 1).to_event(1), obs=x)


def broadcast_by_plate() -> None:
    with pyro.plate("outer", 4, dim=-3), pyro.plate("inner", 2, dim=-1):
        z = pyro.sample("z", dist.Normal(torch.zeros(3, 1), 1.0))
        pyro.sample("y", dist.Normal(z, torch.ones(3, 2)))


class MixedEffects:
    """Groups as an index: ``effect[group]`` reads a latent by an input."""

    def __call__(self, group: Tensor, x: Tensor, y: Tensor) -> Any:
        with pyro.plate("groups", 3):
            effect = pyro.sample("effect", dist.Normal(0.0, 1.0))
        slope = pyro.sample("slope", dist.Normal(torch.zeros(()), torch.ones(())))
        with pyro.plate("data", len(y)):
            return pyro.sample("y", dist.Normal(effect[group] + slope * x, 0.1), obs=y)


PROGRAMS = (
    Program(
        regression,
        (values(5), values(5, seed=1)),
        edges=edges("slope -> y", "intercept -> y", "noise -> y", "x -> y"),
    ),
    Program(nested_plates, (values(3, 4),), edges=edges("row_effect -> cell", "column_effect -> cell")),
    Program(plate_of_a_stack, (values(3, 4),), edges=edges("level -> image")),
    Program(sequential_plate, (values(3),)),
    Program(plate_without_size, (values(5),)),
    Program(subsampled, (values(4),)),
    Program(mini_batch, (values(7),)),
    Program(masked_sequence, (values(4, 3), torch.tensor([3, 1, 2, 3]))),
    Program(masked_by_value, (values(5), bits(5))),
    Program(two_masks, (values(5), bits(5), bits(5, seed=2))),
    Program(switched_off, (values(4),)),
    Program(annealed, (values(3), torch.tensor(0.2)), edges=edges("weight -> z", "z -> x")),
    Program(scaled_twice, (values(5),)),
    Program(expanded, (values(4, 3),)),
    Program(expanded_by, (values(4, 3),)),
    Program(reinterpreted, (values(5, 2, 3),)),
    Program(broadcast_by_plate, other_size=False, edges=edges("z -> y")),
    Program(MixedEffects(), (torch.tensor([0, 2, 1, 1, 0]), values(5), values(5, seed=1))),
)
