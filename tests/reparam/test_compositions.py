"""Every composition draws from exactly its law, alone and inside others."""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from scipy import stats
from torch import Tensor

import dgmcompile as dgm
from dgmcompile.ir.graph import Noise, leaves
from dgmcompile.passes.auxiliary import with_options
from dgmcompile.reparam import COMPOSITIONS
from dgmcompile.reparam.hidden_markov import spread
from tests import seeds
from tests.reparam.composed_laws import (
    LAWS,
    ComposedLaw,
    FieldLaw,
    Folded,
    InflatedCounts,
    InflatedLengths,
    KalmanLaw,
    LinearLaw,
    Masked,
    MixtureOfMixtures,
    MixtureOfNormals,
    MixtureOfRecordedSteps,
    MixtureOfSteps,
    MixtureOfVectors,
    SideBySide,
    SkewedTorus,
    SkewedUniform,
    SkewedVonMises,
    StateSpace,
    StudentLaw,
    SwitchingLabels,
    SwitchingNumbers,
    SwitchingVectors,
    covariance,
    positive,
)

DRAWS = 20_000
CHUNKS = 50
KS_LIMIT = math.sqrt(-0.5 * math.log(0.5e-6) / DRAWS)
"""Kolmogorov-Smirnov distance that DRAWS draws of the right law exceed once in a million."""


@pytest.fixture(autouse=True)
def in_double() -> Any:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


def compiled(law: ComposedLaw, **options: Any) -> Any:
    graph = dgm.trace(law.model, (torch.zeros(3),), targets="x")
    return dgm.compile(dgm.auxiliary(with_options(graph, {"x": options})) if options else graph)


def draws_of(law: ComposedLaw, draws: int = DRAWS, **options: Any) -> Tensor:
    torch.manual_seed(3)
    return compiled(law, **options)(torch.zeros(draws))["x"]


def number(x: Tensor) -> float:
    return float(x.detach())


def families_in(law: Any) -> set[str]:
    """The classes of a distribution and of what is inside it."""
    parts = [part for part in vars(law).values() if isinstance(part, torch.distributions.Distribution)]
    return {type(law).__name__}.union(*map(families_in, parts))


def test_each_composition_has_its_name_an_example_and_a_source():
    assert set(COMPOSITIONS.names()) <= set[str]().union(*(families_in(law().law()) for law in LAWS))
    assert all(entry.family == name for name, entry in zip(COMPOSITIONS.names(), COMPOSITIONS, strict=True))
    assert all(entry.source for entry in COMPOSITIONS)


# -- the law, by its own density -------------------------------------------------------------------------------------


def standard_scores(law: ComposedLaw, draws: Tensor) -> Tensor:
    """Of each parameter, the mean of d log p in standard errors, estimated from chunks; 0 if draws are right."""
    params = list(law.parameters())
    scores = []
    for chunk in draws.chunk(CHUNKS):
        found = torch.autograd.grad(law.log_prob(chunk).mean(), params, allow_unused=True, materialize_grads=True)
        scores.append(torch.cat([score.flatten() for score in found]))
    stacked = torch.stack(scores)
    stacked = stacked[:, stacked.abs().amax(0) > 0]  # a parameter that the law does not read
    return stacked.mean(0) / (stacked.std(0) / math.sqrt(CHUNKS))


@pytest.mark.parametrize("make", LAWS, ids=lambda law: law.__name__)
def test_score_has_mean_zero(make: type[ComposedLaw]):
    """E grad log p(x) = 0 for x of law p: 5.5 standard errors of 49 degrees of freedom, once in 10^6."""
    law = make()
    draws = draws_of(law, 4_000 if make is SkewedTorus else DRAWS)  # its numeric inverse takes long
    scores = standard_scores(law, draws.detach())
    assert len(scores) >= 1
    assert scores.abs().max() < 5.5


@pytest.mark.parametrize("make", [MixtureOfNormals, KalmanLaw, SwitchingNumbers, StudentLaw, FieldLaw])
def test_score_finds_draws_of_another_law(make: type[ComposedLaw]):
    law = make()
    draws = draws_of(law).detach()
    with torch.no_grad():
        for parameter in law.parameters():
            parameter += 0.1
    assert standard_scores(law, draws).abs().max() > 8


# -- the law, by what is known of it ---------------------------------------------------------------------------------


