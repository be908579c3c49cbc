"""What the walks of test_families.py cannot ask: joint laws, and laws of which only the density is known.

The score identity E[d log p(x; theta) / d theta] = 0 asks the density, never a sampler.
"""

import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pyro.distributions as dist
import pytest
import torch
from pyro.distributions.stable import _standard_stable
from scipy import special, stats
from torch import Tensor

from dgmcompile.distill.divergences import LOG_PROBS
from dgmcompile.ir.size import Size
from dgmcompile.reparam import NOISE_TRANSFORMS, NoiseTransform
from tests import seeds
from tests.reparam.closed_forms import EXAMPLES
from tests.reparam.drawing import as_given, canonical, draw, draw_noise
from tests.reparam.example import Given

DTYPES = (torch.float32, torch.float64)
DRAWS = 20_000
STANDARD_ERRORS = 5.0

Density = Callable[..., Tensor]
"""(value, **canonical parameters, each with a leading dim of draws) -> log-density of each draw."""


def constructions(family: str) -> list[Any]:
    transform = NOISE_TRANSFORMS[family]
    named = {family: transform, **{f"{family}-{name}": variant for name, variant in transform.variants.items()}}
    settings = enumerate(EXAMPLES[family].settings)
    return [pytest.param(t, given, id=f"{name}-{i}") for i, given in settings for name, t in named.items()]


