"""Plates, and what stands around a site's batch: expand, to_event, masks, scales."""

from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.poutine.plate_messenger import block_plate
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


def overlapping_plates(table: Tensor) -> None:
    """Sites in the one, the other, both, and the other again."""
    rows = pyro.plate("rows", table.shape[0], dim=-2)
    columns = pyro.plate("columns", table.shape[1], dim=-1)
    with rows:
        a = pyro.sample("a", dist.Normal(0.0, 1.0))
    with columns:
        b = pyro.sample("b", dist.Normal(0.0, 1.0))
    with rows, columns:
        c = pyro.sample("c", dist.Normal(a * b, 1.0))
    with columns:
        d = pyro.sample("d", dist.Normal(c.mean(-2), 1.0))
    with columns, rows:
        pyro.sample("table", dist.Normal(c + d, 1.0), obs=table)


def nested_three_deep(cube: Tensor) -> None:
    """Dims that Pyro chooses: the innermost plate is the leftmost."""
    with pyro.plate("outer", cube.shape[2]):
        a = pyro.sample("a", dist.Normal(0.0, 1.0))
        with pyro.plate("middle", cube.shape[1]):
            b = pyro.sample("b", dist.Bernoulli(logits=a))
            with pyro.plate("inner", cube.shape[0]):
                pyro.sample("cube", dist.Normal(b, 1.0), obs=cube)


def plates_with_gaps(x: Tensor) -> None:
    """An explicit dim leaves others empty; a plate of one element keeps its dim."""
    with pyro.plate("far", len(x), dim=-3):
        z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        with pyro.plate("one", 1, dim=-1):
            pyro.sample("y", dist.Normal(z.sum(-1), 1.0), obs=x)


def plate_entered_twice(x: Tensor) -> None:
    data = pyro.plate("data", len(x))
    with data:
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
    total = pyro.deterministic("total", z.sum())
    with data:
        pyro.sample("x", dist.Normal(z + total, 1.0), obs=x)


def plate_as_decorator(x: Tensor) -> None:
    @pyro.plate("parts", 3)
    def parts() -> Tensor:
        return pyro.sample("z", dist.Normal(0.0, 1.0))

    pyro.sample("x", dist.Normal(parts().sum(), 1.0).expand([len(x)]).to_event(1), obs=x)


def plate_left_for_one_site(x: Tensor) -> None:
    """``block_plate``: a global site that is drawn where a local one is."""
    with pyro.plate("data", len(x)):
        with block_plate("data"):
            scale = pyro.sample("scale", dist.LogNormal(0.0, 1.0))
        z = pyro.sample("z", dist.Normal(0.0, scale))
        pyro.sample("x", dist.Normal(z, 1.0), obs=x)


def stack_to_the_left(x: Tensor) -> None:
    base = pyro.sample("base", dist.Normal(0.0, 1.0))
    with pyro.plate_stack("cells", x.shape, rightmost_dim=-2):
        z = pyro.sample("z", dist.Normal(base, 1.0))
        pyro.sample("x", dist.Normal(z, 1.0), obs=x.unsqueeze(-1))


def plates_without_sizes(x: Tensor) -> None:
    with pyro.plate("rows"), pyro.plate("columns"):
        z = pyro.sample("z", dist.Normal(torch.zeros(x.shape), 1.0))
        pyro.sample("x", dist.Normal(z, 1.0), obs=x)


def sequential_in_sequential(x: Tensor) -> None:
    rows, columns = pyro.plate("rows", 2), pyro.plate("columns", 2)
    for i in rows:
        row = pyro.sample(f"row_{i}", dist.Normal(0.0, 1.0))
        for j in columns:
            pyro.sample(f"x_{i}_{j}", dist.Normal(row, 1.0), obs=x[i, j])


def sequential_in_vectorised(x: Tensor) -> None:
    with pyro.plate("batch", len(x)):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        for i in pyro.plate("steps", 2):
            pyro.sample(f"x_{i}", dist.Normal(z, 1.0), obs=x[:, i])


def sequential_over_chosen(x: Tensor) -> None:
    """Three of six points, chosen by the program: each counts double."""
    mean = pyro.sample("mean", dist.Normal(0.0, 1.0))
    for i in pyro.plate("data", 6, subsample=[0, 2, 5]):
        pyro.sample(f"x_{i}", dist.Normal(mean, 1.0), obs=x[i])


def subsampled_by_an_argument(x: Tensor, index: Tensor) -> None:
    mean = pyro.sample("mean", dist.Normal(0.0, 1.0))
    with pyro.plate("data", 10, subsample=index) as chosen:
        pyro.sample("x", dist.Normal(mean, 1.0), obs=x[chosen])


def subsampled_parameters(index: Tensor, x: Tensor) -> None:
    """Pyro picks those of the chosen points out of a parameter and out of data."""
    pyro.param("locs", lambda: torch.arange(10.0), event_dim=0)
    offsets = torch.linspace(0.0, 1.0, 10)
    with pyro.plate("data", 10, subsample=index):
        loc = pyro.param("locs", event_dim=0) + pyro.subsample(offsets, event_dim=0)
        pyro.sample("x", dist.Normal(loc, 1.0), obs=x)


def subsampled_in_two_plates(x: Tensor) -> None:
    with pyro.plate("rows", 20, subsample_size=x.shape[0], dim=-2):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        with pyro.plate("columns", 30, subsample_size=x.shape[1], dim=-1):
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)


def indices_are_data(x: Tensor) -> None:
    """A plate that does not subsample yields all its indices."""
    with pyro.plate("data", len(x)) as index:
        z = pyro.sample("z", dist.Normal(index.to(x.dtype), 1.0))
        pyro.sample("y", dist.Normal(z + x[index], 1.0))


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
    Program(
        overlapping_plates,
        (values(3, 4),),
        edges=edges("a -> c", "b -> c", "c -> d", "c -> table", "d -> table"),
    ),
    Program(nested_three_deep, (values(2, 3, 4),), edges=edges("a -> b", "b -> cube")),
    Program(plates_with_gaps, (values(3, 1, 1),), edges=edges("z -> y")),
    Program(plate_entered_twice, (values(4),), edges=edges("z -> total", "z -> x", "total -> x")),
    Program(plate_as_decorator, (values(4),), edges=edges("z -> x")),
    Program(plate_left_for_one_site, (values(4),), edges=edges("scale -> z", "z -> x")),
    Program(stack_to_the_left, (values(4, 3),), edges=edges("base -> z", "z -> x")),
    Program(plates_without_sizes, (values(4, 3),), edges=edges("z -> x")),
    Program(
        sequential_in_sequential,
        (values(2, 2),),
        edges=edges("row_0 -> x_0_0", "row_0 -> x_0_1", "row_1 -> x_1_0", "row_1 -> x_1_1"),
    ),
    Program(sequential_in_vectorised, (values(4, 2),), edges=edges("z -> x_0", "z -> x_1")),
    Program(sequential_over_chosen, (values(6),), edges=edges("mean -> x_0", "mean -> x_2", "mean -> x_5")),
    Program(subsampled_by_an_argument, (values(10), torch.tensor([1, 4, 7])), edges=edges("mean -> x")),
    Program(subsampled_parameters, (torch.tensor([1, 4, 7]), values(3)), edges=edges("index -> x")),
    Program(subsampled_in_two_plates, (values(4, 3),), edges=edges("z -> x")),
    Program(indices_are_data, (values(4),), edges=edges("z -> y", "x -> y")),
)
