"""Random variables recovered from noise: ``mu + sigma * torch.randn_like(mu)`` is a draw from a Normal.

A program that draws noise and transforms it by itself is in auxiliary form already. Going through its calls, each value
that is made of one noise alone, element by element, has a law that follows from that of what it was made of: a multiple
of a Normal is a Normal. The last one on the way becomes the random variable, if nothing else reads what lies between.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeGuard

import torch

from dgmcompile.frontends.forms import ARITHMETIC, MASKS, RESHAPING, RULES, START, Form, Operation, Step
from dgmcompile.frontends.noise_parts import View, parted
from dgmcompile.frontends.targets import short_name
from dgmcompile.ir.binding import Drawn
from dgmcompile.ir.graph import (
    Arg,
    Call,
    Constant,
    Node,
    Noise,
    Ref,
    Sample,
    Shape,
    Site,
    is_size,
    leaves,
    refs_in,
)


@dataclass(frozen=True)
class Lifted:
    """The nodes, with samples for what was recovered; ``undo``: sample -> from its noise to the program's draw.

    ``noises``: the noise that each recovered sample was made of; ``parts``: those of noise that was taken apart.
    """

    nodes: list[Node]
    undo: Mapping[str, tuple[Step, ...]]
    noises: Mapping[str, str]
    parts: Mapping[str, tuple[tuple[str, View], ...]]

    def draws(self, drawn: Sequence[str]) -> list[Drawn | None]:
        """What became of each draw; None of what nothing reads."""
        by_name = {node.name: node for node in self.nodes}
        recovered = {noise: sample for sample, noise in self.noises.items()}

        def drawn_at(name: str) -> Drawn | None:
            if name in self.parts:
                parts = ((view, drawn_at(part)) for part, view in self.parts[name])
                return Drawn("", parts=tuple((view, part) for view, part in parts if part is not None))
            if name in recovered:
                return Drawn(recovered[name], undo=self.undo[recovered[name]])
            return Drawn(name, is_value=isinstance(by_name[name], Sample)) if name in by_name else None

        return [drawn_at(name) for name in drawn]


def lifted(nodes: Sequence[Node], variables: Mapping[str, str]) -> Lifted:
    """Recover what can be; noise that is not recovered stays noise.

    Args:
        variables: node -> the program's variable for its value.
    """
    apart = parted(nodes)
    nodes = apart.nodes
    found = _Forms(nodes)
    new, dropped = dict[str, list[Node]](), set[str]()
    undo, noises = dict[str, tuple[Step, ...]](), dict[str, str]()
    for noise in (node for node in nodes if isinstance(node, Noise)):
        chain = found.chain(noise.name, variables)
        if chain is None:
            continue
        last = chain[-1]
        form = found.forms[last]
        made = found.sample(last)
        new[last] = made
        dropped.update(chain[:-1])
        undo[made[-2].name if _is_cast(made) else last] = form.undo
        noises[made[-2].name if _is_cast(made) else last] = noise.name
    kept = [one for node in nodes if node.name not in dropped for one in new.get(node.name, [node])]
    return Lifted(_with_sites(_with_needed(kept, found.algebra.nodes)), undo, noises, apart.parts)


def _with_sites(nodes: list[Node]) -> list[Node]:
    """A site at the value of a draw is the draw's own; what reads one reads the other."""
    by_name = {node.name: node for node in nodes}
    sites: dict[str, Site] = {}
    same: dict[str, str] = {}
    for node in nodes:
        drawn = by_name.get(node.params["v"].name) if _is_at_value(node) else None
        if isinstance(drawn, Sample) and drawn.site is None and drawn.name not in sites and node.site is not None:
            sites[drawn.name] = replace(node.site, family=drawn.family)
            same[node.name] = drawn.name
    kept = [node for node in nodes if node.name not in same]
    named = [replace(node, site=sites[node.name]) if node.name in sites else node for node in kept]
    return [node.map_names(lambda name: same.get(name, name)) for node in named]


def _is_at_value(node: Node) -> TypeGuard[Sample]:
    return isinstance(node, Sample) and node.family == "Delta" and isinstance(node.params.get("v"), Ref)


def _is_cast(made: Sequence[Node]) -> bool:
    return isinstance(made[-1], Call)


def _with_needed(nodes: list[Node], parameters: Mapping[str, Call]) -> list[Node]:
    """Each parameter's call before the first node that reads it."""
    placed, result = set[str](), list[Node]()

    def place(name: str) -> None:
        if name in parameters and name not in placed:
            placed.add(name)
            for inner in parameters[name].inputs:
                place(inner)
            result.append(parameters[name])

    for node in nodes:
        for name in node.inputs:
            place(name)
        result.append(node)
    return result


