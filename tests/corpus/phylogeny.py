"""Trees of descent: coalescents, substitutions along branches, drift."""

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

from tests.corpus.entry import Entry
from tests.programs.program import values

Tree = tuple[object, ...] | str


def coalescent(leaf_times: Tensor) -> None:
    """When do the lineages of samples meet? The growth of the population is a latent."""
    rate = pyro.sample("rate", dist.LogNormal(0.0, 1.0))
    with pyro.plate("trees", 2):
        times = pyro.sample("coal_times", dist.CoalescentTimes(leaf_times, rate))
        pyro.sample("height", dist.Normal(times[..., -1], 0.1))


def observed_coalescent(leaf_times: Tensor, coal_times: Tensor) -> None:
    rate = pyro.sample("rate", dist.LogNormal(0.0, 1.0))
    pyro.sample("coal_times", dist.CoalescentTimes(leaf_times, rate), obs=coal_times)


def skyline(leaf_times: Tensor, coal_times: Tensor) -> None:
    """The likelihood of a piecewise rate is a function, and is added as a factor."""
    likelihood = dist.CoalescentRateLikelihood(leaf_times, coal_times, duration=4)
    with pyro.plate("time", 4):
        rate = pyro.sample("rate", dist.LogNormal(0.0, 1.0))
        pyro.factor("coalescence", likelihood(rate))


def substitutions(tree: Tree, letters: dict[str, Tensor]) -> None:
    """Jukes and Cantor on a given tree, which is nested tuples of names: recursion over the data's structure."""
    sites = next(iter(letters.values())).shape[0]

    def descend(node: Tree, parent: Tensor, path: str) -> None:
        length = pyro.sample(f"length_{path}", dist.Exponential(10.0))
        stay = 0.25 + 0.75 * torch.exp(-4.0 / 3.0 * length)
        matrix = stay * torch.eye(4) + (1 - stay) / 3.0 * (1 - torch.eye(4))
        with pyro.plate(f"sites_{path}", sites):
            if isinstance(node, str):
                pyro.sample(node, dist.Categorical(matrix[parent]), obs=letters[node])
                return
            letter = pyro.sample(f"letter_{path}", dist.Categorical(matrix[parent]), infer={"enumerate": "parallel"})
        for i, child in enumerate(node):
            descend(child, letter, f"{path}{i}")

    with pyro.plate("root_sites", sites):
        root = pyro.sample("root", dist.Categorical(torch.ones(4)))
    for i, child in enumerate(tree):
        descend(child, root, str(i))


def brownian_traits(parent: Tensor, length: Tensor, trait: Tensor) -> None:
    """A trait drifts along the branches; the tree comes as a list of parents, which Python reads."""
    sigma = pyro.sample("sigma", dist.HalfNormal(1.0))
    value = {-1: pyro.sample("root", dist.Normal(0.0, 10.0))}
    for i in range(len(parent)):
        value[i] = pyro.sample(f"node_{i}", dist.Normal(value[int(parent[i])], sigma * length[i].sqrt()))
    leaves = torch.stack([value[i] for i in range(len(parent))][-len(trait) :])
    with pyro.plate("leaves", len(trait)):
        pyro.sample("trait", dist.Normal(leaves, 0.1), obs=trait)


def allele_drift(counts: Tensor, size: float = 50.0) -> None:
    """Wright and Fisher: generations of binomials in populations, with Beta-binomial samples."""
    with pyro.plate("populations", len(counts)):
        p = pyro.sample("p_0", dist.Beta(2.0, 2.0))
        for t in range(1, counts.shape[1]):
            copies = pyro.sample(f"copies_{t}", dist.Binomial(size, p))
            p = ((copies + 0.5) / (size + 1.0)).clamp(0.01, 0.99)
            law = dist.BetaBinomial(20.0 * p, 20.0 * (1 - p), total_count=10)
            pyro.sample(f"seen_{t}", law, obs=counts[:, t])


LEAF_TIMES = torch.tensor([0.0, 0.0, 0.5, 1.0])
COAL_TIMES = torch.tensor([-3.0, -1.5, -0.5])
LETTERS = {name: torch.tensor(word) for name, word in (("ape", [0, 1, 2]), ("cat", [0, 3, 2]), ("dog", [1, 3, 2]))}

ENTRIES = (
    Entry(coalescent, (LEAF_TIMES,), sites=(2, 1), note="CoalescentTimes as a latent"),
    Entry(observed_coalescent, (LEAF_TIMES, COAL_TIMES), sites=(1, 1), note="CoalescentTimes observed"),
    Entry(skyline, (LEAF_TIMES, COAL_TIMES), expect="factor", note="a likelihood that is no distribution"),
    Entry(
        substitutions,
        (("ape", ("cat", "dog")), LETTERS),
        sites=(6, 3),
        note="recursion over nested tuples of strings",
    ),
    Entry(
        brownian_traits,
        (torch.tensor([-1, 0, 0]), torch.tensor([1.0, 0.5, 0.7]), values(2)),
        expect="value-index",
        note="int() of an input decides the structure",
    ),
    Entry(
        allele_drift,
        (torch.tensor([[1.0, 2.0, 3.0], [5.0, 6.0, 9.0]]),),
        sites=(3, 2),
        note="counts that become chances; BetaBinomial with an integer total",
    ),
)
