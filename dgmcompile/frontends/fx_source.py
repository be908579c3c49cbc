"""Programs that are torch.fx graphs: the lines of the user's source from which their calls were taken."""

from __future__ import annotations

import linecache
import operator
import re
from itertools import groupby
from types import CodeType, FrameType
from typing import NamedTuple
from weakref import ReferenceType, WeakKeyDictionary, ref

from torch import fx
from torch._ops import OpOverload

from dgmcompile.frontends.libraries import is_library


class Line(NamedTuple):
    """A line that ran, of a file."""

    file: str
    number: int


Stack = tuple[Line, ...]
"""The user's lines that were running when a call was made, the innermost last."""

_GENERATED = "<eval_with_key>"
"""How torch.fx calls the files of the code that it writes."""

_NOWHERE: Stack = ()

_ENTRY = re.compile(r'^\s*File "(.*)", line (\d+), in .*\n\s*(.*)$', re.MULTILINE)
_DRAWS = re.compile("rand|normal|bernoulli|multinomial|poisson|exponential|uniform|binomial|gumbel")

_PLACES: WeakKeyDictionary[fx.Graph, dict[str, tuple[int, int]]] = WeakKeyDictionary()
_STACKS: WeakKeyDictionary[fx.Graph, dict[str, Stack]] = WeakKeyDictionary()
_GRAPHS: dict[int, tuple[ReferenceType[CodeType], ReferenceType[fx.Graph] | None]] = {}
"""Of the code that each module compiled for itself, by its id: to find it by its hash takes as long as it is."""


def stack_of(frame: FrameType, node: str) -> Stack:
    """Where the call ``node`` stood, which ``frame`` evaluates where it runs a `torch.fx.GraphModule`; () elsewhere.

    Known of programs that `torch.export` made, and of graphs whose tracer recorded stack traces.
    """
    graph = _graph_of(frame)
    return _stacks(graph).get(node, ()) if graph is not None else ()


def is_graph(frame: FrameType) -> bool:
    """Does it run a `torch.fx.GraphModule`?"""
    return _graph_of(frame) is not None


def place_in_line(frame: FrameType, node: str) -> tuple[int, int] | None:
    """Where the call ends what its line computes: the how-manieth time, of how many; None where it does not.

    A line that runs so many times in a row, in a loop, is told by its draws, of which each time has the same, or by a
    number that goes on: ``noise[t]``.
    """
    graph = _graph_of(frame)
    return None if graph is None else _places(graph).get(node)


def _graph_of(frame: FrameType) -> fx.Graph | None:
    code = frame.f_code
    if not code.co_filename.startswith(_GENERATED):
        return None
    known, graph = _GRAPHS.get(id(code), (None, None))
    if known is None or known() is not code:
        module = frame.f_locals.get("self")  # of which there are as many as the graph has nodes
        graph = ref(module.graph) if isinstance(module, fx.GraphModule) else None
        _GRAPHS[id(code)] = ref(code), graph
    return graph() if graph is not None else None


def _stacks(graph: fx.Graph) -> dict[str, Stack]:
    """Of the calls. One that knows no line of its own, as that of a context, is part of what follows it."""
    if graph not in _STACKS:
        stacks, after = dict[str, Stack](), _NOWHERE
        for node in reversed(graph.nodes):
            if node.op.startswith("call") and (node.stack_trace or node.op != "call_module"):  # but for export's guards
                stacks[node.name] = after = _stack(node.stack_trace or "") or after
        _STACKS[graph] = dict(reversed(stacks.items()))
    return _STACKS[graph]


def _takes_apart(node: fx.Node) -> bool:
    """Is it no call, but an element of what an operator returned?"""
    whole = node.args[0] if node.target is operator.getitem else None
    return isinstance(whole, fx.Node) and isinstance(whole.target, OpOverload)


def _stack(trace: str) -> Stack:
    found = [(Line(file, int(number)), text) for file, number, text in _ENTRY.findall(trace)]
    return tuple(line for line, text in found if _is_users(line, text))


def _is_users(line: Line, text: str) -> bool:
    """Is it no library's, no line of another graph, and no other line by now?"""
    foreign = line.file.startswith(_GENERATED) or is_library(line.file)
    return not foreign and text == linecache.getline(*line).strip()


def _places(graph: fx.Graph) -> dict[str, tuple[int, int]]:
    if graph not in _PLACES:
        stacks, found = _stacks(graph), dict[str, tuple[int, int]]()
        calls = [node for node in graph.nodes if node.name in stacks and not _takes_apart(node)]
        for _, run in groupby(calls, key=lambda node: stacks[node.name]):
            nodes = list(run)
            period = _period(nodes)
            ends = nodes[period - 1 :: period]
            found.update((node.name, (place, len(ends))) for place, node in enumerate(ends))
        _PLACES[graph] = found
    return _PLACES[graph]


def _period(nodes: list[fx.Node]) -> int:
    """How many calls are repeated, with a draw among them or a number that counts; all of them where none are."""
    targets = [str(node.target) for node in nodes]
    for length in range(1, len(nodes)):
        once = targets[:length]
        if len(nodes) % length or once * (len(nodes) // length) != targets:
            continue
        if any(map(_DRAWS.search, once)) or any(_counts(nodes[place::length]) for place in range(length)):
            return length
    return len(nodes)


def _counts(nodes: list[fx.Node]) -> bool:
    """Is one of their arguments a whole number, each time another one?"""
    places = zip(*(node.args for node in nodes), strict=False)
    whole = ([number for number in numbers if type(number) is int] for numbers in places)
    return any(len(set(numbers)) == len(nodes) for numbers in whole)
