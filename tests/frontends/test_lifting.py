"""Noise that a program of plain PyTorch makes into random variables by itself, and noise that stays noise."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pyro.distributions
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch import distributions as td

import dgmcompile as dgm
from dgmcompile.ir.graph import Noise, Sample
from tests.frontends.latents import MEAN, PROBS, SCALE, the_latent
from tests.programs.program import values

FACTOR = torch.tensor([[1.0, 0.0, 0.0], [0.5, 1.0, 0.0], [0.2, -0.3, 2.0]])


def normal(shape: Any) -> Tensor:
    return torch.empty(shape).normal_()


def cholesky() -> Tensor:
    return torch.linalg.cholesky(FACTOR @ FACTOR.T)


def gumbel(shape: Any) -> Tensor:
    return -torch.log(-torch.log(torch.rand(shape)))


def laplace(u: Tensor) -> Tensor:
    return MEAN - SCALE * torch.sign(u) * torch.log(1 - 2 * torch.abs(u))


def laplace_by_log1p(u: Tensor) -> Tensor:
    return MEAN + 2 * (torch.sign(u - 0.5) * torch.log1p(-2 * (u - 0.5).abs()))


def softened() -> Tensor:
    return torch.softmax((MEAN + gumbel((4, 3))) / 0.5, -1)


def hard_by_scatter() -> Tensor:
    soft = softened()
    hard = torch.zeros_like(soft).scatter_(-1, soft.max(-1, keepdim=True)[1], 1.0)
    return hard - soft.detach() + soft


def hard_by_one_hot() -> Tensor:
    soft = softened()
    return (F.one_hot(soft.argmax(-1), 3).float() - soft).detach() + soft


def hard_of_the_least() -> Tensor:
    soft = softened()
    return (F.one_hot(soft.argmin(-1), 3).float() - soft).detach() + soft


def hard_without_the_cut() -> Tensor:
    soft = softened()
    return F.one_hot(soft.argmax(-1), 3).float() - soft + soft


RECOVERED: dict[str, tuple[Callable[[], Tensor], str]] = {
    "loc + scale * randn": (lambda: MEAN + SCALE * torch.randn(3), "Normal"),
    "randn * scale - loc": (lambda: torch.randn(3) * SCALE - MEAN, "Normal"),
    "2 - 0.5 * randn": (lambda: 2 - 0.5 * torch.randn(3), "Normal"),
    "randn / 4": (lambda: torch.randn(3) / 4, "Normal"),
    "addcmul": (lambda: torch.addcmul(MEAN, torch.randn(3), SCALE), "Normal"),
    "mul, add_": (lambda: SCALE.mul(torch.randn(3)).add_(MEAN), "Normal"),
    "add(alpha)": (lambda: torch.add(MEAN, torch.randn(3), alpha=3), "Normal"),
    "normal_": (lambda: MEAN + 2 * normal(3), "Normal"),
    "randn in double": (lambda: MEAN + SCALE * torch.randn(3, dtype=torch.float64).float(), "Normal"),
    "randn viewed": (lambda: MEAN + SCALE * torch.randn(3, 1).squeeze(-1).view(3), "Normal"),
    "scale of any sign": (lambda: MEAN + (SCALE - 1.2) * torch.randn(3), "Normal"),
    "exp(loc + scale * randn)": (lambda: torch.exp(MEAN + SCALE * torch.randn(3)), "LogNormal"),
    "tanh(loc + scale * randn)": (lambda: torch.tanh(MEAN + SCALE * torch.randn(3)), "Normal"),
    "sigmoid(loc + scale * randn)": (lambda: torch.sigmoid(MEAN + SCALE * torch.randn(3)), "Normal"),
    "abs(scale * randn)": (lambda: (2 * torch.randn(3)).abs(), "HalfNormal"),
    "rand < p": (lambda: (torch.rand(3) < PROBS).float(), "Bernoulli"),
    "p > rand": (lambda: (torch.rand(3) < PROBS).float(), "Bernoulli"),
    "rand >= p": (lambda: (torch.rand(3) >= PROBS).to(torch.float32), "Bernoulli"),
    "rand < p, as bool": (lambda: torch.rand(3) < PROBS, "Bernoulli"),
    "where(rand < p, 1, 0)": (lambda: torch.where(torch.rand(3) < PROBS, 1.0, 0.0), "Bernoulli"),
    "where(rand < p, ones, zeros)": (
        lambda: torch.where(torch.rand(3) < PROBS, torch.ones_like(PROBS), torch.zeros(3)),
        "Bernoulli",
    ),
    "where(rand < p, 1., 0.)": (
        lambda: torch.where(torch.rand(3) < PROBS, torch.tensor(1.0), torch.tensor(0.0)),
        "Bernoulli",
    ),
    "logits + logit(rand) > 0": (lambda: (MEAN + torch.logit(torch.rand(3)) > 0).float(), "Bernoulli"),
    "sigmoid((logits + logit(rand)) / t)": (
        lambda: torch.sigmoid((MEAN + torch.logit(torch.rand(3))) / 0.5),
        "RelaxedBernoulli",
    ),
    "a + (b - a) * rand": (lambda: -1.0 + 3.0 * torch.rand(3), "Uniform"),
    "1 - rand": (lambda: 1 - torch.rand(3), "Uniform"),
    "-log(rand) / rate": (lambda: -torch.log(torch.rand(3)) / torch.exp(MEAN), "Exponential"),
    "-log1p(-rand)": (lambda: -torch.log1p(-torch.rand(3)), "Exponential"),
    "exponential_() / rate": (lambda: torch.empty(3).exponential_() / torch.exp(MEAN), "Exponential"),
    "(-log(rand)) ** (1 / k)": (lambda: 2.0 * (-torch.log(torch.rand(3))) ** 0.7, "Weibull"),
    "mu - b * log(-log(rand))": (lambda: MEAN - 0.5 * torch.log(-torch.log(torch.rand(3))), "Gumbel"),
    "logit(rand)": (lambda: MEAN + 0.5 * torch.logit(torch.rand(3)), "Logistic"),
    "tan(pi * (rand - 0.5))": (lambda: MEAN + torch.tan(math.pi * (torch.rand(3) - 0.5)), "Cauchy"),
    "argmax(logits + gumbel)": (lambda: torch.argmax(MEAN + gumbel((4, 3)), -1), "Categorical"),
    "gumbel with epsilons": (
        lambda: torch.argmax(MEAN - torch.log(-torch.log(torch.rand(4, 3) + 1e-20) + 1e-20), -1),
        "Categorical",
    ),
    "gumbel with an epsilon below": (
        lambda: torch.argmax(MEAN - torch.log(1e-10 - torch.log(torch.rand(4, 3) + 1e-10)), -1),
        "Categorical",
    ),
    "gumbel of what is clamped": (
        lambda: torch.argmax(MEAN - (-torch.rand(4, 3).clamp(min=1e-20).log()).clamp_min(1e-20).log(), -1),
        "Categorical",
    ),
    "logit of what is clamped": (
        lambda: MEAN + torch.logit(torch.rand(3).clamp(1e-7, 1 - 1e-7)),
        "Logistic",
    ),
    "one_hot(argmax(logits + gumbel))": (
        lambda: F.one_hot((MEAN + gumbel((4, 3))).argmax(dim=-1), 3).float(),
        "OneHotCategorical",
    ),
    "softmax((logits + gumbel) / t)": (
        lambda: torch.softmax((MEAN + gumbel((4, 3))) / 0.7, -1),
        "RelaxedOneHotCategorical",
    ),
    "mean + L @ randn": (lambda: MEAN + (cholesky() @ torch.randn(4, 3, 1)).squeeze(-1), "MultivariateNormal"),
    "mean + L.mv(randn)": (lambda: MEAN + torch.mv(cholesky(), torch.randn(3)), "MultivariateNormal"),
    "mean + randn @ L.T": (lambda: MEAN + torch.randn(4, 3) @ cholesky().T, "MultivariateNormal"),
    "linear(randn, L)": (lambda: F.linear(torch.randn(4, 3), cholesky(), MEAN), "MultivariateNormal"),
    "a factor that is put together": (
        lambda: MEAN + torch.randn(4, 3) @ (torch.tril(FACTOR, -1) + torch.diag_embed(F.softplus(MEAN))).mT,
        "MultivariateNormal",
    ),
    "a factor with ones": (
        lambda: MEAN + torch.randn(4, 3) @ (torch.eye(3) + FACTOR.tril(diagonal=-1)).T,
        "MultivariateNormal",
    ),
    "arguments by name": (
        lambda: torch.add(input=MEAN, other=torch.mul(input=SCALE, other=torch.randn(4, 3))),
        "Normal",
    ),
    "addcmul by name": (
        lambda: torch.addcmul(MEAN.expand(4, 3), tensor1=torch.randn(4, 3), tensor2=SCALE.expand(4, 3)),
        "Normal",
    ),
    "-scale * log(u)": (lambda: -F.softplus(MEAN) * torch.log(torch.rand(4, 3)), "Exponential"),
    "addcdiv": (lambda: torch.addcdiv(MEAN, torch.randn(3), SCALE, value=2), "Normal"),
    "lerp(mean, randn, weight)": (lambda: torch.lerp(MEAN, torch.randn(3), 0.3), "Normal"),
    "lerp(randn, mean, weight)": (lambda: torch.lerp(torch.randn(3), MEAN, 0.3), "Normal"),
    "viewed at last": (lambda: (MEAN + SCALE * torch.randn(4, 3)).view(-1), "Normal"),
    "low + (high - low) * rand": (lambda: PROBS + (SCALE - PROBS) * torch.rand(4, 3), "Uniform"),
    "high + (low - high) * rand": (lambda: SCALE + (PROBS - SCALE) * torch.rand(4, 3), "Uniform"),
    "lerp(low, high, rand)": (lambda: torch.lerp(PROBS, SCALE, torch.rand(4, 3)), "Uniform"),
    "lerp of numbers": (lambda: torch.lerp(torch.tensor(-1.0), torch.tensor(2.0), torch.rand(4)), "Uniform"),
    "log(rand + 1e-8)": (lambda: -torch.log(torch.rand(4, 3) + 1e-8) * SCALE, "Exponential"),
    "scale / rand ** (1 / alpha)": (lambda: SCALE / torch.rand(4, 3) ** (1 / (9 * PROBS)), "Pareto"),
    "scale * rand ** (-1 / alpha)": (lambda: SCALE * torch.rand(4, 3) ** (-1 / (9 * PROBS)), "Pareto"),
    "rand.rsqrt()": (lambda: 2 * torch.rand(4, 3).rsqrt(), "Pareto"),
    "(1 - (1 - rand) ** (1 / b)) ** (1 / a)": (
        lambda: (1 - (1 - torch.rand(4, 3)) ** (1 / SCALE)) ** (1 / PROBS),
        "Kumaraswamy",
    ),
    "rand ** (1 / a)": (lambda: torch.rand(4, 3) ** (1 / SCALE), "Kumaraswamy"),
    "Rayleigh": (lambda: SCALE * torch.sqrt(-2 * torch.log(1 - torch.rand(4, 3))), "Weibull"),
    "(exponential / rate) ** 2": (lambda: (torch.empty(4, 3).exponential_() / SCALE) ** 2, "Weibull"),
    "log(exponential / rate)": (lambda: -torch.log(torch.empty(4, 3).exponential_() / SCALE), "Gumbel"),
    "einsum": (lambda: MEAN + torch.einsum("ij,bj->bi", cholesky(), torch.randn(4, 3)), "MultivariateNormal"),
    "einsum of a transpose": (
        lambda: torch.einsum("...j,ji->...i", torch.randn(4, 3), cholesky().T) + MEAN,
        "MultivariateNormal",
    ),
    "einsum of a batch": (
        lambda: torch.einsum("bij,sbj->sbi", cholesky().expand(2, 3, 3), torch.randn(4, 2, 3)),
        "MultivariateNormal",
    ),
    "mean + randn @ L.permute(1, 0)": (
        lambda: MEAN + torch.randn(4, 3) @ cholesky().permute(1, 0),
        "MultivariateNormal",
    ),
    "hard - soft.detach() + soft": (hard_by_scatter, "RelaxedOneHotCategoricalStraightThrough"),
    "(hard - soft).detach() + soft": (hard_by_one_hot, "RelaxedOneHotCategoricalStraightThrough"),
    "0.5 * (randn @ L.T)": (lambda: MEAN + 0.5 * (torch.randn(4, 3) @ cholesky().T), "MultivariateNormal"),
    "-2 * (randn @ L.T + mean)": (lambda: -2 * (torch.randn(4, 3) @ cholesky().T + MEAN), "MultivariateNormal"),
    "scale * (randn @ L.T) - mean": (lambda: SCALE * (torch.randn(4, 3) @ cholesky().T) - MEAN, "MultivariateNormal"),
    "(L @ randn) / 2": (lambda: MEAN + (cholesky() @ torch.randn(4, 3, 1) / 2).squeeze(-1), "MultivariateNormal"),
    "addmm": (lambda: torch.addmm(MEAN.expand(4, 3), torch.randn(4, 3), cholesky().T), "MultivariateNormal"),
    "addmv": (lambda: torch.addmv(MEAN, cholesky(), torch.randn(3)), "MultivariateNormal"),
    "baddbmm": (
        lambda: torch.baddbmm(MEAN[:, None], cholesky().expand(4, 3, 3), torch.randn(4, 3, 1)).squeeze(-1),
        "MultivariateNormal",
    ),
    "(L @ randn[..., None])[..., 0]": (
        lambda: MEAN + (cholesky() @ torch.randn(4, 3)[..., None])[..., 0],
        "MultivariateNormal",
    ),
    "a column": (lambda: MEAN[:, None] + cholesky() @ torch.randn(4, 3, 1), "MultivariateNormal"),
    "Laplace": (lambda: laplace(torch.rand(4, 3) - 0.5), "Laplace"),
    "Laplace by log1p": (lambda: laplace_by_log1p(torch.rand(4, 3)), "Laplace"),
    "Laplace of uniform_": (lambda: laplace(torch.empty(4, 3).uniform_(-0.5, 0.5)), "Laplace"),
    "a factor that is a literal": (lambda: MEAN + torch.randn(4, 3) @ FACTOR.T, "MultivariateNormal"),
    "mu + b * a draw from Laplace": (lambda: MEAN + SCALE * td.Laplace(0, 1).sample((4, 3)), "Laplace"),
    "mu - b * a draw from Laplace": (lambda: MEAN - SCALE * td.Laplace(0.5, 2).sample((4, 3)), "Laplace"),
    "mu + cauchy_()": (lambda: MEAN + SCALE * torch.empty(4, 3).cauchy_(), "Cauchy"),
    "mu - cauchy_()": (lambda: MEAN - torch.empty(4, 3).cauchy_(0.5, 2), "Cauchy"),
    "mu + s * a draw from Logistic": (
        lambda: MEAN + SCALE * pyro.distributions.Logistic(0, 1).sample((4, 3)),
        "Logistic",
    ),
    "mu - a draw from Logistic": (lambda: MEAN - pyro.distributions.Logistic(0.5, 2).sample((4, 3)), "Logistic"),
}


def race() -> Tensor:
    return torch.empty(4000, 3).exponential_()


SHARES = torch.tensor([0.2, 0.5, 0.3])
U, ROWS = (lambda: torch.rand(4000, 3)), (4000, 3)

LABELS: dict[str, tuple[Callable[[], Tensor], str]] = {
    "1 - (rand < p)": (lambda: 1 - (U() < PROBS).float(), "Bernoulli"),
    "~(rand < p)": (lambda: ~(U() < PROBS), "Bernoulli"),
    "logical_not": (lambda: (U() < PROBS).logical_not().int(), "Bernoulli"),
    "== 0": (lambda: (U() < PROBS).float() == 0, "Bernoulli"),
    "where(rand < p, 1, -1)": (lambda: torch.where(U() < PROBS, 1.0, -1.0), "Bernoulli"),
    "whole numbers": (lambda: torch.where(U() < PROBS, 3, 5), "Bernoulli"),
    "2 * (rand < p) - 1": (lambda: 2 * (U() < PROBS).to(torch.float64) - 1, "Bernoulli"),
    "sign(p - rand)": (lambda: torch.sign(PROBS - U()), "Bernoulli"),
    "relu(sign(p - rand))": (lambda: F.relu(torch.sign(PROBS - U())), "Bernoulli"),
    "p - rand > 0": (lambda: (PROBS - U() > 0).float(), "Bernoulli"),
    "rand - p < 0": (lambda: (U() - PROBS).lt(0), "Bernoulli"),
    "lt(zeros, rand - p)": (lambda: torch.lt(torch.zeros(()), U() - PROBS), "Bernoulli"),
    "floor(p + rand)": (lambda: torch.floor(PROBS + U()), "Bernoulli"),
    "ceil(p - rand)": (lambda: (PROBS - U()).ceil(), "Bernoulli"),
    "heaviside": (lambda: torch.heaviside(PROBS - U(), torch.tensor(0.0)), "Bernoulli"),
    "sigmoid(logits) > rand": (lambda: (torch.sigmoid(MEAN) > U()).type_as(MEAN), "Bernoulli"),
    "log(rand) < r": (lambda: torch.log(U()) < MEAN - 0.5, "Bernoulli"),
    "r > log(rand)": (lambda: (U().log() < MEAN - 0.5).float(), "Bernoulli"),
    "log(rand) > r": (lambda: U().log() > MEAN - 0.5, "Bernoulli"),
    "where(rand < p, ones, -ones)": (
        lambda: torch.where(U() < PROBS, torch.ones_like(PROBS), -torch.ones_like(PROBS)),
        "Bernoulli",
    ),
    "where(rand < p, full, full)": (
        lambda: torch.where(U() < PROBS, torch.full((3,), 0.5), torch.full((3,), 2.0)),
        "Bernoulli",
    ),
    "le(rand, p)": (lambda: torch.le(U(), PROBS).bool(), "Bernoulli"),
    "logits + logistic > 0": (lambda: MEAN + torch.logit(U()) > 0, "Bernoulli"),
    "mean + normal > 0": (lambda: MEAN + 2 * torch.randn(ROWS) > 0.5, "Bernoulli"),
    "mean + normal < 0": (lambda: (MEAN + torch.randn(ROWS) < 0).float(), "Bernoulli"),
    "argmax(p / exponential), some p 0": (
        lambda: torch.argmax(torch.softmax(torch.where(PROBS < 0.3, -math.inf, PROBS), -1) / race(), -1),
        "Categorical",
    ),
    "argmax(p / exponential)": (lambda: torch.argmax(PROBS / race(), -1), "Categorical"),
    "argmin(exponential / p)": (lambda: (race() / PROBS).argmin(dim=1), "Categorical"),
    "argmax(log p - log exponential)": (lambda: (PROBS.log() - race().log()).argmax(-1), "Categorical"),
    "argmax(log(p / exponential))": (lambda: (PROBS / race()).log().argmax(-1), "Categorical"),
    "argmax(p * exponential ** -1)": (lambda: (PROBS * race().reciprocal()).argmax(-1), "Categorical"),
    "argmin(-log(rand) / p)": (lambda: (-torch.log(U()) / PROBS).argmin(-1), "Categorical"),
    "argmax(log(rand) / p)": (lambda: (torch.log(U()) / PROBS).argmax(-1), "Categorical"),
    "argmax(rand ** (1 / p))": (lambda: (U() ** (1 / PROBS)).argmax(-1), "Categorical"),
    "argmin of the negative": (lambda: (-MEAN + torch.log(-torch.log(U()))).argmin(-1), "Categorical"),
    "max(-1).indices": (lambda: (MEAN + gumbel(ROWS)).max(-1).indices, "Categorical"),
    "max(dim=-1)[1]": (lambda: (MEAN + gumbel(ROWS)).max(dim=-1)[1], "Categorical"),
    "min(-1)[1]": (lambda: (race() / PROBS).min(-1)[1], "Categorical"),
    "topk(1).indices": (lambda: (MEAN + gumbel(ROWS)).topk(1).indices, "Categorical"),
    "topk(1)[1].squeeze(-1)": (lambda: (MEAN + gumbel(ROWS)).topk(1)[1].squeeze(-1), "Categorical"),
    "argmax(keepdim)[:, 0]": (lambda: (MEAN + gumbel(ROWS)).argmax(-1, keepdim=True)[:, 0], "Categorical"),
    "multinomial(p, 1)[:, 0]": (lambda: torch.multinomial(PROBS.expand(ROWS), 1)[:, 0], "Categorical"),
    "searchsorted(cdf, rand)": (lambda: torch.searchsorted(SHARES.cumsum(-1), torch.rand(4000)), "Categorical"),
    "searchsorted of rows": (
        lambda: torch.searchsorted(torch.softmax(MEAN.expand(ROWS), -1).cumsum(-1), torch.rand(4000, 1)).squeeze(-1),
        "Categorical",
    ),
    "searchsorted(cdf, rand, right=True)": (
        lambda: torch.searchsorted(SHARES.cumsum(-1), torch.rand(4000), right=True),
        "Categorical",
    ),
    "searchsorted(cdf, rand).clamp(max=2)": (
        lambda: torch.searchsorted(SHARES.cumsum(-1), torch.rand(4000)).clamp(max=2),
        "Categorical",
    ),
    "searchsorted(cdf, rand).clamp_max(2)": (
        lambda: torch.searchsorted(SHARES.cumsum(-1), torch.rand(4000)).clamp_max(2),
        "Categorical",
    ),
    "bucketize(rand, cdf)": (lambda: torch.bucketize(torch.rand(4000), SHARES.cumsum(-1)), "Categorical"),
    "sums of w / w.sum()": (
        lambda: torch.searchsorted(((weights := MEAN.exp()) / weights.sum()).cumsum(-1), torch.rand(4000)),
        "Categorical",
    ),
    "sums of w / w.sum(-1, keepdim=True)": (
        lambda: torch.searchsorted(
            (weights := MEAN.exp().expand(ROWS)).div(weights.sum(-1, keepdim=True)).cumsum(-1), torch.rand(4000, 1)
        ).squeeze(-1),
        "Categorical",
    ),
    "(rand > cdf).sum(-1)": (
        lambda: (torch.rand(4000, 1) > torch.softmax(MEAN, -1).cumsum(-1)).sum(-1),
        "Categorical",
    ),
    "(cdf < rand[..., None]).sum(-1)": (
        lambda: (torch.cumsum(torch.softmax(MEAN, -1), dim=-1) < torch.rand(4000)[..., None]).sum(dim=-1),
        "Categorical",
    ),
    "one_hot(max(-1).indices)": (lambda: F.one_hot((MEAN + gumbel(ROWS)).max(-1).indices, 3), "OneHotCategorical"),
    "zeros.scatter": (
        lambda: torch.zeros(ROWS).scatter(-1, (PROBS / race()).argmax(-1, keepdim=True), 1.0),
        "OneHotCategorical",
    ),
}


@pytest.mark.parametrize("name", {**RECOVERED, **LABELS})
def test_a_random_variable_is_recovered_from_noise(name: str):
    graph = the_latent(*{**RECOVERED, **LABELS}[name])
    assert not [node for node in graph if isinstance(node, Noise)]


@pytest.mark.parametrize("name", LABELS)
def test_what_is_recovered_has_the_law_of_the_program(name: str):
    """How often each value is drawn, by 20,000 draws of each, within five standard errors."""
    draw = LABELS[name][0]

    def model() -> Tensor:
        z = draw()
        return z.double().exp()

    compiled: Any = dgm.compile(dgm.trace(model, ()))
    torch.manual_seed(0)
    ours = torch.cat([compiled()["output"] for _ in range(5)])
    theirs = torch.cat([model() for _ in range(5)])
    for value in theirs.unique():
        rates = [(drawn == value).double().mean(0) for drawn in (ours, theirs)]
        variance = (rates[1] * (1 - rates[1])).clamp(min=1e-4) * 2 / len(ours)
        assert bool(((rates[0] - rates[1]).abs() < 5 * variance.sqrt()).all()), (value, rates)
    assert ours.unique().tolist() == theirs.unique().tolist() and ours.shape == theirs.shape


KEPT: dict[str, Callable[[], Tensor]] = {
    "one draw for several elements": lambda: torch.zeros(5, 3) + SCALE * torch.randn(3),
    "a sine": lambda: torch.sin(2 * torch.rand(3)),
    "rounded": lambda: (4 * torch.rand(3)).long(),
    "a matrix that need not be triangular": lambda: MEAN + torch.randn(4, 3) @ FACTOR,
    "argmax of other noise": lambda: torch.argmax(MEAN + torch.randn(4, 3), -1),
    "an epsilon that counts": lambda: MEAN - torch.log(-torch.log(torch.rand(3) + 1e-3)),
    "clamped where it counts": lambda: MEAN + torch.logit(torch.rand(3).clamp(0.01, 0.99)),
    "argmax over the batch": lambda: torch.argmax(MEAN + gumbel((4, 3)), 0),
    "its bits": lambda: torch.randn(3).view(torch.int32) / 2**30,
    "an epsilon that counts a little": lambda: -torch.log(torch.rand(3) + 1e-6) * SCALE,
    "an epsilon that counts in double": lambda: -torch.log(torch.rand(3, dtype=torch.float64) + 1e-8),
    "a race along the batch": lambda: torch.argmax(PROBS / torch.empty(4, 3).exponential_(), 0),
    "a race that the last wins": lambda: torch.argmax(torch.empty(4, 3).exponential_() / PROBS, -1),
    "a race of any sign": lambda: torch.argmax(MEAN / torch.empty(4, 3).exponential_(), -1),
    "a race of another power": lambda: torch.argmax(torch.rand(4, 3) ** MEAN, -1),
    "the smallest of Gumbel values": lambda: (MEAN + gumbel((4, 3))).argmin(-1),
    "the largest two": lambda: (MEAN + gumbel((4, 3))).topk(2).indices,
    "the smallest of topk": lambda: (MEAN + gumbel((4, 3))).topk(1, largest=False).indices,
    "max over the batch": lambda: (MEAN + gumbel((4, 3))).max(0).indices,
    "the largest itself": lambda: (MEAN + gumbel((4, 3))).max(-1).values,
    "floor of twice a probability": lambda: torch.floor(2 * PROBS + torch.rand(3)),
    "floor of what is no probability": lambda: torch.floor(SCALE + torch.rand(3)),
    "ceil of what is no probability": lambda: torch.ceil(SCALE - torch.rand(3)),
    "a threshold of what is twice as wide": lambda: (PROBS - 2 * torch.rand(3) > 0).float(),
    "a sign of what is twice as wide": lambda: torch.sign(PROBS - 2 * torch.rand(3)),
    "of any power": lambda: torch.rand(3) ** MEAN,
    "of any sign over a uniform": lambda: torch.tanh(MEAN / torch.rand(3)),
    "1 minus a Kumaraswamy": lambda: 1 - (1 - torch.rand(3) ** (1 / SCALE)) ** (1 / PROBS),
    "an upper factor": lambda: torch.randn(4, 3) @ torch.linalg.cholesky(FACTOR @ FACTOR.T, upper=True).T,
    "rows of a factor": lambda: torch.randn(4, 3) @ cholesky(),
    "a vector times numbers of any sign": lambda: MEAN * (torch.randn(4, 3) @ cholesky().T),
    "a vector times one number each": lambda: torch.exp(torch.zeros(4, 1)) * (torch.randn(4, 3) @ cholesky().T),
    "a column times a row": lambda: (SCALE * (cholesky() @ torch.randn(3, 1))).sum(-1),
    "einsum of rows": lambda: torch.einsum("ij,bi->bj", cholesky(), torch.randn(4, 3)),
    "einsum of columns": lambda: torch.einsum("ij,jb->ib", cholesky(), torch.randn(3, 4)),
    "einsum of another batch": lambda: torch.einsum("bij,bsj->bsi", cholesky().expand(2, 3, 3), torch.randn(2, 4, 3)),
    "addmm in another measure": lambda: torch.addmm(MEAN.expand(4, 3), torch.randn(4, 3), cholesky().T, alpha=2),
    "sums of no probabilities": lambda: torch.searchsorted(PROBS.cumsum(-1), torch.rand(4)),
    "sums of shares of another sum": lambda: torch.searchsorted(
        (MEAN.exp() / SCALE.exp().sum()).cumsum(-1), torch.rand(4)
    ),
    "shares of what is of any sign": lambda: torch.searchsorted((MEAN / MEAN.sum()).cumsum(-1), torch.rand(4)),
    "sums over the batch": lambda: (torch.rand(4, 1) > torch.softmax(MEAN.expand(4, 3), 0).cumsum(-1)).sum(-1),
    "sums of what is not in order": lambda: (torch.rand(4, 1) > torch.softmax(MEAN, -1)).sum(-1),
    "not yet passed": lambda: (torch.rand(4, 1) < torch.softmax(MEAN, -1).cumsum(-1)).sum(-1),
    "a bound for several rows": lambda: torch.rand(3) < PROBS.expand(4, 3),
    "rows that are read twice": lambda: SCALE * torch.randn(4, 3)[[0, 0, 1]],
}


AMID: dict[str, Callable[[], Tensor]] = {
    "one of two tensors": lambda: torch.where(torch.rand(3) < PROBS, MEAN, SCALE),
    "one value for both": lambda: torch.where(torch.rand(3) < PROBS, 1.0, 1.0) + MEAN,
    "labels that are cut": lambda: torch.searchsorted(SHARES.cumsum(-1), torch.rand(4)).clamp(max=1),
    "a threshold for several rows": lambda: (torch.rand(3) < PROBS).float() > torch.zeros(4, 3),
    "passed by all at once": lambda: (torch.rand(3) > SHARES.cumsum(-1)).sum(-1),
    "times a coin": lambda: MEAN * (torch.rand(3) < PROBS),
    "filled where a coin falls": lambda: MEAN.masked_fill(torch.rand(3) < PROBS, 0.0),
    "a sum of coins": lambda: SCALE + (torch.rand(3) < PROBS).float() * MEAN,
}


@pytest.mark.parametrize("name", AMID)
def test_a_coin_or_a_label_amid_other_calls_is_a_variable(name: str):
    def model() -> Tensor:
        z = AMID[name]()
        return torch.sin(z.float())

    graph = dgm.trace(model, ())
    assert graph.latents == ("z_draw",)
    assert {node.family for node in graph.samples if node.site and node.site.role == "latent"} <= {
        "Bernoulli",
        "Categorical",
    }
    assert dgm.check(model, ()).ok


@pytest.mark.parametrize("name", KEPT)
def test_what_is_not_known_stays_noise(name: str):
    def model() -> Tensor:
        z = KEPT[name]()
        return torch.cos(z.float())

    graph = dgm.trace(model, ())
    assert [node for node in graph if isinstance(node, Noise)] or name == "a sine"
    assert dgm.check(model, ()).ok


@pytest.mark.parametrize("made", [hard_of_the_least, hard_without_the_cut])
def test_what_only_looks_like_a_straight_through_label_is_none(made: Callable[[], Tensor]):
    def model() -> Tensor:
        z = made()
        return z

    families = {node.family for node in dgm.trace(model, ()).samples}
    assert "RelaxedOneHotCategoricalStraightThrough" not in families and dgm.check(model, ()).ok


class HardGumbel(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(3, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = F.gumbel_softmax(self.net(x), 0.5, hard=True)
        return y


def test_a_hard_gumbel_softmax_is_known_when_it_is_exported_too():
    model, x = HardGumbel(), values(5, 3)
    program = torch.export.export(model, (x,))
    for one in (model, program):
        (law,) = dgm.trace(one, (x,)).samples
        assert (law.family, law.site and law.site.name) == ("RelaxedOneHotCategoricalStraightThrough", "y")
        assert dgm.check(one, (x,)).ok
    loss, of_program = (dgm.compile(dgm.pair(one, HardGumbel(), model_args=(x,))) for one in (model, program))
    assert loss(x).total.isfinite() and of_program(x).total.isfinite()


def test_noise_that_is_read_twice_stays_noise():
    def model() -> Tensor:
        noise = torch.randn(3)
        a = 2 * noise
        b = MEAN + noise
        return a * b

    graph = dgm.trace(model, ())
    assert [node.name for node in graph if isinstance(node, Noise)] == ["noise"]
    assert not graph.latents and dgm.check(model, ()).ok


def test_noise_that_a_network_reads_is_a_latent():
    net = nn.Linear(3, 2)

    def model(n: int) -> Tensor:
        z = torch.randn(n, 3)
        return net(z)

    graph = dgm.trace(model, (4,))
    assert (graph.latents, graph["z"].family) == (("z",), "Normal")  # type: ignore[attr-defined]
    assert dgm.check(model, (4,)).ok


TAKEN_APART: dict[str, Callable[[Tensor], tuple[Tensor, ...]]] = {
    "by the step": lambda e: (e[0], e[1]),
    "by the last dim": lambda e: (e[:, :, 0], e[:, :, 1]),
    "by slices": lambda e: (e[:1], e[1:]),
    "unbind": lambda e: e.unbind(0),
    "chunk": lambda e: e.chunk(2, dim=-1),
    "split": lambda e: e.split([1, 1], 0),
}


@pytest.mark.parametrize("name", TAKEN_APART)
def test_noise_that_is_taken_apart_is_so_many_variables(name: str):
    def model(n: int) -> Tensor:
        eps = torch.randn(2, n, 2)
        first, second = TAKEN_APART[name](eps)
        a = 1.0 + 2.0 * first
        b = 3.0 + torch.exp(a) * second
        return torch.sin(b)

    graph = dgm.trace(model, (4,))
    assert graph.latents == ("a", "b")
    report = dgm.check(model, (4,))
    assert report.ok and report.sizes == {"n": 7}, str(report)


def test_noise_is_taken_apart_by_a_size():
    def model(n: int) -> Tensor:
        first, second = torch.randn(2 * n, 2).split(n)
        a = 1.0 + 2.0 * first
        b = 3.0 + torch.exp(a) * second
        return torch.sin(b)

    assert dgm.trace(model, (4,)).latents == ("a", "b")
    report = dgm.check(model, (4,))
    assert report.ok and report.sizes == {"n": 7}, str(report)


PARTS: dict[str, Callable[[Tensor], Tensor]] = {
    "the first of many": lambda x: torch.randn(100, 3)[: len(x)],
    "some columns": lambda x: torch.randn(len(x), 7)[..., 1:6:2],
    "of two dims": lambda x: torch.randn(2, len(x), 7)[1, :, 4:],
}


@pytest.mark.parametrize("name", PARTS)
def test_a_part_of_noise_of_which_the_rest_is_not_read_is_a_variable(name: str):
    def model(x: Tensor) -> Tensor:
        z = BELOW(x) + deviation(x) * PARTS[name](x)
        return z.sin()

    assert dgm.trace(model, (values(5, 3),)).latents == ("z",)
    report = dgm.check(model, (values(5, 3),))
    assert report.ok and report.sizes, str(report)


def test_noise_of_which_a_part_is_read_twice_stays_noise():
    def model(n: int) -> Tensor:
        eps = torch.randn(2, n, 2)
        a = 1.0 + 2.0 * eps[0]
        b = 3.0 + torch.exp(a) * eps[:1]
        return torch.sin(b)

    graph = dgm.trace(model, (4,))
    assert graph.latents == () and [warning.code for warning in graph.warnings] == ["kept-noise"]
    assert dgm.check(model, (4,)).ok


def test_what_is_cut_off_from_its_gradient_stays_so():
    net = nn.Linear(3, 3)

    def detached(x: Tensor) -> Tensor:
        z = (net(x) + 0.5 * torch.randn_like(x)).detach()
        return net(z)

    def under_no_grad(x: Tensor) -> Tensor:
        with torch.no_grad():
            z = net(x) + 0.5 * torch.randn_like(x)
        return net(z)

    def in_part(x: Tensor) -> Tensor:
        z = (0.5 * torch.randn_like(x) * net(x).exp()).detach() + net(x)
        return net(z)

    for program, latents in ((detached, ("z",)), (under_no_grad, ("z",)), (in_part, ())):
        assert dgm.trace(program, (values(5, 3),)).latents == latents
        assert dgm.check(program, (values(5, 3),)).ok


def under_no_grad(draw: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    @torch.no_grad()
    def model(x: Tensor) -> Tensor:
        z = draw(x)
        return ABOVE(z.float().expand(x.shape))

    return model


NO_GRAD: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "loc + scale * noise": (lambda x: BELOW(x) + deviation(x) * torch.randn_like(x), "Normal"),
    "an input and a product": (lambda x: x + 2 * (deviation(x) * torch.randn_like(x)), "Normal"),
    "exp of a sum": (lambda x: torch.exp(BELOW(x) + deviation(x) * torch.randn_like(x)), "LogNormal"),
    "a threshold": (lambda x: torch.rand_like(x) < torch.sigmoid(BELOW(x)), "Bernoulli"),
    "a label": (lambda x: F.one_hot((x + gumbel(x.shape)).argmax(-1), 3), "OneHotCategorical"),
    "a vector": (lambda x: BELOW(x) + (cholesky() @ torch.randn(len(x), 3, 1)).squeeze(-1), "MultivariateNormal"),
}


@pytest.mark.parametrize("name", NO_GRAD)
def test_under_no_grad_variables_are_recovered_as_elsewhere(name: str):
    model, family = under_no_grad(NO_GRAD[name][0]), NO_GRAD[name][1]
    graph = dgm.trace(model, (values(5, 3),))
    assert [(s.site.name, s.family) for s in graph.samples if s.site and s.site.role == "latent"] == [("z", family)]
    report = dgm.check(model, (values(5, 3),))
    assert report.ok, str(report)


def test_a_label_of_what_is_cut_off_from_its_gradient_is_recovered():
    def model(x: Tensor) -> Tensor:
        z = (BELOW(x) + gumbel(x.shape)).detach().argmax(-1)
        return ABOVE(F.one_hot(z, 3).float())

    assert dgm.trace(model, (values(5, 3),)).latents == ("z",)
    assert dgm.check(model, (values(5, 3),)).ok


MASK = torch.tensor([1.0, 0.0, 2.0])


@pytest.mark.parametrize(
    "scale",
    [
        lambda mask: mask,
        lambda _: MASK,
        lambda mask: F.pad(mask[:, 2:].exp(), (1, 1)),
        lambda mask: torch.sqrt(F.relu(mask - 1)),
        lambda mask: torch.cat([mask[:, :2], mask[:, 2:]], 1),
    ],
)
def test_what_is_0_in_places_is_no_scale(scale: Callable[[Tensor], Tensor]):
    def model(mask: Tensor) -> Tensor:
        z = 1.0 + scale(mask) * torch.randn_like(mask)
        return z.sin()

    assert not dgm.trace(model, (MASK.expand(5, 3),)).latents


def test_in_place_statements_make_variables():
    net = nn.Linear(3, 3)

    def model(x: Tensor) -> Tensor:
        z = torch.randn_like(x)
        z.mul_(net(x).exp())
        z.add_(net(x))
        w = torch.empty_like(x).normal_()
        w.mul_(0.5).add_(net(x))
        return net(z * w)

    assert dgm.trace(model, (values(5, 3),)).latents == ("z", "w")
    assert dgm.check(model, (values(5, 3),)).ok


def test_a_clamped_uniform_of_its_own_name_is_noise_all_the_same():
    def model() -> Tensor:
        u = torch.rand(4, 3).clamp(1e-7, 1 - 1e-7)
        g = -torch.log(-torch.log(u))
        k = (MEAN + g).argmax(-1)
        return torch.sin(k.float())

    assert [(n.site.name, n.family) for n in dgm.trace(model, ()).samples if n.site][:1] == [("k", "Categorical")]


def test_a_mixture_is_replayed_at_another_size():
    net = nn.Linear(3, 3)

    def model(x: Tensor) -> Tensor:
        y = td.MixtureSameFamily(td.Categorical(logits=net(x)), td.Normal(net(x), 1.0)).sample()
        return y

    assert dgm.check(model, (values(5, 3),)).ok


EXTREME = torch.tensor([-0.5, 0.3, 1.5])


BYTES = torch.tensor([0, 5, 250], dtype=torch.uint8)


EXACT: dict[str, Callable[[Tensor], Tensor]] = {
    "thresholds outside of [0, 1]": lambda x: (torch.rand(4, 3) < EXTREME).float(),
    "a number that is no probability": lambda x: (torch.rand(4, 3) < 1.5).float(),
    "a threshold of truth values": lambda x: (torch.rand(4, 3) < (EXTREME > 0)).float(),
    "uniform_(to)": lambda x: torch.empty(4, 3).uniform_(to=5.0),
    "out of a view": lambda x: torch.randn(4, 3, out=torch.zeros(2, 4, 3)[1]) * 2.0,
    "complex noise": lambda x: (2 * torch.randn(4, 3, dtype=torch.complex64)).abs(),
    "bytes": lambda x: torch.randn(4, 3) - BYTES,
    "a truth value of a label": lambda x: torch.argmax(MEAN + gumbel((4, 3)), -1).bool().float(),
    "half a number": lambda x: torch.randn(4, 3).bfloat16().float(),
    "a temperature for each label": lambda x: torch.softmax((MEAN + gumbel((4, 3))) / SCALE, -1),
    "one logit for all labels": lambda x: torch.argmax(x[:, :1] + gumbel((4, 3)), -1),
    "a logit with a margin": lambda x: torch.logit(torch.rand(4, 3), eps=0.3),
    "rows times a batch of factors": lambda x: torch.randn(4, 4, 3) @ cholesky().expand(4, 3, 3).mT,
    "a factor of any sign": lambda x: MEAN + torch.randn(4, 3) @ torch.tril(FACTOR).T,
    "a factor with a band": lambda x: torch.randn(4, 3) @ (FACTOR.tril(1) + torch.diag_embed(F.softplus(MEAN))).T,
    "a negative scale": lambda x: MEAN - F.softplus(x) * torch.randn(4, 3),
    "a negative factor": lambda x: MEAN + (-F.softplus(x)) * torch.randn(4, 3),
    "a cut scale": lambda x: MEAN + F.relu(x) * torch.randn(4, 3),
    "a masked scale": lambda x: MEAN + (1 - (x > 0).float()) * torch.randn(4, 3),
    "a scale of 0": lambda x: MEAN + 0.0 * torch.randn(4, 3),
    "a size as a factor": lambda x: torch.randn(4, 3) / x.shape[0],
    "a negative column": lambda x: -(cholesky() @ torch.randn(4, 3, 1)),
    "a mean that is a number": lambda x: 1.5 + (cholesky() @ torch.randn(4, 3, 1)).squeeze(-1),
    "under no_grad": lambda x: (MEAN + SCALE * torch.randn(4, 3)).detach(),
}


@pytest.mark.parametrize("name", EXACT)
def test_values_are_those_of_the_program_and_losses_are_numbers(name: str):
    def model(x: Tensor) -> Tensor:
        z = EXACT[name](x)
        return 0.5 * torch.atleast_2d(z.float())

    x = values(4, 3)
    report = dgm.check(model, (x,))
    assert report.ok, str(report)
    loss: Any = dgm.compile(dgm.pair(model, model, model_args=(x,)))
    assert bool(loss(x).total.isfinite())


# -- variables, and what the program goes on to make of them -----------------------------------------------------------

BELOW, ABOVE = nn.Linear(3, 3), nn.Linear(3, 3)


def deviation(x: Tensor) -> Tensor:
    return F.softplus(ABOVE(x))


def residual(x: Tensor) -> Tensor:
    h = BELOW(x)
    for _ in range(2):
        z = ABOVE(h) + deviation(h) * torch.randn_like(h)
        h = h + z
    return h.sin()


def multiple(x: Tensor) -> Tensor:
    z = BELOW(x) + deviation(x) * torch.randn_like(x)
    w = 2 * z + 1
    return w.sin()


def reassigned(x: Tensor) -> Tensor:
    z = deviation(x) * torch.randn_like(x)
    z = z + BELOW(x)
    return z.sin()


def by_quantiles(x: Tensor) -> Tensor:
    u = torch.rand_like(x)
    z = td.Normal(BELOW(x), deviation(x)).icdf(u)
    return z.sin()


def by_distribution(x: Tensor) -> Tensor:
    e = td.Normal(0.0, 1.0).sample(x.shape)
    z = BELOW(x) + deviation(x) * e
    return z.sin()


def by_distribution_in_parts(x: Tensor) -> Tensor:
    e = td.Normal(0.0, 1.0).sample((len(x), 6))
    z = BELOW(x) + deviation(x) * e[:, :3]
    w = ABOVE(x) + deviation(z) * e[:, 3:]
    return w.sin()


def by_literals(x: Tensor) -> Tensor:
    e = td.Normal(torch.zeros(3), torch.ones(3)).sample((len(x),))
    z = BELOW(x) + deviation(x) * e
    return z.sin()


def by_normal(x: Tensor) -> Tensor:
    e = torch.normal(0.0, 0.5, x.shape)
    z = BELOW(x) + deviation(x) * e
    return z.sin()


def by_uniform(x: Tensor) -> Tensor:
    u = td.Uniform(0.0, 1.0).sample(x.shape)
    z = (u < torch.sigmoid(BELOW(x))).float()
    return ABOVE(z)


def by_gumbel(x: Tensor) -> Tensor:
    g = td.Gumbel(0.0, 1.0).sample(x.shape)
    z = ((BELOW(x) + g) / 0.3).argmax(-1)
    return F.one_hot(z, 3).float()


def by_parts(x: Tensor) -> Tensor:
    e = torch.randn(*x.shape[:-1], 6)
    z = BELOW(x) + deviation(x) * e[..., :3]
    w = ABOVE(x) + deviation(z) * e[..., 3:]
    return w.sin()


def concrete(x: Tensor) -> Tensor:
    u = torch.rand_like(x)
    z = torch.sigmoid((BELOW(x) + torch.log(u) - torch.log(1 - u)) / 0.5)
    return z.sin()


def concrete_with_epsilons(x: Tensor) -> Tensor:
    u = torch.rand_like(x)
    noise = torch.log(u + 1e-20) - torch.log(1 - u + 1e-20)
    z = torch.sigmoid((BELOW(x) + noise) / 0.5)
    return z.sin()


def logistic(x: Tensor) -> Tensor:
    u = torch.rand_like(x)
    z = BELOW(x) + deviation(x) * (u.log() - torch.log1p(-u))
    return z.sin()


def logistic_of_odds(x: Tensor) -> Tensor:
    u = torch.rand_like(x)
    z = BELOW(x) + deviation(x) * torch.log(u / (1 - u))
    return z.sin()


MADE: dict[Callable[[Tensor], Tensor], list[tuple[str, str]]] = {
    residual: [("z_0", "Normal"), ("z_1", "Normal")],
    multiple: [("z", "Normal")],
    reassigned: [("z", "Normal")],
    by_quantiles: [("z", "Normal")],
    by_distribution: [("z", "Normal")],
    by_literals: [("z", "Normal")],
    by_normal: [("z", "Normal")],
    by_uniform: [("z", "Bernoulli")],
    by_gumbel: [("z", "Categorical")],
    by_parts: [("z", "Normal"), ("w", "Normal")],
    concrete: [("z", "RelaxedBernoulli")],
    concrete_with_epsilons: [("z", "RelaxedBernoulli")],
    logistic: [("z", "Logistic")],
    logistic_of_odds: [("z", "Logistic")],
    by_distribution_in_parts: [("z", "Normal"), ("w", "Normal")],
}


@pytest.mark.parametrize("model", MADE, ids=lambda model: model.__name__)
def test_the_variable_is_the_first_value_with_a_name_and_a_law_of_its_own(model: Callable[[Tensor], Tensor]):
    graph = dgm.trace(model, (values(5, 3),))
    found = [(s.site.name, s.family) for s in graph.samples if s.site and s.site.role == "latent"]
    assert (found, graph.warnings) == (MADE[model], ())
    report = dgm.check(model, (values(5, 3),))
    assert report.ok, str(report)


def test_the_law_of_quantiles_is_that_of_the_distribution():
    x = values(5, 3)
    z = dgm.trace(by_quantiles, (x,))["z"]
    assert isinstance(z, Sample)
    noise = torch.randn(5, 3)
    found = dgm.compile(dgm.semi_auxiliary(dgm.trace(by_quantiles, (x,))))(x, noise={"z_noise": noise})["z"]
    torch.testing.assert_close(found, BELOW(x) + deviation(x) * noise)


@pytest.mark.parametrize("draw", [torch.randn_like, lambda x: td.Normal(0.0, 1.0).sample(x.shape)])
def test_standard_draws_without_a_name_are_noise(draw: Callable[[Tensor], Tensor]):
    graph = dgm.trace(lambda x: BELOW(x + draw(x).sin()), (values(5, 3),))
    assert (graph.latents, graph.noises) == ((), ("noise",))
    assert [warning.code for warning in graph.warnings] == ["kept-noise"]


LOGITS = values(5, 3)

UNKNOWN: dict[str, Callable[[Tensor], Tensor]] = {
    "quantiles of no law that is known": lambda u: torch.sign(u - 0.5) * torch.log1p(-(u - 0.5).abs()),
    "a Laplace quantile of no centre": lambda u: torch.sign(u - 0.4) * torch.log1p(-(u - 0.4).abs()),
    "a Laplace quantile and itself": lambda u: laplace(u - 0.5) * u,
    "a Laplace quantile of two": lambda u: torch.sign(u - 0.5) * torch.log1p(-2 * (torch.rand(5, 3) - 0.5).abs()),
    "logarithms and itself": lambda u: (u.log() - torch.log1p(-u)) * u,
    "logarithms of two": lambda u: u.log() - torch.log1p(-torch.rand(5, 3)),
    "over another dim": lambda u: (LOGITS - torch.log(-torch.log(u))).argmax(0).float(),
    "by a submodule": lambda u: nn.Softmax(-1)(LOGITS - torch.log(-torch.log(u))),
    "of every other element": lambda u: LOGITS[:, :2] + LOGITS[:, :2].exp() * u[:, ::2],
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_noise_of_which_a_part_is_lost_is_no_variable_and_is_told(name: str):
    def model(x: Tensor) -> Tensor:
        u = torch.rand_like(x)
        return UNKNOWN[name](u).sin()

    graph = dgm.trace(model, (values(5, 3),))
    assert graph.latents == () and {warning.code for warning in graph.warnings} == {"kept-noise"}


NAMED_AS_FUNCTIONS = [
    "linear",
    "exp",
    "sigmoid",
    "abs",
    "detach",
    "view",
    "stack",
    "T",
    "unbind",
    "relu",
    "clamp",
    "mul",
]


@pytest.mark.parametrize("name", NAMED_AS_FUNCTIONS)
def test_a_submodule_is_not_what_it_is_called(name: str):
    """The same program as with a submodule of any other name."""

    class Model(nn.Module):
        def __init__(self, name: str) -> None:
            super().__init__()
            self.name = name
            with torch.random.fork_rng():
                torch.manual_seed(0)
                self.add_module(name, nn.Linear(3, 3))

        def forward(self, x: Tensor) -> Tensor:
            net = getattr(self, self.name)
            e = torch.randn_like(x)
            z = net(e)
            y = x + net(x) * torch.randn_like(x)
            k = torch.rand_like(x) < net(x)
            return net(z + y + k)

    one, other = Model(name), Model("net")
    x = values(5, 3)
    graph, expected = dgm.trace(one, (x,)), dgm.trace(other, (x,))
    assert [(s.site, s.family) for s in graph.samples] == [(s.site, s.family) for s in expected.samples]
    assert graph.targets == ("output",)
    report = dgm.check(one, (x,))
    assert report.ok, str(report)


SCALES: dict[str, Callable[[Tensor], Tensor]] = {
    "unsqueezed": lambda s: s.exp()[0].unsqueeze(0),
    "at an index": lambda s: s[0],
    "a part": lambda s: torch.cat([s, s], -1).chunk(2, -1)[0],
    "clamped above": lambda s: F.softplus(s).clamp(max=10),
    "clamped below": lambda s: s.clamp(min=0.1),
    "relu and more": lambda s: F.relu(s) + 1e-3,
    "of a difference": lambda s: (2 - s.sigmoid()).sqrt(),
}


@pytest.mark.parametrize("name", SCALES)
def test_what_is_0_nowhere_is_a_scale(name: str):
    def model(x: Tensor) -> Tensor:
        z = x + SCALES[name](BELOW(x)) * torch.randn_like(x)
        return z.sin()

    assert dgm.trace(model, (values(5, 3),)).latents == ("z",)
    report = dgm.check(model, (values(5, 3),))
    assert report.ok, str(report)


REARRANGED: dict[str, Callable[[Tensor], Tensor]] = {
    "flipped": lambda e: e.flip(1),
    "rolled": lambda e: e.roll(1, 0),
    "summed": lambda e: e.cumsum(0),
    "bent": lambda e: torch.tanh(e),
    "cut": lambda e: F.relu(e),
    "sorted": lambda e: e.sort(-1).values,
}


@pytest.mark.parametrize("name", REARRANGED)
def test_noise_that_is_rearranged_is_no_variable_and_is_told(name: str):
    def model(x: Tensor) -> Tensor:
        e = torch.randn_like(x)
        z = BELOW(x) + deviation(x) * REARRANGED[name](e)
        return z.sin()

    graph = dgm.trace(model, (values(5, 3),))
    assert graph.latents == () and [warning.code for warning in graph.warnings] == ["kept-noise"]


FIXED: dict[str, Callable[[], Any]] = {
    "a vector": lambda: td.Independent(td.Normal(torch.zeros(3), torch.ones(3)), 1),
    "a Gaussian": lambda: td.MultivariateNormal(torch.zeros(3), torch.eye(3)),
    "Student": lambda: td.StudentT(torch.full((3,), 5.0)),
}


@pytest.mark.parametrize("name", FIXED)
def test_draws_of_a_fixed_law_of_which_others_are_made_are_told(name: str):
    def model(x: Tensor) -> Tensor:
        e = FIXED[name]().sample((len(x),))
        z = BELOW(x) + deviation(x) * e
        return z.sin()

    graph = dgm.trace(model, (values(5, 3),))
    assert [warning.code for warning in graph.warnings] == ["kept-noise"]
    assert dgm.check(model, (values(5, 3),)).ok


ZEROS: dict[str, Callable[[Tensor], Tensor]] = {
    "a rectifier": nn.ReLU(),
    "behind a layer": nn.Sequential(nn.Linear(3, 3), nn.ReLU()),
    "and reshaped": nn.Sequential(nn.ReLU6(), nn.Identity()),
    "dropout": nn.Dropout(),
    "repeated": lambda h: F.relu(h[:, :1]).repeat(1, 3),
    "its absolute value": lambda h: F.relu(h).abs(),
    "a running product": lambda h: F.relu(h).cumprod(-1),
    "the largest": lambda h: torch.max(h, torch.zeros_like(h)),
    "clamped": lambda h: h.clamp_max(0.0),
}


@pytest.mark.parametrize("name", ZEROS)
def test_what_passes_zeros_on_is_no_scale(name: str):
    def model(x: Tensor) -> Tensor:
        z = x + ZEROS[name](BELOW(x)) * torch.randn_like(x)
        return z.sin()

    graph = dgm.trace(model, (values(5, 3),))
    assert graph.latents == () and "kept-noise" in [warning.code for warning in graph.warnings]


class WithBuffers(nn.Module):
    """Draws that take a buffer or a parameter."""

    def __init__(self, draw: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        self.draw, self.net = draw, nn.Linear(3, 3)
        self.temperature = nn.Parameter(torch.tensor(0.5))
        for name, value in {"small": 0.5, "below": -0.5, "scales": [0.5, 1.0, 2.0], "any": [0.5, -1.0, 2.0]}.items():
            self.register_buffer(name, torch.tensor(value))
        self.register_buffer("factor", FACTOR)

    def forward(self, x: Tensor) -> Tensor:
        z = self.draw(self, self.net(x))
        return z.float().sin()


OF_BUFFERS: dict[str, tuple[Callable[[Any, Tensor], Tensor], str]] = {
    "a temperature": (lambda m, h: torch.softmax((h + gumbel(h.shape)) / m.small, -1), "RelaxedOneHotCategorical"),
    "a rate": (lambda m, h: torch.empty_like(h).exponential_() / m.scales, "Exponential"),
    "a width": (lambda m, h: h + m.scales * torch.rand_like(h), "Uniform"),
    "a negative width": (lambda m, h: h + m.below * torch.rand_like(h), "Uniform"),
    "a second scale": (lambda m, h: h + m.any * (2 * torch.randn_like(h)), "Normal"),
    "a negative second scale": (lambda m, h: h + m.below * (F.softplus(h) * torch.randn_like(h)), "Normal"),
    "a parameter as a second scale": (lambda m, h: h + m.temperature * (m.scales * torch.randn_like(h)), "Normal"),
    "a factor": (lambda m, h: h + torch.randn_like(h) @ m.factor.T, "MultivariateNormal"),
}


@pytest.mark.parametrize("name", OF_BUFFERS)
def test_a_buffer_counts_as_it_is_when_it_is_recorded(name: str):
    draw, family = OF_BUFFERS[name]
    model, x = WithBuffers(draw), values(5, 3)
    graph = dgm.trace(model, (x,))
    assert [(s.site.name, s.family) for s in graph.samples if s.site and s.site.role == "latent"] == [("z", family)]
    report = dgm.check(model, (x,))
    assert report.ok, str(report)


OF_ANY_SIGN: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "a parameter": lambda m, h: torch.softmax((h + gumbel(h.shape)) / m.temperature, -1),
    "a buffer": lambda m, h: torch.softmax((h + gumbel(h.shape)) / m.any, -1),
    "a negative buffer": lambda m, h: torch.argmax((h + gumbel(h.shape)) / m.below, -1),
}


@pytest.mark.parametrize("name", OF_ANY_SIGN)
def test_a_temperature_that_may_be_negative_makes_no_variable(name: str):
    model = WithBuffers(OF_ANY_SIGN[name])
    graph = dgm.trace(model, (values(5, 3),))
    assert graph.latents == () and "kept-noise" in [warning.code for warning in graph.warnings]


RETURNED: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "a truth value": (lambda x: torch.rand_like(x) < torch.sigmoid(x), "Bernoulli"),
    "a whole number": (lambda x: (torch.rand_like(x) < torch.sigmoid(x)).long(), "Bernoulli"),
    "a column of labels": (lambda x: (x + gumbel(x.shape)).argmax(-1, keepdim=True), "Categorical"),
    "a view": (lambda x: (BELOW(x) + torch.randn_like(x)).view(-1), "Normal"),
    "cut off": (lambda x: (BELOW(x) + torch.randn_like(x)).detach(), "Normal"),
}


@pytest.mark.parametrize("name", RETURNED)
def test_a_draw_without_a_name_that_is_returned_is_called_as_the_result(name: str):
    draw, family = RETURNED[name]
    graph = dgm.trace(draw, (values(5, 3),))
    assert [(s.site.name, s.family) for s in graph.samples if s.site] == [("output", family)]
    report = dgm.check(draw, (values(5, 3),))
    assert report.ok, str(report)
