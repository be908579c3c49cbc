"""Closed forms: each against sums, integrals or optimal transport, and what holds of all of them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import scipy.linalg
import scipy.optimize
import torch
from scipy import stats
from torch import Tensor
from torch import distributions as td

from dgmcompile.codegen.formulas import texts_of
from dgmcompile.distill.divergences import (
    BIJECTION_INVARIANT,
    CLOSED_FORMS,
    COMONOTONE_FAMILIES,
    DEFAULT,
    ESTIMATORS,
    LOG_PROBS,
    NAMES,
    Divergence,
    divergence,
    estimator,
)
from tests import seeds

Params = dict[str, Tensor]
K, D, RANK, TOTAL = 4, 3, 2, 7


def _scale_tril(raw: Tensor) -> Tensor:
    square = raw.reshape(*raw.shape[:-1], D, D)
    return square.tril(-1) + torch.diag_embed((square.diagonal(0, -2, -1) / 2).exp())


def _loc_scale(raw: Tensor) -> Params:
    return {"loc": raw[..., 0], "scale": (raw[..., 1] / 2).exp()}


def _loc_scale_tril(raw: Tensor) -> Params:
    return {"loc": raw[..., :D], "scale_tril": _scale_tril(raw[..., D : D + D * D])}


def _matrix(raw: Tensor) -> Tensor:
    return raw.reshape(*raw.shape[:-1], K, D)


def _concentrations(raw: Tensor) -> Params:
    return {"concentration1": raw[..., 0].exp(), "concentration0": raw[..., 1].exp()}


def _beta_binomial(raw: Tensor) -> Params:
    return {**_concentrations(raw), "total_count": torch.full_like(raw[..., 0], TOTAL)}


def _relaxed_classes(raw: Tensor) -> Params:
    return {"temperature": raw[..., :1].exp(), "logits": raw[..., 1:]}


# Family -> (how many real numbers it takes, parameters made of them).
FAMILIES: dict[str, tuple[int, Callable[[Tensor], Params]]] = {
    "Normal": (2, _loc_scale),
    "LogNormal": (2, lambda raw: {"loc": raw[..., 0], "scale": (raw[..., 1] / 4).exp() / 2}),
    "Laplace": (2, _loc_scale),
    "Cauchy": (2, _loc_scale),
    "Gumbel": (2, _loc_scale),
    "Logistic": (2, _loc_scale),
    "HalfNormal": (1, lambda raw: {"scale": raw[..., 0].exp()}),
    "HalfCauchy": (1, lambda raw: {"scale": raw[..., 0].exp()}),
    "Exponential": (1, lambda raw: {"rate": raw[..., 0].exp()}),
    "Uniform": (2, lambda raw: {"low": raw[..., 0], "high": raw[..., 0] + raw[..., 1].exp()}),
    "Pareto": (2, lambda raw: {"scale": raw[..., 0].exp(), "alpha": 3 + raw[..., 1].exp()}),
    "Weibull": (2, lambda raw: {"scale": raw[..., 0].exp(), "concentration": (raw[..., 1] / 3).exp() + 0.5}),
    "MultivariateNormal": (D + D * D, _loc_scale_tril),
    "LowRankMultivariateNormal": (
        2 * D + D * RANK,
        lambda raw: {
            "loc": raw[..., :D],
            "cov_factor": raw[..., 2 * D :].reshape(*raw.shape[:-1], D, RANK),
            "cov_diag": (raw[..., D : 2 * D] / 2).exp(),
        },
    ),
    "Bernoulli": (1, lambda raw: {"logits": 2 * raw[..., 0]}),
    "Geometric": (1, lambda raw: {"logits": raw[..., 0] / 2}),
    "Binomial": (
        1,
        lambda raw: {"total_count": torch.full_like(raw[..., 0], TOTAL), "logits": raw[..., 0]},
    ),
    "Categorical": (K, lambda raw: {"logits": 2 * raw}),
    "OneHotCategorical": (K, lambda raw: {"logits": 2 * raw}),
    "Delta": (1, lambda raw: {"v": raw[..., 0]}),
    "NanMaskedNormal": (2, _loc_scale),
    "AsymmetricLaplace": (3, lambda raw: {**_loc_scale(raw), "asymmetry": (raw[..., 2] / 3).exp()}),
    "SoftLaplace": (2, _loc_scale),
    "SoftAsymmetricLaplace": (
        4,
        lambda raw: {**_loc_scale(raw), "asymmetry": (raw[..., 2] / 3).exp(), "softness": raw[..., 3].exp()},
    ),
    "SkewLogistic": (3, lambda raw: {**_loc_scale(raw), "asymmetry": raw[..., 2].exp()}),
    "StudentT": (3, lambda raw: {"df": 2.1 + raw[..., 2].exp(), **_loc_scale(raw)}),
    "VonMises": (2, lambda raw: {"loc": raw[..., 0], "concentration": raw[..., 1].exp()}),
    "Gamma": (2, lambda raw: {"concentration": 0.4 + raw[..., 0].exp(), "rate": raw[..., 1].exp()}),
    "InverseGamma": (2, lambda raw: {"concentration": 0.4 + raw[..., 0].exp(), "rate": raw[..., 1].exp()}),
    "Chi2": (1, lambda raw: {"df": 0.8 + raw[..., 0].exp()}),
    "FisherSnedecor": (2, lambda raw: {"df1": raw[..., 0].exp(), "df2": raw[..., 1].exp()}),
    "GeneralizedPareto": (3, lambda raw: {**_loc_scale(raw), "concentration": 0.3 * torch.tanh(raw[..., 2])}),
    "TruncatedPolyaGamma": (1, lambda raw: {"prototype": raw[..., 0]}),
    "Beta": (2, lambda raw: {key: 0.9 + value for key, value in _concentrations(raw).items()}),
    "AffineBeta": (4, lambda raw: {**_concentrations(raw), **_loc_scale(raw[..., 2:])}),
    "Kumaraswamy": (2, _concentrations),
    "ContinuousBernoulli": (1, lambda raw: {"logits": 2 * raw[..., 0]}),
    "RelaxedBernoulli": (2, lambda raw: {"temperature": raw[..., 0].exp(), "logits": raw[..., 1]}),
    "RelaxedBernoulliStraightThrough": (2, lambda raw: {"temperature": raw[..., 0].exp(), "logits": raw[..., 1]}),
    "AVFMultivariateNormal": (
        D + D * D + 2 * D,
        lambda raw: {
            **_loc_scale_tril(raw),
            "control_var": raw[..., -2 * D :].reshape(*raw.shape[:-1], 2, 1, D),
        },
    ),
    "OMTMultivariateNormal": (D + D * D, _loc_scale_tril),
    "NanMaskedMultivariateNormal": (D + D * D, _loc_scale_tril),
    "MultivariateStudentT": (1 + D + D * D, lambda raw: {"df": raw[..., -1].exp(), **_loc_scale_tril(raw)}),
    "MixtureOfDiagNormals": (
        2 * K * D + K,
        lambda raw: {
            "locs": _matrix(raw[..., : K * D]),
            "coord_scale": _matrix(raw[..., K * D : 2 * K * D]).exp(),
            "component_logits": raw[..., -K:],
        },
    ),
    "MixtureOfDiagNormalsSharedCovariance": (
        K * D + D + K,
        lambda raw: {
            "locs": _matrix(raw[..., : K * D]),
            "coord_scale": raw[..., K * D : K * D + D].exp(),
            "component_logits": raw[..., -K:],
        },
    ),
    "GaussianScaleMixture": (
        D + 2 * K,
        lambda raw: {
            "coord_scale": raw[..., :D].exp(),
            "component_logits": raw[..., D : D + K],
            "component_scale": raw[..., -K:].exp(),
        },
    ),
    "GroupedNormalNormal": (
        6,
        lambda raw: {
            "prior_loc": raw[..., :2],
            "prior_scale": raw[..., 2:4].exp(),
            "obs_scale": raw[..., 4:5].exp(),
            "group_idx": torch.tensor([0, 1, 1]),
        },
    ),
    "Dirichlet": (K, lambda raw: {"concentration": raw.exp()}),
    "LogisticNormal": (2 * D, lambda raw: {"loc": raw[..., :D], "scale": (raw[..., D:] / 2).exp()}),
    "RelaxedOneHotCategorical": (1 + K, _relaxed_classes),
    "RelaxedOneHotCategoricalStraightThrough": (1 + K, _relaxed_classes),
    "VonMises3D": (3, lambda raw: {"concentration": 2 * raw}),
    "ProjectedNormal": (D, lambda raw: {"concentration": raw}),
    "SineBivariateVonMises": (
        5,
        lambda raw: {
            "phi_loc": raw[..., 0],
            "psi_loc": raw[..., 1],
            "phi_concentration": raw[..., 2].exp(),
            "psi_concentration": raw[..., 3].exp(),
            "correlation": raw[..., 4],
        },
    ),
    "Wishart": (1 + D * D, lambda raw: {"df": D + raw[..., -1].exp(), "scale_tril": _scale_tril(raw[..., :-1])}),
    "LKJ": (1, lambda raw: {"dim": D, "concentration": raw[..., 0].exp()}),
    "LKJCholesky": (1, lambda raw: {"dim": D, "concentration": raw[..., 0].exp()}),
    "LKJCorrCholesky": (1, lambda raw: {"d": D, "eta": raw[..., 0].exp()}),
    "OneHotCategoricalStraightThrough": (K, lambda raw: {"logits": 2 * raw}),
    "OrderedLogistic": (
        K,
        lambda raw: {"predictor": raw[..., 0], "cutpoints": (raw[..., 1:].exp() + 0.1).cumsum(-1) - 2},
    ),
    "CoalescentTimes": (
        1,
        lambda raw: {"leaf_times": torch.tensor([0.3, 0.0, 1.5]).to(raw), "rate": raw[..., 0].exp()},
    ),
    "CoalescentTimesWithRate": (
        2,
        lambda raw: {"leaf_times": torch.tensor([0.3, 0.0, 1.5]).to(raw), "rate_grid": raw.exp()},
    ),
    "OneOneMatching": (9, lambda raw: {"logits": raw.reshape(*raw.shape[:-1], 3, 3)}),
    "OneTwoMatching": (8, lambda raw: {"logits": raw.reshape(*raw.shape[:-1], 4, 2)}),
    "Empirical": (K, lambda raw: {"samples": torch.arange(K) + 0 * raw, "log_weights": raw}),
    "Poisson": (1, lambda raw: {"rate": raw[..., 0].exp()}),
    "ExtendedBinomial": (1, lambda raw: {"total_count": torch.full_like(raw[..., 0], TOTAL), "logits": raw[..., 0]}),
    "NegativeBinomial": (2, lambda raw: {"total_count": raw[..., 0].exp(), "logits": raw[..., 1] / 2}),
    "GammaPoisson": (2, lambda raw: {"concentration": raw[..., 0].exp(), "rate": (raw[..., 1] / 2).exp()}),
    "BetaBinomial": (2, _beta_binomial),
    "ExtendedBetaBinomial": (2, _beta_binomial),
    "Multinomial": (K, lambda raw: {"total_count": torch.full_like(raw[..., 0], TOTAL), "logits": raw}),
    "DirichletMultinomial": (
        K,
        lambda raw: {"concentration": raw.exp(), "total_count": torch.full_like(raw[..., 0], TOTAL)},
    ),
    "ZeroInflatedPoisson": (2, lambda raw: {"rate": raw[..., 0].exp(), "gate_logits": raw[..., 1]}),
    "ZeroInflatedNegativeBinomial": (
        3,
        lambda raw: {"total_count": raw[..., 0].exp(), "logits": raw[..., 1], "gate_logits": raw[..., 2]},
    ),
    "LogNormalNegativeBinomial": (
        3,
        lambda raw: {
            "total_count": raw[..., 0].exp(),
            "logits": raw[..., 1],
            "multiplicative_noise_scale": raw[..., 2].exp(),
        },
    ),
}


class Kumaraswamy:
    """1 - (1 - x^a)^b, which scipy lacks; as far as `expectation` needs it, on the logarithms' scale."""

    def __init__(self, concentration1: float, concentration0: float) -> None:
        self.a, self.b = concentration1, concentration0

    def ppf(self, u: np.ndarray) -> np.ndarray:
        """-log of the value, of which the value itself would round to 0 or 1."""
        return -np.log(-np.expm1(np.log1p(-u) / self.b)) / self.a

    def isf(self, u: np.ndarray) -> np.ndarray:
        rest = np.exp(np.log(u) / self.b)
        return np.where(rest < 1e-300, np.exp((np.log(u) / self.b).clip(-700)), -np.log1p(-rest)) / self.a

    def logpdf(self, x: np.ndarray) -> np.ndarray:
        return np.log(self.a * self.b) - (self.a - 1) * x + (self.b - 1) * np.log(-np.expm1(-self.a * x))


