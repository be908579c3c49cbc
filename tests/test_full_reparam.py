"""`FullReparam`: every latent of a running program is noise without parameters, and the model is the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.distributions import constraints, transforms
from pyro.distributions.util import scale_and_mask
from pyro.infer import MCMC, NUTS, SVI, Predictive, Trace_ELBO
from pyro.infer.autoguide import AutoNormal, init_to_value
from pyro.infer.reparam import AutoReparam
from pyro.nn import PyroModule, PyroSample
from torch import Tensor

import dgmcompile as dgm
from dgmcompile.codegen import module as emitted
from dgmcompile.codegen import pyro_program
from dgmcompile.diagnostics import CompileError
from dgmcompile.reparam import NOISE_TRANSFORMS
from examples import eight_schools
from tests.programs import PROGRAMS, families, plates
from tests.programs.program import Program, values
from tests.reparam.drawing import as_given
from tests.reparam.test_families import EXAMPLES

STANDARD = {dist.Normal: (0.0, 1.0), dist.Exponential: (1.0,), dist.Uniform: (0.0, 1.0)}
WAYS: dict[str, Callable[[Any], Any]] = {
    "decorator": lambda model: dgm.FullReparam()(model),
    "config": lambda model: poutine.reparam(model, config=dgm.FullReparam()),
}
ENUMERATED = {"enumerated", "infer_discrete", "infer_discrete, the most probable"}
"""Programs that sum over a latent by themselves."""


OTHERWISE = {
    *("escaped", "hidden_inside", "a latent hidden", "all latents hidden"),  # a latent is hidden
    *(
        "scoped",
        "scoped_names",
    ),  # a scope puts its prefix before the name of the noise again, as of any reparameteriser's
    "read_before_it_is_observed",  # both kinds of targets: observed, and chosen
}
"""Programs whose graph has other sites than the program."""


def sites(program: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """The messages of a run's random variables and deterministic sites, by name."""
    with pyro.validation_enabled(False):
        nodes = poutine.trace(program).get_trace(*args, **kwargs).nodes
    return {n: s for n, s in nodes.items() if s["type"] == "sample" and type(s["fn"]).__name__ != "_Subsample"}


def base_of(law: Any) -> Any:
    while isinstance(law, dist.Independent | dist.MaskedDistribution):
        law = law.base_dist
    return law


def is_standard(law: Any) -> bool:
    """Has it one of the laws of noise, whose parameters nothing computes?"""
    law = base_of(law)
    if type(law) not in STANDARD:
        return False
    held = [getattr(law, name) for name in law.arg_constraints]
    pairs = zip(held, STANDARD[type(law)], strict=True)
    return all(not a.requires_grad and torch.allclose(a, torch.tensor(b).to(a), atol=1e-7) for a, b in pairs)


def log_prob(site: Any) -> Any:
    """None where the distribution does not know it, as some HMMs."""
    try:
        return scale_and_mask(site["fn"].log_prob(site["value"]), site["scale"], site["mask"]).sum()
    except (NotImplementedError, AssertionError):
        return None


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_all_latents_of_every_program_are_parameter_free(way: Callable[[Any], Any]):
    """What Pyro's issue 2883 asks for."""
    for program in PROGRAMS:
        if program.label in ENUMERATED:
            continue
        pyro.clear_param_store()
        try:
            found = sites(way(program.model), *program.args, **program.kwargs)
        except CompileError as refused:
            assert way is WAYS["config"] and refused.diagnostics[0].code == "unseen-distribution", program.label
            continue
        random = [site for site in found.values() if not site["is_observed"]]
        assert all(is_standard(site["fn"]) for site in random), program.label
        assert {site["name"].endswith(("_noise", "_noise_1", "_noise_2")) for site in random} <= {True}, program.label


SOME = [p for p in PROGRAMS[::5] if p.label not in ENUMERATED | OTHERWISE]


