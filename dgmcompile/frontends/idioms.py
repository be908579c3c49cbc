"""What programs compute of a uniform number that they read twice: its logit, written as one call."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from dgmcompile.frontends.forms import nothing
from dgmcompile.frontends.targets import short_name
from dgmcompile.ir.graph import Arg, Call, Node, Noise, Ref, is_size, refs_in


def with_logits(nodes: Sequence[Node]) -> list[Node]:
    """``log(u) - log(1 - u)``, ``log(u) - log1p(-u)`` and ``log(u / (1 - u))`` as ``logit(u)``.

    Where nothing else reads ``u``, or what is computed on the way. Of ``x + log(u) - log(1 - u)`` it is added to ``x``.
    """
    readers = Counter(name for node in nodes if not is_size(node) for name in refs_in(node.arguments))
    match = _Match({node.name: node for node in nodes}, readers)
    found = {node.name: logit for node in nodes if isinstance(node, Call) and (logit := match.logit(node)) is not None}
    dropped = {name for logit in found.values() for name in logit.way}
    kept = (node for node in nodes if node.name not in dropped)
    return [new for node in kept for new in (found[node.name].nodes(node) if node.name in found else [node])]


@dataclass(frozen=True)
class _Part:
    """``u``, ``1 - u`` or the logarithm of either, and the nodes that compute it."""

    uniform: str
    way: tuple[str, ...] = ()
    is_complement: bool = False


@dataclass(frozen=True)
class _Logit:
    """Of the noise ``uniform``, added to ``more``; ``way`` are the nodes that it stands for."""

    uniform: Noise
    way: tuple[str, ...]
    more: Arg = None

    def nodes(self, node: Node) -> Iterator[Call]:
        assert isinstance(node, Call)
        logit = replace(node, target="torch.logit", args=(Ref(self.uniform.name),))
        if self.more is None:
            yield logit
            return
        name = f"{node.name}.logit"
        yield replace(logit, name=name, shape=self.uniform.shape, dtype=self.uniform.dtype, site=None)
        yield replace(node, target="torch.Tensor.add", args=(self.more, Ref(name)))


class _Match:
    def __init__(self, by_name: Mapping[str, Node], readers: Mapping[str, int]) -> None:
        self._by_name, self._readers = by_name, readers

    def logit(self, node: Call) -> _Logit | None:
        """What the node computes, if it is one."""
        more, above, below = None, None, None
        match self._called(Ref(node.name)):
            case "sub" | "subtract", (one, other):
                above, below = self._log(one), self._log(other)
                if above is None and self._called(one)[0] == "add" and self._once(one):
                    more, last = self._called(one)[1]
                    above = self._log(last)
                    above = above and replace(above, way=(*above.way, _name(one)))
            case "log", (quotient,) if self._called(quotient)[0] in ("div", "divide") and self._once(quotient):
                one, other = self._called(quotient)[1]
                above, below = self._plain(one, (_name(quotient),)), self._complement(other)
            case _:
                pass
        if above is None or below is None or above.is_complement or not below.is_complement:
            return None
        noise = self._by_name.get(above.uniform)
        if not isinstance(noise, Noise) or noise.law != "StandardUniform" or above.uniform != below.uniform:
            return None
        if self._readers[noise.name] != 2:
            return None
        return _Logit(noise, (*above.way, *below.way), more)

    def _log(self, value: Arg) -> _Part | None:
        word, args = self._called(value)
        way = (_name(value),)
        if not self._once(value) or word not in ("log", "log1p"):
            return None
        if word == "log":
            return self._complement(args[0], way) or self._plain(args[0], way)
        negative, inner = self._called(args[0])
        is_negative = negative in ("neg", "negative") and self._once(args[0])
        return _Part(_name(inner[0]), (*way, _name(args[0])), True) if is_negative else None

    def _complement(self, value: Arg, way: tuple[str, ...] = ()) -> _Part | None:
        part = self._plain(value, way)
        match self._called(Ref(part.uniform)):
            case ("rsub", (Ref(name=uniform), 1)) | ("sub" | "subtract", (1, Ref(name=uniform))):
                return _Part(uniform, (*part.way, part.uniform), True) if self._once(Ref(part.uniform)) else None
            case _:
                return None

    def _plain(self, value: Arg, way: tuple[str, ...]) -> _Part:
        """The value, without what is next to nothing."""
        match self._called(value):
            case "add", (Ref(name=inner), int() | float() as more) if self._once(value):
                is_nothing = abs(more) <= nothing(self._by_name[inner].dtype)
                return _Part(inner, (*way, _name(value))) if is_nothing else _Part(_name(value), way)
            case _:
                return _Part(_name(value), way)

    def _called(self, value: Arg) -> tuple[str, tuple[Arg, ...]]:
        node = self._by_name.get(_name(value))
        if not isinstance(node, Call) or node.kwargs or len(node.args) > 2:
            return "", ()
        return short_name(node.target_name), tuple(node.args)

    def _once(self, value: Arg) -> bool:
        return self._readers.get(_name(value), 0) == 1


def _name(value: Arg) -> str:
    return value.name if isinstance(value, Ref) else ""
