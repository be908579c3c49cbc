"""A `Call` as the Python expression that a person would write for it."""

from __future__ import annotations

import inspect
import math
import re
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import torch

from dgmcompile.codegen.names import is_plain
from dgmcompile.diagnostics import InternalError
from dgmcompile.ir.graph import Arg, Call, Constant, DeviceOf, Dim, Formula, Ref
from dgmcompile.ir.size import Size

ATOM, POWER, UNARY, PRODUCT, SUM, SHIFT, AND, XOR, OR, COMPARISON = range(18, 8, -1)
"""How tightly Python's operators bind."""

_BINARY = {
    "add": ("+", SUM),
    "sub": ("-", SUM),
    "mul": ("*", PRODUCT),
    "div": ("/", PRODUCT),
    "truediv": ("/", PRODUCT),
    "floordiv": ("//", PRODUCT),
    "mod": ("%", PRODUCT),
    "matmul": ("@", PRODUCT),
    "pow": ("**", POWER),
    "lshift": ("<<", SHIFT),
    "rshift": (">>", SHIFT),
    "and": ("&", AND),
    "xor": ("^", XOR),
    "or": ("|", OR),
}
_COMPARISONS = {"lt": "<", "le": "<=", "gt": ">", "ge": ">=", "eq": "==", "ne": "!="}
_METHODS = {
    **{name: _BINARY[name] for name in ("add", "sub", "mul", "div", "matmul", "pow")},
    "subtract": _BINARY["sub"],
    "multiply": _BINARY["mul"],
    "divide": _BINARY["div"],
    "true_divide": _BINARY["div"],
    "remainder": _BINARY["mod"],
    "bitwise_and": _BINARY["and"],
    "bitwise_or": _BINARY["or"],
    "bitwise_xor": _BINARY["xor"],
    **{f"__{name}__": operator for name, operator in _BINARY.items()},
}
_REFLECTED = {f"__r{name}__": operator for name, operator in _BINARY.items()}
_UNARY = {
    "neg": "-",
    "negative": "-",
    "__neg__": "-",
    "positive": "+",
    "__pos__": "+",
    "bitwise_not": "~",
    "__invert__": "~",
}
_BUILTIN = {"__abs__": "abs", "__len__": "len", "__int__": "int", "__float__": "float", "__bool__": "bool"}
_PLAIN_TYPES = (bool, int, float, complex, str, bytes)
_TARGET = re.compile(r"(torch|math)(\.\w+)+", re.ASCII)


class Text(str):
    """An expression, and how tightly its outermost operator binds."""

    binds: int

    def __new__(cls, text: str, binds: int = ATOM) -> Text:
        made = super().__new__(cls, text)
        made.binds = binds
        return made

    def at_least(self, binds: int) -> str:
        """The text, in parentheses where it binds less tightly."""
        return self if self.binds >= binds else f"({self})"


@dataclass(frozen=True)
class Names:
    """How what a call refers to is written where the call stands.

    Args:
        value: name of a node -> expression of its value; an atom, unless it is a `Text` that says otherwise. It is
            asked in the order in which Python evaluates the expression that it becomes part of.
        module: path of a submodule -> expression of it.
        device: expression of the device that the program runs on.
        formulas: filled with the formulas that are used.
    """

    value: Callable[[str], str]
    module: Callable[[str], str]
    device: str = "device"
    formulas: dict[str, Formula] = field(default_factory=dict[str, Formula])

    def formula(self, formula: Formula) -> str:
        """The name of ``formula``, whose text the file has to contain."""
        known = self.formulas.setdefault(formula.name, formula)
        if known.function is not formula.function:
            raise InternalError(f"two formulas of the name {formula.name!r}")
        return formula.name


def expression(call: Call, names: Names) -> Text:
    """Python text of ``call``.

    Errors:
        `InternalError` for a target that is no function of torch, and for arguments that have no text.
    """
    return _Writer(names).call(call)


def literal(value: Arg, names: Names) -> str:
    """Python text of an argument that stands by itself."""
    return _Writer(names).arg(value)


def shape_text(shape: Sequence[Dim], show: Callable[[str], str]) -> str:
    """A tuple of sizes, each size node written as ``show(name)``."""
    dims = [dim.format(show) if isinstance(dim, Size) else str(dim) for dim in shape]
    return f"({', '.join(dims)}{',' if len(dims) == 1 else ''})"


def constant_text(node: Constant) -> str:
    """``torch.tensor(...)`` of a literal tensor, exact to the last bit."""
    dtype = node.dtype or torch.get_default_dtype()
    shape = node.shape or ()
    if 0 in shape:
        reshaped = "" if shape == (0,) else f".reshape({shape_text(shape, str)})"
        return f"torch.tensor([]{dtype_argument(dtype)}){reshaped}"
    values = _nested(node.value, dtype)
    inferred = dtype in (torch.int64, torch.bool) or dtype == torch.float32
    return f"torch.tensor({values}{'' if inferred else f', dtype={dtype}'})"


