"""Noise that a program draws at once and takes apart: each part is noise of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from operator import itemgetter
from types import EllipsisType
from typing import Any

from torch import Tensor

from dgmcompile.frontends.targets import short_name
from dgmcompile.ir.binding import Step
from dgmcompile.ir.graph import Arg, Call, Node, Noise, is_size, refs_in

TAKING_APART = ("chunk", "split", "unbind")
"""Calls that return the parts of a tensor."""


@dataclass(frozen=True)
class Parted:
    """The nodes, with a `Noise` for each part; ``parts``: whole noise -> its parts, and where they lie in it."""

    nodes: list[Node]
    parts: Mapping[str, tuple[tuple[str, Step], ...]]


def parted(nodes: Sequence[Node]) -> Parted:
    """Take noise apart of which every reader takes a part, no element twice."""
    readers: dict[str, list[Node]] = {}
    for node in nodes:
        for name in [] if is_size(node) else refs_in(node.arguments):
            readers.setdefault(name, []).append(node)
    found: dict[str, tuple[tuple[str, Step], ...]] = {}
    for noise in (node for node in nodes if isinstance(node, Noise)):
        if parts := _parts(noise, readers):
            found[noise.name] = parts
    laws = {name: whole for whole, parts in found.items() for name, _ in parts}
    by_name = {node.name: node for node in nodes}
    dropped = {*found, *(node.name for whole in found for node in readers[whole] if node.name not in laws)}
    kept = [_noise(node, by_name[laws[node.name]]) if node.name in laws else node for node in nodes]
    return Parted([node for node in kept if node.name not in dropped], found)


def _noise(part: Node, whole: Node) -> Noise:
    assert isinstance(whole, Noise)
    return Noise(name=part.name, law=whole.law, shape=part.shape, dtype=part.dtype, location=whole.location)


def _parts(noise: Noise, readers: Mapping[str, list[Node]]) -> tuple[tuple[str, Step], ...]:
    """Nothing where some reader takes no part."""
    calls = [node for node in readers.get(noise.name, []) if isinstance(node, Call)]
    if len(calls) != len(readers.get(noise.name, [])) or not calls:
        return ()
    if len(calls) == 1 and short_name(calls[0].target_name) in TAKING_APART:
        return _elements(calls[0], readers)
    ranges = [_range(call, noise) for call in calls]
    apart = all(ranges) and not _overlap([found for found in ranges if found])
    if not apart and not (len(calls) == 1 and _is_part(calls[0])):
        return ()
    return tuple((call.name, (_element, (call.args[1],))) for call in calls)


def _elements(whole: Call, readers: Mapping[str, list[Node]]) -> tuple[tuple[str, Step], ...]:
    """Of what ``chunk`` and its like return."""
    taken = [node for node in readers.get(whole.name, []) if isinstance(node, Call) and node.target == "getitem"]
    numbers = [node.args[1] for node in taken]
    if len(taken) != len(readers.get(whole.name, [])) or len(set(numbers)) < len(numbers):
        return ()
    given = (short_name(whole.target_name), whole.args[1:], dict(whole.kwargs))
    if refs_in(given):
        return ()
    return tuple((node.name, (_taken, (*given, node.args[1]))) for node in taken)


def _taken(whole: Tensor, word: str, args: tuple[Any, ...], kwargs: Mapping[str, Any], number: int) -> Tensor:
    return getattr(whole, word)(*args, **kwargs)[number]


def _element(whole: Tensor, index: Any) -> Tensor:
    return whole[index]


Range = tuple[int, int, int]
"""A dim, and the elements of it from the first to before the last."""


def _range(call: Call, noise: Noise) -> Range | None:
    """What ``noise[i]``, ``noise[:, a:b]`` and the like read."""
    if short_name(call.target_name) != "getitem" or call.target == "getitem" or len(call.args) != 2:
        return None
    index = _of_all_dims(call.args[1] if isinstance(call.args[1], tuple) else (call.args[1],), len(noise.shape or ()))
    chosen = [(dim, part) for dim, part in enumerate(index) if part != slice(None)]
    if len(chosen) != 1 or not isinstance(chosen[0][1], int | slice) or isinstance(chosen[0][1], bool):
        return None
    dim, part = chosen[0]
    size = (noise.shape or ())[dim]
    return _bounds(dim, part, size) if isinstance(size, int) else None


def _of_all_dims(index: tuple[Arg, ...], rank: int) -> tuple[Arg, ...]:
    """Without an ellipsis."""
    if not any(part is ... for part in index):
        return index
    place = next(i for i, part in enumerate(index) if part is ...)
    return (*index[:place], *[slice(None)] * (rank - len(index) + 1), *index[place + 1 :])


def _is_part(call: Call) -> bool:
    """Does it read some elements, none of them twice?"""
    index = call.args[1] if short_name(call.target_name) == "getitem" and call.target != "getitem" else None
    parts = index if isinstance(index, tuple) else (index,)
    return all(isinstance(part, int | slice | EllipsisType) and not isinstance(part, bool) for part in parts)


def _bounds(dim: int, part: Arg, size: int) -> Range | None:
    if isinstance(part, int):
        return (dim, part % size, part % size + 1)
    if not all(value is None or isinstance(value, int) for value in (part.start, part.stop, part.step)):
        return None
    start, stop, step = part.indices(size)
    return (dim, start, stop) if step == 1 else None


def _overlap(ranges: list[Range]) -> bool:
    ordered = sorted(ranges, key=itemgetter(1))
    alike = len({dim for dim, _, _ in ranges}) == 1
    return not alike or any(first[2] > second[1] for first, second in pairwise(ordered))
