"""Examples of the families whose transform is a formula in closed form, beside the first ones in test_families.py."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import special, stats

from tests.reparam.example import Example, Given


@dataclass(frozen=True)
class Law:
    """As much of a law as the tests ask of SciPy's."""

    cdf: Callable[[Any], Any]
    sf: Callable[[Any], Any]
    pdf: Callable[[Any], Any]

    def logpdf(self, x: Any) -> Any:
        return np.log(self.pdf(x))


def kumaraswamy(concentration1: float, concentration0: float) -> Law:
    a, b = concentration1, concentration0

    def log_sf(x: Any) -> Any:
        with np.errstate(divide="ignore"):
            return b * np.log1p(-(np.clip(x, 0, 1) ** a))

    return Law(
        cdf=lambda x: -np.expm1(log_sf(x)),
        sf=lambda x: np.exp(log_sf(x)),
        pdf=lambda x: a * b * x ** (a - 1) * (1 - x**a) ** (b - 1),
    )


def log_odds(probs: float | None, logits: float | None) -> float:
    return float(special.logit(probs)) if probs is not None else logits or 0.0


def continuous_bernoulli(probs: float | None = None, logits: float | None = None) -> Law:
    slope = log_odds(probs, logits)

    def cdf(x: Any, slope: float = slope) -> Any:
        x = np.clip(x, 0, 1)
        return np.expm1(slope * x) / np.expm1(slope) if slope else x

    return Law(
        cdf=cdf,
        sf=lambda x: cdf(1 - x, -slope),
        pdf=lambda x: np.exp(slope * x) / special.exprel(slope),
    )


def relaxed_bernoulli(temperature: float, probs: float | None = None, logits: float | None = None) -> Law:
    def z(x: Any) -> Any:
        with np.errstate(divide="ignore"):
            return temperature * special.logit(np.clip(x, 0, 1)) - log_odds(probs, logits)

    return Law(
        cdf=lambda x: special.expit(z(x)),
        sf=lambda x: special.expit(-z(x)),
        pdf=lambda x: temperature / (x * (1 - x)) * special.expit(z(x)) * special.expit(-z(x)),
    )


def asymmetric_laplace(loc: float, scale: float, asymmetry: float) -> Law:
    """SciPy's own overflows on the side that is not looked at."""
    below = asymmetry**2 / (1 + asymmetry**2)
    left: Any = stats.expon(scale=scale * asymmetry)
    right: Any = stats.expon(scale=scale / asymmetry)
    return Law(
        cdf=lambda x: below * left.sf(loc - x) + (1 - below) * right.cdf(x - loc),
        sf=lambda x: below * left.cdf(loc - x) + (1 - below) * right.sf(x - loc),
        pdf=lambda x: below * left.pdf(loc - x) + (1 - below) * right.pdf(x - loc),
    )


def soft_asymmetric_laplace(loc: float, scale: float, asymmetry: float, softness: float) -> Law:
    """A Normal less an Exponential or, else, plus one: mirrored and plain exponentially modified Gaussians."""
    spread = scale * softness
    right: Any = stats.exponnorm(1 / asymmetry / softness, scale=spread)
    left: Any = stats.exponnorm(asymmetry / softness, scale=spread)
    below = asymmetry**2 / (1 + asymmetry**2)
    return Law(
        cdf=lambda x: below * left.sf(loc - x) + (1 - below) * right.cdf(x - loc),
        sf=lambda x: below * left.cdf(loc - x) + (1 - below) * right.sf(x - loc),
        pdf=lambda x: below * left.pdf(loc - x) + (1 - below) * right.pdf(x - loc),
    )