def each(*families: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(("transform", "given"), [case for f in families for case in constructions(f)])


def assert_same_law(values: Any, cdf: Callable[[Any], Any]) -> None:
    """Kolmogorov-Smirnov, one false alarm in a million."""
    found = cdf(np.sort(np.asarray(values)))
    steps = np.arange(len(found) + 1) / len(found)
    limit = math.sqrt(-0.5 * math.log(0.5e-6) / len(found))
    assert max((steps[1:] - found).max(), (found - steps[:-1]).max()) < limit


def assert_frequencies(observed: list[int], weights: list[float]) -> None:
    """Chi-square, one false alarm in a million."""
    expected = np.array(weights) * (sum(observed) / sum(weights))
    assert stats.chisquare(observed, expected).pvalue > 1e-6


# The score identity


def by_library(family: str) -> Density:
    def log_prob(value: Tensor, **params: Tensor) -> Tensor:
        return getattr(dist, family)(**params).log_prob(value)

    return log_prob


def relaxed(value: Tensor, temperature: Tensor, logits: Tensor) -> Tensor:
    """Equation 5 of the concrete law's paper."""
    count, temperature = value.shape[-1], temperature.unsqueeze(-1)
    powers = logits - temperature * torch.log(value)
    constant = math.lgamma(count) + (count - 1) * torch.log(temperature.squeeze(-1))
    return constant + (powers - torch.log(value)).sum(-1) - count * torch.logsumexp(powers, -1)


def scale_mixture(value: Tensor, coord_scale: Tensor, component_logits: Tensor, component_scale: Tensor) -> Tensor:
    scales = component_scale.unsqueeze(-1) * coord_scale.unsqueeze(-2)
    each = dist.Normal(torch.zeros(()), scales).log_prob(value.unsqueeze(-2)).sum(-1)
    return torch.logsumexp(component_logits.log_softmax(-1) + each, -1)


def von_mises_3d(value: Tensor, concentration: Tensor) -> Tensor:
    """The library's normaliser overflows where the concentration is large."""
    kappa = concentration.norm(dim=-1)
    log_sinh = kappa + torch.log(-torch.expm1(-2 * kappa)) - math.log(2)
    return (concentration * value).sum(-1) + torch.log(kappa) - log_sinh


DENSITIES: dict[str, Density] = {
    "CoalescentTimesWithRate": by_library("CoalescentTimesWithRate"),
    "GaussianScaleMixture": scale_mixture,
    "LogisticNormal": by_library("LogisticNormal"),
    "MixtureOfDiagNormals": by_library("MixtureOfDiagNormals"),
    "MixtureOfDiagNormalsSharedCovariance": by_library("MixtureOfDiagNormalsSharedCovariance"),
    "ProjectedNormal": by_library("ProjectedNormal"),
    "RelaxedOneHotCategorical": relaxed,
    "SoftAsymmetricLaplace": by_library("SoftAsymmetricLaplace"),
    "VonMises3D": von_mises_3d,
}


@each(*DENSITIES)
def test_score_has_mean_zero(transform: NoiseTransform, given: Given):
    if transform.family == "SoftAsymmetricLaplace" and given["softness"] < 1:
        return  # where the library's log-density is minus infinity in the tails
    given = as_given(given, torch.float64)
    value = draw(transform, given, (DRAWS,), torch.float64).detach()
    params = dict(zip(transform.params, canonical(transform, given), strict=True))
    rows = {name: p.detach().expand(DRAWS, *p.shape).clone().requires_grad_() for name, p in params.items()}
    log_prob = DENSITIES[transform.family](value, **rows)
    assert log_prob.shape == (DRAWS,)
    names = [name for name in rows if name != "leaf_times"]  # the library takes them for constants
    for name, score in zip(names, torch.autograd.grad(log_prob.sum(), [rows[n] for n in names]), strict=True):
        error = score.std(0) / math.sqrt(DRAWS)
        assert (score.mean(0).abs() <= STANDARD_ERRORS * error + 1e-9).all(), name


# Stable laws


@pytest.mark.parametrize("coords", ["S0", "S"])
@pytest.mark.parametrize(
    ("stability", "skew"),
    [(2.0, 0.0), (2.0, 0.5), (1.5, 0.5), (1.001, -1.0), (1.0, 0.0), (1.0, 0.7), (0.9995, 1.0), (0.5, 1.0), (0.3, -0.4)],
)
def test_characteristic_function_of_stable(stability: float, skew: float, coords: str):
    params = {"stability": stability, "skew": skew, "scale": 1.0, "loc": 0.0, "coords": coords}
    value = draw(NOISE_TRANSFORMS["Stable"], as_given(params, torch.float64), (50_000,), torch.float64)
    for t in (0.2, 1.0, 2.5):
        lean = math.tan(math.pi * stability / 2) if stability != 1 else 0.0
        turn = -lean if coords == "S" and stability != 1 else lean * (t ** (1 - stability) - 1)
        turn = 2 / math.pi * math.log(t) if stability == 1 else turn
        exact = np.exp(-(t**stability) * (1 + 1j * skew * turn))
        found = np.exp(1j * t * value.numpy()).mean()
        assert abs(found - exact) < STANDARD_ERRORS * math.sqrt((1 - abs(exact) ** 2) / 50_000) + 1e-9


@pytest.mark.parametrize("coords", ["S0", "S"])
def test_stable_is_the_librarys_transform_away_from_one(coords: str):
    params = as_given({"stability": 1.6, "skew": -0.7, "scale": 2.0, "loc": 1.0, "coords": coords}, torch.float64)
    transform = NOISE_TRANSFORMS["Stable"]
    uniform, exponential = draw_noise(transform, list(params.values()), (500,), torch.float64)
    angle = math.pi * (uniform - 0.5)
    stability, skew = (params[name].expand(500) for name in ("stability", "skew"))
    theirs = 1.0 + 2.0 * _standard_stable(stability, skew, angle, exponential, coords)
    torch.testing.assert_close(transform.forward.function(uniform, exponential, *params.values()), theirs)


def test_stable_has_no_hole_at_one():
    transform = NOISE_TRANSFORMS["Stable"]
    noises = draw_noise(transform, [0.0] * 5, (500,), torch.float64)
    middle = transform.forward.function(*noises, 1.0, 0.8)
    for gap in (1e-14, 1e-10, 1e-7):
        beside = transform.forward.function(*noises, 1.0 + gap, 0.8)
        assert ((beside - middle).abs() <= 1e3 * gap * (1 + middle.abs()) ** 2 + 1e-9).all()


def test_stable_at_the_ends_of_the_noise():
    ends = torch.tensor([2.0**-53, 0.5 - 2.0**-53, 0.5 + 2.0**-53, 1 - 2.0**-53], dtype=torch.float64)
    stability = torch.tensor([0.2, 0.5, 1.0, 1.5, 2.0], dtype=torch.float64).reshape(-1, 1, 1)
    skew = torch.tensor([-1.0, 0.0, 1.0], dtype=torch.float64).reshape(-1, 1)
    for param in (stability, skew):
        param.requires_grad_()
    value = NOISE_TRANSFORMS["Stable"].forward.function(ends, torch.ones_like(ends), stability, skew)
    assert value.isfinite().all()
    assert all(part.isfinite().all() for part in torch.autograd.grad(value.sum(), (stability, skew)))


# Directions


@pytest.mark.parametrize("dtype", DTYPES)
@each("VonMises3D", "ProjectedNormal")
def test_directions_have_length_one(transform: NoiseTransform, given: Given, dtype: torch.dtype):
    value = draw(transform, as_given(given, dtype), (DRAWS,), dtype)
    assert ((value.norm(dim=-1) - 1).abs() < 8 * torch.finfo(dtype).eps).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kappa", [0.0, 1e-6, 0.3, 8.0, 3e4])
def test_von_mises_3d_by_its_marginals(kappa: float, dtype: torch.dtype):
    """The cosine to the mean direction has a density of e^(kappa w), and the angle around it none but a constant."""
    pole = np.array([0.48, -0.6, 0.64])
    given = {"concentration": torch.tensor(kappa * pole, dtype=dtype)}
    value = draw(NOISE_TRANSFORMS["VonMises3D"], given, (DRAWS,), dtype).double().numpy()
    pole = pole if kappa else np.array([0.0, 0.0, 1.0])
    cosine = 1 - ((value - pole) ** 2).sum(-1) / 2

    def cdf(w: Any) -> Any:
        inside = np.exp(kappa * (w - 1)) * np.expm1(-kappa * (1 + w)) / np.expm1(-2 * kappa) if kappa else (1 + w) / 2
        return np.clip(inside, 0, 1)

    assert_same_law(cosine, cdf)
    across = np.cross(pole, [1.0, 0.0, 0.0])
    angle = np.arctan2(value @ np.cross(pole, across), value @ across)
    assert_same_law(angle, lambda a: a / (2 * math.pi) + 0.5)


@pytest.mark.parametrize("concentration", [[0.0] * 3, [0.0, 0.0, 7.0], [0.0, 0.0, -7.0], [1e-25, 0.0, -7.0]])
def test_von_mises_3d_has_gradients_everywhere(concentration: list[float]):
    given = {"concentration": torch.tensor(concentration, requires_grad=True)}
    value = draw(NOISE_TRANSFORMS["VonMises3D"], given, (50,), torch.float32)
    (slope,) = torch.autograd.grad(value.sum(), given["concentration"])
    assert slope.isfinite().all()
    torch.testing.assert_close(value.norm(dim=-1), torch.ones(50))


def test_near_mean_directions_have_near_values_of_von_mises_3d():
    """The noise that two laws share is worth something, whatever the direction."""
    generator = seeds.generator(3)
    pole = torch.randn(500, 3, generator=generator, dtype=torch.float64)
    pole = torch.cat((pole, torch.tensor([[0.3, 0.2, 0.0], [0.0, 0.0, 1.0]], dtype=torch.float64)))
    aside = pole + 1e-6 * torch.randn(len(pole), 3, generator=generator, dtype=torch.float64)
    transform = NOISE_TRANSFORMS["VonMises3D"]
    noises = draw_noise(transform, [pole], tuple(pole.shape), torch.float64)
    near, far = (transform.forward.function(*noises, concentration) for concentration in (pole, aside))
    assert (near - far).norm(dim=-1).max() < 1e-3


@pytest.mark.parametrize("concentration", [[0.0, 0.0], [1.5, -0.5], [-9.0, 4.0]])
def test_angle_of_projected_normal(concentration: list[float]):
    given = as_given({"concentration": concentration}, torch.float64)
    value = draw(NOISE_TRANSFORMS["ProjectedNormal"], given, (DRAWS,), torch.float64).numpy()
    grid = torch.linspace(-math.pi, math.pi, 100_001, dtype=torch.float64)
    unit = torch.stack((grid.cos(), grid.sin()), -1)
    density = dist.ProjectedNormal(given["concentration"], validate_args=False).log_prob(unit).exp()
    cdf = torch.cumulative_trapezoid(density, grid).numpy()
    assert cdf[-1] == pytest.approx(1.0, abs=1e-6)
    assert_same_law(np.arctan2(value[:, 1], value[:, 0]), lambda a: np.interp(a, grid[1:].numpy(), cdf))


# Mixtures and stored samples


@pytest.mark.parametrize("dtype", DTYPES)
@each("MixtureOfDiagNormals", "MixtureOfDiagNormalsSharedCovariance", "GaussianScaleMixture")
def test_coordinates_of_mixtures(transform: NoiseTransform, given: Given, dtype: torch.dtype):
    value = draw(transform, as_given(given, dtype), (DRAWS,), dtype).double().numpy()
    weights = special.softmax(np.array(given["component_logits"]))
    scales = np.array(given["coord_scale"])
    scales = np.outer(given["component_scale"], scales) if "component_scale" in given else scales
    locs = np.array(given["locs"]) if "locs" in given else np.zeros_like(scales)
    scales = np.broadcast_to(scales, locs.shape)
    for i in range(value.shape[-1]):
        assert_same_law(value[:, i], lambda x, i=i: weights @ stats.norm.cdf(x, locs[:, i, None], scales[:, i, None]))


@each("MixtureOfDiagNormals", "GaussianScaleMixture")
def test_coordinates_of_a_mixture_share_their_component(transform: NoiseTransform, given: Given):
    """The product of two coordinates has the mean that the components have in common."""
    value = draw(transform, as_given(given, torch.float64), (DRAWS,), torch.float64).numpy()
    weights = special.softmax(np.array(given["component_logits"]))
    square = value**2
    locs = np.array(given["locs"]) if "locs" in given else 0.0
    scales = np.array(given["coord_scale"])
    scales = np.outer(given["component_scale"], scales) if "component_scale" in given else scales
    second = locs**2 + scales**2
    product = square[:, 0] * square[:, 1]
    exact = weights @ (second[:, 0] * second[:, 1])
    assert abs(product.mean() - exact) < STANDARD_ERRORS * product.std() / math.sqrt(DRAWS)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("variant", [None, "inverse_cdf"])
def test_empirical_draws_whole_samples_by_their_weights(variant: str | None, dtype: torch.dtype):
    """Two batches of three pairs, of which one cannot be drawn."""
    transform = NOISE_TRANSFORMS["Empirical"]
    transform = transform.variants[variant] if variant else transform
    samples = torch.arange(12, dtype=dtype).reshape(2, 3, 2)
    probs = torch.tensor([[0.2, 0.5, 0.3], [0.6, 0.4, 0.0]], dtype=dtype)
    value = draw(transform, {"samples": samples, "log_weights": probs.log()}, (DRAWS, 2), dtype)
    assert value.shape == (DRAWS, 2, 2)
    for batch in range(2):
        counts = Counter(map(tuple, value[:, batch].tolist()))
        rows = [tuple(row) for row in samples[batch].tolist()]
        possible = [(row, float(p)) for row, p in zip(rows, probs[batch], strict=True) if p > 0]
        assert set(counts) == {row for row, _ in possible}
        assert_frequencies([counts[row] for row, _ in possible], [DRAWS * p for _, p in possible])


def test_empirical_of_whole_numbers():
    samples, weights = torch.tensor([4, 9]), torch.zeros(2)
    value = draw(NOISE_TRANSFORMS["Empirical"], {"samples": samples, "log_weights": weights}, (50,), torch.float32)
    assert value.dtype == torch.long
    assert set(value.tolist()) == {4, 9}


@pytest.mark.parametrize("given", EXAMPLES["GroupedNormalNormal"].settings, ids=["several", "one"])
def test_grouped_normals_have_the_covariance_of_their_groups(given: Given):
    transform = NOISE_TRANSFORMS["GroupedNormalNormal"]
    params = list(as_given(given, torch.float64).values())
    index = np.array(given["group_idx"])
    for shape in ((), (len(index),)):  # the library's own shape, and the value's
        noises = tuple(draw_noise(transform, params, shape, torch.float64))
        value = transform.forward.function(*noises, *params)
        assert value.shape == index.shape
    means = transform.forward.function(*(torch.zeros_like(noise) for noise in noises), *params)
    assert means.tolist() == np.array(given["prior_loc"])[index].tolist()
    roots = torch.autograd.functional.jacobian(lambda *e: transform.forward.function(*e, *params), noises)
    found = torch.stack([root @ root.mT for root in roots]).sum(0)
    shared = (index[:, None] == index) * np.array(given["prior_scale"])[index] ** 2
    np.testing.assert_allclose(found, shared + np.diag(np.square(given["obs_scale"])), rtol=1e-12)
    log_prob = dist.GroupedNormalNormal(*params).log_prob(value)
    torch.testing.assert_close(log_prob, dist.MultivariateNormal(means, found).log_prob(value))
    batch = draw_noise(transform, params, (7, len(index)), torch.float64)
    assert transform.forward.function(*batch, *params).shape == (7, len(index))


@pytest.mark.parametrize(
    ("loc", "scale", "obs_scale", "index", "groups", "observations"),
    [
        ([0.0], [1.0, 2.0], [1.0], [0, 1, 1], 2, 3),
        (0.0, [1.0, 2.0], 1.0, [1], 2, 1),
        ([0.0], 1.0, [1.0, 1.0], [0], 1, 2),
    ],
)
def test_each_group_and_observation_has_noise_of_its_own(
    loc: Any, scale: Any, obs_scale: Any, index: list[int], groups: int, observations: int
):
    """However many of the parameters are broadcast, as the library does."""
    transform = NOISE_TRANSFORMS["GroupedNormalNormal"]
    params = [*map(torch.tensor, (loc, scale, obs_scale, index))]
    shapes = dict(zip(transform.params, (tuple(param.shape) for param in params), strict=True))
    assert transform.noise_shapes((observations,), shapes) == ((groups,), (observations,))
    noises = draw_noise(transform, params, (observations,), torch.float32)
    value = transform.forward.function(*noises, *params)
    found = LOG_PROBS["GroupedNormalNormal"].function(value, *params)
    torch.testing.assert_close(found, dist.GroupedNormalNormal(*params).log_prob(value))


def test_grouped_normals_have_right_gradients():
    transform = NOISE_TRANSFORMS["GroupedNormalNormal"]
    *params, index = as_given(EXAMPLES["GroupedNormalNormal"].settings[0], torch.float64).values()
    noises = draw_noise(transform, [*params, index], (5,), torch.float64)
    inputs = tuple(param.requires_grad_() for param in params)
    assert torch.autograd.gradcheck(lambda *p: transform.forward.function(*noises, *p, index), inputs)


# Labels, relaxed and ordered


@each("RelaxedOneHotCategorical")
def test_log_ratios_of_relaxed_labels_are_logistic(transform: NoiseTransform, given: Given):
    value = draw(transform, as_given(given, torch.float64), (DRAWS,), torch.float64).numpy()
    logits = np.array(given["logits"] if "logits" in given else np.log(given["probs"]))
    z = given["temperature"] * (np.log(value[:, 1]) - np.log(value[:, 0])) - (logits[1] - logits[0])
    assert_same_law(z, stats.logistic.cdf)
    np.testing.assert_allclose(value.sum(-1), 1.0)


@each("RelaxedBernoulliStraightThrough", "RelaxedOneHotCategoricalStraightThrough")
def test_hard_values_are_the_nearest_to_relaxed_ones(transform: NoiseTransform, given: Given):
    """Bit for bit, with the gradient of the relaxed value of the same noise."""
    soft = NOISE_TRANSFORMS[transform.family.removesuffix("StraightThrough")]
    params = [p.detach().requires_grad_() for p in canonical(transform, as_given(given, torch.float64))]
    event = params[-1].shape
    noises = draw_noise(transform, params, (500, *event), torch.float64)
    hard, relaxed = transform.forward.function(*noises, *params), soft.forward.function(*noises, *params)
    nearest = torch.nn.functional.one_hot(relaxed.argmax(-1), event[-1]) if event else relaxed.round()
    assert torch.equal(hard, nearest.double())
    weights = torch.linspace(-1.0, 2.0, hard.numel(), dtype=torch.float64).reshape(hard.shape)
    ours = torch.autograd.grad((weights * hard).sum(), params)
    theirs = torch.autograd.grad((weights * relaxed).sum(), params)
    for found, expected in zip(ours, theirs, strict=True):
        assert found.abs().max() > 0
        torch.testing.assert_close(found, expected)


def test_probabilities_of_zero_stay_inside_for_relaxed_families():
    probs = torch.tensor([0.0, 1.0], requires_grad=True)
    for family in ("RelaxedBernoulli", "RelaxedOneHotCategorical"):
        transform = NOISE_TRANSFORMS[family]
        found = transform.conversions["logits"]["probs"].function(probs)
        torch.testing.assert_close(found, getattr(dist, family)(torch.tensor(1.0), probs=probs).logits)
        value = transform.forward.function(*draw_noise(transform, [1.0, found], (50, 2), torch.float32), 1.0, found)
        assert (value > 0).all()
        (slope,) = torch.autograd.grad(value[:, 0].sum(), probs)
        assert slope.isfinite().all()


@each("OrderedLogistic")
def test_ordered_logistic_is_the_inverse_cdf(transform: NoiseTransform, given: Given):
    """Tails included: P(label < value) <= u <= P(label <= value)."""
    params = canonical(transform, as_given(given, torch.float64))
    tail = torch.logspace(-15, -1, 300, dtype=torch.float64)
    noise = torch.cat([*draw_noise(transform, params, (5000,), torch.float64), tail, 1 - tail])
    value = transform.forward.function(noise, *params).numpy()
    cdf = special.expit(np.array([-np.inf, *given["cutpoints"], np.inf]) - given["predictor"])
    assert (cdf[value] <= noise.numpy() + 1e-15).all()
    assert (noise.numpy() <= cdf[value + 1] + 1e-15).all()
    assert np.bincount(value, minlength=len(cdf) - 1).sum() == len(noise)


@pytest.mark.parametrize("family", ["Categorical", "OneHotCategorical"])
def test_labels_by_inverse_cdf_need_noise_that_does_not_know_their_number(family: str):
    transform = NOISE_TRANSFORMS[family].variants["inverse_cdf"]
    batch = Size.symbol("batch")
    event = (5,) if transform.event_dim else ()
    assert transform.noise_shapes((batch, *event), {"logits": (5,)}) == ((batch,),)
    ends = torch.tensor([2.0**-53, 1 - 2.0**-53], dtype=torch.float64)
    for probs in ([0.0, 1.0, 0.0], [0.0, 1e-9, 1.0, 0.0, 0.0], [0.1] * 3 + [0.7] * 1 + [0.0] * 3):
        value = transform.forward.function(ends, torch.tensor(probs).log())
        label = value.argmax(-1) if event else value
        assert label.tolist() == [np.flatnonzero(probs)[0], np.flatnonzero(probs)[-1]]


# Matchings


def matchings(family: str, nodes: int) -> tuple[Tensor, Tensor]:
    """All matchings, and the probability of each."""
    logits = torch.randn(nodes * (1 if family == "OneOneMatching" else 2), nodes, generator=torch.manual_seed(nodes))
    support = getattr(dist, family)(logits).enumerate_support()
    weights = logits[torch.arange(len(logits)), support].sum(-1)
    return logits, torch.cat((support, weights.softmax(0).unsqueeze(-1)), -1)


@pytest.mark.parametrize(("family", "nodes"), [("OneOneMatching", 4), ("OneTwoMatching", 2), ("OneTwoMatching", 3)])
def test_law_of_matchings(family: str, nodes: int):
    logits, table = matchings(family, nodes)
    value = draw(NOISE_TRANSFORMS[family], {"logits": logits}, (DRAWS,), torch.float32)
    counts = Counter(map(tuple, value.tolist()))
    exact = {tuple(map(int, row)): DRAWS * p for *row, p in table.double().tolist()}
    assert set(counts) <= set(exact)
    rare = [row for row in exact if exact[row] < 5]
    often = [row for row in exact if row not in rare]
    observed = [*(counts[row] for row in often), sum(counts[row] for row in rare)]
    expected = [*(exact[row] for row in often), sum(exact[row] for row in rare)]
    assert_frequencies(observed if rare else observed[:-1], expected if rare else expected[:-1])


@pytest.mark.parametrize(("family", "most", "count"), [("OneOneMatching", 8, 40_320), ("OneTwoMatching", 4, 2520)])
def test_matchings_of_many_nodes_are_refused(family: str, most: int, count: int):
    transform = NOISE_TRANSFORMS[family]
    rows = 1 if family == "OneOneMatching" else 2
    shapes = {"logits": (rows * most, most)}
    assert transform.refusal(shapes) is None
    assert transform.noise_shapes((3, rows * most), shapes) == ((3, count),)
    value = draw(transform, {"logits": torch.zeros(rows * most, most)}, (2,), torch.float32)
    assert value.sort(-1).values.tolist() == [[i for i in range(most) for _ in range(rows)]] * 2
    for more in (most + 1, Size.symbol("nodes")):
        assert str(more) in (transform.refusal({"logits": (more, more)}) or "")
    with pytest.raises(ValueError, match="too many matchings"):
        transform.forward.function(torch.ones(3), torch.zeros(rows * (most + 1), most + 1))


# Coalescent times


def integrated_hazards(leaves: list[float], times: Any, passed: Callable[[float], float]) -> list[float]:
    """What the pairwise hazard amounts to before each coalescence, latest first; ``passed`` is the rate's integral."""
    events = sorted([(time, +1) for time in leaves] + [(time, -1) for time in times], reverse=True)
    found, lineages, total, last = [], 0, 0.0, math.inf
    for time, step in events:
        if lineages > 1:
            total += lineages * (lineages - 1) / 2 * (passed(last) - passed(time))
        if step < 0:
            found.append(total)
            total = 0.0
        lineages, last = lineages + step, time
    assert lineages == 1
    return found


def assert_exponential_hazards(leaves: list[float], value: Tensor, passed: Callable[[float], float]) -> None:
    """Each is an Exponential of rate 1, and none depends on another."""
    assert (value.diff(dim=-1) > 0).all()
    hazards = np.array([integrated_hazards(leaves, times, passed) for times in value.tolist()])
    for column in hazards.T:
        assert_same_law(column, stats.expon.cdf)
    assert_same_law(hazards.sum(-1), stats.gamma(hazards.shape[-1]).cdf)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("given", [*EXAMPLES["CoalescentTimes"].settings, {"leaf_times": [1.0] * 4, "rate": 2.0}])
def test_hazards_of_coalescent_times(given: Given, dtype: torch.dtype):
    """The library's own sampler does not read the rate."""
    value = draw(NOISE_TRANSFORMS["CoalescentTimes"], as_given(given, dtype), (2000,), dtype).double()
    assert_exponential_hazards(given["leaf_times"], value, lambda time: given["rate"] * time)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("given", EXAMPLES["CoalescentTimesWithRate"].settings)
def test_hazards_of_coalescent_times_with_a_rate_for_each_interval(given: Given, dtype: torch.dtype):
    rates = given["rate_grid"]

    def passed(time: float) -> float:
        inside = sum(rate * min(max(time - i, 0.0), 1.0) for i, rate in enumerate(rates))
        return inside + rates[0] * min(time, 0.0) + rates[-1] * max(time - len(rates), 0.0)

    value = draw(NOISE_TRANSFORMS["CoalescentTimesWithRate"], as_given(given, dtype), (2000,), dtype).double()
    assert_exponential_hazards(given["leaf_times"], value, passed)


def test_score_of_the_coalescent_rate():
    given = as_given(EXAMPLES["CoalescentTimes"].settings[0], torch.float64)
    value = draw(NOISE_TRANSFORMS["CoalescentTimes"], given, (DRAWS,), torch.float64)
    rate = given["rate"].expand(DRAWS).clone().requires_grad_()
    log_prob = dist.CoalescentTimes(given["leaf_times"], rate).log_prob(value)
    (score,) = torch.autograd.grad(log_prob.sum(), rate)
    assert score.mean().abs() < STANDARD_ERRORS * score.std() / math.sqrt(DRAWS)


def test_one_leaf_has_no_coalescence():
    for family in ("CoalescentTimes", "CoalescentTimesWithRate"):
        params = [torch.tensor([0.5]), torch.tensor([1.0]) if "Rate" in family else torch.tensor(1.0)]
        assert NOISE_TRANSFORMS[family].forward.function(torch.ones(3, 0), *params).shape == (3, 0)


# Families that read something that no draw depends on


def test_a_control_variate_changes_no_draw():
    transform = NOISE_TRANSFORMS["AVFMultivariateNormal"]
    given = as_given(EXAMPLES["AVFMultivariateNormal"].settings[0], torch.float64)
    given["control_var"].requires_grad_()
    plain = {name: value for name, value in given.items() if name != "control_var"}
    value = draw(transform, given, (9,), torch.float64)
    assert torch.equal(value, draw(NOISE_TRANSFORMS["MultivariateNormal"], plain, (9,), torch.float64))
    assert not value.requires_grad


def test_polya_gamma_is_cut_off():
    huge = torch.full((8,), 100.0)
    assert NOISE_TRANSFORMS["TruncatedPolyaGamma"].forward.function(huge, torch.zeros(2)).item() == 2.5


def test_noises_of_a_low_rank_normal_by_cholesky_do_not_know_the_rank():
    transform = NOISE_TRANSFORMS["LowRankMultivariateNormal"].variants["cholesky"]
    assert transform.noise_shapes((2, 3), {"loc": (3,), "cov_factor": (3, 7), "cov_diag": (3,)}) == ((2, 3),)


@pytest.mark.parametrize("logits", [-25.0, -3.0, 1e-4, 3.0, 19.0, 25.0])
def test_continuous_bernoulli_in_the_tails(logits: float):
    noise = torch.logspace(-15, -0.01, 300, dtype=torch.float64)
    exact = np.log1p(noise.numpy() * np.expm1(logits)) / logits
    for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 3e-6)):
        value = NOISE_TRANSFORMS["ContinuousBernoulli"].forward.function(
            noise.to(dtype), torch.tensor(logits, dtype=dtype)
        )
        np.testing.assert_allclose(value, exact, rtol=tolerance)