def assert_law(draws: Tensor, cdf: Callable[[Any], Any]) -> None:
    assert stats.kstest(draws.detach().numpy(), cdf).statistic < KS_LIMIT


def assert_moments(draws: Tensor, mean: Tensor, cov: Tensor) -> None:
    """Of normal vectors, at 5.5 standard errors each."""
    n = len(draws)
    assert ((draws.mean(0) - mean).abs() < 5.5 * (cov.diagonal() / n).sqrt()).all()
    error = ((cov.diagonal().unsqueeze(0) * cov.diagonal().unsqueeze(1) + cov**2) / n).sqrt()
    assert ((draws.T.cov() - cov).abs() < 5.5 * error).all()


def test_mixture_of_normals():
    law = MixtureOfNormals()
    weights, loc, scale = (x.detach().numpy() for x in (law.weights.softmax(-1), law.loc, positive(law.width)))
    assert_law(
        draws_of(law), lambda x: sum(w * stats.norm.cdf(x, m, s) for w, m, s in zip(weights, loc, scale, strict=True))
    )


def test_mixture_of_steps_of_the_users():
    law = MixtureOfRecordedSteps()
    weights, loc, slope = (x.detach().numpy() for x in (law.weights.softmax(-1), law.loc, law.slope))

    def cdf(y: Any) -> Any:
        parts = zip(weights, loc, slope, strict=True)
        return sum(
            w * stats.norm.cdf(torch.asinh(torch.as_tensor(y) * math.exp(-b)), 0.5 * m, 0.5) for w, m, b in parts
        )

    assert_law(draws_of(law), cdf)


def test_zero_has_the_gates_probability_and_the_rest_is_the_bases():
    law = InflatedLengths()
    draws = draws_of(law)
    closed = number(law.gate.sigmoid())
    assert abs(float((draws == 0).double().mean()) - closed) < 5 * math.sqrt(closed * (1 - closed) / DRAWS)
    assert stats.kstest(draws[draws > 0].detach().numpy(), "expon", (0, 1 / number(positive(law.rate)))).pvalue > 1e-6


def test_skewed_uniform_angles():
    law = SkewedUniform(2)
    skew = number(0.5 * law.skew.tanh()[0])
    draws = draws_of(law)
    assert abs(skew) > 0.05
    assert_law(
        draws[:, 0], lambda x: (x + math.pi - skew * (torch.cos(torch.as_tensor(x)) + 1).numpy()) / (2 * math.pi)
    )
    assert draws.min() >= -math.pi and draws.max() < math.pi


def joint_of_states(law: StateSpace, steps: int = 3) -> tuple[Tensor, Tensor]:
    """Mean and covariance of what is observed, by matrices of the whole series."""
    initial, step, transition, seen, observation = law.parts()
    mean, sources = initial.loc, [torch.linalg.cholesky(initial.covariance_matrix)]
    means, rows = [], []
    for t in range(steps):
        mean = mean @ step + transition.loc
        sources = [step.T @ source for source in sources] + [torch.linalg.cholesky(transition.covariance_matrix)]
        means.append(mean @ seen + observation.mean[t])
        own = [torch.zeros(2, 2)] * t + [torch.diag(observation.stddev[t])] + [torch.zeros(2, 2)] * (steps - t - 1)
        later = [torch.zeros(2, 2)] * (steps - t - 1)
        rows.append(torch.cat([seen.T @ source for source in sources] + later + own, -1))
    root = torch.cat(rows)
    return torch.cat(means).detach(), (root @ root.T).detach()


def test_state_space_has_its_joint_covariance():
    law = KalmanLaw()
    assert_moments(draws_of(law).detach().reshape(DRAWS, 6), *joint_of_states(law))


def test_state_space_of_one_precision_is_students():
    law = StudentLaw()
    mean, cov = joint_of_states(law)
    shape, rate = number(positive(law.drift[0]) + 2), number(positive(law.start[0]))
    whitened = torch.linalg.solve(torch.linalg.cholesky(cov), (draws_of(law).detach().reshape(DRAWS, 6) - mean).T)
    for coordinate in whitened / math.sqrt(rate / shape):
        assert_law(coordinate, stats.t(2 * shape).cdf)
    assert_law(whitened.square().sum(0) / 6 / (rate / shape), stats.f(6, 2 * shape).cdf)


