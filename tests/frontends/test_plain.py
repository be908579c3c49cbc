"""Programs of plain PyTorch: what they draw, by torch's functions and distributions, and what is recovered of noise."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch import distributions as td

import dgmcompile as dgm
from dgmcompile.ir.graph import Noise
from tests.programs.program import values

PROBS, MEAN, SCALE = torch.tensor([0.2, 0.5, 0.9]), torch.tensor([0.0, 1.0, -2.0]), torch.tensor([0.5, 1.0, 2.0])
FACTOR = torch.tensor([[1.0, 0.0, 0.0], [0.5, 1.0, 0.0], [0.2, -0.3, 2.0]])


def normal(shape: Any) -> Tensor:
    return torch.empty(shape).normal_()


def cholesky() -> Tensor:
    return torch.linalg.cholesky(FACTOR @ FACTOR.T)


def gumbel(shape: Any) -> Tensor:
    return -torch.log(-torch.log(torch.rand(shape)))


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
}


def families(graph: Any) -> list[tuple[str, str]]:
    return [(node.family, node.site.role) for node in graph.samples if node.site]


@pytest.mark.parametrize("name", RECOVERED)
def test_a_random_variable_is_recovered_from_noise(name: str):
    graph = the_latent(*RECOVERED[name])
    assert not [node for node in graph if isinstance(node, Noise)]


def the_latent(draw: Callable[[], Tensor], family: str) -> Any:
    """The graph of a program with one latent, ``z``, which is checked."""

    def model() -> Tensor:
        z = draw()
        return torch.sin(z.float())

    graph = dgm.trace(model, ())
    (sample,) = (node for node in graph.samples if node.site and node.site.role == "latent")
    assert (sample.family, sample.site and sample.site.name) == (family, "z")
    report = dgm.check(model, ())
    assert report.ok, str(report)
    return graph


KEPT: dict[str, Callable[[], Tensor]] = {
    "one draw for several elements": lambda: torch.zeros(5, 3) + SCALE * torch.randn(3),
    "a sine": lambda: torch.sin(2 * torch.rand(3)),
    "rounded": lambda: (4 * torch.rand(3)).long(),
    "a matrix that need not be triangular": lambda: MEAN + torch.randn(4, 3) @ FACTOR,
    "argmax of other noise": lambda: torch.argmax(MEAN + torch.randn(4, 3), -1),
    "an epsilon that counts": lambda: MEAN - torch.log(-torch.log(torch.rand(3) + 1e-3)),
    "clamped where it counts": lambda: MEAN + torch.logit(torch.rand(3).clamp(0.01, 0.99)),
    "argmax over the batch": lambda: torch.argmax(MEAN + gumbel((4, 3)), 0),
}


@pytest.mark.parametrize("name", KEPT)
def test_what_is_not_known_stays_noise(name: str):
    def model() -> Tensor:
        z = KEPT[name]()
        return torch.cos(z.float())

    graph = dgm.trace(model, ())
    assert [node for node in graph if isinstance(node, Noise)] or name == "a sine"
    assert dgm.check(model, ()).ok


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


LIBRARY: dict[str, tuple[Callable[[], Tensor], str]] = {
    "normal": (lambda: torch.normal(MEAN, SCALE), "Normal"),
    "normal of numbers": (lambda: torch.normal(1.0, 2.0, (3,)), "Normal"),
    "bernoulli": (lambda: torch.bernoulli(PROBS), "Bernoulli"),
    "bernoulli of a number": (lambda: torch.zeros(3).bernoulli_(0.3), "Bernoulli"),
    "poisson": (lambda: torch.poisson(SCALE), "Poisson"),
    "binomial": (lambda: torch.binomial(torch.tensor([5.0, 2.0, 9.0]), PROBS), "Binomial"),
    "multinomial": (lambda: torch.multinomial(PROBS, 1), "Categorical"),
    "multinomial with replacement": (lambda: torch.multinomial(PROBS.expand(4, 3), 5, True), "Categorical"),
    "uniform_": (lambda: torch.empty(3).uniform_(-1, 2), "Uniform"),
    "exponential_": (lambda: torch.empty(3).exponential_(2.0), "Exponential"),
    "cauchy_": (lambda: torch.empty(3).cauchy_(1.0, 2.0), "Cauchy"),
    "log_normal_": (lambda: torch.empty(3).log_normal_(0.5, 0.2), "LogNormal"),
    "gumbel_softmax": (lambda: F.gumbel_softmax(MEAN.expand(4, 3), 0.5), "RelaxedOneHotCategorical"),
    "gumbel_softmax, hard": (
        lambda: F.gumbel_softmax(MEAN.expand(4, 3), 0.5, hard=True),
        "RelaxedOneHotCategoricalStraightThrough",
    ),
    "gumbel_softmax of a dim": (
        lambda: F.gumbel_softmax(MEAN[:, None].expand(3, 4), 0.5, dim=0),
        "RelaxedOneHotCategorical",
    ),
    "geometric_": (lambda: torch.empty(3).geometric_(0.3), "Geometric"),
    "distribution": (lambda: td.Gamma(SCALE, SCALE).rsample(), "Gamma"),
    "distribution of a shape": (lambda: td.Beta(SCALE, 2.0).sample((4,)), "Beta"),
    "independent": (lambda: td.Independent(td.Normal(MEAN, SCALE), 1).rsample(), "Normal"),
    "transformed": (
        lambda: td.TransformedDistribution(td.Normal(MEAN, SCALE), [td.SigmoidTransform()]).rsample(),
        "Normal",
    ),
    "mixture": (
        lambda: td.MixtureSameFamily(td.Categorical(PROBS), td.Normal(MEAN, SCALE)).sample((4,)),
        "MixtureSameFamily",
    ),
}


@pytest.mark.parametrize("name", LIBRARY)
def test_what_torch_draws_is_a_random_variable(name: str):
    the_latent(*LIBRARY[name])


@pytest.mark.parametrize(
    "draw",
    [
        lambda: torch.multinomial(PROBS.expand(4, 3), 2),
        lambda: torch.randint(10, (4,)),
        lambda: torch.randint(3, 7, (4, 2), dtype=torch.int32),
    ],
)
def test_draws_without_a_law_of_their_own_are_made_of_noise(draw: Callable[[], Tensor]):
    def model() -> Tensor:
        z = draw()
        return torch.sin(z.float())

    graph = dgm.trace(model, ())
    assert not graph.latents and len([node for node in graph if isinstance(node, Noise)]) == 1
    assert dgm.check(model, ()).ok


def test_a_distribution_that_was_made_before_is_read():
    prior = td.Normal(MEAN, SCALE)

    def model(n: int) -> Tensor:
        z = prior.sample((n,))
        return z * 2

    graph = dgm.trace(model, (4,))
    (z,) = (node for node in graph.samples if node.name == "z")
    assert set(z.params) == {"loc", "scale"}
    assert dgm.check(model, (4,)).ok


class Layered(nn.Module):
    """Three layers, each with a draw of its own, made by one method; the last is returned."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([Layer(), Layer(), Layer()])
        self.out = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        for layer in self.layers:
            x = layer(x)
        y = torch.bernoulli(torch.sigmoid(self.out(x)))
        return {"image": y, "top": x}


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.loc, self.scale = nn.Linear(3, 3), nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.reparameterised(self.loc(x), self.scale(x))

    def reparameterised(self, mean: Tensor, log_variance: Tensor) -> Tensor:
        std = torch.exp(0.5 * log_variance)
        eps = torch.randn_like(std)
        z = mean + eps * std
        return z


