"""KL(p || q), in nats: p is the teacher's distribution, q the student's.

Within a family written as sums of terms that are at least 0 and vanish at p = q, so that equal parameters
give 0 and rounding does not turn the result negative (coins alone may fall below 0 by a rounding error).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from dgmcompile.distill.divergences.entry import Divergence
from dgmcompile.distill.divergences.kl import (
    cross_families,
    directions,
    gammas,
    line,
    multivariate,
    outcomes,
    student_t,
)
from dgmcompile.ir.graph import Formula


def _entry(formula: Callable[..., Any], source: str, event_dim: int = 0) -> Divergence:
    return Divergence(Formula.of(formula), source, event_dim=event_dim)


_INTEGRAL = "the defining integral, in elementary functions"
_SUM = "the defining sum"
_BREGMAN = "exponential family: the Bregman divergence of its log-normaliser; Nielsen & Nock 2010, ICIP"
_MULTIVARIATE = "Duchi 2007, Derivations for Linear Algebra and Optimization, section 9"
_MOMENTS = "the defining integral, in moments of p"
_WAYS = "chain rule over the trials; E log Gamma by DLMF 5.9.19 and the trapezoid rule"

KL: dict[tuple[str, str], Divergence] = {
    # on the line and from 0 upwards
    ("Normal", "Normal"): _entry(line.kl_normal, _INTEGRAL),
    ("LogNormal", "LogNormal"): _entry(line.kl_normal, "invariance under exp"),
    ("HalfNormal", "HalfNormal"): _entry(line.kl_half_normal, "symmetry of Normal"),
    ("Laplace", "Laplace"): _entry(line.kl_laplace, _INTEGRAL),
    ("AsymmetricLaplace", "AsymmetricLaplace"): _entry(line.kl_asymmetric_laplace, _INTEGRAL),
    ("Cauchy", "Cauchy"): _entry(line.kl_cauchy, "Chyzak & Nielsen 2019, arXiv:1905.10965"),
    ("HalfCauchy", "HalfCauchy"): _entry(line.kl_half_cauchy, "symmetry of Cauchy"),
    ("StudentT", "StudentT"): _entry(student_t.kl_student_t, "trapezoid rule on a contour off the line"),
    ("Gumbel", "Gumbel"): _entry(line.kl_gumbel, "Bauckhage 2013, arXiv:1310.3713"),
    ("Weibull", "Weibull"): _entry(line.kl_weibull, "Bauckhage 2013, arXiv:1310.3713"),
    ("Uniform", "Uniform"): _entry(line.kl_uniform, _INTEGRAL),
    ("Exponential", "Exponential"): _entry(line.kl_exponential, _INTEGRAL),
    ("Pareto", "Pareto"): _entry(line.kl_pareto, _INTEGRAL),
    ("Kumaraswamy", "Kumaraswamy"): _entry(line.kl_kumaraswamy, f"{_INTEGRAL}; one part by the trapezoid rule"),
    ("ContinuousBernoulli", "ContinuousBernoulli"): _entry(line.kl_continuous_bernoulli, _BREGMAN),
    # with Gamma functions
    ("Gamma", "Gamma"): _entry(gammas.kl_gamma, _BREGMAN),
    ("InverseGamma", "InverseGamma"): _entry(gammas.kl_gamma, "invariance under 1 / x"),
    ("Chi2", "Chi2"): _entry(gammas.kl_chi2, _BREGMAN),
    ("Beta", "Beta"): _entry(gammas.kl_beta, _BREGMAN),
    ("AffineBeta", "AffineBeta"): _entry(gammas.kl_affine_beta, f"{_BREGMAN}; two parts by the trapezoid rule"),
    ("Dirichlet", "Dirichlet"): _entry(gammas.kl_dirichlet, _BREGMAN, event_dim=1),
    ("Wishart", "Wishart"): _entry(gammas.kl_wishart, _BREGMAN, event_dim=2),
    ("LKJ", "LKJ"): _entry(gammas.kl_lkj, _BREGMAN, event_dim=2),
    ("LKJCholesky", "LKJCholesky"): _entry(gammas.kl_lkj, _BREGMAN, event_dim=2),
    ("LKJCorrCholesky", "LKJCorrCholesky"): _entry(gammas.kl_lkj_corr_cholesky, _BREGMAN, event_dim=2),
    # vectors and directions
    ("MultivariateNormal", "MultivariateNormal"): _entry(multivariate.kl_multivariate_normal, _MULTIVARIATE, 1),
    ("MultivariateNormal", "Normal"): _entry(multivariate.kl_multivariate_normal_normal, _MULTIVARIATE, 1),
    ("Normal", "MultivariateNormal"): _entry(multivariate.kl_normal_multivariate_normal, _MULTIVARIATE, 1),
    ("LowRankMultivariateNormal", "LowRankMultivariateNormal"): _entry(
        multivariate.kl_low_rank_multivariate_normal, "the same, by Woodbury's identity", event_dim=1
    ),
    ("MultivariateNormal", "LowRankMultivariateNormal"): _entry(
        multivariate.kl_multivariate_normal_low_rank_multivariate_normal, _MULTIVARIATE, event_dim=1
    ),
    ("LowRankMultivariateNormal", "MultivariateNormal"): _entry(
        multivariate.kl_low_rank_multivariate_normal_multivariate_normal, _MULTIVARIATE, event_dim=1
    ),
    ("LogisticNormal", "LogisticNormal"): _entry(
        multivariate.kl_logistic_normal, "invariance under stick-breaking", event_dim=1
    ),
    ("VonMises", "VonMises"): _entry(directions.kl_von_mises, _BREGMAN),
    ("VonMises3D", "VonMises3D"): _entry(directions.kl_von_mises_3d, _BREGMAN, event_dim=1),
    # outcomes and counts
    ("Bernoulli", "Bernoulli"): _entry(outcomes.kl_bernoulli, _SUM),
    ("Geometric", "Geometric"): _entry(outcomes.kl_geometric, "chain rule over the trials"),
    ("Poisson", "Poisson"): _entry(outcomes.kl_poisson, _BREGMAN),
    ("Binomial", "Binomial"): _entry(outcomes.kl_binomial, _WAYS),
    ("NegativeBinomial", "NegativeBinomial"): _entry(outcomes.kl_negative_binomial, _WAYS),
    ("GammaPoisson", "GammaPoisson"): _entry(outcomes.kl_gamma_poisson, _WAYS),
    ("Multinomial", "Multinomial"): _entry(outcomes.kl_multinomial, "chain rule over the trials", event_dim=1),
    ("Categorical", "Categorical"): _entry(outcomes.kl_categorical, _SUM),
    ("OneHotCategorical", "OneHotCategorical"): _entry(outcomes.kl_categorical, _SUM, event_dim=1),
    ("OneOneMatching", "OneOneMatching"): _entry(outcomes.kl_one_one_matching, _SUM, event_dim=1),
    ("OneTwoMatching", "OneTwoMatching"): _entry(outcomes.kl_one_two_matching, _SUM, event_dim=1),
    ("OrderedLogistic", "OrderedLogistic"): _entry(outcomes.kl_ordered_logistic, _SUM),
    ("OrderedLogistic", "Categorical"): _entry(outcomes.kl_ordered_logistic_categorical, _SUM),
    ("Categorical", "OrderedLogistic"): _entry(outcomes.kl_categorical_ordered_logistic, _SUM),
    # two families
    ("Bernoulli", "Poisson"): _entry(outcomes.kl_bernoulli_poisson, _SUM),
    ("Beta", "ContinuousBernoulli"): _entry(cross_families.kl_beta_continuous_bernoulli, _MOMENTS),
    ("Beta", "Exponential"): _entry(cross_families.kl_beta_exponential, _MOMENTS),
    ("Beta", "Gamma"): _entry(cross_families.kl_beta_gamma, _MOMENTS),
    ("Beta", "Normal"): _entry(cross_families.kl_beta_normal, _MOMENTS),
    ("Beta", "Uniform"): _entry(cross_families.kl_beta_uniform, _MOMENTS),
    ("Chi2", "Gamma"): _entry(gammas.kl_chi2_gamma, _BREGMAN),
    ("ContinuousBernoulli", "Exponential"): _entry(cross_families.kl_continuous_bernoulli_exponential, _MOMENTS),
    ("ContinuousBernoulli", "Normal"): _entry(cross_families.kl_continuous_bernoulli_normal, _MOMENTS),
    ("ContinuousBernoulli", "Uniform"): _entry(cross_families.kl_continuous_bernoulli_uniform, _MOMENTS),
    ("Exponential", "Gamma"): _entry(gammas.kl_exponential_gamma, _BREGMAN),
    ("Exponential", "Gumbel"): _entry(cross_families.kl_exponential_gumbel, _MOMENTS),
    ("Exponential", "Normal"): _entry(cross_families.kl_exponential_normal, _MOMENTS),
    ("Gamma", "Chi2"): _entry(gammas.kl_gamma_chi2, _BREGMAN),
    ("Gamma", "Exponential"): _entry(gammas.kl_gamma_exponential, _BREGMAN),
    ("Gamma", "Gumbel"): _entry(cross_families.kl_gamma_gumbel, _MOMENTS),
    ("Gamma", "LogNormal"): _entry(cross_families.kl_gamma_log_normal, _MOMENTS),
    ("Gamma", "Normal"): _entry(cross_families.kl_gamma_normal, _MOMENTS),
    ("Gumbel", "Normal"): _entry(cross_families.kl_gumbel_normal, _MOMENTS),
    ("Laplace", "Normal"): _entry(cross_families.kl_laplace_normal, _MOMENTS),
    ("LogNormal", "Gamma"): _entry(cross_families.kl_log_normal_gamma, _MOMENTS),
    ("Normal", "Gumbel"): _entry(cross_families.kl_normal_gumbel, _MOMENTS),
    ("Normal", "Laplace"): _entry(cross_families.kl_normal_laplace, _MOMENTS),
    ("Pareto", "Exponential"): _entry(cross_families.kl_pareto_exponential, _MOMENTS),
    ("Pareto", "Gamma"): _entry(cross_families.kl_pareto_gamma, _MOMENTS),
    ("Pareto", "Normal"): _entry(cross_families.kl_pareto_normal, _MOMENTS),
    ("StudentT", "Normal"): _entry(student_t.kl_student_t_normal, _MOMENTS),
    ("Uniform", "Beta"): _entry(cross_families.kl_uniform_beta, _MOMENTS),
    ("Uniform", "ContinuousBernoulli"): _entry(cross_families.kl_uniform_continuous_bernoulli, _MOMENTS),
    ("Uniform", "Exponential"): _entry(cross_families.kl_uniform_exponential, _MOMENTS),
    ("Uniform", "Gamma"): _entry(cross_families.kl_uniform_gamma, _MOMENTS),
    ("Uniform", "Gumbel"): _entry(cross_families.kl_uniform_gumbel, _MOMENTS),
    ("Uniform", "Normal"): _entry(cross_families.kl_uniform_normal, _MOMENTS),
    ("Uniform", "Pareto"): _entry(cross_families.kl_uniform_pareto, _MOMENTS),
}

REVERSE_KL: dict[tuple[str, str], Divergence] = {
    **{(teacher, student): replace(entry, exchanged=True) for (student, teacher), entry in KL.items()},
    ("Bernoulli", "Bernoulli"): _entry(outcomes.reverse_kl_bernoulli, _SUM),
}
