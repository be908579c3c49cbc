"""How each family is written as noise and a deterministic transform of it: three tables.

A new family is its entry in one of the files, its line here and its example in the tests.
"""

from __future__ import annotations

from dgmcompile.ir.graph import Formula
from dgmcompile.reparam.asymmetric import ASYMMETRIC_LAPLACE, SKEW_LOGISTIC, SOFT_ASYMMETRIC_LAPLACE, SOFT_LAPLACE
from dgmcompile.reparam.beta import AFFINE_BETA, BETA, DIRICHLET
from dgmcompile.reparam.binomial import BINOMIAL
from dgmcompile.reparam.circular import SINE_BIVARIATE_VON_MISES, VON_MISES
from dgmcompile.reparam.coalescent import COALESCENT_TIMES, COALESCENT_TIMES_WITH_RATE
from dgmcompile.reparam.compositions import (
    FOLDED_DISTRIBUTION,
    MASKED_MIXTURE,
    MIXTURE_SAME_FAMILY,
    SINE_SKEWED,
    ZERO_INFLATED_DISTRIBUTION,
)
from dgmcompile.reparam.counts import (
    BETA_BINOMIAL,
    DIRICHLET_MULTINOMIAL,
    EXTENDED_BETA_BINOMIAL,
    EXTENDED_BINOMIAL,
    GAMMA_POISSON,
    LOG_NORMAL_NEGATIVE_BINOMIAL,
    MULTINOMIAL,
    NEGATIVE_BINOMIAL,
    POISSON,
    ZERO_INFLATED_NEGATIVE_BINOMIAL,
    ZERO_INFLATED_POISSON,
)
from dgmcompile.reparam.degenerate import DELTA
from dgmcompile.reparam.directions import PROJECTED_NORMAL, VON_MISES_3D
from dgmcompile.reparam.discrete import BERNOULLI, CATEGORICAL, GEOMETRIC, ONE_HOT_CATEGORICAL, ORDERED_LOGISTIC
from dgmcompile.reparam.gamma import CHI2, FISHER_SNEDECOR, GAMMA, INVERSE_GAMMA, MULTIVARIATE_STUDENT_T, STUDENT_T
from dgmcompile.reparam.hidden_markov import DISCRETE_HMM, GAMMA_GAUSSIAN_HMM, GAUSSIAN_HMM, INDEPENDENT_HMM, LINEAR_HMM
from dgmcompile.reparam.inverse_cdf import (
    CONTINUOUS_BERNOULLI,
    EXPONENTIAL,
    GENERALIZED_PARETO,
    HALF_CAUCHY,
    KUMARASWAMY,
    PARETO,
    WEIBULL,
)
from dgmcompile.reparam.laws import STANDARD_EXPONENTIAL, STANDARD_NORMAL, STANDARD_UNIFORM
from dgmcompile.reparam.location_scale import (
    CAUCHY,
    GUMBEL,
    HALF_NORMAL,
    LAPLACE,
    LOG_NORMAL,
    LOGISTIC,
    NAN_MASKED_NORMAL,
    NORMAL,
    UNIFORM,
)
from dgmcompile.reparam.markov_field import GAUSSIAN_MRF
from dgmcompile.reparam.matching import ONE_ONE_MATCHING, ONE_TWO_MATCHING
from dgmcompile.reparam.matrices import LKJ, LKJ_CHOLESKY, LKJ_CORR_CHOLESKY, WISHART
from dgmcompile.reparam.mixtures import (
    EMPIRICAL,
    GAUSSIAN_SCALE_MIXTURE,
    MIXTURE_OF_DIAG_NORMALS,
    MIXTURE_OF_DIAG_NORMALS_SHARED_COVARIANCE,
)
from dgmcompile.reparam.multivariate import (
    AVF_MULTIVARIATE_NORMAL,
    GROUPED_NORMAL_NORMAL,
    LOGISTIC_NORMAL,
    LOW_RANK_MULTIVARIATE_NORMAL,
    MULTIVARIATE_NORMAL,
    NAN_MASKED_MULTIVARIATE_NORMAL,
    OMT_MULTIVARIATE_NORMAL,
)
from dgmcompile.reparam.polya_gamma import TRUNCATED_POLYA_GAMMA
from dgmcompile.reparam.refused import REFUSED
from dgmcompile.reparam.registry import Composition, NoiseLaw, NoiseSource, NoiseTransform, Registry, StepTransform
from dgmcompile.reparam.relaxed import (
    ONE_HOT_CATEGORICAL_STRAIGHT_THROUGH,
    RELAXED_BERNOULLI,
    RELAXED_BERNOULLI_STRAIGHT_THROUGH,
    RELAXED_ONE_HOT_CATEGORICAL,
    RELAXED_ONE_HOT_CATEGORICAL_STRAIGHT_THROUGH,
)
from dgmcompile.reparam.stable import STABLE, STABLE_WITH_LOG_PROB
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
    "COMPOSITIONS",
    "NOISE_LAWS",
    "NOISE_TRANSFORMS",
    "REFUSED",
    "STEP_TRANSFORMS",
    "Composition",
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
        "AVFMultivariateNormal": AVF_MULTIVARIATE_NORMAL,
        "AffineBeta": AFFINE_BETA,
        "AsymmetricLaplace": ASYMMETRIC_LAPLACE,
        "Bernoulli": BERNOULLI,
        "Beta": BETA,
        "BetaBinomial": BETA_BINOMIAL,
        "Binomial": BINOMIAL,
        "Categorical": CATEGORICAL,
        "Cauchy": CAUCHY,
        "Chi2": CHI2,
        "CoalescentTimes": COALESCENT_TIMES,
        "CoalescentTimesWithRate": COALESCENT_TIMES_WITH_RATE,
        "ContinuousBernoulli": CONTINUOUS_BERNOULLI,
        "Delta": DELTA,
        "Dirichlet": DIRICHLET,
        "DirichletMultinomial": DIRICHLET_MULTINOMIAL,
        "Empirical": EMPIRICAL,
        "Exponential": EXPONENTIAL,
        "ExtendedBetaBinomial": EXTENDED_BETA_BINOMIAL,
        "ExtendedBinomial": EXTENDED_BINOMIAL,
        "FisherSnedecor": FISHER_SNEDECOR,
        "Gamma": GAMMA,
        "GammaPoisson": GAMMA_POISSON,
        "GaussianScaleMixture": GAUSSIAN_SCALE_MIXTURE,
        "GeneralizedPareto": GENERALIZED_PARETO,
        "Geometric": GEOMETRIC,
        "GroupedNormalNormal": GROUPED_NORMAL_NORMAL,
        "Gumbel": GUMBEL,
        "HalfCauchy": HALF_CAUCHY,
        "HalfNormal": HALF_NORMAL,
        "InverseGamma": INVERSE_GAMMA,
        "Kumaraswamy": KUMARASWAMY,
        "LKJ": LKJ,
        "LKJCholesky": LKJ_CHOLESKY,
        "LKJCorrCholesky": LKJ_CORR_CHOLESKY,
        "Laplace": LAPLACE,
        "LogNormal": LOG_NORMAL,
        "LogNormalNegativeBinomial": LOG_NORMAL_NEGATIVE_BINOMIAL,
        "Logistic": LOGISTIC,
        "LogisticNormal": LOGISTIC_NORMAL,
        "LowRankMultivariateNormal": LOW_RANK_MULTIVARIATE_NORMAL,
        "MixtureOfDiagNormals": MIXTURE_OF_DIAG_NORMALS,
        "MixtureOfDiagNormalsSharedCovariance": MIXTURE_OF_DIAG_NORMALS_SHARED_COVARIANCE,
        "Multinomial": MULTINOMIAL,
        "MultivariateNormal": MULTIVARIATE_NORMAL,
        "MultivariateStudentT": MULTIVARIATE_STUDENT_T,
        "NanMaskedMultivariateNormal": NAN_MASKED_MULTIVARIATE_NORMAL,
        "NanMaskedNormal": NAN_MASKED_NORMAL,
        "NegativeBinomial": NEGATIVE_BINOMIAL,
        "Normal": NORMAL,
        "OMTMultivariateNormal": OMT_MULTIVARIATE_NORMAL,
        "OneHotCategorical": ONE_HOT_CATEGORICAL,
        "OneHotCategoricalStraightThrough": ONE_HOT_CATEGORICAL_STRAIGHT_THROUGH,
        "OneOneMatching": ONE_ONE_MATCHING,
        "OneTwoMatching": ONE_TWO_MATCHING,
        "OrderedLogistic": ORDERED_LOGISTIC,
        "Pareto": PARETO,
        "Poisson": POISSON,
        "ProjectedNormal": PROJECTED_NORMAL,
        "RelaxedBernoulli": RELAXED_BERNOULLI,
        "RelaxedBernoulliStraightThrough": RELAXED_BERNOULLI_STRAIGHT_THROUGH,
        "RelaxedOneHotCategorical": RELAXED_ONE_HOT_CATEGORICAL,
        "RelaxedOneHotCategoricalStraightThrough": RELAXED_ONE_HOT_CATEGORICAL_STRAIGHT_THROUGH,
        "SineBivariateVonMises": SINE_BIVARIATE_VON_MISES,
        "SkewLogistic": SKEW_LOGISTIC,
        "SoftAsymmetricLaplace": SOFT_ASYMMETRIC_LAPLACE,
        "SoftLaplace": SOFT_LAPLACE,
        "Stable": STABLE,
        "StableWithLogProb": STABLE_WITH_LOG_PROB,
        "StudentT": STUDENT_T,
        "TruncatedPolyaGamma": TRUNCATED_POLYA_GAMMA,
        "Uniform": UNIFORM,
        "VonMises": VON_MISES,
        "VonMises3D": VON_MISES_3D,
        "Weibull": WEIBULL,
        "Wishart": WISHART,
        "ZeroInflatedNegativeBinomial": ZERO_INFLATED_NEGATIVE_BINOMIAL,
        "ZeroInflatedPoisson": ZERO_INFLATED_POISSON,
    }
)

