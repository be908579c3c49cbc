"""What a program of plain PyTorch returns: its targets."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor
from torch.distributions import Distribution

from dgmcompile.frontends.gathering import gathered_in
from dgmcompile.frontends.record import Recorder
from dgmcompile.frontends.recording import Recording
from dgmcompile.frontends.variables import Variables
from dgmcompile.ir.graph import Call, Node, Ref, Role, Sample, Site
from dgmcompile.ir.names import unused

OUTPUT = "output"
"""What a result is called that the program gives no name."""


def add_outputs(recorder: Recorder, result: Any, draw: Callable[[str, Distribution], Tensor]) -> None:
    """Each tensor and each law among the results is a target: called by its key, or as the program's variable for it.

    ``draw`` makes a law that is returned the target of a name.
    """
    for key, value in results_of(result):
        if isinstance(value, Distribution):
            name = unused(key or OUTPUT, recorder.recording.results)
            draw(name, value)
        else:
            with recorder.paused():
                name = _add_tensor(recorder, key, value)
        recorder.recording.results.append(name)


def _add_tensor(recorder: Recorder, key: str, value: Tensor) -> str:
    recording, ref = recorder.recording, recorder.ref(value)
    marked = recorder.node(ref)
    if isinstance(marked, Sample) and marked.site is not None and marked.site.name not in recording.results:
        recorder.replace(replace(marked, site=replace(marked.site, role="target")))
        return marked.site.name
    called = recording.variables.get(ref.name, "") or recording.weak_names.get(ref.name, "")
    name = unused(key or called or OUTPUT, recording.results)
    recorder.add(deterministic(recorder, name, "target", value), name)
    return name


def results_of(result: Any, key: str = "") -> Iterator[tuple[str, Tensor | Distribution]]:
    """The tensors and laws that the program returns, and their keys and fields, joined by dots; "" if there is none."""
    if isinstance(result, Tensor | Distribution):
        yield key, result
    elif isinstance(result, Mapping):
        for name, value in result.items():
            yield from results_of(value, _joined(key, str(name)))
    elif isinstance(fields := getattr(result, "_fields", getattr(result, "__dataclass_fields__", None)), tuple | dict):
        for name in fields:
            yield from results_of(getattr(result, name), _joined(key, name))
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


def with_drawn_results(nodes: Sequence[Node], recording: Recording) -> list[Node]:
    """A result that only gathers draws has no law of its own: these are the targets, as if each were returned.

    One that would be called as the draw is called its value; one draw that has no name is called as the result.
    """
    by_name, variables = {node.name: node for node in nodes}, Variables(nodes, recording)
    new = dict[str, Node]()
    for node in nodes:
        if not isinstance(node, Sample) or node.site is None or node.site.role != "target" or node.family != "Delta":
            continue
        value: Ref = node.params["v"]
        gathered = gathered_in(value.name, by_name)
        drawn = [one for one in gathered or () if isinstance(one, Sample)]
        if gathered is None or not drawn:
            continue
        name = node.site.name
        names = {variables.at(one.name) for one in drawn}
        called = name if len(drawn) == 1 and names == {""} else ""
        for one in drawn:
            site = one.site or Site(called, "target", one.family)
            new[one.name] = replace(one, site=replace(site, role="target"))
        if name in (*names, called):
            name = unused(f"{name}_value", recording.results)
            recording.results[recording.results.index(node.site.name)] = name
        new[node.name] = Call(
            name=node.name,
            target="identity",
            args=(value,),
            shape=node.shape,
            dtype=node.dtype,
            site=Site(name, "deterministic", "Delta"),
            location=node.location,
        )
    return [new.get(node.name, node) for node in nodes]
