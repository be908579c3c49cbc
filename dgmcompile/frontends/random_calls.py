"""Torch's random functions: the law that each draws from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

Number = Tensor | float


@dataclass(frozen=True)
class RandomLaw:
    """What a call draws: noise, where there are no parameters and the family is a noise law, else a family."""

    family: str
    params: Mapping[str, Any] = field(default_factory=dict[str, Any])
    event_dim: int = 0


STANDARD_NORMAL = RandomLaw("StandardNormal")
STANDARD_UNIFORM = RandomLaw("StandardUniform")
STANDARD_EXPONENTIAL = RandomLaw("StandardExponential")
NOISE = frozenset(law.family for law in (STANDARD_NORMAL, STANDARD_UNIFORM, STANDARD_EXPONENTIAL))


def _randn(*_: Any, **__: Any) -> RandomLaw:
    return STANDARD_NORMAL


def _rand(*_: Any, **__: Any) -> RandomLaw:
    return STANDARD_UNIFORM


def _normal(mean: Number = 0.0, std: Number = 1.0, *_: Any, **__: Any) -> RandomLaw:
    if _are(mean, std, numbers=(0, 1)):
        return STANDARD_NORMAL
    return RandomLaw("Normal", {"loc": mean, "scale": std})


def _normal_(_self: Tensor, mean: float = 0.0, std: float = 1.0, **__: Any) -> RandomLaw:
    return _normal(mean, std)


def _uniform_(_self: Tensor, a: float = 0.0, b: float = 1.0, **__: Any) -> RandomLaw:
    return STANDARD_UNIFORM if _are(a, b, numbers=(0, 1)) else RandomLaw("Uniform", {"low": a, "high": b})


def _exponential_(_self: Tensor, lambd: float = 1.0, **__: Any) -> RandomLaw:
    return STANDARD_EXPONENTIAL if _are(lambd, numbers=(1,)) else RandomLaw("Exponential", {"rate": lambd})


def _cauchy_(_self: Tensor, median: float = 0.0, sigma: float = 1.0, **__: Any) -> RandomLaw:
    return RandomLaw("Cauchy", {"loc": median, "scale": sigma})


def _log_normal_(_self: Tensor, mean: float = 1.0, std: float = 2.0, **__: Any) -> RandomLaw:
    return RandomLaw("LogNormal", {"loc": mean, "scale": std})


def _bernoulli(input: Tensor, p: Number | None = None, **__: Any) -> RandomLaw:
    return RandomLaw("Bernoulli", {"probs": input if p is None else p})


def _bernoulli_(_self: Tensor, p: Number = 0.5, **__: Any) -> RandomLaw:
    return RandomLaw("Bernoulli", {"probs": p})


def _poisson(input: Tensor, *_: Any, **__: Any) -> RandomLaw:
    return RandomLaw("Poisson", {"rate": input})


def _binomial(count: Tensor, prob: Tensor, *_: Any, **__: Any) -> RandomLaw:
    return RandomLaw("Binomial", {"total_count": count, "probs": prob})


def _multinomial(input: Tensor, num_samples: int, replacement: bool = False, **__: Any) -> RandomLaw | None:
    if num_samples > 1 and not replacement:
        return None
    return RandomLaw("Categorical", {"probs": input.unsqueeze(-2)})


def _gumbel_softmax(
    logits: Tensor, tau: float = 1.0, hard: bool = False, eps: float = 1e-10, dim: int = -1
) -> RandomLaw | None:
    if dim not in (-1, logits.dim() - 1):
        return None
    family = "RelaxedOneHotCategoricalStraightThrough" if hard else "RelaxedOneHotCategorical"
    return RandomLaw(family, {"temperature": tau, "logits": logits}, event_dim=1)


def _are(*values: Number, numbers: tuple[float, ...]) -> bool:
    return not any(isinstance(value, Tensor) for value in values) and values == numbers


RANDOM_CALLS: Mapping[str, Callable[..., RandomLaw | None]] = {
    "torch.randn": _randn,
    "torch.randn_like": _randn,
    "torch.rand": _rand,
    "torch.rand_like": _rand,
    "torch.normal": _normal,
    "torch.bernoulli": _bernoulli,
    "torch.Tensor.bernoulli": _bernoulli,
    "torch.poisson": _poisson,
    "torch.binomial": _binomial,
    "torch.multinomial": _multinomial,
    "torch.Tensor.multinomial": _multinomial,
    "torch.nn.functional.gumbel_softmax": _gumbel_softmax,
    "torch.Tensor.normal_": _normal_,
    "torch.Tensor.uniform_": _uniform_,
    "torch.Tensor.exponential_": _exponential_,
    "torch.Tensor.cauchy_": _cauchy_,
    "torch.Tensor.log_normal_": _log_normal_,
    "torch.Tensor.bernoulli_": _bernoulli_,
}
"""By the function's public name; each takes the call's own arguments. None where no law is known for these."""