def test_sites_are_called_as_the_program_calls_them():
    model = Layered()
    graph = dgm.trace(model, (values(4, 3),))
    assert graph.latents == ("layers.0.z", "layers.1.z")
    assert set(graph.targets) == {"image", "top"}
    assert (graph["image"].family, graph["top"].family) == ("Bernoulli", "Normal")  # type: ignore[attr-defined]
    report = dgm.check(model, (values(4, 3),))
    assert report.ok, str(report)
    assert report.sizes == {"x.shape[0]": 7}


def test_draws_of_one_variable_are_numbered():
    def model(x: Tensor) -> Tensor:
        for _ in range(3):
            x = x + torch.exp(x) * torch.randn_like(x)
        return torch.sin(x)

    assert dgm.trace(model, (values(4, 3),)).latents == ("x_0", "x_1", "x_2")


def test_marks_say_what_a_variable_is_called_and_which_law_a_target_has():
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh())
    head = nn.Linear(4, 2)

    def model(x: Tensor) -> Tensor:
        h = dgm.site("features", net(x))
        eps = torch.randn(len(x), 4)
        noisy = dgm.site("noisy", h + 0.1 * eps)
        logits = head(noisy)
        dgm.target("label", td.Categorical(logits=logits))
        return logits

    x = values(5, 3)
    assert model(x).shape == (5, 2)
    graph = dgm.trace(model, (x,))
    assert (set(graph.latents), graph.targets) == ({"features", "noisy"}, ("label",))
    assert families(graph) == [("Delta", "latent"), ("Normal", "latent"), ("Categorical", "target")]
    report = dgm.check(model, (x,))
    assert report.ok, str(report)


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