class _Forms:
    """The form of every value that has one, and what reads it."""

    def __init__(self, nodes: Sequence[Node]) -> None:
        self._by_name = {node.name: node for node in nodes}
        self._order = {node.name: place for place, node in enumerate(nodes)}
        self.algebra = _Algebra(self._by_name)
        self.forms: dict[str, Form] = {}
        self._made_of: dict[str, str] = {}
        self._readers: dict[str, list[str]] = {}
        self._noises: dict[str, frozenset[str]] = {}
        self._own: dict[str, str] = {}
        self._sites = {node.params["v"].name for node in nodes if _is_at_value(node)}
        for node in nodes:
            self._read(node)

    def _read(self, node: Node) -> None:
        reads = [] if is_size(node) else refs_in(node.arguments)
        for name in reads:
            self._readers.setdefault(name, []).append(node.name)
        self._noises[node.name] = frozenset().union(*(self._noises[name] for name in reads))
        if isinstance(node, Noise):
            self._noises[node.name] = frozenset([node.name])
            if node.dtype is None or not node.dtype.is_floating_point:
                return
            self.forms[node.name], self._own[node.name] = START[node.law], node.name
        elif isinstance(node, Call):
            for source in self._sources(reads):
                if (form := self._made(node, source)) is not None:
                    self.forms[node.name], self._made_of[node.name] = form, source
                    self._own[node.name] = self._own[source]
                    return

    def _sources(self, reads: list[str]) -> list[str]:
        """The arguments that have a form, where no other depends on the same noise; what was drawn last goes first."""
        found: list[str] = []
        for name in dict.fromkeys(reads):
            others = list(reads)
            others.remove(name)
            if name in self.forms and not any(self._own[name] in self._noises[other] for other in others):
                found.append(name)
        return sorted(found, key=lambda name: self._order[self._own[name]], reverse=True)

    def _made(self, node: Call, source: str) -> Form | None:
        word, args = short_name(node.target_name), list(node.args)
        if (rule := RULES.get(word)) is None or Ref(source) not in args:
            return None
        operand = self._by_name[source]
        if word not in RESHAPING and node.shape != operand.shape:
            return None  # one draw stands for several elements
        shape = operand.shape or ()
        call = Operation(
            args,
            node.kwargs,
            args.index(Ref(source)),
            len(shape),
            shape[-1] if shape else None,
            operand.dtype,
            node.dtype,
        )
        try:
            return rule(self.forms[source], call, self.algebra)
        except (TypeError, ValueError):  # arguments of another kind than the rule knows
            return None

    def chain(self, noise: str, variables: Mapping[str, str]) -> list[str] | None:
        """From the noise to the value that is the variable; None where there is none.

        It is the last that the program has a name for; what is no multiple of a value that has a name is another
        variable.
        """
        names = [noise]
        while (reader := self._only_reader(names[-1])) is not None:
            if len(names) > 1 and names[-1] in variables and not self._is_sum(reader):
                break
            names.append(reader)
        laws = [name for name in names[1:] if not self.forms[name].family.startswith("-")]
        named = [name for name in laws if name in variables or name in self._sites]
        if named:
            return names[: names.index(named[-1]) + 1]
        is_named = noise in variables or noise in self._sites
        return [noise] if is_named and self._is_variable_by_itself(noise) else None

    def _only_reader(self, name: str) -> str | None:
        readers = self._readers.get(name, [])
        return readers[0] if len(readers) == 1 and self._made_of.get(readers[0]) == name else None

    def _is_sum(self, name: str) -> bool:
        """Is it another multiple, or has it another mean, but is of the same kind?"""
        return self.forms[name].family == self.forms[self._made_of[name]].family

    def _is_variable_by_itself(self, noise: str) -> bool:
        """Is it read as a whole, as the input of a network is?"""
        readers = [self._by_name[name] for name in self._readers.get(noise, [])]
        return bool(readers) and not any(
            isinstance(node, Call) and short_name(node.target_name) in ARITHMETIC for node in readers
        )

    def sample(self, name: str) -> list[Node]:
        """The random variable in the place of a node, and a call after it where the node has another dtype."""
        node, form = self._by_name[name], self.forms[name]
        params = dict(form.params)
        if form.family == "MultivariateNormal" and params["loc"] is None:
            params["loc"] = self.algebra.zeros(params["scale_tril"])
        dtype = self._dtype(form, node)
        made = Sample(
            name=name if dtype == node.dtype else f"{name}.draw",
            family=form.family,
            params=params,
            event_dim=form.event_dim,
            shape=node.shape,
            dtype=dtype,
            location=node.location,
        )
        if dtype == node.dtype:
            return [made]
        cast = Call(
            name=name,
            target="torch.Tensor.to",
            args=(Ref(made.name), node.dtype),
            shape=node.shape,
            dtype=node.dtype,
            location=node.location,
        )
        return [made, cast]

    def _dtype(self, form: Form, node: Node) -> torch.dtype | None:
        """In which the family is drawn."""
        if form.family == "Categorical":
            return torch.int64
        if form.family not in ("Bernoulli", "OneHotCategorical"):
            return node.dtype
        tensors = [self.algebra.dtype(leaf.name) for leaf in leaves(dict(form.params)) if isinstance(leaf, Ref)]
        return tensors[0] if tensors else torch.get_default_dtype()