@pytest.mark.parametrize("program", SOME, ids=[program.label for program in SOME])
def test_it_is_the_semi_auxiliary_form(program: Program, monkeypatch: pytest.MonkeyPatch):
    """The same noise sites, in the same plates; the same values and log-probabilities from the same noise."""
    for module in (pyro_program, emitted):
        monkeypatch.setattr(module, "formatted", lambda text: text)  # to lay texts out takes longer than all the rest
    poutine.trace(program.model).get_trace(*program.args, **program.kwargs)
    theirs = sites(program.model, *program.args, **program.kwargs)
    graph = dgm.trace(program.model, program.args, program.kwargs, program.targets)
    if not all(theirs[name]["is_observed"] for name in graph.targets if name in theirs):
        graph = dgm.auxiliary(graph)  # in place, the sites that were chosen as targets are latents
    else:
        graph = dgm.semi_auxiliary(graph)
    for way in WAYS.values():
        try:
            ours = sites(way(program.model), *program.args, **program.kwargs)
        except CompileError as refused:
            assert way is WAYS["config"] and refused.diagnostics[0].code == "unseen-distribution"
            continue
        given = {sample.name for sample in graph.samples} | set(graph.noises)
        data = {name: site["value"] for name, site in ours.items() if name in given}
        with poutine.condition(data=data):
            other = sites(dgm.to_pyro(graph), *program.args, **program.kwargs)
        assert ours.keys() == other.keys()
        for name, site in ours.items():
            around, others = ([f.name for f in s["cond_indep_stack"] if f.vectorized] for s in (site, other[name]))
            assert around == others
            assert torch.allclose(site["value"], other[name]["value"], rtol=1e-4, atol=1e-5), name
            if (wanted := log_prob(site)) is not None:
                found = log_prob(other[name])
                assert torch.allclose(found, wanted, rtol=1e-4, atol=1e-4, equal_nan=True), name


# -- families ----------------------------------------------------------------------------------------------------------

GIVEN = {
    family: as_given(example.settings[0], torch.float64, numbers=family.startswith("LKJ") or family == "Multinomial")
    for family, example in EXAMPLES.items()
    if example.settings and family != "LKJCorrCholesky"  # its constructor warns that it is deprecated
}
WITHOUT_SAMPLER = {"CoalescentTimesWithRate", "GroupedNormalNormal", "LogNormalNegativeBinomial", "VonMises3D"}
UNREADABLE = {
    "MultivariateStudentT",
    "RelaxedBernoulli",
    "RelaxedBernoulliStraightThrough",
    "RelaxedOneHotCategorical",
    "RelaxedOneHotCategoricalStraightThrough",
    "ZeroInflatedNegativeBinomial",
}
"""Families whose distributions do not tell their parameters once they are made: not for ``config``."""


def drawn_from(family: str) -> Callable[[], Tensor]:
    def model() -> Tensor:
        return pyro.sample("z", getattr(dist, family)(**GIVEN[family]))

    return model


@pytest.mark.parametrize("family", GIVEN)
def test_every_family_is_rewritten(family: str):
    for name, way in WAYS.items():
        if family in UNREADABLE and name == "config":
            with pytest.raises(CompileError, match="unseen-distribution"):
                sites(way(drawn_from(family)))
            continue
        found = sites(way(drawn_from(family)))
        z = found.pop("z")
        assert z["is_observed"] and all(is_standard(site["fn"]) for site in found.values())
        if family not in ("Wishart", *WITHOUT_SAMPLER):  # whose sampler warns
            assert z["value"].shape == sites(drawn_from(family))["z"]["value"].shape


def test_more_of_them_than_by_auto_reparam():
    """Counted as rewritten: the site itself is no random variable any more, whatever became of it."""

    def count(strategy: Callable[[], Any]) -> int:
        total = 0
        for family in GIVEN:
            try:
                found = sites(strategy()(drawn_from(family)))
            except Exception:  # AutoReparam fails on some, and leaves others to a sampler that they have not
                continue
            total += found["z"]["is_observed"]
        return total

    assert count(dgm.FullReparam) == len(GIVEN)
    assert count(lambda: AutoReparam(centered=0.0)) < len(GIVEN) / 3


ONE_TO_ONE = [
    transform.family
    for transform in NOISE_TRANSFORMS
    if transform.inverse is not None and transform.event_dim == 0 and transform.family in GIVEN
    if not transform.discrete and transform.family != "GeneralizedPareto"  # its log_prob takes single precision only
]