class ContinuousBernoulli:
    """exp(logits * x) on [0, 1], normalised."""

    def __init__(self, logits: float) -> None:
        self.logits = logits

    def ppf(self, u: np.ndarray) -> np.ndarray:
        return np.log1p(u * np.expm1(self.logits)) / self.logits

    def isf(self, u: np.ndarray) -> np.ndarray:
        return 1 + np.log1p(u * np.expm1(-self.logits)) / self.logits

    def cdf(self, x: float) -> float:
        return float(np.expm1(self.logits * np.clip(x, 0, 1)) / np.expm1(self.logits))

    def sf(self, x: float) -> float:
        return 1 - self.cdf(x)

    def logpdf(self, x: np.ndarray) -> np.ndarray:
        return self.logits * x - np.log(np.expm1(self.logits) / self.logits)


class Beta:
    """scipy's, of which no quantile rounds to 0 or 1."""

    def __init__(self, concentration1: float, concentration0: float) -> None:
        self.law = stats.beta(concentration1, concentration0)
        self.cdf, self.sf, self.logpdf = self.law.cdf, self.law.sf, self.law.logpdf

    def ppf(self, u: np.ndarray) -> np.ndarray:
        return self.law.ppf(u).clip(1e-300, 1 - 2**-53)

    def isf(self, u: np.ndarray) -> np.ndarray:
        return self.law.isf(u).clip(1e-300, 1 - 2**-53)


