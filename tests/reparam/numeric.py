"""Examples of the families whose transform inverts a CDF numerically."""

import math
from typing import Any

from scipy import stats

from tests.reparam.example import Example

ON_LOG_SCALE = ("Gamma", "Chi2", "InverseGamma", "FisherSnedecor")
"""Families whose values span so many orders of magnitude that finite differences need their logarithm."""


def gamma(concentration: float, rate: float) -> Any:
    return stats.gamma(concentration, scale=1 / rate)


def inverse_gamma(concentration: float, rate: float) -> Any:
    return stats.invgamma(concentration, scale=rate)


def probability(probs: float | None, logits: float | None) -> float:
    return probs if probs is not None else 1 / (1 + math.exp(-(logits or 0.0)))


def binomial(total_count: int, probs: float | None = None, logits: float | None = None) -> Any:
    return stats.binom(total_count, probability(probs, logits))


def negative_binomial(total_count: float, probs: float | None = None, logits: float | None = None) -> Any:
    return stats.nbinom(total_count, 1 - probability(probs, logits))


def gamma_poisson(concentration: float, rate: float) -> Any:
    return stats.nbinom(concentration, rate / (1 + rate))


def beta_binomial(concentration1: float, concentration0: float, total_count: int) -> Any:
    return stats.betabinom(total_count, concentration1, concentration0)


BETA_BINOMIAL_SETTINGS = (
    {"concentration1": 2.0, "concentration0": 5.0, "total_count": 10},
    {"concentration1": 0.25, "concentration0": 0.5, "total_count": 1},
    {"concentration1": 30.0, "concentration0": 3.0, "total_count": 2000},
)
LKJ_SETTINGS = (
    {"dim": 4, "concentration": 1.0},
    {"dim": 3, "concentration": 0.5},
    {"dim": 2, "concentration": 30.0},
)
GAMMA_SETTINGS = (
    {"concentration": 1.0, "rate": 1.0},
    {"concentration": 0.125, "rate": 0.01},
    {"concentration": 2.5, "rate": 300.0},
    {"concentration": 1e4, "rate": 2.0},
)