def test_noise_of_which_a_part_is_read_twice_is_one_variable():
    def model(n: int) -> Tensor:
        eps = torch.randn(2, n, 2)
        a = 1.0 + 2.0 * eps[0]
        b = 3.0 + torch.exp(a) * eps[:1]
        return torch.sin(b)

    graph = dgm.trace(model, (4,))
    assert graph.latents == ("eps",)
    assert dgm.check(model, (4,)).ok


class Generator(nn.Module):
    """A draw by its own noise, a threshold, and an output that is drawn by torch."""

    def __init__(self) -> None:
        super().__init__()
        self.loc, self.scale, self.out = nn.Linear(2, 3), nn.Linear(2, 3), nn.Linear(3, 5)

    def forward(self, x: Tensor) -> Tensor:
        mu, std = self.loc(x), F.softplus(self.scale(x))
        z = mu + std * torch.randn_like(std)
        mask = (torch.rand_like(mu) < torch.sigmoid(mu)).float()
        y = torch.bernoulli(torch.sigmoid(self.out(z * mask)))
        return y


DRAWN = [("Normal", "latent"), ("Bernoulli", "latent"), ("Bernoulli", "target")]


def test_a_symbolic_trace_is_a_model():
    model, x = torch.fx.symbolic_trace(Generator()), values(4, 2)
    graph = dgm.trace(model, (x,))
    assert families(graph) == DRAWN
    assert "add = loc + mul" in graph["add"].location.text  # type: ignore[union-attr]
    assert dgm.check(model, (x,)).ok


def test_an_exported_program_is_a_model():
    batch = torch.export.Dim("batch")
    exported = torch.export.export(Generator(), (values(4, 2),), dynamic_shapes=({0: batch},))
    graph = dgm.trace(exported, (values(4, 2),))
    assert families(graph) == DRAWN
    report = dgm.check(exported, (values(4, 2),))
    assert report.ok and report.sizes == {"x.shape[0]": 7}, str(report)


@dataclass
class Results:
    mean: Tensor
    law: td.Distribution
    note: str = "neither a tensor nor a law"