def dtype_argument(dtype: torch.dtype) -> str:
    """``, dtype=...`` where it is not the one that torch takes by itself."""
    return "" if dtype == torch.float32 else f", dtype={dtype}"


def _nested(value: Any, dtype: torch.dtype) -> str:
    if isinstance(value, list | tuple):
        return f"[{', '.join(_nested(v, dtype) for v in cast(Sequence[Any], value))}]"
    if dtype.is_complex:
        return _number_text(complex(value))
    if dtype == torch.bool:
        return str(bool(value))
    if not dtype.is_floating_point:
        return str(int(value))
    return _float_text(float(value), single=dtype == torch.float32)


def _float_text(value: float, *, single: bool = False) -> str:
    if math.isnan(value):
        return "math.nan"
    if math.isinf(value):
        return "math.inf" if value > 0 else "-math.inf"
    if single:  # the shortest text that is the same number in single precision
        for digits in range(1, 10):
            short = float(f"{value:.{digits}g}")
            if _single(short) == _single(value):
                return repr(short)
    return float.__repr__(value)


def _single(value: float) -> bytes:
    try:
        return struct.pack("f", value)
    except OverflowError:
        return b"overflow"


def _number_text(value: complex) -> Text:
    if isinstance(value, bool):
        return Text(str(value))
    if isinstance(value, int):
        return Text(int.__repr__(value), UNARY if value < 0 else ATOM)
    if isinstance(value, float):
        text = _float_text(value)
        return Text(text, UNARY if text.startswith("-") else ATOM)
    return Text(f"complex({_float_text(value.real)}, {_float_text(value.imag)})")


@dataclass(frozen=True)
class _Writer:
    names: Names

    def call(self, call: Call) -> Text:
        if isinstance(call.target, Formula):
            return Text(self.names.formula(call.target) + self.arguments(call.args, call.kwargs))
        target = call.target.removesuffix(".__get__")
        if target == "identity":
            return self.arg(call.args[0])
        if target == "getitem":
            return Text(f"{self.atom(call.args[0])}[{self.index(call.args[1])}]")
        if target == "size":
            return Text(f"{self.atom(call.args[0])}.shape[{self.arg(call.args[1])}]")
        if target.startswith("self."):
            return Text(self.names.module(target.removeprefix("self.")) + self.arguments(call.args, call.kwargs))
        if not _TARGET.fullmatch(target):
            raise InternalError(f"{call.name!r} calls {target!r}, which is no function of torch")
        if target.startswith("torch.Tensor."):
            return self.method(call, target.removeprefix("torch.Tensor."))
        return Text(function_text(target) + self.arguments(call.args, _other_than_defaults(target, call.kwargs)))

    def method(self, call: Call, name: str) -> Text:
        if not call.kwargs and (operator := self.operator(name, call.args)) is not None:
            return operator
        return Text(self.member(call, name))

    def member(self, call: Call, name: str) -> str:
        args = call.args
        if name == "__getitem__":
            return f"{self.atom(args[0])}[{self.index(args[1])}]"
        if name in _BUILTIN and len(args) == 1:
            return f"{_BUILTIN[name]}({self.arg(args[0])})"
        member = getattr(torch.Tensor, name, None)
        if member is None:
            raise InternalError(f"{call.name!r} calls {name!r}, which is no method of a tensor")
        if not callable(member) and (inspect.isdatadescriptor(member) or isinstance(member, property)):
            return f"{self.atom(args[0])}.{name}"
        if not args or name.startswith("__"):
            return f"torch.Tensor.{name}{self.arguments(args, call.kwargs)}"
        return f"{self.atom(args[0])}.{name}{self.arguments(args[1:], call.kwargs)}"

    def operator(self, name: str, args: Sequence[Arg]) -> Text | None:
        """The call as an operator, or None where it is none."""
        if len(args) == 1 and name in _UNARY:
            return Text(_UNARY[name] + self.arg(args[0]).at_least(UNARY), UNARY)
        if len(args) != 2:
            return None
        left, right = args
        if (symbol := _COMPARISONS.get(name.strip("_"))) is not None:
            if right is None or isinstance(right, bool):
                return None  # linters refuse `x == True`
            return Text(f"{self.arg(left).at_least(OR)} {symbol} {self.arg(right).at_least(OR)}", COMPARISON)
        if name in _REFLECTED:
            symbol, binds = _REFLECTED[name]
            left, right = right, left
        elif name in _METHODS:
            symbol, binds = _METHODS[name]
        else:
            return None
        if binds == POWER:
            return Text(f"{self.arg(left).at_least(ATOM)} ** {self.arg(right).at_least(UNARY)}", POWER)
        return Text(f"{self.arg(left).at_least(binds)} {symbol} {self.arg(right).at_least(binds + 1)}", binds)

    def arguments(self, args: Sequence[Arg], kwargs: Mapping[str, Arg]) -> str:
        texts = [self.arg(arg) for arg in args]
        texts += [f"{key}={self.arg(arg)}" for key, arg in kwargs.items() if is_plain(key)]
        rest = {key: arg for key, arg in kwargs.items() if not is_plain(key)}
        if rest:
            texts.append(f"**{self.arg(rest)}")
        return f"({', '.join(texts)})"

    def atom(self, arg: Arg) -> str:
        """``arg`` where a dot or a bracket follows."""
        text = self.arg(arg)
        return f"({text})" if isinstance(arg, int | float) else text.at_least(ATOM)

    def index(self, index: Arg) -> str:
        """What stands between the brackets of a subscript."""
        if not isinstance(index, tuple) or not index:
            return self.index_item(index)
        items = cast(tuple[Arg, ...], index)
        text = ", ".join(self.index_item(item) for item in items)
        # `x[[0, 1],]` and `x[[0, 1]]` are not the same to every version of torch
        return f"{text}," if len(items) == 1 and isinstance(items[0], list | Ref) else text

    def index_item(self, item: Arg) -> str:
        if not isinstance(item, slice):
            return self.arg(item)
        start, stop, step = _slice_parts(cast(Any, item))
        ends = ["" if end is None else self.arg(end) for end in (start, stop)]
        return ":".join([*ends, *([] if step is None else [self.arg(step)])])

    def arg(self, arg: Arg) -> Text:
        match arg:
            case Ref():
                value = self.names.value(arg.name)
                return value if isinstance(value, Text) else Text(value)
            case Size():
                return Text(arg.format(self.names.value), _binding_of(arg))
            case DeviceOf():
                return Text(self.names.device)
            case Formula():
                return Text(self.names.formula(arg))
            case tuple():
                items = [self.arg(a) for a in cast(tuple[Arg, ...], arg)]
                return Text(f"({', '.join(items)}{',' if len(items) == 1 else ''})")
            case list():
                return Text(f"[{', '.join(self.arg(a) for a in cast(list[Arg], arg))}]")
            case dict():
                pairs = cast(dict[Arg, Arg], arg).items()
                return Text("{" + ", ".join(f"{self.arg(k)}: {self.arg(v)}" for k, v in pairs) + "}")
            case slice():
                parts = ", ".join(self.arg(part) for part in _slice_parts(cast(Any, arg)))
                return Text(f"slice({parts})")
            case _:
                return _literal(arg)


