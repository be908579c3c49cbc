"""Closed forms of the cross-entropy -E_p log q, in nats; p is the teacher's distribution, q the student's.

It is KL(p || q) and the teacher's entropy, which the student cannot change: at p = q it is not 0.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dgmcompile.distill.divergences.cross_entropy import classes, gammas, line, vectors
from dgmcompile.distill.divergences.entry import Divergence
from dgmcompile.ir.graph import Formula


def _entry(formula: Callable[..., Any], source: str, event_dim: int = 0) -> Divergence:
    return Divergence(Formula.of(formula), source, event_dim=event_dim)


_HINTON = "Hinton, Vinyals & Dean 2015, arXiv:1503.02531, section 2"
_INTEGRAL = "the defining integral, in elementary functions"
_MOMENTS = "the defining integral, in moments of p"
_WITH_ENTROPY = "KL and the entropy"

CROSS_ENTROPY: dict[tuple[str, str], Divergence] = {
    ("Bernoulli", "Bernoulli"): _entry(classes.cross_entropy_bernoulli, _HINTON),
    ("Categorical", "Categorical"): _entry(classes.cross_entropy_categorical, _HINTON),
    ("OneHotCategorical", "OneHotCategorical"): _entry(classes.cross_entropy_categorical, _HINTON, event_dim=1),
    ("OrderedLogistic", "OrderedLogistic"): _entry(classes.cross_entropy_ordered_logistic, "the defining sum"),
    ("Geometric", "Geometric"): _entry(classes.cross_entropy_geometric, "the defining sum"),
    ("Normal", "Normal"): _entry(line.cross_entropy_normal, _INTEGRAL),
    ("LogNormal", "LogNormal"): _entry(line.cross_entropy_log_normal, _INTEGRAL),
    ("HalfNormal", "HalfNormal"): _entry(line.cross_entropy_half_normal, _INTEGRAL),
    ("Laplace", "Laplace"): _entry(line.cross_entropy_laplace, _INTEGRAL),
    ("AsymmetricLaplace", "AsymmetricLaplace"): _entry(line.cross_entropy_asymmetric_laplace, _WITH_ENTROPY),
    ("Cauchy", "Cauchy"): _entry(line.cross_entropy_cauchy, "Chyzak & Nielsen 2019, arXiv:1905.10965"),
    ("HalfCauchy", "HalfCauchy"): _entry(line.cross_entropy_half_cauchy, "symmetry of Cauchy"),
    ("StudentT", "StudentT"): _entry(line.cross_entropy_student_t, _WITH_ENTROPY),
    ("Gumbel", "Gumbel"): _entry(line.cross_entropy_gumbel, _INTEGRAL),
    ("Weibull", "Weibull"): _entry(line.cross_entropy_weibull, "change of variables of Gumbel"),
    ("Uniform", "Uniform"): _entry(line.cross_entropy_uniform, _INTEGRAL),
    ("Exponential", "Exponential"): _entry(line.cross_entropy_exponential, _INTEGRAL),
    ("Pareto", "Pareto"): _entry(line.cross_entropy_pareto, _INTEGRAL),
    ("Kumaraswamy", "Kumaraswamy"): _entry(line.cross_entropy_kumaraswamy, _WITH_ENTROPY),
    ("ContinuousBernoulli", "ContinuousBernoulli"): _entry(line.cross_entropy_continuous_bernoulli, _MOMENTS),
    ("Gamma", "Gamma"): _entry(gammas.cross_entropy_gamma, _MOMENTS),
    ("InverseGamma", "InverseGamma"): _entry(gammas.cross_entropy_inverse_gamma, "change of variables of Gamma"),
    ("Chi2", "Chi2"): _entry(gammas.cross_entropy_chi2, _MOMENTS),
    ("Beta", "Beta"): _entry(gammas.cross_entropy_beta, _MOMENTS),
    ("AffineBeta", "AffineBeta"): _entry(gammas.cross_entropy_affine_beta, _WITH_ENTROPY),
    ("Dirichlet", "Dirichlet"): _entry(gammas.cross_entropy_dirichlet, _MOMENTS, event_dim=1),
    ("Wishart", "Wishart"): _entry(gammas.cross_entropy_wishart, _MOMENTS, event_dim=2),
    ("MultivariateNormal", "MultivariateNormal"): _entry(
        vectors.cross_entropy_multivariate_normal, _INTEGRAL, event_dim=1
    ),
    ("LowRankMultivariateNormal", "LowRankMultivariateNormal"): _entry(
        vectors.cross_entropy_low_rank_multivariate_normal, _INTEGRAL, event_dim=1
    ),
    ("VonMises", "VonMises"): _entry(vectors.cross_entropy_von_mises, _MOMENTS),
    ("VonMises3D", "VonMises3D"): _entry(vectors.cross_entropy_von_mises_3d, _MOMENTS, event_dim=1),
}
