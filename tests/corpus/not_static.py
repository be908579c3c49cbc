"""What no static graph can hold, or no law can draw: as users write it, and sometimes the same said otherwise."""

import math
import random
from collections.abc import Callable
from functools import partial

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.distributions import constraints
from torch import Tensor, nn

from tests.corpus.entry import Entry
from tests.programs.program import values


def geometric(p: float, t: int = 0) -> int:
    """The effect handlers' and the introduction's: recursion until a coin says so."""
    x = pyro.sample(f"x_{t}", dist.Bernoulli(p))
    if x.item() == 1:
        return 0
    return 1 + geometric(p, t + 1)


def product_of_geometrics(p: float = 0.5) -> None:
    x = geometric(p)
    pyro.sample("y", dist.Normal(float(x), 1.0))


def stick_until_it_is_used_up(data: Tensor) -> None:
    """A Dirichlet process of which the truncation is random."""
    left, weights, atoms = torch.tensor(1.0), [], []
    while left > 0.05:
        k = len(weights)
        fraction = pyro.sample(f"beta_{k}", dist.Beta(1.0, 1.0))
        weights.append(left * fraction)
        atoms.append(pyro.sample(f"atom_{k}", dist.Normal(0.0, 3.0)))
        left = left * (1 - fraction)
    with pyro.plate("data", len(data)):
        z = pyro.sample("z", dist.Categorical(torch.stack(weights)))
        pyro.sample("x", dist.Normal(torch.stack(atoms)[z], 0.5), obs=data)


def sentence(depth: int = 0, path: str = "s") -> list[str]:
    """A grammar: rules are drawn until only words are left."""
    rule = pyro.sample(f"rule_{path}", dist.Categorical(torch.tensor([0.3, 0.7])))
    if rule == 0:
        return [*sentence(depth + 1, path + "l"), *sentence(depth + 1, path + "r")]
    word = pyro.sample(f"word_{path}", dist.Categorical(torch.ones(3)))
    return [("it", "rains", "again")[word]]


def inclined_plane(observed: Tensor) -> None:
    """A body slides down; the simulation runs until it is there, with the friction that was drawn."""
    friction = pyro.sample("friction", dist.Uniform(0.1, 0.4))
    velocity, position, time = torch.zeros(()), torch.zeros(()), 0.0
    acceleration = 9.8 * (math.sin(math.pi / 6) - math.cos(math.pi / 6) * friction)
    while position.numpy() < 2.0:
        position = position + velocity * 0.05
        velocity = velocity + acceleration * 0.05
        time += 0.05
    with pyro.plate("runs", len(observed)):
        pyro.sample("t", dist.Normal(time, 0.1), obs=observed)


UTTERANCES = ("none", "some", "all")


def implicature(alpha: float = 1.0) -> None:
    """A listener reasons about a speaker, who reasons about a listener: meanings are factors."""
    state = pyro.sample("state", dist.Categorical(torch.ones(4)))
    utterance = pyro.sample("utterance", dist.Categorical(torch.ones(3)))
    true = {"none": state == 0, "some": state > 0, "all": state == 3}
    meaning = torch.stack([true[word] for word in UTTERANCES])[utterance]
    with poutine.scale(scale=alpha):
        pyro.factor("literal_meaning", torch.where(meaning, 0.0, -1e6))


def listener(utterance: str) -> int:
    """The same with states as numbers of Python."""
    state = int(pyro.sample("state", dist.Categorical(torch.ones(4))))
    words = [word for word in UTTERANCES if (word == "none") == (state == 0) and (word != "all" or state == 3)]
    chosen = pyro.sample("chosen", dist.Categorical(torch.ones(len(words))))
    pyro.sample("said", dist.Bernoulli(0.99 if words[chosen] == utterance else 0.01), obs=torch.tensor(1.0))
    return state


def product_of_experts(x: Tensor) -> None:
    """An energy in place of a law."""
    energy = pyro.param("energy", torch.ones(2))
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        pyro.factor("experts", -(energy * (z - x.unsqueeze(-1)) ** 2).sum(-1))


def flat_priors(y: Tensor) -> None:
    """As in Stan, where nothing said is flat."""
    mu = pyro.sample("mu", dist.ImproperUniform(constraints.real, (), ()))
    sigma = pyro.sample("sigma", dist.ImproperUniform(constraints.positive, (), ()))
    with pyro.plate("data", len(y)):
        pyro.sample("y", dist.Normal(mu, sigma), obs=y)


