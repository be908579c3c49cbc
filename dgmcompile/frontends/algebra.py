"""Parameters of laws, computed and judged by how the program makes them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import reduce

import torch

from dgmcompile.frontends.targets import short_name
from dgmcompile.ir.graph import Arg, Call, Constant, Dim, Node, Parameter, Ref, Sample, Shape, leaves
from dgmcompile.ir.size import broadcast_shapes

DISCRETE = frozenset({"Bernoulli", "Categorical", "OneHotCategorical"})
_MASKS = DISCRETE | {"Binomial", "Poisson", "Geometric"}
"""Families of which a draw is 0 now and then."""

_POSITIVE = frozenset(["exp", "exp2", "softplus", "rsqrt", "sigmoid", "expit", "softmax", "ones", "ones_like"])
_ROUNDED = ["sign", "round", "floor", "ceil", "trunc", "heaviside", "one_hot", "zeros", "zeros_like"]
_CUT = ["relu", "relu6", "threshold", "hardtanh", "hardsigmoid", "clamp", "clip", "clamp_min", "clamp_max"]
_CUT += ["softshrink", "hardshrink"]
_CHOSEN = ["where", "dropout", "tril", "triu", "masked_fill", "pad", "index_fill", "scatter", "index_put", "eye"]
_CHOSEN += ["diag_embed", "diag", "new_zeros", "scatter_add", "index_copy", "index_add"]
_NEVER_NEGATIVE = frozenset(["relu", "relu6", "hardsigmoid", "abs", "absolute", "square", "sqrt", "norm", "std", "var"])
_OFTEN_ZERO = frozenset([*_ROUNDED, *_CUT, *_CHOSEN])
"""What they return may be exactly 0, and is no scale."""

_FILLED: Mapping[str, int] = {"ones": 1, "ones_like": 1, "new_ones": 1, "zeros": 0, "zeros_like": 0, "new_zeros": 0}

_ARITHMETIC = ["sub", "rsub", "subtract", "mul", "multiply", "div", "divide", "rtruediv", "neg", "negative", "add"]

_VIEWS = ["view", "reshape", "flatten", "unsqueeze", "squeeze", "expand", "expand_as", "transpose", "permute"]
_PARTS = ["getitem", "chunk", "unbind", "split", "select", "narrow"]
_COPIES = ["contiguous", "clone", "float", "double", "half", "bfloat16", "to", "type", "type_as", "identity", "detach"]
_KEEP_SIGN = frozenset(["T", "mT", *_VIEWS, *_PARTS, *_COPIES])
_REORDERED = ["repeat", "tile", "repeat_interleave", "flip", "roll", "index_select", "take_along_dim", "gather"]
_REORDERED += ["broadcast_to", "movedim", "moveaxis", "interpolate", "max_pool1d", "max_pool2d", "max_pool3d"]
_SUMMED = ["amax", "amin", "sum", "mean", "prod", "cumprod", "cumsum", "nan_to_num"]
_THROUGH_0 = ["abs", "absolute", "square", "tanh", "sin", "log1p", "expm1", "normalize", "fmod", "frac", "sqrt", "pow"]
_THROUGH_0 += ["gelu", "silu", "leaky_relu", "hardswish", "elu", "selu", "mish", "celu", "atan", "asinh", "erf"]
_OF_FIRST = _KEEP_SIGN | frozenset([*_REORDERED, *_SUMMED, *_THROUGH_0])
_OF_ALL = frozenset(["cat", "stack", "concat", "maximum", "minimum", "max", "min", "fmax", "fmin", *_ARITHMETIC])
_OF_ALL |= {"hypot", "addcmul", "lerp"}
"""What they return is 0 where their first argument is, and where one of them is."""


class Algebra:
    """Arithmetic on parameters: of numbers at once, of tensors by further calls, which stay if something reads them."""

    def __init__(self, nodes: Mapping[str, Node], has_zeros: Callable[[Node], bool]) -> None:
        """``has_zeros``: is some element 0, as of a mask, or may what a submodule returns be?"""
        self._by_name, self._has_zeros = nodes, has_zeros
        self.nodes: dict[str, Call] = {}

    def _node(self, name: str) -> Node:
        return self.nodes.get(name) or self._by_name[name]

    def dtype(self, name: str) -> torch.dtype | None:
        return self._node(name).dtype

    def add(self, a: Arg, b: Arg) -> Arg:
        if _are_numbers(a, b):
            return a + b
        if _is_number(a, 0):
            return b
        if _is_number(b, 0):
            return a
        return self._call("add", a, b)

    def mul(self, a: Arg, b: Arg) -> Arg:
        if _are_numbers(a, b):
            return a * b
        if _is_number(a, 0) or _is_number(b, 0):
            return 0.0
        if _is_number(a, 1):
            return b
        if _is_number(b, 1):
            return a
        if _is_number(a, -1) and isinstance(b, Ref):
            return self._negative(b)
        return self._call("mul", a, b)

    def _negative(self, a: Ref) -> Ref:
        node = self._node(a.name)
        if isinstance(node, Call) and short_name(node.target_name) in ("neg", "negative") and len(node.args) == 1:
            return node.args[0]
        return self._call("neg", a)

    def div(self, a: Arg, b: Arg) -> Arg:
        if _are_numbers(a, b):
            return a / b
        if _is_number(b, 1):
            return a
        if isinstance(b, Ref) and b.name in self.nodes and self.nodes[b.name].args[0] == 1.0:
            divided = self.nodes[b.name]
            if short_name(divided.target_name) == "div":
                return self.mul(a, divided.args[1])
        return self._call("div", a, b)

    def abs(self, a: Arg) -> Arg:
        return abs(a) if _are_numbers(a) else self._call("abs", a)

    def zeros(self, matrix: Ref) -> Ref:
        """As many as the matrix has rows."""
        node = self._node(matrix.name)
        shape = (node.shape or ())[:-1]
        diagonal = self._add("torch.diagonal", (matrix,), {"dim1": -2, "dim2": -1}, shape, node.dtype)
        return self._add("torch.zeros_like", (diagonal,), {}, shape, node.dtype)

    def _call(self, word: str, *args: Arg) -> Ref:
        refs = [arg for arg in args if isinstance(arg, Ref)]
        if not refs or not all(map(self._is_real, refs)):  # whole numbers have an arithmetic of their own
            raise ValueError("no real numbers")
        shape = reduce(broadcast_shapes, (self._node(ref.name).shape or () for ref in refs))
        target = f"torch.Tensor.{word}" if isinstance(args[0], Ref) else f"torch.{word}"
        if word in ("mul", "add") and not isinstance(args[0], Ref):
            args, target = args[::-1], f"torch.Tensor.{word}"
        if word == "div" and not isinstance(args[0], Ref):
            args, target = args[::-1], "torch.Tensor.__rtruediv__"
        return self._add(target, args, {}, shape, self.dtype(refs[0].name))

    def _add(
        self, target: str, args: tuple[Arg, ...], kwargs: Mapping[str, Arg], shape: Shape, dtype: torch.dtype | None
    ) -> Ref:
        for node in self.nodes.values():
            if (node.target, node.args, node.kwargs) == (target, args, kwargs):
                return Ref(node.name)
        name = f"%lifted.{len(self.nodes)}"
        self.nodes[name] = Call(name=name, target=target, args=args, kwargs=kwargs, shape=shape, dtype=dtype)
        return Ref(name)

    def sign(self, a: Arg) -> int | None:
        """1 or -1 where it is known."""
        if _are_numbers(a):
            return 1 if a > 0 else -1 if a < 0 else None
        if not isinstance(a, Ref):
            return None
        match self._node(a.name):
            case Call(target="torch.Tensor.neg" | "torch.neg" | "torch.Tensor.__neg__", args=(opposite,)):
                return -sign if (sign := self.sign(opposite)) is not None else None
            case _:
                return 1 if self._is_positive(a.name) else None

    def probability(self, a: Arg) -> Arg:
        """In [0, 1], as a threshold outside of it is never met, or always."""
        if _are_numbers(a):
            return min(max(a, 0.0), 1.0)
        if not isinstance(a, Ref) or not self._is_real(a):
            raise ValueError("no probability")
        node = self._node(a.name)
        if isinstance(node, Call) and short_name(node.target_name) in ("sigmoid", "expit", "softmax"):
            return a
        return self._add("torch.clamp", (a, 0, 1), {}, node.shape or (), node.dtype)

    def number(self, a: Arg) -> Arg:
        """What every element is, where that is a number; the value itself where it is none."""
        match self._node(a.name) if isinstance(a, Ref) else None:
            case Call() as node:
                return _FILLED.get(short_name(node.target_name), a)
            case Constant(value=value) if len(set(leaves(value))) == 1:
                return leaves(value)[0]
            case _:
                return a

    def is_fixed(self, a: Arg) -> bool:
        """Is it a number, a literal, or what is filled with one, or a tensor that is not trained?"""
        node = self._node(a.name) if isinstance(a, Ref) else None
        if isinstance(node, Call):
            return short_name(node.target_name) in (*_FILLED, "eye", "full", "full_like")
        return node is None or isinstance(node, Constant) or (isinstance(node, Parameter) and not node.trainable)

    def rank(self, a: Arg) -> int:
        return len(self._node(a.name).shape or ()) if isinstance(a, Ref) else 0

    def _is_real(self, a: Arg) -> bool:
        dtype = self._node(a.name).dtype if isinstance(a, Ref) else None
        return dtype is not None and dtype.is_floating_point

    def is_scale(self, a: Arg) -> bool:
        """Is it a real number that is not 0 now and then, as a mask is?"""
        if not isinstance(a, Ref):
            return not _is_number(a, 0)
        node = self._node(a.name)
        if self._has_zeros(node):
            return False
        word, args = (self._word(node), node.args) if isinstance(node, Call) else ("", ())
        if word in _OF_FIRST and args:
            return self.is_scale(args[0])
        if not self._is_real(a) or (isinstance(node, Sample) and node.family in _MASKS):
            return False
        if not isinstance(node, Call) or node.target_name.startswith("self."):
            return True
        if word in _OFTEN_ZERO:
            return self._is_positive(a.name)
        if word in _OF_ALL:
            read = Ref | int | float if word in _ARITHMETIC else Ref
            made_of = [arg for arg in leaves(args) if isinstance(arg, read)]
            return all(map(self.is_scale, made_of)) or self._is_positive(a.name)
        return True

    def _is_positive(self, name: str) -> bool:
        """By how it is made, and in no element 0, as by what it cuts off."""
        node = self._node(name)
        if self._has_zeros(node):
            return False
        if isinstance(node, Constant):
            return all(isinstance(value, int | float) and value > 0 for value in leaves(node.value))
        if not isinstance(node, Call):
            return False
        word, args = self._word(node), node.args
        if word in _POSITIVE:
            return True
        if word in _KEEP_SIGN and args:
            return self.sign(args[0]) == 1
        if word in ("mul", "multiply", "div", "divide", "rtruediv"):
            return bool(args) and not node.kwargs and all(self.sign(arg) == 1 for arg in args)
        if word == "add":
            made_of = [self.sign(arg) == 1 for arg in args]
            return not node.kwargs and any(made_of) and all(map(self._is_at_least_0, args))
        if word in ("clamp", "clamp_min", "clamp_max", "clip"):
            return self._is_clamped_above_0(word, args, node.kwargs)
        if word == "pow":
            return self.sign(args[0]) == 1
        if word == "sqrt":
            return self.is_scale(args[0])
        return False

    def _word(self, node: Call) -> str:
        """Of its name; none of a view that reads the bits as numbers of another type."""
        word, viewed = short_name(node.target_name), node.args[0] if node.args else None
        is_same = not isinstance(viewed, Ref) or self.dtype(viewed.name) == node.dtype
        return word if word != "view" or is_same else ""

    def _is_clamped_above_0(self, word: str, args: tuple[Arg, ...], kwargs: Mapping[str, Arg]) -> bool:
        places = ("max",) if word == "clamp_max" else ("min", "max")
        bounds = {**dict(zip(places, args[1:], strict=False)), **kwargs}
        low, high = bounds.get("min"), bounds.get("max")
        return self.sign(args[0] if low is None else low) == 1 and (high is None or self.sign(high) == 1)

    def _is_at_least_0(self, a: Arg) -> bool:
        node = self._node(a.name) if isinstance(a, Ref) else None
        never_less = isinstance(node, Call) and short_name(node.target_name) in _NEVER_NEGATIVE
        return never_less or self.sign(a) == 1 or _is_number(a, 0)

    def lower_triangular(self, a: Arg) -> bool:
        """With a diagonal of positive numbers: a Cholesky factor, or one that is put together."""
        node = self._node(a.name) if isinstance(a, Ref) else None
        if not isinstance(node, Call):
            return False
        word = short_name(node.target_name)
        if word in ("cholesky", "cholesky_ex"):
            return not node.kwargs.get("upper", False) and True not in node.args[1:]
        if word == "getitem" and node.args[1:] == (0,):
            inner = self._node(node.args[0].name)
            is_factor = short_name(getattr(inner, "target_name", "")) == "cholesky_ex"
            return is_factor and self.lower_triangular(node.args[0])
        if word == "add" and len(node.args) == 2 and not node.kwargs:
            return any(self._is_below(a) and self._is_diagonal(b) for a, b in (node.args, node.args[::-1]))
        return self._is_diagonal(a)

    def _is_below(self, a: Arg) -> bool:
        """Has it zeros on the diagonal, and above?"""
        node = self._node(a.name) if isinstance(a, Ref) else None
        if not isinstance(node, Call) or short_name(node.target_name) != "tril":
            return False
        diagonal = node.args[1] if len(node.args) > 1 else node.kwargs.get("diagonal", 0)
        return isinstance(diagonal, int) and diagonal < 0

    def _is_diagonal(self, a: Arg) -> bool:
        """Positive numbers on the diagonal, and zeros beside it?"""
        node = self._node(a.name) if isinstance(a, Ref) else None
        if not isinstance(node, Call):
            return False
        word, rest = short_name(node.target_name), (*node.args[1:], *node.kwargs)
        is_made = word == "diag_embed" or (word == "diag" and self.rank(node.args[0]) == 1)
        return word == "eye" or (is_made and not rest and self.sign(node.args[0]) == 1)

    def transposed(self, a: Arg) -> Arg | None:
        """The matrix of which ``a`` is the transpose, if it is written as one."""
        node = self._node(a.name) if isinstance(a, Ref) else None
        if not isinstance(node, Call):
            return None
        word, dims = short_name(node.target_name), node.args[1:]
        if (word == "T" and len(node.shape or ()) == 2) or word in ("mT", "t"):
            return node.args[0]
        if word in ("transpose", "swapaxes") and len(dims) == 2:
            rank = len(node.shape or ())
            return node.args[0] if {dim % rank for dim in dims} == {rank - 1, rank - 2} else None
        return None

    def size(self, a: Arg, dim: int) -> Dim | None:
        """Of that dim; None of what has none."""
        shape = self._node(a.name).shape if isinstance(a, Ref) else None
        return shape[dim] if shape else None


def _are_numbers(*values: Arg) -> bool:
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)


def _is_number(value: Arg, number: float) -> bool:
    return _are_numbers(value) and value == number
