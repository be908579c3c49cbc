"""Families and what is made of them: transformed, structured, discrete."""

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import transforms

from tests.programs.program import Program, bits, edges, values


def heavy_tails(x: Tensor) -> None:
    """Each is its own family, although most are built from another one."""
    a = pyro.sample("a", dist.LogNormal(0.0, 0.5))
    b = pyro.sample("b", dist.HalfCauchy(a))
    c = pyro.sample("c", dist.HalfNormal(b))
    d = pyro.sample("d", dist.Gumbel(c, 1.0))
    e = pyro.sample("e", dist.Weibull(1.0 + a, 2.0))
    f = pyro.sample("f", dist.Pareto(1.0 + e, 3.0))
    with pyro.plate("data", len(x)):
        pyro.sample("x", dist.Cauchy(d + f, a), obs=x)


def uniform_and_exponential(x: Tensor) -> None:
    low = pyro.sample("low", dist.Uniform(-1.0, 1.0))
    rate = pyro.sample("rate", dist.Exponential(torch.ones(2)).to_event(1))
    with pyro.plate("data", len(x)):
        pyro.sample("x", dist.Uniform(low - rate.sum(), low + rate[0]), obs=x)


def logistic_by_transforms(x: Tensor) -> None:
    base = dist.Uniform(torch.zeros(()), torch.ones(()))
    steps = [transforms.SigmoidTransform().inv, transforms.AffineTransform(loc=1.0, scale=2.0)]
    shift = pyro.sample("shift", dist.TransformedDistribution(base, steps))
    with pyro.plate("data", len(x)):
        pyro.sample("x", dist.Logistic(shift, 1.0), obs=x)


def transform_of_latents(x: Tensor) -> None:
    loc = pyro.sample("loc", dist.Normal(0.0, 1.0))
    with pyro.plate("data", len(x)):
        law = dist.Normal(torch.zeros(2), 1.0)
        warp = transforms.ComposeTransform([transforms.AffineTransform(loc, 2.0), transforms.TanhTransform()])
        z = pyro.sample("z", dist.TransformedDistribution(law, [warp]).to_event(1))
        pyro.sample("x", dist.Normal(z.sum(-1), 1.0), obs=x)


def transform_inverted(x: Tensor) -> None:
    steps = transforms.ComposeTransform([transforms.ExpTransform(), transforms.AffineTransform(0.0, 3.0)]).inv
    with pyro.plate("data", len(x)):
        y = pyro.sample("y", dist.TransformedDistribution(dist.Exponential(2.0), steps))
        pyro.sample("x", dist.Normal(y, 1.0), obs=x)


def gaussian_process(inputs: Tensor, y: Tensor) -> None:
    amplitude = pyro.sample("amplitude", dist.LogNormal(0.0, 0.3))
    difference = inputs.unsqueeze(0) - inputs.unsqueeze(1)
    covariance = amplitude * torch.exp(-(difference**2)) + 0.1 * torch.eye(len(inputs))
    f = pyro.sample("f", dist.MultivariateNormal(torch.zeros(len(inputs)), covariance_matrix=covariance))
    pyro.sample("y", dist.Normal(f, 0.5).to_event(1), obs=y)


def gaussian_markov_field(y: Tensor) -> None:
    precision = torch.tensor([[2.0, -0.5, 0.0], [-0.5, 2.0, -0.5], [0.0, -0.5, 2.0]])
    with pyro.plate("data", len(y)):
        x = pyro.sample("x", dist.MultivariateNormal(torch.zeros(3), precision_matrix=precision))
        pyro.sample("y", dist.MultivariateNormal(x, scale_tril=torch.eye(3)), obs=y)


def factor_analysis(y: Tensor) -> None:
    loading = pyro.param("loading", lambda: 0.1 * torch.ones(4, 2))
    with pyro.plate("data", len(y)):
        pyro.sample("y", dist.LowRankMultivariateNormal(torch.zeros(4), loading, torch.full((4,), 0.5)), obs=y)


def mixture(y: Tensor) -> None:
    """``locs[k]``: a table read by a discrete latent."""
    weights = torch.tensor([0.2, 0.3, 0.5])
    with pyro.plate("components", 3):
        locs = pyro.sample("locs", dist.Normal(0.0, 10.0))
    with pyro.plate("data", len(y)):
        k = pyro.sample("k", dist.Categorical(weights))
        pyro.sample("y", dist.Normal(locs[k], 1.0), obs=y)


def one_hot_mixture(y: Tensor) -> None:
    table = pyro.param("table", torch.arange(6.0).reshape(3, 2))
    with pyro.plate("data", len(y)):
        k = pyro.sample("k", dist.OneHotCategorical(logits=torch.zeros(3)))
        pyro.sample("y", dist.Normal(k @ table, 1.0).to_event(1), obs=y)


