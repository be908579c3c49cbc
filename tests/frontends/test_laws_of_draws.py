"""What a compiled program draws has the law of what torch's own function draws."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from scipy import stats
from torch import Tensor

import dgmcompile as dgm
from dgmcompile.frontends.random_calls import COMPOSED_CALLS, RANDOM_CALLS
from tests.frontends.latents import MEAN, PROBS, SCALE

COUNT = 20_000
WEIGHTS = torch.tensor([0.5, 2.0, 0.0, 1.5])

DRAWS: dict[str, Callable[[int], Tensor]] = {
    "torch.randn": lambda n: torch.randn(n, 2),
    "torch.randn_like": lambda n: torch.randn_like(torch.zeros(n, 2)),
    "torch.rand": lambda n: torch.rand(n, 2),
    "torch.rand_like": lambda n: torch.rand_like(torch.zeros(n, 2)),
    "torch.normal": lambda n: torch.normal(MEAN.expand(n, 3), SCALE),
    "torch.normal, by name": lambda n: torch.normal(size=(n, 2), std=2.0, mean=1.0),
    "torch.bernoulli": lambda n: torch.bernoulli(PROBS.expand(n, 3)),
    "torch.Tensor.bernoulli": lambda n: PROBS.expand(n, 3).bernoulli(),
    "torch.Tensor.bernoulli, of a number": lambda n: PROBS.expand(n, 3).bernoulli(p=0.3),
    "torch.poisson": lambda n: torch.poisson(SCALE.expand(n, 3)),
    "torch.binomial": lambda n: torch.binomial(torch.tensor([5.0, 2.0, 9.0]).expand(n, 3), PROBS.expand(n, 3)),
    "torch.Tensor.normal_": lambda n: torch.empty(n, 2).normal_(1.0, std=3.0),
    "torch.Tensor.uniform_": lambda n: torch.empty(n, 2).uniform_(-1.0, to=2.0),
    "torch.Tensor.exponential_": lambda n: torch.empty(n, 2).exponential_(lambd=2.0),
    "torch.Tensor.cauchy_": lambda n: torch.empty(n, 2).cauchy_(1.0, sigma=2.0),
    "torch.Tensor.log_normal_": lambda n: torch.empty(n, 2).log_normal_(0.5, std=0.2),
    "torch.Tensor.bernoulli_": lambda n: torch.empty(n, 3).bernoulli_(PROBS),
    "torch.Tensor.bernoulli_, of no number": lambda n: torch.empty(n, 3).bernoulli_(),
    "torch.multinomial": lambda n: torch.multinomial(WEIGHTS.expand(n, 4), 1),
    "torch.multinomial, of a vector": lambda n: torch.multinomial(WEIGHTS, n, replacement=True),
    "torch.multinomial, of several": lambda n: torch.multinomial(WEIGHTS.expand(n, 4), num_samples=3),
    "torch.Tensor.multinomial": lambda n: WEIGHTS.expand(n, 4).multinomial(2, True),
    "torch.nn.functional.gumbel_softmax": lambda n: F.gumbel_softmax(MEAN.expand(n, 3), 0.7),
    "torch.nn.functional.gumbel_softmax, of a dim": lambda n: F.gumbel_softmax(MEAN[:, None].expand(n, 3, 2), dim=1),
    "torch.nn.functional.gumbel_softmax, hard": lambda n: F.gumbel_softmax(MEAN.expand(n, 3), hard=True),
    "torch.Tensor.geometric_": lambda n: torch.empty(n, 2).geometric_(0.3),
    "torch.randint": lambda n: torch.randint(5, (n, 2)),
    "torch.randint, from a bound": lambda n: torch.randint(-3, 2, (n, 2), dtype=torch.int32),
    "torch.randint_like": lambda n: torch.randint_like(torch.zeros(n, 2), 5),
    "torch.randint_like, by name": lambda n: torch.randint_like(torch.zeros(n, 2), low=-3, high=2, dtype=torch.int32),
    "torch.randperm": lambda n: (order := torch.randperm(n)) - order.roll(1),
    "torch.randperm, of a type": lambda n: (order := torch.randperm(n, dtype=torch.int32)) - order.roll(1),
    "torch.ops.aten.normal_functional": lambda n: torch.ops.aten.normal_functional(torch.empty(n, 2), 1.0, 3.0),
    "torch.ops.aten.uniform": lambda n: torch.ops.aten.uniform(torch.empty(n, 2), -1.0, 2.0),
    "torch.ops.aten.exponential": lambda n: torch.ops.aten.exponential(torch.empty(n, 2), 2.0),
    "torch.ops.aten.cauchy": lambda n: torch.ops.aten.cauchy(torch.empty(n, 2), 1.0, 2.0),
    "torch.ops.aten.log_normal": lambda n: torch.ops.aten.log_normal(torch.empty(n, 2), 0.5, 0.2),
    "torch.ops.aten.geometric": lambda n: torch.ops.aten.geometric(torch.empty(n, 2), 0.3),
    "torch.randint, by name": lambda n: torch.randint(size=(n,), high=4, low=1),
}


def test_every_function_that_draws_is_compared():
    assert {name.partition(",")[0] for name in DRAWS} == RANDOM_CALLS.keys() | COMPOSED_CALLS.keys()


@pytest.mark.parametrize("rewrite", [lambda graph: graph, dgm.semi_auxiliary], ids=["original", "semi-auxiliary"])
@pytest.mark.parametrize("name", DRAWS)
def test_the_compiled_draw_has_the_law_of_torchs_own(name: str, rewrite: Callable[[dgm.Graph], dgm.Graph]):
    draw = DRAWS[name]

    def model(n: int) -> Tensor:
        z = draw(n)
        return z * 1

    compiled = dgm.compile(rewrite(dgm.trace(model, (4,))))
    torch.manual_seed(0)
    ours, theirs = compiled(COUNT)["output"], draw(COUNT)
    assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)
    assert probability(rows(ours), rows(theirs)) > 1e-3


def rows(drawn: Tensor) -> Tensor:
    return drawn.reshape(COUNT, -1).double()


def probability(ours: Tensor, theirs: Tensor) -> float:
    """Of samples of one law that they differ so much: the least of each column's, and of rows where these are few."""
    found = [stats.ks_2samp(a, b).pvalue for a, b in zip(ours.T, theirs.T, strict=True)]
    kinds, which = torch.cat([ours, theirs]).unique(dim=0, return_inverse=True)
    if len(kinds) < 300:
        counts = torch.stack([half.bincount(minlength=len(kinds)) for half in which.chunk(2)])
        found.append(stats.chi2_contingency(counts[:, counts.sum(0) > 20])[1])
    return min(found)