SCIPY: dict[str, Callable[..., Any]] = {
    "Normal": stats.norm,
    "LogNormal": lambda loc, scale: stats.lognorm(scale, scale=np.exp(loc)),
    "Laplace": stats.laplace,
    "Cauchy": stats.cauchy,
    "Gumbel": stats.gumbel_r,
    "Logistic": stats.logistic,
    "HalfNormal": lambda scale: stats.halfnorm(scale=scale),
    "HalfCauchy": lambda scale: stats.halfcauchy(scale=scale),
    "Exponential": lambda rate: stats.expon(scale=1 / rate),
    "Uniform": lambda low, high: stats.uniform(low, high - low),
    "Pareto": lambda scale, alpha: stats.pareto(alpha, scale=scale),
    "Weibull": lambda scale, concentration: stats.weibull_min(concentration, scale=scale),
    "AsymmetricLaplace": lambda loc, scale, asymmetry: stats.laplace_asymmetric(asymmetry, loc, scale),
    "SoftLaplace": stats.hypsecant,
    "StudentT": stats.t,
    "Gamma": lambda concentration, rate: stats.gamma(concentration, scale=1 / rate),
    "InverseGamma": lambda concentration, rate: stats.invgamma(concentration, scale=rate),
    "Chi2": stats.chi2,
    "GeneralizedPareto": lambda loc, scale, concentration: stats.genpareto(concentration, loc, scale),
    "Beta": Beta,
    "Kumaraswamy": Kumaraswamy,
    "ContinuousBernoulli": ContinuousBernoulli,
}

TORCH: dict[str, Callable[..., td.Distribution]] = {
    "MultivariateNormal": lambda loc, scale_tril: td.MultivariateNormal(loc, scale_tril=scale_tril),
    "LowRankMultivariateNormal": td.LowRankMultivariateNormal,
    "Normal": td.Normal,
    "LogNormal": td.LogNormal,
    "Laplace": td.Laplace,
    "Cauchy": td.Cauchy,
    "Gumbel": td.Gumbel,
    "HalfNormal": td.HalfNormal,
    "Exponential": td.Exponential,
    "Uniform": td.Uniform,
    "Pareto": td.Pareto,
    "Bernoulli": lambda logits: td.Bernoulli(logits=logits),
    "Geometric": lambda logits: td.Geometric(logits=logits),
    "Binomial": lambda total_count, logits: td.Binomial(TOTAL, logits=logits),
    "Categorical": lambda logits: td.Categorical(logits=logits),
    "OneHotCategorical": lambda logits: td.OneHotCategorical(logits=logits),
    "Gamma": td.Gamma,
    "Beta": td.Beta,
    "Dirichlet": td.Dirichlet,
    "Poisson": td.Poisson,
    "ContinuousBernoulli": lambda logits: td.ContinuousBernoulli(logits=logits),
}

FINITE = (
    *("Bernoulli", "Categorical", "OneHotCategorical", "OrderedLogistic", "OneOneMatching", "OneTwoMatching"),
    *("Binomial", "Geometric", "Poisson", "NegativeBinomial", "GammaPoisson"),
)
ENTRIES = [(name, *pair) for name, table in CLOSED_FORMS.items() for pair in table]
SAME_FAMILY = [(name, p) for name, p, q in ENTRIES if p == q]
PROPER = [(name, p, q) for name, p, q in ENTRIES if name != "cross_entropy"]


def entry_of(name: str, p_family: str, q_family: str) -> Divergence:
    entry = divergence(name, p_family, q_family)
    assert entry is not None
    return entry


def value_of(entry: Divergence, p: Mapping[str, Any], q: Mapping[str, Any], **options: float) -> Tensor:
    return entry.formula.function(*entry.arguments(p, q), **options)


def mapped(change: Callable[[Tensor], Tensor], values: Mapping[str, Any]) -> dict[str, Any]:
    """``change`` of those values that are tensors."""
    return {key: change(value) if isinstance(value, Tensor) else value for key, value in values.items()}


def params(family: str, raw: Tensor) -> Params:
    return FAMILIES[family][1](raw)


def covering(family: str, p: Params, q: Params) -> Params:
    """``q``, widened where its support must hold that of ``p`` for the divergence to be finite."""
    if family == "Uniform":
        return {"low": torch.minimum(p["low"], q["low"]) - 0.1, "high": torch.maximum(p["high"], q["high"]) + 0.1}
    if family == "Pareto":
        return {"scale": 0.9 * torch.minimum(p["scale"], q["scale"]), "alpha": q["alpha"]}
    if family == "AffineBeta":
        low, high = (torch.stack([x["loc"], x["loc"] + x["scale"]]) for x in (p, q))
        low, high = torch.minimum(low[0], high[0]) - 0.1, torch.maximum(low[1], high[1]) + 0.2
        return {**q, "loc": low, "scale": high - low}
    return q


def covered(p_family: str, q_family: str, p: Params, q: Params) -> tuple[Params, Params]:
    """Laws of two families, of which q's support holds that of p."""
    if p_family == q_family:
        return p, covering(q_family, p, q)
    if q_family == "Uniform":
        return p, {"low": -q["low"].abs(), "high": 1 + q["high"].abs()}
    if p_family == "Uniform" and q_family in ("Beta", "ContinuousBernoulli"):
        return {"low": p["low"].sigmoid() / 2, "high": (1 + p["high"].sigmoid()) / 2}, q
    if p_family == "Uniform" and q_family in ("Exponential", "Gamma", "Pareto"):
        start = q.get("scale", torch.tensor(0.0))
        start = start + p["low"].exp()
        return {"low": start, "high": start + p["high"] - p["low"]}, q
    return p, q


def finite_pair(name: str, p_family: str, q_family: str, p_raw: Tensor, q_raw: Tensor) -> tuple[Params, Params]:
    p, q = params(p_family, p_raw), params(q_family, q_raw)
    if name in ("kl", "cross_entropy"):
        p, q = covered(p_family, q_family, p, q)
    if name == "reverse_kl":
        q, p = covered(q_family, p_family, q, p)
    return p, q


def raw_size(p_family: str, q_family: str, family: str) -> tuple[int, ...]:
    """Independent normals against a multivariate one have one event dim of their own."""
    count = FAMILIES[family][0]
    return (D, count) if family == "Normal" and "MultivariateNormal" in (p_family, q_family) else (count,)


def random_pair(name: str, p_family: str, q_family: str, batch: int = 5, seed: int = 0) -> tuple[Params, Params]:
    generator = seeds.generator(seed)
    p_raw, q_raw = (
        torch.randn((batch, *raw_size(p_family, q_family, f)), generator=generator, dtype=torch.float64)
        for f in (p_family, q_family)
    )
    return finite_pair(name, p_family, q_family, p_raw, q_raw)


# --- oracles -----------------------------------------------------------------------------------------


def quantile_nodes(kinks: tuple[float, ...] = (), reach: float = 100.0) -> tuple[np.ndarray, np.ndarray]:
    """Gauss-Legendre nodes u = exp(-s) / 2 and weights for integrals over (0, 1/2), dense where u is small.

    Panels end where the integrand has ``kinks``, given as probabilities.
    """
    inside = [-math.log(2 * u) for u in kinks if 0 < u < 0.5]
    edges = np.sort(np.concatenate([np.linspace(0, 5, 101), np.linspace(5, reach, 50)[1:], inside]))[:, None]
    x, w = np.polynomial.legendre.leggauss(16)
    widths = np.diff(edges, axis=0)
    u = 0.5 * np.exp(-(edges[:-1] + widths * (x + 1) / 2))
    return u.ravel(), (u * w * widths / 2).ravel()


