"""Torch's random functions: the law that each draws from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

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


def _normal(mean: Number = 0.0, std: Number = 1.0, _size: Any = None) -> RandomLaw:
    if _are(mean, std, numbers=(0, 1)):
        return STANDARD_NORMAL
    return RandomLaw("Normal", {"loc": mean, "scale": std})


def _normal_(_self: Tensor, mean: float = 0.0, std: float = 1.0) -> RandomLaw:
    return _normal(mean, std)


def _uniform_(_self: Tensor, low: float = 0.0, high: float = 1.0, **ends: float) -> RandomLaw:
    """torch calls the ends ``from`` and ``to``."""
    low, high = ends.pop("from", low), ends.pop("to", high)
    if ends:
        raise TypeError(f"unknown: {', '.join(ends)}")
    return STANDARD_UNIFORM if _are(low, high, numbers=(0, 1)) else RandomLaw("Uniform", {"low": low, "high": high})


def _exponential_(_self: Tensor, lambd: float = 1.0) -> RandomLaw:
    return STANDARD_EXPONENTIAL if _are(lambd, numbers=(1,)) else RandomLaw("Exponential", {"rate": lambd})


def _cauchy_(_self: Tensor, median: float = 0.0, sigma: float = 1.0) -> RandomLaw:
    return RandomLaw("Cauchy", {"loc": median, "scale": sigma})


def _log_normal_(_self: Tensor, mean: float = 1.0, std: float = 2.0) -> RandomLaw:
    return RandomLaw("LogNormal", {"loc": mean, "scale": std})


def _bernoulli(input: Tensor, p: Number | None = None) -> RandomLaw:
    return RandomLaw("Bernoulli", {"probs": input if p is None else p})


def _bernoulli_(_self: Tensor, p: Number = 0.5) -> RandomLaw:
    return RandomLaw("Bernoulli", {"probs": p})


def _poisson(input: Tensor) -> RandomLaw:
    return RandomLaw("Poisson", {"rate": input})


def _binomial(count: Tensor, prob: Tensor) -> RandomLaw:
    return RandomLaw("Binomial", {"total_count": count, "probs": prob})


def _are(*values: Number, numbers: tuple[float, ...]) -> bool:
    return not any(isinstance(value, Tensor) for value in values) and values == numbers


RANDOM_CALLS: Mapping[str, Callable[..., RandomLaw]] = {
    "torch.randn": _randn,
    "torch.randn_like": _randn,
    "torch.rand": _rand,
    "torch.rand_like": _rand,
    "torch.normal": _normal,
    "torch.bernoulli": _bernoulli,
    "torch.Tensor.bernoulli": _bernoulli,
    "torch.poisson": _poisson,
    "torch.binomial": _binomial,
    "torch.Tensor.normal_": _normal_,
    "torch.Tensor.uniform_": _uniform_,
    "torch.Tensor.exponential_": _exponential_,
    "torch.Tensor.cauchy_": _cauchy_,
    "torch.Tensor.log_normal_": _log_normal_,
    "torch.Tensor.bernoulli_": _bernoulli_,
    "torch.ops.aten.normal_functional": _normal_,
    "torch.ops.aten.uniform": _uniform_,
    "torch.ops.aten.exponential": _exponential_,
    "torch.ops.aten.cauchy": _cauchy_,
    "torch.ops.aten.log_normal": _log_normal_,
}
"""By the function's public name; each takes the call's own arguments, but for those that change no law."""

_NO_LAWS = ("generator", "out", "dtype", "device", "layout", "pin_memory", "requires_grad", "memory_format", "size")


def law_of(target: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> RandomLaw:
    """What the call draws."""
    return RANDOM_CALLS[target](*args, **{name: value for name, value in kwargs.items() if name not in _NO_LAWS})


def written_by(target: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor | None:
    """The tensor in which the call writes what it draws."""
    return args[0] if target.endswith("_") else kwargs.get("out")


# functions that draw from a law and compute something of it

Draw = Callable[[RandomLaw, Callable[[], Tensor]], Tensor]
"""(law, what draws from it) -> the draw."""


def _multinomial(
    draw: Draw, input: Tensor, num_samples: int, replacement: bool = False, *, generator: Any = None
) -> Tensor:
    """Without replacement it is a race: the labels whose exponential clocks ring first."""
    if num_samples == 1 or replacement:
        law = RandomLaw("Categorical", {"probs": input.unsqueeze(-2)})
        return draw(law, lambda: torch.multinomial(input, num_samples, True))
    clocks = draw(STANDARD_EXPONENTIAL, lambda: torch.empty_like(input, dtype=torch.float64).exponential_())
    return (input / clocks).topk(num_samples, -1).indices


def _gumbel_softmax(
    draw: Draw, logits: Tensor, tau: float = 1.0, hard: bool = False, eps: float = 1e-10, dim: int = -1
) -> Tensor:
    family = "RelaxedOneHotCategoricalStraightThrough" if hard else "RelaxedOneHotCategorical"
    last = logits if dim in (-1, logits.dim() - 1) else logits.movedim(dim, -1)
    law = RandomLaw(family, {"temperature": tau, "logits": last}, event_dim=1)
    value = draw(law, lambda: torch.nn.functional.gumbel_softmax(last, tau, hard))
    return value if last is logits else value.movedim(-1, dim)


def _geometric(draw: Draw, like: Tensor, p: float, generator: Any = None) -> Tensor:
    """Trials up to the first success, where the family counts the failures before it."""
    return draw(RandomLaw("Geometric", {"probs": p}), lambda: torch.empty_like(like).geometric_(p) - 1) + 1


def _geometric_(draw: Draw, self: Tensor, p: float, generator: Any = None) -> Tensor:
    return self.copy_(_geometric(draw, self, p))


def _randint(draw: Draw, *args: Any, **kwargs: Any) -> Tensor:
    """``randint(high, size)`` or ``randint(low, high, size)``."""
    ends = [arg for arg in args if not isinstance(arg, tuple | list)]
    like = {**kwargs, "dtype": None}
    uniform = draw(STANDARD_UNIFORM, lambda: torch.rand_like(torch.randint(*args, **like), dtype=torch.float64))
    return _whole(uniform, *_ends(*ends, **kwargs), kwargs.get("dtype") or torch.int64)


def _randint_like(draw: Draw, input: Tensor, *ends: Any, dtype: torch.dtype | None = None, **kwargs: Any) -> Tensor:
    """``randint_like(x, high)`` or ``randint_like(x, low, high)``."""
    device = kwargs.get("device")
    uniform = draw(STANDARD_UNIFORM, lambda: torch.rand_like(input, dtype=torch.float64, device=device))
    return _whole(uniform, *_ends(*ends, **kwargs), dtype or input.dtype)


def _ends(*ends: Any, **kwargs: Any) -> tuple[int, int]:
    """The least number, and the first that is too large; of NumPy, or tensors."""
    lows = ends if "high" in kwargs else ends[:-1]
    low, high = kwargs.get("low", lows[0] if lows else 0), kwargs.get("high", ends[-1] if ends else 1)
    return int(low), int(high)


def _whole(uniform: Tensor, low: int, high: int, dtype: torch.dtype) -> Tensor:
    """The whole part of so many times a uniform."""
    whole = (uniform * (high - low)).floor().to(dtype)
    return whole + low if low else whole


def _randperm(draw: Draw, n: int, **kwargs: Any) -> Tensor:
    """The order of so many uniform numbers."""
    device = kwargs.get("device")
    uniform = draw(STANDARD_UNIFORM, lambda: torch.rand(n, dtype=torch.float64, device=device))
    return uniform.argsort().to(kwargs.get("dtype") or torch.int64)


def _with_out(composed: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """As the function that writes into ``out``, where that is given."""

    def written(draw: Draw, *args: Any, out: Tensor | None = None, **kwargs: Any) -> Tensor:
        value = composed(draw, *args, **kwargs)
        return value if out is None else out.copy_(value)

    return written


def _scaled(input: Tensor, kept: Tensor, p: float) -> Tensor:
    return input * kept / (1 - p) if p < 1 else input * 0


_LEAST = -1.7580993408473766
"""What a SELU, which alpha dropout is for, returns at minus infinity."""


def _alpha(input: Tensor, kept: Tensor, p: float) -> Tensor:
    """Klambauer et al. 2017, Self-Normalizing Neural Networks, section 2: mean and variance stay what they are."""
    scale = ((1 - p) * (1 + p * _LEAST**2)) ** -0.5 if p < 1 else 0.0
    return scale * (input * kept + _LEAST * (1 - kept)) - scale * _LEAST * p


def _elements(input: Tensor) -> tuple[int, ...]:
    return tuple(input.shape)


def _channels(unbatched: int | None, input: Tensor) -> tuple[int, ...]:
    """A batch of them, unless the input has as many dims as an ``unbatched`` one."""
    leading = 1 if input.dim() == unbatched else 2
    return (*input.shape[:leading], *(1 for _ in input.shape[leading:]))


def _dropout(
    shape_of: Callable[[Tensor], tuple[int, ...]],
    dropped: Callable[[Tensor, Tensor, float], Tensor],
    by_default: bool = True,
) -> Callable[..., Tensor]:
    """What drops elements or whole channels: where uniform noise of that shape is below ``p``."""

    def dropout(
        draw: Draw, input: Tensor, p: float = 0.5, training: bool = by_default, inplace: bool = False
    ) -> Tensor:
        if not training or p == 0:
            return input
        shape = shape_of(input)
        uniform = draw(STANDARD_UNIFORM, lambda: torch.rand(shape, dtype=input.dtype, device=input.device))
        result = dropped(input, (uniform >= p).to(input.dtype), p)
        return input.copy_(result) if inplace else result

    return dropout


_DROPOUTS = {
    "dropout": _dropout(_elements, _scaled),
    "feature_dropout": _dropout(partial(_channels, None), _scaled),
    "alpha_dropout": _dropout(_elements, _alpha),
    "feature_alpha_dropout": _dropout(partial(_channels, None), _alpha),
}
"""Those of ``torch`` itself, as exported programs call them."""


def _by_torch(dropout: Callable[..., Tensor], inplace: bool) -> Callable[..., Tensor]:
    return lambda draw, input, p, train: dropout(draw, input, p, train, inplace)


DROPOUT_CALLS: Mapping[str, Callable[..., Tensor]] = {
    **{f"torch.{name}": _by_torch(dropout, False) for name, dropout in _DROPOUTS.items()},
    **{f"torch.{name}_": _by_torch(dropout, True) for name, dropout in _DROPOUTS.items()},
    **{f"torch.ops.aten.{name}_": _by_torch(dropout, True) for name, dropout in _DROPOUTS.items()},
    "torch.nn.functional.dropout": _dropout(_elements, _scaled),
    "torch.nn.functional.dropout1d": _dropout(partial(_channels, 2), _scaled),
    "torch.nn.functional.dropout2d": _dropout(partial(_channels, None), _scaled),
    "torch.nn.functional.dropout3d": _dropout(partial(_channels, 4), _scaled),
    "torch.nn.functional.alpha_dropout": _dropout(_elements, _alpha, by_default=False),
    "torch.nn.functional.feature_alpha_dropout": _dropout(partial(_channels, None), _alpha, by_default=False),
}
"""Dropout as noise, where that is asked for; as `COMPOSED_CALLS`."""

DROPOUT_MODULES = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)

COMPOSED_CALLS: Mapping[str, Callable[..., Tensor]] = {
    "torch.multinomial": _with_out(_multinomial),
    "torch.Tensor.multinomial": _multinomial,
    "torch.nn.functional.gumbel_softmax": _gumbel_softmax,
    "torch.Tensor.geometric_": _geometric_,
    "torch.ops.aten.geometric": _geometric,
    "torch.randint": _with_out(_randint),
    "torch.randint_like": _randint_like,
    "torch.randperm": _with_out(_randperm),
}
"""By the function's public name; each takes the means to draw, then the call's own arguments."""
