"""Matrix products of a loop in parts: what no step waits for is multiplied before the loop, and a value only once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

from dgmcompile.ir.graph import Arg, Call, Decision, Graph, Node, Ref, Shape
from dgmcompile.ir.loops import innermost_first
from dgmcompile.passes.hoisting import Hoisting
from dgmcompile.passes.products import LINEAR, Product, Products, Span


def split(graph: Graph) -> Graph:
    r"""Loops that multiply by a matrix only what a step waits for, and a value by one matrix for all its readers.

    for t:                                  xs = linear(x, W[:, :n], b)
        g_t = linear(cat(x_t, h), W, b)     for t:
        p_t = linear(h, V)              =>      s, p_t = linear(h, cat(W[:, n:], V)).split(...)
                                                g_t = xs[t] + s

    The products are those of ``linear``, of ``nn.Linear``, of an ``nn.Sequential`` that begins with one, and of torch's
    recurrent cells. Values are the same up to rounding.
    """
    for name in innermost_first(graph):
        graph = _Splitting(graph, name).result()
    return graph


@dataclass
class _Splitting:
    """Of one loop; ``outside`` are weights, put together anew."""

    graph: Graph
    name: str
    outside: dict[str, Node] = field(default_factory=dict[str, Node])

    def __post_init__(self) -> None:
        loop = Hoisting(self.graph, self.name)
        inside = {node.name for node in loop.inside}
        self._late = inside - loop.before
        self._products = Products(self.graph)
        self._weights = dict[tuple[str, tuple[Span, ...]], Ref]()
        waiting = [node for node in loop.inside if node.name in self._late - loop.after]
        found = {node.name: self._products.opened(node) for node in waiting if isinstance(node, Call)}
        known = {
            name: opened
            for name, opened in found.items()
            if opened and all(product.weight.name not in inside for product in opened.products)
        }
        self._merged = self._read_by_several([p for opened in known.values() for p in opened.products])
        self._shares = {
            (value, product.name): self._products.unused(_of(product.name, value))
            for value, products in self._merged.items()
            for product in products
        }
        self._opened = {n: opened for n, opened in known.items() if any(map(self._is_split, opened.products))}

    def result(self) -> Graph:
        if not self._opened:
            return self.graph
        merged = [node for value, products in self._merged.items() for node in self._at_once(value, products)]
        nodes = [made for node in self.graph for made in self._written(node)]
        decisions = (Decision("split", name, "rewrite", "its matrix is multiplied in parts") for name in self._opened)
        modules = {**self._products.modules, **self.graph.binding.modules}
        return self.graph.evolve(
            [*self._products.parameters.values(), *self.outside.values(), *nodes, *merged],
            binding=replace(self.graph.binding, modules=modules),
            history=(*self.graph.history, *decisions),
        )

    def _written(self, node: Node) -> Iterator[Node]:
        if opened := self._opened.get(node.name):
            for product in opened.products:
                yield from self._in_parts(product)
            yield from opened.rest
        else:
            yield node

    # which are made in parts

    def _is_late(self, part: Ref) -> bool:
        return part.name in self._late

    def _is_split(self, product: Product) -> bool:
        return not all(map(self._is_late, product.parts)) or bool(self._shared(product))

    def _shared(self, product: Product) -> list[str]:
        return [part.name for part in product.parts if (part.name, product.name) in self._shares]

    def _read_by_several(self, products: Sequence[Product]) -> dict[str, list[Product]]:
        """Values that are all that several products wait for: they are made by one matrix, others of the value too."""
        late = [list(filter(self._is_late, product.parts)) for product in products]
        alone = Counter(parts[0].name for parts in late if len(parts) == 1)
        shared = [value for value, count in alone.items() if count > 1]
        return {value: [product for product in products if self._is_most_of(value, product)] for value in shared}

    def _is_most_of(self, value: str, product: Product) -> bool:
        """Is it at least half of what the product waits for?"""
        parts = [(p, span) for p, span in zip(product.parts, product.columns, strict=True) if self._is_late(p)]
        own = [span for part, span in parts if part.name == value]
        return len(own) == 1 and 2 * _width(own) >= _width([span for _, span in parts])

    # products

    def _in_parts(self, product: Product) -> Iterator[Node]:
        """The sum of what was multiplied with others, of what is known early, and of the rest."""
        if not self._is_split(product):
            args: tuple[Arg, ...] = (product.value, product.weight, *filter(None, [product.bias]))
            yield self._call(product.name, LINEAR, args, product.shape, product.like)
            return
        shared = self._shared(product)
        early = [i for i, part in enumerate(product.parts) if not self._is_late(part)]
        rest = [i for i, p in enumerate(product.parts) if self._is_late(p) and p.name not in shared]
        bias, names = (None if shared else product.bias), [self._shares[value, product.name] for value in shared]
        for word, places in (("early", early), ("late", rest)):
            if places:
                names.append(self._products.unused(f"{product.name}_{word}"))
                weight = f"{product.weight.name}_{word}"
                yield from self._part(product, names[-1], places, weight, bias)
                bias = None
        yield from self._sum(product, names)

    def _part(
        self, product: Product, name: str, places: Sequence[int], weight_name: str, bias: Ref | None
    ) -> Iterator[Node]:
        """What these parts of the value add to the product."""
        values, spans = [product.parts[i] for i in places], [product.columns[i] for i in places]
        value, weight = values[0], self._columns(product.weight, spans, weight_name)
        if len(values) > 1:
            value = Ref(self._products.unused(f"{name}_cat"))
            shape = (*product.shape[:-1], _width(spans))
            yield self._call(value.name, "torch.cat", (values, -1), shape, product.like)
        yield self._call(name, LINEAR, (value, weight, *filter(None, [bias])), product.shape, product.like)

    def _sum(self, product: Product, names: Sequence[str]) -> Iterator[Node]:
        total, *others = map(Ref, names)
        if not others:
            yield self._call(product.name, "identity", (total,), product.shape, product.like)
        for i, other in enumerate(others, start=1):
            name = product.name if i == len(others) else self._products.unused(f"{product.name}_part")
            yield self._call(name, "torch.Tensor.add", (total, other), product.shape, product.like)
            total = Ref(name)

    def _at_once(self, value: str, products: Sequence[Product]) -> Iterator[Node]:
        """All products of a value by one matrix, and what of it belongs to each."""
        like, rows = products[0].like, [product.rows for product in products]
        spans = [product.columns[[part.name for part in product.parts].index(value)] for product in products]
        names = [_of(product.weight.name, value) for product in products]
        weights = [self._columns(p.weight, [s], name) for p, s, name in zip(products, spans, names, strict=True)]
        weight = self._outside(f"{value}_weight", "torch.cat", (weights,), (sum(rows), _width(spans[:1])), like)
        bias: tuple[Ref, ...] = ()
        if any(product.bias for product in products):
            biases = [p.bias or self._zeros(weights[i], p.rows) for i, p in enumerate(products)]
            bias = (self._outside(f"{value}_bias", "torch.cat", (biases,), (sum(rows),), like),)
        name, shape = self._products.unused(f"{value}_products"), products[0].shape[:-1]
        yield self._call(name, LINEAR, (Ref(value), weight, *bias), (*shape, sum(rows)), like)
        pieces = self._products.unused(f"{value}_pieces")
        yield self._call(pieces, "torch.Tensor.split", (Ref(name), rows, -1), None, like)
        for i, product in enumerate(products):
            yield self._call(
                self._shares[value, product.name], "getitem", (Ref(pieces), i), product.shape, product.like
            )

    # weights

    def _columns(self, weight: Ref, spans: Sequence[Span], name: str) -> Ref:
        """These of the weight, one after another, as the node ``name``."""
        joined = list[Span]()
        for start, stop in spans:
            joined[-1:] = (
                [(joined[-1][0], stop)] if joined and joined[-1][1] == start else [*joined[-1:], (start, stop)]
            )
        rows, width = cast("tuple[int, int]", self._products.shape(weight))
        key = weight.name, tuple(joined)
        if joined == [(0, width)]:
            return weight
        if key not in self._weights:
            like = self._products.node(weight)
            cuts = [self._cut(name, weight, span, rows, width, like) for span in joined]
            whole = (rows, _width(joined))
            self._weights[key] = cuts[0] if len(cuts) == 1 else self._outside(name, "torch.cat", (cuts, 1), whole, like)
        return self._weights[key]

    def _cut(self, name: str, weight: Ref, span: Span, rows: int, width: int, like: Node) -> Ref:
        columns = slice(span[0] or None, None if span[1] == width else span[1])
        args: tuple[Arg, ...] = (weight, (slice(None), columns))
        return self._outside(name, "torch.Tensor.__getitem__", args, (rows, _width([span])), like)

    def _zeros(self, weight: Ref, rows: int) -> Ref:
        return self._outside("no_bias", "torch.Tensor.new_zeros", (weight, rows), (rows,), self._node(weight))

    def _node(self, value: Ref) -> Node:
        return self.outside.get(value.name) or self._products.node(value)

    # nodes

    def _outside(self, name: str, target: str, args: tuple[Arg, ...], shape: Shape, like: Node) -> Ref:
        call = replace(self._call(self._products.unused(name), target, args, shape, like), location=None)
        self.outside[call.name] = call
        return Ref(call.name)

    def _call(self, name: str, target: str, args: tuple[Arg, ...], shape: Shape | None, like: Node) -> Call:
        typed: dict[str, Any] = {"dtype": None if shape is None else like.dtype, "location": like.location}
        return Call(name=name, target=target, args=args, shape=shape, **typed)


def _of(name: str, value: str) -> str:
    """``teacher.prior_of_h`` of ``teacher.h``."""
    return f"{name}_of_{value.removeprefix(name.partition('.')[0] + '.')}"


def _width(spans: Sequence[Span]) -> int:
    return sum(stop - start for start, stop in spans)