def expectation(law: Any, h: Callable[[np.ndarray], np.ndarray], kinks: tuple[float, ...] = ()) -> float:
    """E h(x), as an integral over quantiles from both ends; ``h`` may have kinks."""
    below, u_low = law.ppf, quantile_nodes(tuple(law.cdf(kink) for kink in kinks))
    above, u_high = law.isf, quantile_nodes(tuple(law.sf(kink) for kink in kinks))
    return sum(float((h(x(u)) * weight).sum()) for x, (u, weight) in ((below, u_low), (above, u_high)))


def frozen(family: str, p: Params, i: int) -> Any:
    return SCIPY[family](**{name: float(value[i]) for name, value in p.items()})


def classes(family: str, p: Params, i: int) -> np.ndarray:
    """The log-probability of each value, in order (of so many that the rest is below rounding)."""
    at = {name: value[i].numpy() for name, value in p.items()}
    match family:
        case "Categorical" | "OneHotCategorical":
            return scipy.special.log_softmax(at["logits"])
        case "OneOneMatching" | "OneTwoMatching":
            labels = itertools.permutations(np.arange(len(at["logits"])) % at["logits"].shape[-1])
            edges = [at["logits"][np.arange(len(found)), found].sum() for found in sorted(set(labels))]
            return scipy.special.log_softmax(edges)
        case "OrderedLogistic":
            below = scipy.special.expit(at["cutpoints"] - at["predictor"])
            return np.log(np.diff(np.concatenate([[0], below, [1]])))
        case "Poisson":
            return stats.poisson(at["rate"]).logpmf(np.arange(400))
        case "NegativeBinomial":
            return stats.nbinom(at["total_count"], scipy.special.expit(-at["logits"])).logpmf(np.arange(2000))
        case "GammaPoisson":
            return stats.nbinom(at["concentration"], at["rate"] / (1 + at["rate"])).logpmf(np.arange(2000))
    prob = scipy.special.expit(at["logits"])
    laws = {"Bernoulli": stats.bernoulli(prob), "Binomial": stats.binom(TOTAL, prob), "Geometric": stats.geom(prob, -1)}
    size = {"Bernoulli": 2, "Binomial": TOTAL + 1, "Geometric": 300}[family]
    return laws[family].logpmf(np.arange(size))


def oracle(name: str, p_family: str, q_family: str, p: Params, q: Params, i: int) -> float:
    """The divergence by summing or integrating what defines it."""
    if p_family in FINITE:
        return _discrete_oracle(name, p_family, classes(p_family, p, i), classes(q_family, q, i))
    a, b = frozen(p_family, p, i), frozen(q_family, q, i)
    kinks = tuple(float(x["loc"][i]) for x in (p, q) if "loc" in x)
    match name:
        case "kl":
            return expectation(a, lambda x: a.logpdf(x) - b.logpdf(x), kinks)
        case "reverse_kl":
            return expectation(b, lambda x: b.logpdf(x) - a.logpdf(x), kinks)
        case "cross_entropy":
            return expectation(a, lambda x: -b.logpdf(x), kinks)
        case "js":

            def excess(x: np.ndarray, law: Any) -> np.ndarray:
                return law.logpdf(x) - np.logaddexp(a.logpdf(x), b.logpdf(x)) + math.log(2)

            return 0.5 * (expectation(a, lambda x: excess(x, a)) + expectation(b, lambda x: excess(x, b)))
        case _:
            u, weights = quantile_nodes()
            return float((((a.ppf(u) - b.ppf(u)) ** 2 + (a.isf(u) - b.isf(u)) ** 2) * weights).sum())


def _discrete_oracle(name: str, family: str, log_p: np.ndarray, log_q: np.ndarray) -> float:
    size = max(len(log_p), len(log_q))
    log_p, log_q = (np.pad(x, (0, size - len(x)), constant_values=-np.inf) for x in (log_p, log_q))
    p, q = np.exp(log_p), np.exp(log_q)
    m = (p + q) / 2
    match name:
        case "kl":
            return _relative_entropy(log_p, log_q)
        case "reverse_kl":
            return _relative_entropy(log_q, log_p)
        case "cross_entropy":
            return -scipy.special.xlogy(p, q).sum()
        case "js":
            return 0.5 * (scipy.special.rel_entr(p, m) + scipy.special.rel_entr(q, m)).sum()
        case _:
            values = np.eye(len(p)) if family == "OneHotCategorical" else np.arange(len(p))[:, None]
            return _transport(p, q, ((values[:, None] - values[None]) ** 2).sum(-1))


def _relative_entropy(log_p: np.ndarray, log_q: np.ndarray) -> float:
    seen = log_p > -np.inf
    return float((np.exp(log_p[seen]) * (log_p[seen] - log_q[seen])).sum())


def _transport(p: np.ndarray, q: np.ndarray, cost: np.ndarray) -> float:
    """Least expected cost of a coupling, by linear programming."""
    n = len(p)
    rows, columns = np.kron(np.eye(n), np.ones(n)), np.kron(np.ones(n), np.eye(n))
    return scipy.optimize.linprog(cost.ravel(), A_eq=np.vstack([rows, columns]), b_eq=np.concatenate([p, q])).fun


def uniform_js(p: Params, q: Params, i: int) -> float:
    """Both densities are constant between the ends, which quadrature over quantiles cannot know."""
    a, b = frozen("Uniform", p, i), frozen("Uniform", q, i)
    ends = np.sort([float(x[key][i]) for x in (p, q) for key in ("low", "high")])
    middles, widths = (ends[1:] + ends[:-1]) / 2, np.diff(ends)
    f, g = a.pdf(middles), b.pdf(middles)
    m = (f + g) / 2
    return 0.5 * ((scipy.special.rel_entr(f, m) + scipy.special.rel_entr(g, m)) * widths).sum()


def gaussian_wasserstein2(p: td.Distribution, q: td.Distribution, i: int) -> float:
    a, b = (law.covariance_matrix[i].numpy() for law in (p, q))
    root = scipy.linalg.sqrtm(a)
    cross = np.real(scipy.linalg.sqrtm(root @ b @ root))
    return float(((p.mean[i] - q.mean[i]) ** 2).sum()) + np.trace(a + b - 2 * cross)


# --- the table ---------------------------------------------------------------------------------------


def test_every_divergence_has_a_table_and_an_estimator():
    assert set(NAMES) == set(ESTIMATORS) == {"kl", "reverse_kl", "js", "wasserstein2", "cross_entropy"}
    assert DEFAULT in NAMES
    assert set(NAMES) > BIJECTION_INVARIANT


def test_every_family_in_a_table_has_an_example():
    used = {family for _, p, q in ENTRIES for family in (p, q)} | set(LOG_PROBS) | COMONOTONE_FAMILIES
    assert used == set(FAMILIES)


def test_what_has_no_closed_form_is_none():
    assert divergence("kl", "Logistic", "Logistic") is None
    assert divergence("js", "Normal", "Normal") is None
    assert divergence("kl", "Delta", "Delta") is None
    assert divergence("wasserstein2", "Cauchy", "Cauchy") is None
    with pytest.raises(KeyError):
        divergence("nonsense", "Normal", "Normal")