_POSITIVE = frozenset(["exp", "exp2", "softplus", "sqrt", "rsqrt", "sigmoid", "expit", "softmax", "ones", "ones_like"])
_ROUNDED = ["sign", "round", "floor", "ceil", "trunc", "heaviside", "one_hot", "zeros", "zeros_like"]
_CUT = ["relu", "relu6", "threshold", "hardtanh", "hardsigmoid", "clamp", "clip", "clamp_min"]
_CHOSEN = ["where", "dropout", "tril", "triu", "masked_fill"]
_OFTEN_ZERO = frozenset([*_ROUNDED, *_CUT, *_CHOSEN])
"""What they return may be exactly 0, and is no scale."""

_VIEWS = [
    "view",
    "reshape",
    "flatten",
    "unsqueeze",
    "squeeze",
    "expand",
    "expand_as",
    "transpose",
    "permute",
    "T",
    "mT",
]
_PARTS = ["getitem", "chunk", "unbind", "split", "select", "narrow"]
_COPIES = ["contiguous", "clone", "float", "double", "half", "bfloat16", "to", "type", "type_as", "identity", "detach"]
_KEEP_SIGN = frozenset(["mT", *_VIEWS, *_PARTS, *_COPIES])


class _Algebra:
    """Writes parameters as further calls, which are part of the graph if something reads them."""

    def __init__(self, nodes: Mapping[str, Node]) -> None:
        self._by_name = nodes
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
        shapes, dtypes = (
            [self._node(ref.name).shape or () for ref in refs],
            [self._node(ref.name).dtype for ref in refs],
        )
        target = f"torch.Tensor.{word}" if isinstance(args[0], Ref) else f"torch.{word}"
        if word in ("mul", "add") and not isinstance(args[0], Ref):
            args, target = args[::-1], f"torch.Tensor.{word}"
        if word == "div" and not isinstance(args[0], Ref):
            args, target = args[::-1], "torch.Tensor.__rtruediv__"
        return self._add(target, args, {}, _broadcast(shapes), dtypes[0])

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
        if _are_numbers(a):
            return 1 if a > 0 else -1 if a < 0 else None
        return 1 if isinstance(a, Ref) and self._is_positive(a.name) else None

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
        if not self._is_real(a) or (isinstance(node, Sample) and node.family in MASKS):
            return False
        if not isinstance(node, Call):
            return True
        word, args = short_name(node.target_name), node.args
        if word in _OFTEN_ZERO:
            return self._is_positive(a.name)
        if word in _KEEP_SIGN or word in ("sub", "rsub", "mul", "div", "neg", "add"):
            return all(self.is_scale(arg) for arg in args if isinstance(arg, Ref | int | float)) or self._is_positive(
                a.name
            )
        return True

    def _is_positive(self, name: str) -> bool:
        """By how it is made."""
        node = self._node(name)
        if isinstance(node, Constant):
            return all(isinstance(value, int | float) and value > 0 for value in leaves(node.value))
        if not isinstance(node, Call):
            return False
        word, args = short_name(node.target_name), node.args
        if word in _POSITIVE:
            return True
        if word in _KEEP_SIGN and args:
            return self.sign(args[0]) == 1
        if word in ("mul", "multiply", "div", "divide", "add", "rtruediv"):
            return bool(args) and not node.kwargs and all(self.sign(arg) == 1 for arg in args)
        if word in ("clamp", "clamp_min", "clip"):
            low = args[1] if len(args) > 1 else node.kwargs.get("min")
            return self.sign(low) == 1 if low is not None else False
        if word == "pow":
            return self.sign(args[0]) == 1
        return False

    def lower_triangular(self, a: Arg) -> bool:
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
        return False

    def transposed(self, a: Arg) -> Arg | None:
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

    def size(self, a: Arg, dim: int) -> Any:
        shape = self._node(a.name).shape if isinstance(a, Ref) else None
        return shape[dim] if shape else None


def _are_numbers(*values: Arg) -> bool:
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)


def _is_number(value: Arg, number: float) -> bool:
    return _are_numbers(value) and value == number


def _broadcast(shapes: Iterable[Shape]) -> Shape:
    """Of shapes that do broadcast."""
    found: list[Any] = []
    for shape in shapes:
        found = [1] * (len(shape) - len(found)) + found
        for place in range(1, len(shape) + 1):
            if shape[-place] != 1:
                found[-place] = shape[-place]
    return tuple(found)
