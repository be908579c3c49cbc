"""Plain PyTorch, end to end: the loss of a pair is the one that a person writes by hand, or that Pyro's twin has."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch import distributions as td

import dgmcompile as dgm
from dgmcompile.replay.plain import replay_plain
from tests import seeds
from tests.programs.program import values


def net(*sizes: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for a, b in pairwise(sizes):
        layers += [nn.Linear(a, b), nn.Tanh()]
    return nn.Sequential(*layers[:-1])


def gradients(loss: Tensor, module: nn.Module) -> list[Tensor]:
    return list(torch.autograd.grad(loss, list(module.parameters())))


def assert_same(ours: Tensor, by_hand: Tensor, student: nn.Module) -> None:
    torch.testing.assert_close(ours, by_hand, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(gradients(ours, student), gradients(by_hand, student), rtol=1e-5, atol=1e-6)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


# -- deterministic networks --------------------------------------------------------------------------------------------


class Classifier(nn.Module):
    """Its output has the law of a label."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.net = net(4, hidden, 3)

    def forward(self, x: Tensor) -> Tensor:
        logits = self.net(x)
        dgm.target("label", td.Categorical(logits=logits))
        return logits


def test_a_classifier_is_distilled_by_vanilla_kd():
    teacher, student, x = Classifier(16), Classifier(4), values(8, 4)
    loss: Any = dgm.compile(dgm.pair(teacher, student, model_args=(x,)))
    by_hand = F.kl_div(student(x).log_softmax(-1), teacher(x).softmax(-1).detach(), reduction="batchmean")
    assert_same(loss(x).total, by_hand, student)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_a_classifier_is_distilled_at_a_temperature(temperature: float):
    teacher, student, x = Classifier(16), Classifier(4), values(8, 4)
    pair = dgm.pair(teacher, student, model_args=(x,))
    loss: Any = dgm.compile(pair, divergence="cross_entropy", temperature=temperature)
    soft = (teacher(x).detach() / temperature).softmax(-1)
    by_hand = temperature**2 * -(soft * (student(x) / temperature).log_softmax(-1)).sum(-1).mean()
    assert_same(loss(x).total, by_hand, student)


class Features(nn.Module):
    """A network whose middle is marked as a variable."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.below, self.above = net(4, hidden, 6), net(6, hidden, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.above(dgm.site("features", self.below(x)))


def test_features_are_distilled_by_their_distance():
    teacher, student, x = Features(16), Features(4), values(8, 4)
    loss: Any = dgm.compile(dgm.pair(teacher, student, model_args=(x,)), latent_weight=0.5)
    features, found = teacher.below(x).detach(), student.below(x)
    latent = (features - found).square().sum(-1).mean()
    surrogate = (teacher.above(features).detach() - student.above(found)).square().sum(-1).mean()
    assert_same(loss(x).total, surrogate + 0.5 * latent, student)


class Autoregressive(nn.Module):
    """Each bit depends on those before it."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.net = net(3, hidden, 3)

    def forward(self, n: int) -> None:
        bits = torch.zeros(n, 3)
        for t in range(3):
            law = td.Bernoulli(logits=self.net(bits)[:, t])
            bits = torch.cat([bits[:, :t], dgm.target(f"bit_{t}", law)[:, None], bits[:, t + 1 :]], -1)


def test_an_autoregressive_network_is_distilled_sequence_by_sequence():
    teacher, student = Autoregressive(16), Autoregressive(4)
    loss: Any = dgm.compile(dgm.pair(teacher, student, model_args=(8,)))
    noise = loss.sample_noise(8, generator=seeds.generator(1))
    bits, terms = torch.zeros(8, 3), []
    for t in range(3):
        p, q = (td.Bernoulli(logits=model.net(bits)[:, t]) for model in (teacher, student))
        terms.append(td.kl_divergence(p, q).mean())
        bits = bits.clone()
        bits[:, t] = (noise[f"bit_{t}_noise"] > 1 - p.probs.detach()).float() if f"bit_{t}_noise" in noise else 0.0
    assert_same(loss(8, noise=noise).total, torch.stack(terms).sum(), student)


