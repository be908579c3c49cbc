"""Each family of NOISE_TRANSFORMS with its law in SciPy and some parameters, the extreme ones included."""

import math
from typing import Any

import torch
from scipy import stats

from tests.reparam import closed_forms, numeric
from tests.reparam.example import Example


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
    **closed_forms.EXAMPLES,
    **numeric.EXAMPLES,
}