EXAMPLES: dict[str, Example] = {
    "AffineBeta": Example(
        lambda concentration1, concentration0, loc, scale: stats.beta(concentration1, concentration0, loc, scale),
        (
            {"concentration1": 2.0, "concentration0": 5.0, "loc": -3.0, "scale": 10.0},
            {"concentration1": 1.5, "concentration0": 1.2, "loc": 0.0, "scale": 1.0},
        ),
    ),
    "Beta": Example(
        lambda concentration1, concentration0: stats.beta(concentration1, concentration0),
        (
            {"concentration1": 1.0, "concentration0": 1.0},
            {"concentration1": 0.2, "concentration0": 40.0},
            {"concentration1": 2.0, "concentration0": 5.0},
            {"concentration1": 3000.0, "concentration0": 5000.0},
        ),
    ),
    "BetaBinomial": Example(beta_binomial, BETA_BINOMIAL_SETTINGS),
    "Chi2": Example(lambda df: stats.chi2(df), ({"df": 0.5}, {"df": 3.0}, {"df": 2000.0})),
    "Dirichlet": Example(
        None, ({"concentration": [0.2, 0.5, 2.0, 10.0]}, {"concentration": [1.0, 1.0]}, {"concentration": [300.0, 2.0]})
    ),
    "DirichletMultinomial": Example(
        None,
        (
            {"concentration": [0.2, 3.0, 1.0, 0.5, 2.0], "total_count": 20},
            {"concentration": [1.0, 1.0], "total_count": 1},
        ),
    ),
    "ExtendedBetaBinomial": Example(beta_binomial, BETA_BINOMIAL_SETTINGS[:2]),
    "ExtendedBinomial": Example(
        binomial,
        ({"total_count": 10, "probs": 0.3}, {"total_count": 1000, "logits": 2.0}, {"total_count": 0, "probs": 0.5}),
    ),
    "FisherSnedecor": Example(
        lambda df1, df2: stats.f(df1, df2),
        ({"df1": 3.0, "df2": 5.0}, {"df1": 0.5, "df2": 1.0}, {"df1": 80.0, "df2": 900.0}),
    ),
    "Gamma": Example(gamma, GAMMA_SETTINGS),
    "GammaPoisson": Example(
        gamma_poisson,
        (
            {"concentration": 2.5, "rate": 0.5},
            {"concentration": 0.25, "rate": 0.01},
            {"concentration": 1000.0, "rate": 50.0},
        ),
    ),
    "InverseGamma": Example(inverse_gamma, GAMMA_SETTINGS),
    "LKJ": Example(None, LKJ_SETTINGS, walked=False),
    "LKJCholesky": Example(None, LKJ_SETTINGS, walked=False),
    "LKJCorrCholesky": Example(None, ({"d": 3, "eta": 1.5}, {"d": 2, "eta": 0.5}), walked=False),
    "LogNormalNegativeBinomial": Example(
        None,
        (
            {"total_count": 5.0, "logits": 1.0, "multiplicative_noise_scale": 0.5},
            {"total_count": 0.5, "logits": -1.0, "multiplicative_noise_scale": 2.0},
        ),
        walked=False,
    ),
    "Multinomial": Example(
        None,
        (
            {"total_count": 20, "probs": [0.2, 0.1, 0.0, 0.3, 0.4]},
            {"total_count": 1, "logits": [0.5, -1.0]},
            {"total_count": 1000, "logits": [0.0, 0.0, 2.0, -5.0, 1.0, 1.0, 0.0, -800.0]},
        ),
        walked=False,
    ),
    "MultivariateStudentT": Example(
        None,
        (
            {"df": 4.0, "loc": [0.0, 1.0, -2.0], "scale_tril": [[2.0, 0.0, 0.0], [-1.0, 0.5, 0.0], [0.3, 0.2, 1e-3]]},
            {"df": 0.6, "loc": [3.0], "scale_tril": [[0.1]]},
        ),
    ),
    "NegativeBinomial": Example(
        negative_binomial,
        (
            {"total_count": 3.5, "probs": 0.625},
            {"total_count": 0.25, "logits": 5.0},
            {"total_count": 500.0, "logits": -1.0},
        ),
    ),
    "Poisson": Example(
        lambda rate: stats.poisson(rate),
        ({"rate": 5.0}, {"rate": 0.03}, {"rate": 100.0}, {"rate": 1e5}),
    ),
    "SineBivariateVonMises": Example(
        None,
        (
            {
                "phi_loc": 0.5,
                "psi_loc": -2.0,
                "phi_concentration": 2.0,
                "psi_concentration": 3.0,
                "correlation": 1.5,
            },
            {
                "phi_loc": 3.0,
                "psi_loc": 1.0,
                "phi_concentration": 0.25,
                "psi_concentration": 20.0,
                "correlation": -2.0,
            },
            {
                "phi_loc": 0.0,
                "psi_loc": 0.0,
                "phi_concentration": 4.0,
                "psi_concentration": 0.5,
                "weighted_correlation": 0.9,
            },
        ),
    ),
    "StudentT": Example(
        lambda df, loc, scale: stats.t(df, loc, scale),
        (
            {"df": 3.0, "loc": 0.0, "scale": 1.0},
            {"df": 0.7, "loc": -3.0, "scale": 0.01},
            {"df": 40.0, "loc": 50.0, "scale": 1e4},
        ),
    ),
    "VonMises": Example(
        lambda loc, concentration: stats.vonmises(concentration, loc),
        (
            {"loc": 0.0, "concentration": 4.0},
            {"loc": 0.0, "concentration": 0.1},
            {"loc": 0.0, "concentration": 2000.0},
        ),
    ),
    "Wishart": Example(
        None,
        (
            {"df": 4.5, "scale_tril": [[2.0, 0.0, 0.0], [-1.0, 0.5, 0.0], [0.3, 0.2, 0.1]]},
            {"df": 3.5, "covariance_matrix": [[2.0, 0.5], [0.5, 1.0]]},
            {"df": 30.0, "precision_matrix": [[2.0, 0.5], [0.5, 1.0]]},
        ),
    ),
    "ZeroInflatedNegativeBinomial": Example(
        None,
        (
            {"total_count": 3.5, "probs": 0.625, "gate": 0.25},
            {"total_count": 0.5, "logits": 3.0, "gate_logits": -1.0},
        ),
    ),
    "ZeroInflatedPoisson": Example(None, ({"rate": 5.0, "gate": 0.25}, {"rate": 40.0, "gate_logits": -3.0})),
}
