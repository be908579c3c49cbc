"""Labels that have the gradient of a softmax, as they are written out: ``hard - soft.detach() + soft``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from dgmcompile.frontends.targets import short_name
from dgmcompile.ir.graph import Arg, Call, Formula, Node, Ref, is_size, refs_in

_CASTS = frozenset(["to", "float", "double", "half", "bfloat16", "type", "type_as"])


_ZEROS = frozenset(["zeros_like", "zeros", "new_zeros"])


def hardened(soft: Tensor) -> Tensor:
    """The largest as a one-hot vector; the gradient is that of ``soft``."""
    hard = torch.zeros_like(soft).scatter(-1, soft.argmax(-1, keepdim=True), 1.0)
    return hard - soft.detach() + soft


def with_straight_through(nodes: Sequence[Node]) -> list[Node]:
    """Each as one call of `hardened`, where nothing else reads what is computed on the way."""
    by_name = {node.name: node for node in nodes}
    found, dropped = dict[str, Call](), set[str]()
    for node in nodes:
        if isinstance(node, Call) and (soft := _hardened(node, by_name)) is not None:
            way = set(_between(node.name, soft, by_name)) - {node.name}
            if not _is_read_elsewhere(way, node.name, nodes):
                found[node.name] = replace(node, target=Formula.of(hardened), args=(Ref(soft),), kwargs={})
                dropped |= way
    return [found.get(node.name, node) for node in nodes if node.name not in dropped]


def _hardened(call: Call, by_name: Mapping[str, Node]) -> str | None:
    """The softmax, of ``hard - soft.detach() + soft`` or ``(hard - soft).detach() + soft``."""
    for difference, soft in _pairs(call, "add", by_name):
        inner = _made(difference, by_name)
        cut = inner is not None and short_name(inner.target_name) == "detach"
        inner = _made(inner.args[0], by_name) if inner is not None and cut else inner
        if inner is None or short_name(inner.target_name) not in ("sub", "subtract") or len(inner.args) != 2:
            continue
        hard, below = inner.args
        taken = _made(below, by_name)
        if not cut and taken is not None and short_name(taken.target_name) == "detach":
            below = taken.args[0]
        elif not cut:
            continue
        if below == soft and _is_softmax(soft, by_name) and _is_label_of(soft, hard, by_name):
            return soft.name
    return None


def _pairs(call: Call, word: str, by_name: Mapping[str, Node]) -> Iterator[tuple[Arg, Ref]]:
    if short_name(call.target_name) == word and len(call.args) == 2 and not call.kwargs:
        for one, other in (call.args, call.args[::-1]):
            if isinstance(other, Ref):
                yield one, other


def _made(value: Arg, by_name: Mapping[str, Node]) -> Call | None:
    node = by_name[value.name] if isinstance(value, Ref) else None
    return node if isinstance(node, Call) else None


def _is_softmax(soft: Ref, by_name: Mapping[str, Node]) -> bool:
    made = _made(soft, by_name)
    return made is not None and short_name(made.target_name) == "softmax"


def _is_label_of(soft: Ref, hard: Arg, by_name: Mapping[str, Node]) -> bool:
    """A one-hot vector of the place of the largest, over the last dim."""
    made = _made(hard, by_name)
    while made is not None and short_name(made.target_name) in _CASTS and made.dtype == by_name[soft.name].dtype:
        made = _made(made.args[0], by_name)
    if made is None:
        return False
    rank = len(by_name[soft.name].shape or ())
    match short_name(made.target_name), made.args:
        case "scatter", (zeros, int(dim), index, (1 | 1.0)) if dim in (-1, rank - 1) and not made.kwargs:
            start = _made(zeros, by_name)
            is_empty = start is not None and short_name(start.target_name) in _ZEROS
            return is_empty and _is_place_of(soft, index, True, by_name)
        case "one_hot", (index, *_):
            return _is_place_of(soft, index, False, by_name)
        case _:
            return False


def _is_place_of(soft: Ref, index: Arg, keeps_dim: bool, by_name: Mapping[str, Node]) -> bool:
    made, rank = _made(index, by_name), len(by_name[soft.name].shape or ())
    if made is not None and made.target == "getitem" and made.args[1] == 1:
        made = _made(made.args[0], by_name)
    if made is None or short_name(made.target_name) not in ("max", "argmax") or made.args[:1] != (soft,):
        return False
    dim = made.args[1] if len(made.args) > 1 else made.kwargs.get("dim")
    keepdim = made.args[2] if len(made.args) > 2 else made.kwargs.get("keepdim", False)
    return dim in (-1, rank - 1) and keepdim is keeps_dim


def _between(last: str, first: str, by_name: Mapping[str, Node]) -> Iterator[str]:
    """The calls through which the last depends on the first, and what is made for these alone."""
    todo, seen = [last], {first}
    while todo:
        if (name := todo.pop()) not in seen and isinstance(node := by_name.get(name), Call) and not is_size(node):
            seen.add(name)
            yield name
            todo += [] if short_name(node.target_name) in _ZEROS else refs_in(node.arguments)


def _is_read_elsewhere(way: set[str], last: str, nodes: Sequence[Node]) -> bool:
    return any(
        not way.isdisjoint(refs_in(node.arguments)) for node in nodes if node.name not in way and node.name != last
    )