def test_reverse_kl_covers_what_kl_does():
    assert set(CLOSED_FORMS["reverse_kl"]) == {(q, p) for p, q in CLOSED_FORMS["kl"]}
    assert entry_of("reverse_kl", "Normal", "Normal").arguments({"loc": 1, "scale": 2}, {"loc": 3, "scale": 4}) == (
        3,
        4,
        1,
        2,
    )


def test_an_entry_says_what_it_reads():
    entry = entry_of("reverse_kl", "MultivariateNormal", "Normal")
    assert (entry.p_params, entry.q_params) == (("loc", "scale_tril"), ("loc", "scale"))
    assert entry_of("cross_entropy", "Categorical", "Categorical").options == {"temperature": 1.0}
    assert entry_of("kl", "Categorical", "Categorical").options == {}


@pytest.mark.parametrize(("name", "p_family", "q_family"), ENTRIES)
def test_entries_read_the_families_parameters(name: str, p_family: str, q_family: str):
    entry = entry_of(name, p_family, q_family)
    assert entry.source
    assert set(entry.p_params) == set(params(p_family, torch.zeros(FAMILIES[p_family][0])))
    assert set(entry.q_params) == set(params(q_family, torch.zeros(FAMILIES[q_family][0])))


def test_the_text_of_the_formulas_stands_alone():
    formulas = {entry.formula.name: entry.formula for table in CLOSED_FORMS.values() for entry in table.values()}
    formulas |= {entry.formula.name: entry.formula for entry in ESTIMATORS.values()}
    formulas |= {formula.name: formula for formula in LOG_PROBS.values()}
    texts = texts_of(formulas.values())
    scope: dict[str, Any] = {"torch": torch, "math": math, "Tensor": Tensor, "F": torch.nn.functional}
    exec("\n".join(texts.definitions.values()), scope)
    for name, p_family, q_family in ENTRIES:
        entry = entry_of(name, p_family, q_family)
        arguments = entry.arguments(*random_pair(name, p_family, q_family))
        torch.testing.assert_close(
            scope[entry.formula.name](*arguments), entry.formula.function(*arguments), rtol=0, atol=0
        )


# --- values ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "family"),
    [
        (name, family)
        for name, family in SAME_FAMILY
        if (family in SCIPY or family in FINITE) and (name, family) != ("js", "Uniform")
    ],
)
def test_value_is_what_defines_it(name: str, family: str):
    p, q = random_pair(name, family, family, batch=6, seed=1)
    expected = [oracle(name, family, family, p, q, i) for i in range(6)]
    value = value_of(entry_of(name, family, family), p, q)
    torch.testing.assert_close(value, torch.tensor(expected, dtype=torch.float64), rtol=1e-7, atol=1e-9)


ON_LINE = set(SCIPY) - {"Kumaraswamy"}
BOTH_COUNT = {("Bernoulli", "Poisson"), ("Categorical", "OrderedLogistic"), ("OrderedLogistic", "Categorical")}
TWO_FAMILIES = [(n, p, q) for n, p, q in ENTRIES if p != q and ({p, q} <= ON_LINE or {(p, q), (q, p)} & BOTH_COUNT)]


@pytest.mark.parametrize(("name", "p_family", "q_family"), TWO_FAMILIES)
def test_value_of_two_families_is_what_defines_it(name: str, p_family: str, q_family: str):
    p, q = random_pair(name, p_family, q_family, batch=4, seed=1)
    expected = [oracle(name, p_family, q_family, p, q, i) for i in range(4)]
    value = value_of(entry_of(name, p_family, q_family), p, q)
    torch.testing.assert_close(value, torch.tensor(expected, dtype=torch.float64), rtol=1e-7, atol=1e-9)


def interval_log_density(family: str, p: Mapping[str, float], x: np.ndarray, log_x: np.ndarray, log_rest: np.ndarray):
    """At x in (0, 1), of which the logarithm and that of 1 - x are given too."""
    a, b = p["concentration1"], p["concentration0"]
    if family == "Kumaraswamy":
        return np.log(a * b) + (a - 1) * log_x + (b - 1) * np.log(-np.expm1(a * log_x))
    low, scale = p.get("loc", 0.0), p.get("scale", 1.0)
    left = log_x if low == 0 else np.log(x - low)
    right = log_rest if low + scale == 1 else np.log(low + scale - 1 + np.exp(log_rest))
    exponents = (a - 1) * (left - np.log(scale)) + (b - 1) * (right - np.log(scale))
    return exponents - scipy.special.betaln(a, b) - np.log(scale)


@pytest.mark.parametrize("family", ["Beta", "AffineBeta", "Kumaraswamy"])
@pytest.mark.parametrize("name", ["kl", "cross_entropy"])
@pytest.mark.parametrize(("a", "b"), [(0.1, 0.2), (0.5, 3.0), (7.0, 0.3), (40.0, 60.0)])
def test_laws_on_an_interval_from_their_singular_to_their_narrow_ones(name: str, family: str, a: float, b: float):
    logits = np.linspace(-400, 400, 100_001)
    log_x, log_rest = scipy.special.log_expit(logits), scipy.special.log_expit(-logits)
    ends = [(0.0, 1.0), (-1e-3, 1.002), (-2.0, 3.5)] if family == "AffineBeta" else [(0.0, 1.0)]
    for low, scale in ends:
        for q_a, q_b in ((0.3, 4.0), (1.0, 1.0), (9.0, 0.7)):
            p: dict[str, float] = {"concentration1": a, "concentration0": b}
            q: dict[str, float] = {"concentration1": q_a, "concentration0": q_b}
            if family == "AffineBeta":
                p, q = {**p, "loc": 0.0, "scale": 1.0}, {**q, "loc": low, "scale": scale}
            log_p, log_q = (interval_log_density(family, law, np.exp(log_x), log_x, log_rest) for law in (p, q))
            mass = np.exp(log_p + log_x + log_rest) * (logits[1] - logits[0])
            expected = (mass * ((log_p if name == "kl" else 0) - log_q)).sum()
            tensors = [{key: torch.tensor(x, dtype=torch.float64) for key, x in law.items()} for law in (p, q)]
            value = value_of(entry_of(name, family, family), *tensors)
            torch.testing.assert_close(value, torch.tensor(expected), rtol=1e-8, atol=1e-10)


def test_affine_betas_that_are_not_covered_are_infinitely_far():
    entry = entry_of("kl", "AffineBeta", "AffineBeta")
    shape = {"concentration1": torch.tensor(2.0), "concentration0": torch.tensor(3.0)}
    p = {**shape, "loc": 0.0, "scale": 1.0}
    q = {**shape, "loc": torch.tensor([0.1, -0.5, 0.0, -1.0]), "scale": torch.tensor([2.0, 1.2, 1.0, 3.0])}
    assert value_of(entry, p, q).isinf().tolist() == [True, True, False, False]


def test_no_pair_of_families_is_left_out():
    vectors = {"MultivariateNormal", "LowRankMultivariateNormal"}
    assert {(n, p, q) for n, p, q in ENTRIES if p != q and not {p, q} & vectors} == set(TWO_FAMILIES)


def test_uniform_js_is_what_defines_it():
    p, q = random_pair("js", "Uniform", "Uniform", batch=40, seed=1)
    value = value_of(entry_of("js", "Uniform", "Uniform"), p, q)
    torch.testing.assert_close(value, torch.tensor([uniform_js(p, q, i) for i in range(40)], dtype=torch.float64))
    assert (value == math.log(2)).any() and (value < 0.6).any(), "both disjoint and overlapping ones are meant"


