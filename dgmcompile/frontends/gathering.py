"""Draws that are put together: in another order, shape or type, after one another, or in places of a tensor.

A Bernoulli of other values than 0 and 1, as ``2 * b - 1``, is one all the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from dgmcompile.frontends.lifting.algebra import DISCRETE
from dgmcompile.frontends.lifting.labels import OF_EITHER
from dgmcompile.frontends.targets import short_name
from dgmcompile.ir.graph import Arg, Call, Constant, Input, Node, Ref, Sample, Shape, is_size, map_arg, refs_in
from dgmcompile.ir.torch_calls import folding_function

_JOINED = ["stack", "cat", "concat", "concatenate", "hstack", "vstack", "dstack", "column_stack"]
_SHAPED = ["view", "reshape", "view_as", "flatten", "unflatten", "squeeze", "unsqueeze", "permute", "transpose"]
_TURNED = ["swapaxes", "swapdims", "movedim", "t", "T", "mT"]
_CAST = ["contiguous", "clone", "detach", "to", "type", "float", "double", "half", "bfloat16", "int", "long", "bool"]
_GATHERING = frozenset([*_JOINED, *_SHAPED, *_TURNED, *_CAST])
"""Calls that only put values into another order or type."""

_JOINING = ("cat", "concat", "concatenate")
_FILLED = frozenset(["zeros", "ones", "full", "empty", "new_zeros", "new_ones", "new_full", "new_empty"])
_FILLED |= {"zeros_like", "ones_like", "full_like", "empty_like"}
"""Calls of which the values are known beforehand."""

_COUNTS = frozenset(["Poisson", "Binomial", "Geometric", "NegativeBinomial"])
_WIDE = (torch.int32, torch.int64)


def gathered_in(name: str, by_name: Mapping[str, Node]) -> list[Node] | None:
    """The draws and arguments that a value is put together of; None if it is made of anything else."""
    found, todo = list[Node](), [name]
    while todo:
        node = by_name[todo.pop()]
        parts, made_of = _taken_apart(node, by_name)
        if parts is None and made_of is None:
            return None
        if not all(_keeps_values(part, node, by_name) for part in parts or ()):
            return None
        found += made_of or ()
        todo += reversed(parts or ())
    return found


def _taken_apart(node: Node, by_name: Mapping[str, Node]) -> tuple[list[str] | None, list[Node] | None]:
    """What a call puts together, or else what the value is; None twice if it is made of anything else."""
    if isinstance(node, Input | Constant) or (isinstance(node, Sample) and node.family != "Delta"):
        return None, [node]
    parts = _parts(node, by_name) if isinstance(node, Call) else None
    return parts, None if parts is not None else _of_other_values(node.name, by_name)


def _of_other_values(name: str, by_name: Mapping[str, Node]) -> list[Node] | None:
    """The Bernoulli of which it is a function that tells 0 and 1 apart."""
    chain = [by_name[name]]
    while isinstance(call := chain[-1], Call):
        read = [read for read in refs_in(call.arguments) if not is_size(by_name[read])]
        if len(read) != 1:
            return None
        chain.append(by_name[read[0]])
    drawn = chain.pop()
    if not isinstance(drawn, Sample) or drawn.family != "Bernoulli" or drawn.transforms:
        return None
    either: Tensor | None = torch.tensor([0, 1], dtype=drawn.dtype)
    for call in reversed(chain):
        either = _at(call, either, by_name) if either is not None and isinstance(call, Call) else None
    return [drawn] if either is not None and either.unique().numel() == 2 and either.isfinite().all() else None


def _at(call: Call, either: Tensor, by_name: Mapping[str, Node]) -> Tensor | None:
    """What the call makes of the two values."""
    if _parts(call, by_name) is not None and short_name(call.target_name) not in OF_EITHER:
        return either
    function = folding_function(call.target_name)
    if short_name(call.target_name) not in OF_EITHER or function is None or len(call.inputs) != 1:
        return None
    args, kwargs = map_arg((call.args, dict(call.kwargs)), lambda leaf: either if isinstance(leaf, Ref) else leaf)
    return function(*args, **kwargs)


def _keeps_values(name: str, whole: Node, by_name: Mapping[str, Node]) -> bool:
    """Has a part the same value in the type of the whole? A real number has not as a whole one."""
    before, after = by_name[name].dtype, whole.dtype
    if before is None or after is None or before == after or after.is_floating_point or after.is_complex:
        return True
    families = {node.family for node in gathered_in(name, by_name) or () if isinstance(node, Sample)}
    if families <= {"Bernoulli", "OneHotCategorical"}:
        return True
    return after in _WIDE and families <= DISCRETE | _COUNTS


def _parts(call: Call, by_name: Mapping[str, Node]) -> list[str] | None:
    """What it puts together, where it leaves out no draw."""
    word = short_name(call.target_name)
    if word in _FILLED:
        return []
    if word == "setitem":
        return _assigned(call, by_name)
    if word == "getitem" and call.target != "getitem":
        shape = by_name[call.args[0].name].shape or ()
        return refs_in(call.args[:1]) if _takes_all(_index(call), shape) else _without_beginning(call, by_name)
    reads_bits = word == "view" and call.dtype != by_name[call.args[0].name].dtype
    if word not in _GATHERING or reads_bits:
        return None
    return [name for name in refs_in(call.arguments) if not is_size(by_name[name])]


def _index(call: Call) -> tuple[Arg, ...]:
    return call.args[1] if isinstance(call.args[1], tuple) else (call.args[1],)


def _takes_all(index: tuple[Arg, ...], shape: Shape) -> bool:
    """``x[:, None]``, or ``x[:, 0]`` of one column."""
    if index.count(...) == 1:
        place, dims = index.index(...), len([part for part in index if part is not None]) - 1
        index = (*index[:place], *[slice(None)] * (len(shape) - dims), *index[place + 1 :])
    sizes = iter(shape)
    return all(part is None or _is_whole(part, next(sizes, None)) for part in index)


def _is_whole(part: Arg, size: Arg) -> bool:
    return part == slice(None) or (type(part) is int and size == 1)


def _assigned(call: Call, by_name: Mapping[str, Node]) -> list[str] | None:
    """What ``x[:, t] = ...`` has put into ``x``, each at a place of its own; no draw is overwritten that is left."""
    places, values = list(_places(call, by_name)), list[str]()
    start: Node = call
    while isinstance(start, Call) and short_name(start.target_name) == "setitem":
        values += refs_in(start.args[2:])
        start = by_name[start.args[0].name]
    if None in places or len({dim for dim, _ in filter(None, places)}) != 1 or len({*places}) < len(places):
        return None
    if len(places) == (call.shape or ())[places[0][0]]:  # type: ignore[index]
        return values
    before = gathered_in(start.name, by_name)
    return None if before is None or any(isinstance(node, Sample) for node in before) else [*values, start.name]


def _places(node: Node, by_name: Mapping[str, Node]) -> Iterator[tuple[int, int] | None]:
    """In which dim, and where there, each of the assignments has written that made the value; None of other ones."""
    while isinstance(node, Call) and short_name(node.target_name) == "setitem":
        chosen = [(dim, part) for dim, part in enumerate(_index(node)) if part != slice(None)]
        is_one = len(chosen) == 1 and type(chosen[0][1]) is int and chosen[0][1] >= 0
        yield chosen[0] if is_one else None
        node = by_name[node.args[0].name]


def _without_beginning(call: Call, by_name: Mapping[str, Node]) -> list[str] | None:
    """Of ``tokens[:, 1:]``, what comes after elements that were not drawn, with which a sequence begins."""
    *before, last = _index(call)
    is_slice = isinstance(last, slice) and isinstance(last.start, int) and last.stop is None and last.step is None
    if not is_slice or any(part != slice(None) for part in before):
        return None
    name, dim, left = call.args[0].name, len(before), last.start
    if places := list(_places(by_name[name], by_name)):
        return [name] if all(place and place[0] == dim and place[1] >= left for place in places) else None
    pieces = _pieces(name, dim, by_name)
    while pieces and left > 0:
        first, *pieces = pieces
        size, found = (by_name[first].shape or ())[dim], gathered_in(first, by_name)
        if found is None or any(isinstance(node, Sample) for node in found):
            return None
        left -= size if isinstance(size, int) else 1  # an argument has one at least; what else it has is returned
        if not isinstance(size, int) and left:
            return None
    return pieces if left == 0 else None


def _pieces(name: str, dim: int, by_name: Mapping[str, Node]) -> list[str]:
    """What is put one after another along that dim."""
    found, todo = list[str](), [name]
    while todo:
        node = by_name[todo.pop()]
        if _is_joined_along(node, dim):
            todo += reversed(refs_in(node.arguments))
        else:
            found.append(node.name)
    return found


def _is_joined_along(node: Node, dim: int) -> bool:
    if not isinstance(node, Call) or short_name(node.target_name) not in _JOINING:
        return False
    along = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim", 0)
    return along % len(node.shape or (0,)) == dim