def truncated_polya_gamma(prototype: object) -> Law:
    """A sum of exponentials of different rates, and an atom at 2.5."""
    rates = 2 * np.pi**2 * (np.arange(8) + 0.5) ** 2
    weights = [np.prod([other / (other - rate) for other in rates if other != rate]) for rate in rates]

    def sf(x: Any) -> Any:
        terms = [weight * np.exp(-rate * x) for weight, rate in zip(weights, rates, strict=True)]
        return np.where(x < 2.5, np.sum(terms, 0), 0.0)

    def pdf(x: Any) -> Any:
        return np.sum([w * rate * np.exp(-rate * x) for w, rate in zip(weights, rates, strict=True)], 0)

    return Law(cdf=lambda x: 1 - sf(x), sf=sf, pdf=pdf)


STRAIGHT_THROUGH = (
    "OneHotCategoricalStraightThrough",
    "RelaxedBernoulliStraightThrough",
    "RelaxedOneHotCategoricalStraightThrough",
)
"""Families whose own gradient is not the derivative of their value."""

CALLED_CONTINUOUS = ("OneOneMatching", "OneTwoMatching", *STRAIGHT_THROUGH[1:])
"""Families of which the library says that their support is not discrete, though their values are finitely many."""

LOC_SCALE = (
    {"loc": 0.0, "scale": 1.0},
    {"loc": -3.0, "scale": 0.01},
    {"loc": 50.0, "scale": 1e4},
)
TRIL = [[2.0, 0.0, 0.0], [-1.0, 0.5, 0.0], [0.3, 0.2, 1e-3]]
COVARIANCE = [[4.0, 1.2, -0.5], [1.2, 1.0, 0.1], [-0.5, 0.1, 2.0]]
LABELS: tuple[Given, ...] = (
    {"probs": [0.2, 0.5, 0.3]},
    {"logits": [-800.0, 0.0, 0.1]},
    {"logits": np.linspace(-3.0, 3.0, 40).tolist()},
)
COMPONENTS: Given = {
    "locs": [[0.0, 5.0], [1.0, -300.0], [-2.0, 0.1]],
    "coord_scale": [[1.0, 0.1], [0.01, 20.0], [3.0, 0.5]],
    "component_logits": [0.0, 1.0, -1.5],
}
FEW_COMPONENTS: Given = {"locs": [[0.0, 5.0]], "coord_scale": [[1.0, 0.1]], "component_logits": [0.3]}