def mini_batch_of_pairs(x: Tensor, y: Tensor) -> None:
    """The plate draws which rows are read: of the covariates as well."""
    w = pyro.sample("w", dist.Normal(torch.zeros(x.shape[1]), 1.0).to_event(1))
    with pyro.plate("data", len(x), subsample_size=2) as ind:
        pyro.sample("y", dist.Normal(x[ind] @ w, 1.0), obs=y[ind])


def mini_batch_given(x: Tensor, y: Tensor, size: int) -> None:
    """The same with the rows as arguments, and the size of the whole."""
    w = pyro.sample("w", dist.Normal(torch.zeros(x.shape[1]), 1.0).to_event(1))
    with pyro.plate("data", size, subsample=x):
        batch = x
        pyro.sample("y", dist.Normal(batch @ w, 1.0), obs=y)


def bootstrap(y: Tensor) -> None:
    """NumPy chooses the rows."""
    rows = np.random.choice(len(y), len(y))
    mu = pyro.sample("mu", dist.Normal(torch.as_tensor(y.numpy()[rows]).mean(), 1.0))
    with pyro.plate("data", len(y)):
        pyro.sample("y", dist.Normal(mu, 1.0), obs=y)


def annealed_by_chance(y: Tensor) -> None:
    """Python's generator in the middle of the model."""
    temperature = random.choice([0.5, 1.0, 2.0])
    with pyro.plate("data", len(y)):
        z = pyro.sample("z", dist.Normal(0.0, temperature))
        pyro.sample("y", dist.Normal(z, 1.0), obs=y)


def only_the_positive(x: Tensor) -> None:
    """Selection by a latent: how many are left is random."""
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(x, 1.0))
    kept = z[z > 0]
    pyro.sample("total", dist.Normal(kept.sum(), 1.0), obs=torch.tensor(3.0))


def how_many(n: Tensor) -> None:
    """A count that was drawn is the size of a plate."""
    count = pyro.sample("count", dist.Poisson(n))
    with pyro.plate("things", int(count) + 1):
        size = pyro.sample("size", dist.LogNormal(0.0, 1.0))
    pyro.sample("total", dist.Normal(size.sum(), 1.0))


def same_name_twice(y: Tensor) -> None:
    """A loop whose sites share a name."""
    level = torch.tensor(0.0)
    for t in range(len(y)):
        level = pyro.sample("level", dist.Normal(level, 1.0))
        pyro.sample(f"y_{t}", dist.Normal(level, 0.1), obs=y[t])


class Banana(dist.TorchDistribution):
    """A density that someone wrote for themselves."""

    support = constraints.real_vector
    has_rsample = True

    def __init__(self, a: float, b: float) -> None:
        self.a, self.b = a, b
        super().__init__((), (2,))

    def rsample(self, sample_shape: tuple[int, ...] = ()) -> Tensor:
        u = torch.randn((*sample_shape, 2))
        return torch.stack([self.a * u[..., 0], u[..., 1] / self.a + self.b * u[..., 0] ** 2], -1)

    def log_prob(self, z: Tensor) -> Tensor:
        u = z[..., 0] / self.a
        v = (z[..., 1] - self.b * u**2) * self.a
        return -0.5 * (u**2 + v**2) - math.log(2 * math.pi)


def banana() -> None:
    z = pyro.sample("z", Banana(1.15, 1.0))
    pyro.sample("x", dist.Normal(z.sum(), 0.1))


def accepted_or_not(x: Tensor) -> None:
    """A law that is defined by rejection."""
    scale = pyro.sample("scale", dist.HalfNormal(1.0))
    propose = dist.Normal(0.0, 2.0)
    law = dist.Rejector(propose, lambda z: -z.abs() / 3.0, torch.tensor(-0.5))
    z = pyro.sample("z", law)
    with pyro.plate("data", len(x)):
        pyro.sample("x", dist.Normal(z, scale), obs=x)


def trees_between(y: Tensor) -> None:
    """Which points are neighbours: a random spanning tree, drawn by Markov chain steps."""
    logits = pyro.sample("logits", dist.Normal(torch.zeros(6), 1.0).to_event(1))
    edges = pyro.sample("edges", dist.SpanningTree(logits))
    gaps = (y[edges[:, 0]] - y[edges[:, 1]]).abs()
    pyro.sample("gap", dist.Exponential(1.0 + gaps).to_event(1), obs=torch.ones(3))


