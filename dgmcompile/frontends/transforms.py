"""The steps of a transformed distribution: by name where a formula is known, else recorded on probes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Transform, transforms

from dgmcompile.diagnostics import Location
from dgmcompile.frontends.record import Recorder
from dgmcompile.ir.graph import Arg, Call, TransformStep

BY_NAME = frozenset(
    {
        "AbsTransform",
        "AffineTransform",
        "AffineTransform.inv",
        "ExpTransform",
        "ExpTransform.inv",
        "LowerCholeskyTransform",
        "PositiveDefiniteTransform",
        "PowerTransform",
        "PowerTransform.inv",
        "SigmoidTransform",
        "SigmoidTransform.inv",
        "SoftmaxTransform",
        "SoftplusTransform",
        "SoftplusTransform.inv",
        "StickBreakingTransform",
        "StickBreakingTransform.inv",
        "TanhTransform",
        "TanhTransform.inv",
    }
)
"""Steps that need not be recorded: those for which formulas are known."""


class StepRecorder:
    """Records the steps that have no name in `BY_NAME`, as calls on probes."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    def steps(
        self, parts: Iterable[Transform], base: Callable[[], Tensor], site: str, location: Location | None
    ) -> tuple[TransformStep, ...]:
        """The steps in order; ``base()`` is a value of the distribution before them."""
        flat = list(_flat(parts))
        if all(_name(transform) in BY_NAME for transform in flat):
            return tuple(self._named(transform) for transform in flat)
        found: list[TransformStep] = []
        with self._recorder.paused(), torch.no_grad():
            value = base()
        for transform in flat:
            if _name(transform) in BY_NAME:
                found.append(self._named(transform))
                with self._recorder.paused(), torch.no_grad():
                    value = _forward(transform)(value)
            else:
                step, value = self._recorded(transform, value, site, location)
                found.append(step)
        return tuple(found)

    def _named(self, transform: Any) -> TransformStep:
        """By its class, and what its constructor was given."""
        held = vars(_inner(transform))
        names = [name for name in inspect.signature(type(_inner(transform))).parameters if name != "cache_size"]
        values = {name: held.get(name, held.get(f"_{name}")) for name in names}
        params = {name: self._recorder.arg(value) for name, value in values.items() if value is not None}
        return TransformStep(_name(transform), params)

    def _recorded(
        self, transform: Any, value: Tensor, site: str, location: Location | None
    ) -> tuple[TransformStep, Tensor]:
        """What it does to a probe, and the value it maps ``value`` to."""
        x = self._probe(value, "x", location)
        self._recorder.recording.origin[self._recorder.ref(x).name] = f"site {site!r}"
        result = _forward(transform)(x)
        y = self._probe(result, "y", location)
        params: dict[str, Arg] = {
            "x": self._recorder.ref(x),
            "y": self._recorder.ref(y),
            "forward": self._recorder.ref(result),
            "domain_event_dim": transform.domain.event_dim,
            "codomain_event_dim": transform.codomain.event_dim,
        }
        if (undone := self._undone(transform, y)) is not None:
            params |= {name: self._recorder.ref(value) for name, value in undone.items()}
        return TransformStep(_name(transform), params), result.detach()

    def _probe(self, value: Tensor, hint: str, location: Location | None) -> Tensor:
        with self._recorder.paused():
            value = value.detach().clone()
        node = Call(
            name=self._recorder.fresh_name(),
            target="probe",
            shape=tuple(value.shape),
            dtype=value.dtype,
            location=location,
        )
        self._recorder.add(node, hint, value)
        return value

    def _undone(self, transform: Transform, y: Tensor) -> dict[str, Tensor] | None:
        """The inverse and the log-Jacobian at ``y``; None where it has none, or none that can be recorded."""
        errors = self._recorder.recording.errors
        known = len(errors)
        try:
            x = transform.inv(y)
            log_det = transform.log_abs_det_jacobian(x, y)
        except (KeyError, NotImplementedError, RuntimeError):
            return None
        if len(errors) > known:
            del errors[known:]
            return None
        assert x is not None and log_det is not None
        return {"inverse": x, "log_det": log_det}


def _flat(parts: Iterable[Transform]) -> Iterator[Transform]:
    """Without compositions."""
    for part in parts:
        if isinstance(part, transforms.ComposeTransform):
            yield from _flat(part.parts)
        elif isinstance(part, transforms._InverseTransform) and isinstance(part._inv, transforms.ComposeTransform):
            yield from _flat([inner.inv for inner in reversed(part._inv.parts)])
        else:
            yield part


def _inner(transform: Any) -> Any:
    return transform._inv if isinstance(transform, transforms._InverseTransform) else transform


def _name(transform: Any) -> str:
    """``X`` or ``X.inv``; of a class that is not torch's own, with its module."""
    cls = type(_inner(transform))
    own = getattr(transforms, cls.__name__, None) is cls
    name = cls.__name__ if own else f"{cls.__module__}.{cls.__qualname__}"
    return f"{name}.inv" if transform is not _inner(transform) else name


def _forward(transform: Any) -> Callable[[Tensor], Tensor]:
    """What stands behind ``transform(x)``, which would answer from a cache."""
    inner = _inner(transform)
    return inner._call if inner is transform else inner._inverse
