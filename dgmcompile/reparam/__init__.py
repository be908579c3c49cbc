"""How each family is written as noise and a deterministic transform of it: three tables.

A new family is its entry in one of the files, its line here and its example in the tests.
"""

from __future__ import annotations

from dgmcompile.ir.graph import Formula
from dgmcompile.reparam.binomial import BINOMIAL
from dgmcompile.reparam.degenerate import DELTA
from dgmcompile.reparam.discrete import BERNOULLI, CATEGORICAL, GEOMETRIC, ONE_HOT_CATEGORICAL
from dgmcompile.reparam.inverse_cdf import EXPONENTIAL, HALF_CAUCHY, PARETO, WEIBULL
from dgmcompile.reparam.laws import STANDARD_EXPONENTIAL, STANDARD_NORMAL, STANDARD_UNIFORM
from dgmcompile.reparam.location_scale import (
    CAUCHY,
    GUMBEL,
    HALF_NORMAL,
    LAPLACE,
    LOG_NORMAL,
    LOGISTIC,
    NORMAL,
    UNIFORM,
)
from dgmcompile.reparam.multivariate import LOW_RANK_MULTIVARIATE_NORMAL, MULTIVARIATE_NORMAL
from dgmcompile.reparam.registry import NoiseLaw, NoiseSource, NoiseTransform, Registry, StepTransform
from dgmcompile.reparam.steps import (
    ABS,
    AFFINE,
    AFFINE_INVERSE,
    EXP,
    EXP_INVERSE,
    LOWER_CHOLESKY,
    POSITIVE_DEFINITE,
    POWER,
    POWER_INVERSE,
    SIGMOID,
    SIGMOID_INVERSE,
    SOFTMAX,
    SOFTPLUS,
    SOFTPLUS_INVERSE,
    STICK_BREAKING,
    STICK_BREAKING_INVERSE,
    TANH,
    TANH_INVERSE,
)

__all__ = [
    "NOISE_LAWS",
    "NOISE_TRANSFORMS",
    "STEP_TRANSFORMS",
    "NoiseLaw",
    "NoiseSource",
    "NoiseTransform",
    "Registry",
    "StepTransform",
    "reparam_formulas",
]

NOISE_LAWS: Registry[NoiseLaw] = Registry(
    {
        "StandardNormal": STANDARD_NORMAL,
        "StandardExponential": STANDARD_EXPONENTIAL,
        "StandardUniform": STANDARD_UNIFORM,
    }
)

NOISE_TRANSFORMS: Registry[NoiseTransform] = Registry(
    {
        "Bernoulli": BERNOULLI,
        "Binomial": BINOMIAL,
        "Categorical": CATEGORICAL,
        "Cauchy": CAUCHY,
        "Delta": DELTA,
        "Exponential": EXPONENTIAL,
        "Geometric": GEOMETRIC,
        "Gumbel": GUMBEL,
        "HalfCauchy": HALF_CAUCHY,
        "HalfNormal": HALF_NORMAL,
        "Laplace": LAPLACE,
        "LogNormal": LOG_NORMAL,
        "Logistic": LOGISTIC,
        "LowRankMultivariateNormal": LOW_RANK_MULTIVARIATE_NORMAL,
        "MultivariateNormal": MULTIVARIATE_NORMAL,
        "Normal": NORMAL,
        "OneHotCategorical": ONE_HOT_CATEGORICAL,
        "Pareto": PARETO,
        "Uniform": UNIFORM,
        "Weibull": WEIBULL,
    }
)

STEP_TRANSFORMS: Registry[StepTransform] = Registry(
    {
        "AbsTransform": ABS,
        "AffineTransform": AFFINE,
        "AffineTransform.inv": AFFINE_INVERSE,
        "ExpTransform": EXP,
        "ExpTransform.inv": EXP_INVERSE,
        "LowerCholeskyTransform": LOWER_CHOLESKY,
        "PositiveDefiniteTransform": POSITIVE_DEFINITE,
        "PowerTransform": POWER,
        "PowerTransform.inv": POWER_INVERSE,
        "SigmoidTransform": SIGMOID,
        "SigmoidTransform.inv": SIGMOID_INVERSE,
        "SoftmaxTransform": SOFTMAX,
        "SoftplusTransform": SOFTPLUS,
        "SoftplusTransform.inv": SOFTPLUS_INVERSE,
        "StickBreakingTransform": STICK_BREAKING,
        "StickBreakingTransform.inv": STICK_BREAKING_INVERSE,
        "TanhTransform": TANH,
        "TanhTransform.inv": TANH_INVERSE,
    }
)


def reparam_formulas() -> list[Formula]:
    """Every formula of the three tables."""
    families = [f for t in NOISE_TRANSFORMS for f in (t.forward, t.inverse, *_conversions(t))]
    steps = [f for t in STEP_TRANSFORMS for f in (t.forward, t.inverse, t.log_abs_det_jacobian)]
    return [formula for formula in (*families, *steps) if formula is not None]


def _conversions(transform: NoiseTransform) -> list[Formula]:
    return [formula for given in transform.conversions.values() for formula in given.values()]
