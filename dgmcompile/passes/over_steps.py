"""A call of each step of a loop as one call for all of them: its tensors get the steps as their first dim.

Which calls may be made so is decided by what they mean: elementwise ones, reductions, changes of shape, products with a
matrix and layers that take any leading dims. What is not known here stays in the loop.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import cast

from torch import nn

from dgmcompile.ir.binding import Submodule
from dgmcompile.ir.graph import Arg, Call, Dim, Formula, Graph, Input, Node, Ref, Shape, leaves, map_arg, refs_in
from dgmcompile.ir.size import Size
from dgmcompile.ir.torch_calls import words
from dgmcompile.passes.inference import is_elementwise

_UNARY = """neg negative abs absolute exp exp2 expm1 log log1p log2 log10 sqrt rsqrt square sigmoid logit tanh relu
    relu6 sin cos tan asin acos atan sinh cosh asinh acosh atanh erf erfc erfinv sign round floor ceil trunc frac
    reciprocal softplus logsigmoid gelu silu mish elu selu celu leaky_relu hardtanh hardsigmoid softsign isnan isinf
    isfinite logical_not lgamma digamma expit ndtr ndtri log_ndtr nan_to_num clamp clip clamp_min clamp_max
    zeros_like ones_like full_like float double half bfloat16 bool int long to clone contiguous detach identity"""
_BINARY = """add sub subtract rsub mul multiply div divide true_divide pow maximum minimum fmax fmin fmod remainder
    floor_divide atan2 hypot lt le gt ge eq ne less greater less_equal greater_equal logical_and logical_or logical_xor
    rtruediv rpow and or xor xlogy xlog1py where lerp addcmul addcdiv type_as logaddexp masked_fill"""
_ELEMENTWISE = words(_UNARY) | words(_BINARY)
_REDUCED = words("sum mean amax amin prod logsumexp softmax log_softmax var std any all cumsum")
"""By the dims that they are given, or all."""
_OF_ONE_DIM = words("prod any all cumsum softmax log_softmax")

_LAYERS = (
    *(nn.Linear, nn.Identity, nn.LayerNorm, nn.Sequential, nn.ReLU, nn.ReLU6, nn.ELU, nn.SELU, nn.CELU, nn.GELU),
    *(nn.SiLU, nn.Mish, nn.Tanh, nn.Sigmoid, nn.Softplus, nn.LogSigmoid, nn.LeakyReLU, nn.Hardtanh, nn.Softsign),
)
"""Modules that do the same with any leading dims; exactly these classes."""


class Unknown(Exception):
    """Why a call is made step by step."""


@dataclass
class OverSteps:
    """Writes calls for all steps of a loop.

    Args:
        graph: that the calls are of.
        number: of the loop.
        length: how many steps it has.
        whole: what each value of a step is called that has one in all steps; filled by `write`.
        name_of: how a call is called that is made for all steps.
        unused: makes a name that no node has.
    """

    graph: Graph
    number: Size
    length: Dim
    whole: dict[str, str]
    name_of: Callable[[Call], str]
    unused: Callable[[str], str]
    nodes: list[Node] = field(default_factory=list[Node])

    def write(self, call: Call) -> None:
        """
        Errors:
            `Unknown`.
        """
        made = self.in_all_steps(call)
        shape = None if call.shape is None else (self.length, *call.shape)
        self.whole[call.name] = self.name_of(call)
        self.nodes.append(replace(made, name=self.whole[call.name], shape=shape, site=None))

    def in_all_steps(self, call: Call) -> Call:
        if taken := self._taken(call):
            return taken
        if any(self.number.symbols[0] in leaf.symbols for leaf in leaves(call.arguments) if isinstance(leaf, Size)):
            raise Unknown("it reads the number of the step")
        if isinstance(call.target, Formula):
            return self._formula(call)
        if call.target.startswith("self."):
            return self._module(call)
        word = call.target.rpartition(".")[2].strip("_")
        if call.target == "getitem" and self._rank(call.args[0]) is None:
            return self._read(call)
        if word in _ELEMENTWISE:
            return self._elementwise(call)
        if word in _REDUCED:
            return self._reduced(call)
        return self._shaped(word, call)

    def _shaped(self, word: str, call: Call) -> Call:
        """A change of shape, or a product with a matrix."""
        match word:
            case "chunk" | "split" | "tensor_split":
                return self._with_dim(call, 2, 0)
            case "select" | "narrow":
                return self._with_dim(call, 1, None)
            case "unsqueeze":
                return self._unsqueezed(call)
            case "transpose" | "swapaxes":
                return self._transposed(call)
            case "cat" | "concat" | "stack":
                return self._joined(call)
            case "view" | "reshape" | "expand" | "flatten" | "squeeze":
                return self._reshaped(call)
            case "matmul" | "mm" | "bmm":
                return self._product(call)
            case "linear":
                return self._linear(call)
            case "getitem":
                return self._indexed(call)
            case _:
                raise Unknown(f"{call.target_name} is not known to do the same with all steps at once")

    # arguments

    def _rank(self, arg: Arg) -> int | None:
        """In one step; None of what is no tensor."""
        node = self.graph[arg.name] if isinstance(arg, Ref) else None
        return len(node.shape) if node is not None and node.shape is not None else None

    def is_inside(self, arg: Arg) -> bool:
        return isinstance(arg, Ref) and arg.name in self.whole

    def _all(self, arg: Arg) -> Arg:
        """What stands for it in all steps."""
        return map_arg(arg, lambda leaf: Ref(self.whole[leaf.name]) if self.is_inside(leaf) else leaf)

    def _read(self, call: Call) -> Call:
        return replace(call, args=self._all(call.args), kwargs=self._all(dict(call.kwargs)))

    def _aligned(self, arg: Arg, rank: int) -> Arg:
        """With so many dims after the steps, so that the steps of one argument meet those of another."""
        if not self.is_inside(arg):
            return arg
        own = self._rank(arg)
        if own is None:
            raise Unknown("an argument is no tensor")
        if own == rank or rank == 0:
            return self._all(arg)
        node = self.graph[arg.name]
        index = (slice(None), *[None] * (rank - own))
        shape = (self.length, *[1] * (rank - own), *(node.shape or ()))
        return self._add(
            f"{self.whole[arg.name]}_aligned", "torch.Tensor.__getitem__", (self._all(arg), index), shape, node
        )

    def _elementwise(self, call: Call) -> Call:
        if call.shape is None:
            raise Unknown("its result is no tensor")
        rank = len(call.shape)
        args, kwargs = map_arg((call.args, dict(call.kwargs)), lambda leaf: self._aligned(leaf, rank))
        return replace(call, args=args, kwargs=kwargs)

    def _formula(self, call: Call) -> Call:
        if not isinstance(call.target, Formula) or not is_elementwise(call.target, call.args, call.kwargs):
            raise Unknown(f"{call.target_name} is not elementwise")
        return self._elementwise(call)

    def _module(self, call: Call) -> Call:
        path = call.target_name.removeprefix("self.")
        if not takes_leading_dims(self.graph.binding.modules.get(path)) or any(map(self.is_inside, call.args[1:])):
            raise Unknown(f"the module {path} is not known to take further leading dims")
        return self._read(call)

    # reductions and shapes

    def _shifted(self, dim: Arg, rank: int) -> Arg:
        if isinstance(dim, list | tuple):
            return tuple(self._shifted(one, rank) for one in cast("list[Arg]", dim))
        if not isinstance(dim, int) or isinstance(dim, bool):
            raise Unknown("its dim is no number")
        return dim if dim < 0 else dim - rank

    def _with_dim(self, call: Call, place: int, usual: Arg) -> Call:
        """The call on its first argument, with the dim counted from the right."""
        rank = self._rank(call.args[0])
        if not rank or not self.is_inside(call.args[0]) or any(map(self.is_inside, leaves(call.args[1:]))):
            raise Unknown("it reads a value of the step in another place than the first")
        args, kwargs = list(self._all(call.args)), dict(call.kwargs)
        if "dim" in kwargs:
            kwargs["dim"] = self._shifted(kwargs["dim"], rank)
        elif len(args) > place:
            args[place] = self._shifted(args[place], rank)
        else:
            kwargs["dim"] = self._shifted(usual, rank)
        return replace(call, args=tuple(args), kwargs=kwargs)

    def _reduced(self, call: Call) -> Call:
        rank = self._rank(call.args[0]) if call.args else None
        if rank == 0 and call.target_name.rpartition(".")[2] in ("sum", "mean", "prod", "amax", "amin"):
            return self._elementwise(replace(call, target="identity", args=call.args[:1], kwargs={}))
        made = self._with_dim(call, 1, tuple(range(-(rank or 0), 0)))
        word = call.target_name.rpartition(".")[2]
        if word in ("prod", "any", "all", "cumsum", "softmax", "log_softmax") and isinstance(
            made.kwargs.get("dim"), tuple
        ):
            raise Unknown("it takes one dim alone")
        return made

    def _unsqueezed(self, call: Call) -> Call:
        rank = self._rank(call.args[0])
        dim = _argument(call, 1, "dim")
        if rank is None or not isinstance(dim, int) or not self.is_inside(call.args[0]):
            raise Unknown("its dim is no number")
        return replace(call, args=(self._all(call.args[0]), dim if dim < 0 else dim - rank - 1), kwargs={})

    def _transposed(self, call: Call) -> Call:
        rank = self._rank(call.args[0])
        if rank is None or len(call.args) != 3 or not self.is_inside(call.args[0]):
            raise Unknown("its dims are no numbers")
        return replace(call, args=(self._all(call.args[0]), *(self._shifted(dim, rank) for dim in call.args[1:])))

    def _joined(self, call: Call) -> Call:
        parts = cast("list[Arg]", call.args[0])
        is_stack = call.target_name.rpartition(".")[2] == "stack"
        dim = _argument(call, 1, "dim", 0)
        ranks = {self._rank(part) for part in parts}
        rank = ranks.pop()
        if ranks or rank is None or not isinstance(dim, int):
            raise Unknown("what it joins is not of one rank")
        whole = [self._all(part) if self.is_inside(part) else self._repeated(part) for part in parts]
        return replace(call, args=(whole, dim if dim < 0 else dim - rank - is_stack), kwargs={})

    def _repeated(self, part: Ref) -> Ref:
        """The same in each step."""
        node = self.graph[part.name]
        shape = (self.length, *(node.shape or ()))
        return self._add(f"{part.name}_all", "torch.Tensor.expand", (part, shape), shape, node)

    def _add(self, name: str, target: str, args: tuple[Arg, ...], shape: Shape, like: Node) -> Ref:
        """A call that another one needs, of this shape and else of the type of ``like``."""
        typed: dict[str, Arg] = {"shape": shape, "dtype": like.dtype, "location": like.location}
        self.nodes.append(Call(name=self.unused(name), target=target, args=args, **typed))
        return Ref(self.nodes[-1].name)

    def _reshaped(self, call: Call) -> Call:
        if not self.is_inside(call.args[0]) or call.kwargs or call.shape is None or refs_in(call.args[1:]):
            raise Unknown("its shape is not known")
        if call.target_name.endswith("expand"):
            return replace(call, args=(self._aligned(call.args[0], len(call.shape)), (self.length, *call.shape)))
        return replace(call, target="torch.Tensor.reshape", args=(self._all(call.args[0]), (self.length, *call.shape)))

    def _product(self, call: Call) -> Call:
        left, right = call.args[:2]
        if self.is_inside(right) and (not self.is_inside(left) or (self._rank(left) or 0) < 2):
            raise Unknown("its matrix is another one in each step")
        if self.is_inside(right) and (self._rank(right) or 0) < 2:
            raise Unknown("it takes a vector from the right")
        if (self._rank(right) or 0) > 2 and (self._rank(left) or 0) < (self._rank(right) or 0):
            raise Unknown("its matrices are more than its vectors")
        if self.is_inside(right) and self._rank(left) != self._rank(right):
            raise Unknown("its factors have other ranks")
        return replace(self._read(call), target="torch.matmul")

    def _linear(self, call: Call) -> Call:
        if any(map(self.is_inside, leaves((call.args[1:], dict(call.kwargs))))):
            raise Unknown("its weight is another one in each step")
        return self._read(call)

    def _indexed(self, call: Call) -> Call:
        index = _all_places(call.args[1])
        if not self.is_inside(call.args[0]) or refs_in(index):
            raise Unknown("its index is a value")
        args = (self._all(call.args[0]), (slice(None), *index))
        return replace(call, target="torch.Tensor.__getitem__", args=args)

    # what a step takes from outside

    def _taken(self, call: Call) -> Call | None:
        """``x[:, t]``, ``x.select(1, t)`` and ``x[t]``: all that the steps take, the steps first."""
        if not call.args or not isinstance(call.args[0], Ref) or self.is_inside(call.args[0]) or call.kwargs:
            return None
        match call.target_name, call.args[1:]:
            case "torch.select" | "torch.Tensor.select", (int(dim), Size() as place):
                return self._sequence(call, dim, place)
            case "getitem", (Size() as place,):
                return self._sequence(call, 0, place)
            case "torch.Tensor.__getitem__", (Size() as place,):
                return self._sequence(call, 0, place)
            case "torch.Tensor.__getitem__", (tuple(),):
                places = {i: part for i, part in enumerate(_all_places(call.args[1])) if part != slice(None)}
                ((dim, place),) = places.items() if len(places) == 1 else ((0, None),)
                return self._sequence(call, dim, place) if isinstance(place, Size) else None
            case _:
                return None

    def _sequence(self, call: Call, dim: int, place: Size) -> Call | None:
        terms = dict(place.terms)
        step = terms.pop(self.number.symbols if len(self.number.symbols) == 1 else (), None)
        if step != 1 or any(self.number.symbols[0] in names for names in terms):
            return None
        start = Size.of(terms)
        whole = call.args[0]
        if isinstance(unbound := self.graph[whole.name], Call) and unbound.target == "torch.unbind":
            whole = unbound.args[0]
        source = self.graph[whole.name]
        rank = len(source.shape or ())
        if dim % rank:
            shape = source.shape or ()
            moved = (shape[dim % rank], *(size for i, size in enumerate(shape) if i != dim % rank))
            args = (whole, dim % rank, 0)
            whole = self._add(
                f"{call.name}_first", "torch.Tensor.movedim", args, moved, replace(source, location=call.location)
            )
        if start == 0 and (source.shape or ())[dim % rank] == self.length:
            return replace(call, target="identity", args=(whole,))
        return replace(call, target="torch.Tensor.narrow", args=(whole, 0, start, self.length))


def _argument(call: Call, place: int, name: str, usual: Arg = None) -> Arg:
    return call.args[place] if len(call.args) > place else call.kwargs.get(name, usual)


def _all_places(index: Arg) -> tuple[Arg, ...]:
    """Of an index, for each dim."""
    return cast("tuple[Arg, ...]", index) if isinstance(index, tuple) else (index,)


def takes_leading_dims(submodule: Submodule | None) -> bool:
    """Does the module the same with each part of a tensor that has further leading dims?"""
    if submodule is None:
        return False
    if all(type(module) in _LAYERS for module in submodule.module.modules()):
        return True
    return submodule.body is not None and _is_plain(submodule.body)


def _is_plain(body: Graph) -> bool:
    """Would each of its calls stay as it is?"""
    inputs = [node.name for node in body if isinstance(node, Input) and node.shape]
    steps, length = Size.symbol("%step"), Size.symbol("%steps")
    whole = {name: name for name in inputs}
    writer = OverSteps(body, steps, length, whole, lambda call: call.name, lambda name: name)
    for node in body:
        if isinstance(node, Call) and any(map(writer.is_inside, leaves(node.arguments))):
            try:
                made = writer.in_all_steps(node)
            except Unknown:
                return False
            if writer.nodes or (made.target, made.arguments) != (node.target, node.arguments):
                return False
            writer.whole[node.name] = node.name
    return True