RESULTS: dict[str, tuple[Callable[[Tensor], Any], dict[str, str]]] = {
    "a law": (lambda z: td.Normal(z, SCALE), {"output": "Normal"}),
    "laws and values": (
        lambda z: (td.Independent(td.Normal(z, 1.0), 1), z.exp(), td.Bernoulli(logits=z)),
        {"output": "Normal", "output_1": "Delta", "output_2": "Bernoulli"},
    ),
    "a dataclass": (lambda z: Results(z.exp(), td.Categorical(logits=z)), {"mean": "Delta", "law": "Categorical"}),
    "a dict": (
        lambda z: {
            "mixed": td.MixtureSameFamily(td.Categorical(PROBS), td.Normal(z, 1.0)),
            "positive": td.TransformedDistribution(td.Normal(z, 1.0), [td.ExpTransform()]),
        },
        {"mixed": "MixtureSameFamily", "positive": "Normal"},
    ),
    "a marked value": (lambda z: dgm.site("w", z.exp()), {"w": "Delta"}),
    "marked twice": (lambda z: (dgm.site("w", z.exp()),) * 2, {"w": "Delta", "output": "Delta"}),
}


@pytest.mark.parametrize(("results", "targets"), RESULTS.values(), ids=RESULTS)
def test_what_is_returned_is_a_target(results: Callable[[Tensor], Any], targets: dict[str, str]):
    def model() -> Any:
        z = MEAN + SCALE * torch.randn(3)
        return results(z)

    graph = dgm.trace(model, ())
    assert {n.site.name: n.family for n in graph.samples if n.site and n.site.role == "target"} == targets
    report = dgm.check(model, ())
    assert report.ok and {site.name for site in report.sites} == {*targets, "z"}, str(report)
    loss = dgm.compile(dgm.pair(model, model))
    assert loss().total.item() == pytest.approx(0.0, abs=1e-6)


def test_a_draw_that_is_marked_and_returned_is_a_target_of_that_name():
    def model() -> Tensor:
        return dgm.site("w", MEAN + SCALE * torch.randn(3))

    graph = dgm.trace(model, ())
    assert [(n.site.role, n.site.name, n.family) for n in graph.samples if n.site] == [("target", "w", "Normal")]
    assert dgm.check(model, ()).ok


def in_pairs() -> Tensor:
    a, (b, c) = torch.bernoulli(PROBS), (torch.bernoulli(PROBS), td.Poisson(SCALE).sample())
    return a + b + c


def in_a_list() -> Tensor:
    flips = [torch.bernoulli(PROBS) for _ in range(2)]
    return flips[0] + flips[1]


def stacked() -> Tensor:
    def flip() -> Tensor:
        return torch.bernoulli(PROBS)

    flips = torch.stack(tuple(flip() for _ in range(2)))
    return flips.sum(0)


def appended() -> Tensor:
    flips: list[Tensor] = []
    for _ in range(2):
        flips.append(torch.bernoulli(PROBS))
    return torch.stack(flips).sum(0)


def by_key() -> Tensor:
    state: dict[str, Tensor] = {}
    state["code"] = torch.bernoulli(PROBS)
    return state["code"]


def within() -> Tensor:
    return torch.zeros(3) if (flip := torch.bernoulli(PROBS)) is None else flip


def chosen() -> Tensor:
    def flip(once: bool) -> Tensor:
        return torch.bernoulli(PROBS) if once else PROBS

    a = flip(True)
    b = torch.bernoulli(PROBS) if len(PROBS) else PROBS
    return a + b


def one_of_several() -> Tensor:
    def encoded() -> tuple[Tensor, Tensor, Tensor]:
        return MEAN + SCALE * torch.randn(3), MEAN, SCALE

    z, mean, _ = encoded()
    return torch.sin(z) * mean


def keyed() -> Tensor:
    flips = {"a": torch.bernoulli(PROBS), "b": torch.bernoulli(PROBS)}
    more = [flips["a"]]
    more += [torch.bernoulli(PROBS)]
    more.extend([torch.bernoulli(PROBS)])
    return sum(more) + flips["b"]


def taken_apart() -> Tensor:
    a, b = torch.bernoulli(PROBS.expand(2, 3))
    return a + b


