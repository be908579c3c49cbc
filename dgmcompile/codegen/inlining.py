"""Which calls are written inside the one expression that reads them, and which results are taken apart."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence, Set
from math import ceil
from typing import Any, cast

from torch import nn

from dgmcompile.codegen.names import identifier
from dgmcompile.ir.graph import Call, Graph, Node, Parameter, Ref

_SUMS = ("surrogate", "latent")
_PREFIXES = ("teacher.", "student.")
_RANDOM_OR_STATEFUL = re.compile(
    r"rand|normal|dropout|bernoulli|multinomial|poisson|binomial|exponential|gumbel|rrelu|fractional"
    r"|batch_norm|instance_norm|attention|lstm|gru|rnn|drawn"
)
_PAIRS = frozenset(
    (
        *("max", "min", "median", "nanmedian", "mode", "kthvalue", "topk", "sort", "cummax", "cummin", "aminmax"),
        *("slogdet", "qr", "eig", "eigh", "frexp", "std_mean", "var_mean", "lstm_cell", "lstm_step"),
    )
)


def bare_name(name: str) -> str:
    """The node's name without the model that it belongs to."""
    prefix = next((prefix for prefix in _PREFIXES if name.startswith(prefix)), "")
    return name.removeprefix(prefix)


def without_number(name: str) -> str:
    """``t`` for ``t_1``."""
    return re.sub(r"(_\d+)+$", "", name)


def is_anonymous(node: Node, graph: Graph) -> bool:
    """Is the node named after what it calls, or after the term of the loss that it is a part of?"""
    if not isinstance(node, Call) or node.site is not None or node.target == "size":
        return False
    if node.name not in graph.outputs and term_of(node.name, graph) is not None:
        return True
    bare, words = bare_name(node.name), [anonymous_name(node)]
    if node.target == "getitem" and isinstance(whole := node.args[0], Ref):
        words.append(without_number(bare_name(whole.name).removesuffix("_steps")))
    return any(re.fullmatch(rf"{re.escape(word)}(_\d+)*", bare) for word in words if word)


def term_of(name: str, graph: Graph) -> str | None:
    """The term of the loss (or the sum of terms) that the node is a part of: ``latent.z`` for ``latent.z.kl``."""
    parts = name.split(".")
    heads = (".".join(parts[:end]) for end in range(len(parts) - 1, 0, -1))
    return next((head for head in heads if head in graph.outputs or (head in _SUMS and "total" in graph.outputs)), None)


def anonymous_name(call: Call) -> str:
    """What the recorder calls the result of ``call`` where the program does not name it."""
    target = call.target_name.removesuffix(".__get__")
    if target.startswith("self."):
        return identifier(bare_name(target.removeprefix("self.")).replace(".", "_"))
    return target.rpartition(".")[2].strip("_")


def has_effect(node: Node, graph: Graph) -> bool:
    """May the call draw random numbers, or read or write a buffer? Then it keeps its place among those that do."""
    if not isinstance(node, Call) or node.target == "size":
        return False
    if node.target_name.startswith("self.") or _RANDOM_OR_STATEFUL.search(node.target_name):
        return True
    return any(isinstance(read := graph[name], Parameter) and not read.trainable for name in node.inputs)


def delayed(evaluated: Sequence[str], expected: Sequence[str]) -> set[str]:
    """Those of ``expected`` that would be evaluated after one that they come before."""
    late, position = set[str](), 0
    places = {name: place for place, name in enumerate(expected)}
    for name in evaluated:
        if (place := places[name]) >= position:
            late.update(expected[position:place])
            position = place + 1
    return late | set(expected[position:])


# tuples


def unpacked(call: Node, graph: Graph, within: Set[str]) -> list[str | None] | None:
    """The nodes that stand for the elements of the tuple ``call``, None for one that nothing reads.

    None where it is not known to have just as many elements, or where it is read otherwise, or for one element only.
    """
    if not isinstance(call, Call) or (users := _elements(call, graph)) is None or len(users) < 2:
        return None
    if not set(users.values()) <= within or call.name in graph.outputs.values():
        return None
    count = arity(call, graph, max(users) + 1)
    return [users.get(index) for index in range(count)] if count is not None and count > max(users) else None


def _elements(call: Call, graph: Graph) -> dict[int, str] | None:
    found = dict[int, str]()
    for name in graph.users(call.name):
        user = graph[name]
        if not isinstance(user, Call) or user.target != "getitem" or user.args[0] != Ref(call.name):
            return None
        index = user.args[1]
        if not isinstance(index, int) or index < 0 or index in found:
            return None
        found[index] = name
    return found


def arity(call: Call, graph: Graph, read: int = 0) -> int | None:
    """How many elements the result is a tuple of, where that is certain; at least ``read`` are there."""
    if call.target_name.startswith("self."):
        return _arity_of_module(call.target_name.removeprefix("self."), graph)
    word = call.target_name.rpartition(".")[2]
    if call.shape is not None:
        return None
    if word in _PAIRS:
        return 2
    if word in ("meshgrid", "broadcast_tensors"):
        return len(call.args) if all(isinstance(arg, Ref) for arg in call.args) else None
    return _arity_of_pieces(word, call, graph, read)


def _arity_of_pieces(word: str, call: Call, graph: Graph, read: int) -> int | None:
    given = dict(zip(("self", "how", "dim") if word != "unbind" else ("self", "dim"), call.args, strict=False))
    named: Mapping[str, Any] = call.kwargs
    how = given.get("how", named.get("chunks", named.get("split_size", named.get("split_size_or_sections"))))
    length = _length(given.get("self"), given.get("dim", named.get("dim", 0)), graph)
    if word in ("split", "split_with_sizes") and isinstance(how, list | tuple):
        return len(cast(Sequence[Any], how))
    if word == "unbind":
        return length
    if word == "split" and isinstance(how, int) and how > 0 and length:
        return ceil(length / how)
    if word == "chunk" and isinstance(how, int):
        return ceil(length / ceil(length / how)) if length else how if read == how else None
    return None


def _length(tensor: object, dim: object, graph: Graph) -> int | None:
    shape = graph[tensor.name].shape if isinstance(tensor, Ref) else None
    if shape is None or not isinstance(dim, int) or not -len(shape) <= dim < len(shape):
        return None
    length = shape[dim]
    return length if isinstance(length, int) else None


def _arity_of_module(path: str, graph: Graph) -> int | None:
    submodule = graph.binding.modules.get(path)
    if submodule is None:
        return None
    if submodule.body is None:
        return 2 if isinstance(submodule.module, nn.LSTMCell | nn.RNNBase | nn.MultiheadAttention) else None
    firsts = {key.partition(".")[0] for key in submodule.body.outputs}
    return len(firsts) if firsts == {str(index) for index in range(len(firsts))} else None
