"""What a program of plain PyTorch returns: its targets."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor
from torch.distributions import Distribution

from dgmcompile.frontends.record import Recorder
from dgmcompile.frontends.recording import Recording
from dgmcompile.frontends.targets import short_name
from dgmcompile.frontends.variables import variable_at
from dgmcompile.ir.graph import Arg, Call, Constant, Input, Node, Ref, Role, Sample, Site, is_size, refs_in
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


_JOINED = ["stack", "cat", "concat", "concatenate", "hstack", "vstack", "dstack", "column_stack"]
_SHAPED = ["view", "reshape", "view_as", "flatten", "unflatten", "squeeze", "unsqueeze", "permute", "transpose"]
_TURNED = ["swapaxes", "swapdims", "movedim", "t", "T", "mT"]
_CAST = ["contiguous", "clone", "detach", "to", "type", "float", "double", "half", "bfloat16", "int", "long"]
_GATHERING = frozenset([*_JOINED, *_SHAPED, *_TURNED, *_CAST])
"""Calls that only put values into another order or type."""


def with_drawn_results(nodes: Sequence[Node], recording: Recording) -> list[Node]:
    """A result that only gathers draws has no law of its own: these are the targets, as if each were returned.

    One that would be called as the draw is called its value; one draw that has no name is called as the result.
    """
    by_name = {node.name: node for node in nodes}
    new = dict[str, Node]()
    for node in nodes:
        if not isinstance(node, Sample) or node.site is None or node.site.role != "target" or node.family != "Delta":
            continue
        value: Ref = node.params["v"]
        gathered = _gathered(value.name, by_name)
        drawn = [one for one in gathered or () if isinstance(one, Sample)]
        if gathered is None or not drawn:
            continue
        name = node.site.name
        names = {variable_at(one.name, nodes, recording) for one in drawn}
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


_JOINING = ("cat", "concat", "concatenate")
_FILLED = frozenset(["zeros", "ones", "full", "empty", "new_zeros", "new_ones", "new_full", "new_empty"])
_FILLED |= {"zeros_like", "ones_like", "full_like", "empty_like"}
"""Calls of which the values are known beforehand."""


def _gathered(name: str, by_name: Mapping[str, Node]) -> list[Node] | None:
    """The draws and arguments that a value is put together of; None if it is made of anything else."""
    node = by_name[name]
    if isinstance(node, Input | Constant) or (isinstance(node, Sample) and node.family != "Delta"):
        return [node]
    parts = _parts(node, by_name) if isinstance(node, Call) else None
    found = [_gathered(part, by_name) for part in parts or () if not is_size(by_name[part])]
    return None if parts is None or None in found else [one for inner in found for one in inner or ()]


def _parts(call: Call, by_name: Mapping[str, Node]) -> list[str] | None:
    """What it puts together, where it leaves out no draw."""
    word = short_name(call.target_name)
    if word in _FILLED:
        return []
    if word == "setitem":
        return refs_in(call.args) if _overwrites_nothing(call, by_name) else None
    if word == "getitem" and call.target != "getitem":
        index = call.args[1] if isinstance(call.args[1], tuple) else (call.args[1],)
        return refs_in(call.args) if _only_adds_dims(index) else _without_beginning(call.args[0].name, index, by_name)
    return refs_in(call.arguments) if word in _GATHERING else None


def _overwrites_nothing(call: Call, by_name: Mapping[str, Node]) -> bool:
    """Is it one of ``x[:, t] = ...``, each with another number at that place?"""
    places: list[tuple[int, Arg]] = []
    node: Node = call
    while isinstance(node, Call) and short_name(node.target_name) == "setitem":
        index = node.args[1] if isinstance(node.args[1], tuple) else (node.args[1],)
        chosen = [(dim, part) for dim, part in enumerate(index) if part != slice(None)]
        if len(chosen) != 1 or type(chosen[0][1]) is not int or chosen[0][1] < 0:
            return False
        places += chosen
        node = by_name[node.args[0].name]
    return len({dim for dim, _ in places}) == 1 and len({part for _, part in places}) == len(places)


def _only_adds_dims(index: tuple[Arg, ...]) -> bool:
    """``x[:, None]``."""
    return all(part is None or part is ... or part == slice(None) for part in index)


def _without_beginning(name: str, index: tuple[Arg, ...], by_name: Mapping[str, Node]) -> list[str] | None:
    """Of ``tokens[:, 1:]``, what comes after elements that were not drawn, with which a sequence begins."""
    *before, last = index
    if not isinstance(last, slice) or not isinstance(last.start, int) or any(part != slice(None) for part in before):
        return None
    pieces, left = _pieces(name, len(before), by_name), last.start
    while pieces and left > 0:
        first, *pieces = pieces
        size, found = (by_name[first].shape or ())[len(before)], _gathered(first, by_name)
        if not isinstance(size, int) or found is None or any(isinstance(node, Sample) for node in found):
            return None
        left -= size
    return pieces if left == 0 and last.stop is None and last.step is None else None


def _pieces(name: str, dim: int, by_name: Mapping[str, Node]) -> list[str]:
    """What is put one after another along that dim."""
    node = by_name[name]
    if not isinstance(node, Call) or short_name(node.target_name) not in _JOINING:
        return [name]
    along = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim", 0)
    if along % len(node.shape or (0,)) != dim:
        return [name]
    return [piece for part in refs_in(node.args[:1]) for piece in _pieces(part, dim, by_name)]