COMPOSITIONS: Registry[Composition] = Registry(
    {
        "DiscreteHMM": DISCRETE_HMM,
        "FoldedDistribution": FOLDED_DISTRIBUTION,
        "GammaGaussianHMM": GAMMA_GAUSSIAN_HMM,
        "GaussianHMM": GAUSSIAN_HMM,
        "GaussianMRF": GAUSSIAN_MRF,
        "IndependentHMM": INDEPENDENT_HMM,
        "LinearHMM": LINEAR_HMM,
        "MaskedMixture": MASKED_MIXTURE,
        "MixtureSameFamily": MIXTURE_SAME_FAMILY,
        "SineSkewed": SINE_SKEWED,
        "ZeroInflatedDistribution": ZERO_INFLATED_DISTRIBUTION,
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
    families = [formula for transform in NOISE_TRANSFORMS for formula in _of_family(transform)]
    steps = [f for t in STEP_TRANSFORMS for f in (t.forward, t.inverse, t.log_abs_det_jacobian)]
    composed = [formula for composition in COMPOSITIONS for formula in composition.formulas]
    return [formula for formula in (*families, *composed, *steps) if formula is not None]


def _of_family(transform: NoiseTransform) -> list[Formula | None]:
    conversions = [formula for given in transform.conversions.values() for formula in given.values()]
    variants = [formula for variant in transform.variants.values() for formula in _of_family(variant)]
    return [transform.forward, transform.inverse, *conversions, *transform.gradients.values(), *variants]