EXAMPLES: dict[str, Example] = {
    "AVFMultivariateNormal": Example(
        None,
        (
            {"loc": [0.0, 1.0, -2.0], "scale_tril": TRIL, "control_var": [[[0.1, 0.2, 0.3]], [[0.0, 0.5, -1.0]]]},
            {"loc": [3.0], "scale_tril": [[1e-3]], "control_var": [[[0.1], [0.4]], [[0.2], [0.3]]]},
        ),
    ),
    "AsymmetricLaplace": Example(
        asymmetric_laplace,
        tuple({**given, "asymmetry": k} for given, k in zip(LOC_SCALE, (1.0, 0.05, 7.0), strict=True)),
    ),
    "CoalescentTimes": Example(
        None,
        (
            {"leaf_times": [0.3, 0.0, 1.5, 0.7, 0.71], "rate": 0.8},
            {"leaf_times": [2.0, 2.2, 1.9], "rate": 50.0},
            {"leaf_times": [-4.0, 9.0], "rate": 0.01},
        ),
    ),
    "CoalescentTimesWithRate": Example(
        None,
        (
            {"leaf_times": [0.3, 0.05, 2.5, 1.7, 1.71], "rate_grid": [0.3, 2.0, 0.7]},
            {"leaf_times": [7.5, -3.2, 6.4], "rate_grid": [5.0, 0.02, 1.0, 0.3]},
            {"leaf_times": [0.5, 0.2], "rate_grid": [3.0]},
        ),
    ),
    "ContinuousBernoulli": Example(
        continuous_bernoulli,
        (
            {"logits": 0},
            {"logits": 1e-3},
            {"logits": -0.07},
            {"probs": 0.9},
            {"probs": 1e-3},
            {"logits": 19.99},
            {"logits": 300.0},
            {"logits": -300.0},
        ),
    ),
    "Empirical": Example(
        None,
        (
            {"samples": [3.0, -1.0, 3.0, 0.5], "log_weights": [0.0, 1.0, -2.0, 0.3]},
            {"samples": [2.0], "log_weights": [-800.0]},
        ),
    ),
    "GaussianScaleMixture": Example(
        None,
        (
            {
                "coord_scale": [1.0, 0.2, 3.0],
                "component_logits": [0.0, 1.0, -1.5, 0.2],
                "component_scale": [1.0, 0.1, 7.0, 2.0],
            },
            {"coord_scale": [1.0, 1e4], "component_logits": [3.0], "component_scale": [0.5]},
        ),
    ),
    "GeneralizedPareto": Example(
        lambda loc, scale, concentration: stats.genpareto(concentration, loc, scale),
        (
            {"loc": 0.0, "scale": 1.0, "concentration": 0.0},
            {"loc": -3.0, "scale": 0.01, "concentration": 1e-5},
            {"loc": 0.0, "scale": 2.0, "concentration": 0.4},
            {"loc": 5.0, "scale": 2.0, "concentration": -1.0},
            {"loc": 0.0, "scale": 1.0, "concentration": -0.03},
        ),
    ),
    "GroupedNormalNormal": Example(
        None,
        (
            {
                "prior_loc": [0.0, 3.0, -1.0],
                "prior_scale": [1.0, 0.1, 2.0],
                "obs_scale": [0.5, 0.6, 7.0, 0.1, 1.0],
                "group_idx": [2, 0, 2, 1, 0],
            },
            {"prior_loc": [0.5], "prior_scale": [2.0], "obs_scale": [1.0, 1.0], "group_idx": [0, 0]},
        ),
        walked=False,
    ),
    "Kumaraswamy": Example(
        kumaraswamy,
        (
            {"concentration1": 1.0, "concentration0": 1.0},
            {"concentration1": 0.3, "concentration0": 5.0},
            {"concentration1": 4.0, "concentration0": 0.5},
            {"concentration1": 200.0, "concentration0": 300.0},
        ),
    ),
    "LogisticNormal": Example(
        None,
        (
            {"loc": [0.0, 1.0, -2.0], "scale": [1.0, 0.3, 2.0]},
            {"loc": [4.0], "scale": [0.01]},
        ),
    ),
    "MixtureOfDiagNormals": Example(None, (COMPONENTS, FEW_COMPONENTS)),
    "MixtureOfDiagNormalsSharedCovariance": Example(
        None, ({**COMPONENTS, "coord_scale": [0.3, 9.0]}, {**FEW_COMPONENTS, "coord_scale": [1e-3, 1.0]})
    ),
    "NanMaskedMultivariateNormal": Example(
        None,
        (
            {"loc": [0.0, 1.0, -2.0], "scale_tril": TRIL},
            {"loc": [0.0, 1.0, -2.0], "covariance_matrix": COVARIANCE},
            {"loc": [0.0, 1.0, -2.0], "precision_matrix": COVARIANCE},
        ),
    ),
    "NanMaskedNormal": Example(lambda loc, scale: stats.norm(loc, scale), LOC_SCALE),
    "OMTMultivariateNormal": Example(
        None, ({"loc": [0.0, 1.0, -2.0], "scale_tril": TRIL}, {"loc": [3.0], "scale_tril": [[1e-3]]})
    ),
    "OneHotCategoricalStraightThrough": Example(None, LABELS),
    "OneOneMatching": Example(
        None, ({"logits": [[0.0, 1.0, -0.5], [0.3, 0.0, 2.0], [-1.0, 0.2, 0.1]]}, {"logits": [[0.7]]})
    ),
    "OneTwoMatching": Example(
        None,
        (
            {"logits": [[0.0, 1.0], [0.3, 0.0], [-1.0, 0.2], [0.5, 0.5]]},
            {"logits": [[0.7], [0.1]]},
        ),
    ),
    "OrderedLogistic": Example(
        None,
        (
            {"predictor": 0.3, "cutpoints": [-2.0, 0.0, 0.1, 3.0]},
            {"predictor": -5.0, "cutpoints": [1.0]},
            {"predictor": 60.0, "cutpoints": [-3.0, 58.0, 61.0]},
        ),
    ),
    "ProjectedNormal": Example(
        None,
        (
            {"concentration": [0.0, 0.0]},
            {"concentration": [0.5, -1.0, 2.0]},
            {"concentration": [30.0, 0.0, 0.0, 3.0]},
        ),
    ),
    "RelaxedBernoulli": Example(
        relaxed_bernoulli,
        (
            {"temperature": 1.0, "probs": 0.5},
            {"temperature": 0.6, "logits": 2.0},
            {"temperature": 3.0, "probs": 1e-3},
        ),
    ),
    "RelaxedBernoulliStraightThrough": Example(
        lambda temperature, probs=None, logits=None: stats.bernoulli(special.expit(log_odds(probs, logits))),
        (
            {"temperature": 1.0, "probs": 0.5},
            {"temperature": 0.1, "logits": 2.0},
            {"temperature": 3.0, "probs": 1e-3},
        ),
    ),
    "RelaxedOneHotCategorical": Example(
        None,
        (
            {"temperature": 1.0, "probs": [0.2, 0.5, 0.3]},
            {"temperature": 0.3, "logits": [3.0, 0.0, -1.0, 0.5]},
            {"temperature": 5.0, "logits": [-20.0, 10.0]},
        ),
    ),
    "RelaxedOneHotCategoricalStraightThrough": Example(
        None, tuple({**given, "temperature": t} for given, t in zip(LABELS, (1.0, 0.2, 4.0), strict=True))
    ),
    "SkewLogistic": Example(
        lambda loc, scale, asymmetry: stats.genlogistic(asymmetry, loc, scale),
        tuple({**given, "asymmetry": a} for given, a in zip(LOC_SCALE, (1.0, 0.05, 40.0), strict=True)),
    ),
    "SoftAsymmetricLaplace": Example(
        soft_asymmetric_laplace,
        (
            {"loc": 0.0, "scale": 1.0, "asymmetry": 1.0, "softness": 1.0},
            {"loc": -3.0, "scale": 0.01, "asymmetry": 0.3, "softness": 0.2},
            {"loc": 50.0, "scale": 1e3, "asymmetry": 2.0, "softness": 5.0},
        ),
    ),
    "SoftLaplace": Example(lambda loc, scale: stats.hypsecant(loc, scale), LOC_SCALE),
    "Stable": Example(
        None,
        (
            {"stability": 1.5, "skew": 0.5, "scale": 2.0, "loc": -3.0, "coords": "S0"},
            {"stability": 1.5, "skew": 0.5, "scale": 2.0, "loc": -3.0, "coords": "S"},
            {"stability": 1.0, "skew": 0.7, "scale": 1.0, "loc": 0.0, "coords": "S0"},
            {"stability": 1.0002, "skew": -0.9, "scale": 0.1, "loc": 4.0, "coords": "S0"},
            {"stability": 0.6, "skew": 0.8, "scale": 1.0, "loc": 0.0, "coords": "S"},
            {"stability": 1.95, "skew": 0.0, "scale": 1e3, "loc": 50.0, "coords": "S0"},
        ),
    ),
    "StableWithLogProb": Example(
        None,
        (
            {"stability": 1.2, "skew": -0.3, "scale": 2.0, "loc": -3.0, "coords": "S0"},
            {"stability": 0.7, "skew": 0.3, "scale": 0.1, "loc": 1.0, "coords": "S"},
        ),
    ),
    "TruncatedPolyaGamma": Example(truncated_polya_gamma, ({"prototype": [0.0]}, {"prototype": [[1.0, 2.0]]})),
    "VonMises3D": Example(
        None,
        (
            {"concentration": [1.0, -2.0, 0.5]},
            {"concentration": [0.0, 0.0, -40.0]},
            {"concentration": [0.03, 0.0, 0.0]},
        ),
    ),
}
