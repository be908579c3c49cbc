"""Stand-ins for a zero gradient: the value is the transform's, bit for bit, and the gradient that of what is named."""

import inspect
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from dgmcompile.reparam import NOISE_TRANSFORMS, NoiseTransform
from tests.reparam.drawing import canonical, draw_noise, library

DTYPES = (torch.float32, torch.float64)
LOGITS = {
    "Bernoulli": [-30.0, -2.0, 0.0, 0.3, 40.0],
    "Geometric": [-3.0, -0.5, 0.0, 2.0, 9.0],
    "OneHotCategorical": [[0.0, 1.0, -2.0], [-800.0, 0.3, 0.1], [5.0, 5.0, -1.0]],
}
WEIGHTS = torch.tensor([0.7, -1.3, 2.0, 0.1, -0.4, 1.1, 3.0], dtype=torch.float64)


def constructions() -> Iterator[tuple[str, NoiseTransform]]:
    for transform in NOISE_TRANSFORMS:
        yield transform.family, transform
        yield from ((f"{transform.family}-{name}", variant) for name, variant in transform.variants.items())


STAND_INS = [
    pytest.param(transform, name, id=f"{construction}-{name}")
    for construction, transform in constructions()
    for name in transform.gradients
]
OF_LOGITS = [case for case in STAND_INS if isinstance(t := case.values[0], NoiseTransform) and t.family in LOGITS]
stand_ins = pytest.mark.parametrize(("transform", "name"), OF_LOGITS)


def logits_and_noises(transform: NoiseTransform, dtype: torch.dtype) -> tuple[Tensor, list[Tensor]]:
    logits = torch.tensor(LOGITS[transform.family], dtype=dtype, requires_grad=True)
    return logits, draw_noise(transform, [logits], (7, *logits.shape), dtype)


def weighted(value: Tensor) -> Tensor:
    """A sum in which each draw, and each entry of it, counts differently."""
    entries = torch.arange(1, value.shape[-1] + 1, dtype=value.dtype) ** 2
    return (WEIGHTS.to(value.dtype).reshape(-1, *(1,) * (value.dim() - 1)) * entries * value).sum()


def by_hand(family: str, name: str, noise: Tensor, logits: Tensor, temperature: float) -> Tensor:
    """d weighted / d logits, from the derivatives of sigmoid, softmax and exp written out, in float64."""
    logits, noise = logits.detach().double(), noise.double()
    entries = torch.arange(1, logits.shape[-1] + 1, dtype=torch.float64) ** 2
    weights = (WEIGHTS.reshape(-1, *(1,) * logits.dim()) * entries).expand(7, *logits.shape)
    if family == "Geometric":
        return (weights * -torch.exp(-logits)).sum(0)
    if family == "Bernoulli":
        z = logits if name == "straight_through" else (logits + torch.log(noise) - torch.log1p(-noise)) / temperature
        slope = 1 / (2 + torch.exp(z) + torch.exp(-z))
        return (weights * slope).sum(0) / (1 if name == "straight_through" else temperature)
    z = logits if name == "straight_through" else (logits - torch.log(noise)) / temperature
    p = torch.exp(z - z.logsumexp(-1, keepdim=True))
    slope = p * (weights - (weights * p).sum(-1, keepdim=True))
    return slope.sum(0) / (1 if name == "straight_through" else temperature)


def test_which_families_have_which():
    found = {construction: set(transform.gradients) for construction, transform in constructions()}
    assert found["Bernoulli"] == found["OneHotCategorical"] == {"straight_through", "relaxed"}
    assert found["Geometric"] == found["OneHotCategorical-inverse_cdf"] == {"straight_through"}
    assert not found["Categorical"]
    assert not found["Categorical-inverse_cdf"]
    assert not found["OrderedLogistic"]
    assert all(transform.family in LOGITS for _, transform in constructions() if transform.gradients)


@pytest.mark.parametrize(("transform", "name"), STAND_INS)
def test_arguments_are_those_of_forward_then_options(transform: NoiseTransform, name: str):
    forward = list(inspect.signature(transform.forward.function).parameters.values())
    ours = list(inspect.signature(transform.gradients[name].function).parameters.values())
    assert [p.name for p in ours[: len(forward)]] == [p.name for p in forward]
    options = {p.name: p.default for p in ours[len(forward) :]}
    assert options == ({"temperature": 0.5} if name == "relaxed" else {})


