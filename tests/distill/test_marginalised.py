"""Latents summed out: against torch's own sums over the joint law, and what is refused."""

from collections.abc import Callable
from itertools import product
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from torch import Tensor
from torch.distributions import kl_divergence

import dgmcompile as dgm
from dgmcompile.diagnostics import CompileError

X = torch.linspace(-1, 1, 6).reshape(3, 2)


def loss_of(teacher: Any, student: Any, *args: Any, **options: Any) -> Any:
    return dgm.compile(dgm.pair(teacher, student, method="marginalised", model_args=args or (X,)), **options)


def both(program: Callable[..., Any]) -> tuple[Callable[..., Any], Callable[..., Any]]:
    return (lambda x: program(x, 0.3)), (lambda x: program(x, -0.8))


def unit_logits(x: Tensor, c: float) -> Tensor:
    return x @ torch.tensor([[1.0, 0.5], [-0.5, 2.0]]) + c


def units(x: Tensor, c: float) -> Any:
    """Two binary units and a class for each row, then a normal vector."""
    with pyro.plate("batch", len(x)):
        z = pyro.sample("z", dist.Bernoulli(logits=unit_logits(x, c)).to_event(1))
        k = pyro.sample("k", dist.OneHotCategorical(logits=torch.stack([z[:, 0], z[:, 1], c * x[:, 0]], -1)))
        return pyro.sample("y", dist.Normal((k * torch.tensor([0.0, c, 3.0])).sum(-1, True) + z, 1.0).to_event(1))


def log_marginal_of_units(x: Tensor, c: float, y: Tensor) -> Tensor:
    parts = []
    for bits in product((0.0, 1.0), repeat=2):
        z = torch.tensor(bits).expand(len(x), 2)
        logits = torch.stack([z[:, 0], z[:, 1], c * x[:, 0]], -1)
        for one_hot in torch.eye(3):
            loc = (one_hot * torch.tensor([0.0, c, 3.0])).sum() + z
            part = dist.Bernoulli(logits=unit_logits(x, c)).log_prob(z).sum(-1)
            part = part + dist.OneHotCategorical(logits=logits).log_prob(one_hot.expand(len(x), 3))
            parts.append(part + dist.Normal(loc, 1.0).log_prob(y).sum(-1))
    return torch.logsumexp(torch.stack(parts), 0)


@pytest.mark.parametrize("batch", [3, 5])
def test_continuous_targets_are_compared_at_the_teachers_sample(batch: int):
    loss = loss_of(*both(units))
    x = torch.randn(batch, 2)
    noise = loss.sample_noise(x)
    with torch.no_grad():
        z = (torch.logit(noise["z_noise"]) > -unit_logits(x, 0.3)).float()
        logits = torch.stack([z[:, 0], z[:, 1], 0.3 * x[:, 0]], -1)
        k = torch.nn.functional.one_hot((logits - noise["k_noise"].log()).argmax(-1), 3).float()
        y = (k * torch.tensor([0.0, 0.3, 3.0])).sum(-1, True) + z + noise["y_noise"]
    by_hand = (log_marginal_of_units(x, 0.3, y) - log_marginal_of_units(x, -0.8, y)).mean()
    out = loss(x, noise=noise)
    torch.testing.assert_close(out.total, by_hand)
    assert out.surrogate.keys() == {"y"} and out.latent == {}


def counts(x: Tensor, c: float) -> None:
    with pyro.plate("batch", len(x)):
        n = pyro.sample("n", dist.Binomial(3, logits=x[:, 0] + c))
        pyro.sample("y", dist.Categorical(logits=torch.stack([n, c * n, x[:, 1]], -1)), obs=torch.tensor(0))


def marginal_of_counts(x: Tensor, c: float) -> Tensor:
    found = torch.zeros(len(x), 3)
    for n in range(4):
        value = torch.full((len(x),), float(n))
        weight = dist.Binomial(3, logits=x[:, 0] + c).log_prob(value).exp()
        found += weight.unsqueeze(-1) * torch.softmax(torch.stack([value, c * value, x[:, 1]], -1), -1)
    return found