def test_field_has_its_joint_covariance():
    """All factors as one precision matrix of every state and observation; the states are summed out of it."""
    law = FieldLaw()
    precision, info = torch.zeros(11, 11), torch.zeros(11)
    factors = [([0, 1], dist.MultivariateNormal(law.start, torch.eye(2)))]
    for t in range(3):
        before, now, observed = [2 * t, 2 * t + 1], [2 * t + 2, 2 * t + 3], [8 + t]
        factors.append((before + now, dist.MultivariateNormal(law.pair_loc, covariance(law.pair))))
        seen = dist.MultivariateNormal(law.seen_loc[t], precision_matrix=covariance(law.seen)[t])
        marginal = dist.MultivariateNormal(seen.loc[:2], seen.covariance_matrix[:2, :2])
        factors.append((now + observed, seen))
        assert marginal.event_shape == (2,)  # what the field multiplies with for the states alone
    for place, factor in factors:
        index = torch.tensor(place)
        precision[index.unsqueeze(-1), index] += factor.precision_matrix.detach()
        info[index] += (factor.precision_matrix @ factor.loc).detach()
    cov = torch.linalg.inv(precision)
    assert_moments(draws_of(law).detach().reshape(DRAWS, 3), (cov @ info)[8:], cov[8:, 8:])


@pytest.mark.parametrize("options", [{}, {"variant": "inverse_cdf"}], ids=["usual", "inverse_cdf"])
def test_hidden_labels_by_every_path(options: dict[str, str]):
    law = SwitchingLabels()
    initial, transition = law.initial.softmax(-1), (2 * law.transition).softmax(-1)
    labels = law.labels.softmax(-1)
    expected = torch.zeros(3, 3, 3)
    for start, *path in itertools.product(range(2), repeat=4):
        weight = initial[start]
        for t, (old, new) in enumerate(itertools.pairwise((start, *path))):
            weight = weight * transition[t, old, new]
        expected += weight.detach() * torch.einsum("i,j,k->ijk", *(labels[state].detach() for state in path))
    draws = draws_of(law, **options)
    observed = torch.bincount(draws @ torch.tensor([9, 3, 1]), minlength=27)
    assert stats.chisquare(observed, DRAWS * expected.flatten()).pvalue > 1e-6


class CauchySums(ComposedLaw):
    """Sums of Cauchy noise are Cauchy, with the sum of their scales."""

    shapes = {"step": (1, 1), "seen": (1, 1)}  # noqa: RUF012
    scales = (0.5, 0.3, 0.7)

    def law(self) -> Any:
        initial, transition, observation = (dist.Cauchy(torch.zeros(1), s).to_event(1) for s in self.scales)
        bent = dist.TransformedDistribution(observation, [dist.transforms.AffineTransform(1.0, 2.0)])
        return dist.LinearHMM(initial, self.step, transition, self.seen, bent, duration=2)


def test_linear_model_of_cauchy_noise():
    law = CauchySums()
    step, seen = abs(number(law.step)), abs(number(law.seen))
    initial, transition, observation = law.scales
    draws = draws_of(law)
    scale = seen * (step * (step * initial + transition) + transition) + observation
    assert_law(draws[:, 1, 0], stats.cauchy(1.0, 2 * scale).cdf)


@pytest.mark.parametrize("make", [MixtureOfNormals, KalmanLaw, SwitchingNumbers])
def test_copies_in_a_plate_are_independent(make: type[ComposedLaw]):
    draws = draws_of(make()).detach().reshape(DRAWS, -1)[:, 0]
    correlation = torch.corrcoef(torch.stack((draws[1:], draws[:-1])))[0, 1]
    assert abs(float(correlation)) < 5 / math.sqrt(DRAWS)


# -- noise and gradients ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", LAWS, ids=lambda law: law.__name__)
def test_noise_of_alternatives_is_shared(make: type[ComposedLaw]):
    """Of components and of states only one is seen: their noise has a dim of 1 in their place."""
    graph = dgm.auxiliary(dgm.trace(make().model, (torch.zeros(3),)))
    alternatives = [
        n
        for n in graph
        if isinstance(n, Noise)
        and n.name.endswith(("_components_noise", "_components_base_noise", "_successors_noise"))
    ]
    for noise in alternatives:
        assert noise.shape is not None and 1 in noise.shape
    assert bool(alternatives) is ("Mixture" in make.__name__ or "Switching" in make.__name__)


