"""Divergences between a teacher's distribution ``p`` and a student's ``q``, looked up by their families.

A new one is a formula and its line in a table; importing a file registers nothing. `dgmcompile.registration`
alone adds to the tables, where users do.

``kl``             KL(p || q), the default
``reverse_kl``     KL(q || p)
``js``             Jensen-Shannon, at most log 2
``wasserstein2``   squared 2-Wasserstein distance
``cross_entropy``  -E_p log q; option ``temperature`` for classes
"""

from __future__ import annotations

from collections.abc import Mapping

from dgmcompile.distill.compositions import COMPOSED_LOG_PROBS
from dgmcompile.distill.divergences.cross_entropy import CROSS_ENTROPY
from dgmcompile.distill.divergences.entry import Divergence, Estimator, Term
from dgmcompile.distill.divergences.js import JS
from dgmcompile.distill.divergences.kl import KL, REVERSE_KL
from dgmcompile.distill.divergences.log_probs import LOG_PROBS, NO_LOG_PROBS
from dgmcompile.distill.divergences.monte_carlo import ESTIMATORS
from dgmcompile.distill.divergences.wasserstein import WASSERSTEIN2

__all__ = [
    "BIJECTION_INVARIANT",
    "CLOSED_FORMS",
    "COMONOTONE_FAMILIES",
    "DEFAULT",
    "ESTIMATORS",
    "LOG_PROBS",
    "MEASURES",
    "NAMES",
    "NO_LOG_PROBS",
    "SAME_LAW",
    "ZERO_AT_EQUALITY",
    "Divergence",
    "Estimator",
    "Term",
    "divergence",
    "estimator",
]

CLOSED_FORMS: Mapping[str, dict[tuple[str, str], Divergence]] = {
    "kl": KL,
    "reverse_kl": REVERSE_KL,
    "js": JS,
    "wasserstein2": WASSERSTEIN2,
    "cross_entropy": CROSS_ENTROPY,
}
"""Name -> (teacher's family, student's family) -> closed form."""

NAMES = tuple(CLOSED_FORMS)
DEFAULT = "kl"

ZERO_AT_EQUALITY = frozenset({"kl", "reverse_kl", "js", "wasserstein2"})
"""Divergences of which nothing is left where both laws are one; a cross-entropy is then the entropy."""

BIJECTION_INVARIANT = frozenset({"kl", "reverse_kl", "js"})
"""Divergences that one bijection applied to both sides leaves as they are.

So two transformed distributions with equal transforms have the divergence of their bases. Cross-entropy
gains E_p log |det| of the transform, a constant for the student; Wasserstein changes altogether.
"""

SAME_LAW: Mapping[str, str] = {
    "AVFMultivariateNormal": "MultivariateNormal",
    "ExtendedBinomial": "Binomial",
    "NanMaskedMultivariateNormal": "MultivariateNormal",
    "NanMaskedNormal": "Normal",
    "OMTMultivariateNormal": "MultivariateNormal",
    "OneHotCategoricalStraightThrough": "OneHotCategorical",
    "RelaxedBernoulliStraightThrough": "Bernoulli",
    "RelaxedOneHotCategoricalStraightThrough": "OneHotCategorical",
}
"""Family -> the one whose draws have the same law: they differ in gradients, or in what may be observed.

A straight-through draw is hard, whatever the temperature. Closed forms are looked up under the latter name.
"""

MEASURES: dict[str, str] = {
    **dict.fromkeys(
        (
            "Bernoulli",
            "BetaBinomial",
            "Binomial",
            "Categorical",
            "Delta",
            "DirichletMultinomial",
            "Empirical",
            "ExtendedBetaBinomial",
            "GammaPoisson",
            "Geometric",
            "LogNormalNegativeBinomial",
            "Multinomial",
            "NegativeBinomial",
            "OneHotCategorical",
            "OneOneMatching",
            "OneTwoMatching",
            "OrderedLogistic",
            "Poisson",
            "ZeroInflatedNegativeBinomial",
            "ZeroInflatedPoisson",
        ),
        "points",
    ),
    **dict.fromkeys(("Dirichlet", "LogisticNormal", "RelaxedOneHotCategorical"), "simplex"),
    **dict.fromkeys(("ProjectedNormal", "VonMises3D"), "sphere"),
    **dict.fromkeys(("LKJCholesky", "LKJCorrCholesky"), "Cholesky factors of correlation matrices"),
    **dict.fromkeys(("SineBivariateVonMises", "VonMises"), "angles"),
    "LKJ": "correlation matrices",
    "Wishart": "symmetric matrices",
}
"""Family -> what its density is per unit of, where that is not the volume. Others cannot be compared by densities."""

COMONOTONE_FAMILIES = frozenset(
    {
        "AffineBeta",
        "AsymmetricLaplace",
        "Bernoulli",
        "Beta",
        "Binomial",
        "Chi2",
        "ContinuousBernoulli",
        "Delta",
        "Exponential",
        "ExtendedBinomial",
        "Gamma",
        "GeneralizedPareto",
        "Geometric",
        "Gumbel",
        "HalfNormal",
        "InverseGamma",
        "Kumaraswamy",
        "Laplace",
        "LogNormal",
        "Logistic",
        "NanMaskedNormal",
        "Normal",
        "OrderedLogistic",
        "Pareto",
        "Poisson",
        "RelaxedBernoulli",
        "RelaxedBernoulliStraightThrough",
        "SkewLogistic",
        "SoftLaplace",
        "Uniform",
        "Weibull",
    }
)
"""Families on the line whose noise orders the values alike, whatever the parameters.

For two of one family the shared noise is then the best coupling, and ``coupled_wasserstein2`` is
unbiased; for others it would overestimate. Cauchy and HalfCauchy are ordered too, but at an infinite
distance. Values of counts and classes have no gradient.
"""


def divergence(name: str, p_family: str, q_family: str) -> Divergence | None:
    """The closed form of divergence ``name`` from teacher to student; None where there is none.

    Errors:
        KeyError: no divergence has this name (`NAMES`).
    """
    return CLOSED_FORMS[name].get((SAME_LAW.get(p_family, p_family), SAME_LAW.get(q_family, q_family)))


def estimator(name: str, p_family: str, q_family: str) -> Estimator | None:
    """The Monte-Carlo stand-in for divergence ``name``; None where these families admit none.

    Whether the densities of two laws can be compared is asked of these (`measures`). A shared noise tells the
    Wasserstein distance of two of one family in `COMONOTONE_FAMILIES` only. Families without an entry in
    `LOG_PROBS` get none, and points.
    Errors:
        KeyError: no divergence has this name (`NAMES`).
    """
    entry = ESTIMATORS[name]
    if "value" in entry.q_params:
        return entry if p_family == q_family and p_family in COMONOTONE_FAMILIES else None
    densities = {*LOG_PROBS, *COMPOSED_LOG_PROBS} - {"Delta"}
    if not {p_family, q_family} <= densities:
        return None
    return entry
