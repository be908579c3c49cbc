"""Every family of NOISE_TRANSFORMS against its exact law, its density and torch's own parametrisation.

The oracle of a law is SciPy's CDF or pmf (for Gaussian vectors the covariance), never a library's
sampler: some of these are wrong.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyro.distributions as dist
import pytest
import torch
from scipy import stats
from torch import Tensor

from dgmcompile.ir.size import Size
from dgmcompile.reparam import NOISE_TRANSFORMS, NoiseTransform

DTYPES = (torch.float32, torch.float64)
DRAWS = 50_000
KS_LIMIT = math.sqrt(-0.5 * math.log(0.5e-6) / DRAWS)
"""Kolmogorov-Smirnov distance that DRAWS draws of the right law exceed once in a million."""

Given = dict[str, Any]
"""What a user gives: numbers stay numbers, nested lists become tensors."""


@dataclass(frozen=True)
class Example:
    """``exact(**given)`` is the law in SciPy, or None where a test of its own knows it."""

    exact: Callable[..., Any] | None
    settings: tuple[Given, ...]


def bernoulli(probs: float | None = None, logits: float | None = None) -> Any:
    return stats.bernoulli(probability(probs, logits))


def geometric(probs: float | None = None, logits: float | None = None) -> Any:
    return stats.geom(probability(probs, logits), loc=-1)


def binomial(total_count: int, probs: float | None = None, logits: float | None = None) -> Any:
    return stats.binom(total_count, probability(probs, logits))


def probability(probs: float | None, logits: float | None) -> float:
    return probs if probs is not None else 1 / (1 + math.exp(-(logits or 0.0)))


LOC_SCALE = (
    {"loc": 0.0, "scale": 1.0},
    {"loc": -3.0, "scale": 0.01},
    {"loc": 50.0, "scale": 1e4},
)
TRIL = [[2.0, 0.0, 0.0], [-1.0, 0.5, 0.0], [0.3, 0.2, 1e-3]]
COVARIANCE = [[4.0, 1.2, -0.5], [1.2, 1.0, 0.1], [-0.5, 0.1, 2.0]]
MANY_LABELS = torch.linspace(-3.0, 3.0, 40, dtype=torch.float64).tolist()
LABELS = (
    {"probs": [0.2, 0.5, 0.3]},
    {"probs": [0.5, 0.0, 0.5]},
    {"probs": [0.0, 1.0]},
    {"logits": [-800.0, 0.0, 0.1]},
    {"logits": MANY_LABELS},
)

EXAMPLES: dict[str, Example] = {
    "Bernoulli": Example(
        bernoulli, ({"probs": 0.3}, {"probs": 1e-4}, {"logits": 2.0}, {"logits": -30.0}, {"logits": 0})
    ),
    "Binomial": Example(
        binomial,
        (
            {"total_count": 1, "probs": 0.3},
            {"total_count": 10, "logits": 0.7},
            {"total_count": 60, "probs": 0.01},
            {"total_count": 1000, "probs": 0.97},
            {"total_count": 100_000, "logits": -2.0},
        ),
    ),
    "Categorical": Example(None, LABELS),
    "Cauchy": Example(lambda loc, scale: stats.cauchy(loc, scale), LOC_SCALE),
    "Delta": Example(None, ({"v": [1.5]}, {"v": [math.inf, -0.0]})),
    "Exponential": Example(lambda rate: stats.expon(scale=1 / rate), ({"rate": 1.0}, {"rate": 1e-6}, {"rate": 300.0})),
    "Geometric": Example(
        geometric, ({"probs": 0.3}, {"probs": 0.999}, {"probs": 1e-3}, {"logits": -1.0}, {"logits": 9.0})
    ),
    "Gumbel": Example(lambda loc, scale: stats.gumbel_r(loc, scale), LOC_SCALE),
    "HalfCauchy": Example(lambda scale: stats.halfcauchy(scale=scale), ({"scale": 1.0}, {"scale": 1e-3})),
    "HalfNormal": Example(lambda scale: stats.halfnorm(scale=scale), ({"scale": 1.0}, {"scale": 200.0})),
    "Laplace": Example(lambda loc, scale: stats.laplace(loc, scale), LOC_SCALE),
    "LogNormal": Example(
        lambda loc, scale: stats.lognorm(scale, scale=math.exp(loc)),
        ({"loc": 0.0, "scale": 1.0}, {"loc": -3.0, "scale": 0.01}, {"loc": 2.0, "scale": 9.0}),
    ),
    "Logistic": Example(lambda loc, scale: stats.logistic(loc, scale), LOC_SCALE),
    "LowRankMultivariateNormal": Example(
        None,
        (
            {"loc": [0.0, 1.0, -2.0], "cov_factor": [[1.0, 0.5], [2.0, -1.0], [0.0, 3.0]], "cov_diag": [1.0, 0.1, 9.0]},
            {"loc": [5.0, 5.0], "cov_factor": [[1.0], [1.0]], "cov_diag": [1e-4, 1e-4]},
        ),
    ),
    "MultivariateNormal": Example(
        None,
        (
            {"loc": [0.0, 1.0, -2.0], "scale_tril": TRIL},
            {"loc": [0.0, 1.0, -2.0], "covariance_matrix": COVARIANCE},
            {"loc": [0.0, 1.0, -2.0], "precision_matrix": COVARIANCE},
            {"loc": [3.0], "covariance_matrix": [[1e-6]]},
        ),
    ),
    "Normal": Example(lambda loc, scale: stats.norm(loc, scale), LOC_SCALE),
    "OneHotCategorical": Example(None, LABELS),
    "Pareto": Example(
        lambda scale, alpha: stats.pareto(alpha, scale=scale),
        ({"scale": 1.0, "alpha": 1.0}, {"scale": 0.3, "alpha": 0.2}, {"scale": 7.0, "alpha": 80.0}),
    ),
    "Uniform": Example(
        lambda low, high: stats.uniform(low, high - low),
        ({"low": 0.0, "high": 1.0}, {"low": -7.0, "high": -6.5}, {"low": -1e6, "high": 1e6}),
    ),
    "Weibull": Example(
        lambda scale, concentration: stats.weibull_min(concentration, scale=scale),
        (
            {"scale": 1.0, "concentration": 1.0},
            {"scale": 2.0, "concentration": 0.3},
            {"scale": 0.1, "concentration": 40.0},
        ),
    ),
}

CASES = [
    pytest.param(transform, given, id=f"{transform.family}-{number}")
    for transform in NOISE_TRANSFORMS
    if transform.family in EXAMPLES
    for number, given in enumerate(EXAMPLES[transform.family].settings)
]


def each(wanted: Callable[[NoiseTransform], bool]) -> pytest.MarkDecorator:
    cases = [case for case in CASES if isinstance(t := case.values[0], NoiseTransform) and wanted(t)]
    return pytest.mark.parametrize(("transform", "given"), cases)


def has_exact_law(transform: NoiseTransform) -> bool:
    return EXAMPLES[transform.family].exact is not None


def has_inverse(transform: NoiseTransform) -> bool:
    return transform.inverse is not None


every = each(lambda transform: True)
with_inverse = each(has_inverse)
continuous_scalars = each(lambda transform: has_exact_law(transform) and not transform.discrete)
discrete_scalars = each(lambda transform: has_exact_law(transform) and transform.discrete)
discrete = each(lambda transform: transform.discrete)
gaussian_vectors = each(lambda transform: transform.family in ("MultivariateNormal", "LowRankMultivariateNormal"))
labels = each(lambda transform: transform.family in ("Categorical", "OneHotCategorical"))


def as_given(given: Given, dtype: torch.dtype, numbers: bool = False) -> Given:
    """The parameters as tensors of ``dtype``; with ``numbers``, those that are numbers stay numbers."""
    return {k: v if numbers and not isinstance(v, list) else torch.tensor(v, dtype=dtype) for k, v in given.items()}


def canonical(transform: NoiseTransform, given: Given) -> list[Any]:
    """The parameters that ``forward`` takes, from those that a user gave."""
    values: list[Any] = []
    for name in transform.params:
        if name in given:
            values.append(given[name])
        else:
            (other,) = set(transform.conversions[name]) & set(given)
            values.append(transform.conversions[name][other].function(given[other]))
    return values


def draw_noise(
    transform: NoiseTransform, params: list[Any], shape: tuple[int, ...], dtype: torch.dtype
) -> list[Tensor]:
    """Noise for a value of ``shape``, from a fixed seed."""
    generator = torch.Generator().manual_seed(1)
    shapes = {
        name: tuple(p.shape) if isinstance(p, Tensor) else () for name, p in zip(transform.params, params, strict=True)
    }
    return [
        source.law.draw.function(size, dtype=source.dtype or dtype, device=torch.device("cpu"), generator=generator)
        for source, size in zip(transform.noises, transform.noise_shapes(shape, shapes), strict=True)
    ]


def draw(transform: NoiseTransform, given: Given, batch: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    params = canonical(transform, given)
    event = library(transform, given).event_shape
    return transform.forward.function(*draw_noise(transform, params, (*batch, *event), dtype), *params)


def library(transform: NoiseTransform, given: Given) -> Any:
    return getattr(dist, transform.family)(**given)


def exact_law(transform: NoiseTransform, given: Given) -> Any:
    exact = EXAMPLES[transform.family].exact
    assert exact is not None
    return exact(**given)


def test_each_family_has_its_name_an_example_and_a_source():
    assert set(EXAMPLES) == set(NOISE_TRANSFORMS.names())
    assert [transform.family for transform in NOISE_TRANSFORMS] == list(NOISE_TRANSFORMS.names())
    assert all(len(example.settings) > 1 for example in EXAMPLES.values())
    assert all(transform.source for transform in NOISE_TRANSFORMS)


def test_a_family_without_an_entry():
    assert NOISE_TRANSFORMS.get("SpanningTree") is None
    assert "SpanningTree" not in NOISE_TRANSFORMS


def test_every_alternative_parameter_has_an_example():
    for transform in NOISE_TRANSFORMS:
        tried = {name for given in EXAMPLES[transform.family].settings for name in given}
        assert tried == {*transform.params, *(name for given in transform.conversions.values() for name in given)}


@continuous_scalars
@pytest.mark.parametrize("dtype", DTYPES)
def test_law_of_continuous_scalars(transform: NoiseTransform, given: Given, dtype: torch.dtype):
    value = draw(transform, as_given(given, dtype), (DRAWS,), dtype).double()
    cdf = np.sort(exact_law(transform, given).cdf(value.numpy()))
    steps = np.arange(DRAWS + 1) / DRAWS
    assert max((steps[1:] - cdf).max(), (cdf - steps[:-1]).max()) < KS_LIMIT


@discrete_scalars
@pytest.mark.parametrize("dtype", DTYPES)
def test_law_of_discrete_scalars(transform: NoiseTransform, given: Given, dtype: torch.dtype):
    value = draw(transform, as_given(given, dtype), (DRAWS,), dtype).double().numpy()
    law = exact_law(transform, given)
    cells = np.unique(law.ppf(np.linspace(1e-3, 1 - 1e-3, 30)))
    expected = DRAWS * np.diff([0.0, *law.cdf(cells), 1.0])
    index = np.searchsorted(cells, value)
    assert_frequencies(np.bincount(index, minlength=len(expected)), expected)


def assert_frequencies(observed: Any, expected: Any) -> None:
    """Chi-square, one false alarm in a million; a cell of fewer than five joins the others like it."""
    rare = expected < 5
    observed = np.append(observed[~rare], observed[rare].sum())
    expected = np.append(expected[~rare], expected[rare].sum())
    if expected[-1] < 5:
        assert observed[-1] <= stats.poisson.isf(1e-6, expected[-1])
        observed, expected = observed[:-1], expected[:-1]
    statistic = ((observed - expected) ** 2 / expected).sum()
    assert statistic <= stats.chi2.isf(1e-6, max(len(expected) - 1, 1))


@discrete_scalars
def test_discrete_scalars_are_the_inverse_cdf(transform: NoiseTransform, given: Given):
    """Draw by draw, tails included: cdf(value - 1) <= u <= cdf(value), where u or 1 - u is the noise."""
    params = canonical(transform, as_given(given, torch.float64))
    tail = torch.logspace(-15, -1, 300, dtype=torch.float64)
    noise = torch.cat([*draw_noise(transform, params, (5000,), torch.float64), tail, 1 - tail])
    value = transform.forward.function(noise, *params).numpy()
    law = exact_law(transform, given)
    if transform.family == "Geometric":
        assert (law.sf(value) <= noise.numpy() * (1 + 1e-12)).all()
        assert (noise.numpy() <= law.sf(value - 1) * (1 + 1e-12)).all()
    else:
        assert (law.cdf(value - 1) <= noise.numpy() + 1e-13).all()
        assert (noise.numpy() <= law.cdf(value) + 1e-13).all()


@pytest.mark.parametrize("probs", [1e-12, 1e-6, 1e-3, 0.03, 0.3, 0.5, 0.8, 0.99, 1 - 1e-6])
def test_binomial_at_any_total_count(probs: float):
    counts = torch.tensor([0, 1, 2, 15, 16, 17, 31, 32, 33, 40, 100, 1000, 10**4, 10**6, 10**9]).unsqueeze(-1)
    tail = torch.logspace(-15, -1, 150, dtype=torch.float64)
    noise = torch.cat([tail, torch.linspace(0.1, 0.9, 101, dtype=torch.float64), 1 - tail])
    logits = torch.tensor(probs, dtype=torch.float64).logit()
    value = NOISE_TRANSFORMS["Binomial"].forward.function(noise.expand(len(counts), -1), counts, logits).numpy()
    law = stats.binom(counts.numpy(), probs)
    assert (law.cdf(value - 1) <= noise.numpy() + 5e-12).all()
    assert (noise.numpy() <= law.cdf(value) + 5e-12).all()


@pytest.mark.parametrize("dtype", DTYPES)
@labels
def test_law_of_labels(transform: NoiseTransform, given: Given, dtype: torch.dtype):
    value = draw(transform, as_given(given, dtype), (DRAWS,), dtype)
    if transform.family == "OneHotCategorical":
        assert torch.equal(value.sum(-1), torch.ones(DRAWS, dtype=dtype))
        value = value.argmax(-1)
    exact = torch.tensor(given.get("probs") or torch.tensor(given["logits"]).double().softmax(-1).tolist())
    observed = np.bincount(value.numpy(), minlength=len(exact))
    assert (observed[(exact == 0).numpy()] == 0).all()
    possible = (exact > 0).numpy()
    assert_frequencies(observed[possible], DRAWS * exact.double().numpy()[possible])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("family", "probs", "expected"),
    [
        ("Bernoulli", 1.0, 1.0),
        ("Bernoulli", 0.0, 0.0),
        ("Binomial", 1.0, 7.0),
        ("Binomial", 0.0, 0.0),
        ("Geometric", 1.0, 0.0),
    ],
)
def test_probabilities_of_zero_and_one(family: str, probs: float, expected: float, dtype: torch.dtype):
    transform = NOISE_TRANSFORMS[family]
    ends = torch.tensor([2.0**-53, 1e-9, 0.5, 1 - 1e-9, 1 - 2.0**-53], dtype=torch.float64)
    count = {"total_count": torch.tensor(7)} if family == "Binomial" else {}
    for given in ({"probs": torch.tensor(probs, dtype=dtype)}, {"probs": probs}):
        value = transform.forward.function(ends, *canonical(transform, {**count, **given}))
        assert value.tolist() == [expected] * len(ends)


@gaussian_vectors
def test_gaussian_vectors_are_affine_in_noise_with_the_exact_covariance(transform: NoiseTransform, given: Given):
    given = as_given(given, torch.float64)
    params = canonical(transform, given)
    (dim,) = given["loc"].shape
    noises = draw_noise(transform, params, (dim,), torch.float64)
    zeros = [torch.zeros_like(noise) for noise in noises]
    assert torch.equal(transform.forward.function(*zeros, *params), given["loc"])
    roots = torch.autograd.functional.jacobian(lambda *e: transform.forward.function(*e, *params), tuple(noises))
    covariance = sum(root @ root.mT for root in roots)
    torch.testing.assert_close(covariance, library(transform, given).covariance_matrix, rtol=1e-12, atol=1e-12)
    linear = sum(root @ noise for root, noise in zip(roots, noises, strict=True))
    torch.testing.assert_close(transform.forward.function(*noises, *params), given["loc"] + linear)


@pytest.mark.parametrize("dtype", DTYPES)
@gaussian_vectors
def test_mahalanobis_distance_of_gaussian_vectors(transform: NoiseTransform, given: Given, dtype: torch.dtype):
    exact = library(transform, as_given(given, torch.float64))
    centred = draw(transform, as_given(given, dtype), (DRAWS,), dtype).double() - exact.mean
    distance = (centred * torch.linalg.solve(exact.covariance_matrix, centred.mT).mT).sum(-1)
    cdf = np.sort(stats.chi2(exact.event_shape[0]).cdf(distance.numpy()))
    steps = np.arange(DRAWS + 1) / DRAWS
    assert max((steps[1:] - cdf).max(), (cdf - steps[:-1]).max()) < KS_LIMIT


@with_inverse
def test_forward_undoes_inverse(transform: NoiseTransform, given: Given):
    assert transform.inverse is not None
    given = as_given(given, torch.float64)
    params = canonical(transform, given)
    (noise,) = draw_noise(transform, params, (200, *library(transform, given).event_shape), torch.float64)
    value = transform.forward.function(noise, *params)
    again = transform.inverse.function(value, *params)
    torch.testing.assert_close(again, noise, rtol=1e-7, atol=1e-9)
    torch.testing.assert_close(transform.forward.function(again, *params), value, rtol=1e-9, atol=1e-9)


@with_inverse
def test_density_by_change_of_variables(transform: NoiseTransform, given: Given):
    given = as_given(given, torch.float64)
    params, exact = canonical(transform, given), library(transform, given)
    base = {"StandardNormal": dist.Normal(0.0, 1.0), "StandardExponential": dist.Exponential(1.0)}
    law = base.get(transform.noises[0].law.name, dist.Uniform(0.0, 1.0))
    (noises,) = draw_noise(transform, params, (50, *exact.event_shape), torch.float64)
    for noise in noises:
        jacobian = torch.autograd.functional.jacobian(lambda e: transform.forward.function(e, *params), noise)
        assert isinstance(jacobian, Tensor)
        value = transform.forward.function(noise, *params)
        size = max(noise.numel(), 1)
        found = law.log_prob(noise).sum() - torch.linalg.slogdet(jacobian.reshape(size, size)).logabsdet
        torch.testing.assert_close(found, exact.log_prob(value), rtol=1e-8, atol=1e-8)


@each(lambda transform: transform.differentiable)
def test_gradients_are_those_of_finite_differences(transform: NoiseTransform, given: Given):
    given = as_given(given, torch.float64)
    shape = (5, *library(transform, given).event_shape) if transform.noises else tuple(given["v"].shape)
    noises = draw_noise(transform, canonical(transform, given), shape, torch.float64)
    names = list(given)
    if not all(value.isfinite().all() for value in given.values()):
        given = {name: torch.nan_to_num(value, posinf=9.0) for name, value in given.items()}
    for value in given.values():
        value.requires_grad_()

    def draws(*values: Tensor) -> Tensor:
        symmetric = {"covariance_matrix", "precision_matrix"}
        parts = {n: (v + v.mT) / 2 if n in symmetric else v for n, v in zip(names, values, strict=True)}
        value = transform.forward.function(*noises, *canonical(transform, parts))
        return torch.log(value.abs()) if transform.family in ("LogNormal", "Pareto", "Weibull") else value

    inputs = tuple(given.values())
    sizes = torch.cat([value.detach().abs().flatten() for value in inputs])
    step = min(1e-6, 1e-3 * float(sizes[sizes > 0].min()))
    assert torch.autograd.gradcheck(draws, inputs, eps=step, atol=1e-4, rtol=1e-3)


@continuous_scalars
def test_pathwise_gradient_is_the_implicit_one(transform: NoiseTransform, given: Given):
    """dx/dtheta = -(dF/dtheta) / p at the value: what the law alone says, whatever the transform.

    It holds where the value is monotone in its noise; ``HalfNormal`` is, given the noise's sign.
    """
    given = as_given(given, torch.float64)
    noises = draw_noise(transform, canonical(transform, given), (20,), torch.float64)
    for name in given:
        params = {**given, name: given[name].clone().requires_grad_()}
        for row in range(20):
            value = transform.forward.function(*(e[row] for e in noises), *canonical(transform, params))
            (pathwise,) = torch.autograd.grad(value, params[name])
            exact = exact_law(transform, {k: float(v) for k, v in given.items()})
            step = 1e-5 * max(abs(float(given[name])), 1e-3)
            up, down = (
                exact_law(transform, {k: float(v) + (s if k == name else 0.0) for k, v in given.items()})
                for s in (step, -step)
            )
            x = float(value.detach())
            side = "cdf" if exact.cdf(x) < 0.5 else "sf"
            slope = (getattr(up, side)(x) - getattr(down, side)(x)) / (2 * step)
            implicit = (-1 if side == "cdf" else 1) * slope / exact.pdf(x)
            assert float(pathwise) == pytest.approx(implicit, rel=1e-4, abs=1e-5 * max(1.0, abs(x)))


@discrete
@pytest.mark.parametrize("dtype", DTYPES)
def test_no_gradient_reaches_a_discrete_family(transform: NoiseTransform, given: Given, dtype: torch.dtype):
    assert not transform.differentiable
    given = as_given(given, dtype)
    for value in given.values():
        value.requires_grad_()
    value = draw(transform, given, (10,), dtype)
    assert not value.requires_grad
    assert torch.isfinite(value).all()


@each(lambda transform: bool(transform.identity))
@pytest.mark.parametrize("dtype", DTYPES)
def test_identity_values_give_the_noise_back(transform: NoiseTransform, given: Given, dtype: torch.dtype):
    assert set(transform.identity) == set(transform.params)
    (noise,) = draw_noise(transform, canonical(transform, given), (10_000,), dtype)
    numbers = [transform.identity[name] for name in transform.params]
    tensors = [torch.tensor(number, dtype=dtype) for number in numbers]
    full = [torch.full_like(noise, number) for number in numbers]
    for params in (numbers, tensors, full):
        assert torch.equal(transform.forward.function(noise, *params), noise)


@every
@pytest.mark.parametrize("dtype", DTYPES)
def test_shape_and_dtype_are_those_of_the_library(transform: NoiseTransform, given: Given, dtype: torch.dtype):
    given = as_given(given, dtype)
    theirs = library(transform, given)
    if transform.family == "Delta":
        assert torch.equal(draw(transform, given, (), dtype), theirs.sample())
        return
    for batch in [(), (4,), (2, 4)]:
        expected = theirs.expand(torch.Size(batch)).sample()
        ours = draw(transform, given, batch, dtype)
        assert (ours.shape, ours.dtype) == (expected.shape, expected.dtype)
    assert transform.event_dim == len(theirs.event_shape)
    assert transform.discrete == theirs.support.is_discrete


@each(lambda transform: has_exact_law(transform))
def test_parameters_may_be_numbers(transform: NoiseTransform, given: Given):
    numbers, tensors = as_given(given, torch.float32, numbers=True), as_given(given, torch.float32)
    ours, theirs = draw(transform, numbers, (100,), torch.float32), library(transform, numbers).sample()
    assert ours.dtype == theirs.dtype
    torch.testing.assert_close(ours, draw(transform, tensors, (100,), torch.float32))


@every
def test_a_batch_of_parameters_is_taken_elementwise(transform: NoiseTransform, given: Given):
    if transform.family == "Delta":
        return
    single = as_given(given, torch.float64)
    event = library(transform, single).event_shape
    params = canonical(transform, single)
    noises = draw_noise(transform, params, (3, *event), torch.float64)
    batched = {name: value.expand(3, *value.shape) for name, value in single.items()}
    together = transform.forward.function(*noises, *canonical(transform, batched))
    for row in range(3):
        alone = transform.forward.function(*(noise[row] for noise in noises), *params)
        torch.testing.assert_close(together[row], alone)


@continuous_scalars
def test_float32_keeps_its_digits_in_both_tails(transform: NoiseTransform, given: Given):
    ends = {
        "StandardNormal": [-5.5, -1.0, 1e-6, 1.0, 5.5],
        "StandardExponential": [1e-30, 1e-7, 0.3, 1.0, 17.0],
        "StandardUniform": [2.0**-24, 0.01, 0.3, 0.6, 0.99, 1 - 2.0**-24],
    }[transform.noises[0].law.name]
    noise = torch.tensor(ends, dtype=torch.float32)
    single = transform.forward.function(noise, *canonical(transform, as_given(given, torch.float32)))
    rounded = {name: value.double() for name, value in as_given(given, torch.float32).items()}
    double = transform.forward.function(noise.double(), *canonical(transform, rounded))
    shift = max(abs(given.get("loc", 0.0)), abs(given.get("low", 0.0)))
    within = double.abs() < torch.finfo(torch.float32).max
    error = (single.double() - double).abs() / (double.abs() + shift)
    assert (error[within & (double.abs() > torch.finfo(torch.float32).tiny)] < 1e-5).all()
    assert torch.isfinite(double).all()


def test_conversions_agree_with_the_library():
    probs = torch.tensor([0.1, 0.4, 0.5], dtype=torch.float64)
    for family in ("Bernoulli", "Geometric", "Binomial"):
        found = NOISE_TRANSFORMS[family].conversions["logits"]["probs"].function(probs)
        torch.testing.assert_close(found, getattr(dist, family)(probs=probs).logits)
    for family in ("Categorical", "OneHotCategorical"):
        found = NOISE_TRANSFORMS[family].conversions["logits"]["probs"].function(probs)
        torch.testing.assert_close(found, getattr(dist, family)(probs=probs).logits)
    matrix = torch.tensor(COVARIANCE, dtype=torch.float64)
    for name in ("covariance_matrix", "precision_matrix"):
        found = NOISE_TRANSFORMS["MultivariateNormal"].conversions["scale_tril"][name].function(matrix)
        exact = library(NOISE_TRANSFORMS["MultivariateNormal"], {"loc": torch.zeros(3).double(), name: matrix})
        torch.testing.assert_close(found, exact.scale_tril)


@pytest.mark.parametrize("family", ["Categorical", "OneHotCategorical"])
def test_a_label_of_probability_zero_has_logits_of_minus_infinity(family: str):
    found = NOISE_TRANSFORMS[family].conversions["logits"]["probs"].function(torch.tensor([0.0, 1.0]))
    assert found.tolist() == [-math.inf, 0.0]


def test_noise_shapes_take_symbolic_sizes():
    batch = Size.symbol("batch")
    assert NOISE_TRANSFORMS["Normal"].noise_shapes((batch,), {"loc": (), "scale": ()}) == ((batch,),)
    assert NOISE_TRANSFORMS["Categorical"].noise_shapes((batch, 2), {"logits": (5,)}) == ((batch, 2, 5),)
    low_rank = {"loc": (3,), "cov_factor": (batch, 3, 2), "cov_diag": (3,)}
    shapes = NOISE_TRANSFORMS["LowRankMultivariateNormal"].noise_shapes((batch, 3), low_rank)
    assert shapes == ((batch, 2), (batch, 3))


def test_total_count_may_differ_from_element_to_element():
    transform = NOISE_TRANSFORMS["Binomial"]
    noise = torch.full((4,), 0.6, dtype=torch.float64)
    counts = torch.tensor([0.0, 3.0, 50.0, 4000.0])
    value = transform.forward.function(noise, counts, torch.tensor(0.0))
    assert value.tolist() == stats.binom(counts.numpy(), 0.5).ppf(0.6).tolist()
    assert value.dtype == torch.float32


@each(lambda transform: transform.family != "Delta")
def test_the_whole_formula_is_captured_as_one_graph(transform: NoiseTransform, given: Given):
    """Nothing breaks the graph: no branch on data, no value read back."""
    given = as_given(given, torch.float32)
    params = canonical(transform, given)
    noises = draw_noise(transform, params, (4, *library(transform, given).event_shape), torch.float32)
    torch.compiler.reset()
    compiled = torch.compile(transform.forward.function, fullgraph=True, backend="eager")
    assert torch.equal(compiled(*noises, *params), transform.forward.function(*noises, *params))


@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")
@pytest.mark.parametrize("family", ["Normal", "OneHotCategorical"])
def test_compiled_draws_are_the_eager_ones(family: str):
    transform = NOISE_TRANSFORMS[family]
    given = as_given(EXAMPLES[family].settings[0], torch.float32)
    params = canonical(transform, given)
    noises = draw_noise(transform, params, (64, *library(transform, given).event_shape), torch.float32)
    compiled = torch.compile(transform.forward.function, fullgraph=True)
    torch.testing.assert_close(compiled(*noises, *params), transform.forward.function(*noises, *params))