class Generator(nn.Module):
    """No input but noise, no law of its output."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.net = net(2, hidden, 5)

    def forward(self, n: int) -> Tensor:
        z = torch.randn(n, 2)
        return self.net(z)


def test_a_generator_is_distilled_by_what_it_makes_of_the_same_noise():
    teacher, student = Generator(16), Generator(4)
    loss: Any = dgm.compile(dgm.pair(teacher, student, model_args=(8,)))
    noise = loss.sample_noise(8, generator=seeds.generator(1))
    assert list(noise) == ["z_noise"]
    made, found = teacher.net(noise["z_noise"]).detach(), student.net(noise["z_noise"])
    assert_same(loss(8, noise=noise).total, (made - found).square().sum(-1).mean(), student)


# -- the same models by Pyro -------------------------------------------------------------------------------------------


class Hierarchical(nn.Module):
    """A generator of two layers, as one writes a VAE's: a method reparameterises, in place."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.top, self.bottom, self.image = net(2, hidden, 6), net(3, hidden, 6), net(3, hidden, 5)

    def reparameterise(self, mean: Tensor, log_variance: Tensor) -> Tensor:
        std = log_variance.mul(0.5).exp_()
        return torch.empty_like(std).normal_().mul(std).add_(mean)

    def forward(self, x: Tensor) -> Tensor:
        z2 = self.reparameterise(*self.top(x).chunk(2, -1))
        z1 = self.reparameterise(*self.bottom(z2).chunk(2, -1))
        image = torch.bernoulli(torch.sigmoid(self.image(z1)))
        return image


class HierarchicalByPyro(nn.Module):
    def __init__(self, plain: Hierarchical) -> None:
        super().__init__()
        self.plain = plain

    def forward(self, x: Tensor) -> None:
        with pyro.plate("batch", len(x)):
            loc, log_variance = self.plain.top(x).chunk(2, -1)
            z2 = pyro.sample("z2", dist.Normal(loc, (0.5 * log_variance).exp()).to_event(1))
            loc, log_variance = self.plain.bottom(z2).chunk(2, -1)
            z1 = pyro.sample("z1", dist.Normal(loc, (0.5 * log_variance).exp()).to_event(1))
            law = dist.Bernoulli(torch.sigmoid(self.plain.image(z1))).to_event(1)
            pyro.sample("image", law, obs=torch.zeros(len(x), 5))


class Recurrent(nn.Module):
    """A variational recurrent network: all noise of a sequence is drawn at once, the outputs by distributions."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.prior, self.output, self.cell = net(hidden, 8, 4), net(2 + hidden, 8, 6), nn.GRUCell(5, hidden)
        self.start = nn.Parameter(torch.zeros(hidden))

    def forward(self, n: int) -> None:
        h, eps = self.start.expand(n, -1), torch.randn(3, n, 2)
        for t in range(3):
            loc, scale = self.prior(h).chunk(2, dim=-1)
            z = dgm.site(f"z_{t}", loc + F.softplus(scale) * eps[t])
            mean, spread = self.output(torch.cat([z, h], -1)).chunk(2, -1)
            x = dgm.target(f"x_{t}", td.Independent(td.Normal(mean, F.softplus(spread)), 1))
            h = self.cell(torch.cat([z, x], -1), h)


class RecurrentByPyro(nn.Module):
    def __init__(self, plain: Recurrent) -> None:
        super().__init__()
        self.plain = plain

    def forward(self, n: int) -> None:
        with pyro.plate("batch", n):
            h = self.plain.start.expand(n, -1)
            for t in range(3):
                loc, scale = self.plain.prior(h).chunk(2, dim=-1)
                z = pyro.sample(f"z_{t}", dist.Normal(loc, F.softplus(scale)).to_event(1))
                mean, spread = self.plain.output(torch.cat([z, h], -1)).chunk(2, -1)
                law = dist.Normal(mean, F.softplus(spread)).to_event(1)
                x = pyro.sample(f"x_{t}", law, obs=torch.zeros(n, 3))
                h = self.plain.cell(torch.cat([z, x], -1), h)


class Helmholtz(nn.Module):
    """Layers of bits, each a threshold of uniform noise, in three spellings."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(6))
        self.layers = nn.ModuleList([net(6, hidden, 6), net(6, hidden, 4), net(4, hidden, 5)])

    def forward(self, n: int) -> Tensor:
        h3 = (torch.rand(n, len(self.bias)) < torch.sigmoid(self.bias)).float()
        p = torch.sigmoid(self.layers[0](h3))
        h2 = p.gt(torch.rand_like(p)).to(p.dtype)
        logits = self.layers[1](h2)
        h1 = torch.where(torch.logit(torch.rand_like(logits)) + logits > 0, 1.0, 0.0)
        v = torch.bernoulli(torch.sigmoid(self.layers[2](h1)))
        return v