def sigmoid_belief_net(x: Tensor) -> None:
    top, below = pyro.param("top", values(2)), pyro.param("below", values(2, 3, seed=1))
    with pyro.plate("data", len(x)):
        h = pyro.sample("h", dist.Bernoulli(logits=top).to_event(1))
        pyro.sample("x", dist.Bernoulli(probs=torch.sigmoid(h @ below)).to_event(1), obs=x)


def counts(n: Tensor) -> None:
    p = pyro.sample("p", dist.Uniform(0.1, 0.9))
    with pyro.plate("data", len(n)):
        trials = pyro.sample("trials", dist.Geometric(0.3))
        pyro.sample("n", dist.Binomial(trials + 5.0, p), obs=n)


def point_mass(x: Tensor) -> None:
    shift = pyro.sample("shift", dist.Delta(pyro.param("point", torch.tensor(0.4))))
    with pyro.plate("data", len(x)):
        pyro.sample("x", dist.Normal(shift, 1.0), obs=x)


def branching_tensors(x: Tensor) -> None:
    """``torch.where`` on a draw is data flow, and no branch."""
    with pyro.plate("data", len(x)):
        heads = pyro.sample("heads", dist.Bernoulli(0.4))
        loc = torch.where(heads > 0.5, torch.tensor(2.0), x * 0.1)
        pyro.sample("y", dist.Normal(loc, 1.0))


def vindexed(y: Tensor) -> None:
    """`Vindex` broadcasts the index, as Pyro's enumeration needs it."""
    from pyro.ops.indexing import Vindex

    table = pyro.param("table", values(2, 3))
    with pyro.plate("data", len(y)):
        i = pyro.sample("i", dist.Categorical(torch.ones(2)))
        j = pyro.sample("j", dist.Categorical(torch.ones(3)))
        pyro.sample("y", dist.Normal(Vindex(table)[i, j], 1.0), obs=y)


def hard_draws_of_soft_laws(y: Tensor) -> None:
    """Straight-through draws lie where the law's own density is infinite or NaN."""
    with pyro.plate("data", len(y)):
        gate = pyro.sample("gate", dist.RelaxedBernoulliStraightThrough(torch.tensor(0.5), logits=torch.tensor(0.2)))
        law = dist.RelaxedOneHotCategoricalStraightThrough(torch.tensor(0.5), logits=gate.unsqueeze(-1) * torch.ones(3))
        k = pyro.sample("k", law)
        pyro.sample("y", dist.Normal(k @ torch.arange(3.0).to(k.dtype), 1.0), obs=y)


def angles_in_a_plate(x: Tensor) -> None:
    """In a plate Pyro expands it, and computes the constant of its density by a sum of a length that values decide."""
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(x, 1.0))
        angles = pyro.sample("angles", dist.SineBivariateVonMises(z.tanh(), 0.3, 2.0 + z.exp(), 2.0, correlation=0.5))
        shares = dist.SineBivariateVonMises(0.0, z, 2.0 + z.exp(), 1.0, weighted_correlation=0.8 * z.tanh())
        others = pyro.sample("others", shares)
        pyro.sample("y", dist.Normal(angles.sin().sum(-1) + others[..., 0].sin(), 1.0))


def stored_vectors(x: Tensor) -> None:
    """Samples that are vectors: the weights say along which dims they are stored."""
    z = pyro.sample("z", dist.Normal(torch.zeros(4, 2), 1.0).to_event(2))
    one = pyro.sample("one", dist.Empirical(z, z[:, 0]))
    with pyro.plate("data", len(x)):
        each = pyro.sample("each", dist.Empirical(z + x[:, None, None], x[:, None] * z[:, 1]))
        pyro.sample("y", dist.Normal(one.sum() + each.sum(-1), 1.0))


PROGRAMS = (
    Program(
        heavy_tails,
        (values(4),),
        edges=edges("a -> b", "b -> c", "c -> d", "a -> e", "e -> f", "d -> x", "f -> x", "a -> x"),
    ),
    Program(uniform_and_exponential, (values(4),)),
    Program(stored_vectors, (values(4),)),
    Program(logistic_by_transforms, (values(4),)),
    Program(transform_of_latents, (values(4),)),
    Program(transform_inverted, (values(4),)),
    Program(gaussian_process, (values(4), values(4, seed=1)), edges=edges("amplitude -> f", "inputs -> f", "f -> y")),
    Program(gaussian_markov_field, (values(4, 3),)),
    Program(factor_analysis, (values(5, 4),)),
    Program(mixture, (values(6),), edges=edges("locs -> y", "k -> y")),
    Program(one_hot_mixture, (values(4, 2),)),
    Program(sigmoid_belief_net, (bits(4, 3),)),
    Program(counts, (torch.tensor([1.0, 2.0, 3.0]),)),
    Program(point_mass, (values(4),)),
    Program(branching_tensors, (values(5),), edges=edges("heads -> y", "x -> y")),
    Program(vindexed, (values(5),)),
    Program(angles_in_a_plate, (values(5),)),
    Program(hard_draws_of_soft_laws, (values(5),), edges=edges("gate -> k", "k -> y")),
)
