"""Calls that multiply by a matrix, as the products that they make and what comes after."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

from torch import Tensor, nn

from dgmcompile.ir.binding import Submodule
from dgmcompile.ir.formulas import GRU_STEP, LSTM_STEP
from dgmcompile.ir.graph import Arg, Call, Formula, Graph, Node, Parameter, Ref, Shape
from dgmcompile.ir.names import unused
from dgmcompile.ir.torch_calls import is_pure, last_word

LINEAR = "torch.nn.functional.linear"

Span = tuple[int, int]
"""Of columns: the first, and the one after the last."""


@dataclass(frozen=True)
class Product:
    """``linear(value, weight, bias)``, called ``name``; the parts of which the value is joined meet these columns."""

    name: str
    value: Ref
    parts: tuple[Ref, ...]
    columns: tuple[Span, ...]
    weight: Ref
    bias: Ref | None
    shape: Shape
    like: Node

    @property
    def rows(self) -> int:
        """Of the matrix."""
        return cast(int, self.shape[-1])


@dataclass(frozen=True)
class Opened:
    """A call as products, and the calls that make its value of them."""

    products: tuple[Product, ...]
    rest: tuple[Call, ...] = ()


@dataclass
class Products:
    """Opens calls of ``graph``.

    ``parameters`` and ``modules`` are what they then read that the graph did not.
    """

    graph: Graph
    parameters: dict[str, Parameter] = field(default_factory=dict[str, Parameter])
    modules: dict[str, Submodule] = field(default_factory=dict[str, Submodule])

    def __post_init__(self) -> None:
        self._taken = {*self.graph.graph}
        self._read = {node.path: node.name for node in self.graph if isinstance(node, Parameter)}

    def unused(self, name: str) -> str:
        self._taken.add(fresh := unused(name, self._taken))
        return fresh

    def node(self, value: Ref) -> Node:
        """That of the graph, or one of the parameters."""
        return self.parameters.get(value.name) or self.graph[value.name]

    def shape(self, value: Arg) -> Shape:
        return (self.node(value).shape or ()) if isinstance(value, Ref) else ()

    def opened(self, call: Call) -> Opened | None:
        """None of what is no product, or is not known to be one."""
        if call.kwargs:
            return None
        if call.target == LINEAR:
            return self._function(call)
        path = call.target_name.removeprefix("self.")
        submodule = self.graph.binding.modules.get(path) if call.target_name.startswith("self.") else None
        if submodule is None or submodule.body is not None or not is_pure(call, self.graph.binding):
            return None
        module = submodule.module
        if type(module) is nn.Linear and len(call.args) == 1:
            return _of(self._layer(call, call.name, path, module))
        layers = list(module) if type(module) is nn.Sequential else []
        if len(layers) > 1 and type(layers[0]) is nn.Linear:
            return self._sequence(call, path, layers[0], layers[1:])
        if type(module) in (nn.LSTMCell, nn.GRUCell, nn.RNNCell) and len(call.args) == 2:
            return self._cell(call, path, cast(nn.RNNCellBase, module))
        return None

    def _function(self, call: Call) -> Opened | None:
        value, weight, bias = (*call.args, None)[:3]
        if not isinstance(value, Ref) or not isinstance(weight, Ref) or not isinstance(bias, Ref | None):
            return None
        return _of(self._product(call, call.name, value, weight, bias))

    def _layer(self, call: Call, name: str, path: str, layer: nn.Linear) -> Product | None:
        weight = self._parameter(f"{path}.weight", layer.weight)
        bias = self._parameter(f"{path}.bias", layer.bias) if "bias" in dict(layer.named_parameters()) else None
        return self._product(call, name, call.args[0], weight, bias)

    def _sequence(self, call: Call, path: str, first: nn.Linear, others: Sequence[nn.Module]) -> Opened | None:
        product = self._layer(call, self.unused(f"{call.name}_0"), f"{path}.0", first)
        if product is None:
            return None
        rest, before, width = list[Call](), product.name, product.rows
        for number, layer in enumerate(others, start=1):
            self.modules[f"{path}.{number}"] = Submodule(layer)
            is_last = number == len(others)
            width = layer.out_features if isinstance(layer, nn.Linear) else width
            made = replace(call, target=f"self.{path}.{number}", args=(Ref(before),))
            if not is_last:  # what changes other dims than the last has no shape that is known
                shape = (*product.shape[:-1], width) if isinstance(layer, _KEEPING) else None
                made = replace(made, name=self.unused(f"{call.name}_{number}"), shape=shape, site=None)
            rest.append(made)
            before = made.name
        return _of(product, rest=rest)

    def _cell(self, call: Call, path: str, cell: nn.RNNCellBase) -> Opened | None:
        state = call.args[1]
        h, c = cast("tuple[Arg, Arg]", state) if isinstance(cell, nn.LSTMCell) else (state, None)
        of_input = self._of_cell(call, call.args[0], f"{path}.", cell, "ih", self.unused(f"{call.name}_input"))
        of_state = self._of_cell(call, h, f"{path}.", cell, "hh", self.unused(f"{call.name}_state"))
        if of_input is None or of_state is None:
            return None
        both = Ref(of_input.name), Ref(of_state.name)
        if isinstance(cell, nn.GRUCell):
            return _of(of_input, of_state, rest=[replace(call, target=GRU_STEP, args=(*both, h))])
        typed: dict[str, Any] = {"shape": of_input.shape, "dtype": of_input.like.dtype, "location": call.location}
        gates = Call(name=self.unused(f"{call.name}_gates"), target="torch.Tensor.add", args=both, **typed)
        last: str | Formula = LSTM_STEP if c is not None else f"torch.{cast(nn.RNNCell, cell).nonlinearity}"
        args: tuple[Arg, ...] = (Ref(gates.name),) if c is None else (Ref(gates.name), c)
        return _of(of_input, of_state, rest=[gates, replace(call, target=last, args=args)])

    def _of_cell(self, call: Call, value: Arg, path: str, cell: nn.RNNCellBase, word: str, name: str) -> Product | None:
        weight = self._parameter(f"{path}weight_{word}", getattr(cell, f"weight_{word}"))
        bias = self._parameter(f"{path}bias_{word}", getattr(cell, f"bias_{word}")) if cell.bias else None
        return self._product(call, name, value, weight, bias)

    def _product(self, call: Call, name: str, value: Arg, weight: Ref, bias: Ref | None) -> Product | None:
        matrix, given = self.shape(weight), self.shape(value)
        if not isinstance(value, Ref) or not given or len(matrix) != 2:
            return None
        parts = self._joined(value)
        sizes = [self.shape(part)[-1] for part in parts]
        if not all(isinstance(size, int) for size in (*matrix, *sizes)) or sum(cast("list[int]", sizes)) != matrix[1]:
            return None
        columns, at = list[Span](), 0
        for size in cast("list[int]", sizes):
            columns.append((at, at := at + size))
        like = replace(self.node(value), location=call.location)
        return Product(name, value, parts, tuple(columns), weight, bias, (*given[:-1], matrix[0]), like)

    def _joined(self, value: Ref) -> tuple[Ref, ...]:
        """What it is put together of, one after another along its last dim."""
        node = self.node(value)
        if not isinstance(node, Call) or last_word(node.target_name) not in ("cat", "concat") or not node.args:
            return (value,)
        given, rank = node.args[0], len(node.shape or ())
        parts = cast("Sequence[Arg]", given if isinstance(given, list | tuple) else ())
        dim = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim", 0)
        whole = tuple(part for part in parts if isinstance(part, Ref) and len(self.shape(part)) == rank)
        return whole if dim in (-1, rank - 1) and len(whole) == len(parts) > 0 else (value,)

    def _parameter(self, path: str, tensor: Tensor) -> Ref:
        if path not in self._read:
            name = self._read[path] = self.unused(path)
            typed: dict[str, Any] = {"shape": tuple(tensor.shape), "dtype": tensor.dtype}
            self.parameters[name] = Parameter(name=name, path=path, trainable=tensor.requires_grad, **typed)
        return Ref(self._read[path])


_KEEPING = (
    *(nn.Linear, nn.ReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU, nn.Tanh, nn.Sigmoid, nn.Softplus, nn.LeakyReLU),
    *(nn.LayerNorm, nn.Identity),
)
"""Layers that change the last dim alone."""


def _of(*products: Product | None, rest: Sequence[Call] = ()) -> Opened | None:
    known = tuple(product for product in products if product is not None)
    return Opened(known, tuple(rest)) if len(known) == len(products) else None
