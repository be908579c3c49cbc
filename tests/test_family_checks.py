"""`dgm.check_family` passes what is right, and finds each thing that may be wrong."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pyro.distributions as dist
import pytest
import torch
from scipy import stats
from torch import Tensor

import dgmcompile as dgm
from dgmcompile.family_checks import CHECKS
from dgmcompile.family_checks.statistics import chi_square_limit, kolmogorov_smirnov
from dgmcompile.registration import preserved
from dgmcompile.reparam import NOISE_TRANSFORMS
from tests import seeds
from tests.own_families import (
    DICE,
    SHIFTED,
    TRIANGULAR,
    Dice,
    Shifted,
    Triangular,
    dice_from_noise,
    log_prob_triangular,
    triangular_cdf,
)

SETTINGS = ({"loc": 0.0, "scale": 1.0}, {"loc": -3.0, "width": 0.02})


@pytest.fixture(autouse=True)
def nothing_stays() -> Iterator[None]:
    with preserved():
        yield


def names(report: dgm.FamilyReport) -> set[str]:
    return {check.name for check in report.checks}


def failed(report: dgm.FamilyReport) -> set[str]:
    return {check.name for check in report.failed}


# -- what is right -----------------------------------------------------------------------------------------------------


def test_a_family_of_ones_own():
    dgm.register(Triangular, **TRIANGULAR)
    before = torch.random.get_rng_state()
    report = dgm.check_family(Triangular, SETTINGS, cdf=triangular_cdf)
    assert report.ok, str(report)
    assert names(report) == set(CHECKS) - {"inverse", "jacobian", "zero gradient"}
    assert {check.dtype for check in report.checks if check.name == "law"} == {"float32", "float64"}
    assert 0 < report.worst_error < 1
    assert len(str(report).splitlines()) == 2 + len(report.checks)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert report == dgm.check_family(Triangular, SETTINGS, cdf=triangular_cdf)


def test_a_discrete_family_is_checked_by_its_probabilities():
    dgm.register(Dice, **DICE)
    report = dgm.check_family(Dice, [{"sides": 6.0}, {"sides": 1.0}])
    assert report.ok, str(report)
    assert {"law", "zero gradient"} <= names(report)
    by_cdf = dgm.check_family(Dice, {"sides": 6.0}, cdf=dice_cdf)
    assert by_cdf.ok, by_cdf


def dice_cdf(value: Tensor, sides: float) -> Tensor:
    return (value.floor() / sides).clamp(0, 1)


def shifted(rate: Tensor, shift: Tensor) -> Any:
    return Shifted(dist.Gamma(2.0, rate), shift)


def test_a_composition_is_drawn_through_the_compiler():
    dgm.register_composition(Shifted, **SHIFTED)
    report = dgm.check_family(
        Shifted,
        {"rate": 2.0, "shift": 1.0},
        make=shifted,
        cdf=lambda x, rate, shift: stats.gamma(2.0, loc=shift, scale=1 / rate).cdf(x.numpy()),
    )
    assert report.ok, str(report)
    assert names(report) == {"shape", "law", "score", "gradient"}


@pytest.mark.parametrize(
    ("family", "setting"),
    [
        ("Normal", {"loc": 50.0, "scale": 1e4}),
        ("Uniform", {"low": 0.5, "high": 3.0}),
        ("Wishart", {"df": 4.5, "covariance_matrix": [[2.0, 0.5], [0.5, 1.0]]}),
        ("MultivariateNormal", {"loc": [0.0, 1.0], "precision_matrix": [[2.0, 0.5], [0.5, 1.0]]}),
        ("OneHotCategorical", {"probs": [0.2, 0.0, 0.8]}),
        ("Multinomial", {"total_count": 3, "logits": [0.0, 1.0, 0.5]}),
        ("Dirichlet", {"concentration": [0.2, 3.0]}),
    ],
)
def test_public_families_by_their_density_alone(family: str, setting: dict[str, Any]):
    report = dgm.check_family(family, setting)
    assert report.ok, str(report)


@pytest.mark.parametrize("family", ["OneHotCategoricalStraightThrough", "Categorical"])
def test_a_biased_gradient_is_not_taken_for_the_derivative(family: str):
    report = dgm.check_family(family, {"probs": [0.2, 0.5, 0.3]})
    assert report.ok and not names(report) & {"gradient", "double backward"}, str(report)


def test_a_variant():
    report = dgm.check_family("Categorical", {"probs": [0.2, 0.5, 0.3]}, variant="inverse_cdf")
    assert report.ok and "inverse_cdf" in report.family, str(report)


# -- what is wrong -----------------------------------------------------------------------------------------------------


def too_wide(right: Tensor, left: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
    return loc + 1.1 * scale * (right - left)


def skewed(right: Tensor, left: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
    """Inside the triangle, and of another law there."""
    return loc + scale * (right.sqrt() - left)


def of_numbers_only(right: Tensor, left: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
    return loc + float(scale) * (right - left)


def of_the_first_row(right: Tensor, left: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
    return loc + scale.reshape(-1)[0] * (right - left)


def as_double(right: Tensor, left: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
    return (loc + scale * (right - left)).double()


def without_a_scale_gradient(right: Tensor, left: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
    return loc + scale.detach() * (right - left)


def over_all(right: Tensor, left: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
    return loc + scale * (right - left) + (1.0 if bool((right < -left).all()) else 0.0)


def of_all_rows(right: Tensor, left: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
    return loc.mean() + scale * (right - left)


def of_equal_shapes(right: Tensor, left: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
    """One parameter in a batch beside one that is not."""
    ends = torch.stack([loc, scale]) if isinstance(scale, Tensor) else (loc, scale)
    return ends[0] + ends[1] * (right - left)


def shrunk(value: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
    return 0.5 * log_prob_triangular(value, loc, scale)


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"forward": too_wide}, {"law", "score"}),
        ({"forward": skewed}, {"law", "score"}),
        ({"forward": as_double}, {"shape"}),
        ({"forward": without_a_scale_gradient}, {"gradient"}),
        ({"forward": of_numbers_only}, {"gradient", "batch"}),
        ({"forward": of_the_first_row}, {"batch"}),
        ({"forward": of_all_rows}, {"batch"}),
        ({"forward": of_equal_shapes}, {"batch"}),
        ({"forward": over_all}, {"torch.compile", "vmap"}),
        ({"log_prob": shrunk}, {"density"}),
    ],
)
def test_a_mistake_fails_its_check(changes: dict[str, Any], found: set[str]):
    dgm.register(Triangular, **{**TRIANGULAR, **changes})
    report = dgm.check_family(Triangular, SETTINGS[0], cdf=triangular_cdf)
    assert not report.ok
    assert found <= failed(report), str(report)


def test_event_dims_that_the_class_has_not():
    dgm.register(Triangular, **TRIANGULAR, event_dim=1)
    report = dgm.check_family(Triangular, SETTINGS[0], cdf=triangular_cdf)
    assert failed(report) == {"shape"} and "1 event dims, not 0" in str(report), str(report)


def test_a_promise_that_is_not_kept():
    dgm.register(Triangular, **TRIANGULAR, differentiable=False)
    assert failed(dgm.check_family(Triangular, SETTINGS[0], cdf=triangular_cdf)) == {"zero gradient"}


def double_from_noise(noise: Tensor, sides: Tensor) -> Tensor:
    return dice_from_noise(noise.sqrt(), sides)


def seven_from_noise(noise: Tensor, sides: Tensor) -> Tensor:
    return dice_from_noise(noise, sides + 1)


@pytest.mark.parametrize("forward", [double_from_noise, seven_from_noise])
def test_a_discrete_law_of_other_probabilities(forward: Any):
    dgm.register(Dice, **{**DICE, "forward": forward})
    report = dgm.check_family(Dice, {"sides": 6.0})
    assert failed(report) == {"law"}, str(report)


def exponential_from_noise(noise: Tensor, rate: Tensor) -> Tensor:
    return noise / rate


def log_prob_exponential(value: Tensor, rate: Tensor) -> Tensor:
    return rate.log() - rate * value


def noise_from_exponential(value: Tensor, rate: Tensor) -> Tensor:
    return value * rate


def noise_of_another_rate(value: Tensor, rate: Tensor) -> Tensor:
    return value * rate * 1.001


def test_an_inverse_and_the_density_of_one_noise():
    entry: dict[str, Any] = {
        "forward": exponential_from_noise,
        "params": ("rate",),
        "noises": ("StandardExponential",),
        "inverse": noise_from_exponential,
        "log_prob": log_prob_exponential,
        "replace": True,
    }
    dgm.register(dist.Exponential, **entry)
    report = dgm.check_family("Exponential", {"rate": 2.0})
    assert report.ok and {"inverse", "jacobian"} <= names(report), str(report)
    dgm.register(dist.Exponential, **{**entry, "inverse": noise_of_another_rate})
    assert failed(dgm.check_family("Exponential", {"rate": 2.0})) == {"inverse"}
    dgm.register(dist.Exponential, **{**entry, "noises": ("StandardNormal",)})
    assert "jacobian" in failed(dgm.check_family("Exponential", {"rate": 2.0}))


def test_limits_are_not_checked():
    entry = {**TRIANGULAR, "forward": over_all}
    dgm.register(Triangular, **entry, limits={"torch.compile": "it looks at values", "vmap": "it looks at values"})
    report = dgm.check_family(Triangular, SETTINGS[0], cdf=triangular_cdf)
    assert report.ok and not names(report) & {"torch.compile", "vmap"}, str(report)


def test_a_law_that_nothing_is_known_of_fails():
    entry = {name: value for name, value in TRIANGULAR.items() if name != "log_prob"}
    dgm.register(Triangular, **entry)
    report = dgm.check_family(Triangular, SETTINGS[0], log_prob=lambda value, loc, scale: torch.zeros(value.shape))
    assert failed(report) == {"score"} and "unchecked" in str(report)


def test_what_is_asked_wrongly():
    with pytest.raises(ValueError, match="no check speed"):
        dgm.check_family("Normal", {"loc": 0.0, "scale": 1.0}, skip=("speed",))
    with pytest.raises(ValueError, match="nothing is known of the family"):
        dgm.check_family(Triangular, SETTINGS)
    report = dgm.check_family("Dirichlet", {"concentration": [1.0, 2.0]}, cdf=lambda x, concentration: x)
    assert failed(report) == {"law"} and "on the line" in str(report)


def test_what_is_skipped_is_not_there():
    report = dgm.check_family("Normal", {"loc": 0.0, "scale": 1.0}, skip=CHECKS[1:])
    assert names(report) == {"shape"}


# -- statistics --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("freedom", [1, 2, 7, 30, 200])
def test_limit_of_chi_square(freedom: int):
    assert chi_square_limit(freedom) == pytest.approx(stats.chi2.isf(1e-6, freedom), rel=1e-9)


def test_limit_of_student_t():
    from dgmcompile.family_checks.laws import CHUNKS, SCORE_LIMIT

    assert 2 * stats.t.sf(SCORE_LIMIT, CHUNKS - 1) < 1e-6


def test_kolmogorov_smirnov_is_scipys():
    value = torch.randn(500, dtype=torch.float64, generator=seeds.generator(0))
    found, limit, _ = kolmogorov_smirnov(value, lambda x: torch.special.ndtr(x), torch.float64)
    assert found == pytest.approx(stats.kstest(value.numpy(), "norm").statistic, rel=1e-9)
    assert limit == pytest.approx(math.sqrt(-math.log(0.5e-6) / 1000))


def test_transforms_of_the_registry_are_left_alone():
    assert "tests.own_families.Triangular" not in NOISE_TRANSFORMS
