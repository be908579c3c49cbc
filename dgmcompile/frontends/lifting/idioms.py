"""What programs compute of a uniform number that they read twice, written as one call: a logit, a Laplace quantile."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from dgmcompile.frontends.lifting.forms import nothing
from dgmcompile.frontends.targets import short_name
from dgmcompile.ir.graph import Arg, Call, Formula, Node, Noise, Ref, Sample, is_size, refs_in


def with_idioms(nodes: Sequence[Node]) -> list[Node]:
    """Each idiom as one call, where nothing else reads what is computed on the way."""
    for idiom in (_logit, _folded_log):
        nodes = _Rewriter(nodes).rewritten(idiom)
    return list(nodes)


@dataclass(frozen=True)
class _Term:
    """A call and its arguments, which are terms and numbers, or a value, whose word is "": equal where they look alike.

    ``names`` are the nodes that compute it: its own, and those that add what is next to nothing.
    """

    word: str
    args: tuple[Any, ...]
    names: tuple[str, ...] = field(default=(), compare=False)

    def way(self) -> set[str]:
        inner = (arg.way() for arg in self.args if isinstance(arg, _Term))
        return set(self.names).union(*inner)


@dataclass(frozen=True)
class _Idiom:
    """``target(argument)``, and ``word(more, target(argument))`` where there is more."""

    target: str | Formula
    argument: _Term
    word: str = ""
    more: Any = None

    def kept(self) -> set[str]:
        """The nodes on the way to it that are still read."""
        inner = replace(self.argument, names=self.argument.names[: self.argument.word != ""])
        return inner.way() | (self.more.way() if isinstance(self.more, _Term) else set())


def _logit(term: _Term) -> _Idiom | None:
    """``log(u) - log(1 - u)``, also where the first is added to more, and ``log(u / (1 - u))``."""
    match term:
        case _Term("sub", (_Term("add", (more, _Term("log", (u,)))), below)) if below in _logs_of_rest(u):
            return _Idiom("torch.logit", u, "add", more)
        case _Term("sub", (_Term("log", (u,)), below)) if below in _logs_of_rest(u):
            return _Idiom("torch.logit", u)
        case _Term("log", (_Term("div", (u, _Term("sub", (1, rest)))),)) if rest == u:
            return _Idiom("torch.logit", u)
        case _:
            return None


def _logs_of_rest(u: _Term) -> tuple[_Term, ...]:
    return _Term("log", (_Term("sub", (1, u)),)), _Term("log1p", (_Term("neg", (u,)),))


def folded_log(centred: Tensor) -> Tensor:
    """The Laplace quantile of a uniform number less a half, but for its sign."""
    return torch.sign(centred) * torch.log1p(-2 * torch.abs(centred))


def doubly_folded_log(centred: Tensor) -> Tensor:
    """The same of twice that, as torch's own sampler computes it."""
    return torch.sign(centred) * torch.log1p(-torch.abs(centred))


def _folded_log(term: _Term) -> _Idiom | None:
    """``sign(c) * log(1 - 2 * abs(c))`` or ``sign(c) * log(1 - abs(c))``, also where the sign is multiplied by more."""
    for sign, log in (term.args, term.args[::-1]) if term.word == "mul" else ():
        match sign:
            case _Term("sign", (c,)):
                more = None
            case _Term("mul", (more, _Term("sign", (c,)))) | _Term("mul", (_Term("sign", (c,)), more)):
                pass
            case _:
                continue
        once, double, minus = _Term("abs", (c,)), *(_Term("mul", (_Term("abs", (c,)), times)) for times in (2, -2))
        if log in (*_logs_of_rest(double), _Term("log1p", (minus,))):
            return _Idiom(Formula.of(folded_log), c, "mul", more)
        if log in _logs_of_rest(once):
            return _Idiom(Formula.of(doubly_folded_log), c, "mul", more)
    return None


class _Rewriter:
    def __init__(self, nodes: Sequence[Node]) -> None:
        self._nodes, self._by_name = nodes, {node.name: node for node in nodes}
        self._readers = Counter(name for node in nodes if not is_size(node) for name in refs_in(node.arguments))

    def rewritten(self, idiom: Callable[[_Term], _Idiom | None]) -> list[Node]:
        found, dropped = dict[str, list[Call]](), set[str]()
        for node in self._nodes:
            term = self._term(Ref(node.name), _DEPTH) if isinstance(node, Call) else None
            if not isinstance(node, Call) or term is None or (one := idiom(term)) is None:
                continue
            if self._is_noise_read_twice(one.argument):
                found[node.name] = list(self._calls(node, one))
                dropped |= term.way() - one.kept()
        kept = (node for node in self._nodes if node.name in found or node.name not in dropped)
        return [new for node in kept for new in found.get(node.name, [node])]

    def _is_noise_read_twice(self, argument: _Term) -> bool:
        """By the idiom alone; what is computed of noise twice is read once each time."""
        node = self._by_name[_inner(argument).name]
        made_of = [self._by_name[name] for name in refs_in(node.arguments)] if isinstance(node, Call) else [node]
        is_noise = all(isinstance(one, Noise | Sample) for one in made_of)
        return is_noise and self._readers[node.name] == (2 if argument.word == "" else 1)

    def _calls(self, node: Call, idiom: _Idiom) -> Iterator[Call]:
        argument = self._by_name[_inner(idiom.argument).name]
        call = replace(node, target=idiom.target, args=(Ref(argument.name),), kwargs={})
        if idiom.more is None:
            yield call
            return
        inner = replace(call, name=f"{node.name}.inner", shape=argument.shape, dtype=argument.dtype, site=None)
        more = _outer(idiom.more) if isinstance(idiom.more, _Term) else idiom.more
        args = (more, Ref(inner.name)) if isinstance(more, Ref) else (Ref(inner.name), more)
        yield inner
        yield replace(node, target=f"torch.Tensor.{idiom.word}", args=args)

    def _term(self, value: Arg, depth: int) -> Any:
        """A call that is read once, or is looked at, with its arguments to some depth."""
        node = self._by_name.get(value.name) if isinstance(value, Ref) else None
        if node is None:
            return value
        is_read_once = depth == _DEPTH or self._readers[node.name] == 1
        if not isinstance(node, Call) or node.kwargs or not is_read_once or depth == 0:
            return _Term("", (Ref(node.name),))
        word = _SAME.get(short_name(node.target_name), short_name(node.target_name))
        args = tuple(self._term(arg, depth - 1) for arg in node.args)
        if word == "rsub":
            word, args = "sub", args[::-1]
        if word == "mul" and not isinstance(args[0], _Term):
            args = args[::-1]
        is_sum = word == "add" and isinstance(args[0], _Term) and isinstance(args[1], int | float)
        if is_sum and abs(args[1]) <= nothing(node.dtype):
            return replace(args[0], names=(*args[0].names, node.name))
        return _Term(word, args, (node.name,))


_DEPTH = 6
_SAME: Mapping[str, str] = {"subtract": "sub", "multiply": "mul", "divide": "div", "negative": "neg", "absolute": "abs"}


def _inner(term: _Term) -> Ref:
    """The node of a term's value, without what is next to nothing."""
    return term.args[0] if term.word == "" else Ref(term.names[0])


def _outer(term: _Term) -> Ref:
    """The node of a term's value, with it."""
    return Ref(term.names[-1]) if term.names else term.args[0]