class HelmholtzByPyro(nn.Module):
    def __init__(self, plain: Helmholtz) -> None:
        super().__init__()
        self.plain = plain

    def forward(self, n: int) -> None:
        with pyro.plate("batch", n):
            law = dist.Bernoulli(torch.sigmoid(self.plain.bias)).expand([n, len(self.plain.bias)])
            h3 = pyro.sample("h3", law.to_event(1))
            h2 = pyro.sample("h2", dist.Bernoulli(torch.sigmoid(self.plain.layers[0](h3))).to_event(1))
            h1 = pyro.sample("h1", dist.Bernoulli(logits=self.plain.layers[1](h2)).to_event(1))
            law = dist.Bernoulli(torch.sigmoid(self.plain.layers[2](h1))).to_event(1)
            pyro.sample("v", law, obs=torch.zeros(n, 5))


TWINS: dict[str, tuple[Any, Any, Any, int]] = {
    "hierarchical": (Hierarchical, HierarchicalByPyro, lambda: values(4, 2), 16),
    "recurrent": (Recurrent, RecurrentByPyro, lambda: 4, 16),
    "helmholtz": (Helmholtz, HelmholtzByPyro, lambda: 4, 8),
}


@pytest.mark.parametrize("name", TWINS)
def test_plain_pytorch_is_its_twin_by_pyro(name: str):
    """The same variables, the same loss and the same gradients on the same noise."""
    plain, by_pyro, argument, hidden = TWINS[name]
    teacher, student, x = plain(hidden), plain(hidden // 2), argument()
    graphs = [dgm.trace(model, (x,)) for model in (teacher, by_pyro(teacher))]
    assert sorted(graphs[0].variables().edges) == sorted(graphs[1].variables().edges)
    for model in (teacher, by_pyro(teacher)):
        report = dgm.check(model, (x,))
        assert report.ok, str(report)
    ours: Any = dgm.compile(dgm.pair(teacher, student, model_args=(x,)), latent_weight=0.3)
    theirs: Any = dgm.compile(dgm.pair(by_pyro(teacher), by_pyro(student), model_args=(x,)), latent_weight=0.3)
    noise = ours.sample_noise(x, generator=seeds.generator(1))
    found, expected = ours(x, noise=noise), theirs(x, noise=noise)
    assert found.surrogate.keys() == expected.surrogate.keys() and found.latent.keys() == expected.latent.keys()
    for kind in ("surrogate", "latent"):
        torch.testing.assert_close(getattr(found, kind), getattr(expected, kind), rtol=1e-6, atol=1e-6)
    assert_same(found.total, expected.total, student)


class Noisy(nn.Module):
    """Noise that is made into nothing that has a law: it only disturbs."""

    def __init__(self, hidden: int, units: int = 4) -> None:
        super().__init__()
        self.below, self.above = nn.Linear(3, units), nn.Sequential(nn.Linear(units, hidden), nn.Linear(hidden, 2))

    def forward(self, x: Tensor) -> Tensor:
        h = self.below(x)
        return self.above(torch.sin(h * torch.rand_like(h)))


def test_noise_that_stays_noise_is_shared():
    x, teacher, student = torch.randn(5, 3), Noisy(16), Noisy(4)
    loss = dgm.compile(dgm.pair(teacher, student, model_args=(x,)))
    ((name, noise),) = loss.sample_noise(x).items()

    def output(model: Noisy) -> Tensor:
        return model.above(torch.sin(model.below(x) * noise))

    by_hand = (output(teacher) - output(student)).square().sum(-1).mean()
    torch.testing.assert_close(loss(x, noise={name: noise}).total, by_hand)
    same = dgm.compile(dgm.pair(teacher, copy.deepcopy(teacher), model_args=(x,)))
    assert same(x).total.item() == 0


def test_noise_of_another_shape_is_not_shared_and_that_is_told():
    x = torch.randn(5, 3)
    pair = dgm.pair(Noisy(16), Noisy(4, units=6), model_args=(x,))
    assert [w.code for w in pair.warnings].count("lone-noise") == 2
    assert {value.shape[-1] for value in dgm.compile(pair).sample_noise(x).values()} == {4, 6}


# -- what is averaged --------------------------------------------------------------------------------------------------


class Sampler(nn.Module):
    """Draws a batch of its own size."""

    def __init__(self, hidden: int, returns_law: bool) -> None:
        super().__init__()
        self.net, self.returns_law = nn.Sequential(nn.Linear(8, hidden), nn.Tanh(), nn.Linear(hidden, 5)), returns_law

    def forward(self) -> Any:
        z = torch.randn(16, 8)
        return td.Normal(self.net(z), 1.0) if self.returns_law else self.net(z)


@pytest.mark.parametrize("returns_law", [False, True])
def test_the_loss_of_a_generator_without_arguments_is_averaged_over_what_it_draws(returns_law: bool):
    teacher, student = Sampler(12, returns_law), Sampler(3, returns_law)
    loss = dgm.compile(dgm.pair(teacher, student))
    noise = loss.sample_noise()
    distance = (teacher.net(noise["z_noise"]) - student.net(noise["z_noise"])).square().sum(-1).mean()
    torch.testing.assert_close(loss(noise=noise).total, distance / 2 if returns_law else distance)


class Chain(nn.Module):
    """Three steps, of which the results are stacked along either dim."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.mean, self.decoder, self.dim = nn.Linear(4, 2), nn.Linear(2, 4), dim

    def forward(self, x: Tensor) -> Tensor:
        steps = list[Tensor]()
        for _ in range(3):
            z = self.mean(x) + 0.5 * torch.randn(x.shape[0], 2)
            x = torch.tanh(self.decoder(z))
            steps.append(x)
        return torch.stack(steps, self.dim)


def test_the_batch_is_averaged_wherever_it_stands():
    teacher, student, x = Chain(0), Chain(0), values(4, 4)
    found = dict[int, Any]()
    for dim in (0, 1):
        teacher.dim = student.dim = dim
        loss = dgm.compile(dgm.pair(teacher, student, model_args=(x,)), latent_weight=1.0)
        found[dim] = loss(x, noise=loss.sample_noise(x, generator=seeds.generator(1)))
    for name, term in found[0].latent.items():
        torch.testing.assert_close(term, found[1].latent[name])
    torch.testing.assert_close(found[0].surrogate, found[1].surrogate)


def cauchy(scale: float) -> Callable[[Tensor], Tensor]:
    def model(x: Tensor) -> Tensor:
        y = x + scale * torch.tan(math.pi * (torch.rand_like(x) - 0.5))
        return y

    return model


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("scale", [2.0, 2.002])
def test_noise_near_a_pole_is_replayed_up_to_its_rounding(seed: int, scale: float):
    """And another program is told from it all the same."""
    x = torch.linspace(-1, 1, 2000).reshape(500, 4)
    found = replay_plain(cauchy(scale), [x], {}, dgm.trace(cauchy(2.0), (x,)), seed)
    assert all(site.ok for site in found.sites) == (scale == 2.0)
