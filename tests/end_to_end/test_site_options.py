"""What a model, or the caller, asks for single sites."""

from __future__ import annotations

from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor

import dgmcompile as dgm
from dgmcompile.distill.losses import LossOptions
from dgmcompile.ir.graph import Sample
from dgmcompile.report import PairReport
from tests import seeds
from tests.programs.program import values


def model(x: Tensor, site_options: Any = None, shift: float = 0.0) -> None:
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(shift, 1.0), infer={"dgm": site_options} if site_options else {})
        k = pyro.sample("k", dist.Bernoulli(logits=z))
        pyro.sample("x", dist.Normal(z + 2.0 * k, 1.0), obs=x)


def asking(**site_options: Any) -> Any:
    return lambda x: model(x, site_options)


def sample(graph: dgm.DGM, name: str) -> Sample:
    node = graph[name]
    assert isinstance(node, Sample)
    return node


X = values(4)


def test_a_model_keeps_a_site_random():
    semi = dgm.semi_auxiliary(dgm.trace(asking(keep=True), (X,)))
    assert sample(semi, "z").kept
    assert "k_noise" in semi.noises and "z_noise" not in semi.noises


def test_a_model_names_its_target():
    def prior(x: Tensor) -> None:
        z = pyro.sample("z", dist.Normal(x.sum(), 1.0), infer={"dgm": {"target": True}})
        pyro.sample("y", dist.Normal(z, 1.0))

    graph = dgm.trace(prior, (X,))
    assert graph.targets == ("z",)
    assert graph.latents == ("y",)


def test_options_stand_in_the_text_and_come_back():
    graph = dgm.trace(model, (X,), options={"k": {"gradient": "relaxed", "temperature": 0.2}})
    assert '.options(gradient="relaxed", temperature=0.2)' in str(graph)
    assert sample(dgm.parse(str(graph)), "k").options == {"gradient": "relaxed", "temperature": 0.2}


def test_a_named_gradient_reaches_the_parameter_and_leaves_the_value():
    exact = dgm.compile(dgm.compact(dgm.semi_auxiliary(dgm.trace(lambda x: model(x, shift=x.mean()), (X,)))))
    x = values(6, seed=1).requires_grad_()
    noise = exact.sample_noise(x, generator=seeds.generator(0))
    value = exact(x, noise=noise)["k"]
    assert not value.requires_grad
    for options in ({"gradient": "straight_through"}, {"gradient": "relaxed", "temperature": 0.3}):
        semi = dgm.semi_auxiliary(dgm.trace(lambda x: model(x, shift=x.mean()), (X,)), options={"k": options})
        biased = dgm.compile(dgm.compact(semi))(x, noise=noise)["k"]
        assert torch.equal(biased, value)
        (gradient,) = torch.autograd.grad(biased.sum(), x)
        z = noise["z_noise"] + x.mean()
        p = torch.sigmoid(z)
        if options["gradient"] == "relaxed":
            p = torch.sigmoid((z + torch.logit(noise["k_noise"])) / 0.3).float()
        (expected,) = torch.autograd.grad(p.sum(), x)
        torch.testing.assert_close(gradient, expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gradient": "reinforce"}, "site 'k' asks for the gradient 'reinforce', which Bernoulli has not"),
        ({"variant": "gumbel"}, "site 'k' asks for the variant 'gumbel', which Bernoulli has not"),
        ({"temperature": 0.5}, "site 'k' asks for the temperature 0.5"),
        ({"gradient": "straight_through", "temperature": 0.5}, "site 'k' asks for the temperature 0.5"),
    ],
)
def test_what_a_family_has_not_is_refused(options: dict[str, Any], message: str):
    graph = dgm.trace(model, (X,), options={"k": options})
    with pytest.raises(dgm.CompileError) as caught:
        dgm.semi_auxiliary(graph)
    assert caught.value.diagnostics[0].code == "unknown-option"
    assert message in str(caught.value)


