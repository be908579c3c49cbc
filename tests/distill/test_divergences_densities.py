"""Log-densities where libraries are inexact or wrong: tails, ends, large parameters; all of them integrate to 1."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.integrate
import scipy.special
import torch
from scipy import stats
from torch import Tensor

from dgmcompile.distill.divergences import LOG_PROBS, NO_LOG_PROBS
from dgmcompile.reparam import NOISE_TRANSFORMS

SHAPES = np.array([1e-3, 0.05, 0.7, 1.0, 3.0, 80.0, 1e4, 1e6])
OTHERS = np.array([0.3, 2.0, 1.0, 0.04, 500.0, 7.0, 3e3, 2e6])
LOGITS = np.linspace(-30, 30, 8)


def log_prob(family: str, value: Any, *params: Any) -> Tensor:
    arguments = [x if isinstance(x, int) else torch.as_tensor(x, dtype=torch.float64) for x in params]
    return LOG_PROBS[family].function(torch.as_tensor(value, dtype=torch.float64), *arguments)


def columns(*values: float) -> np.ndarray:
    return np.array(values)[:, None]


AROUND = columns(1e-300, 1e-8, 0.3, 0.9, 0.99, 1.0, 1.01, 1.3, 5.0, 1e3)
INSIDE = columns(1e-200, 1e-9, 0.2, 0.5, 0.999, 1 - 1e-9)
COUNTS = columns(0, 1, 2, 30, 1e3, 999_000, 1e6, 1.002e6)

# family -> (scipy's log-density, values)
SCIPY: dict[str, tuple[Callable[[np.ndarray], np.ndarray], np.ndarray, tuple[Any, ...]]] = {
    "Gamma": (stats.gamma(SHAPES, scale=1 / OTHERS).logpdf, AROUND * SHAPES / OTHERS, (SHAPES, OTHERS)),
    "Chi2": (stats.chi2(SHAPES).logpdf, AROUND * SHAPES, (SHAPES,)),
    "InverseGamma": (stats.invgamma(SHAPES, scale=OTHERS).logpdf, AROUND[2:] * OTHERS / SHAPES, (SHAPES, OTHERS)),
    "FisherSnedecor": (stats.f(SHAPES, OTHERS).logpdf, AROUND, (SHAPES, OTHERS)),
    "StudentT": (stats.t(SHAPES, 1.0, OTHERS).logpdf, 1 + OTHERS * (AROUND - 1), (SHAPES, np.ones(8), OTHERS)),
    "Beta": (stats.beta(SHAPES, OTHERS).logpdf, INSIDE, (SHAPES, OTHERS)),
    "Poisson": (stats.poisson(SHAPES).logpmf, COUNTS, (SHAPES,)),
    "NegativeBinomial": (
        stats.nbinom(SHAPES, scipy.special.expit(-LOGITS / 5)).logpmf,
        COUNTS,
        (SHAPES, LOGITS / 5),
    ),
    "Binomial": (
        stats.binom(1_000_000, scipy.special.expit(LOGITS)).logpmf,
        COUNTS[:-1],
        (np.full(8, 1e6), LOGITS),
    ),
    "BetaBinomial": (stats.betabinom(40, SHAPES[:7], OTHERS[:7]).logpmf, COUNTS[:4], (SHAPES[:7], OTHERS[:7], 40.0)),
    "VonMises": (stats.vonmises(SHAPES).logpdf, np.linspace(-9, 9, 13)[:, None], (np.zeros(8), SHAPES)),
}


@pytest.mark.parametrize("family", SCIPY)
@np.errstate(all="ignore")
def test_agrees_with_scipy_at_the_extremes(family: str):
    law, values, params = SCIPY[family]
    expected = torch.from_numpy(law(values))
    found = log_prob(family, values, *params)
    seen = expected.isfinite() & (expected > -600)  # below, scipy takes the logarithm of what underflows
    assert seen.sum() > 12
    # scipy loses digits at 1e6, where it takes differences of log Gamma.
    torch.testing.assert_close(found[seen], expected[seen], rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize(
    ("family", "value", "params"),
    [
        ("Poisson", 1_000_500.0, (1e6,)),
        ("Gamma", 1e6, (1e6 + 400.0, 1.0)),
        ("Beta", 0.25, (2.5e5, 7.5e5)),
        ("Binomial", 250_400.0, (1e6, -math.log(3))),
        ("NegativeBinomial", 1e6, (1e6, 0.0)),
        ("StudentT", 2.0, (1e6, 0.0, 1.0)),
        ("FisherSnedecor", 1.0, (1e6, 1e6)),
    ],
)
def test_large_parameters_cost_no_digits_in_single_precision(family: str, value: float, params: tuple[float, ...]):
    """Sums of log Gamma are off by 1 here."""
    single = [torch.tensor(x) for x in (value, *params)]
    expected = LOG_PROBS[family].function(*(x.double() for x in single))
    torch.testing.assert_close(LOG_PROBS[family].function(*single).double(), expected, rtol=0, atol=2e-3)


# --- at the ends -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("family", "value", "params", "expected"),
    [
        ("Gamma", 0.0, ([0.5, 1.0, 2.0], 3.0), [math.inf, math.log(3), -math.inf]),
        ("Chi2", 0.0, ([1.0, 2.0, 3.0],), [math.inf, -math.log(2), -math.inf]),
        ("FisherSnedecor", 0.0, ([1.0, 2.0, 3.0], 5.0), [math.inf, 0.0, -math.inf]),
        ("Beta", 0.0, ([0.5, 1.0, 2.0], 3.0), [math.inf, math.log(3), -math.inf]),
        ("Beta", 1.0, (3.0, [0.5, 1.0, 2.0]), [math.inf, math.log(3), -math.inf]),
        ("Kumaraswamy", 0.0, ([0.5, 1.0, 2.0], 3.0), [math.inf, math.log(3), -math.inf]),
        ("Kumaraswamy", 1.0, (3.0, [0.5, 1.0, 2.0]), [math.inf, math.log(3), -math.inf]),
        ("InverseGamma", 0.0, ([0.5, 1.0, 2.0], 3.0), [-math.inf] * 3),
        ("GeneralizedPareto", 2.0, (0.0, 1.0, [-0.5, -1.0, 0.0]), [-math.inf, -math.inf, -2.0]),
        ("Poisson", 0.0, ([0.0, 1.0],), [0.0, -1.0]),
        ("Poisson", 1.0, ([0.0, 1.0],), [-math.inf, -1.0]),
        ("NegativeBinomial", 0.0, ([0.0, 1.0], 0.0), [0.0, -math.log(2)]),
        ("NegativeBinomial", 2.0, ([0.0, 1.0], 0.0), [-math.inf, -3 * math.log(2)]),
        ("ExtendedBinomial", 0.0, ([-2.0, 0.0], 0.0), [-math.inf, 0.0]),
    ],
)
def test_at_the_ends(family: str, value: float, params: tuple[Any, ...], expected: list[float]):
    found = log_prob(family, value, *params)
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64))


def test_a_dirichlet_whose_coordinates_are_zero():
    value, concentration = [0.0, 0.4, 0.6], [[1.0, 2.0, 2.0], [0.5, 2.0, 2.0], [2.0, 2.0, 2.0]]
    found = log_prob("Dirichlet", value, concentration)
    expected = math.log(24) + math.log(0.4) + math.log(0.6)
    torch.testing.assert_close(found, torch.tensor([expected, math.inf, -math.inf], dtype=torch.float64))


@pytest.mark.parametrize("family", ["RelaxedOneHotCategorical", "LogisticNormal"])
def test_draws_that_rounded_to_zero_have_a_finite_density(family: str):
    logits = torch.tensor([3.0, 0.0, -2.0], requires_grad=True)
    value = torch.softmax(1000 * logits.detach(), -1)
    assert (value == 0).sum() == 2
    params = (torch.tensor(0.1), logits) if "Relaxed" in family else (logits[:2], torch.ones(2))
    found = LOG_PROBS[family].function(value, *params)
    assert found.isfinite()
    assert torch.autograd.grad(found, logits)[0].isfinite().all()


def test_generalized_pareto_is_smooth_where_it_turns_exponential():
    concentration = torch.tensor([-1e-3, -1e-9, 0.0, 1e-9, 1e-3], dtype=torch.float64, requires_grad=True)
    found = log_prob("GeneralizedPareto", 1.7, 0.0, 1.0, concentration)
    (slope,) = torch.autograd.grad(found.sum(), concentration)
    torch.testing.assert_close(slope, torch.full_like(slope, 1.7**2 / 2 - 1.7), rtol=2e-2, atol=0)
    torch.testing.assert_close(slope[1:4], slope[2].expand(3), rtol=1e-7, atol=0)


def test_straight_through_draws_are_classes_and_soft_values_have_a_density():
    logits = torch.tensor([0.3, -1.0, 0.5])
    hard = LOG_PROBS["RelaxedOneHotCategoricalStraightThrough"].function(torch.eye(3), torch.tensor(0.5), logits)
    torch.testing.assert_close(hard, torch.log_softmax(logits, -1))
    coin = LOG_PROBS["RelaxedBernoulliStraightThrough"].function(torch.tensor([0.0, 1.0]), 0.5, logits[0])
    torch.testing.assert_close(coin.exp().sum(), torch.tensor(1.0))


def test_missing_values_count_nothing():
    assert log_prob("NanMaskedNormal", [math.nan, math.inf], 0.0, 1.0).tolist() == [0, 0]
    value = torch.tensor([0.3, math.nan], dtype=torch.float64)
    tril = torch.tensor([[2.0, 0.0], [0.5, 1.0]], dtype=torch.float64, requires_grad=True)
    found = log_prob("NanMaskedMultivariateNormal", value, [0.1, 0.2], tril)
    torch.testing.assert_close(found, log_prob("Normal", 0.3, 0.1, 2.0))
    (gradient,) = torch.autograd.grad(found, tril)
    assert gradient.isfinite().all() and gradient[1].eq(0).all()


# --- normalised --------------------------------------------------------------------------------------


def integral(density: Callable[[np.ndarray], Any], low: float, high: float, nodes: int = 20_001) -> float:
    x = np.linspace(low, high, nodes)
    return float(scipy.integrate.simpson(np.asarray(density(x)), x=x))


@pytest.mark.parametrize(
    ("family", "low", "high", "params"),
    [
        ("SoftAsymmetricLaplace", -80.0, 60.0, (0.5, 1.0, 1.5, 0.3)),
        ("SoftAsymmetricLaplace", -80.0, 60.0, (0.5, 0.1, 0.5, 20.0)),
        ("SkewLogistic", -200.0, 60.0, (0.0, 1.0, 0.2)),
        ("TruncatedPolyaGamma", 1e-9, 2.5 - 1e-9, (0.0,)),
        ("VonMises", -math.pi, math.pi, (1.0, 300.0)),
    ],
)
def test_densities_integrate_to_one(family: str, low: float, high: float, params: tuple[float, ...]):
    assert integral(lambda x: log_prob(family, x, *params).exp(), low, high) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize(("asymmetry", "softness"), [(0.2, 0.05), (1.0, 1.0), (5.0, 8.0), (3.0, 0.1)])
@pytest.mark.parametrize("value", [-25.0, -3.0, 0.0, 0.4, 40.0])
def test_soft_asymmetric_laplace_is_a_sum(asymmetry: float, softness: float, value: float):
    """A convolution; Pyro's tails round to 0, or their gradient to NaN."""
    # Each exponential tilts the normal.
    peaks = [value, value + softness**2 / asymmetry, value - softness**2 * asymmetry]
    x = np.unique(np.concatenate([np.linspace(p - 15 * softness, p + 15 * softness, 20_001) for p in peaks]))
    laplace = stats.laplace_asymmetric(asymmetry).logpdf(x)
    terms = laplace + stats.norm(value, softness).logpdf(x)
    expected = scipy.special.logsumexp(terms, b=np.gradient(x))
    parameters = torch.tensor([0.0, 1.0, asymmetry, softness], dtype=torch.float64, requires_grad=True)
    found = LOG_PROBS["SoftAsymmetricLaplace"].function(torch.tensor(value, dtype=torch.float64), *parameters)
    assert found.item() == pytest.approx(expected, rel=1e-4, abs=1e-4)
    assert torch.autograd.grad(found, parameters)[0].isfinite().all()


