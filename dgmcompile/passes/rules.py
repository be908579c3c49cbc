"""Local rules of compaction: a call whose value, to the last bit, is that of a node it reads.

Each rule keeps gradients as well: ``detach`` is never an identity. That ``x + 0`` turns -0.0 into 0.0
is the one difference that is accepted. A rule may be wrong about shape and dtype (broadcasting, type
promotion): whoever applies it compares both with the operand's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, cast

import torch

from dgmcompile.ir.graph import Arg, Call, Constant, Formula, Node, Ref, leaves
from dgmcompile.ir.torch_calls import tensor_word, words
from dgmcompile.reparam import NOISE_TRANSFORMS

Number = bool | int | float


@dataclass(frozen=True, slots=True)
class Same:
    """The call's value is that of the node ``name``.

    ``copies``: the call's result is fresh memory, laid out in its own way, where the node's may be a view.
    """

    name: str
    reason: str
    copies: bool = True


@dataclass
class Seen:
    """What is known of the nodes before a call, in their compacted form.

    ``fills``: nodes that are one number everywhere, and have no gradient.
    """

    nodes: dict[str, Node] = field(default_factory=dict[str, Node])
    fills: dict[str, Number] = field(default_factory=dict[str, Number])

    def call(self, arg: Arg) -> Call | None:
        """The call whose value ``arg`` is."""
        node = self.nodes.get(arg.name) if isinstance(arg, Ref) else None
        return node if isinstance(node, Call) else None

    def number(self, arg: Arg) -> Number | None:
        """The number that ``arg`` is, or is filled with."""
        return self.fills.get(arg.name) if isinstance(arg, Ref) else arg if isinstance(arg, Number) else None

    def add(self, node: Node) -> None:
        self.nodes[node.name] = node
        if (number := _fill(node, self)) is not None:
            self.fills[node.name] = number


Rule = Callable[[Call, Seen], Same | None]


def another_name(call: Call, seen: Seen) -> Same | None:
    """identity(x)"""
    if call.target == "identity" and len(call.args) == 1 and isinstance(call.args[0], Ref):
        return Same(call.args[0].name, f"another name of {call.args[0].name!r}", copies=False)
    return None


_ADD = words("add __add__ __radd__")
_SUBTRACT = words("sub subtract __sub__")
_MULTIPLY = words("mul multiply __mul__ __rmul__")
_DIVIDE = words("div divide true_divide __truediv__ __div__")
_POWER = words("pow __pow__")


def neutral_element(call: Call, seen: Seen) -> Same | None:
    """x + 0, 0 + x, x - 0, x * 1, 1 * x, x / 1, x ** 1; of complex numbers none, as inf * 0 is nan."""
    word = tensor_word(call)
    if len(call.args) != 2 or call.kwargs or call.dtype is None or call.dtype.is_complex:
        return None
    left, right = call.args
    if word in _ADD | _MULTIPLY:
        neutral = 0 if word in _ADD else 1
        done = "adds 0" if word in _ADD else "multiplies by 1"
        return _kept(left, seen.number(right), neutral, done) or _kept(right, seen.number(left), neutral, done)
    if word in _SUBTRACT:
        return _kept(left, seen.number(right), 0, "subtracts 0")
    if word in _DIVIDE:
        return _kept(left, seen.number(right), 1, "divides by 1")
    return _kept(left, seen.number(right), 1, "raises to the power of 1") if word in _POWER else None


def _kept(operand: Arg, other: Number | None, neutral: int, done: str) -> Same | None:
    return Same(operand.name, done) if isinstance(operand, Ref) and other == neutral else None


_NEGATE = words("neg negative __neg__")


def double_negation(call: Call, seen: Seen) -> Same | None:
    """-(-x)"""
    if tensor_word(call) not in _NEGATE or len(call.args) != 1:
        return None
    inner = seen.call(call.args[0])
    if inner is None or tensor_word(inner) not in _NEGATE or not isinstance(inner.args[0], Ref):
        return None
    return Same(inner.args[0].name, "negates twice")


_SHAPES = words("expand expand_as broadcast_to view view_as reshape reshape_as flatten ravel squeeze")


def same_shape(call: Call, seen: Seen) -> Same | None:
    """x.expand(s), x.view(s), x.reshape(s), x.flatten(...), x.squeeze(...) of an x that has the shape already."""
    if tensor_word(call) in _SHAPES and call.args and isinstance(call.args[0], Ref):
        return Same(call.args[0].name, "has the shape already", copies=False)
    return None


_CASTS = words("float double half bfloat16 int long short bool char byte")


def same_dtype(call: Call, seen: Seen) -> Same | None:
    """x.to(dtype), x.type(dtype), x.float() of an x that has the dtype already; moves to a device stay."""
    if not call.args or not isinstance(call.args[0], Ref):
        return None
    source, others = call.args[0], call.args[1:]
    only_dtype = all(isinstance(arg, torch.dtype) for arg in others) and set(call.kwargs) <= {"dtype"}
    casts = tensor_word(call) in _CASTS and not others and not call.kwargs
    if casts or (tensor_word(call) in ("to", "type") and only_dtype):
        return Same(source.name, "has the dtype already", copies=False)
    return None


def plain_copy(call: Call, seen: Seen) -> Same | None:
    """x.clone(): nothing in a graph writes into x. Of complex numbers it may be what computes their conjugate."""
    if call.dtype is not None and call.dtype.is_complex:
        return None
    if tensor_word(call) == "clone" and len(call.args) == 1 and not call.kwargs and isinstance(call.args[0], Ref):
        return Same(call.args[0].name, "a copy")
    return None


_DROPOUTS = words("dropout dropout1d dropout2d dropout3d alpha_dropout feature_alpha_dropout")


def dropout_in_evaluation(call: Call, seen: Seen) -> Same | None:
    """dropout(x, p, training=False)"""
    prefix, _, word = call.target_name.rpartition(".")
    args = list(call.args)
    if word not in _DROPOUTS or prefix not in ("torch", "torch.nn.functional") or not args:
        return None
    training = args[2] if len(args) > 2 else call.kwargs.get("training", call.kwargs.get("train"))
    if training is False and isinstance(args[0], Ref):
        return Same(args[0].name, "dropout outside of training")
    return None


def transform_at_identity(call: Call, seen: Seen) -> Same | None:
    """normal_from_noise(e, 0, 1), and whatever else the registry says is the noise itself."""
    if not isinstance(call.target, Formula) or call.kwargs or call.target.name not in _identities():
        return None
    expected = _identities()[call.target.name]
    noise, *params = call.args
    if not isinstance(noise, Ref) or len(params) != len(expected):
        return None
    if any(seen.number(param) != value for param, value in zip(params, expected.values(), strict=True)):
        return None
    values = ", ".join(f"{name}={value:g}" for name, value in expected.items())
    return Same(noise.name, f"{call.target.name} at {values} is its noise")


@cache
def _identities() -> Mapping[str, Mapping[str, float]]:
    """Name of a transform -> values of its parameters, in order, at which it is the identity."""
    return {
        entry.forward.name: {name: entry.identity[name] for name in entry.params}
        for entry in NOISE_TRANSFORMS
        if entry.identity and len(entry.noises) == 1 and set(entry.identity) == set(entry.params)
    }


def element_of_tuple(call: Call, seen: Seen) -> Same | None:
    """(a, b)[0], stack([a, b])[0], stack([a, b], d).unbind(d)[0], broadcast_tensors(a, b)[0]"""
    if call.target != "getitem" and tensor_word(call) != "__getitem__":
        return None
    if len(call.args) != 2 or type(call.args[1]) is not int:
        return None
    source, index = call.args
    elements, copies = _elements(source, seen, of_tensor=call.target != "getitem")
    if elements is None or not -len(elements) <= index < len(elements) or not isinstance(elements[index], Ref):
        return None
    return Same(elements[index].name, "an element of what was put together", copies)


def _elements(source: Arg, seen: Seen, of_tensor: bool) -> tuple[list[Any] | None, bool]:
    if isinstance(source, tuple | list):
        return list(cast(Iterable[Any], source)), False
    made = seen.call(source)
    if made is None:
        return None, False
    word = tensor_word(made)
    if word == "broadcast_tensors" and not made.kwargs:
        return list(made.args), False
    if word == "unbind" and made.args and not of_tensor:
        return _stacked(made.args[0], seen, _dim(made)), True
    return _stacked(source, seen, 0), True


def _stacked(source: Arg, seen: Seen, dim: int | None) -> list[Any] | None:
    """The tensors that were stacked along ``dim``."""
    made = seen.call(source)
    if made is None or tensor_word(made) != "stack" or not made.args or not isinstance(made.args[0], tuple | list):
        return None
    stacked_along = _dim(made)
    if dim is None or stacked_along is None or made.shape is None:
        return None
    rank = len(made.shape)
    return list(cast(Iterable[Any], made.args[0])) if dim % rank == stacked_along % rank else None


def _dim(call: Call) -> int | None:
    dim = call.args[1] if len(call.args) > 1 else call.kwargs.get("dim", 0)
    return dim if type(dim) is int else None


RULES: tuple[Rule, ...] = (
    another_name,
    neutral_element,
    double_negation,
    same_shape,
    same_dtype,
    plain_copy,
    dropout_in_evaluation,
    transform_at_identity,
    element_of_tuple,
)


def simplified(call: Call, seen: Seen) -> Iterator[Same]:
    """What the rules say of ``call``, where shape and dtype are the operand's as well."""
    for rule in RULES:
        if (same := rule(call, seen)) is not None and _same_type(call, seen.nodes[same.name]):
            yield same