@pytest.mark.parametrize("family", ONE_TO_ONE)
def test_the_density_is_that_of_a_change_of_variables(family: str):
    """log p(noise) = log p(z) + log |dz / d noise|: the model is the same."""
    found = sites(dgm.FullReparam()(drawn_from(family)))
    noise = found["z_noise"]["value"].double().detach().requires_grad_()
    with poutine.condition(data={"z_noise": noise}):
        again = sites(dgm.FullReparam()(drawn_from(family)))
    z = again["z"]["value"]
    (slope,) = torch.autograd.grad(z.sum(), noise)
    law = getattr(dist, family)(**GIVEN[family], validate_args=False)
    expected = law.log_prob(z) + slope.abs().log()
    assert torch.allclose(again["z_noise"]["fn"].log_prob(noise).sum(), expected.sum(), rtol=1e-5, atol=1e-5)


# -- what stands around a site -----------------------------------------------------------------------------------------


def test_observed_and_kept_sites_stay():
    def model(x: Tensor) -> None:
        a = pyro.sample("a", dist.Gamma(2.0, 1.0))
        b = pyro.sample("b", dist.Normal(a, 1.0), infer={"dgm": {"keep": True}})
        c = pyro.sample("c", dist.Normal(b, 1.0))
        pyro.sample("x", dist.Normal(c, 1.0), obs=x)

    found = sites(dgm.FullReparam(keep=["a"])(model), torch.tensor(0.3))
    assert found.keys() == {"a", "b", "c_noise", "c", "x"}
    assert type(found["a"]["fn"]) is dist.Gamma and not found["a"]["is_observed"]
    assert found["x"]["value"] == 0.3 and type(found["x"]["fn"]) is dist.Normal


def test_a_conditioned_latent_stays():
    model = poutine.condition(eight_schools.model, data={"tau": torch.tensor(2.0)})
    found = sites(dgm.FullReparam()(model), *eight_schools.example_inputs)
    assert found.keys() == {"mu_noise", "mu", "tau", "theta_noise", "theta", "y"}
    assert type(found["tau"]["fn"]) is dist.HalfCauchy


def test_observed_in_one_run_and_latent_in_another():
    strategy = dgm.FullReparam()
    assert "y_noise" in sites(strategy(eight_schools.model), eight_schools.STANDARD_ERROR, None)
    found = sites(strategy(eight_schools.model), *eight_schools.example_inputs)
    assert "y_noise" not in found and found["y"]["is_observed"]


def test_subsampling_scales_the_noise():
    def model() -> None:
        with pyro.plate("data", 10, subsample_size=5):
            pyro.sample("z", dist.Normal(1.0, 2.0))

    found = sites(dgm.FullReparam()(model))
    assert found["z_noise"]["scale"] == 2.0
    assert found["z_noise"]["fn"].batch_shape == (5,)


def test_masks_are_those_of_the_variable():
    found = sites(dgm.FullReparam()(plates.masked_sequence), values(4, 3), torch.tensor([1, 2, 3, 0]))
    assert found["z_1_noise"]["mask"].tolist() == [False, True, True, False]

    def model() -> None:
        with pyro.plate("data", 3):
            law = dist.Normal(torch.zeros(2), 1.0).mask(torch.tensor([[True], [False], [True]])).to_event(1)
            pyro.sample("z", law)

    noise = sites(dgm.FullReparam()(model))["z_noise"]
    assert (noise["fn"].log_prob(noise["value"]) != 0).tolist() == [True, False, True]


def test_any_transform_serves():
    def model() -> None:
        base = dist.Normal(torch.zeros(4), 1.0).to_event(1)
        steps = [
            transforms.Permute(torch.tensor([2, 0, 3, 1])),
            transforms.OrderedTransform(),
            transforms.ExpTransform(),
        ]
        pyro.sample("z", dist.TransformedDistribution(base, steps))
        pyro.sample("w", dist.TransformedDistribution(base, [transforms.ReshapeTransform((4,), (2, 2))]))

    found = sites(dgm.FullReparam()(model))
    noise = found["z_noise"]["value"]
    assert noise.shape == (4,) and found["w"]["value"].shape == (2, 2)
    expected = transforms.OrderedTransform()(noise[torch.tensor([2, 0, 3, 1])]).exp()
    assert torch.allclose(found["z"]["value"], expected)


def test_options_of_a_site():
    def model() -> None:
        pyro.sample(
            "z", dist.Bernoulli(logits=pyro.param("l", torch.tensor(0.2))), infer={"dgm": {"gradient": "relaxed"}}
        )

    z = sites(dgm.FullReparam()(model))["z"]["value"]
    assert z in (0, 1)
    assert torch.autograd.grad(z, pyro.param("l").unconstrained())[0] != 0


