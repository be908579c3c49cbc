"""The noise laws: their moments and CDF, their open ends, and that a generator repeats them."""

import math

import pytest
import torch
from scipy import stats

from dgmcompile.reparam import NOISE_LAWS, NoiseLaw
from tests import seeds

DTYPES = (torch.float32, torch.float64)
EXACT = {"StandardNormal": stats.norm(), "StandardExponential": stats.expon(), "StandardUniform": stats.uniform()}
DRAWS = 200_000


def draw(law: NoiseLaw, size: tuple[int, ...], dtype: torch.dtype, seed: int = 0) -> torch.Tensor:
    generator = seeds.generator(seed)
    return law.draw.function(size, dtype=dtype, device=generator.device, generator=generator)


def test_each_law_stands_under_its_name_and_has_an_exact_cdf_here():
    assert [law.name for law in NOISE_LAWS] == list(NOISE_LAWS.names())
    assert set(EXACT) == set(NOISE_LAWS.names())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("law", NOISE_LAWS, ids=lambda law: law.name)
def test_moments_and_cdf(law: NoiseLaw, dtype: torch.dtype):
    exact = EXACT[law.name]
    noise = draw(law, (DRAWS,), dtype).double()
    assert abs(noise.mean() - exact.mean()) < 5 * exact.std() / math.sqrt(DRAWS)
    fourth = exact.expect(lambda x: (x - exact.mean()) ** 4)
    assert abs(noise.var() - exact.var()) < 5 * math.sqrt((fourth - exact.var() ** 2) / DRAWS)
    assert stats.kstest(noise.numpy(), exact.cdf).pvalue > 1e-4


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("law", NOISE_LAWS, ids=lambda law: law.name)
def test_size_dtype_and_generator(law: NoiseLaw, dtype: torch.dtype):
    noise = draw(law, (3, 0, 2), dtype)
    assert noise.shape == (3, 0, 2)
    first = draw(law, (4, 5), dtype)
    assert first.dtype == dtype
    assert torch.equal(first, draw(law, (4, 5), dtype))
    assert not torch.equal(first, draw(law, (4, 5), dtype, seed=1))
    assert draw(law, (), dtype).shape == ()


@pytest.mark.parametrize("law", NOISE_LAWS, ids=lambda law: law.name)
def test_without_a_generator_the_global_seed_repeats_it(law: NoiseLaw):
    torch.manual_seed(3)
    first = law.draw.function((4,), dtype=torch.float32, device="cpu")
    torch.manual_seed(3)
    assert torch.equal(first, law.draw.function((4,), dtype=torch.float32, device="cpu"))


@pytest.mark.parametrize(("dtype", "cells"), [(torch.float32, 2**23), (torch.float64, 2**52)])
def test_uniform_is_open_at_both_ends(dtype: torch.dtype, cells: int, monkeypatch: pytest.MonkeyPatch):
    asked: list[int] = []

    def extremes(high: int, size: tuple[int, ...], **_: object) -> torch.Tensor:
        asked.append(high)
        return torch.tensor([0, high // 2 - 1, high // 2, high - 1])

    monkeypatch.setattr(torch, "randint", extremes)
    noise = draw(NOISE_LAWS["StandardUniform"], (4,), dtype)
    assert asked == [cells]
    half = 0.5 / cells
    assert noise.tolist() == [half, 0.5 - half, 0.5 + half, 1 - half]
    assert torch.equal(1 - noise, noise.flip(0))
    assert torch.isfinite(torch.logit(noise)).all()


def test_exponential_is_never_zero():
    noise = draw(NOISE_LAWS["StandardExponential"], (20_000_000,), torch.float32)
    assert noise.min() > 0
