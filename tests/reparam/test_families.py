"""Every family of NOISE_TRANSFORMS against its exact law, its density and torch's own parametrisation.

The oracle of a law is SciPy's CDF or pmf (for Gaussian vectors the covariance), never a library's
sampler: some of these are wrong. Most is what `dgm.check_family` asks, of every family, variant and setting.
"""

import math
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
import pyro.distributions as dist
import pytest
import torch
from scipy import stats

from dgmcompile.ir.size import Size
from dgmcompile.reparam import NOISE_TRANSFORMS, NoiseTransform
from tests.reparam import closed_forms
from tests.reparam.checking import report_of, settings
from tests.reparam.drawing import as_given, canonical, draw, draw_noise, library
from tests.reparam.example import Given
from tests.reparam.examples import COVARIANCE, EXAMPLES

DTYPES = (torch.float32, torch.float64)
DRAWS = 50_000
KS_LIMIT = math.sqrt(-0.5 * math.log(0.5e-6) / DRAWS)
"""Kolmogorov-Smirnov distance that DRAWS draws of the right law exceed once in a million."""


CONSTRUCTIONS = [
    (name, construction)
    for transform in NOISE_TRANSFORMS
    for name, construction in {
        transform.family: transform,
        **{f"{transform.family}-{name}": variant for name, variant in transform.variants.items()},
    }.items()
]
"""Every transform and each of its variants, which have the same law."""

CASES = [
    pytest.param(transform, given, id=f"{name}-{number}")
    for name, transform in CONSTRUCTIONS
    if transform.family in EXAMPLES and EXAMPLES[transform.family].walked
    for number, given in enumerate(EXAMPLES[transform.family].settings)
]


def each(wanted: Callable[[NoiseTransform], bool]) -> pytest.MarkDecorator:
    cases = [case for case in CASES if isinstance(t := case.values[0], NoiseTransform) and wanted(t)]
    return pytest.mark.parametrize(("transform", "given"), cases)


def has_exact_law(transform: NoiseTransform) -> bool:
    return EXAMPLES[transform.family].exact is not None


def has_one_noise(transform: NoiseTransform) -> bool:
    return len(transform.noises) == 1 and transform.noise_shapes((7,), {}) == ((7,),)


every = each(lambda transform: True)
continuous_of_one_noise = each(lambda t: has_exact_law(t) and not t.discrete and has_one_noise(t))
discrete_of_one_noise = each(lambda t: has_exact_law(t) and t.discrete and has_one_noise(t))
gaussian_vectors = each(lambda transform: transform.family.endswith("MultivariateNormal"))


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


SLOW = {"SineBivariateVonMises": 2_000, "Stable": 1_000, "StableWithLogProb": 2_000, "LKJ": 5_000, "LKJCholesky": 5_000}
"""Families that are drawn, or whose density is computed, in seconds: how many draws are enough to see a wrong one."""


@pytest.mark.parametrize(
    ("family", "variant", "setting", "skip"),
    [
        pytest.param(
            transform.family,
            variant,
            setting,
            ("torch.compile",) if number else (),
            id=f"{transform.family}-{variant or 'usual'}-{number}",
        )
        for transform in NOISE_TRANSFORMS
        if transform.family in EXAMPLES
        for variant in (None, *transform.variants)
        for number, setting in enumerate(settings(transform.family))
    ],
)
def test_all_that_can_be_asked_of_a_family(family: str, variant: str | None, setting: Given, skip: tuple[str, ...]):
    """Whether the formula is captured as one graph does not depend on the parameters' values."""
    draws = SLOW.get(family, DRAWS if EXAMPLES[family].exact is not None else 20_000)
    report = report_of(family, variant, settings=setting, draws=draws, skip=skip)
    assert report.checks and report.ok, str(report)


@discrete_of_one_noise
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


NOT_ALONG = ("HalfNormal", "LogNormalNegativeBinomial", "LogisticNormal", "Wishart")
NOT_ALONG += ("LKJ", "LKJCholesky", "LKJCorrCholesky")
"""Families whose Normal noise is no displacement of the value, or has another shape."""


def moves_along(transform: NoiseTransform) -> bool:
    """Is some of its noise Normal, and as many numbers as the value?"""
    return bool(normal_noise(transform)) and transform.family not in NOT_ALONG


def normal_noise(transform: NoiseTransform) -> list[int]:
    """Which of its noises."""
    return [place for place, source in enumerate(transform.noises) if source.law.name == "StandardNormal"]


