"""Closed forms of vectors, directions and matrices, of heavy tails, and of families that share one law."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor
from torch import distributions as td

from dgmcompile.distill.divergences import (
    CLOSED_FORMS,
    LOG_PROBS,
    SAME_LAW,
    divergence,
)
from dgmcompile.distill.measures import are_comparable
from dgmcompile.ir.graph import Graph, Law
from tests import seeds


def double(*values: Any) -> list[Tensor]:
    return [torch.as_tensor(value, dtype=torch.float64) for value in values]


def closed(name: str, family: str, *arguments: Any) -> Tensor:
    entry = divergence(name, family, family)
    assert entry is not None
    return entry.formula.function(*arguments)


def log_prob(family: str, value: Any, *params: Any) -> np.ndarray:
    return LOG_PROBS[family].function(torch.as_tensor(value), *params).numpy()


# --- angles and directions ---------------------------------------------------------------------------


@pytest.mark.parametrize("p", [(0.3, 0.01), (2.0, 3.0), (-1.0, 400.0)])
@pytest.mark.parametrize("q", [(0.3, 0.01), (-7.0, 5.0), (-1.1, 900.0)])
def test_angles(p: tuple[float, float], q: tuple[float, float]):
    x = torch.linspace(-math.pi, math.pi, 4001, dtype=torch.float64)[:-1]
    log_p, log_q = (log_prob("VonMises", x, *double(*law)) for law in (p, q))
    mass = np.exp(log_p) * (2 * math.pi / 4000)
    assert closed("kl", "VonMises", *double(*p, *q)).item() == pytest.approx((mass * (log_p - log_q)).sum(), rel=1e-9)
    found = closed("cross_entropy", "VonMises", *double(*p, *q))
    assert found.item() == pytest.approx(-(mass * log_q).sum(), rel=1e-9)


@pytest.mark.parametrize("p", [(0.0, 0.0, 0.0), (0.1, 0.0, 0.2), (3.0, -1.0, 40.0)])
@pytest.mark.parametrize("q", [(0.0, 0.0, 0.0), (0.5, 1.0, -2.0), (6.0, 1.0, 30.0)])
def test_directions_in_space(p: tuple[float, ...], q: tuple[float, ...]):
    heights, weights = np.polynomial.legendre.leggauss(300)
    turns = 2 * math.pi * np.arange(64) / 64
    radii = np.sqrt(1 - heights**2)[:, None]
    value = np.stack([radii * np.cos(turns), radii * np.sin(turns), heights[:, None] + 0 * turns], -1)
    log_p, log_q = (log_prob("VonMises3D", value, *double(law)) for law in (p, q))
    mass = np.exp(log_p) * weights[:, None] * (2 * math.pi / 64)
    assert closed("kl", "VonMises3D", *double(p, q)).item() == pytest.approx((mass * (log_p - log_q)).sum(), abs=1e-9)
    found = closed("cross_entropy", "VonMises3D", *double(p, q))
    assert found.item() == pytest.approx(-(mass * log_q).sum(), abs=1e-9)


def test_the_gradient_at_no_direction():
    concentration = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    value = closed("kl", "VonMises3D", torch.ones(3, dtype=torch.float64), concentration)
    (gradient,) = torch.autograd.grad(value, concentration)
    mean = (1 / math.tanh(math.sqrt(3)) - 1 / math.sqrt(3)) / math.sqrt(3)
    torch.testing.assert_close(gradient, torch.full((3,), -mean, dtype=torch.float64))


# --- matrices ----------------------------------------------------------------------------------------


def test_wishart_agrees_with_torch_one_by_one():
    """In a batch torch's KL sums over the batch."""
    generator = seeds.generator(0)
    for size in (1, 2, 4):
        raw = torch.randn(2, size, size, generator=generator, dtype=torch.float64)
        p_tril, q_tril = raw.tril(-1) + raw.diagonal(0, -2, -1).exp().diag_embed()
        p_df, q_df = double(size + 0.3, size + 4.0)
        p, q = td.Wishart(p_df, scale_tril=p_tril), td.Wishart(q_df, scale_tril=q_tril)
        expected = td.kl_divergence(p, q).detach()
        torch.testing.assert_close(closed("kl", "Wishart", p_df, p_tril, q_df, q_tril), expected)
        found = closed("cross_entropy", "Wishart", p_df, p_tril, q_df, q_tril)
        torch.testing.assert_close(found, expected + p.entropy().detach())


def test_wishart_of_size_one_is_a_gamma():
    p_df, p_scale, q_df, q_scale = double(1.4, 0.7, 3.0, 2.0)
    found = closed("kl", "Wishart", p_df, p_scale.reshape(1, 1), q_df, q_scale.reshape(1, 1))
    expected = closed("kl", "Gamma", p_df / 2, 0.5 / p_scale**2, q_df / 2, 0.5 / q_scale**2)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("family", ["LKJ", "LKJCholesky", "LKJCorrCholesky"])
def test_correlations_of_size_two_are_a_beta(family: str):
    """(1 + r) / 2 ~ Beta(concentration, concentration)."""
    p, q = double([0.6, 1.0, 8.0], [2.0, 0.5, 9.0])
    torch.testing.assert_close(closed("kl", family, 2, p, 2, q), closed("kl", "Beta", p, p, q, q))