@pytest.mark.parametrize("name", ["kl", "reverse_kl", "js"])
def test_finite_targets_are_compared_exactly(name: str):
    p, q = (dist.Categorical(probs=marginal_of_counts(X, c)) for c in (0.3, -0.8))
    mixture = dist.Categorical(probs=(p.probs + q.probs) / 2)
    expected = {
        "kl": kl_divergence(p, q),
        "reverse_kl": kl_divergence(q, p),
        "js": (kl_divergence(p, mixture) + kl_divergence(q, mixture)) / 2,
    }
    loss = loss_of(*both(counts), divergence=name)
    assert loss.sample_noise(X) == {}  # nothing is drawn
    torch.testing.assert_close(loss(X).total, expected[name].mean())


def test_the_students_latents_need_not_be_the_teachers():
    """A mixture of two learns from one of four, and from a model without latents."""

    def mixture(classes: int) -> Callable[[Tensor], None]:
        def model(x: Tensor) -> None:
            with pyro.plate("batch", len(x)):
                k = pyro.sample(f"k{classes}", dist.Categorical(logits=torch.arange(float(classes))))
                pyro.sample("y", dist.Normal(k + x[:, 0], 1.0))

        return model

    def plain(x: Tensor) -> None:
        with pyro.plate("batch", len(x)):
            pyro.sample("y", dist.Normal(x[:, 0], 1.0))

    def density(classes: int, x: Tensor, y: Tensor) -> Tensor:
        weights = dist.Categorical(logits=torch.arange(float(classes)))
        locs = torch.arange(float(classes)) + x[:, :1]
        return dist.MixtureSameFamily(weights, dist.Normal(locs, 1.0)).log_prob(y)

    loss = loss_of(mixture(4), mixture(2))
    noise = loss.sample_noise(X)
    y = (torch.arange(4.0) - noise["k4_noise"].log()).argmax(-1) + X[:, 0] + noise["y_noise"]
    torch.testing.assert_close(loss(X, noise=noise).total, (density(4, X, y) - density(2, X, y)).mean())
    loss = loss_of(plain, mixture(2))
    y = X[:, 0] + noise["y_noise"]
    by_hand = dist.Normal(X[:, 0], 1.0).log_prob(y) - density(2, X, y)
    torch.testing.assert_close(loss(X, noise={"y_noise": noise["y_noise"]}).total, by_hand.mean())


def test_masks_and_scales_multiply_a_single_target():
    def program(x: Tensor, c: float) -> None:
        with pyro.plate("batch", len(x)):
            z = pyro.sample("z", dist.Bernoulli(logits=x[:, 0] + c))
            with poutine.mask(mask=x[:, 0] > 0), poutine.scale(scale=2.0):
                pyro.sample("y", dist.Bernoulli(logits=z + c))

    def probability(c: float) -> Tensor:
        p = torch.sigmoid(X[:, 0] + c)
        return p * torch.sigmoid(torch.tensor(1 + c)) + (1 - p) * torch.sigmoid(torch.tensor(c))

    term = kl_divergence(dist.Bernoulli(probability(0.3)), dist.Bernoulli(probability(-0.8)))
    expected = 2 * torch.where(X[:, 0] > 0, term, 0.0).mean()
    torch.testing.assert_close(loss_of(*both(program))(X).total, expected)


def test_latent_terms_are_those_of_the_surrogate():
    pair = dgm.pair(*both(units), model_args=(X,))
    surrogate: Any = dgm.compile(pair, latent_weight=0.5)
    marginal = loss_of(*both(units), latent_weight=0.5)
    noise = surrogate.sample_noise(X)
    noise["y_noise"] = torch.randn(3, 2)
    ours, theirs = marginal(X, noise=noise), surrogate(X, noise=noise)
    assert ours.latent.keys() == theirs.latent.keys() == {"z", "k"}
    torch.testing.assert_close(ours.latent, theirs.latent)