class RunningMean(nn.Module):
    """State that the model keeps from call to call."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(()))

    def forward(self, y: Tensor) -> None:
        self.mean.mul_(0.9).add_(0.1 * y.mean())
        with pyro.plate("data", len(y)):
            z = pyro.sample("z", dist.Normal(self.mean, 1.0))
            pyro.sample("y", dist.Normal(z, 1.0), obs=y)


def clipped(y: Tensor, prior: Callable[[], dist.Distribution]) -> None:
    """``max`` of Python compares, and a comparison decides."""
    tau = pyro.sample("tau", prior())
    tau = max(tau, torch.tensor(0.1))
    with pyro.plate("data", len(y)):
        pyro.sample("y", dist.Normal(0.0, tau), obs=y)


def clamped(y: Tensor, prior: Callable[[], dist.Distribution]) -> None:
    tau = pyro.sample("tau", prior()).clamp(min=0.1)
    with pyro.plate("data", len(y)):
        pyro.sample("y", dist.Normal(0.0, tau), obs=y)


def checked_by_the_author(y: Tensor) -> None:
    """Assertions and warnings on values that the program computes change nothing."""
    tau = pyro.sample("tau", dist.LogNormal(0.0, 1.0))
    assert (tau > 0).all()
    if torch.isnan(tau):
        raise ValueError("tau is NaN")
    with pyro.plate("data", len(y)):
        pyro.sample("y", dist.Normal(0.0, tau), obs=y)


def one_law_at_all_times(y: Tensor) -> None:
    """The law is made once, of a level that is written at each step: which of its numbers does it hold?"""
    level = torch.zeros(1)
    law = dist.Normal(level, 1.0).to_event(1)
    for t in range(3):
        level += pyro.sample(f"z_{t}", dist.Normal(0.0, 1.0))
        pyro.sample(f"y_{t}", law, obs=y[t])


half_normal = partial(dist.HalfNormal, 1.0)

ENTRIES = (
    Entry(product_of_geometrics, expect="value-branch", note="recursion until a coin says so, by .item()"),
    Entry(stick_until_it_is_used_up, (values(5),), expect="value-loop", note="a random number of sites"),
    Entry(sentence, expect="value-branch", note="recursion over a drawn structure"),
    Entry(inclined_plane, (values(3),), expect="value-loop", note="a simulation until a latent says so, by .numpy()"),
    Entry(implicature, expect="factor", note="rational speech acts, meanings as factors"),
    Entry(listener, ("some",), expect="value-number", note="rational speech acts in Python"),
    Entry(product_of_experts, (values(4),), expect="factor", note="an energy"),
    Entry(flat_priors, (values(4),), expect="improper-prior", note="improper priors, two"),
    Entry(
        mini_batch_of_pairs,
        (values(5, 2), values(5)),
        expect="drawn-subsample",
        note="a drawn batch of covariates",
    ),
    Entry(mini_batch_given, (values(3, 2), values(3), 12), sites=(1, 1), note="the same with the batch as an argument"),
    Entry(bootstrap, (values(5),), expect="value-array", note="NumPy draws, and reads an input"),
    Entry(annealed_by_chance, (values(4),), expect="foreign-random", note="Python's own generator"),
    Entry(only_the_positive, (values(5),), expect="value-shape", note="a selection of random size"),
    Entry(how_many, (torch.tensor(3.0),), expect="value-number", note="a drawn count as a plate's size"),
    Entry(same_name_twice, (values(3),), expect="repeated-site", note="one name, several sites"),
    Entry(banana, expect="no-noise-transform", note="a distribution of the user's own as a latent"),
    Entry(accepted_or_not, (values(4),), expect="no-noise-transform", note="Rejector"),
    Entry(trees_between, (values(4),), expect="no-noise-transform", note="SpanningTree"),
    Entry(RunningMean(), (values(4),), expect="state-write", name="RunningMean", note="state from call to call"),
    Entry(one_law_at_all_times, (values(3, 1),), expect="law-write", note="a law that is written after it was made"),
    Entry(clipped, (values(4), half_normal), expect="value-branch", note="max() of Python on a latent"),
    Entry(clamped, (values(4), half_normal), sites=(1, 1), note="the same by torch; a function as an argument"),
    Entry(checked_by_the_author, (values(4),), sites=(1, 1), note="assertions are no branches"),
)