@pytest.mark.parametrize("dtype", DTYPES)
@stand_ins
def test_values_are_those_of_forward(transform: NoiseTransform, name: str, dtype: torch.dtype):
    logits, noises = logits_and_noises(transform, dtype)
    value = transform.gradients[name].function(*noises, logits)
    exact = transform.forward.function(*noises, logits)
    assert torch.equal(value, exact)
    assert value.dtype == exact.dtype == dtype
    assert torch.equal(transform.gradients[name].function(*noises, logits.detach()), exact)


@pytest.mark.parametrize("temperature", [None, 0.2, 3.0])
@pytest.mark.parametrize("dtype", DTYPES)
@stand_ins
def test_gradients_are_those_written_by_hand(
    transform: NoiseTransform, name: str, dtype: torch.dtype, temperature: float | None
):
    options: dict[str, Any] = {} if temperature is None or name != "relaxed" else {"temperature": temperature}
    logits, noises = logits_and_noises(transform, dtype)
    value = transform.gradients[name].function(*noises, logits, **options)
    (found,) = torch.autograd.grad(weighted(value), logits)
    expected = by_hand(transform.family, name, noises[0], logits, options.get("temperature", 0.5))
    assert expected.abs().max() > 1e-3
    tolerance = 2e-5 if dtype == torch.float32 else 1e-12
    torch.testing.assert_close(found.double(), expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", DTYPES)
@stand_ins
def test_certain_values_have_finite_gradients(transform: NoiseTransform, name: str, dtype: torch.dtype):
    """Probabilities of 0 and 1, of which the logits are infinite, keep their place."""
    rows = {
        "OneHotCategorical": [[0.0, 1.0, 0.0], [0.5, 0.5, 0.0]],
        "Bernoulli": [0.0, 1.0, 0.3],
        "Geometric": [1.0, 0.3],
    }
    probs = torch.tensor(rows[transform.family], dtype=dtype, requires_grad=True)
    params = canonical(transform, {"probs": probs})
    assert params[0].isinf().any()
    noises = draw_noise(transform, params, (7, *probs.shape), dtype)
    value = transform.gradients[name].function(*noises, *params)
    assert torch.equal(value, transform.forward.function(*noises, *params))
    (slope,) = torch.autograd.grad(weighted(value), probs)
    assert slope.isfinite().all()
    assert (slope[(probs == 0) | (probs == 1)] == 0).all()
    assert (slope[(probs > 0) & (probs < 1)] != 0).all()


def test_straight_through_gradient_of_probs_is_that_of_the_mean():
    probs = torch.tensor([1e-9, 0.2, 0.999], dtype=torch.float64, requires_grad=True)
    for family, slope in (("Bernoulli", torch.ones(3).double()), ("Geometric", -1 / probs.detach() ** 2)):
        transform = NOISE_TRANSFORMS[family]
        params = canonical(transform, {"probs": probs})
        noises = draw_noise(transform, params, (3,), torch.float64)
        value = transform.gradients["straight_through"].function(*noises, *params)
        (found,) = torch.autograd.grad(value.sum(), probs)
        torch.testing.assert_close(found, slope, rtol=1e-6, atol=0.0)


def test_one_hot_straight_through_is_the_librarys_class():
    """Its gradient and the family that has it by definition agree."""
    plain, own = NOISE_TRANSFORMS["OneHotCategorical"], NOISE_TRANSFORMS["OneHotCategoricalStraightThrough"]
    assert plain.gradients["straight_through"] == own.forward
    logits = torch.tensor([0.3, -1.0, 0.0], dtype=torch.float64, requires_grad=True)
    weights = torch.tensor([1.0, 4.0, -2.0], dtype=torch.float64)
    (theirs,) = torch.autograd.grad((library(own, {"logits": logits}).rsample() * weights).sum(), logits)
    value = own.forward.function(*draw_noise(own, [logits], (3,), torch.float64), logits)
    (ours,) = torch.autograd.grad((value * weights).sum(), logits)
    torch.testing.assert_close(ours, theirs)


@stand_ins
def test_stand_ins_are_captured_as_one_graph_and_mapped(transform: NoiseTransform, name: str):
    logits, noises = logits_and_noises(transform, torch.float32)
    function, logits = transform.gradients[name].function, logits.detach()
    torch.compiler.reset()
    compiled = torch.compile(function, fullgraph=True, backend="eager")
    assert torch.equal(compiled(*noises, logits), function(*noises, logits))
    mapped = torch.func.vmap(lambda *e: function(*e, logits))(*noises)
    assert torch.equal(mapped, function(*noises, logits))
