"""On an accelerator each transform gives what it gives on the CPU, and so do its gradients.

The law of what the CPU gives is tested elsewhere. Where there is no accelerator there is nothing to compare with.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from dgmcompile.reparam import NOISE_LAWS, NOISE_TRANSFORMS, NoiseTransform
from tests.reparam.drawing import as_given, canonical, draw_noise, library
from tests.reparam.example import Given
from tests.reparam.test_families import CASES, EXAMPLES

if not torch.accelerator.is_available():
    pytest.skip("there is no accelerator here", allow_module_level=True)

DEVICE = torch.device(str(torch.accelerator.current_accelerator()))
DTYPES = (torch.float32, torch.float64)
DRAWS = 2_000
FEW = 0.002
"""Part of the draws of a discrete law that may lie on the other side of a threshold: sums are rounded otherwise."""

walked = pytest.mark.parametrize(("transform", "given"), CASES)


def on(device: torch.device, values: list[Any]) -> list[Any]:
    """Copies there, of which those of real numbers are leaves of a graph of gradients."""
    return [
        value.detach().to(device).requires_grad_(value.is_floating_point()) if isinstance(value, Tensor) else value
        for value in values
    ]


def value_and_gradients(transform: NoiseTransform, noises: list[Tensor], params: list[Any]) -> tuple[Tensor, Any]:
    value = transform.forward.function(*noises, *params)
    leaves = [p for p in params if isinstance(p, Tensor) and p.requires_grad]
    if not value.requires_grad or not leaves:
        return value.detach(), []
    weights = torch.linspace(0.5, 1.5, value.numel(), dtype=value.dtype, device=value.device).reshape(value.shape)
    total = (value.clamp(-1e6, 1e6) * weights).sum()
    return value.detach(), torch.autograd.grad(total, leaves, allow_unused=True, materialize_grads=True)


@walked
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.filterwarnings("ignore:Singular sample detected:UserWarning")  # of every Wishart
def test_values_and_gradients_are_those_of_the_cpu(transform: NoiseTransform, given: Given, dtype: torch.dtype):
    params = canonical(transform, as_given(given, dtype))
    event = library(transform, as_given(given, dtype)).event_shape
    noises = draw_noise(transform, params, (DRAWS, *event), dtype)
    here, slopes = value_and_gradients(transform, noises, on(torch.device("cpu"), params))
    there, their_slopes = value_and_gradients(transform, [e.to(DEVICE) for e in noises], on(DEVICE, params))
    assert there.device.type == DEVICE.type and there.dtype == here.dtype
    if transform.discrete or transform.family.endswith("StraightThrough"):
        assert ((there.cpu() - here).abs() > 0.5).double().mean() <= FEW
    else:
        rtol = 2e-4 if dtype == torch.float32 else 1e-9
        scale = float(here[here.isfinite()].abs().amax()) if here.isfinite().any() else 1.0
        torch.testing.assert_close(there.cpu(), here, rtol=rtol, atol=rtol * min(scale, 1.0), equal_nan=True)
    for ours, theirs in zip(slopes, their_slopes, strict=True):
        finite = ours[ours.isfinite()].abs()
        assert torch.equal(theirs.cpu().isfinite(), ours.isfinite())
        if dtype == torch.float64 and finite.numel():  # sums of terms that cancel keep few digits in single precision
            torch.testing.assert_close(theirs.cpu(), ours, rtol=1e-6, atol=1e-6 * float(finite.amax()), equal_nan=True)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NOISE_LAWS.names())
def test_noise_is_drawn_there(name: str, dtype: torch.dtype):
    generator = torch.Generator(DEVICE).manual_seed(0)
    noise = NOISE_LAWS[name].draw.function((100_000,), dtype=dtype, device=DEVICE, generator=generator)
    assert noise.device.type == DEVICE.type and noise.dtype == dtype and noise.isfinite().all()
    expected = {"StandardNormal": (0.0, 1.0), "StandardExponential": (1.0, 1.0), "StandardUniform": (0.5, 12**-0.5)}
    mean, scale = expected[name]
    assert abs(float(noise.double().mean()) - mean) < 5 * scale / 100_000**0.5
    assert abs(float(noise.double().std()) / scale - 1) < 0.02
    if name != "StandardNormal":
        assert noise.min() > 0
    if name == "StandardUniform":
        assert noise.max() < 1


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch's own compiler
@pytest.mark.parametrize("name", ["Gamma", "Beta", "Poisson", "Binomial", "VonMises", "StudentT"])
def test_numeric_inverses_are_compiled_there(name: str):
    transform = NOISE_TRANSFORMS[name]
    params = on(DEVICE, canonical(transform, as_given(EXAMPLES[name].settings[0], torch.float32)))
    noises = [e.to(DEVICE) for e in draw_noise(transform, params, (DRAWS,), torch.float32)]
    eager = transform.forward.function(*noises, *params)
    compiled = torch.compile(transform.forward.function, fullgraph=True)(*noises, *params)
    if transform.discrete:
        assert (compiled != eager).double().mean() <= FEW
    else:
        torch.testing.assert_close(compiled, eager, rtol=1e-4, atol=1e-5)