# Near zero


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("name", "exact"),
    [
        ("relative_expm1", special.exprel),
        ("relative_log1p", lambda x: np.where(x == 0, 1.0, np.log1p(x) / np.where(x == 0, 1.0, x))),
        ("relative_sin", lambda x: np.sinc(x / np.pi)),
    ],
)
def test_functions_near_zero(name: str, exact: Callable[[Any], Any], dtype: torch.dtype):
    from dgmcompile.reparam import near_zero

    size = np.concatenate(([0.0], np.logspace(-30, np.log10(0.9), 400)))
    x = torch.tensor(np.concatenate((size, -size)), dtype=dtype, requires_grad=True)
    value = getattr(near_zero, name)(x)
    tolerance = 8 * torch.finfo(dtype).eps
    np.testing.assert_allclose(value.detach(), exact(x.detach().double().numpy()), rtol=tolerance)
    (slope,) = torch.autograd.grad(value.sum(), x)
    wide = x.detach().double().requires_grad_()
    (exact_slope,) = torch.autograd.grad(getattr(near_zero, name)(wide).sum(), wide)
    torch.testing.assert_close(slope.double(), exact_slope, rtol=50 * tolerance, atol=tolerance)
    at_zero = {"relative_expm1": 0.5, "relative_log1p": -0.5, "relative_sin": 0.0}[name]
    assert slope[0] == at_zero
    if dtype == torch.float64:
        assert torch.autograd.gradcheck(getattr(near_zero, name), (x.detach()[::40].requires_grad_(),))