@pytest.mark.parametrize("wrong", [{"kept": True}, {"keep": "no"}, ["keep"]])
def test_an_option_that_there_is_not_is_refused_with_its_line(wrong: Any):
    with pytest.raises(dgm.CompileError) as caught:
        dgm.trace(lambda x: model(x, wrong), (X,))
    (diagnostic,) = caught.value.diagnostics
    assert diagnostic.code == "unknown-option"
    assert diagnostic.location is not None and 'pyro.sample("z"' in diagnostic.location.text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"grad": "relaxed"}, "site 'k' has the option 'grad', which there is not"),
        ({"target": True}, "site 'k' has the option 'target', which there is not"),
        ({"keep": "no"}, "site 'k' has the keep 'no', where True or False is meant"),
        ({"temperature": 0.0}, "site 'k' has the temperature 0.0, where a finite number above 0 is meant"),
        ("keep", "site 'k' has 'keep' for its options, which is no dict"),
    ],
)
def test_what_a_caller_misspells_is_refused(options: Any, message: str):
    for made in (lambda: dgm.trace(model, (X,), options={"k": options}), lambda: semi_with({"k": options})):
        with pytest.raises(dgm.CompileError) as caught:
            made()
        assert [d.code for d in caught.value.diagnostics] == ["unknown-option"]
        assert message in str(caught.value)


def semi_with(options: Any) -> Any:
    return dgm.semi_auxiliary(dgm.trace(model, (X,)), options=options)


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"weight": -1.0}, "unknown-option"),
        ({"weight": "much"}, "unknown-option"),
        ({"weight": float("nan")}, "unknown-option"),
        ({"reduction": "max"}, "unknown-option"),
        ({"divergence": "distance"}, "unknown-divergence"),
    ],
)
def test_what_a_model_asks_of_its_term_is_refused_with_its_line(options: Any, code: str):
    for teacher, student in ((asking(**options), model), (model, asking(**options))):
        with pytest.raises(dgm.CompileError) as caught:
            dgm.compile(dgm.pair(teacher, student, model_args=(X,)))
        (diagnostic,) = caught.value.diagnostics
        assert diagnostic.code == code
        assert diagnostic.location is not None and 'pyro.sample("z"' in diagnostic.location.text


def test_an_unknown_site_is_refused():
    with pytest.raises(dgm.CompileError, match="unknown-site"):
        dgm.trace(model, (X,), options={"q": {"keep": True}})


def losses(teacher: Any, student: Any, **options: Any) -> Any:
    loss = dgm.compile(dgm.pair(teacher, student, model_args=(X,)), **options)
    noise = loss.sample_noise(X, generator=seeds.generator(0))
    return loss(X, noise=noise)


def test_a_model_weighs_its_terms_and_the_caller_has_the_last_word():
    student = lambda x: model(x, shift=0.5)  # noqa: E731
    plain = losses(model, student, latent_weight=0.0)
    weighed = losses(asking(weight=2.0), student, latent_weight=0.0)
    assert set(weighed.latent) == {"z"}
    torch.testing.assert_close(weighed.total, plain.total + 2.0 * torch.tensor(0.125))
    other = losses(asking(weight=2.0), student, latent_weight={"z": 4.0})
    torch.testing.assert_close(other.total - weighed.total, 2.0 * torch.tensor(0.125) + 0.1 * other.latent["k"])


def test_choices_for_a_rewritten_graph_reach_its_pair():
    graph, student = dgm.trace(model, (X,)), dgm.trace(lambda x: model(x, shift=0.5), (X,))
    semi = dgm.semi_auxiliary(graph, options={"z": {"weight": 2.0, "divergence": "wasserstein2"}})
    found: Any = dgm.compile(dgm.pair(semi, student), latent_weight=0.0)(X)
    torch.testing.assert_close(found.latent["z"], torch.tensor(0.25))
    torch.testing.assert_close(found.total, found.surrogate["x"] + 0.5)


def test_a_model_chooses_a_divergence():
    student = lambda x: model(x, shift=0.5)  # noqa: E731
    found = losses(asking(divergence="wasserstein2"), student)
    torch.testing.assert_close(found.latent["z"], torch.tensor(0.25))
    pair = dgm.pair(asking(divergence="wasserstein2"), student, model_args=(values(4),))
    rows = PairReport.of(pair, LossOptions()).terms
    assert {row.site: row.divergence for row in rows} == {"z": "wasserstein2", "k": "kl", "x": "kl"}