def test_correlations_are_independent_betas():
    """The partial ones of the vine: Beta(b, b) with b from concentration up in steps of 1 / 2."""
    p, q = double([0.6, 1.0, 8.0], [2.0, 0.5, 9.0])
    size = 5
    expected = torch.zeros(3, dtype=torch.float64)
    for depth in range(1, size):
        for _ in range(depth, size):
            shift = (size - 1 - depth) / 2
            expected += closed("kl", "Beta", p + shift, p + shift, q + shift, q + shift)
    torch.testing.assert_close(closed("kl", "LKJ", size, p, size, q), expected)


# --- vectors -----------------------------------------------------------------------------------------


def test_logistic_normals_are_normals():
    p_loc, q_loc = double([[0.3, 1.0, -2.0]], [[0.0, 2.0, 1.0]])
    p_scale, q_scale = double([[0.3, 1.0, 2.0]], [[1.0, 2.0, 0.4]])
    expected = td.kl_divergence(td.Normal(p_loc, p_scale), td.Normal(q_loc, q_scale)).sum(-1)
    torch.testing.assert_close(closed("kl", "LogisticNormal", p_loc, p_scale, q_loc, q_scale), expected)


def test_multinomials_are_sums_over_all_counts():
    p, q = double([0.3, -1.0, 0.5], [1.0, 0.2, -0.4])
    counts = np.array([(i, j, 4 - i - j) for i in range(5) for j in range(5 - i)], dtype=float)
    log_p, log_q = (stats.multinomial(4, torch.softmax(x, -1).numpy()).logpmf(counts) for x in (p, q))
    expected = (np.exp(log_p) * (log_p - log_q)).sum()
    assert closed("kl", "Multinomial", 4, p, torch.tensor(4), q).item() == pytest.approx(expected)


# --- heavy tails -------------------------------------------------------------------------------------


@pytest.mark.parametrize("df", [0.1, 0.7, 1.0, 5.0, 300.0])
@pytest.mark.parametrize(("q_df", "shift", "width"), [(0.3, 0.0, 1.0), (40.0, -3.0, 0.02), (2.0, 500.0, 30.0)])
def test_student_t_with_peaks_of_other_widths_elsewhere(df: float, q_df: float, shift: float, width: float):
    """By panels that shrink towards both peaks."""
    steps = np.concatenate([np.geomspace(1e-3, 1e3, 61), np.geomspace(1e3, 1e300, 1500)[1:]])
    ends = np.concatenate([center + sign * s * steps for center, s in ((0, 1), (shift, width)) for sign in (1, -1)])
    ends = np.unique(ends)[:, None]
    nodes, weights = np.polynomial.legendre.leggauss(20)
    halves = np.diff(ends, axis=0) / 2
    x, weights = ends[:-1] + halves * (nodes + 1), halves * weights
    p, q = (double(df, 0.0, 1.0), double(q_df, shift, width))
    log_p, log_q = (log_prob("StudentT", x, *law) for law in (p, q))
    expected = (np.exp(log_p + np.log(weights)) * (log_p - log_q)).sum()
    assert closed("kl", "StudentT", *p, *q).item() == pytest.approx(expected, rel=1e-7)


def test_student_t_of_many_degrees_of_freedom_is_a_normal():
    for dtype in (torch.float32, torch.float64):
        df, p_loc, p_scale, q_loc, q_scale = (torch.tensor(x, dtype=dtype) for x in (1e6, 0.3, 1.0, 0.0, 1.2))
        found = closed("kl", "StudentT", df, p_loc, p_scale, df, q_loc, q_scale)
        torch.testing.assert_close(found, closed("kl", "Normal", p_loc, p_scale, q_loc, q_scale), rtol=1e-4, atol=0)


@pytest.mark.parametrize(("family", "infinite", "finite"), [("StudentT", [2.0, 0.0, 1.0], [2.1, 0.0, 1.0])])
def test_a_teacher_without_variance_is_infinitely_far_from_a_normal(
    family: str, infinite: list[float], finite: list[float]
):
    entry = CLOSED_FORMS["kl"][family, "Normal"]
    normal = double(0.0, 1.0)
    assert entry.formula.function(*double(*infinite), *normal) == math.inf
    assert entry.formula.function(*double(*finite), *normal).isfinite()


# --- one law, and laws that cannot be compared -------------------------------------------------------


def test_families_of_one_law_have_its_closed_forms():
    assert set(SAME_LAW) | set(SAME_LAW.values()) <= set(LOG_PROBS)
    for family, law in SAME_LAW.items():
        for name, table in CLOSED_FORMS.items():
            assert divergence(name, family, family) is table.get((law, law))
            assert divergence(name, family, "Gamma") is table.get((law, "Gamma"))
    assert divergence("kl", "OMTMultivariateNormal", "MultivariateNormal") is not None


@pytest.mark.parametrize(
    ("p_family", "q_family"),
    [
        ("Poisson", "Normal"),
        ("Bernoulli", "Beta"),
        ("RelaxedBernoulliStraightThrough", "RelaxedBernoulli"),
        ("Dirichlet", "MultivariateNormal"),
        ("ProjectedNormal", "Dirichlet"),
        ("LKJ", "LKJCholesky"),
        ("LKJ", "Wishart"),
    ],
)
def test_densities_per_unit_of_different_things_are_not_compared(p_family: str, q_family: str):
    p, q = Law(family=p_family, params={}), Law(family=q_family, params={})
    assert not are_comparable(p, q, Graph(())) and not are_comparable(q, p, Graph(()))


def test_densities_per_unit_of_one_thing_are_compared():
    for pair in (("Dirichlet", "LogisticNormal"), ("VonMises3D", "ProjectedNormal"), ("Poisson", "NegativeBinomial")):
        assert are_comparable(*(Law(family=family, params={}) for family in pair), Graph(()))
