"""Families whose transform inverts a CDF numerically: digits in the tails, derivatives, joint laws.

Values and gradients are held against SciPy's inverses and CDFs, joint laws against their densities.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pyro.distributions as dist
import pytest
import torch
from numpy.typing import NDArray
from scipy import special, stats
from torch import Tensor

from dgmcompile.ir.size import Size
from dgmcompile.reparam import NOISE_TRANSFORMS, NoiseTransform
from dgmcompile.reparam.beta import logit_beta_from_noise
from dgmcompile.reparam.circular import centred_von_mises_from_noise
from dgmcompile.reparam.gamma import log_gamma_from_noise
from tests.reparam.drawing import canonical, draw_noise
from tests.reparam.example import Given
from tests.reparam.numeric import EXAMPLES

Floats = NDArray[np.float64]
DRAWS = 20_000
TRANSFORMS = {family: NOISE_TRANSFORMS[family] for family in EXAMPLES}
CONTINUOUS = [family for family, transform in TRANSFORMS.items() if not transform.discrete]
CASES = [(family, number) for family, example in EXAMPLES.items() for number in range(len(example.settings))]
ENDS = [2.0**-53, 1e-9, 1e-3, 0.2, 0.499, 0.5, 0.501, 0.8, 0.999, 1 - 1e-9, 1 - 2.0**-53]


def grid(*axes: list[float]) -> list[Tensor]:
    return [
        part.flatten() for part in torch.meshgrid(*(torch.tensor(a, dtype=torch.float64) for a in axes), indexing="ij")
    ]


def setting(family: str, number: int = 0, dtype: torch.dtype = torch.float64) -> Given:
    """The example's parameters as tensors; those that have to be whole numbers stay so."""
    whole = {"dim", "d"} | ({"total_count"} if family == "Multinomial" else set())
    given = EXAMPLES[family].settings[number]
    return {name: value if name in whole else torch.tensor(value, dtype=dtype) for name, value in given.items()}


def event(family: str, given: Given) -> tuple[int, ...]:
    if (dim := given.get("dim", given.get("d"))) is not None:
        return (dim, dim)
    if family == "SineBivariateVonMises":
        return (2,)
    sizes = [value.shape[-1] for value in given.values() if isinstance(value, Tensor) and value.dim()]
    return tuple(sizes[:1]) * TRANSFORMS[family].event_dim


