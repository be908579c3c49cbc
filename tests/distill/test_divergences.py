"""Closed forms: each against sums, integrals or optimal transport, and what holds of all of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import scipy.linalg
import scipy.optimize
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
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

Params = dict[str, Tensor]
K, D, RANK, TOTAL = 4, 3, 2, 7


def _scale_tril(raw: Tensor) -> Tensor:
    square = raw.reshape(*raw.shape[:-1], D, D)
    return square.tril(-1) + torch.diag_embed((square.diagonal(0, -2, -1) / 2).exp())


def _loc_scale(raw: Tensor) -> Params:
    return {"loc": raw[..., 0], "scale": (raw[..., 1] / 2).exp()}


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
    "MultivariateNormal": (D + D * D, lambda raw: {"loc": raw[..., :D], "scale_tril": _scale_tril(raw[..., D:])}),
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
}

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
}

FINITE = ("Bernoulli", "Categorical", "OneHotCategorical", "Binomial", "Geometric")
ENTRIES = [(name, *pair) for name, table in CLOSED_FORMS.items() for pair in table]
SAME_FAMILY = [(name, p) for name, p, q in ENTRIES if p == q]
PROPER = [(name, p, q) for name, p, q in ENTRIES if name != "cross_entropy"]


def entry_of(name: str, p_family: str, q_family: str) -> Divergence:
    entry = divergence(name, p_family, q_family)
    assert entry is not None
    return entry


def value_of(entry: Divergence, p: Mapping[str, Any], q: Mapping[str, Any], **options: float) -> Tensor:
    return entry.formula.function(*entry.arguments(p, q), **options)


def params(family: str, raw: Tensor) -> Params:
    return FAMILIES[family][1](raw)


def covering(family: str, p: Params, q: Params) -> Params:
    """``q``, widened where its support must hold that of ``p`` for the divergence to be finite."""
    if family == "Uniform":
        return {"low": torch.minimum(p["low"], q["low"]) - 0.1, "high": torch.maximum(p["high"], q["high"]) + 0.1}
    if family == "Pareto":
        return {"scale": 0.9 * torch.minimum(p["scale"], q["scale"]), "alpha": q["alpha"]}
    return q


def finite_pair(name: str, p_family: str, q_family: str, p_raw: Tensor, q_raw: Tensor) -> tuple[Params, Params]:
    p, q = params(p_family, p_raw), params(q_family, q_raw)
    if name in ("kl", "cross_entropy"):
        q = covering(q_family, p, q)
    if name == "reverse_kl":
        p = covering(p_family, q, p)
    return p, q


def raw_size(p_family: str, q_family: str, family: str) -> int | tuple[int, int]:
    """Independent normals against a multivariate one have one event dim of their own."""
    count = FAMILIES[family][0]
    return (D, count) if family == "Normal" and p_family != q_family else (count,)


def random_pair(name: str, p_family: str, q_family: str, batch: int = 5, seed: int = 0) -> tuple[Params, Params]:
    generator = torch.Generator().manual_seed(seed)
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


def expectation(law: Any, h: Callable[[np.ndarray], np.ndarray], kink: float | None = None) -> float:
    """E h(x), as an integral over quantiles from both ends; ``h`` may have a kink."""
    below, u_low = law.ppf, quantile_nodes(() if kink is None else (law.cdf(kink),))
    above, u_high = law.isf, quantile_nodes(() if kink is None else (law.sf(kink),))
    return sum(float((h(x(u)) * weight).sum()) for x, (u, weight) in ((below, u_low), (above, u_high)))


def frozen(family: str, p: Params, i: int) -> Any:
    return SCIPY[family](**{name: float(value[i]) for name, value in p.items()})


def classes(family: str, p: Params, i: int) -> np.ndarray:
    """The probability of each value, in order (of so many that the rest is below rounding)."""
    if family in ("Categorical", "OneHotCategorical"):
        return scipy.special.softmax(p["logits"][i].numpy())
    prob = scipy.special.expit(float(p["logits"][i]))
    laws = {"Bernoulli": stats.bernoulli(prob), "Binomial": stats.binom(TOTAL, prob), "Geometric": stats.geom(prob, -1)}
    size = {"Bernoulli": 2, "Binomial": TOTAL + 1, "Geometric": 300}[family]
    return laws[family].pmf(np.arange(size))


def oracle(name: str, family: str, p: Params, q: Params, i: int) -> float:
    """The divergence by summing or integrating what defines it."""
    if family in FINITE:
        return _discrete_oracle(name, family, classes(family, p, i), classes(family, q, i))
    a, b = frozen(family, p, i), frozen(family, q, i)
    p_kink, q_kink = (float(x["loc"][i]) if "loc" in x else None for x in (p, q))
    match name:
        case "kl":
            return expectation(a, lambda x: a.logpdf(x) - b.logpdf(x), q_kink)
        case "reverse_kl":
            return expectation(b, lambda x: b.logpdf(x) - a.logpdf(x), p_kink)
        case "cross_entropy":
            return expectation(a, lambda x: -b.logpdf(x), q_kink)
        case "js":

            def excess(x: np.ndarray, law: Any) -> np.ndarray:
                return law.logpdf(x) - np.logaddexp(a.logpdf(x), b.logpdf(x)) + math.log(2)

            return 0.5 * (expectation(a, lambda x: excess(x, a)) + expectation(b, lambda x: excess(x, b)))
        case _:
            u, weights = quantile_nodes()
            return float((((a.ppf(u) - b.ppf(u)) ** 2 + (a.isf(u) - b.isf(u)) ** 2) * weights).sum())


def _discrete_oracle(name: str, family: str, p: np.ndarray, q: np.ndarray) -> float:
    m = (p + q) / 2
    match name:
        case "kl":
            return scipy.special.rel_entr(p, q).sum()
        case "reverse_kl":
            return scipy.special.rel_entr(q, p).sum()
        case "cross_entropy":
            return -scipy.special.xlogy(p, q).sum()
        case "js":
            return 0.5 * (scipy.special.rel_entr(p, m) + scipy.special.rel_entr(q, m)).sum()
        case _:
            values = np.eye(len(p)) if family == "OneHotCategorical" else np.arange(len(p))[:, None]
            return _transport(p, q, ((values[:, None] - values[None]) ** 2).sum(-1))


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
    expected = [oracle(name, family, p, q, i) for i in range(6)]
    value = value_of(entry_of(name, family, family), p, q)
    torch.testing.assert_close(value, torch.tensor(expected, dtype=torch.float64), rtol=1e-7, atol=1e-9)


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


@pytest.mark.parametrize(("p_family", "q_family"), [pair for pair in CLOSED_FORMS["kl"] if set(pair) <= set(TORCH)])
def test_kl_agrees_with_torch(p_family: str, q_family: str):
    p, q = random_pair("kl", p_family, q_family, batch=50, seed=3)
    laws = [TORCH[family](**values) for family, values in ((p_family, p), (q_family, q))]
    if p_family != q_family:
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
EDGES = {"Uniform": ("low", "high"), "Pareto": ("scale",)}


@pytest.mark.parametrize(("name", "family"), [pair for pair in SAME_FAMILY if pair[0] != "cross_entropy"])
def test_equal_parameters_give_zero_and_no_gradient(name: str, family: str):
    entry = entry_of(name, family, family)
    p = params(family, random_raw(family, batch=200, seed=8))
    q = {key: value.clone().requires_grad_() for key, value in p.items()}
    value = value_of(entry, p, q)
    assert value.abs().max() <= 1e-12
    edges = EDGES.get(family, ()) if name in ("kl", "reverse_kl") else ()
    inner = [key for key in q if key not in (*edges, "total_count")]
    for gradient in torch.autograd.grad(value.sum(), [q[key] for key in inner]) if inner else ():
        assert gradient.abs().max() <= 1e-11
    single = {key: value.float() for key, value in p.items()}
    assert value_of(entry, single, single).abs().max() <= 1e-4


EXACT = [(n, f) for n, f in SAME_FAMILY if n != "cross_entropy" and "MultivariateNormal" not in f]


@pytest.mark.parametrize(("name", "family"), EXACT)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equal_parameters_give_exactly_zero(name: str, family: str, dtype: torch.dtype):
    p = {key: value.to(dtype) for key, value in params(family, random_raw(family, batch=500, seed=9)).items()}
    assert (value_of(entry_of(name, family, family), p, p) == 0).all()


def random_raw(family: str, batch: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
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


def test_binomials_of_other_totals():
    logits = torch.tensor(0.3)
    entry = entry_of("kl", "Binomial", "Binomial")

    def kl(p_total: int, q_total: int) -> Tensor:
        return value_of(entry, {"total_count": p_total, "logits": logits}, {"total_count": q_total, "logits": logits})

    assert kl(5, 4) == math.inf
    assert kl(5, 5) == 0
    assert kl(4, 5).isnan()


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
    arguments = [value.requires_grad_(bool((value != TOTAL).all())) for value in entry.arguments(p, q)]
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
    value = entry.formula.function(*(x.float() for x in arguments))
    assert value.dtype == torch.float32
    torch.testing.assert_close(value.double(), entry.formula.function(*arguments), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(("name", "p_family", "q_family"), ENTRIES)
def test_result_is_elementwise_over_broadcast_batches(name: str, p_family: str, q_family: str):
    entry = entry_of(name, p_family, q_family)
    p, q = random_pair(name, p_family, q_family, batch=1, seed=12)
    expected = value_of(entry, p, q)
    assert expected.shape == (1,)
    wide_p = {key: value.expand(5, *value.shape[1:]) for key, value in p.items()}
    wide_q = {key: value.unsqueeze(0).expand(3, *value.shape) for key, value in q.items()}
    value = value_of(entry, wide_p, wide_q)
    assert value.shape == (3, 5)
    torch.testing.assert_close(value, expected.expand(3, 5))


# --- properties --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "p_family", "q_family"), PROPER)
@settings(max_examples=25, deadline=None, derandomize=True)
@given(data=st.data())
def test_never_negative(name: str, p_family: str, q_family: str, data: st.DataObject):
    raws: list[Tensor] = []
    for family in (p_family, q_family):
        size = torch.Size(raw_size(p_family, q_family, family))
        numbers = st.lists(st.floats(-4, 4), min_size=size.numel(), max_size=size.numel())
        raws.append(torch.tensor(data.draw(numbers), dtype=torch.float64).reshape(size))
    p, q = finite_pair(name, p_family, q_family, *raws)
    entry = entry_of(name, p_family, q_family)
    value = value_of(entry, p, q)
    # Two numbers a, b that should be equal differ by their rounding, which grows with what was summed.
    magnitude = 1 + max(float(x.abs().max()) for x in (*p.values(), *q.values())) ** 2
    assert value >= -1e-13 * magnitude * (magnitude if "LowRank" in p_family else 1)
    if name == "js":
        assert value <= math.log(2) * (1 + 1e-14)
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
