"""Log-densities, against torch, Pyro and scipy."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pyro.distributions as dist
import pytest
import torch
from scipy import stats
from torch import Tensor

from dgmcompile.distill.divergences import LOG_PROBS
from tests import seeds

Params = dict[str, Tensor]
TOTAL, K, D, RANK, BATCH = 6, 4, 3, 2, 40


def _draws(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=seeds.generator(seed), dtype=torch.float64)


LOC, SCALE, OTHER = 2 * _draws(0, BATCH), _draws(1, BATCH).exp(), _draws(2, BATCH).exp()
LOC_SCALE: Params = {"loc": LOC, "scale": SCALE}
EVENT_LOC = _draws(3, BATCH, D)
SCALE_TRIL = _draws(4, BATCH, D, D).tril(-1) + torch.diag_embed(_draws(5, BATCH, D).exp())
LOGITS = 3 * _draws(6, BATCH)
CLASS_LOGITS = 3 * _draws(7, BATCH, K)
REALS = torch.cat([torch.linspace(-30, 30, 61), torch.tensor([-1e4, -300.0, 300.0, 1e4])]).double().unsqueeze(-1)
POSITIVES = torch.logspace(-8, 4, 50, dtype=torch.float64).unsqueeze(-1)
COUNTS = torch.arange(TOTAL + 1, dtype=torch.float64).unsqueeze(-1)
MANY_COUNTS = torch.tensor([0.0, 1, 2, 7, 30, 200, 1e5], dtype=torch.float64).unsqueeze(-1)
NO_COUNTS = torch.tensor([[-1.0], [0.5]])
NOWHERE, BELOW = torch.empty(0, 1), torch.tensor([[-0.1], [-3.0]])
SMALL = torch.logspace(-9, -0.5, 10, dtype=torch.float64)
UNIT = torch.cat([SMALL, 1 - SMALL]).sort().values.unsqueeze(-1)
OFF_UNIT = torch.tensor([[-0.1], [1.1]])
CONCENTRATIONS: Params = {"concentration1": OTHER, "concentration0": SCALE}
BETA_BINOMIAL: Params = {**CONCENTRATIONS, "total_count": torch.full((BATCH,), float(TOTAL), dtype=torch.float64)}
EVENTS, NO_EVENT = torch.cat([_draws(8, 10, 1, D), torch.full((1, 1, D), 100.0)]), torch.empty(0, 1, D)
COMPONENTS = _draws(13, BATCH, K, D)
SIMPLEX = torch.softmax(3 * _draws(21, 10, 1, K), -1)
OFF_SIMPLEX = torch.stack([1.1 * SIMPLEX[0], SIMPLEX[1] + torch.tensor([-1.0, 1, 0, 0])])
SPHERE = torch.nn.functional.normalize(_draws(22, 10, 1, 3), dim=-1)
POSITIVE_DEFINITE = _draws(24, 10, 1, D, D) @ _draws(24, 10, 1, D, D).mT
CORRELATION_TRILS = torch.linalg.cholesky(POSITIVE_DEFINITE)
CORRELATION_TRILS = torch.nn.functional.normalize(CORRELATION_TRILS, dim=-1)
CORRELATIONS = CORRELATION_TRILS @ CORRELATION_TRILS.mT
LEAF_TIMES = torch.tensor([0.3, 0.0, 1.5, 0.7], dtype=torch.float64)
COAL_TIMES = torch.tensor(
    [[[-0.4, -0.1, 0.6]], [[-7.0, -0.2, -0.19]], [[-2.1, 0.2, 0.29]], [[-1.0, -0.6, -0.3]]], dtype=torch.float64
)
NO_COAL_TIMES = torch.tensor([[[-0.1, -0.4, 0.6]], [[-3.0, -0.1, 0.8]], [[-1.0, 0.35, 0.65]]], dtype=torch.float64)
CLASS_COUNTS = torch.tensor([[[0.0, 1, 2, 3]], [[6.0, 0, 0, 0]], [[1.0, 1, 2, 2]]], dtype=torch.float64)


class Each:
    """A law of Pyro that takes no batch, for each of a batch of parameters."""

    def __init__(self, make: Callable[..., Any], params: Params) -> None:
        self.laws = [make(**{k: v[i] for k, v in params.items()}) for i in range(BATCH)]

    def log_prob(self, values: Tensor) -> Tensor:
        return torch.stack([torch.stack([law.log_prob(value[0]) for law in self.laws]) for value in values])


class ScipyPareto:
    """torch.distributions.GeneralizedPareto.log_prob fails in float64."""

    def __init__(self, loc: Tensor, scale: Tensor, concentration: Tensor) -> None:
        self.law = stats.genpareto(concentration.numpy(), loc.numpy(), scale.numpy())

    def log_prob(self, values: Tensor) -> Tensor:
        return torch.from_numpy(self.law.logpdf(values.numpy()))


# family -> (Pyro's distribution, parameters, values inside the support, values outside it)
EXAMPLES: dict[str, tuple[Callable[..., Any], Params, Tensor, Tensor]] = {
    "Normal": (dist.Normal, LOC_SCALE, REALS, torch.empty(0, 1)),
    "LogNormal": (dist.LogNormal, LOC_SCALE, POSITIVES, torch.tensor([[0.0], [-1.0]])),
    "HalfNormal": (dist.HalfNormal, {"scale": SCALE}, POSITIVES, torch.tensor([[-0.1]])),
    "Laplace": (dist.Laplace, LOC_SCALE, REALS, torch.empty(0, 1)),
    "Cauchy": (dist.Cauchy, LOC_SCALE, REALS, torch.empty(0, 1)),
    "HalfCauchy": (dist.HalfCauchy, {"scale": SCALE}, POSITIVES, torch.tensor([[-0.1]])),
    "Gumbel": (dist.Gumbel, LOC_SCALE, REALS[25:61], torch.empty(0, 1)),
    "Logistic": (dist.Logistic, LOC_SCALE, REALS, torch.empty(0, 1)),
    "Uniform": (
        dist.Uniform,
        {"low": LOC, "high": LOC + SCALE},
        LOC + SCALE * torch.tensor([[0.0], [0.3], [0.4], [0.5], [1 - 1e-9]], dtype=torch.float64),
        torch.stack([LOC - 1e-6, LOC + SCALE, LOC + 2 * SCALE]),
    ),
    "Exponential": (dist.Exponential, {"rate": SCALE}, POSITIVES, torch.tensor([[-1e-9]])),
    "Pareto": (
        dist.Pareto,
        {"scale": SCALE, "alpha": OTHER},
        SCALE * (1 + POSITIVES),
        torch.stack([0.5 * SCALE, -SCALE, 0 * SCALE]),
    ),
    "Weibull": (
        dist.Weibull,
        {"scale": SCALE, "concentration": OTHER},
        POSITIVES[:40],
        torch.tensor([[0.0], [-1.0]]),
    ),
    "MultivariateNormal": (
        lambda loc, scale_tril: dist.MultivariateNormal(loc, scale_tril=scale_tril),
        {"loc": EVENT_LOC, "scale_tril": SCALE_TRIL},
        torch.cat([_draws(8, 10, 1, D), torch.full((1, 1, D), 1e4)]),
        torch.empty(0, 1, D),
    ),
    "LowRankMultivariateNormal": (
        dist.LowRankMultivariateNormal,
        {"loc": EVENT_LOC, "cov_factor": _draws(9, BATCH, D, RANK), "cov_diag": _draws(10, BATCH, D).exp()},
        torch.cat([_draws(8, 10, 1, D), torch.full((1, 1, D), 100.0)]),
        torch.empty(0, 1, D),
    ),
    "Bernoulli": (
        lambda logits: dist.Bernoulli(logits=logits),
        {"logits": 20 * LOGITS},
        COUNTS[:2],
        torch.tensor([[0.5], [-1.0], [2.0]]),
    ),
    "Geometric": (
        lambda logits: dist.Geometric(logits=logits),
        {"logits": LOGITS},
        torch.tensor([[0.0], [1.0], [100.0], [1e6]]),
        torch.tensor([[-1.0], [0.5]]),
    ),
    "Binomial": (
        lambda total_count, logits: dist.Binomial(total_count, logits=logits),
        {"total_count": torch.full((BATCH,), float(TOTAL), dtype=torch.float64), "logits": 5 * LOGITS},
        COUNTS,
        torch.tensor([[-1.0], [0.5], [TOTAL + 1.0]]),
    ),
    "Categorical": (
        lambda logits: dist.Categorical(logits=logits),
        {"logits": CLASS_LOGITS},
        torch.arange(K).unsqueeze(-1),
        torch.tensor([[-1.0], [0.5], [float(K)]]),
    ),
    "OneHotCategorical": (
        lambda logits: dist.OneHotCategorical(logits=logits),
        {"logits": CLASS_LOGITS},
        torch.eye(K).unsqueeze(1),
        torch.tensor([[[1.0, 1, 0, 0]], [[0.5, 0.5, 0, 0]], [[0.0, 0, 0, 0]]]),
    ),
    "Delta": (dist.Delta, {"v": LOC}, LOC.unsqueeze(0), LOC.unsqueeze(0) + 1),
    "NanMaskedNormal": (dist.NanMaskedNormal, LOC_SCALE, REALS, NOWHERE),
    "AsymmetricLaplace": (dist.AsymmetricLaplace, {**LOC_SCALE, "asymmetry": OTHER}, REALS, NOWHERE),
    "SoftLaplace": (dist.SoftLaplace, LOC_SCALE, REALS, NOWHERE),
    "SoftAsymmetricLaplace": (
        dist.SoftAsymmetricLaplace,
        {**LOC_SCALE, "asymmetry": (OTHER / 2).clamp(0.5, 2), "softness": SCALE.clamp(0.7, 2)},
        REALS[25:36],
        NOWHERE,
    ),
    "SkewLogistic": (dist.SkewLogistic, {**LOC_SCALE, "asymmetry": OTHER}, REALS, NOWHERE),
    "StudentT": (dist.StudentT, {"df": OTHER, **LOC_SCALE}, REALS, NOWHERE),
    "VonMises": (dist.VonMises, {"loc": LOC, "concentration": OTHER}, REALS[20:41], NOWHERE),
    "Gamma": (dist.Gamma, {"concentration": OTHER, "rate": SCALE}, POSITIVES, BELOW),
    "InverseGamma": (dist.InverseGamma, {"concentration": OTHER, "rate": SCALE}, POSITIVES[10:], BELOW),
    "Chi2": (dist.Chi2, {"df": OTHER}, POSITIVES, BELOW),
    "FisherSnedecor": (dist.FisherSnedecor, {"df1": OTHER, "df2": SCALE}, POSITIVES, BELOW),
    "GeneralizedPareto": (
        ScipyPareto,
        {**LOC_SCALE, "concentration": torch.cat([torch.zeros(5), 1e-4 * _draws(11, 5), _draws(12, BATCH - 10)])},
        LOC + SCALE * torch.tensor([[1e-9], [0.01], [0.1], [0.3]], dtype=torch.float64),
        torch.stack([LOC - 1e-6, LOC - SCALE]),
    ),
    "TruncatedPolyaGamma": (
        dist.TruncatedPolyaGamma,
        {"prototype": torch.zeros(BATCH, dtype=torch.float64)},
        torch.linspace(0.02, 0.6, 20, dtype=torch.float64).unsqueeze(-1).expand(20, BATCH),
        torch.tensor([[-0.1], [2.6]]).expand(2, BATCH),
    ),
    "Beta": (dist.Beta, CONCENTRATIONS, UNIT, OFF_UNIT),
    "AffineBeta": (dist.AffineBeta, {**CONCENTRATIONS, **LOC_SCALE}, LOC + SCALE * UNIT[8:13], LOC + SCALE * OFF_UNIT),
    "Kumaraswamy": (dist.Kumaraswamy, CONCENTRATIONS, UNIT[8:12], OFF_UNIT),
    "ContinuousBernoulli": (
        lambda logits: dist.ContinuousBernoulli(logits=logits, lims=(0.4999, 0.5001)),
        {"logits": LOGITS},
        UNIT,
        OFF_UNIT,
    ),
    "RelaxedBernoulli": (
        lambda temperature, logits: dist.RelaxedBernoulli(temperature, logits=logits),
        {"temperature": OTHER, "logits": LOGITS},
        UNIT[4:14],
        OFF_UNIT,
    ),
    "RelaxedBernoulliStraightThrough": (
        lambda temperature, logits: dist.RelaxedBernoulliStraightThrough(temperature, logits=logits),
        {"temperature": OTHER, "logits": LOGITS},
        UNIT[4:14],
        OFF_UNIT,
    ),
    "AVFMultivariateNormal": (
        lambda loc, scale_tril, control_var: dist.MultivariateNormal(loc, scale_tril=scale_tril),
        {"loc": EVENT_LOC, "scale_tril": SCALE_TRIL, "control_var": torch.zeros(2, 1, D)},
        EVENTS,
        NO_EVENT,
    ),
    "OMTMultivariateNormal": (
        lambda loc, scale_tril: dist.MultivariateNormal(loc, scale_tril=scale_tril),
        {"loc": EVENT_LOC, "scale_tril": SCALE_TRIL},
        EVENTS,
        NO_EVENT,
    ),
    "NanMaskedMultivariateNormal": (
        lambda loc, scale_tril: dist.NanMaskedMultivariateNormal(loc, scale_tril=scale_tril, validate_args=False),
        {"loc": EVENT_LOC, "scale_tril": SCALE_TRIL},
        torch.cat([EVENTS, torch.tensor([[[math.nan, 0.2, math.inf]], [[0.3, math.nan, -1]], [[math.nan] * D]])]),
        NO_EVENT,
    ),
    "MultivariateStudentT": (
        dist.MultivariateStudentT,
        {"df": OTHER, "loc": EVENT_LOC, "scale_tril": SCALE_TRIL},
        EVENTS,
        NO_EVENT,
    ),
    "MixtureOfDiagNormals": (
        dist.MixtureOfDiagNormals,
        {"locs": COMPONENTS, "coord_scale": _draws(14, BATCH, K, D).exp(), "component_logits": CLASS_LOGITS},
        EVENTS,
        NO_EVENT,
    ),
    "MixtureOfDiagNormalsSharedCovariance": (
        dist.MixtureOfDiagNormalsSharedCovariance,
        {"locs": COMPONENTS, "coord_scale": _draws(14, BATCH, D).exp(), "component_logits": CLASS_LOGITS},
        EVENTS,
        NO_EVENT,
    ),
    "GaussianScaleMixture": (
        lambda **params: Each(dist.GaussianScaleMixture, params),
        {
            "coord_scale": _draws(14, BATCH, D).exp(),
            "component_logits": CLASS_LOGITS,
            "component_scale": _draws(15, BATCH, K).exp(),
        },
        EVENTS,
        NO_EVENT,
    ),
    "GroupedNormalNormal": (
        lambda group_idx, **params: Each(
            lambda prior_loc, prior_scale, obs_scale: dist.GroupedNormalNormal(
                prior_loc, prior_scale, obs_scale, group_idx
            ),
            params,
        ),
        {
            "prior_loc": _draws(16, BATCH, 4),
            "prior_scale": _draws(17, BATCH, 4).exp(),
            "obs_scale": _draws(18, BATCH, D).exp(),
            "group_idx": torch.tensor([1, 3, 1]),
        },
        EVENTS,
        NO_EVENT,
    ),
    "Dirichlet": (dist.Dirichlet, {"concentration": _draws(19, BATCH, K).exp()}, SIMPLEX, OFF_SIMPLEX),
    "LogisticNormal": (
        dist.LogisticNormal,
        {"loc": EVENT_LOC, "scale": _draws(20, BATCH, K - 1).exp()},
        SIMPLEX,
        OFF_SIMPLEX,
    ),
    "RelaxedOneHotCategorical": (
        lambda temperature, logits: dist.RelaxedOneHotCategorical(temperature, logits=logits),
        {"temperature": torch.tensor(0.7, dtype=torch.float64), "logits": CLASS_LOGITS},
        SIMPLEX,
        OFF_SIMPLEX,
    ),
    "RelaxedOneHotCategoricalStraightThrough": (
        lambda temperature, logits: dist.RelaxedOneHotCategoricalStraightThrough(temperature, logits=logits),
        {"temperature": torch.tensor(0.7, dtype=torch.float64), "logits": CLASS_LOGITS},
        SIMPLEX,
        OFF_SIMPLEX,
    ),
    "VonMises3D": (dist.VonMises3D, {"concentration": 3 * EVENT_LOC}, SPHERE, 1.1 * SPHERE),
    "ProjectedNormal": (dist.ProjectedNormal, {"concentration": EVENT_LOC.clamp(-1, 1)}, SPHERE, 1.1 * SPHERE),
    "SineBivariateVonMises": (
        dist.SineBivariateVonMises,
        {
            "phi_loc": LOC,
            "psi_loc": SCALE,
            "phi_concentration": OTHER,
            "psi_concentration": SCALE,
            "correlation": 0.5 * torch.sqrt(OTHER * SCALE) * torch.tanh(LOC),
        },
        EVENTS[:10, :, :2],
        NO_EVENT,
    ),
    "CoalescentTimes": (
        dist.CoalescentTimes,
        {"leaf_times": LEAF_TIMES.expand(BATCH, 4), "rate": OTHER},
        COAL_TIMES,
        NO_COAL_TIMES,
    ),
    "CoalescentTimesWithRate": (
        dist.CoalescentTimesWithRate,
        {"leaf_times": LEAF_TIMES.expand(BATCH, 4), "rate_grid": _draws(25, BATCH, 2).exp()},
        COAL_TIMES,
        NO_COAL_TIMES,
    ),
    "OneOneMatching": (
        lambda **params: Each(dist.OneOneMatching, params),
        {"logits": _draws(26, BATCH, 3, 3)},
        torch.tensor([[[0, 1, 2]], [[2, 0, 1]], [[0, 2, 1]]]),
        torch.tensor([[[0, 1, 1]], [[0, 1, 3]], [[-1, 0, 2]]]),
    ),
    "OneTwoMatching": (
        lambda **params: Each(dist.OneTwoMatching, params),
        {"logits": _draws(27, BATCH, 4, 2)},
        torch.tensor([[[0, 0, 1, 1]], [[1, 0, 1, 0]], [[1, 0, 0, 1]]]),
        torch.tensor([[[0, 1, 1, 1]], [[0, 1, 2, 0]], [[-1, 0, 0, 1]]]),
    ),
    "Wishart": (
        lambda df, scale_tril: dist.Wishart(df, scale_tril=scale_tril),
        {"df": D + OTHER, "scale_tril": SCALE_TRIL},
        POSITIVE_DEFINITE,
        torch.stack([-POSITIVE_DEFINITE[0], torch.ones(1, D, D), POSITIVE_DEFINITE[0].tril()]),
    ),
    "LKJ": (dist.LKJ, {"dim": D, "concentration": OTHER}, CORRELATIONS, 1.1 * CORRELATIONS),
    "LKJCholesky": (
        dist.LKJCholesky,
        {"dim": D, "concentration": OTHER},
        CORRELATION_TRILS,
        torch.cat([1.1 * CORRELATION_TRILS[:1], CORRELATION_TRILS[:1].mT]),
    ),
    "LKJCorrCholesky": (
        lambda d, eta: dist.LKJCholesky(d, eta),
        {"d": D, "eta": OTHER},
        CORRELATION_TRILS,
        1.1 * CORRELATION_TRILS,
    ),
    "OneHotCategoricalStraightThrough": (
        lambda logits: dist.OneHotCategoricalStraightThrough(logits=logits),
        {"logits": CLASS_LOGITS},
        torch.eye(K).unsqueeze(1),
        torch.tensor([[[1.0, 1, 0, 0]], [[0.5, 0.5, 0, 0]], [[0.0, 0, 0, 0]]]),
    ),
    "OrderedLogistic": (
        dist.OrderedLogistic,
        {"predictor": LOC / 2, "cutpoints": _draws(23, BATCH, K - 1).exp().cumsum(-1) - 2},
        torch.arange(K).unsqueeze(-1),
        torch.tensor([[-1.0], [0.5], [float(K)]]),
    ),
    "Empirical": (
        lambda **params: Each(dist.Empirical, params),
        {"samples": torch.tensor([0.0, 1, 1, 2]).double().expand(BATCH, K), "log_weights": CLASS_LOGITS},
        COUNTS[:3],
        torch.tensor([[3.0], [0.5]]),
    ),
    "Poisson": (dist.Poisson, {"rate": OTHER}, MANY_COUNTS, NO_COUNTS),
    "ExtendedBinomial": (
        lambda total_count, logits: dist.ExtendedBinomial(total_count, logits=logits),
        {"total_count": torch.full((BATCH,), float(TOTAL), dtype=torch.float64), "logits": LOGITS},
        COUNTS,
        torch.tensor([[-1.0], [0.5], [TOTAL + 1.0]]),
    ),
    "NegativeBinomial": (
        lambda total_count, logits: dist.NegativeBinomial(total_count, logits=logits),
        {"total_count": OTHER, "logits": LOGITS},
        MANY_COUNTS,
        NO_COUNTS,
    ),
    "GammaPoisson": (dist.GammaPoisson, {"concentration": OTHER, "rate": SCALE}, MANY_COUNTS, NO_COUNTS),
    "BetaBinomial": (dist.BetaBinomial, BETA_BINOMIAL, COUNTS, torch.tensor([[-1.0], [0.5], [TOTAL + 1.0]])),
    "ExtendedBetaBinomial": (
        dist.ExtendedBetaBinomial,
        BETA_BINOMIAL,
        COUNTS,
        torch.tensor([[-1.0], [0.5], [TOTAL + 1.0]]),
    ),
    "Multinomial": (
        lambda total_count, logits: dist.Multinomial(TOTAL, logits=logits),
        {"total_count": torch.tensor(float(TOTAL)), "logits": CLASS_LOGITS},
        CLASS_COUNTS,
        torch.tensor([[[-1.0, 3, 3, 1]], [[1.5, 3, 1, 0.5]]]),
    ),
    "DirichletMultinomial": (
        dist.DirichletMultinomial,
        {
            "concentration": _draws(19, BATCH, K).exp(),
            "total_count": torch.full((BATCH,), float(TOTAL), dtype=torch.float64),
        },
        CLASS_COUNTS,
        torch.tensor([[[-1.0, 3, 3, 1]], [[1.5, 3, 1, 0.5]]]),
    ),
    "ZeroInflatedPoisson": (
        lambda rate, gate_logits: dist.ZeroInflatedPoisson(rate, gate_logits=gate_logits),
        {"rate": OTHER, "gate_logits": LOGITS},
        MANY_COUNTS,
        NO_COUNTS,
    ),
    "ZeroInflatedNegativeBinomial": (
        lambda total_count, logits, gate_logits: dist.ZeroInflatedNegativeBinomial(
            total_count, logits=logits, gate_logits=gate_logits
        ),
        {"total_count": OTHER, "logits": LOC, "gate_logits": LOGITS},
        MANY_COUNTS,
        NO_COUNTS,
    ),
    "LogNormalNegativeBinomial": (
        lambda **params: dist.LogNormalNegativeBinomial(**params, num_quad_points=100),
        {"total_count": OTHER, "logits": LOC / 2, "multiplicative_noise_scale": (SCALE / 4).clamp(max=0.5)},
        MANY_COUNTS[:4],
        NO_COUNTS,
    ),
}
FAMILIES = list(LOG_PROBS)

# What the library's own log_prob is accurate to, where that is less than ours.
ACCURACY = {
    "Kumaraswamy": 1e-7,  # 1 - x^a rounds to 1
    "SineBivariateVonMises": 1e-6,  # constants in single precision
    "VonMises": 1e-6,  # polynomials for single precision
    "TruncatedPolyaGamma": 1e-5,  # it does not divide by what was cut off
    "ContinuousBernoulli": 1e-7,  # cancels around logits of 0
    "RelaxedBernoulli": 1e-7,  # cancels near 1
    "RelaxedBernoulliStraightThrough": 1e-7,
    "LogNormalNegativeBinomial": 1e-8,  # Gauss-Hermite
    "CoalescentTimes": 1e-6,  # logarithms of whole numbers in single precision
    "OrderedLogistic": 1e-7,  # differences of probabilities
    "ProjectedNormal": 1e-8,
}
LKJS = ("LKJ", "LKJCholesky", "LKJCorrCholesky")

# Error in single precision relative to 1 + |log_prob|, where it exceeds 2e-5.
SINGLE = {"Wishart": 1e-4, "LKJ": 1e-4, "NanMaskedMultivariateNormal": 1e-4}  # of nearly singular matrices
CONSTANT = ("total_count", "dim", "d", "prototype", "group_idx", "samples", "control_var")
"""Parameters without a gradient."""


def mapped(change: Callable[[Tensor], Tensor], params: Params) -> Params:
    """``change`` of those parameters that are tensors of real numbers."""
    return {k: change(v) if isinstance(v, Tensor) and v.is_floating_point() else v for k, v in params.items()}


def log_prob(family: str, value: Tensor) -> Tensor:
    return LOG_PROBS[family].function(value, *EXAMPLES[family][1].values())


BY_POINTS = {
    *("Bernoulli", "Categorical", "OneHotCategorical", "OneHotCategoricalStraightThrough", "OrderedLogistic"),
    *("Empirical", "Delta", "Geometric", "Poisson", "Binomial", "ExtendedBinomial", "NegativeBinomial"),
    *("GammaPoisson", "BetaBinomial", "ExtendedBetaBinomial", "Multinomial", "DirichletMultinomial"),
    *("ZeroInflatedPoisson", "ZeroInflatedNegativeBinomial", "LogNormalNegativeBinomial"),
    *("OneOneMatching", "OneTwoMatching"),
}
ON_SURFACES = {
    *("Dirichlet", "LogisticNormal", "RelaxedOneHotCategorical", "RelaxedOneHotCategoricalStraightThrough"),
    *("VonMises3D", "ProjectedNormal", "LKJ", "LKJCholesky", "LKJCorrCholesky", "Wishart"),
}


def test_every_family_has_an_example():
    assert set(EXAMPLES) == set(LOG_PROBS)


@pytest.mark.parametrize("family", FAMILIES)
def test_agrees_with_pyro(family: str):
    law, params, inside, _ = EXAMPLES[family]
    expected = law(**params).log_prob(inside)
    assert expected.shape == (len(inside), BATCH)
    tolerance = ACCURACY.get(family, 1e-10)
    torch.testing.assert_close(log_prob(family, inside), expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(
    ("family", "law"),
    [
        ("Weibull", lambda scale, concentration: stats.weibull_min(concentration, scale=scale)),
        ("Logistic", stats.logistic),
        ("Gumbel", stats.gumbel_r),
        ("LogNormal", lambda loc, scale: stats.lognorm(scale, scale=np.exp(loc))),
        ("HalfCauchy", lambda scale: stats.halfcauchy(scale=scale)),
    ],
)
def test_agrees_with_scipy(family: str, law: Callable[..., Any]):
    _, params, inside, _ = EXAMPLES[family]
    frozen = law(**{k: v.numpy() for k, v in params.items()})
    with np.errstate(over="ignore"):
        expected = torch.from_numpy(frozen.logpdf(inside.numpy()))
    seen = expected > -600  # below, scipy takes the logarithm of a density that underflows
    assert seen.sum() > 100
    torch.testing.assert_close(log_prob(family, inside)[seen], expected[seen], rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("family", FAMILIES)
def test_is_minus_infinity_outside_and_its_gradient_no_nan(family: str):
    _, params, inside, outside = EXAMPLES[family]
    differentiable = mapped(lambda x: x.clone().requires_grad_(), params)
    for values in (inside, outside):
        at = values.clone().requires_grad_() if values.is_floating_point() else values
        value = LOG_PROBS[family].function(at, *differentiable.values())
        assert value.shape == (len(values), BATCH)
        assert (value == -math.inf).all() if values is outside else value.isfinite().all()
        if not value.requires_grad:
            assert family in ("Delta", "Empirical")
            continue
        wanted = [at] if at.requires_grad and family not in BY_POINTS else []
        wanted += [
            v for k, v in differentiable.items() if isinstance(v, Tensor) and v.requires_grad and k not in CONSTANT
        ]
        for gradient in torch.autograd.grad(value.sum(), wanted, allow_unused=True) if wanted else ():
            assert gradient is None or gradient.isfinite().all()


@pytest.mark.parametrize("family", [f for f in FAMILIES if f not in ("Delta", "TruncatedPolyaGamma")])
def test_gradients(family: str):
    _, params, inside, _ = EXAMPLES[family]
    batched = {k: v[:2] if isinstance(v, Tensor) and v.dim() and len(v) == BATCH else v for k, v in params.items()}
    arguments = [
        v.clone().requires_grad_() if isinstance(v, Tensor) and v.is_floating_point() and k not in CONSTANT else v
        for k, v in batched.items()
    ]
    middle = inside[len(inside) // 2 :][:2]
    value = middle[:, :2] if inside.shape[1] == BATCH else middle
    value = value.double() if value.is_floating_point() else value
    function = LOG_PROBS[family].function
    assert torch.autograd.gradcheck(lambda *args: function(value, *args), arguments)


@pytest.mark.parametrize("family", [f for f in FAMILIES if f not in BY_POINTS and f not in ON_SURFACES])
def test_gradients_of_the_value(family: str):
    """On a surface, only what lies along it means something."""
    _, params, inside, _ = EXAMPLES[family]
    batched = [v[:2] if isinstance(v, Tensor) and v.dim() and len(v) == BATCH else v for v in params.values()]
    middle = inside[len(inside) // 2 :][:2]
    value = (middle[:, :2] if inside.shape[1] == BATCH else middle).double().clone().requires_grad_()
    function = LOG_PROBS[family].function
    assert torch.autograd.gradcheck(lambda value: function(value, *batched), value)


@pytest.mark.parametrize("logit", [math.inf, -math.inf])
def test_certain_outcomes(logit: float):
    logits = torch.tensor(logit, requires_grad=True)
    sure = torch.tensor(float(logit > 0))
    for family, args, likely in (("Bernoulli", (logits,), sure), ("Binomial", (TOTAL, logits), TOTAL * sure)):
        value = LOG_PROBS[family].function(likely, *args)
        assert value == 0
        assert torch.autograd.grad(value, logits)[0].isfinite()
        assert LOG_PROBS[family].function(1 - sure, *args) == -math.inf


@pytest.mark.parametrize("family", ["Categorical", "OneHotCategorical"])
def test_excluded_classes(family: str):
    logits = torch.tensor([0.0, -math.inf, 0.0], requires_grad=True)
    values = torch.arange(3) if family == "Categorical" else torch.eye(3)
    value = LOG_PROBS[family].function(values, logits)
    torch.testing.assert_close(value, torch.tensor([0.5, 0.0, 0.5]).log())
    assert torch.autograd.grad(value[0], logits)[0].isfinite().all()


ELEMENTWISE = [
    f for f, (_, p, _, _) in EXAMPLES.items() if all(v.shape == (BATCH,) for v in p.values() if f not in LKJS)
]


@pytest.mark.parametrize("family", [f for f in ELEMENTWISE if f not in LKJS])
def test_parameters_may_be_numbers(family: str):
    _, params, inside, _ = EXAMPLES[family]
    numbers = {k: float(v[0]) for k, v in params.items()}
    inside = inside[:, :1]
    torch.testing.assert_close(
        LOG_PROBS[family].function(inside.double(), *numbers.values()),
        LOG_PROBS[family].function(inside.double(), *(v[:1] for v in params.values())),
        rtol=1e-6,
        atol=1e-6,
    )


UNAFFECTED = ("LowRankMultivariateNormal", "Delta", "TruncatedPolyaGamma", "Empirical", "NanMaskedMultivariateNormal")


@pytest.mark.parametrize("family", [f for f in FAMILIES if f not in UNAFFECTED])
def test_not_a_number_is_not_hidden(family: str):
    """A draw that went wrong must not look like one outside the support, which estimates count as 0."""
    _, params, inside, _ = EXAMPLES[family]
    broken = {k: v if k in CONSTANT else torch.full_like(v, math.nan) for k, v in params.items()}
    assert LOG_PROBS[family].function(inside, *broken.values()).isnan().all()


@pytest.mark.parametrize(
    "family", [f for f in FAMILIES if not f.startswith("NanMasked") and f not in ("Empirical", "Delta")]
)
def test_a_value_that_is_not_a_number_is_not_hidden(family: str):
    _, params, inside, _ = EXAMPLES[family]
    value = LOG_PROBS[family].function(torch.full_like(inside, math.nan, dtype=torch.float64), *params.values())
    assert value.isnan().all()


@pytest.mark.parametrize("family", FAMILIES)
def test_single_precision_stays_and_agrees(family: str):
    _, params, inside, _ = EXAMPLES[family]
    single = mapped(Tensor.float, params)
    value = LOG_PROBS[family].function(inside.float(), *single.values())
    assert value.dtype == torch.float32
    if family == "Delta":
        return
    rounded = (mapped(Tensor.double, single), inside.float().double())
    expected = LOG_PROBS[family].function(rounded[1], *rounded[0].values())
    seen = expected.isfinite() & value.isfinite()
    assert seen.float().mean() > 0.5
    error = (value.double() - expected).abs()[seen] / (1 + expected.abs()[seen])
    assert error.max() < SINGLE.get(family, 2e-5)


@pytest.mark.parametrize("family", ["Bernoulli", "Geometric", "Binomial", "Categorical", "OneHotCategorical"])
@pytest.mark.parametrize("dtype", [torch.int64, torch.float32])
def test_counts_may_have_any_dtype(family: str, dtype: torch.dtype):
    _, params, inside, _ = EXAMPLES[family]
    inside = inside[:2]
    value = LOG_PROBS[family].function(inside.to(dtype), *params.values())
    torch.testing.assert_close(value, log_prob(family, inside))


@pytest.mark.parametrize("family", FAMILIES)
def test_maps_over_batches(family: str):
    _, params, inside, _ = EXAMPLES[family]
    values = inside[:2].expand(-1, BATCH, *inside.shape[2:])
    batched = [isinstance(v, Tensor) and v.dim() > 0 and len(v) == BATCH for v in params.values()]
    in_dims = (1, *(0 if one else None for one in batched))
    mapped_over = torch.vmap(LOG_PROBS[family].function, in_dims=in_dims, out_dims=1)(values, *params.values())
    torch.testing.assert_close(mapped_over, log_prob(family, values))


@pytest.mark.parametrize(
    "family", ["Gamma", "NegativeBinomial", "ProjectedNormal", "LKJ", "NanMaskedMultivariateNormal"]
)
def test_is_one_graph_to_the_compiler(family: str):
    _, params, inside, _ = EXAMPLES[family]
    compiled = torch.compile(LOG_PROBS[family].function, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(inside[:5], *params.values()), log_prob(family, inside[:5]))