@pytest.mark.parametrize("family", ["MultivariateNormal", "LowRankMultivariateNormal"])
def test_gaussian_wasserstein2_is_the_bures_distance(family: str):
    p, q = random_pair("wasserstein2", family, family, seed=2)
    expected = [gaussian_wasserstein2(TORCH[family](**p), TORCH[family](**q), i) for i in range(5)]
    value = value_of(entry_of("wasserstein2", family, family), p, q)
    torch.testing.assert_close(value, torch.tensor(expected, dtype=torch.float64))


def test_gaussian_wasserstein2_has_a_gradient_where_singular_values_coincide():
    p = {"loc": torch.zeros(D), "scale_tril": torch.eye(D)}
    q = {"loc": torch.zeros(D), "scale_tril": (2 * torch.eye(D)).requires_grad_()}
    value = value_of(entry_of("wasserstein2", "MultivariateNormal", "MultivariateNormal"), p, q)
    (gradient,) = torch.autograd.grad(value, q["scale_tril"])
    torch.testing.assert_close(gradient, 2 * torch.eye(D))


REGISTERED = [
    pair
    for pair in CLOSED_FORMS["kl"]
    if set(pair) <= set(TORCH) and pair not in {("Gamma", "LogNormal"), ("LogNormal", "Gamma")}
]


