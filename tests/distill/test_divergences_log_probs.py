"""Log-densities, against torch, Pyro and scipy."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pyro.distributions as dist
import pytest
import torch
from scipy import stats
from torch import Tensor

from dgmcompile.distill.divergences import LOG_PROBS

Params = dict[str, Tensor]
TOTAL, K, D, RANK, BATCH = 6, 4, 3, 2, 40


def _draws(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


LOC, SCALE, OTHER = 2 * _draws(0, BATCH), _draws(1, BATCH).exp(), _draws(2, BATCH).exp()
LOC_SCALE: Params = {"loc": LOC, "scale": SCALE}
EVENT_LOC = _draws(3, BATCH, D)
SCALE_TRIL = _draws(4, BATCH, D, D).tril(-1) + torch.diag_embed(_draws(5, BATCH, D).exp())
LOGITS = 3 * _draws(6, BATCH)
CLASS_LOGITS = 3 * _draws(7, BATCH, K)
REALS = torch.cat([torch.linspace(-30, 30, 61), torch.tensor([-1e4, -300.0, 300.0, 1e4])]).double().unsqueeze(-1)
POSITIVES = torch.logspace(-8, 4, 50, dtype=torch.float64).unsqueeze(-1)
COUNTS = torch.arange(TOTAL + 1, dtype=torch.float64).unsqueeze(-1)

# family -> (Pyro's distribution, parameters, values inside the support, values outside it)
EXAMPLES: dict[str, tuple[Callable[..., dist.TorchDistribution], Params, Tensor, Tensor]] = {
    "Normal": (dist.Normal, LOC_SCALE, REALS, torch.empty(0, 1)),
    "LogNormal": (dist.LogNormal, LOC_SCALE, POSITIVES, torch.tensor([[0.0], [-1.0]])),
    "HalfNormal": (dist.HalfNormal, {"scale": SCALE}, POSITIVES, torch.tensor([[-0.1]])),
    "Laplace": (dist.Laplace, LOC_SCALE, REALS, torch.empty(0, 1)),
    "Cauchy": (dist.Cauchy, LOC_SCALE, REALS, torch.empty(0, 1)),
    "HalfCauchy": (dist.HalfCauchy, {"scale": SCALE}, POSITIVES, torch.tensor([[-0.1]])),
    "Gumbel": (dist.Gumbel, LOC_SCALE, REALS[25:61], torch.empty(0, 1)),
    "Logistic": (dist.Logistic, LOC_SCALE, REALS, torch.empty(0, 1)),
    "Uniform": (
        dist.Uniform,
        {"low": LOC, "high": LOC + SCALE},
        LOC + SCALE * torch.tensor([[0.0], [0.3], [0.4], [0.5], [1 - 1e-9]], dtype=torch.float64),
        torch.stack([LOC - 1e-6, LOC + SCALE, LOC + 2 * SCALE]),
    ),
    "Exponential": (dist.Exponential, {"rate": SCALE}, POSITIVES, torch.tensor([[-1e-9]])),
    "Pareto": (
        dist.Pareto,
        {"scale": SCALE, "alpha": OTHER},
        SCALE * (1 + POSITIVES),
        torch.stack([0.5 * SCALE, -SCALE, 0 * SCALE]),
    ),
    "Weibull": (
        dist.Weibull,
        {"scale": SCALE, "concentration": OTHER},
        POSITIVES[:40],
        torch.tensor([[0.0], [-1.0]]),
    ),
    "MultivariateNormal": (
        lambda loc, scale_tril: dist.MultivariateNormal(loc, scale_tril=scale_tril),
        {"loc": EVENT_LOC, "scale_tril": SCALE_TRIL},
        torch.cat([_draws(8, 10, 1, D), torch.full((1, 1, D), 1e4)]),
        torch.empty(0, 1, D),
    ),
    "LowRankMultivariateNormal": (
        dist.LowRankMultivariateNormal,
        {"loc": EVENT_LOC, "cov_factor": _draws(9, BATCH, D, RANK), "cov_diag": _draws(10, BATCH, D).exp()},
        torch.cat([_draws(8, 10, 1, D), torch.full((1, 1, D), 100.0)]),
        torch.empty(0, 1, D),
    ),
    "Bernoulli": (
        lambda logits: dist.Bernoulli(logits=logits),
        {"logits": 20 * LOGITS},
        COUNTS[:2],
        torch.tensor([[0.5], [-1.0], [2.0]]),
    ),
    "Geometric": (
        lambda logits: dist.Geometric(logits=logits),
        {"logits": LOGITS},
        torch.tensor([[0.0], [1.0], [100.0], [1e6]]),
        torch.tensor([[-1.0], [0.5]]),
    ),
    "Binomial": (
        lambda total_count, logits: dist.Binomial(total_count, logits=logits),
        {"total_count": torch.full((BATCH,), float(TOTAL), dtype=torch.float64), "logits": 5 * LOGITS},
        COUNTS,
        torch.tensor([[-1.0], [0.5], [TOTAL + 1.0]]),
    ),
    "Categorical": (
        lambda logits: dist.Categorical(logits=logits),
        {"logits": CLASS_LOGITS},
        torch.arange(K).unsqueeze(-1),
        torch.tensor([[-1.0], [0.5], [float(K)]]),
    ),
    "OneHotCategorical": (
        lambda logits: dist.OneHotCategorical(logits=logits),
        {"logits": CLASS_LOGITS},
        torch.eye(K).unsqueeze(1),
        torch.tensor([[[1.0, 1, 0, 0]], [[0.5, 0.5, 0, 0]], [[0.0, 0, 0, 0]]]),
    ),
    "Delta": (dist.Delta, {"v": LOC}, LOC.unsqueeze(0), LOC.unsqueeze(0) + 1),
}
FAMILIES = list(LOG_PROBS)


def log_prob(family: str, value: Tensor) -> Tensor:
    return LOG_PROBS[family].function(value, *EXAMPLES[family][1].values())


def test_every_family_has_an_example():
    assert set(EXAMPLES) == set(LOG_PROBS)


@pytest.mark.parametrize("family", FAMILIES)
def test_agrees_with_pyro(family: str):
    law, params, inside, _ = EXAMPLES[family]
    expected = law(**params).log_prob(inside)
    assert expected.shape == (len(inside), BATCH)
    torch.testing.assert_close(log_prob(family, inside), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("family", "law"),
    [
        ("Weibull", lambda scale, concentration: stats.weibull_min(concentration, scale=scale)),
        ("Logistic", stats.logistic),
        ("Gumbel", stats.gumbel_r),
        ("LogNormal", lambda loc, scale: stats.lognorm(scale, scale=np.exp(loc))),
        ("HalfCauchy", lambda scale: stats.halfcauchy(scale=scale)),
    ],
)
def test_agrees_with_scipy(family: str, law: Callable[..., Any]):
    _, params, inside, _ = EXAMPLES[family]
    frozen = law(**{k: v.numpy() for k, v in params.items()})
    with np.errstate(over="ignore"):
        expected = torch.from_numpy(frozen.logpdf(inside.numpy()))
    seen = expected > -600  # below, scipy takes the logarithm of a density that underflows
    assert seen.sum() > 100
    torch.testing.assert_close(log_prob(family, inside)[seen], expected[seen], rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("family", FAMILIES)
def test_is_minus_infinity_outside_and_its_gradient_no_nan(family: str):
    _, params, inside, outside = EXAMPLES[family]
    differentiable = {k: v.clone().requires_grad_(k != "total_count") for k, v in params.items()}
    for values in (inside, outside):
        at = values.clone().requires_grad_() if values.is_floating_point() else values
        value = LOG_PROBS[family].function(at, *differentiable.values())
        assert value.shape == (len(values), BATCH)
        assert (value == -math.inf).all() if values is outside else value.isfinite().all()
        if not value.requires_grad:
            assert family == "Delta"
            continue
        wanted = [v for v in differentiable.values() if v.requires_grad]
        for gradient in torch.autograd.grad(value.sum(), wanted, allow_unused=True):
            assert gradient is None or gradient.isfinite().all()


@pytest.mark.parametrize("family", [f for f in FAMILIES if f != "Delta"])
def test_gradients(family: str):
    _, params, inside, _ = EXAMPLES[family]
    arguments = [v[:2].clone().requires_grad_(k != "total_count") for k, v in params.items()]
    middle = inside[len(inside) // 2 :][:2]
    value = middle[:, :2] if inside.shape[1] == BATCH else middle
    value = value.double() if value.is_floating_point() else value
    function = LOG_PROBS[family].function
    assert torch.autograd.gradcheck(lambda *args: function(value, *args), arguments)


@pytest.mark.parametrize("logit", [math.inf, -math.inf])
def test_certain_outcomes(logit: float):
    logits = torch.tensor(logit, requires_grad=True)
    sure = torch.tensor(float(logit > 0))
    for family, args, likely in (("Bernoulli", (logits,), sure), ("Binomial", (TOTAL, logits), TOTAL * sure)):
        value = LOG_PROBS[family].function(likely, *args)
        assert value == 0
        assert torch.autograd.grad(value, logits)[0].isfinite()
        assert LOG_PROBS[family].function(1 - sure, *args) == -math.inf


@pytest.mark.parametrize("family", ["Categorical", "OneHotCategorical"])
def test_excluded_classes(family: str):
    logits = torch.tensor([0.0, -math.inf, 0.0], requires_grad=True)
    values = torch.arange(3) if family == "Categorical" else torch.eye(3)
    value = LOG_PROBS[family].function(values, logits)
    torch.testing.assert_close(value, torch.tensor([0.5, 0.0, 0.5]).log())
    assert torch.autograd.grad(value[0], logits)[0].isfinite().all()


@pytest.mark.parametrize("family", [f for f in FAMILIES if "Categorical" not in f and "Multivariate" not in f])
def test_parameters_may_be_numbers(family: str):
    _, params, inside, _ = EXAMPLES[family]
    numbers = {k: float(v[0]) for k, v in params.items()}
    inside = inside[:, :1]
    torch.testing.assert_close(
        LOG_PROBS[family].function(inside.double(), *numbers.values()),
        LOG_PROBS[family].function(inside.double(), *(v[:1] for v in params.values())),
        rtol=1e-6,
        atol=1e-6,
    )


@pytest.mark.parametrize("family", [f for f in FAMILIES if f not in ("LowRankMultivariateNormal", "Delta")])
def test_not_a_number_is_not_hidden(family: str):
    """A draw that went wrong must not look like one outside the support, which estimates count as 0."""
    _, params, inside, _ = EXAMPLES[family]
    broken = {k: v if k == "total_count" else torch.full_like(v, math.nan) for k, v in params.items()}
    assert LOG_PROBS[family].function(inside, *broken.values()).isnan().all()


@pytest.mark.parametrize("family", FAMILIES)
def test_single_precision_stays(family: str):
    _, params, inside, _ = EXAMPLES[family]
    assert LOG_PROBS[family].function(inside.float(), *(v.float() for v in params.values())).dtype == torch.float32


@pytest.mark.parametrize("family", ["Bernoulli", "Geometric", "Binomial", "Categorical", "OneHotCategorical"])
@pytest.mark.parametrize("dtype", [torch.int64, torch.float32])
def test_counts_may_have_any_dtype(family: str, dtype: torch.dtype):
    _, params, inside, _ = EXAMPLES[family]
    inside = inside[:2]
    value = LOG_PROBS[family].function(inside.to(dtype), *params.values())
    torch.testing.assert_close(value, log_prob(family, inside))
