"""Estimates at the teacher's sample: unbiased, of one sign where they can be, and finite."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from dgmcompile.distill.divergences import COMONOTONE_FAMILIES, ESTIMATORS, LOG_PROBS, divergence, estimator
from dgmcompile.reparam import NOISE_TRANSFORMS
from tests import seeds
from tests.distill.test_divergences import D, K, covering, mapped, params, raw_size

F_DIVERGENCES = ("kl", "reverse_kl", "js")


def estimate(name: str, p_log_prob: Tensor, q_log_prob: Tensor) -> Tensor:
    entry = ESTIMATORS[name]
    return entry.formula.function(*entry.arguments({"log_prob": p_log_prob}, {"log_prob": q_log_prob}))


def exact(name: str, family: str, p: Mapping[str, Tensor | float], q: Mapping[str, Tensor | float]) -> Tensor:
    entry = divergence(name, family, family)
    assert entry is not None
    return entry.formula.function(*entry.arguments(p, q))


def normals(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=seeds.generator(seed), dtype=torch.float64)


@pytest.mark.parametrize("name", [*F_DIVERGENCES, "cross_entropy"])
def test_the_mean_over_all_classes_is_the_divergence(name: str):
    p, q = {"logits": 2 * normals(0, 50, 6)}, {"logits": 2 * normals(1, 50, 6)}
    values = torch.arange(6).unsqueeze(-1)
    p_log, q_log = (LOG_PROBS["Categorical"].function(values, x["logits"]) for x in (p, q))
    mean = (p_log.exp() * estimate(name, p_log, q_log)).sum(0)
    torch.testing.assert_close(mean, exact(name, "Categorical", p, q), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", ["kl", "reverse_kl"])
def test_the_mean_over_all_counts_is_the_divergence(name: str):
    p, q = ({"total_count": torch.tensor(9.0), "logits": normals(seed, 50)} for seed in (0, 1))
    values = torch.arange(10, dtype=torch.float64).unsqueeze(-1)
    p_log, q_log = (LOG_PROBS["Binomial"].function(values, *x.values()) for x in (p, q))
    mean = (p_log.exp() * estimate(name, p_log, q_log)).sum(0)
    torch.testing.assert_close(mean, exact(name, "Binomial", p, q), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", [*F_DIVERGENCES, "cross_entropy"])
def test_gradients_are_unbiased_too(name: str):
    p = {"logits": 2 * normals(2, 6)}
    q = {"logits": normals(3, 6).requires_grad_()}
    p_log, q_log = (LOG_PROBS["Categorical"].function(torch.arange(6), x["logits"]) for x in (p, q))
    (gradient,) = torch.autograd.grad((p_log.exp() * estimate(name, p_log, q_log)).sum(), q["logits"])
    (expected,) = torch.autograd.grad(exact(name, "Categorical", p, q), q["logits"])
    torch.testing.assert_close(gradient, expected)


def within_standard_errors(draws: Tensor, expected: float) -> bool:
    error = float(draws.std()) / math.sqrt(len(draws))
    return abs(float(draws.mean()) - expected) <= 5 * error + 1e-12


def normal_log_probs(n: int) -> list[Tensor]:
    """Log-densities of N(0, 1) and N(0.4, 0.8) at draws of the first."""
    values = normals(4, n)
    return [LOG_PROBS["Normal"].function(values, loc, scale) for loc, scale in ((0.0, 1.0), (0.4, 0.8))]


@pytest.mark.parametrize("name", ["kl", "reverse_kl", "cross_entropy"])
def test_the_mean_over_draws_is_the_divergence(name: str):
    expected = exact(name, "Normal", {"loc": 0.0, "scale": 1.0}, {"loc": 0.4, "scale": 0.8})
    assert within_standard_errors(estimate(name, *normal_log_probs(100_000)), float(expected))


def test_the_mean_jensen_shannon_over_draws_is_the_integral():
    x = np.linspace(-12, 12, 20_001)
    p, q = stats.norm.pdf(x), stats.norm.pdf(x, 0.4, 0.8)
    tails = (p > 0) & (q > 0)
    x, p, q = x[tails], p[tails], q[tails]
    m = (p + q) / 2
    expected = float(np.trapezoid(0.5 * (p * np.log(p / m) + q * np.log(q / m)), x))
    assert within_standard_errors(estimate("js", *normal_log_probs(100_000)), expected)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    name=st.sampled_from(["reverse_kl", "js"]),
    p=st.floats(-300, 300),
    q=st.floats(-300, 300) | st.just(-math.inf),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_single_estimates_are_not_negative_and_finite(name: str, p: float, q: float, dtype: torch.dtype):
    p_log, q_log = torch.tensor(p, dtype=dtype), torch.tensor(q, dtype=dtype, requires_grad=True)
    value = estimate(name, p_log, q_log)
    rounding = 100 * torch.finfo(dtype).eps
    assert value.isfinite() and value >= -rounding
    assert torch.autograd.grad(value, q_log)[0].isfinite()
    assert estimate(name, p_log, p_log) == 0


@pytest.mark.parametrize("name", ["reverse_kl", "js"])
def test_no_slope_at_equality(name: str):
    q_log = torch.zeros((), dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(estimate(name, torch.zeros_like(q_log), q_log), q_log)
    assert gradient == 0


@pytest.mark.parametrize("name", F_DIVERGENCES)
def test_a_draw_that_rounding_led_off_the_teachers_support_counts_nothing(name: str):
    off, on = torch.tensor(-math.inf), torch.tensor(-1.0, requires_grad=True)
    value = estimate(name, torch.stack([off, off]), torch.stack([off, on]))
    assert (value == 0).all()
    assert torch.autograd.grad(value.sum(), on)[0] == 0


def test_a_student_that_excludes_the_draw_is_infinitely_far():
    assert estimate("kl", torch.tensor(-1.0), torch.tensor(-math.inf)) == math.inf
    assert estimate("cross_entropy", torch.tensor(-1.0), torch.tensor(-math.inf)) == math.inf
    assert estimate("reverse_kl", torch.tensor(-1.0), torch.tensor(-math.inf)).isclose(torch.tensor(1.0))
    assert estimate("js", torch.tensor(-1.0), torch.tensor(-math.inf)).isclose(torch.tensor(math.log(2) / 2))


Params = dict[str, Any]
LOC_SCALES: tuple[Params, Params] = ({"loc": 0.3, "scale": 0.5}, {"loc": -0.2, "scale": 0.7})
SHAPES: tuple[Params, Params] = (
    {"concentration1": 0.3, "concentration0": 2.0},
    {"concentration1": 2.0, "concentration0": 1.5},
)
PAIRS: dict[str, tuple[Params, ...]] = {
    **dict.fromkeys(("Normal", "Laplace", "Logistic", "Gumbel", "LogNormal"), LOC_SCALES),
    "HalfNormal": ({"scale": 1.0}, {"scale": 1.5}),
    "Exponential": ({"rate": 1.0}, {"rate": 1.5}),
    "Uniform": ({"low": 0.0, "high": 1.0}, {"low": 0.5, "high": 3.0}),
    "Pareto": ({"scale": 1.0, "alpha": 9.0}, {"scale": 1.2, "alpha": 7.0}),
    "Weibull": ({"scale": 1.0, "concentration": 1.5}, {"scale": 1.3, "concentration": 0.9}),
    "Bernoulli": ({"logits": 0.2}, {"logits": -1.0}),
    "Geometric": ({"logits": 0.2}, {"logits": -1.0}),
    "Binomial": ({"total_count": 8.0, "logits": 0.2}, {"total_count": 8.0, "logits": -1.0}),
    "Delta": ({"v": 0.2}, {"v": -1.0}),
    **dict.fromkeys(("NanMaskedNormal", "SoftLaplace"), LOC_SCALES),
    "AsymmetricLaplace": tuple({**x, "asymmetry": a} for x, a in zip(LOC_SCALES, (0.5, 1.5), strict=True)),
    "SkewLogistic": tuple({**x, "asymmetry": a} for x, a in zip(LOC_SCALES, (0.5, 1.5), strict=True)),
    "GeneralizedPareto": tuple({**x, "concentration": a} for x, a in zip(LOC_SCALES, (-0.3, 0.1), strict=True)),
    "Gamma": ({"concentration": 0.3, "rate": 1.0}, {"concentration": 2.0, "rate": 1.5}),
    "InverseGamma": ({"concentration": 3.3, "rate": 1.0}, {"concentration": 5.0, "rate": 1.5}),
    "Chi2": ({"df": 0.3}, {"df": 2.0}),
    "Beta": SHAPES,
    "Kumaraswamy": SHAPES,
    "AffineBeta": tuple({**x, **y} for x, y in zip(SHAPES, LOC_SCALES, strict=True)),
    "ContinuousBernoulli": ({"logits": 0.2}, {"logits": -5.0}),
    "RelaxedBernoulli": ({"temperature": 0.5, "logits": 0.2}, {"temperature": 2.0, "logits": -1.0}),
    "RelaxedBernoulliStraightThrough": ({"temperature": 0.5, "logits": 0.2}, {"temperature": 2.0, "logits": -1.0}),
    "Poisson": ({"rate": 0.2}, {"rate": 30.0}),
    "ExtendedBinomial": ({"total_count": 8.0, "logits": 0.2}, {"total_count": 8.0, "logits": -1.0}),
    "OrderedLogistic": (
        {"predictor": 0.2, "cutpoints": torch.tensor([-1.0, 0.0, 2.0]).double()},
        {"predictor": 0.7, "cutpoints": torch.tensor([-2.0, 1.0, 1.5]).double()},
    ),
}


def coupled_values(family: str, n: int) -> list[Tensor]:
    """What the two parameter sets of a family make of one noise."""
    transform = NOISE_TRANSFORMS[family]
    generator = seeds.generator(5)
    noises = [
        source.law.draw.function((n,), dtype=torch.float64, device=generator.device, generator=generator)
        for source in transform.noises
    ]
    return [
        transform.forward.function(*noises, *(per_draw(params[name], n) for name in transform.params))
        for params in PAIRS[family]
    ]


def per_draw(param: Any, n: int) -> Tensor:
    return param if isinstance(param, Tensor) else torch.full((n,), param, dtype=torch.float64)


def test_every_comonotone_family_is_tried():
    assert set(PAIRS) == COMONOTONE_FAMILIES


@pytest.mark.parametrize("family", PAIRS)
def test_shared_noise_orders_values_alike(family: str):
    """So it pairs equal quantiles, which no coupling beats."""
    p_value, q_value = (value.numpy() for value in coupled_values(family, 20_000))
    order = np.lexsort((q_value, p_value))
    assert (np.diff(q_value[order]) >= -1e-12).all()


@pytest.mark.parametrize("family", [f for f in PAIRS if divergence("wasserstein2", f, f) is not None])
def test_the_mean_over_shared_noise_is_the_distance(family: str):
    p_value, q_value = coupled_values(family, 50_000)
    entry = ESTIMATORS["wasserstein2"]
    draws = entry.formula.function(*entry.arguments({"value": p_value}, {"value": q_value}))
    p, q = ({k: torch.tensor(v, dtype=torch.float64) for k, v in params.items()} for params in PAIRS[family])
    assert within_standard_errors(draws, float(exact("wasserstein2", family, p, q)))


# --- every family with a density ---------------------------------------------------------------------


@pytest.mark.parametrize("family", [f for f in LOG_PROBS if f not in ("Delta", "Empirical")])
@pytest.mark.parametrize("name", [*F_DIVERGENCES, "cross_entropy"])
def test_every_density_serves_the_estimates(name: str, family: str):
    """At draws of the compiled transform itself, in both precisions: finite, and the gradient with them."""
    entry = estimator(name, family, family)
    assert entry is ESTIMATORS[name]
    for dtype in (torch.float32, torch.float64):
        raws = normals(6, *raw_size(family, family, family)), normals(7, *raw_size(family, family, family))
        p, q = finite_supports(family, *(params(family, raw) for raw in raws))
        p, q = (in_precision(x, dtype) for x in (p, q))
        value = draws(family, p, 200, dtype)
        q = mapped(lambda x: x.requires_grad_(x.is_floating_point()), q)
        ordered = NOISE_TRANSFORMS[family].params
        p_log, q_log = (LOG_PROBS[family].function(value, *(x[key] for key in ordered)) for x in (p, q))
        # Draws that rounding made singular have no density, and count nothing.
        assert p_log.isfinite().float().mean() >= (0.9 if family == "LKJ" else 1) and p_log.dtype == dtype
        found = entry.formula.function(*entry.arguments({"log_prob": p_log}, {"log_prob": q_log}))
        assert found[p_log.isfinite()].isfinite().all()
        if q_log.requires_grad:
            wanted = [x for x in q.values() if isinstance(x, Tensor) and x.requires_grad]
            for gradient in torch.autograd.grad(found.mean(), wanted, allow_unused=True):
                assert gradient is None or gradient.isfinite().all()


def in_precision(params: Mapping[str, Any], dtype: torch.dtype) -> Params:
    return mapped(lambda x: x.to(dtype).detach() if x.is_floating_point() else x, params)


def draws(family: str, params: Mapping[str, Any], n: int, dtype: torch.dtype) -> Tensor:
    transform = NOISE_TRANSFORMS[family]
    shapes = {key: tuple(x.shape) if isinstance(x, Tensor) else () for key, x in params.items()}
    generator = seeds.generator(8)
    noises = [
        source.law.draw.function(shape, dtype=source.dtype or dtype, device=generator.device, generator=generator)
        for source, shape in zip(
            transform.noises, transform.noise_shapes((n, *event_shape(family)), shapes), strict=True
        )
    ]
    return transform.forward.function(*noises, *(params[name] for name in transform.params))


def event_shape(family: str) -> tuple[int, ...]:
    sizes = {"SineBivariateVonMises": 2, "GroupedNormalNormal": 3, "OneTwoMatching": 4}
    sizes |= {"CoalescentTimes": 2, "CoalescentTimesWithRate": 2}
    classes = ("Categorical", "Dirichlet", "Multinomial")
    size = sizes.get(family, K if any(word in family for word in classes) else D)
    size = D + 1 if family == "LogisticNormal" else size
    return (size,) * NOISE_TRANSFORMS[family].event_dim


def finite_supports(family: str, p: Params, q: Params) -> tuple[Params, Params]:
    """q's support holds that of p."""
    if family == "GeneralizedPareto":
        return p, {**q, "loc": p["loc"] - 1, "concentration": q["concentration"].abs()}
    return p, covering(family, p, q)