@pytest.mark.parametrize(
    ("draw", "names"),
    [
        (in_pairs, "a b c"),
        (in_a_list, "flips_0 flips_1"),
        (stacked, "flips_0 flips_1"),
        (appended, "flips_0 flips_1"),
        (by_key, "code"),
        (within, "flip"),
        (taken_apart, "a_b"),
        (chosen, "a b"),
        (one_of_several, "z"),
        (keyed, "a b more_0 more_1"),
    ],
)
def test_a_variable_is_called_as_what_receives_it(draw: Callable[[], Tensor], names: str):
    def model() -> Tensor:
        return torch.exp(draw())

    assert dgm.trace(model, ()).latents == tuple(names.split())
    assert dgm.check(model, ()).ok


def test_names_may_be_given_to_variables_and_to_submodules():
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    graph = dgm.trace(model, (values(5, 3),), names={"1": "features", "output": "score"})
    assert (graph.latents, graph.targets) == (("features",), ("score",))
    assert dgm.check(model, (values(5, 3),)).ok
    with pytest.raises(dgm.CompileError, match=r"unknown-site.*'tanh'"):
        dgm.trace(model, (values(5, 3),), names={"tanh": "features"})


def test_dropout_is_a_call_that_draws_by_itself():
    net = nn.Linear(3, 2)

    def model(x: Tensor) -> Tensor:
        return net(F.dropout(x, 0.5))

    graph = dgm.trace(model, (values(5, 3),))
    assert [warning.code for warning in graph.warnings if warning.code == "random-call"]
    compiled = dgm.compile(graph)
    assert not torch.equal(compiled(values(5, 3))["output"], compiled(values(5, 3))["output"])


def test_double_values_of_single_noise_are_replayed_as_exactly_as_the_noise():
    layer = nn.Linear(3, 3).double()

    def model(x: Tensor) -> Tensor:
        mean = layer(x)
        z = mean + mean.exp() * torch.randn(5, 3)
        return z.sin()

    report = dgm.check(model, (values(5, 3).double(),))
    assert report.ok and report.gradients, str(report)


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_a_network_that_torch_compiles_is_replayed_as_it_stands():
    net = torch.compile(nn.Sequential(nn.Linear(3, 3), nn.Tanh()))

    def model(x: Tensor) -> Tensor:
        z = net(x) + torch.randn_like(x)
        return z.sin()

    assert dgm.check(model, (values(5, 3),)).ok


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_a_model_that_torch_compiles_is_the_model_that_it_was_made_of():
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder, self.head = torch.compile(nn.Linear(3, 3)), nn.Linear(3, 2)

        def forward(self, x: Tensor) -> Tensor:
            z = self.encoder(x) + torch.randn_like(x)
            return self.head(z)

    model = Model()
    one, two = dgm.trace(torch.compile(model), (values(5, 3),)), dgm.trace(model, (values(5, 3),))
    assert str(one) == str(two)
    assert one.name == "Model" and "encoder" in one
    assert dgm.compile(dgm.pair(torch.compile(model), Model(), model_args=(values(5, 3),)))(values(4, 3)).total > 0


def test_a_pooling_layer_of_random_windows_is_a_call_that_draws_by_itself():
    pool = nn.FractionalMaxPool2d(2, output_ratio=0.5)

    def model(x: Tensor) -> Tensor:
        return pool(x)

    graph = dgm.trace(model, (values(2, 1, 8, 8),))
    assert [warning.code for warning in graph.warnings][:1] == ["random-module"]
    assert "nn.FractionalMaxPool2d(2, output_ratio=0.5)" in dgm.compile(graph).source


def test_what_vmap_runs_is_refused():
    def model(x: Tensor) -> Tensor:
        return torch.vmap(lambda row: row + torch.randn(3), randomness="different")(x)

    with pytest.raises(dgm.CompileError, match="functional-transform"):
        dgm.trace(model, (values(5, 3),))


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