def _same_type(call: Call, operand: Node) -> bool:
    known = call.shape is not None and call.dtype is not None
    return (known or call.target == "identity") and (call.shape, call.dtype) == (operand.shape, operand.dtype)


_FILLED = {"zeros": 0, "zeros_like": 0, "new_zeros": 0, "ones": 1, "ones_like": 1, "new_ones": 1}
_FILLED_WITH = words("full full_like new_full")
_KEEPS_VALUES = _SHAPES | _CASTS | {"unsqueeze", "transpose", "permute", "t", "clone", "contiguous", "detach", "to"}


def _fill(node: Node, seen: Seen) -> Number | None:
    if isinstance(node, Constant):
        numbers = leaves(node.value)
        filled = numbers and isinstance(numbers[0], Number) and all(number == numbers[0] for number in numbers)
        return numbers[0] if filled else None
    if not isinstance(node, Call) or not (word := tensor_word(node)):
        return None
    if node.kwargs.get("requires_grad") or "layout" in node.kwargs:
        return None
    number = _FILLED.get(word)
    if word in _FILLED_WITH:
        value = node.kwargs.get("fill_value", *node.args[1:2] or (None,))
        number = value if isinstance(value, Number) else None
    if word in _KEEPS_VALUES and node.args and isinstance(source := node.args[0], Ref):
        reinterprets = word == "view" and seen.nodes[source.name].dtype != node.dtype
        number = None if reinterprets else seen.fills.get(source.name)
    # A cast may change other numbers than these; all rules ask for one of them.
    return number if number in (0, 1) else None
