"""Log-densities: what Monte-Carlo estimates read, as plain torch functions of (value, *parameters).

Parameters come in the order of the registry. They are elementwise over batch dims, sum over the family's
own event dims, agree with torch and Pyro on the support wherever these are right, and are -inf outside
it. There the value is exchanged for one inside before anything is computed, so that no gradient is NaN.
A value that is NaN stays NaN. Surfaces (a simplex, a sphere) are as wide as rounding.
"""

from __future__ import annotations

from collections.abc import Mapping

from dgmcompile.distill.divergences.log_probs import (
    classes,
    counts,
    directions,
    half_line,
    interval,
    matchings,
    matrices,
    real_line,
    real_vectors,
    simplex,
    times,
)
from dgmcompile.ir.graph import Formula

LOG_PROBS: dict[str, Formula] = {
    # the line
    "Normal": Formula.of(real_line.log_prob_normal),
    "NanMaskedNormal": Formula.of(real_line.log_prob_nan_masked_normal),
    "Laplace": Formula.of(real_line.log_prob_laplace),
    "AsymmetricLaplace": Formula.of(real_line.log_prob_asymmetric_laplace),
    "SoftLaplace": Formula.of(real_line.log_prob_soft_laplace),
    "SoftAsymmetricLaplace": Formula.of(real_line.log_prob_soft_asymmetric_laplace),
    "Cauchy": Formula.of(real_line.log_prob_cauchy),
    "StudentT": Formula.of(real_line.log_prob_student_t),
    "Gumbel": Formula.of(real_line.log_prob_gumbel),
    "Logistic": Formula.of(real_line.log_prob_logistic),
    "SkewLogistic": Formula.of(real_line.log_prob_skew_logistic),
    "VonMises": Formula.of(real_line.log_prob_von_mises),
    # from one end upwards
    "LogNormal": Formula.of(half_line.log_prob_log_normal),
    "HalfNormal": Formula.of(half_line.log_prob_half_normal),
    "HalfCauchy": Formula.of(half_line.log_prob_half_cauchy),
    "Exponential": Formula.of(half_line.log_prob_exponential),
    "Gamma": Formula.of(half_line.log_prob_gamma),
    "Chi2": Formula.of(half_line.log_prob_chi2),
    "InverseGamma": Formula.of(half_line.log_prob_inverse_gamma),
    "FisherSnedecor": Formula.of(half_line.log_prob_fisher_snedecor),
    "Pareto": Formula.of(half_line.log_prob_pareto),
    "GeneralizedPareto": Formula.of(half_line.log_prob_generalized_pareto),
    "Weibull": Formula.of(half_line.log_prob_weibull),
    "TruncatedPolyaGamma": Formula.of(half_line.log_prob_truncated_polya_gamma),
    # between two ends
    "Uniform": Formula.of(interval.log_prob_uniform),
    "Beta": Formula.of(interval.log_prob_beta),
    "AffineBeta": Formula.of(interval.log_prob_affine_beta),
    "Kumaraswamy": Formula.of(interval.log_prob_kumaraswamy),
    "ContinuousBernoulli": Formula.of(interval.log_prob_continuous_bernoulli),
    "RelaxedBernoulli": Formula.of(interval.log_prob_relaxed_bernoulli),
    # vectors
    "MultivariateNormal": Formula.of(real_vectors.log_prob_multivariate_normal),
    "AVFMultivariateNormal": Formula.of(real_vectors.log_prob_avf_multivariate_normal),
    "OMTMultivariateNormal": Formula.of(real_vectors.log_prob_multivariate_normal),
    "NanMaskedMultivariateNormal": Formula.of(real_vectors.log_prob_nan_masked_multivariate_normal),
    "LowRankMultivariateNormal": Formula.of(real_vectors.log_prob_low_rank_multivariate_normal),
    "MultivariateStudentT": Formula.of(real_vectors.log_prob_multivariate_student_t),
    "MixtureOfDiagNormals": Formula.of(real_vectors.log_prob_mixture_of_diag_normals),
    "MixtureOfDiagNormalsSharedCovariance": Formula.of(real_vectors.log_prob_mixture_of_diag_normals_shared_covariance),
    "GaussianScaleMixture": Formula.of(real_vectors.log_prob_gaussian_scale_mixture),
    "GroupedNormalNormal": Formula.of(real_vectors.log_prob_grouped_normal_normal),
    # probabilities
    "Dirichlet": Formula.of(simplex.log_prob_dirichlet),
    "LogisticNormal": Formula.of(simplex.log_prob_logistic_normal),
    "RelaxedOneHotCategorical": Formula.of(simplex.log_prob_relaxed_one_hot_categorical),
    # directions
    "VonMises3D": Formula.of(directions.log_prob_von_mises_3d),
    "ProjectedNormal": Formula.of(directions.log_prob_projected_normal),
    "SineBivariateVonMises": Formula.of(directions.log_prob_sine_bivariate_von_mises),
    # times
    "CoalescentTimes": Formula.of(times.log_prob_coalescent_times),
    "CoalescentTimesWithRate": Formula.of(times.log_prob_coalescent_times_with_rate),
    # matrices
    "Wishart": Formula.of(matrices.log_prob_wishart),
    "LKJ": Formula.of(matrices.log_prob_lkj),
    "LKJCholesky": Formula.of(matrices.log_prob_lkj_cholesky),
    "LKJCorrCholesky": Formula.of(matrices.log_prob_lkj_corr_cholesky),
    # classes
    "Bernoulli": Formula.of(classes.log_prob_bernoulli),
    "Categorical": Formula.of(classes.log_prob_categorical),
    "OneHotCategorical": Formula.of(classes.log_prob_one_hot_categorical),
    "OneHotCategoricalStraightThrough": Formula.of(classes.log_prob_one_hot_categorical),
    "RelaxedBernoulliStraightThrough": Formula.of(classes.log_prob_relaxed_bernoulli_straight_through),
    "RelaxedOneHotCategoricalStraightThrough": Formula.of(
        classes.log_prob_relaxed_one_hot_categorical_straight_through
    ),
    "OrderedLogistic": Formula.of(classes.log_prob_ordered_logistic),
    "OneOneMatching": Formula.of(matchings.log_prob_one_one_matching),
    "OneTwoMatching": Formula.of(matchings.log_prob_one_two_matching),
    "Empirical": Formula.of(classes.log_prob_empirical),
    "Delta": Formula.of(classes.log_prob_delta),
    # counts
    "Geometric": Formula.of(counts.log_prob_geometric),
    "Poisson": Formula.of(counts.log_prob_poisson),
    "Binomial": Formula.of(counts.log_prob_binomial),
    "ExtendedBinomial": Formula.of(counts.log_prob_binomial),
    "NegativeBinomial": Formula.of(counts.log_prob_negative_binomial),
    "GammaPoisson": Formula.of(counts.log_prob_gamma_poisson),
    "BetaBinomial": Formula.of(counts.log_prob_beta_binomial),
    "ExtendedBetaBinomial": Formula.of(counts.log_prob_beta_binomial),
    "Multinomial": Formula.of(counts.log_prob_multinomial),
    "DirichletMultinomial": Formula.of(counts.log_prob_dirichlet_multinomial),
    "ZeroInflatedPoisson": Formula.of(counts.log_prob_zero_inflated_poisson),
    "ZeroInflatedNegativeBinomial": Formula.of(counts.log_prob_zero_inflated_negative_binomial),
    "LogNormalNegativeBinomial": Formula.of(counts.log_prob_log_normal_negative_binomial),
}

_STABLE = "its density is an integral, whose peak becomes too narrow for any fixed number of nodes"

NO_LOG_PROBS: Mapping[str, str] = {"Stable": _STABLE, "StableWithLogProb": _STABLE}
"""Families that are drawn, and have no log-density here -> why."""
