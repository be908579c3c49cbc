"""What a program of plain PyTorch returns: its targets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from dgmcompile.frontends.record import Recorder
from dgmcompile.ir.graph import Sample, Site

OUTPUT = "output"
"""What a result is called that the program gives no name."""


def add_outputs(recorder: Recorder, result: Any) -> None:
    """Each tensor among the results is a target: a draw that is returned as such, anything else as its value."""
    for name, tensor in _named(result, ""):
        _add(recorder, name, tensor)


def named_results(result: Any) -> Iterator[tuple[str, Tensor]]:
    """What the program returns, by the names of its targets."""
    return ((name or OUTPUT, tensor) for name, tensor in _named(result, ""))


def _named(result: Any, name: str) -> Iterator[tuple[str, Tensor]]:
    """The tensors by their keys, positions and fields, joined by dots."""
    if isinstance(result, Tensor):
        yield name, result
    elif isinstance(result, Mapping):
        for key, value in result.items():
            yield from _named(value, _joined(name, str(key)))
    elif hasattr(result, "_fields"):
        for key, value in zip(result._fields, result, strict=True):
            yield from _named(value, _joined(name, key))
    elif isinstance(result, tuple | list):
        for index, value in enumerate(result):
            yield from _named(value, _joined(name, str(index)) if name else f"{OUTPUT}_{index}")


def _joined(name: str, key: str) -> str:
    return f"{name}.{key}" if name else key


def _add(recorder: Recorder, name: str, tensor: Tensor) -> None:
    ref = recorder.ref(tensor)
    node = recorder.node(ref)
    if isinstance(node, Sample) and node.site is None:
        recorder.replace(replace(node, site=Site(name or recorder.recording.hints[node.name], "target", node.family)))
        return
    shape = tuple(tensor.shape)
    recorder.add(
        Sample(
            name=recorder.fresh_name(),
            family="Delta",
            params={"v": ref, "event_dim": max(len(shape) - 1, 0)},
            event_dim=max(len(shape) - 1, 0),
            shape=shape,
            dtype=tensor.dtype,
            site=Site(name or OUTPUT, "target", "Delta"),
            location=node.location,
        ),
        name or OUTPUT,
    )