def test_modules_and_their_random_attributes():
    class Model(PyroModule):
        def __init__(self) -> None:
            super().__init__()
            self.weight = PyroSample(dist.Normal(0.0, 2.0).expand([3]).to_event(1))

        def forward(self, x: Tensor) -> None:
            pyro.sample("x", dist.Normal(self.weight, 1.0).to_event(1), obs=x)

    found = sites(dgm.FullReparam()(Model()), torch.zeros(3))
    assert found.keys() == {"weight_noise", "weight", "x"}
    assert torch.equal(found["weight"]["value"], 2 * found["weight_noise"]["value"])


def test_particles_side_by_side():
    model = dgm.FullReparam()(eight_schools.model)
    guide = AutoNormal(model)
    elbo = Trace_ELBO(num_particles=4, vectorize_particles=True, max_plate_nesting=1)
    loss = elbo.differentiable_loss(model, guide, *eight_schools.example_inputs)
    loss.backward()
    assert all(parameter.grad is not None for parameter in guide.parameters())


def test_discrete_latents_of_particles_side_by_side():
    def model() -> None:
        with pyro.plate("data", 3):
            k = pyro.sample("k", dist.Categorical(torch.ones(4)))
            pyro.sample("x", dist.Normal(k.float(), 1.0), obs=torch.zeros(3))

    reparameterised = dgm.FullReparam()(model)
    guide = AutoNormal(reparameterised)
    guide()
    elbo = Trace_ELBO(num_particles=5, vectorize_particles=True, max_plate_nesting=1)
    assert elbo.differentiable_loss(reparameterised, guide).isfinite()


def test_it_can_be_traced():
    graph = dgm.trace(dgm.FullReparam()(eight_schools.model), eight_schools.example_inputs)
    assert graph.name == "model" and [argument.name for argument in graph.arguments] == ["standard_error", "effect"]
    assert set(graph.latents) == {"mu_noise", "tau_noise", "theta_noise"}


def test_gradients_reach_parameters():
    def model(x: Tensor) -> None:
        scale = pyro.param("scale", torch.tensor(1.0), constraint=constraints.positive)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Gamma(2.0, 1 / scale))
            pyro.sample("x", dist.Normal(z, 0.1), obs=x)

    reparameterised = dgm.FullReparam()(model)
    trace = poutine.trace(reparameterised).get_trace(values(4).abs())
    trace.log_prob_sum().backward()
    assert pyro.param("scale").unconstrained().grad != 0


def test_a_delta_keeps_its_density():
    def model() -> None:
        with pyro.plate("data", 3), poutine.scale(scale=0.5):
            pyro.sample("z", dist.Delta(torch.ones(3), log_density=torch.arange(3.0)))

    z = sites(dgm.FullReparam()(model))["z"]
    assert z["is_observed"] and log_prob(z) == 1.5


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_a_value_from_outside_is_refused_where_it_would_count(way: Callable[[Any], Any]):
    """What is computed from noise has no density: `poutine.condition` around it would observe nothing."""
    data = {"y": torch.arange(8.0)}
    model = poutine.condition(way(eight_schools.model), data=data)
    found = poutine.trace(model).get_trace(eight_schools.STANDARD_ERROR, None)
    with pytest.raises(CompileError, match="rewritten-site"):
        found.log_prob_sum()
    with pyro.plate("particles", 3, dim=-2), pytest.raises(CompileError, match="rewritten-site"):
        poutine.trace(model).get_trace(eight_schools.STANDARD_ERROR, None).log_prob_sum()
    inside = way(poutine.condition(eight_schools.model, data=data))
    assert "y_noise" not in sites(inside, eight_schools.STANDARD_ERROR, None)


def test_a_value_from_outside_may_be_predicted_from():
    model = dgm.FullReparam()(eight_schools.model)
    found = Predictive(model, {"theta": torch.zeros(4, 8)})(eight_schools.STANDARD_ERROR, None)
    assert torch.allclose(found["y"], found["y_noise"] * eight_schools.STANDARD_ERROR)
    done = sites(poutine.do(model, data={"mu": torch.tensor(1e6)}), eight_schools.STANDARD_ERROR, None)
    assert (done["theta"]["value"] > 1e5).all() and log_prob(done["theta"]) == 0