def noises_of(family: str, given: Given, count: int, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    transform = TRANSFORMS[family]
    return draw_noise(transform, canonical(transform, given), (count, *event(family, given)), dtype)


def draws_of(family: str, given: Given, count: int = DRAWS) -> Tensor:
    transform = TRANSFORMS[family]
    return transform.forward.function(*noises_of(family, given, count), *canonical(transform, given))


def assert_law(values: Tensor, cdf: Callable[[Floats], Floats]) -> None:
    """Kolmogorov-Smirnov: a distance that draws of the right law exceed once in a million."""
    probabilities = np.sort(cdf(values.detach().double().numpy()))
    steps = np.arange(len(values) + 1) / len(values)
    limit = math.sqrt(-0.5 * math.log(0.5e-6) / len(values))
    assert max((steps[1:] - probabilities).max(), (probabilities - steps[:-1]).max()) < limit


def assert_counts(values: Tensor, pmf: Callable[[Floats], Floats]) -> None:
    """Chi-square, one false alarm in a million; everything beyond the largest draw, and rare counts, are one cell."""
    support = np.arange(values.max().item() + 1)
    expected = len(values) * pmf(support)
    observed = np.bincount(values.long().numpy(), minlength=len(support))
    common = expected >= 5
    observed = np.append(observed[common], observed[~common].sum())
    expected = np.append(expected[common], len(values) - expected[common].sum())
    if expected[-1] < 5:
        assert observed[-1] <= stats.poisson.isf(1e-6, max(expected[-1], 0.0))
        observed, expected = observed[:-1], expected[:-1]
    statistic = ((observed - expected) ** 2 / expected).sum()
    assert statistic <= stats.chi2.isf(1e-6, max(len(expected) - 1, 1))


def slope_of(function: Callable[[Floats], Floats], at: Tensor, relative: float) -> Tensor:
    """Derivative by differences of fourth order."""
    x = at.detach().numpy()
    h = relative * x
    return torch.from_numpy(
        (8 * (function(x + h) - function(x - h)) - function(x + 2 * h) + function(x - 2 * h)) / (12 * h)
    )


# Quantiles and their gradients


def log_gamma_quantile(u: Floats, a: Floats) -> Floats:
    return np.log(np.where(u < 0.5, special.gammaincinv(a, u), special.gammainccinv(a, 1 - u)))


def logit_beta_quantile(u: Floats, a: Floats, b: Floats) -> Floats:
    return np.log(special.betaincinv(a, b, u)) - np.log(special.betainccinv(b, a, u))


def test_log_gamma_is_the_quantile_in_both_tails():
    a, u = grid([0.06, 0.3, 0.5, 0.99, 1.0, 2.5, 30.0, 1e3, 1e5], ENDS)
    exact = log_gamma_quantile(u.numpy(), a.numpy())
    torch.testing.assert_close(log_gamma_from_noise(u, a), torch.from_numpy(exact), rtol=1e-12, atol=2e-12)


@pytest.mark.parametrize("a", [1e-6, 1e-3, 1e-2])
def test_log_gamma_where_the_value_itself_would_be_zero(a: float):
    u = torch.tensor([2.0**-53, 1e-6, 0.1, 0.5])
    exact = (torch.log(u.double()) + math.lgamma(a + 1)) / a  # P(x) = x^a / Gamma(a + 1) for tiny x
    torch.testing.assert_close(log_gamma_from_noise(u.double(), a), exact, rtol=1e-13, atol=0)


def test_log_gamma_of_a_million():
    """Of log x = 13.8; SciPy's own inverse is off by 2e-9 here."""
    a, u = grid([1e6], ENDS)
    exact = log_gamma_quantile(u.numpy(), a.numpy())
    torch.testing.assert_close(log_gamma_from_noise(u, a), torch.from_numpy(exact), rtol=0, atol=4e-9)


def test_gradient_of_log_gamma_is_that_of_the_quantile():
    a, u = grid([0.06, 0.3, 0.99, 1.01, 2.5, 15.0, 200.0, 3e3], ENDS)
    a.requires_grad_()
    (slope,) = torch.autograd.grad(log_gamma_from_noise(u, a).sum(), a)
    exact = slope_of(lambda x: log_gamma_quantile(u.numpy(), x), a, 3e-3)
    torch.testing.assert_close(slope, exact, rtol=1e-6, atol=0)


def test_gradient_of_log_gamma_at_small_concentrations():
    """y = (log u + log Gamma(a + 1)) / a, where x is tiny."""
    a, u = grid([1e-6, 1e-3, 1e-2], [2.0**-53, 1e-6, 0.1, 0.5])
    a.requires_grad_()
    (slope,) = torch.autograd.grad(log_gamma_from_noise(u, a).sum(), a, create_graph=True)
    exact = torch.digamma(a + 1) / a - (torch.log(u) + torch.lgamma(a + 1)) / a**2
    torch.testing.assert_close(slope, exact, rtol=1e-12, atol=0)
    (bend,) = torch.autograd.grad(slope.sum(), a)
    (exact_bend,) = torch.autograd.grad(exact.sum(), a)
    torch.testing.assert_close(bend, exact_bend, rtol=1e-11, atol=0)


def test_logit_beta_is_the_quantile_in_both_tails():
    a, b, u = grid(*[[0.06, 0.5, 1.0, 7.0, 900.0, 1e5]] * 2, ENDS)
    exact = logit_beta_quantile(u.numpy(), a.numpy(), b.numpy())
    torch.testing.assert_close(logit_beta_from_noise(u, a, b), torch.from_numpy(exact), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("a", [1e-6, 1e-3])
def test_logit_beta_where_the_value_itself_would_be_zero_or_one(a: float):
    u = torch.tensor([2.0**-53, 1e-6, 0.1, 0.3], dtype=torch.float64)
    low = (torch.log(u) + math.log(a) + 2 * math.lgamma(a) - math.lgamma(2 * a)) / a  # P(x) = x^a / (a B(a, a))
    torch.testing.assert_close(logit_beta_from_noise(u, a, a), low, rtol=1e-9, atol=0)
    torch.testing.assert_close(logit_beta_from_noise(1 - u[1:], a, a), -low[1:], rtol=1e-9, atol=0)


@pytest.mark.parametrize("which", [0, 1])
def test_gradient_of_logit_beta_is_that_of_the_quantile(which: int):
    a, b, u = grid(*[[0.2, 0.9, 1.01, 7.0, 300.0, 1e4]] * 2, ENDS)
    params = [a, b]
    params[which].requires_grad_()
    (slope,) = torch.autograd.grad(logit_beta_from_noise(u, a, b).sum(), params[which])

    def quantile(x: Floats) -> Floats:
        a, b = (x if i == which else p.detach().numpy() for i, p in enumerate(params))
        return logit_beta_quantile(u.numpy(), a, b)

    torch.testing.assert_close(slope, slope_of(quantile, params[which], 3e-3), rtol=1e-6, atol=1e-11)


def angles_and_tails(concentration: float) -> tuple[Floats, Floats]:
    """Angles from 0 to where the density is e^-60 of its largest value, and P(|X| > angle), by Simpson's rule."""
    end = 2 * math.asin(min(1.0, math.sqrt(30 / concentration)))
    angle = np.linspace(0, end, 400_001)
    density = np.exp(-2 * concentration * np.sin(angle / 2) ** 2)
    cells = (density[:-2:2] + 4 * density[1:-1:2] + density[2::2]) / 6
    above = np.append(np.cumsum(cells[::-1])[::-1], 0.0)
    return angle[::2], above / above[0]


@pytest.mark.parametrize("concentration", [1e-6, 0.1, 1.0, 10.0, 2000.0, 1e8])
def test_centred_von_mises_is_the_quantile_in_both_tails(concentration: float):
    angle, tail = angles_and_tails(concentration)
    some = slice(1, -1, 3_000)
    some = np.arange(len(angle))[some][tail[some] > 1e-13]
    u = torch.from_numpy(0.5 * tail[some])
    scale = max(1.0, math.sqrt(concentration))
    found = centred_von_mises_from_noise(u, concentration) * scale
    torch.testing.assert_close(-found, torch.from_numpy(angle[some] * scale), rtol=1e-11, atol=1e-11)
    mirrored = centred_von_mises_from_noise(1 - u[u > 0.01], concentration) * scale
    torch.testing.assert_close(mirrored, -found[u > 0.01], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("concentration", [0.01, 0.7, 5.0, 300.0])
def test_gradient_of_von_mises_is_that_of_the_quantile(concentration: float):
    kappa = torch.tensor(concentration, dtype=torch.float64, requires_grad=True)
    u = torch.tensor([1e-9, 1e-3, 0.1, 0.3, 0.45], dtype=torch.float64)
    angle = centred_von_mises_from_noise(u, kappa)
    (slope,) = torch.autograd.grad(angle[2], kappa, retain_graph=True)
    slopes = torch.stack([torch.autograd.grad(part, kappa, retain_graph=True)[0] for part in angle])
    assert slope == slopes[2]
    # d angle / d kappa = - dT/dkappa / dT/dangle, and T' = T (E[cos | beyond] - E[cos])
    t = np.abs(angle.detach().numpy())
    density = lambda x: np.exp(-2 * concentration * np.sin(x / 2) ** 2)  # noqa: E731
    nodes, weights = np.polynomial.legendre.leggauss(200)
    end = min(math.pi, 12 / math.sqrt(concentration))

    def integral(f: Callable[[Floats], Floats], low: Floats) -> Floats:
        half = (end - low)[:, None] / 2
        return (half * weights * f(low[:, None] + half * (nodes + 1))).sum(-1)

    def mean_cosine(low: Floats) -> Floats:
        return integral(lambda x: -2 * np.sin(x / 2) ** 2 * density(x), low) / integral(density, low)

    exact = (mean_cosine(t) - mean_cosine(0 * t)) * integral(density, t) / density(t)
    torch.testing.assert_close(slopes, torch.from_numpy(-exact), rtol=1e-6, atol=1e-12)


WITH_INVERSE = [family for family, transform in TRANSFORMS.items() if transform.inverse is not None]


@pytest.mark.parametrize("family", WITH_INVERSE)
def test_the_inverse_has_the_derivatives_of_an_inverse(family: str):
    """forward(inverse(x; p); p) is x whatever p is, so that its derivatives in p are zero, the second ones too."""
    transform = TRANSFORMS[family]
    params = [p.requires_grad_() for p in canonical(transform, setting(family, 1))]
    value = draws_of(family, setting(family, 1), 20)
    assert transform.inverse is not None
    noise = transform.inverse.function(value, *params)
    again = transform.forward.function(noise, *params)
    scale = value.abs().clamp(min=1e-300)
    slopes = torch.autograd.grad((again / scale).sum(), params, create_graph=True)
    direct = torch.autograd.grad((transform.forward.function(noise.detach(), *params) / scale).sum(), params)
    for slope, alone in zip(slopes, direct, strict=True):
        size = float(alone.abs())
        assert size > 1e-6  # so there is something that the inverse has to cancel
        assert slope.abs() < 1e-7 * size
        bends = torch.autograd.grad(slope, params, retain_graph=True)
        assert all(bend.abs() < 1e-5 * (1 + size) for bend in bends)


# Ends of the noise, and of the parameters

EXTREME: dict[str, list[Given]] = {
    "Gamma": [{"concentration": a, "rate": r} for a in (1e-6, 1e-3, 0.5, 1e6) for r in (1e-6, 1e6)],
    "InverseGamma": [{"concentration": a, "rate": r} for a in (1e-6, 1e-3, 0.5, 1e6) for r in (1e-6, 1e6)],
    "Chi2": [{"df": df} for df in (1e-6, 1e-2, 1.0, 1e6)],
    "Beta": [
        {"concentration1": a, "concentration0": b} for a in (1e-6, 1e-2, 1.0, 1e6) for b in (1e-6, 1e-2, 1.0, 1e6)
    ],
    "AffineBeta": [{"concentration1": 1e-3, "concentration0": 1e-2, "loc": 1.0, "scale": 1e-3}],
    "VonMises": [{"loc": 3.0, "concentration": k} for k in (1e-9, 1e-2, 1.0, 1e3, 1e9)],
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("family", EXTREME)
def test_values_and_gradients_are_finite_at_the_ends(family: str, dtype: torch.dtype):
    eps = torch.finfo(dtype).eps
    noise = torch.tensor([eps / 2, 1e-6, 0.3, 0.5, 0.9, 1 - 1e-6, 1 - eps / 2], dtype=dtype)
    for given in EXTREME[family]:
        params = [torch.tensor(value, dtype=dtype, requires_grad=True) for value in given.values()]
        value = TRANSFORMS[family].forward.function(noise, *params)
        assert value.isfinite().all()
        if family not in ("VonMises", "AffineBeta"):
            assert (value > 0).all()
            value = torch.log(value)  # whose gradient does not overflow where the value nearly does
        assert all(slope.isfinite() for slope in torch.autograd.grad(value.sum(), params))
        if family == "Beta":
            assert (value < 0).all()  # the beta itself is below 1


@pytest.mark.parametrize("family", ["Dirichlet", "StudentT", "FisherSnedecor"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_composites_are_finite_at_the_ends(family: str, dtype: torch.dtype):
    eps = torch.finfo(dtype).eps
    ends = torch.tensor([eps / 2, 1 - eps / 2], dtype=dtype)
    first, second = (part.flatten() for part in torch.meshgrid(ends, ends, indexing="ij"))
    small = torch.tensor([1e-3, 1e-2], dtype=dtype, requires_grad=True)
    for param in (small[0], small[1], 1e6 * small[0]):
        function = TRANSFORMS[family].forward.function
        if family == "Dirichlet":
            value = function(torch.stack([first, second], -1), torch.stack([param, small[1]]))
        else:
            value = (
                function(first, second, param, param) if family == "FisherSnedecor" else function(first, second, param)
            )
        assert value.isfinite().all()
        (slope,) = torch.autograd.grad(value.clamp(-1e6, 1e6).sum(), small, retain_graph=True)
        assert slope.isfinite().all()


@pytest.mark.parametrize(("family", "number"), [(f, n) for f, n in CASES if f in CONTINUOUS])
def test_float32_draws_are_those_of_float64_rounded(family: str, number: int):
    transform = TRANSFORMS[family]
    single = setting(family, number, torch.float32)
    double = {name: value.double() if isinstance(value, Tensor) else value for name, value in single.items()}
    noises = noises_of(family, single, 200, torch.float32)
    found = transform.forward.function(*noises, *canonical(transform, single))
    exact = transform.forward.function(*(noise.double() for noise in noises), *canonical(transform, double))
    assert found.dtype == torch.float32
    size = exact.abs().amax(-1, keepdim=True) if transform.event_dim else exact.abs() + abs(double.get("loc", 0.0))
    assert ((found.double() - exact).abs() <= 2e-6 * size + 1e-37).all()


# Counts


def test_poisson_at_any_rate():
    rates = torch.tensor([1e-12, 1e-6, 1e-3, 0.03, 0.3, 1, 2, 5, 10, 15, 16, 17, 20, 32, 40, 100, 1000, 1e4, 1e5])
    tail = torch.logspace(-15, -1, 150, dtype=torch.float64)
    noise = torch.cat([tail, torch.linspace(0.1, 0.9, 101, dtype=torch.float64), 1 - tail])
    rates = rates.double().unsqueeze(-1)
    value = TRANSFORMS["Poisson"].forward.function(noise.expand(len(rates), -1), rates).numpy()
    law = stats.poisson(rates.numpy())
    assert (law.cdf(value - 1) <= noise.numpy() + 1e-13).all()
    assert (noise.numpy() <= law.cdf(value) + 1e-13).all()


def test_counts_at_the_ends_of_their_parameters():
    noise = torch.tensor([2.0**-53, 0.5, 1 - 2.0**-53], dtype=torch.float64)
    poisson = TRANSFORMS["Poisson"].forward.function
    assert poisson(noise, torch.tensor(0.0)).tolist() == [0, 0, 0]
    huge = poisson(noise, torch.tensor(1e15, dtype=torch.float64))
    assert ((huge - 1e15).abs() < 9 * math.sqrt(1e15)).all()
    negative_binomial = TRANSFORMS["NegativeBinomial"].forward.function
    many = torch.rand(2000, generator=torch.manual_seed(0), dtype=torch.float64)
    for failures in (0.0, 1e-300, 1e-30):
        assert (negative_binomial(many, many.flip(0), torch.tensor(failures).double(), torch.tensor(3.0)) == 0).all()
    assert negative_binomial(noise, noise, 2.0, -math.inf).tolist() == [0, 0, 0]
    for gate, expected in ((math.inf, 0.0), (-math.inf, 5.0)):
        inflated = TRANSFORMS["ZeroInflatedPoisson"].forward.function
        assert inflated(torch.full_like(noise, 0.5), noise, 5.0, gate).tolist() == [expected] * 3


@pytest.mark.parametrize("family", ["ExtendedBinomial", "ExtendedBetaBinomial"])
def test_a_negative_total_count_has_no_law(family: str):
    counts = torch.tensor([-1.0, 0.0, 3.0])
    noise = torch.full((3,), 0.999, dtype=torch.float64)
    transform = TRANSFORMS[family]
    if family == "ExtendedBinomial":
        value = transform.forward.function(noise, counts, torch.tensor(0.0))
    else:
        value = transform.forward.function(noise, noise, 2.0, 2.0, counts)
    assert value.isnan().tolist() == [True, False, False]
    assert value[1:].tolist() == [0.0, 3.0]


@pytest.mark.parametrize("number", range(3))
def test_multinomial_counts_and_their_sums_are_binomial(number: int):
    given = setting("Multinomial", number)
    total = given["total_count"]
    probs = given.get("probs", torch.softmax(given.get("logits", torch.zeros(1)), -1)).numpy()
    counts = draws_of("Multinomial", given)
    assert (counts.sum(-1) == total).all()
    assert (counts[:, probs == 0] == 0).all()
    for i in range(len(probs) - 1):
        assert_counts(counts[:, i], lambda k, i=i: stats.binom.pmf(k, total, probs[i]))
        assert_counts(
            counts[:, : i + 1].sum(-1), lambda k, i=i: stats.binom.pmf(k, total, min(probs[: i + 1].sum(), 1))
        )


@pytest.mark.parametrize("labels", [1, 2, 3, 5])
def test_multinomial_counts_have_the_batch_of_the_noise(labels: int):
    """In plates, parameters may lack batch dims that the site has."""
    noise = torch.rand(2, 4, labels - 1, dtype=torch.float64)
    counts = TRANSFORMS["Multinomial"].forward.function(noise, 6, torch.randn(4, labels))
    assert counts.shape == (2, 4, labels)
    assert (counts.sum(-1) == 6).all()


@pytest.mark.parametrize("number", range(2))
def test_dirichlet_multinomial_counts_and_their_sums_are_beta_binomial(number: int):
    given = setting("DirichletMultinomial", number)
    counts, alpha, total = draws_of("DirichletMultinomial", given), given["concentration"], given["total_count"].item()
    assert (counts.sum(-1) == total).all()
    for i in range(len(alpha) - 1):
        for part in ([i], list(range(i + 1))):
            first, rest = alpha[part].sum().item(), alpha.sum().item() - alpha[part].sum().item()
            assert_counts(counts[:, part].sum(-1), lambda k, a=first, b=rest: stats.betabinom.pmf(k, total, a, b))


def negative_binomial_pmf(k: Floats, total_count: float, logits: Floats) -> Floats:
    return stats.nbinom.pmf(k, total_count, special.expit(-logits))


def conversion(given: Given, name: str, other: str) -> float:
    return float(given[name]) if name in given else float(torch.logit(given[other]))


@pytest.mark.parametrize("number", range(2))
@pytest.mark.parametrize("family", ["ZeroInflatedPoisson", "ZeroInflatedNegativeBinomial"])
def test_zero_inflated_counts(family: str, number: int):
    given = setting(family, number)
    gate = special.expit(conversion(given, "gate_logits", "gate"))

    def pmf(k: Floats) -> Floats:
        if family == "ZeroInflatedPoisson":
            base = stats.poisson.pmf(k, float(given["rate"]))
        else:
            base = negative_binomial_pmf(k, float(given["total_count"]), np.array(conversion(given, "logits", "probs")))
        return gate * (k == 0) + (1 - gate) * base

    assert_counts(draws_of(family, given), pmf)


@pytest.mark.parametrize("number", range(2))
def test_log_normal_negative_binomial(number: int):
    given = {name: float(value) for name, value in setting("LogNormalNegativeBinomial", number).items()}
    nodes, weights = np.polynomial.hermite_e.hermegauss(120)

    def pmf(k: Floats) -> Floats:
        logits = given["logits"] + given["multiplicative_noise_scale"] * nodes
        return (negative_binomial_pmf(k[:, None], given["total_count"], logits) * weights).sum(-1) / weights.sum()

    assert_counts(draws_of("LogNormalNegativeBinomial", setting("LogNormalNegativeBinomial", number)), pmf)


# Joint laws


@pytest.mark.parametrize("number", range(3))
def test_dirichlet_parts_and_their_sums_are_beta(number: int):
    given = setting("Dirichlet", number)
    value, alpha = draws_of("Dirichlet", given), given["concentration"]
    torch.testing.assert_close(value.sum(-1), torch.ones(DRAWS).double())
    for i in range(len(alpha) - 1):
        for part in ([i], list(range(i + 1))):
            law = stats.beta(alpha[part].sum().item(), alpha.sum().item() - alpha[part].sum().item())
            assert_law(value[:, part].sum(-1), law.cdf)


@pytest.mark.parametrize("number", range(2))
def test_mahalanobis_distance_of_multivariate_student_t(number: int):
    given = setting("MultivariateStudentT", number)
    centred = draws_of("MultivariateStudentT", given) - given["loc"]
    whitened = torch.linalg.solve_triangular(given["scale_tril"], centred.mT, upper=False)
    dim = len(given["loc"])
    assert_law((whitened**2).sum(0) / dim, stats.f(dim, given["df"].item()).cdf)
    assert_law(whitened[-1], stats.t(given["df"].item()).cdf)


@pytest.mark.parametrize("number", range(3))
def test_wishart_diagonals_of_the_matrix_and_of_its_inverse(number: int):
    given = setting("Wishart", number)
    df, scale_tril = canonical(TRANSFORMS["Wishart"], given)
    covariance = scale_tril @ scale_tril.mT
    value = draws_of("Wishart", given)
    dim = len(covariance)
    torch.testing.assert_close(value, value.mT)
    for i in range(dim):
        assert_law(value[:, i, i] / covariance[i, i], stats.chi2(df.item()).cdf)
    precision, inverse = torch.linalg.inv(covariance), torch.linalg.inv(value)
    for i in range(dim):
        assert_law(precision[i, i] / inverse[:, i, i], stats.chi2(df.item() - dim + 1).cdf)


@pytest.mark.parametrize(("family", "number"), [case for case in CASES if case[0].startswith("LKJ")])
def test_every_correlation_of_an_lkj_matrix_is_beta(family: str, number: int):
    given = setting(family, number)
    dim, concentration = canonical(TRANSFORMS[family], given)
    value = draws_of(family, given)
    if family != "LKJ":
        assert (value.diagonal(dim1=-2, dim2=-1) > 0).all()
        assert (value == value.tril()).all()
        value = value @ value.mT
    torch.testing.assert_close(value.diagonal(dim1=-2, dim2=-1), torch.ones(DRAWS, dim).double())
    shape = concentration.item() + (dim - 2) / 2
    for i in range(dim):
        for j in range(i):
            assert_law(value[:, i, j], stats.beta(shape, shape, -1, 2).cdf)


@pytest.mark.parametrize("number", range(2))
def test_sine_bivariate_von_mises(number: int):
    """Each angle has, the other one integrated out, a density in closed form; the density is that of E[sin sin]."""
    given = {name: float(value) for name, value in setting("SineBivariateVonMises", number).items()}
    value = draws_of("SineBivariateVonMises", setting("SineBivariateVonMises", number), 5_000).numpy()
    centred = value - np.array([given["phi_loc"], given["psi_loc"]])
    angle = np.linspace(-math.pi, math.pi, 20_001)
    for index, (own, other) in enumerate((("phi", "psi"), ("psi", "phi"))):
        alpha = np.hypot(given[f"{other}_concentration"], given["correlation"] * np.sin(angle))
        density = np.exp(given[f"{own}_concentration"] * np.cos(angle) + alpha) * special.i0e(alpha)
        cells = np.append(0.0, np.cumsum(density[1:] + density[:-1]))
        own_angle = np.remainder(centred[:, index] + math.pi, 2 * math.pi) - math.pi
        assert_law(torch.from_numpy(own_angle), lambda x, cells=cells: np.interp(x, angle, cells / cells[-1]))

    phi = np.linspace(-math.pi, math.pi, 400, endpoint=False)[:, None]
    product = np.sin(phi) * np.sin(phi.T)
    own_parts = given["phi_concentration"] * np.cos(phi) + given["psi_concentration"] * np.cos(phi.T)
    joint = np.exp(own_parts + given["correlation"] * product)
    exact = (joint * product).sum() / joint.sum()
    found = np.prod(np.sin(centred), -1)
    error = found.std() / math.sqrt(len(found))
    assert abs(exact) > 20 * error
    assert abs(found.mean() - exact) < 5 * error


SCORED = (
    "Dirichlet",
    "DirichletMultinomial",
    "LKJCholesky",
    "LKJ",
    "Multinomial",
    "MultivariateStudentT",
    "Wishart",
)


@pytest.mark.parametrize(("family", "number"), [case for case in CASES if case[0] in SCORED])
def test_the_score_has_mean_zero(family: str, number: int):
    """E[d log p / d parameter] = 0 for draws of p, and of no other law: five standard errors, for each parameter."""
    given = setting(family, number)
    value = draws_of(family, given, 5_000).detach()
    batch = {
        n: v.expand(len(value), *v.shape).clone().requires_grad_() if isinstance(v, Tensor) else v
        for n, v in given.items()
    }
    fixed = {"total_count"} if family == "DirichletMultinomial" else set()
    free = [v for n, v in batch.items() if isinstance(v, Tensor) and n not in fixed]
    if fixed:
        batch["total_count"] = given["total_count"]
    if family == "LKJ":
        value, batch = torch.linalg.cholesky(value), {**batch}
    law = getattr(dist, "LKJCholesky" if family == "LKJ" else family)(**batch, validate_args=False)
    scores = torch.autograd.grad(law.log_prob(value).sum(), free)
    for score in scores:
        flat = (score.tril() if score.dim() == 3 else score).reshape(len(value), -1)
        varying = flat.std(0) > 1e-12
        error = flat[:, varying].std(0) / math.sqrt(len(value))
        assert varying.any()
        assert (flat[:, varying].mean(0).abs() < 5 * error).all()


# What a forward can do


def parts(family: str) -> tuple[NoiseTransform, list[Tensor], list[Any]]:
    transform = TRANSFORMS[family]
    given = setting(family)
    return transform, noises_of(family, given, 3), canonical(transform, given)


@pytest.mark.parametrize("family", CONTINUOUS)
def test_double_backward(family: str):
    """The gradient's own gradient, against differences of the gradient."""
    transform, noises, params = parts(family)
    assert not transform.limits
    names = [i for i, param in enumerate(params) if isinstance(param, Tensor)]

    def values(*free: Tensor) -> Tensor:
        given = list(params)
        for i, value in zip(names, free, strict=True):
            given[i] = value
        return transform.forward.function(*(noise[:1] for noise in noises), *given)

    free = [params[i].clone().requires_grad_() for i in names]
    assert torch.autograd.gradgradcheck(values, free, eps=1e-6, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("family", TRANSFORMS)
def test_vmap(family: str):
    transform, noises, params = parts(family)
    together = transform.forward.function(*noises, *params)
    over_noise = torch.func.vmap(lambda *noises: transform.forward.function(*noises, *params))
    torch.testing.assert_close(over_noise(*noises), together)
    tensors = [i for i, param in enumerate(params) if isinstance(param, Tensor)]

    def over_params(noises: list[Tensor], free: list[Tensor]) -> Tensor:
        given = list(params)
        for i, value in zip(tensors, free, strict=True):
            given[i] = value
        return transform.forward.function(*noises, *given)

    batch = [params[i].expand(3, *params[i].shape) for i in tensors]
    torch.testing.assert_close(torch.func.vmap(over_params)(noises, batch), together)


@pytest.mark.parametrize("family", TRANSFORMS)
def test_numbers_serve_on_any_device(family: str):
    """A tensor made of a number stays where it is, and only one of no dims may meet those of another device."""
    transform, noises, params = parts(family)
    numbers = [float(p) if isinstance(p, Tensor) and not p.dim() else p for p in params]
    elsewhere = [p.to("meta") if isinstance(p, Tensor) else p for p in numbers]
    value = transform.forward.function(*(noise.to("meta") for noise in noises), *elsewhere)
    assert value.device.type == "meta"
    assert value.shape == transform.forward.function(*noises, *numbers).shape


@pytest.mark.parametrize("family", ["Gamma", "Beta", "VonMises", "Wishart"])
def test_functional_gradients_are_those_of_backward(family: str):
    transform, noises, params = parts(family)

    def total(*given: Tensor) -> Tensor:
        return (transform.forward.function(*noises, *given) ** 2).sum()

    every = tuple(range(len(params)))
    functional = torch.func.grad(total, argnums=every)(*params)
    free = [param.clone().requires_grad_() for param in params]
    slopes = torch.autograd.grad(total(*free), free, create_graph=True)
    for found, exact in zip(functional, slopes, strict=True):
        torch.testing.assert_close(found, exact)
    (bend,) = torch.autograd.grad(slopes[0].sum(), free[0])
    twice = torch.func.grad(lambda first: torch.func.grad(total)(first, *params[1:]).sum())(params[0])
    torch.testing.assert_close(twice, bend)


@pytest.mark.parametrize("family", ["Gamma", "NegativeBinomial", "VonMises"])
def test_compiled_values_and_gradients_are_the_eager_ones(family: str):
    transform, noises, params = parts(family)
    free = [param.clone().requires_grad_() if isinstance(param, Tensor) else param for param in params]
    torch.compiler.reset()
    compiled = torch.compile(transform.forward.function, fullgraph=True, backend="aot_eager")
    found, eager = compiled(*noises, *free), transform.forward.function(*noises, *free)
    torch.testing.assert_close(found, eager)
    if transform.differentiable:
        tensors = [param for param in free if isinstance(param, Tensor)]
        expected = torch.autograd.grad((eager**2).sum(), tensors)
        torch.testing.assert_close(torch.autograd.grad((found**2).sum(), tensors), expected)


def test_noise_shapes_take_symbolic_sizes():
    batch, dim = Size.symbol("batch"), Size.symbol("dim")
    less = Size.of({("dim",): 1, (): -1})
    shapes = {family: TRANSFORMS[family].noise_shapes for family in TRANSFORMS}
    assert shapes["Multinomial"]((batch, dim), {}) == ((batch, less),)
    assert shapes["DirichletMultinomial"]((batch, 5), {}) == ((batch, 5), (batch, 4))
    assert shapes["LKJCholesky"]((batch, dim, dim), {}) == ((batch, less), (batch, dim, dim))
    assert shapes["Wishart"]((batch, dim, dim), {}) == ((batch, dim), (batch, dim, dim))
    assert shapes["MultivariateStudentT"]((batch, dim), {}) == ((batch, dim), (batch,))
    assert shapes["SineBivariateVonMises"]((batch, 2), {}) == ((batch,), (batch,))
    assert shapes["ZeroInflatedNegativeBinomial"]((batch,), {}) == ((batch,), (batch,), (batch,))