@dataclass(frozen=True)
class Reached:
    law: type[ComposedLaw]
    gradient: tuple[str, ...]
    none: tuple[str, ...] = ()


@pytest.mark.parametrize(
    "case",
    [
        Reached(MixtureOfNormals, ("loc", "width"), ("weights",)),
        Reached(MixtureOfVectors, ("loc", "root"), ("weights",)),
        Reached(InflatedLengths, ("rate",), ("gate",)),
        Reached(KalmanLaw, tuple(StateSpace.shapes)),
        Reached(StudentLaw, tuple(StateSpace.shapes)),
        Reached(SwitchingNumbers, ("loc", "width"), ("initial", "transition")),
        Reached(FieldLaw, tuple(FieldLaw.shapes)),
    ],
    ids=lambda case: case.law.__name__,
)
def test_what_gradients_reach(case: Reached):
    law = case.law()
    draws_of(law, 200).sin().sum().backward()
    reached = {
        name for name, parameter in law.named_parameters() if parameter.grad is not None and parameter.grad.any()
    }
    assert reached == set(case.gradient)
    assert reached | set(case.none) == {name for name, _ in law.named_parameters()}
    (sample,) = dgm.trace(law.model, (torch.zeros(3),)).samples
    assert COMPOSITIONS[sample.family].differentiable is not bool(case.none)


@pytest.mark.parametrize("make", [KalmanLaw, StudentLaw, FieldLaw])
def test_pathwise_gradient_is_that_of_finite_differences(make: type[ComposedLaw]):
    law = make()
    run = compiled(law)
    noise = run.sample_noise(torch.zeros(4), generator=seeds.generator(0))
    params = dict(law.named_parameters())

    def total(values: dict[str, Tensor]) -> Tensor:
        return torch.func.functional_call(run, values, (torch.zeros(4),), {"noise": noise})["x"].sin().sum()

    found = torch.autograd.grad(total(params), list(params.values()))
    with torch.no_grad():
        for (name, parameter), gradient in zip(params.items(), found, strict=True):
            direction = torch.ones_like(parameter).cumsum(-1).cos()
            ahead, behind = (total({**params, name: parameter + sign * 1e-6 * direction}) for sign in (1, -1))
            expected = (ahead - behind) / 2e-6
            torch.testing.assert_close((gradient * direction).sum(), expected, rtol=1e-5, atol=1e-6)


# -- how it runs -----------------------------------------------------------------------------------------------------

ONE_EACH = (
    Folded,
    InflatedCounts,
    Masked,
    MixtureOfMixtures,
    MixtureOfSteps,
    MixtureOfVectors,
    SkewedVonMises,
    StudentLaw,
    SideBySide,
    LinearLaw,
    SwitchingVectors,
    FieldLaw,
)
"""All the formulas are in one of these."""


@pytest.mark.parametrize("make", ONE_EACH, ids=lambda law: law.__name__)
def test_vmap_is_a_loop(make: type[ComposedLaw]):
    run = compiled(make())
    copies = torch.zeros(3)
    noises = [run.sample_noise(copies, generator=seeds.generator(seed)) for seed in range(2)]
    stacked = {name: torch.stack([noise[name] for noise in noises]) for name in noises[0]}
    together = torch.func.vmap(lambda noise: run(copies, noise=noise)["x"])(stacked)
    for value, noise in zip(together, noises, strict=True):
        torch.testing.assert_close(value, run(copies, noise=noise)["x"])


@pytest.mark.parametrize("make", ONE_EACH, ids=lambda law: law.__name__)
def test_the_whole_draw_is_captured_as_one_graph(make: type[ComposedLaw]):
    torch._dynamo.reset()
    run = compiled(make())
    noise = run.sample_noise(torch.zeros(3))
    whole = torch.compile(run, backend="eager", fullgraph=True)
    torch.testing.assert_close(whole(torch.zeros(3), noise=noise), run(torch.zeros(3), noise=noise))


def test_a_series_of_any_length():
    law = SwitchingNumbers()

    def model(x: Tensor) -> None:
        hmm = dist.DiscreteHMM(law.initial, law.transition, dist.Normal(law.loc, 1.0), duration=len(x))
        pyro.sample("x", hmm, obs=x)

    run = dgm.compile(dgm.trace(model, (torch.zeros(4),)))
    assert run(torch.zeros(4))["x"].shape == (4,)
    assert run(torch.zeros(11))["x"].shape == (11,)


