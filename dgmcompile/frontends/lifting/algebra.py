"""Parameters of laws, computed and judged by how the program makes them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor

from dgmcompile.frontends.targets import short_name
from dgmcompile.ir.graph import Arg, Call, Constant, Dim, Input, Node, Parameter, Ref, Sample, Shape, leaves
from dgmcompile.ir.size import broadcast_shapes
from dgmcompile.ir.torch_calls import ROUNDED

DISCRETE = frozenset({"Bernoulli", "Categorical", "OneHotCategorical"})
_MASKS = DISCRETE | {"Binomial", "Poisson", "Geometric"}
"""Families of which a draw is 0 now and then."""

_POSITIVE = frozenset(["exp", "exp2", "softplus", "rsqrt", "sigmoid", "expit", "softmax", "ones", "ones_like"])
_CUT = ["relu", "relu6", "threshold", "hardtanh", "hardsigmoid", "clamp", "clip", "clamp_min", "clamp_max"]
_CUT += ["softshrink", "hardshrink"]
_CHOSEN = ["where", "dropout", "tril", "triu", "masked_fill", "pad", "index_fill", "scatter", "index_put", "eye"]
_CHOSEN += ["diag_embed", "diag", "new_zeros", "scatter_add", "index_copy", "index_add"]
_NEVER_NEGATIVE = frozenset(["relu", "relu6", "hardsigmoid", "abs", "absolute", "square", "sqrt", "norm", "std", "var"])
_OFTEN_ZERO = frozenset([*ROUNDED, *_CUT, *_CHOSEN, "zeros", "zeros_like"])
"""What they return may be exactly 0, and is no scale."""

_FILLED: Mapping[str, int] = {"ones": 1, "ones_like": 1, "new_ones": 1, "zeros": 0, "zeros_like": 0, "new_zeros": 0}

_NEGATIONS = ("neg", "negative")
_PRODUCTS = ("mul", "multiply", "div", "divide", "true_divide", "rtruediv", "reciprocal", *_NEGATIONS)
_ARITHMETIC = ["sub", "rsub", "subtract", "mul", "multiply", "div", "divide", "rtruediv", "neg", "negative", "add"]

_VIEWS = ["view", "reshape", "flatten", "unsqueeze", "squeeze", "expand", "expand_as", "transpose", "permute"]
_PARTS = ["getitem", "chunk", "unbind", "split", "select", "narrow"]
_COPIES = ("contiguous", "clone", "identity", "detach")
_CASTS = ("float", "double", "half", "bfloat16", "to", "type", "type_as")
_KEEP_SIGN = frozenset(["T", "mT", *_VIEWS, *_PARTS, *_COPIES, *_CASTS])
_REORDERED = ["repeat", "tile", "repeat_interleave", "flip", "roll", "index_select", "take_along_dim", "gather"]
_REORDERED += ["broadcast_to", "movedim", "moveaxis", "interpolate", "max_pool1d", "max_pool2d", "max_pool3d"]
_SUMMED = ["amax", "amin", "sum", "mean", "prod", "cumprod", "cumsum", "nan_to_num"]
_THROUGH_0 = ["abs", "absolute", "square", "tanh", "sin", "log1p", "expm1", "normalize", "fmod", "frac", "sqrt", "pow"]
_THROUGH_0 += ["gelu", "silu", "leaky_relu", "hardswish", "elu", "selu", "mish", "celu", "atan", "asinh", "erf"]
_OF_FIRST = _KEEP_SIGN | frozenset([*_REORDERED, *_SUMMED, *_THROUGH_0])
_OF_ALL = frozenset(["cat", "stack", "concat", "maximum", "minimum", "max", "min", "fmax", "fmin", *_ARITHMETIC])
_OF_ALL |= {"hypot", "addcmul", "lerp"}
"""What they return is 0 where their first argument is, and where one of them is."""


@dataclass(frozen=True)
class Known:
    """What is known of a program's values.

    ``has_zeros``: is some element 0, as of a mask, or may what a submodule returns be? ``fixed``: the value of a buffer
    or another tensor that is not trained; None of other nodes.
    """

    has_zeros: Callable[[Node], bool]
    fixed: Callable[[Node], Tensor | None]


class Algebra:
    """Arithmetic on parameters: of numbers at once, of tensors by further calls, which stay if something reads them."""

    def __init__(self, nodes: Mapping[str, Node], known: Known) -> None:
        self._by_name, self._known = nodes, known
        self.nodes: dict[str, Call] = {}
        self._with_gradient = set[str]()
        for node in nodes.values():
            self._note_gradient(node)

    def _note_gradient(self, node: Node) -> None:
        is_cut = isinstance(node, Call) and short_name(node.target_name) == "detach"
        is_real = node.dtype is None or node.dtype.is_floating_point or node.dtype.is_complex
        is_source = isinstance(node, Input) or (isinstance(node, Parameter) and node.trainable)
        is_source |= isinstance(node, Call) and node.target_name.startswith("self.")
        if is_real and not is_cut and (is_source or not self._with_gradient.isdisjoint(node.inputs)):
            self._with_gradient.add(node.name)

    def has_gradient(self, a: Arg) -> bool:
        """May one pass through it, to a parameter or an input?"""
        return isinstance(a, Ref) and a.name in self._with_gradient

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
        if isinstance(node, Call) and short_name(node.target_name) in _NEGATIONS and len(node.args) == 1:
            return node.args[0]
        return self._call("neg", a)

    def sub(self, a: Arg, b: Arg) -> Arg:
        return self.add(a, self.mul(-1, b))

    def div(self, a: Arg, b: Arg) -> Arg:
        if _are_numbers(a, b):
            return a / b
        if _is_number(b, 1):
            return a
        inverse = self._inverse(b)
        return self._call("div", a, b) if inverse is None else self.mul(a, inverse)

    def _inverse(self, a: Arg) -> Arg:
        """That of which it is the inverse, if it is written as one."""
        node = self._node(a.name) if isinstance(a, Ref) else None
        word = short_name(node.target_name) if isinstance(node, Call) else ""
        if not isinstance(node, Call) or node.kwargs:
            return None
        if word == "reciprocal" or (word == "rtruediv" and _is_number(node.args[1], 1)):
            return node.args[0]
        return self._inverse(node.args[0]) if word == "mul" and _is_number(node.args[1], 1) else None

    def abs(self, a: Arg) -> Arg:
        return abs(a) if _are_numbers(a) else self._call("abs", a)

    def log(self, a: Arg) -> Arg:
        return math.log(a) if _are_numbers(a) else self._call("log", a)

    def pow(self, a: Arg, b: Arg) -> Arg:
        return a if _is_number(a, 1) else a**b if _are_numbers(a, b) else self._call("pow", a, b)

    def exp_up_to_1(self, a: Arg) -> Arg:
        """``min(1, exp(a))``."""
        if _are_numbers(a):
            return math.exp(min(a, 0))
        return self._call("exp", self.clamped(a, high=0))

    def ndtr(self, a: Arg) -> Arg:
        """The probability of less than that, of a standard Normal."""
        if _are_numbers(a):
            return (1 + math.erf(a / math.sqrt(2))) / 2
        node = self._real(a)
        return self._add("torch.special.ndtr", (a,), {}, node.shape or (), node.dtype)

    def clamped(self, a: Ref, **bound: float) -> Ref:
        """Not below ``low``, or not above ``high``."""
        ((end, value),) = bound.items()
        node = self._real(a)
        return self._add(
            f"torch.clamp_{'min' if end == 'low' else 'max'}", (a, value), {}, node.shape or (), node.dtype
        )

    def squeezed(self, a: Arg) -> Arg:
        """Without a last dim of one element."""
        if not isinstance(a, Ref):
            return a
        node = self._real(a)
        if self.size(a, -1) != 1:
            raise ValueError("no column")
        return self._add("torch.Tensor.squeeze", (a, -1), {}, (node.shape or ())[:-1], node.dtype)

    def unsqueezed(self, a: Arg) -> Arg:
        """With a last dim of one element."""
        node = self._real(a)
        return self._add("torch.Tensor.unsqueeze", (a, -1), {}, (*(node.shape or ()), 1), node.dtype)

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
        self._note_gradient(self.nodes[name])
        return Ref(name)

    def sign(self, a: Arg) -> int | None:
        """1 or -1 where it is known."""
        a = self._broadcast(a)
        if _are_numbers(a):
            return 1 if a > 0 else -1 if a < 0 else None
        if not isinstance(a, Ref) or self._known.has_zeros(node := self._node(a.name)):
            return None
        word, args = (self._word(node), node.args) if isinstance(node, Call) else ("", ())
        if word in _KEEP_SIGN and args:
            return self.sign(args[0])
        if word in _PRODUCTS and not node.arguments[1]:
            signs = [self.sign(arg) for arg in args]
            return None if None in signs else math.prod(filter(None, signs)) * (-1 if word in _NEGATIONS else 1)
        if (value := self._fixed(node)) is not None:
            return 1 if bool((value > 0).all()) else -1 if bool((value < 0).all()) else None
        return 1 if isinstance(node, Call) and self._is_positive(node) else None

    def _fixed(self, node: Node) -> Tensor | None:
        """The value of what no training changes, as it was when the program was recorded."""
        value = torch.tensor(node.value) if isinstance(node, Constant) else self._known.fixed(node)
        return None if value is None or value.is_complex() else value

    def probability(self, a: Arg) -> Arg:
        """In [0, 1], as a threshold outside of it is never met, or always."""
        if _are_numbers(a):
            return min(max(a, 0.0), 1.0)
        node = self._real(a)
        return a if self.is_probability(a) else self._add("torch.clamp", (a, 0, 1), {}, node.shape or (), node.dtype)

    def is_probability(self, a: Arg) -> bool:
        """Is it known to be in [0, 1], and not to be one of these numbers?"""
        if not isinstance(a, Ref):
            return _are_numbers(a) and 0 < a < 1
        node = self._node(a.name)
        word = self._word(node) if isinstance(node, Call) else ""
        if isinstance(node, Call) and word in (*_VIEWS, *_PARTS, *_COPIES):
            return self.is_probability(node.args[0])
        value = self._fixed(node)
        is_fixed = value is not None and value.is_floating_point() and bool(((value >= 0) & (value <= 1)).all())
        return is_fixed or word in ("sigmoid", "expit", "softmax")

    def number(self, a: Arg) -> Arg:
        """What every element is, where that is a number; the value itself where it is none."""
        a = self._broadcast(a)
        match self._copied(a):
            case Constant(value=value) if len(set(leaves(value))) == 1:
                return leaves(value)[0]
            case Call() as node:
                value = self._number_of(node)
                return a if value is None else value
            case _:
                return a

    def _number_of(self, node: Call) -> int | float | None:
        word, args = self._word(node), node.args
        if word in ("full", "full_like"):
            _, given = (*args, None)[:2]
            is_same = isinstance(given, int) or (node.dtype is not None and node.dtype.is_floating_point)
            return given if is_same and _are_numbers(given) else None
        if word not in (*_VIEWS, *_NEGATIONS) or not isinstance(args[0], Ref):
            return _FILLED.get(word)
        value = self.number(args[0])
        if not _are_numbers(value):
            return None
        return -value if word in _NEGATIONS else value

    def _broadcast(self, a: Arg) -> Arg:
        """What `torch.broadcast_tensors` was given, of what it returned."""
        node = self._node(a.name) if isinstance(a, Ref) else None
        if not isinstance(node, Call) or node.target != "getitem" or type(node.args[1]) is not int:
            return a
        whole = self._node(node.args[0].name)
        if not isinstance(whole, Call) or short_name(whole.target_name) != "broadcast_tensors":
            return a
        given = whole.args[0] if isinstance(whole.args[0], list | tuple) else whole.args
        return self._broadcast(given[node.args[1]])

    def cumulated(self, a: Arg) -> Arg:
        """The probabilities of which it is the sums up to each, over the last dim; None of anything else."""
        node = self._copied(a)
        if not isinstance(node, Call) or self._word(node) != "cumsum":
            return None
        probs, dim = node.args[0], node.args[1] if len(node.args) > 1 else node.kwargs.get("dim")
        is_last = dim in (-1, len(node.shape or ()) - 1)
        return probs if is_last and self._sums_to_1(probs) else None

    def _sums_to_1(self, a: Arg) -> bool:
        """Over the last dim."""
        node, rank = self._copied(a), self.rank(a)
        if isinstance(node, Call) and self._word(node) == "softmax":
            return (node.args[1] if len(node.args) > 1 else node.kwargs.get("dim")) in (-1, rank - 1)
        if isinstance(node, Call) and self._word(node) in ("div", "divide", "true_divide"):
            return self.sign(node.args[0]) == 1 and self._is_sum_of(node.args[1], node.args[0])
        value = None if node is None else self._fixed(node)
        if value is None or value.dim() == 0 or not value.is_floating_point() or bool((value < 0).any()):
            return False
        return torch.allclose(value.sum(-1), torch.ones(()).to(value), atol=1e-6)

    def _is_sum_of(self, a: Arg, parts: Arg) -> bool:
        """Over the last dim, which is kept."""
        node = self._copied(a)
        if not isinstance(node, Call) or self._word(node) != "sum" or node.args[0] != parts:
            return False
        given = {**dict(zip(("dim", "keepdim"), node.args[1:], strict=False)), **node.kwargs}
        if self.rank(parts) == 1 and given.get("dim") is None:
            return True
        return given.get("keepdim") is True and given.get("dim") in (-1, self.rank(parts) - 1, (-1,), [-1])

    def is_fixed(self, a: Arg) -> bool:
        """Is it a number, a literal, or what is filled with one, or a tensor that is not trained?"""
        node = self._node(a.name) if isinstance(a, Ref) else None
        if isinstance(node, Call):
            return short_name(node.target_name) in (*_FILLED, "eye", "full", "full_like")
        return node is None or isinstance(node, Constant) or (isinstance(node, Parameter) and not node.trainable)

    def is_parameter(self, a: Arg) -> bool:
        return isinstance(a, Ref) and isinstance(self._node(a.name), Parameter)

    def rank(self, a: Arg) -> int:
        return len(self._node(a.name).shape or ()) if isinstance(a, Ref) else 0

    def _is_real(self, a: Arg) -> bool:
        dtype = self._node(a.name).dtype if isinstance(a, Ref) else None
        return dtype is not None and dtype.is_floating_point

    def _real(self, a: Arg) -> Node:
        if not isinstance(a, Ref) or not self._is_real(a):
            raise ValueError("no real number")
        return self._node(a.name)

    def is_scale(self, a: Arg) -> bool:
        """Is it a real number that is not 0 now and then, as a mask is?"""
        a = self._broadcast(a)
        if not isinstance(a, Ref):
            return not _is_number(a, 0)
        node = self._node(a.name)
        if self._known.has_zeros(node):
            return False
        word, args = (self._word(node), node.args) if isinstance(node, Call) else ("", ())
        if word in _OF_FIRST and args:
            return self.is_scale(args[0])
        if not self._is_real(a) or (isinstance(node, Sample) and node.family in _MASKS):
            return False
        if not isinstance(node, Call) or node.target_name.startswith("self."):
            return True
        if word in _OFTEN_ZERO:
            return self.sign(a) == 1
        if word in _OF_ALL:
            read = Ref | int | float if word in _ARITHMETIC else Ref
            made_of = [arg for arg in leaves(args) if isinstance(arg, read)]
            return all(map(self.is_scale, made_of)) or self.sign(a) is not None
        return True

    def _is_positive(self, node: Call) -> bool:
        """By how it is made, and in no element 0, as by what it cuts off."""
        word, args = self._word(node), node.args
        if word in _POSITIVE:
            return True
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
        node = self._copied(a)
        if not isinstance(node, Call):
            return self._is_factor(node)
        word = short_name(node.target_name)
        if word == "expand" and self.size(node.args[0], -1) == (node.shape or (None,))[-1]:
            return self.lower_triangular(node.args[0])
        if word in ("cholesky", "cholesky_ex"):
            return not node.kwargs.get("upper", False) and True not in node.args[1:]
        if word == "getitem" and node.args[1:] == (0,):
            inner = self._node(node.args[0].name)
            is_factor = short_name(getattr(inner, "target_name", "")) == "cholesky_ex"
            return is_factor and self.lower_triangular(node.args[0])
        if word == "add" and len(node.args) == 2 and not node.kwargs:
            return any(self._is_below(a) and self._is_diagonal(b) for a, b in (node.args, node.args[::-1]))
        return self._is_diagonal(a)

    def _copied(self, a: Arg) -> Node | None:
        """What has this value, or that of which this is a copy."""
        node = self._node(a.name) if isinstance(a, Ref) else None
        while isinstance(node, Call) and self._word(node) in _COPIES:
            node = self._node(node.args[0].name)
        return node

    def _is_factor(self, node: Node | None) -> bool:
        """Has a matrix that is not trained the form of one?"""
        value = None if node is None else self._fixed(node)
        if value is None or value.dim() < 2 or not value.is_floating_point():
            return False
        return torch.equal(value, value.tril()) and bool((value.diagonal(dim1=-2, dim2=-1) > 0).all())

    def _is_below(self, a: Arg) -> bool:
        """Has it zeros on the diagonal, and above?"""
        node = self._copied(a)
        if not isinstance(node, Call) or short_name(node.target_name) != "tril":
            return False
        diagonal = node.args[1] if len(node.args) > 1 else node.kwargs.get("diagonal", 0)
        return isinstance(diagonal, int) and diagonal < 0

    def _is_diagonal(self, a: Arg) -> bool:
        """Positive numbers on the diagonal, and zeros beside it?"""
        node = self._copied(a)
        if not isinstance(node, Call):
            return False
        word, rest = short_name(node.target_name), (*node.args[1:], *node.kwargs)
        is_made = word == "diag_embed" or (word == "diag" and self.rank(node.args[0]) == 1)
        return word == "eye" or (is_made and not rest and self.sign(node.args[0]) == 1)

    def transposed(self, a: Arg) -> Arg | None:
        """The matrix of which ``a`` is the transpose, if it is written as one."""
        node = self._copied(a)
        if not isinstance(node, Call) or (self.has_gradient(node.args[0]) and not self.has_gradient(a)):
            return None
        word, dims, rank = short_name(node.target_name), node.args[1:], len(node.shape or ())
        if (word == "T" and rank == 2) or word in ("mT", "t"):
            return node.args[0]
        if word in ("transpose", "swapaxes") and len(dims) == 2:
            return node.args[0] if {dim % rank for dim in dims} == {rank - 1, rank - 2} else None
        if word == "permute":
            order = [dim % rank for dim in (dims[0] if isinstance(dims[0], list | tuple) else dims)]
            return node.args[0] if order == [*range(rank - 2), rank - 1, rank - 2] else None
        return None

    def size(self, a: Arg, dim: int) -> Dim | None:
        """Of that dim; None of what has none."""
        shape = self._node(a.name).shape if isinstance(a, Ref) else None
        return shape[dim] if shape else None


def _are_numbers(*values: Arg) -> bool:
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)


def _is_number(value: Arg, number: float) -> bool:
    return _are_numbers(value) and value == number