@pytest.mark.parametrize(
    ("transform", "given"),
    [
        pytest.param(transform, given, id=f"{name}-{number}")
        for name, transform in CONSTRUCTIONS
        if moves_along(transform)
        for number, given in enumerate(EXAMPLES[transform.family].settings)
    ],
)
def test_a_value_goes_where_its_normal_noise_goes(transform: NoiseTransform, given: Given):
    """The law is the same if noise counts the other way; two families that share the noise would go opposite ways."""
    given = as_given(given, torch.float64)
    params = canonical(transform, given)
    event = library(transform, given).event_shape or ((3,) if transform.event_dim else ())
    noises = draw_noise(transform, params, tuple(event), torch.float64)
    place = normal_noise(transform)[-1]

    def value(noise: torch.Tensor) -> torch.Tensor:
        return transform.forward.function(*noises[:place], noise, *noises[place + 1 :], *params)

    noise = noises[place]
    slopes = torch.autograd.functional.jacobian(value, noise)
    diagonal = slopes.reshape(noise.numel(), noise.numel()).diagonal()
    assert diagonal.min() >= 0 and diagonal.max() > 0


@pytest.mark.parametrize("dtype", DTYPES)
@gaussian_vectors
def test_mahalanobis_distance_of_gaussian_vectors(transform: NoiseTransform, given: Given, dtype: torch.dtype):
    exact = library(transform, as_given(given, torch.float64))
    centred = draw(transform, as_given(given, dtype), (DRAWS,), dtype).double() - exact.mean
    distance = (centred * torch.linalg.solve(exact.covariance_matrix, centred.mT).mT).sum(-1)
    cdf = np.sort(stats.chi2(exact.event_shape[0]).cdf(distance.numpy()))
    steps = np.arange(DRAWS + 1) / DRAWS
    assert max((steps[1:] - cdf).max(), (cdf - steps[:-1]).max()) < KS_LIMIT


@continuous_of_one_noise
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


def test_a_family_is_differentiable_where_every_parameter_is():
    for _, transform in CONSTRUCTIONS:
        assert transform.differentiable == (not transform.without_gradient)
        assert transform.no_gradient < set(transform.params) or not transform.no_gradient


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
@pytest.mark.filterwarnings("ignore:Singular sample detected:UserWarning")  # of every Wishart
def test_shape_and_dtype_are_those_of_the_library(transform: NoiseTransform, given: Given, dtype: torch.dtype):
    given = as_given(given, dtype)
    theirs = library(transform, given)
    if transform.family == "Delta":
        assert torch.equal(draw(transform, given, (), dtype), theirs.sample())
        return
    for batch in [(), (4,), (2, 4)]:
        ours = draw(transform, given, batch, dtype)
        assert ours.shape == (*batch, *theirs.event_shape)
        with suppress(NotImplementedError):  # some have no `expand`, some no sampler
            expected = theirs.expand(torch.Size(batch)).sample()
            assert (ours.shape, ours.dtype) == (expected.shape, expected.dtype)
    assert ours.dtype in (dtype, torch.long)
    assert transform.event_dim == len(theirs.event_shape)
    with suppress(NotImplementedError):  # one has no support
        found = transform.discrete and transform.family not in closed_forms.CALLED_CONTINUOUS
        assert found == theirs.support.is_discrete


@continuous_of_one_noise
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


@pytest.mark.parametrize("family", ["Categorical", "OneHotCategorical", "RelaxedOneHotCategorical"])
def test_what_all_logits_share_does_not_count(family: str):
    """In float32 it would take digits from the noise, and the first of equal labels would win most often."""
    transform, noise = NOISE_TRANSFORMS[family], torch.empty(1000, 3).exponential_(generator=torch.manual_seed(0))
    temperature = (torch.tensor(0.5),) if "Relaxed" in family else ()
    logits = torch.tensor([1.0, 0.0, -2.0])
    near, far = (transform.forward.function(noise, *temperature, logits + shift) for shift in (0.0, 2.0**22))
    torch.testing.assert_close(near, far)


@pytest.mark.parametrize(
    "family",
    [
        pytest.param(f"RelaxedOneHotCategorical{end}", id=f"RelaxedOneHotCategorical{end}-")
        for end in ("", "StraightThrough")
    ],
)
def test_probabilities_may_be_weights_of_any_sum(family: str):
    weights = torch.tensor([0.2, 0.8, 1.0], dtype=torch.float64)
    found = NOISE_TRANSFORMS[family].conversions["logits"]["probs"].function(weights)
    torch.testing.assert_close(found, getattr(dist, family)(torch.tensor(0.5), probs=weights).logits)


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


@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")
@pytest.mark.parametrize("family", ["Normal", "OneHotCategorical"])
def test_compiled_draws_are_the_eager_ones(family: str):
    transform = NOISE_TRANSFORMS[family]
    given = as_given(EXAMPLES[family].settings[0], torch.float32)
    params = canonical(transform, given)
    noises = draw_noise(transform, params, (64, *library(transform, given).event_shape), torch.float32)
    compiled = torch.compile(transform.forward.function, fullgraph=True)
    torch.testing.assert_close(compiled(*noises, *params), transform.forward.function(*noises, *params))