def test_a_value_from_inside_is_pushed_back_to_its_noise_or_refused():
    def model() -> None:
        pyro.sample("z", dist.Normal(1.0, 2.0))
        pyro.sample("w", dist.StudentT(3.0, 0.0, 1.0))

    replayed = poutine.replay(model, trace=poutine.trace(model).get_trace())
    with pytest.raises(CompileError) as refused:
        sites(dgm.FullReparam()(replayed))
    assert [d.code for d in refused.value.diagnostics] == ["rewritten-site"]
    assert refused.value.diagnostics[0].help == "to leave the site random: FullReparam(keep=('w',))"
    found = sites(dgm.FullReparam(keep="w")(replayed))
    assert torch.allclose(found["z_noise"]["value"], (found["z"]["value"] - 1) / 2)


def test_one_strategy_for_two_models():
    """What one chooses for a site is not what the other chooses for one of its name."""

    def kept() -> None:
        pyro.sample("z", dist.Bernoulli(0.5), infer={"dgm": {"keep": True}})

    def relaxed() -> None:
        pyro.sample("z", dist.Bernoulli(pyro.param("p", torch.tensor(0.5))), infer={"dgm": {"gradient": "relaxed"}})

    def plain() -> None:
        pyro.sample("z", dist.Bernoulli(pyro.param("p", torch.tensor(0.5))))

    strategy = dgm.FullReparam()
    assert "z_noise" not in sites(strategy(kept))
    assert sites(strategy(relaxed))["z"]["value"].requires_grad
    assert not sites(strategy(plain))["z"]["value"].requires_grad


# -- initial values ----------------------------------------------------------------------------------------------------


def test_a_start_value_is_pushed_back_to_its_noise():
    start = {"mu": torch.tensor(3.0), "tau": torch.tensor(2.0), "theta": torch.linspace(1, 8, 8)}
    model = poutine.trace(dgm.FullReparam()(eight_schools.model))
    with pyro.infer.autoguide.initialization.InitMessenger(init_to_value(values=start)):
        found = model.get_trace(*eight_schools.example_inputs).nodes
    assert all(torch.equal(found[name]["value"], value) for name, value in start.items())
    assert torch.allclose(found["mu_noise"]["value"], torch.tensor(0.6))
    assert torch.allclose(found["theta_noise"]["value"], (start["theta"] - 3) / 2)
    assert not found["theta_noise"]["is_observed"]


def test_a_start_value_that_no_inverse_takes_is_warned_of():
    def model() -> None:
        pyro.sample("z", dist.StudentT(3.0, 0.0, 1.0))

    with (
        pytest.warns(RuntimeWarning, match="does not commute with initialization"),
        pyro.infer.autoguide.initialization.InitMessenger(init_to_value(values={"z": torch.tensor(1.0)})),
    ):
        poutine.trace(dgm.FullReparam()(model)).get_trace()


# -- inference ---------------------------------------------------------------------------------------------------------


def regression(x: Tensor, y: Tensor | None = None) -> Tensor:
    slope = pyro.sample("slope", dist.Normal(0.0, 1.0))
    with pyro.plate("data", len(x)):
        return pyro.sample("y", dist.Normal(slope * x, 0.5), obs=y)


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_nuts_finds_the_posterior(way: Callable[[Any], Any]):
    x = torch.linspace(-1, 1, 20)
    y = 0.8 * x
    precision = 1 + (x**2).sum() / 0.25
    mean = (x * y).sum() / 0.25 / precision
    model = way(regression)
    sampler = MCMC(NUTS(model), num_samples=300, warmup_steps=60, disable_progbar=True)
    sampler.run(x, y)
    slope = Predictive(model, sampler.get_samples(), return_sites=["slope"])(x)["slope"].reshape(-1)
    few = 300 / 4  # effective samples, at the least
    assert abs(slope.mean() - mean) < 5 * precision**-0.5 / few**0.5
    assert abs(slope.std() * precision**0.5 - 1) < 5 / (2 * few) ** 0.5


def test_svi_improves_and_may_look_at_discrete_latents():
    y = torch.cat([torch.full((6,), -2.0), torch.full((6,), 2.0)])
    model = dgm.FullReparam()(families.mixture)
    guide = AutoNormal(model)
    svi = SVI(model, guide, pyro.optim.Adam({"lr": 0.05}), Trace_ELBO(num_particles=5))
    losses = [svi.step(y) for _ in range(60)]
    assert sum(losses[-10:]) < sum(losses[:10])