def test_dropout_of_two_programs_is_shared():
    torch.manual_seed(0)
    teacher = nn.Sequential(nn.Linear(3, 8), nn.Sequential(nn.ReLU(), nn.Dropout(0.3)), nn.Linear(8, 4))
    student = nn.Sequential(nn.Linear(3, 8), nn.Sequential(nn.ReLU(), nn.Dropout(0.3)), nn.Linear(8, 4))
    student.load_state_dict(teacher.state_dict())
    x = values(5, 3)
    pair = dgm.pair(teacher, student, model_args=(x,), share_dropout=True)
    assert "lone-noise" not in [warning.code for warning in pair.warnings]
    assert dgm.compile(pair)(x).total.item() == 0
    assert dgm.check(teacher, (x,), share_dropout=True).ok


def test_a_result_that_gathers_draws_makes_them_the_targets():
    net = nn.GRUCell(3, 3)

    def model(x: Tensor) -> Tensor:
        steps, h = list[Tensor](), x
        for _ in range(3):
            h = net(h)
            step = torch.normal(h, 1.0)
            steps.append(step)
        return torch.stack(steps, 1)

    graph = dgm.trace(model, (values(5, 3),))
    assert graph.targets == ("step_0", "step_1", "step_2") and not graph.latents
    report = dgm.check(model, (values(5, 3),))
    assert report.ok and "output" in {site.name for site in report.sites}


def test_a_draw_that_is_returned_in_another_shape_keeps_its_name():
    def model() -> Tensor:
        k = torch.multinomial(PROBS.expand(4, 3), 1).squeeze(-1)
        return k

    sites = [(n.site.role, n.site.name) for n in dgm.trace(model, ()) if n.site]
    assert sites == [("target", "k"), ("deterministic", "k_value")]
    assert dgm.check(model, ()).ok


def test_a_module_that_returns_its_argument_returns_another_value():
    net, drop = nn.Linear(3, 3), nn.Dropout(0.5).eval()

    def model(x: Tensor) -> Tensor:
        h = x * 1.0
        z = torch.normal(net(drop(h)) + h, 1.0)
        return z

    graph = dgm.trace(model, (values(5, 3),))
    assert len(graph.users("h")) == 2 and not [w for w in graph.warnings if w.code == "frozen-mode"]


class Dropping(nn.Module):
    """Every dropout that is taken apart, in its place and as a function."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.below, self.above = nn.Linear(3, 4), nn.Sequential(nn.Linear(4, hidden), nn.Linear(hidden, 2))
        self.drop, self.alpha, self.channels = nn.Dropout(0.3), nn.AlphaDropout(0.2), nn.Dropout1d(0.4, inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        h = F.feature_alpha_dropout(self.drop(self.below(x)), 0.1, training=self.training)
        h = self.alpha(F.dropout(h, 0.5, training=self.training, inplace=True))
        h = self.channels(h[..., None].expand(-1, -1, 2).clone()).mean(-1)
        z = h + torch.randn_like(h)
        return self.above(z)


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("share_dropout", [True, False], ids=["shared", "apart"])
def test_dropout_is_replayed(training: bool, share_dropout: bool):
    report = dgm.check(Dropping(4).train(training), (values(5, 3),), share_dropout=share_dropout)
    assert report.ok and report.gradients, str(report)


def test_dropout_is_shared_where_that_is_asked_for():
    x = values(5, 3)
    teacher, student = (dgm.trace(Dropping(hidden), (x,), share_dropout=True) for hidden in (8, 4))
    assert len([node for node in teacher if isinstance(node, Noise)]) == 5
    loss = dgm.compile(dgm.pair(teacher, student))
    noise = loss.sample_noise(x)
    assert len(noise) == 6
    assert loss(x, noise=noise).total == loss(x, noise=noise).total != loss(x).total
    apart = dgm.compile(dgm.pair(*(dgm.trace(Dropping(hidden), (x,)) for hidden in (8, 4))))
    assert apart.sample_noise(x).keys() == {"z_noise"}


@pytest.mark.parametrize(
    "drop",
    [
        lambda x: F.dropout(x, 0.3),
        lambda x: F.dropout1d(x, 0.3),
        lambda x: F.dropout2d(x[..., None], 0.3),
        lambda x: F.dropout3d(x[..., None, None], 0.3),
        lambda x: F.alpha_dropout(x, 0.3, training=True),
        lambda x: F.feature_alpha_dropout(x, 0.3, training=True),
        lambda x: F.dropout(x, 1.0),
        lambda x: F.alpha_dropout(x, 1.0, training=True),
    ],
)
def test_shared_dropout_makes_of_its_noise_what_dropout_makes(drop: Callable[[Tensor], Tensor]):
    """The same values, as often, in the same places of each channel."""

    def model(x: Tensor) -> Tensor:
        return drop(x)

    x = torch.full((2000, 2, 3), 2.0)
    ours = dgm.compile(dgm.semi_auxiliary(dgm.trace(model, (x,), share_dropout=True)))(x)["output"].flatten(2)
    theirs = drop(x).flatten(2)
    for found, wanted in zip(summary(ours), summary(theirs), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=0.05)


def summary(dropped: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Which values there are, how often, and how often a whole channel has one."""
    values, counts = dropped.unique(return_counts=True)
    return values, counts / dropped.numel(), (dropped == dropped[..., :1]).all(-1).float().mean()