def _slice_parts(item: Any) -> tuple[Arg, Arg, Arg]:
    return item.start, item.stop, item.step


def _literal(value: object) -> Text:
    if value is None or value is Ellipsis:
        return Text("None" if value is None else "...")
    if isinstance(value, str):
        return Text(str.__repr__(value))
    if isinstance(value, int | float | complex):
        return _number_text(value)
    if isinstance(value, torch.dtype | torch.layout | torch.memory_format):
        return Text(str(value))
    if isinstance(value, torch.device):
        return Text(f"torch.device({str(value)!r})")
    if isinstance(value, type) and value in _PLAIN_TYPES:
        return Text(value.__name__)
    if isinstance(value, range):
        return Text(repr(value))
    raise InternalError(f"an argument of type {type(value).__name__} has no text: {value!r:.200}")


def _binding_of(size: Size) -> int:
    """How tightly the polynomial's text binds."""
    if len(size.terms) > 1:
        return SUM
    return ATOM if size == Size.symbol(size.symbols[0]) else PRODUCT


def _other_than_defaults(target: str, kwargs: Mapping[str, Arg]) -> Mapping[str, Arg]:
    """Without ``inplace=False`` and its like, which functions of ``F`` pass on when they are recorded."""
    if not target.startswith("torch.nn.functional."):
        return kwargs
    try:
        parameters = inspect.signature(_function(target)).parameters
    except ValueError:
        return kwargs
    defaults = {name: parameter.default for name, parameter in parameters.items()}
    return {
        name: value
        for name, value in kwargs.items()
        if not (value is None or isinstance(value, bool)) or defaults.get(name, inspect.Parameter.empty) is not value
    }


def _function(target: str) -> Any:
    found: Any = {"torch": torch, "math": math}[target.split(".")[0]]
    for part in target.split(".")[1:]:
        found = getattr(found, part, None)
    return found


def function_text(target: str) -> str:
    """How a function of torch is written: ``F.relu`` for ``torch.nn.functional.relu``.

    Errors:
        `InternalError` where there is no such function.
    """
    found = _function(target)
    if not callable(found):
        raise InternalError(f"there is no function {target!r}")
    name = target.rpartition(".")[2]
    if target.startswith("torch.functional.") and getattr(torch, name, None) is found:
        return f"torch.{name}"
    if target == f"torch.nn.functional.{name}":
        return f"F.{name}"
    return target