def labels(count: int) -> Any:
    def program(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            k = pyro.sample("k", dist.Categorical(torch.ones(count)))
            pyro.sample("x", dist.Normal(k.to(x.dtype), 1.0), obs=x)

    return program


def test_labels_of_other_numbers_share_the_noise_of_a_variant():
    pair = dgm.pair(labels(3), labels(5), model_args=(X,))
    (warning,) = [warning for warning in pair.warnings if warning.code == "other-variant"]
    assert "inverse_cdf" in warning.message
    loss = dgm.compile(pair, latent_weight=0.0)
    noise = loss.sample_noise(X)
    assert noise["k_noise"].shape == (4,)
    assert loss(X, noise=noise).total > 0


def test_their_latent_term_has_no_divergence():
    with pytest.raises(dgm.CompileError, match="no-divergence"):
        dgm.compile(dgm.pair(labels(3), labels(5), model_args=(X,)))


def mixture(count: int) -> Any:
    def program(x: Tensor) -> None:
        components = dist.Normal(torch.arange(float(count)), 1.0)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.MixtureSameFamily(dist.Categorical(torch.ones(count)), components))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    return program


def chain(states: int) -> Any:
    def program(x: Tensor) -> None:
        seen = dist.Normal(torch.arange(float(states)), 1.0)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.DiscreteHMM(torch.zeros(states), torch.eye(states), seen, duration=3))
            pyro.sample("x", dist.Normal(z.sum(-1), 1.0), obs=x)

    return program


def test_chains_of_other_numbers_of_states_share_noise():
    pair = dgm.pair(chain(2), chain(3), model_args=(X,))
    assert [warning.code for warning in pair.warnings] == ["other-variant"]
    noise = dgm.compile(pair).sample_noise(X)
    shapes = {name: tuple(value.shape) for name, value in noise.items() if name.startswith("z")}
    assert shapes == {
        "z_initial_state_noise": (4,),
        "z_successors_noise": (4, 3, 1),
        "z_observations_noise": (4, 3, 1),
    }


def factors(rank: int | None) -> Any:
    def program(x: Tensor) -> None:
        loc, diagonal = torch.zeros(len(x), 3), torch.ones(3)
        with pyro.plate("data", len(x)):
            if rank is None:
                law: Any = dist.MultivariateNormal(loc, torch.eye(3))
            else:
                law = dist.LowRankMultivariateNormal(loc, torch.ones(3, rank), diagonal)
            z = pyro.sample("z", law)
            pyro.sample("x", dist.Normal(z.sum(-1), 1.0), obs=x)

    return program


@pytest.mark.parametrize("ranks", [(2, 1), (2, None), (None, 1)])
def test_factors_of_another_rank_share_noise_and_those_of_any(ranks: tuple[int | None, int | None]):
    pair = dgm.pair(*map(factors, ranks), model_args=(X,))
    assert {warning.code for warning in pair.warnings} == {"other-variant"}
    loss = dgm.compile(pair)
    assert loss.sample_noise(X)["z_noise"].shape == (4, 3)
    assert loss(X).total > 0


def test_mixtures_of_other_numbers_of_components_share_noise():
    pair = dgm.pair(mixture(3), mixture(5), model_args=(X,))
    assert [warning.code for warning in pair.warnings] == ["other-variant"]
    loss = dgm.compile(pair)
    noise = loss.sample_noise(X, generator=seeds.generator(0))
    assert {name: tuple(value.shape) for name, value in noise.items() if name.startswith("z")} == {
        "z_component_noise": (4,),
        "z_components_noise": (4, 1),
    }
    out = loss(X, noise=noise)
    label = torch.minimum((noise["z_component_noise"] * 3).floor(), torch.tensor(2.0, dtype=torch.float64))
    teacher = label.float() + noise["z_components_noise"].squeeze(-1)
    log_probs = [
        dist.MixtureSameFamily(dist.Categorical(torch.ones(k)), dist.Normal(torch.arange(float(k)), 1.0)).log_prob(
            teacher
        )
        for k in (3, 5)
    ]
    torch.testing.assert_close(out.latent["z"], (log_probs[0] - log_probs[1]).mean())