# -- what is no such variable ------------------------------------------------------------------------------------------

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


def seeded(draw: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    def model(x: Tensor) -> Tensor:
        z = draw(x)
        return torch.sin(z)

    return model


def by_own_generator(x: Tensor) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return x + torch.randn(3, generator=generator)


def by_a_seed(x: Tensor) -> Tensor:
    torch.manual_seed(0)
    return x + torch.randn(3)


def twice(x: Tensor) -> Tensor:
    with torch.random.fork_rng():
        a = x + torch.randn(3)
    b = x + torch.randn(3)
    return a - b


@pytest.mark.parametrize("draw", [by_own_generator, by_a_seed, twice])
def test_numbers_that_are_not_new_are_refused(draw: Callable[[Tensor], Tensor]):
    with pytest.raises(dgm.CompileError, match="fixed-random"):
        dgm.trace(seeded(draw), (values(4, 3),))


@pytest.mark.parametrize(
    "draw",
    [
        lambda: torch.bernoulli(PROBS).float(),
        lambda: torch.multinomial(PROBS.expand(4, 3), 1).squeeze(-1),
        lambda: td.Normal(MEAN, SCALE).rsample().to(torch.float64).view(3, 1),
    ],
)
def test_a_draw_is_called_as_what_it_becomes_by_a_cast_or_a_view(draw: Callable[[], Tensor]):
    def model() -> Tensor:
        z = draw()
        return torch.sin(z.float())

    assert dgm.trace(model, ()).latents == ("z",)
    assert dgm.check(model, ()).ok


class Noisy(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + 0.5 * torch.randn_like(x)


def test_a_submodule_that_draws_is_not_kept_whole():
    model = nn.Sequential(nn.Linear(3, 4), Noisy(), nn.Dropout(0.5), nn.Linear(4, 2))
    graph = dgm.trace(model, (values(5, 3),))
    assert [node.law for node in graph if isinstance(node, Noise)] == ["StandardNormal"]
    assert dgm.check(model, (values(5, 3),)).ok


def test_names_do_not_collide():
    def model(x: Tensor) -> Tensor:
        z_0 = x + torch.randn_like(x)
        z = z_0.exp() + torch.randn_like(x)
        z = z.exp() + torch.randn_like(x)
        return torch.sin(z)

    graph = dgm.trace(model, (values(4, 3),))
    assert len(set(graph.latents)) == 3 and dgm.check(model, (values(4, 3),)).ok
    with pytest.raises(dgm.CompileError, match="repeated-site"):
        dgm.trace(model, (values(4, 3),), names={"z_0": "output"})