def test_gradients_pass_the_probabilities_of_latents():
    logits = torch.zeros(3, requires_grad=True)

    def student(x: Tensor) -> None:
        own = pyro.param("logits", logits)
        with pyro.plate("batch", len(x)):
            k = pyro.sample("k", dist.Categorical(logits=own))
            pyro.sample("y", dist.Normal(k.float(), 0.1))

    def teacher(x: Tensor) -> None:
        with pyro.plate("batch", len(x)):
            k = pyro.sample("k", dist.Categorical(torch.tensor([0.1, 0.2, 0.7])))
            pyro.sample("y", dist.Normal(k.float(), 0.1))

    poutine.block(student)(X)
    loss = loss_of(teacher, student)
    optimizer = torch.optim.Adam(loss.parameters(), lr=0.1)
    torch.manual_seed(0)
    for _ in range(200):
        optimizer.zero_grad()
        loss(torch.zeros(500, 2)).total.backward()
        optimizer.step()
    found = torch.softmax(pyro.param("logits"), -1)
    torch.testing.assert_close(found, torch.tensor([0.1, 0.2, 0.7]), atol=0.03, rtol=0)


# --- refused ------------------------------------------------------------------------------------------------


def refused(program: Any, *args: Any, **options: Any) -> CompileError:
    with pytest.raises(CompileError) as error:
        loss_of(*both(program), *args, **options)
    return error.value


def one_latent(law: Callable[[Tensor, float], Any]) -> Callable[[Tensor, float], None]:
    def program(x: Tensor, c: float) -> None:
        with pyro.plate("batch", len(x)):
            z = pyro.sample("z", law(x, c))
            pyro.sample("y", dist.Normal(z.reshape(len(x), -1).sum(-1), 1.0))

    return program


@pytest.mark.parametrize(
    ("law", "said"),
    [
        (lambda x, c: dist.Normal(x[:, 0], 1.0), "Normal has no finite set of values"),
        (lambda x, c: dist.Geometric(logits=x[:, 0]), "Geometric has no finite set of values"),
        (lambda x, c: dist.Binomial(x[:, 0] * 0 + 3, logits=x[:, 0]), "its total_count is no plain number"),
        (lambda x, c: dist.Bernoulli(logits=x[:, :1].expand(-1, 9)).to_event(1), "512 joint values"),
        (lambda x, c: dist.Bernoulli(logits=x).to_event(1), "depends on x_size_1"),
        (lambda x, c: dist.Bernoulli(logits=x[:, 0]).mask(x[:, 0] > 0), "masked or scaled"),
    ],
)
def test_what_cannot_be_summed_out(law: Any, said: str):
    error = refused(one_latent(law))
    assert {d.code for d in error.diagnostics} == {"intractable"}
    assert said in str(error) and "'z'" in str(error) and "surrogate" in str(error)


def test_a_latent_that_the_batch_shares():
    def program(x: Tensor, c: float) -> None:
        z = pyro.sample("z", dist.Bernoulli(logits=torch.tensor(c)))
        with pyro.plate("batch", len(x)):
            pyro.sample("y", dist.Normal(x[:, 0] + z, 1.0))

    assert "shared by the batch" in str(refused(program))


def test_a_latent_that_no_target_depends_on_is_left_out():
    def program(x: Tensor, c: float) -> None:
        with pyro.plate("batch", len(x)):
            pyro.sample("unread", dist.Normal(x[:, 0], 1.0))
            z = pyro.sample("z", dist.Bernoulli(logits=x[:, 0] + c))
            pyro.sample("y", dist.Bernoulli(logits=z), obs=torch.tensor(0.0))

    assert loss_of(*both(program))(X).total > 0


def two_targets(x: Tensor, c: float) -> None:
    with pyro.plate("batch", len(x)):
        z = pyro.sample("z", dist.Bernoulli(logits=x[:, 0] + c))
        pyro.sample("y", dist.Normal(z, 1.0), obs=x[:, 0])
        pyro.sample("v", dist.Normal(z + c, 1.0), obs=x[:, 1])


@pytest.mark.parametrize(
    "options",
    [{"target_weight": {"y": 2.0}}, {"divergence": {"y": "js"}}, {"reduction": "mean"}],
)
def test_all_targets_are_one_term(options: dict[str, Any]):
    assert loss_of(*both(two_targets))(X).surrogate.keys() == {"y, v"}
    error = refused(two_targets, **options)
    assert {d.code for d in error.diagnostics} == {"loss-option"}


def test_distances_between_values_are_not_there():
    assert {d.code for d in refused(two_targets, divergence="wasserstein2").diagnostics} == {"no-divergence"}