@pytest.mark.parametrize("noise_scale", [0.05, 0.8, 3.0])
@pytest.mark.parametrize(("total_count", "logits"), [(0.3, -1.0), (5.0, 1.0), (2e3, -6.0)])
def test_log_normal_negative_binomial_is_the_integral(total_count: float, logits: float, noise_scale: float):
    noise = np.linspace(-14, 14, 20_001) * noise_scale
    for count in (0.0, 3.0, 60.0):
        terms = stats.norm(0, noise_scale).logpdf(noise)
        terms += count * scipy.special.log_expit(logits + noise) + total_count * scipy.special.log_expit(
            -logits - noise
        )
        terms += scipy.special.gammaln(total_count + count) - scipy.special.gammaln(total_count)
        terms -= scipy.special.gammaln(count + 1)
        expected = scipy.special.logsumexp(terms) + math.log(noise[1] - noise[0])
        found = log_prob("LogNormalNegativeBinomial", count, total_count, logits, noise_scale)
        assert found.item() == pytest.approx(expected, rel=1e-8, abs=1e-8)


@pytest.mark.parametrize("dim", [2, 3, 4, 7, 40])
@pytest.mark.parametrize("length", [0.0, 0.5, 4.0, 60.0])
def test_projected_normal_is_the_integral_along_the_ray(dim: int, length: float):
    """Of any angle between the value and the concentration; Pyro's are cut off behind, and have dims 2 to 4."""
    concentration = np.eye(dim)[0] * length
    for angle in (0.0, 0.3, 1.5, 2.5, math.pi):
        value = np.cos(angle) * np.eye(dim)[0] + np.sin(angle) * np.eye(dim)[1]
        ahead = length * math.cos(angle)
        peak = (ahead + math.sqrt(ahead**2 + 4 * (dim - 1))) / 2
        r = np.linspace(0, peak + 20, 40_001)[1:]
        terms = (dim - 1) * np.log(r) - 0.5 * r**2 + r * ahead - 0.5 * length**2 - dim / 2 * math.log(2 * math.pi)
        simpson = np.where(np.arange(len(r)) % 2 == 0, 4, 2)  # the integrand is 0 at both ends
        expected = scipy.special.logsumexp(terms, b=simpson) + math.log((r[1] - r[0]) / 3)
        found = log_prob("ProjectedNormal", value, concentration)
        assert found.item() == pytest.approx(expected, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("length", [0.3, 5.0, 2000.0])
def test_directions_in_space_integrate_to_one(length: float):
    """Over the height along the concentration, of which the area is uniform."""
    for family in ("VonMises3D", "ProjectedNormal"):

        def density(depth: np.ndarray, family: str = family) -> np.ndarray:
            height = 1 - np.exp(depth)
            value = np.stack([np.sqrt((1 - height**2).clip(0)), 0 * height, height], -1)
            found = log_prob(family, value, [0.0, 0.0, length]).exp()
            return 2 * math.pi * np.exp(depth) * found.numpy()

        assert integral(density, -40, math.log(2)) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    "params", [(0.1, 0.2, 0.0), (3.0, 5.0, 2.0), (4.0, 2.0, 30.0), (900.0, 200.0, 300.0), (200.0, 300.0, -700.0)]
)
def test_two_angles_integrate_to_one(params: tuple[float, float, float]):
    """One peak or two, wide or narrow."""
    angle = np.linspace(-math.pi, math.pi, 801)[:-1]
    grid = np.stack(np.meshgrid(angle, angle, indexing="ij"), -1)
    density = log_prob("SineBivariateVonMises", grid, 0.0, 0.0, *params).exp()
    assert density.sum() * (2 * math.pi / 800) ** 2 == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("concentration", [0.7, 1.0, 6.0])
