"""What a program of plain PyTorch returns: its targets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from dgmcompile.frontends.naming import unused
from dgmcompile.frontends.record import Recorder
from dgmcompile.ir.graph import Role, Sample, Site

OUTPUT = "output"
"""What a result is called that the program gives no name."""


def add_outputs(recorder: Recorder, result: Any) -> None:
    """Each tensor among the results is a target: called by its key, or as the program's variable for it."""
    recording = recorder.recording
    for key, tensor in results_of(result):
        variable = recording.variables.get(recorder.ref(tensor).name, "")
        name = unused(key or variable or OUTPUT, recording.results)
        recorder.add(deterministic(recorder, name, "target", tensor), name)
        recording.results.append(name)


def results_of(result: Any, key: str = "") -> Iterator[tuple[str, Tensor]]:
    """The tensors among what the program returns, and their keys and fields, joined by dots; "" where there is none."""
    if isinstance(result, Tensor):
        yield key, result
    elif isinstance(result, Mapping):
        for name, value in result.items():
            yield from results_of(value, _joined(key, str(name)))
    elif hasattr(result, "_fields"):
        for name, value in zip(result._fields, result, strict=True):
            yield from results_of(value, _joined(key, name))
    elif isinstance(result, tuple | list):
        for index, value in enumerate(result):
            yield from results_of(value, _joined(key, str(index)) if key else "")


def _joined(key: str, name: str) -> str:
    return f"{key}.{name}" if key else name


def deterministic(recorder: Recorder, name: str, role: Role, value: Tensor) -> Sample:
    """A site at the value, which is compared by its distance; the first dim is the batch."""
    ref, event_dim = recorder.ref(value), max(value.dim() - 1, 0)
    return Sample(
        name=recorder.fresh_name(),
        family="Delta",
        params={"v": ref, "event_dim": event_dim},
        event_dim=event_dim,
        shape=tuple(value.shape),
        dtype=value.dtype,
        site=Site(name, role, "Delta"),
        location=recorder.node(ref).location,
        options={"divergence": "wasserstein2"},
    )