@pytest.mark.parametrize("make", [MixtureOfNormals, KalmanLaw])
def test_a_kept_site_is_drawn_as_its_transform_draws_it(make: type[ComposedLaw]):
    law = make()

    def model(copies: Tensor) -> None:
        with pyro.plate("copies", len(copies)):
            z = pyro.sample("z", law.law())
            pyro.sample("x", dist.Normal(z.reshape(len(copies), -1).sum(-1), 1.0), obs=copies)

    graph = dgm.trace(model, (torch.zeros(3),))
    kept = dgm.semi_auxiliary(graph, keep=["z"])
    assert [sample.name for sample in kept.samples] == ["z", "x"]
    drawn = dgm.compile(kept)
    noise = drawn.sample_noise(torch.zeros(4))
    assert torch.equal(drawn(torch.zeros(4), noise=noise)["z"], dgm.compile(graph)(torch.zeros(4), noise=noise)["z"])
    assert [leaf for leaf in leaves(dict(kept["z"].params)) if leaf is None] == []


def normal(size: int) -> Any:
    return dist.MultivariateNormal(torch.ones(size), torch.eye(size))


@pytest.mark.parametrize(
    "law",
    [
        lambda: dist.GaussianMRF(normal(2), normal(4), normal(3)),
        lambda: dist.GammaGaussianHMM(
            dist.Gamma(torch.tensor(3.0), 2.0),
            normal(2),
            torch.eye(2),
            normal(2),
            torch.ones(2, 1),
            normal(1),
            duration=3,
        ),
        lambda: dist.VonMises3D(torch.ones(3)),
        lambda: dist.LogNormalNegativeBinomial(torch.tensor(5.0), torch.tensor(0.1), torch.tensor(0.5)),
    ],
    ids=["GaussianMRF", "GammaGaussianHMM", "VonMises3D", "LogNormalNegativeBinomial"],
)
def test_a_latent_that_pyro_cannot_draw(law: Callable[[], Any]):
    def model(y: Tensor) -> None:
        with pyro.plate("data", len(y)):
            z = pyro.sample("z", law())
            pyro.sample("y", dist.Normal(z.reshape(len(y), -1).sum(-1), 1.0), obs=y)

    with pytest.raises(NotImplementedError):
        law().sample()
    report = dgm.check(model, (torch.zeros(4),))
    assert report.ok, str(report)


# -- what cannot be done ---------------------------------------------------------------------------------------------


def refused(law: Callable[[], Any]) -> str:
    def model() -> None:
        pyro.sample("x", law())

    with pytest.raises(dgm.CompileError) as error:
        dgm.auxiliary(dgm.trace(model))
    return str(error.value)


def test_skew_around_no_angle_is_refused():
    text = refused(lambda: dist.SineSkewed(dist.Laplace(torch.zeros(1), 1.0).to_event(1), torch.zeros(1)))
    assert "its base is Laplace; angles around a mean are SineBivariateVonMises, Uniform, VonMises" in text


def linear(observation: Any) -> Any:
    noise = dist.Normal(torch.zeros(2), 1.0).to_event(1)
    return dist.LinearHMM(noise, torch.eye(2), noise, torch.eye(2), observation.to_event(1), duration=3)


def test_a_family_that_a_linear_model_takes_apart_is_refused():
    text = refused(lambda: linear(dist.Weibull(torch.ones(2), 1.0)))
    assert "takes its observation_dist, Weibull, apart into Exponential and steps" in text


def test_a_mask_inside_is_refused():
    components = [dist.Normal(torch.zeros(2), 1.0).mask(torch.tensor([True, False])), dist.Normal(torch.zeros(2), 2.0)]
    assert "masked-part" in refused(lambda: dist.MaskedMixture(torch.tensor([True, True]), *components))


def test_a_part_without_a_transform_is_named():
    class Own(dist.Normal):
        pass

    def law() -> Any:
        return dist.MixtureSameFamily(dist.Categorical(torch.ones(2)), Own(torch.zeros(2), 1.0))

    assert "Own, which has no noise transform" in refused(law)


def test_a_series_is_spread_the_way_that_its_noise_goes():
    deviation, precision = torch.tensor([[[1.0], [-2.0]]]), torch.tensor([4.0])
    assert spread(torch.ones(1, 2, 1), deviation, precision).tolist() == [[[1.5], [0.0]]]