# -- refusals ----------------------------------------------------------------------------------------------------------


class Unknown(dist.Normal):
    """A family that no table has."""


def unknown() -> None:
    z = pyro.sample("z", dist.Normal(0.0, 1.0))
    pyro.sample("w", Unknown(z, 1.0))


def test_a_family_without_a_transform_is_refused_and_not_skipped():
    for way in WAYS.values():
        with pytest.raises(CompileError) as refused:
            sites(way(unknown))
        (diagnostic,) = refused.value.diagnostics
        assert diagnostic.code == "no-noise-transform"
        assert diagnostic.help == "to leave the site random: FullReparam(keep=('w',))"
        assert "test_full_reparam.py" in str(diagnostic.location)
    found = sites(dgm.FullReparam(keep=("w",))(unknown))
    assert found.keys() == {"z_noise", "z", "w"}


def test_what_cannot_be_read_of_an_instance_is_read_as_a_decorator():
    """A distribution that the program made is known by its constructor call; from outside, only by what it keeps."""

    class Keeps(dist.Normal):
        def __init__(self, twice: Tensor) -> None:
            super().__init__(twice / 2, 1.0)

    def model() -> None:
        pyro.sample("z", Keeps(torch.tensor(1.0)))

    with pytest.raises(CompileError) as refused:
        sites(WAYS["config"](model))
    assert [d.code for d in refused.value.diagnostics] == ["unseen-distribution"]
    with pytest.raises(CompileError) as refused:
        sites(WAYS["decorator"](model))
    assert [d.code for d in refused.value.diagnostics] == ["no-noise-transform"]


@pytest.mark.parametrize("option", [{"variant": "none"}, {"kept": True}, {"keep": "no"}])
def test_an_option_that_there_is_not_is_refused(option: Any):
    def model() -> None:
        pyro.sample("z", dist.Normal(0.0, 1.0), infer={"dgm": option})

    with pytest.raises(CompileError, match="unknown-option"):
        sites(dgm.FullReparam()(model))


def gaussian(size: int, *batch: int) -> Any:
    """By its covariance, of which the transform takes the factor."""
    return dist.MultivariateNormal(torch.zeros(*batch, size), 1.3 * torch.eye(size))


def by_precision(size: int, *batch: int) -> Any:
    return dist.MultivariateNormal(torch.zeros(*batch, size), precision_matrix=1.3 * torch.eye(size))


WITH_PARTS: dict[str, Callable[[], Any]] = {
    "GaussianMRF": lambda: dist.GaussianMRF(gaussian(2), gaussian(4), gaussian(4, 3)),
    "GaussianHMM": lambda: dist.GaussianHMM(gaussian(2), torch.eye(2), gaussian(2), torch.eye(2), by_precision(2, 3)),
    "MixtureSameFamily": lambda: dist.MixtureSameFamily(dist.Categorical(torch.ones(3)), by_precision(2, 3)),
    "MixtureSameFamily of counts": lambda: dist.MixtureSameFamily(
        dist.Categorical(logits=torch.zeros(3)), dist.Binomial(4, torch.full((3,), 0.3))
    ),
    "MaskedMixture": lambda: dist.MaskedMixture(torch.tensor([True, False]), dist.Bernoulli(0.3), dist.Geometric(0.4)),
    "ZeroInflatedDistribution": lambda: dist.ZeroInflatedDistribution(dist.Poisson(2.0), gate=torch.tensor(0.3)),
    "DiscreteHMM": lambda: dist.DiscreteHMM(torch.zeros(2), torch.zeros(2, 2), dist.Bernoulli(torch.full((3, 2), 0.3))),
}


@pytest.mark.parametrize("law", WITH_PARTS.values(), ids=WITH_PARTS)
def test_distributions_inside_of_others_may_be_given_by_any_parameters(law: Callable[[], Any]):
    def model() -> None:
        pyro.sample("z", law())

    graph = dgm.trace(model, targets=["z"])
    noise = dgm.compile(dgm.auxiliary(graph)).sample_noise()
    expected = dgm.compile(dgm.auxiliary(graph))(noise=noise)["z"]
    program = poutine.condition(dgm.FullReparam()(model), data=noise)
    torch.testing.assert_close(sites(program)["z"]["value"], expected)