def test_correlations_integrate_to_one(concentration: float):
    """Of size 3 in partial correlations p: r12 = p1, r13 = p2, r23 = p1 p2 + p3 sqrt((1 - p1^2) (1 - p2^2))."""
    nodes, weights = np.polynomial.legendre.leggauss(40)
    angles, weights = (nodes * math.pi / 2, weights * math.pi / 2)
    partial, weights = np.sin(angles), weights * np.cos(angles)
    p1, p2, p3 = np.meshgrid(partial, partial, partial, indexing="ij")
    mass = np.einsum("i,j,k->ijk", weights, weights, weights)
    c1, c2, c3 = (np.sqrt(1 - p**2) for p in (p1, p2, p3))
    zero, one = np.zeros_like(p1), np.ones_like(p1)
    tril = np.stack([one, zero, zero, p1, c1, zero, p2, p3 * c2, c2 * c3], -1).reshape(*p1.shape, 3, 3)
    found = log_prob("LKJCholesky", tril, 3, concentration).exp().numpy()
    assert (found * mass * c2).sum() == pytest.approx(1, abs=1e-3)
    found = log_prob("LKJ", tril @ tril.swapaxes(-1, -2), 3, concentration).exp().numpy()
    assert (found * mass * c1 * c2).sum() == pytest.approx(1, abs=1e-3)


def test_grouped_values_are_a_normal_vector():
    group, scales = torch.tensor([2, 0, 2, 2]), torch.tensor([0.3, 1.0, 2.0, 0.1], dtype=torch.float64)
    loc, prior = torch.tensor([1.0, 2.0, 3.0]).double(), torch.tensor([0.5, 7.0, 1e3]).double()
    value = torch.tensor([3.0, 0.4, 5.0, 3.1], dtype=torch.float64)
    covariance = (group[:, None] == group) * prior[group] ** 2 + (scales**2).diag()
    expected = torch.distributions.MultivariateNormal(loc[group], covariance).log_prob(value)
    found = LOG_PROBS["GroupedNormalNormal"].function(value, loc, prior, scales, group)
    torch.testing.assert_close(found, expected)


# --- names -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", LOG_PROBS)
def test_parameters_are_those_of_the_registry(family: str):
    transform = NOISE_TRANSFORMS.get(family)
    assert transform is not None
    assert tuple(inspect.signature(LOG_PROBS[family].function).parameters)[1:] == tuple(transform.params)


def test_no_other_family_of_the_registry_lacks_a_density():
    assert {transform.family for transform in NOISE_TRANSFORMS} - set(LOG_PROBS) == set(NO_LOG_PROBS)