@pytest.mark.parametrize(("p_family", "q_family"), REGISTERED)
def test_kl_agrees_with_torch(p_family: str, q_family: str):
    p, q = random_pair("kl", p_family, q_family, batch=50, seed=3)
    laws = [TORCH[family](**values) for family, values in ((p_family, p), (q_family, q))]
    if set((p_family, q_family)) == {"Normal", "MultivariateNormal"}:
        laws = [
            law
            if isinstance(law, td.MultivariateNormal)
            else td.MultivariateNormal(law.mean, law.variance.diag_embed())
            for law in laws
        ]
    expected = td.kl_divergence(*laws)
    torch.testing.assert_close(value_of(entry_of("kl", p_family, q_family), p, q), expected, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("family", ["MultivariateNormal", "LowRankMultivariateNormal"])
def test_gaussian_cross_entropy_is_kl_and_entropy(family: str):
    p, q = random_pair("cross_entropy", family, family, seed=4)
    laws = TORCH[family](**p), TORCH[family](**q)
    expected = td.kl_divergence(*laws) + laws[0].entropy()
    torch.testing.assert_close(value_of(entry_of("cross_entropy", family, family), p, q), expected)


def test_low_rank_agrees_with_dense():
    p, q = random_pair("kl", "LowRankMultivariateNormal", "LowRankMultivariateNormal", seed=5)
    dense = [{"loc": x["loc"], "scale_tril": TORCH["LowRankMultivariateNormal"](**x).scale_tril} for x in (p, q)]
    for name in ("kl", "reverse_kl", "cross_entropy", "wasserstein2"):
        low_rank = entry_of(name, "LowRankMultivariateNormal", "LowRankMultivariateNormal")
        torch.testing.assert_close(
            value_of(low_rank, p, q), value_of(entry_of(name, "MultivariateNormal", "MultivariateNormal"), *dense)
        )


@pytest.mark.parametrize("family", ["Categorical", "OneHotCategorical", "Bernoulli"])
def test_temperature_is_hintons(family: str):
    p, q = random_pair("cross_entropy", family, family, seed=6)
    entry = entry_of("cross_entropy", family, family)
    softened = [{"logits": x["logits"] / 3} for x in (p, q)]
    torch.testing.assert_close(value_of(entry, p, q, temperature=3.0), 9 * value_of(entry, *softened))
    torch.testing.assert_close(value_of(entry, p, q, temperature=1.0), value_of(entry, p, q))


def test_log_laws_share_the_kl_of_their_logarithms():
    """One bijection on both sides changes no f-divergence: exp of a normal, -log of a Weibull."""
    p, q = random_pair("kl", "Weibull", "Weibull", seed=7)
    gumbels = [{"loc": -x["scale"].log(), "scale": 1 / x["concentration"]} for x in (p, q)]
    torch.testing.assert_close(
        value_of(entry_of("kl", "Weibull", "Weibull"), p, q), value_of(entry_of("kl", "Gumbel", "Gumbel"), *gumbels)
    )


# --- at equality, off the support, at the ends -------------------------------------------------------


# There a divergence of 0 lies at the edge of where it is finite, and has a one-sided slope.
EDGES = {"Uniform": ("low", "high"), "Pareto": ("scale",), "AffineBeta": ("loc", "scale")}
WHOLE = ("total_count", "dim", "d")


@pytest.mark.parametrize(("name", "family"), [pair for pair in SAME_FAMILY if pair[0] != "cross_entropy"])
def test_equal_parameters_give_zero_and_no_gradient(name: str, family: str):
    entry = entry_of(name, family, family)
    p = params(family, random_raw(family, batch=200, seed=8))
    q = mapped(lambda x: x.clone().requires_grad_(), p)
    value = value_of(entry, p, q)
    assert value.abs().max() <= 1e-12
    edges = EDGES.get(family, ()) if name in ("kl", "reverse_kl") else ()
    inner = [key for key in q if key not in (*edges, *WHOLE)]
    for gradient in torch.autograd.grad(value.sum(), [q[key] for key in inner]) if inner else ():
        assert gradient.abs().max() <= 1e-11
    single = mapped(Tensor.float, p)
    assert value_of(entry, single, single).abs().max() <= 1e-4


WITH_MATRICES = ("MultivariateNormal", "LowRankMultivariateNormal", "Wishart")
EXACT = [(n, f) for n, f in SAME_FAMILY if n != "cross_entropy" and f not in WITH_MATRICES]


@pytest.mark.parametrize(("name", "family"), EXACT)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equal_parameters_give_exactly_zero(name: str, family: str, dtype: torch.dtype):
    p = mapped(lambda x: x.to(dtype), params(family, random_raw(family, batch=500, seed=9)))
    assert (value_of(entry_of(name, family, family), p, p) == 0).all()


def random_raw(family: str, batch: int, seed: int) -> Tensor:
    generator = seeds.generator(seed)
    return torch.randn((batch, FAMILIES[family][0]), generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("name", ["kl", "reverse_kl", "js", "wasserstein2", "cross_entropy"])
@pytest.mark.parametrize("logit", [math.inf, -math.inf, 800.0, -800.0])
def test_certain_coins(name: str, logit: float):
    p = torch.tensor(logit, dtype=torch.float64)
    q = p.clone().requires_grad_()
    value = value_of(entry_of(name, "Bernoulli", "Bernoulli"), {"logits": p}, {"logits": q})
    assert value == 0
    assert torch.autograd.grad(value, q)[0] == 0


@pytest.mark.parametrize("name", ["kl", "js", "wasserstein2", "cross_entropy"])
def test_certain_teacher_uncertain_student(name: str):
    p = {"logits": torch.tensor([math.inf, -math.inf])}
    q = {"logits": torch.tensor([0.3, 0.3], requires_grad=True)}
    value = value_of(entry_of(name, "Bernoulli", "Bernoulli"), p, q)
    assert value.isfinite().all() and (value > 0).all()
    assert torch.autograd.grad(value.sum(), q["logits"])[0].isfinite().all()


@pytest.mark.parametrize("name", ["kl", "reverse_kl"])
def test_impossible_outcomes_are_infinitely_far(name: str):
    sure, fair = {"logits": torch.tensor(math.inf)}, {"logits": torch.tensor(0.0)}
    p, q = (fair, sure) if name == "kl" else (sure, fair)
    assert value_of(entry_of(name, "Bernoulli", "Bernoulli"), p, q) == math.inf
    assert value_of(entry_of(name, "Bernoulli", "Bernoulli"), q, p).isclose(torch.tensor(math.log(2)))


@pytest.mark.parametrize(("name", "family"), [(n, f) for n, f in SAME_FAMILY if "Categorical" in f])
def test_excluded_classes(name: str, family: str):
    """Classes that both exclude change nothing; the loss and its gradient are those of the rest."""
    entry = entry_of(name, family, family)
    p = torch.tensor([0.5, -math.inf, -1.0, 2.0], dtype=torch.float64)
    q = torch.tensor([0.1, -math.inf, 1.0, -0.5], dtype=torch.float64, requires_grad=True)
    rest = torch.tensor([0, 2, 3])
    value = value_of(entry, {"logits": p}, {"logits": q})
    expected = value_of(entry, {"logits": p[rest]}, {"logits": q[rest]})
    torch.testing.assert_close(value, expected)
    (gradient,) = torch.autograd.grad(value, q)
    (expected_gradient,) = torch.autograd.grad(expected, q)
    torch.testing.assert_close(gradient, expected_gradient)
    if name != "cross_entropy":
        assert value_of(entry, {"logits": p}, {"logits": p}) == 0


@pytest.mark.parametrize("name", ["kl", "js", "cross_entropy"])
def test_classes_that_only_the_teacher_excludes(name: str):
    p = {"logits": torch.tensor([0.0, -math.inf, 0.0])}
    q = {"logits": torch.tensor([0.0, 1.0, 0.0], requires_grad=True)}
    value = value_of(entry_of(name, "Categorical", "Categorical"), p, q)
    assert value.isfinite()
    assert torch.autograd.grad(value, q["logits"])[0].isfinite().all()
    if name == "js":
        assert value.isclose(value_of(entry_of(name, "Categorical", "Categorical"), q, p))
    else:
        assert value_of(entry_of(name, "Categorical", "Categorical"), q, p) == math.inf


@pytest.mark.parametrize("name", ["kl", "cross_entropy"])
def test_a_support_that_is_not_covered_is_infinitely_far(name: str):
    wide, narrow = {"low": 0.0, "high": 2.0}, {"low": 0.5, "high": 1.0}
    assert value_of(entry_of(name, "Uniform", "Uniform"), wide, narrow) == math.inf
    assert value_of(entry_of(name, "Uniform", "Uniform"), narrow, wide).isfinite()
    early, late = {"scale": 1.0, "alpha": 3.0}, {"scale": 2.0, "alpha": 3.0}
    assert value_of(entry_of(name, "Pareto", "Pareto"), early, late) == math.inf
    assert value_of(entry_of(name, "Pareto", "Pareto"), late, early).isfinite()


def test_the_gradient_is_finite_beside_infinite_elements():
    high = torch.tensor([0.5, 3.0], requires_grad=True)
    value = value_of(entry_of("kl", "Uniform", "Uniform"), {"low": 0.0, "high": 1.0}, {"low": -1.0, "high": high})
    assert value.tolist()[0] == math.inf
    assert torch.autograd.grad(value[1], high)[0].isfinite().all()


@pytest.mark.parametrize("logit", [-100.0, -28.0, 28.0, 100.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_binomials_of_other_totals_that_are_all_but_certain(logit: float, dtype: torch.dtype):
    """Of a count that is 0 or 7, what q gives it is all that matters."""
    p_total, p_logits, q_logits = (torch.tensor(x, dtype=dtype) for x in (7.0, logit, 0.3))
    for q_total in (7.0, 9.0):
        arguments = p_total, p_logits, torch.tensor(q_total, dtype=dtype), q_logits
        found = entry_of("kl", "Binomial", "Binomial").formula.function(*arguments)
        count = 0.0 if logit < 0 else 7.0
        expected = -stats.binom(q_total, scipy.special.expit(0.3)).logpmf(count)
        assert found.item() == pytest.approx(expected, rel=1e-5)


def test_a_gumbel_far_from_0_in_its_own_scale():
    """e^(loc / scale) and what it multiplies are out of range, and not their product."""
    p = {"concentration": torch.tensor(300.0), "rate": torch.tensor(1.0)}
    q = {"loc": torch.tensor(100.0), "scale": torch.tensor(1.0)}
    entry = entry_of("kl", "Gamma", "Gumbel")
    single, double = (
        value_of(entry, mapped(lambda x, d=d: x.to(d), p), mapped(lambda x, d=d: x.to(d), q))
        for d in (torch.float32, torch.float64)
    )
    torch.testing.assert_close(single.double(), double, rtol=1e-4, atol=0.0)


@pytest.mark.parametrize("as_number", [int, torch.tensor])
def test_binomials_of_other_totals(as_number: Callable[[int], Any]):
    logits = torch.tensor([-4.0, 0.3, 2.0], dtype=torch.float64)
    entry = entry_of("kl", "Binomial", "Binomial")

    def kl(p_total: int, q_total: int) -> Tensor:
        p = {"total_count": as_number(p_total), "logits": logits}
        return value_of(entry, p, {"total_count": as_number(q_total), "logits": 0.5 - logits})

    assert (kl(5, 4) == math.inf).all()
    for p_total, q_total in ((5, 5), (0, 3), (1, 2), (5, 8), (30, 3000)):
        counts = np.arange(p_total + 1)
        log_p = [stats.binom(p_total, scipy.special.expit(float(x))).logpmf(counts) for x in logits]
        log_q = [stats.binom(q_total, scipy.special.expit(0.5 - float(x))).logpmf(counts) for x in logits]
        expected = [_relative_entropy(*pair) for pair in zip(log_p, log_q, strict=True)]
        torch.testing.assert_close(kl(p_total, q_total), torch.tensor(expected, dtype=torch.float64))


def test_equal_numbers_spare_the_integrals():
    p, q = random_pair("kl", "Beta", "Beta", seed=18)
    ends = {"loc": torch.tensor(-1.0).double(), "scale": torch.tensor(3.0).double()}
    numbers = {"loc": -1.0, "scale": 3.0}
    entry = entry_of("kl", "AffineBeta", "AffineBeta")
    torch.testing.assert_close(
        value_of(entry, {**p, **ends}, {**q, **ends}), value_of(entry, {**p, **numbers}, {**q, **numbers})
    )
    p, q = ({"logits": x["concentration1"].log()} for x in (p, q))
    for family in ("Binomial", "NegativeBinomial"):
        of_tensors, of_numbers = (
            value_of(entry_of("kl", family, family), {**p, "total_count": total}, {**q, "total_count": total})
            for total in (torch.tensor(TOTAL), TOTAL)
        )
        torch.testing.assert_close(of_tensors, of_numbers)


def test_multinomials_of_other_totals_exclude_each_other():
    logits = torch.zeros(3)
    entry = entry_of("kl", "Multinomial", "Multinomial")
    p, q = {"total_count": 5, "logits": logits}, {"total_count": 4, "logits": logits}
    assert value_of(entry, p, q) == value_of(entry, q, p) == math.inf


def test_pareto_without_variance_is_infinitely_far_unless_equal():
    entry = entry_of("wasserstein2", "Pareto", "Pareto")
    p = {"scale": torch.tensor([1.0, 1.0, 1.0]), "alpha": torch.tensor([1.5, 1.5, 3.0])}
    q = {"scale": torch.tensor([1.0, 1.0, 1.0]), "alpha": torch.tensor([1.5, 3.0, 1.5], requires_grad=True)}
    value = value_of(entry, p, q)
    assert value.tolist() == [0, math.inf, math.inf]
    assert torch.autograd.grad(value[0], q["alpha"])[0].tolist() == [0, 0, 0]


# --- gradients, numbers, shapes ----------------------------------------------------------------------


@pytest.mark.parametrize(("name", "p_family", "q_family"), ENTRIES)
def test_gradients(name: str, p_family: str, q_family: str):
    entry = entry_of(name, p_family, q_family)
    p, q = random_pair(name, p_family, q_family, batch=2, seed=10)
    arguments = entry.arguments(*(mapped(lambda x: x.requires_grad_(bool((x != TOTAL).all())), x) for x in (p, q)))
    assert torch.autograd.gradcheck(entry.formula.function, arguments)


@pytest.mark.parametrize(("name", "family"), [(n, f) for n, f in SAME_FAMILY if f in SCIPY or f in FINITE[:1]])
def test_parameters_may_be_numbers(name: str, family: str):
    entry = entry_of(name, family, family)
    arguments = [value[0] for value in entry.arguments(*random_pair(name, family, family, seed=11))]
    expected = entry.formula.function(*arguments)
    numbers = [float(value) for value in arguments]
    for i in range(len(arguments)):
        one = [*arguments[:i], numbers[i], *arguments[i + 1 :]]
        torch.testing.assert_close(entry.formula.function(*one), expected, rtol=1e-14, atol=0)
        rest = [*numbers[:i], arguments[i], *numbers[i + 1 :]]
        torch.testing.assert_close(entry.formula.function(*rest), expected, rtol=1e-14, atol=0)
    torch.testing.assert_close(entry.formula.function(*numbers).double(), expected, rtol=1e-4, atol=1e-5)


def test_independent_normals_may_have_plain_numbers_beside_a_multivariate_one():
    p, _ = random_pair("kl", "MultivariateNormal", "MultivariateNormal")
    q = {"loc": torch.zeros(D, dtype=torch.float64), "scale": torch.full((D,), 0.1, dtype=torch.float64)}
    for name in ("kl", "reverse_kl"):
        entry = entry_of(name, "MultivariateNormal", "Normal")
        torch.testing.assert_close(value_of(entry, p, {"loc": 0.0, "scale": 0.1}), value_of(entry, p, q))


@pytest.mark.parametrize(("name", "p_family", "q_family"), ENTRIES)
def test_single_precision_stays_and_agrees(name: str, p_family: str, q_family: str):
    entry = entry_of(name, p_family, q_family)
    arguments = entry.arguments(*random_pair(name, p_family, q_family, batch=20, seed=14))
    value = entry.formula.function(*(x.float() if isinstance(x, Tensor) else x for x in arguments))
    assert value.dtype == torch.float32
    torch.testing.assert_close(value.double(), entry.formula.function(*arguments), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(("name", "p_family", "q_family"), ENTRIES)
def test_result_is_elementwise_over_broadcast_batches(name: str, p_family: str, q_family: str):
    entry = entry_of(name, p_family, q_family)
    p, q = random_pair(name, p_family, q_family, batch=1, seed=12)
    expected = value_of(entry, p, q)
    assert expected.shape == (1,)
    wide_p = mapped(lambda x: x.expand(5, *x.shape[1:]), p)
    wide_q = mapped(lambda x: x.unsqueeze(0).expand(3, *x.shape), q)
    value = value_of(entry, wide_p, wide_q)
    assert value.shape == (3, 5)
    torch.testing.assert_close(value, expected.expand(3, 5))


@pytest.mark.parametrize(("name", "p_family", "q_family"), ENTRIES)
def test_maps_over_batches(name: str, p_family: str, q_family: str):
    entry = entry_of(name, p_family, q_family)
    arguments = entry.arguments(*random_pair(name, p_family, q_family, seed=16))
    in_dims = tuple(0 if isinstance(x, Tensor) else None for x in arguments)
    mapped_over = torch.vmap(entry.formula.function, in_dims=in_dims)(*arguments)
    torch.testing.assert_close(mapped_over, entry.formula.function(*arguments))


@pytest.mark.parametrize("family", ["StudentT", "NegativeBinomial", "Kumaraswamy", "Wishart"])
def test_is_one_graph_to_the_compiler(family: str):
    entry = entry_of("kl", family, family)
    arguments = entry.arguments(*random_pair("kl", family, family, seed=17))
    compiled = torch.compile(entry.formula.function, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(*arguments), entry.formula.function(*arguments))


# --- properties --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "p_family", "q_family"), PROPER)
def test_never_negative(name: str, p_family: str, q_family: str):
    """For parameters far apart, and for some that nearly or exactly agree."""
    generator = seeds.generator(15)
    raws: list[Tensor] = []
    for family in (p_family, q_family):
        size = raw_size(p_family, q_family, family)
        raws.append(8 * torch.rand((400, *size), generator=generator, dtype=torch.float64) - 4)
    if raws[0].shape == raws[1].shape:
        nearby = raws[0] + 1e-6 * raws[1]
        raws[1] = torch.where((torch.arange(400) < 200).reshape(-1, *(1,) * (raws[0].dim() - 1)), raws[1], nearby)
    p, q = finite_pair(name, p_family, q_family, *raws)
    entry = entry_of(name, p_family, q_family)
    value = value_of(entry, p, q)
    # Two numbers a, b that should be equal differ by their rounding, which grows with what was summed.
    magnitude = 1 + max(float(x.abs().max()) for x in (*p.values(), *q.values()) if isinstance(x, Tensor)) ** 2
    assert (value >= -1e-13 * magnitude * (magnitude if "LowRank" in p_family + q_family else 1)).all()
    if name == "js":
        assert (value <= math.log(2) * (1 + 1e-14)).all()
        torch.testing.assert_close(value, value_of(entry, q, p), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("family", [p for p, q in CLOSED_FORMS["wasserstein2"] if p == q])
def test_wasserstein2_is_symmetric(family: str):
    p, q = random_pair("wasserstein2", family, family, seed=13)
    entry = entry_of("wasserstein2", family, family)
    torch.testing.assert_close(value_of(entry, p, q), value_of(entry, q, p))


def test_estimators_stand_in_where_they_can():
    assert estimator("kl", "Logistic", "Logistic") is ESTIMATORS["kl"]
    assert estimator("kl", "Normal", "Laplace") is ESTIMATORS["kl"]
    assert estimator("kl", "Delta", "Delta") is None
    assert estimator("kl", "Normal", "Unheard") is None
    assert estimator("wasserstein2", "Geometric", "Geometric") is ESTIMATORS["wasserstein2"]
    assert estimator("wasserstein2", "Categorical", "Categorical") is None
    assert estimator("wasserstein2", "Cauchy", "Cauchy") is None
    with pytest.raises(KeyError):
        estimator("nonsense", "Normal", "Normal")
