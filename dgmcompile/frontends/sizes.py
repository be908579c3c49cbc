"""Which numbers of a program are sizes of its arguments, and for which sizes that holds: recordings compared."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from math import prod

from dgmcompile.diagnostics import CompileError
from dgmcompile.frontends.arguments import SizeClass
from dgmcompile.frontends.merge import (
    Difference,
    Numbers,
    Run,
    Solved,
    Unsolved,
    Variation,
    compared,
    differing_places,
    predicted,
    solve,
    with_sizes,
)
from dgmcompile.frontends.polynomials import grid
from dgmcompile.ir.graph import Call, Graph, Guard, Input, Loop, Node, Parameter, Ref, leaves

_DENSE = 2
"""So many sizes at once may enter a polynomial that is no simple one."""

_LARGE = (1003, 301, 101)
"""A program is tried at the first of these that its arithmetic allows."""

_CALL = 1e6
"""As many multiplications take as long as it takes to record one call."""

_AFFORDABLE = 2e9
"""Multiplications, about, of a recording at a large size."""


@dataclass(frozen=True)
class Sized:
    """Nodes in which sizes are symbolic, the classes that these are made of, and for which arguments it holds."""

    nodes: list[Node]
    classes: list[SizeClass]
    guards: list[Guard]


def size_name(size_class: SizeClass) -> str:
    """The size node of a class, while it has no other name."""
    path, dim = size_class.first
    return "size:" + ".".join(map(str, path)) + ("" if dim is None else f":{dim}")


class SizeFinder:
    """
    Args:
        base: the first recording.
        classes: what may be of another size.
        record: the program at other sizes, with the random values of ``base``.
    """

    def __init__(
        self, base: Run, classes: Sequence[SizeClass], record: Callable[[Mapping[SizeClass, int]], Run]
    ) -> None:
        self._base = base
        self._classes = classes
        self._record = record
        self._guards: list[Guard] = []
        self._numbers: Solved = {}

    def found(self) -> Sized:
        """One class after the other is varied, then all at once; then it is tried at small and at large sizes.

        A class on which the structure depends, or a number in no simple way, is guarded; so are the bounds of
        the range in which what was found holds.
        """
        dynamic: dict[SizeClass, Numbers] = {}
        for size_class in self._classes:
            numbers = self._varied({size_class: size_class.size + 1})
            if isinstance(numbers, str):
                self._fix(size_class, numbers)
            elif numbers or size_class.is_number:
                dynamic[size_class] = numbers
        while dynamic:
            classes = list(dynamic)
            solved = self._solved(dynamic)
            if isinstance(solved, str):
                unfit = {classes[-1]: solved}
            else:
                ranges = _Ranges(classes, solved, self._base, self._problem)
                bounds = {c: found for c in classes if (found := ranges.of(c)) is not None}
                if ranges.hold_together(bounds):
                    limits = [g for c, (limit, reason) in bounds.items() for g in _guards(c, limit, reason)]
                    read = [c for c in classes if dynamic[c]]
                    self._numbers = solved
                    return Sized(with_sizes(self._base.nodes, solved), read, self._guards + limits)
                unfit = {c: reason for c, (_, reason) in bounds.items()}
            for size_class, reason in unfit.items():
                del dynamic[size_class]
                self._fix(size_class, reason)
        return Sized(self._base.nodes, [], self._guards)

    def foretells(self, run: Run, sizes: Mapping[SizeClass, int]) -> bool:
        """Is the recording at these sizes what was `found`?"""
        found = _differing(self._base, run)
        values = {size_name(c): size for c, size in sizes.items()}
        return not isinstance(found, str) and not differing_places(found, predicted(self._base, self._numbers, values))

    def _fix(self, size_class: SizeClass, reason: str) -> None:
        self._guards += _guards(size_class, size_class.size, reason)

    def _varied(self, sizes: Mapping[SizeClass, int]) -> Numbers | str:
        """What differs at other sizes, or why the program cannot be followed there."""
        try:
            run = self._record(sizes)
        except CompileError as error:
            return f"the program fails at another size: {error.diagnostics[0].message}"
        return _differing(self._base, run)

    def _problem(self, sizes: Mapping[SizeClass, int], solved: Solved, names: Mapping[str, int]) -> str | None:
        """What differs from what ``solved`` says; "" if nothing does, None where the program itself fails."""
        try:
            run = self._record(sizes)
        except CompileError as error:
            return None if error.diagnostics[0].code == "program-raised" else error.diagnostics[0].message
        found = _differing(self._base, run)
        if isinstance(found, str):
            return found
        if not (wrong := differing_places(found, predicted(self._base, solved, names))):
            return ""
        return f"elsewhere the program computes with another number{_place(self._base.nodes[wrong[0][0]])}"

    def _solved(self, dynamic: Mapping[SizeClass, Numbers]) -> Solved | str:
        classes = list(dynamic)
        sizes = tuple(c.size for c in classes)
        seen = [Variation(tuple(c.size + (c is varied) for c in classes), found) for varied, found in dynamic.items()]
        if isinstance(problem := self._extend(seen, classes, [tuple(2 * size + 3 for size in sizes)]), str):
            return problem
        names = [size_name(c) for c in classes]
        solved = solve(self._base, sizes, seen, names)
        if isinstance(solved, Unsolved) and 0 < len(solved.classes) <= _DENSE:
            if isinstance(problem := self._extend(seen, classes, grid(sizes, solved.classes)), str):
                return problem
            solved = solve(self._base, sizes, seen, names, solved.classes)
        return _number_depends(solved.node) if isinstance(solved, Unsolved) else solved

    def _extend(self, seen: list[Variation], classes: list[SizeClass], settings: list[tuple[int, ...]]) -> str | None:
        for setting in settings:
            found = self._varied(dict(zip(classes, setting, strict=True)))
            if isinstance(found, str):
                return found
            seen.append(Variation(setting, found))
        return None


_LONG = 24
"""Steps, of a loop that is not recorded again and again in its full length."""

_SHORT = 8
"""The length at which it is recorded then, or the first greater one that is no other size of the arguments."""


def shorter(run: Run, classes: Sequence[SizeClass]) -> dict[SizeClass, int]:
    """Smaller sizes of the classes of which the lengths of long loops seem to be made."""
    lengths = [n.length for n in run.nodes if isinstance(n, Loop) and isinstance(n.length, int) and n.length > _LONG]
    near = [c for c in classes if any(abs(c.size - length) <= _NEAR for length in lengths)]
    taken = {c.size for c in classes}
    least = min((c.size for c in near), default=0)
    short = next(n for n in count(_SHORT) if taken.isdisjoint(n + c.size - least for c in near))
    return {c: short + c.size - least for c in near}


_NEAR = 3
"""How many steps of a loop may be done before or after it."""


Bound = tuple["slice[int | None, int | None, None]", str]
"""The sizes for which something holds, and why for no others."""


class _Ranges:
    """At small and at large sizes: where does what was found in between no longer hold?"""

    def __init__(
        self,
        classes: Sequence[SizeClass],
        solved: Solved,
        base: Run,
        problem: Callable[[Mapping[SizeClass, int], Solved, Mapping[str, int]], str | None],
    ) -> None:
        self._classes = classes
        self._solved = solved
        self._nodes = with_sizes(base.nodes, solved)
        self._by_name = {node.name: node for node in self._nodes}
        self._loops = self._found_loops()
        self._modules = base.recording.modules
        self._problem = problem

    def _found_loops(self) -> Mapping[str, frozenset[str]]:
        """Node -> the loops that it is in, if there are any."""
        if not any(isinstance(node, Loop) for node in self._nodes):
            return {}
        sizes = (Input(name=size_name(c), path=()) for c in self._classes)
        return Graph([*sizes, *self._nodes]).loops

    def _tried(self, sizes: Mapping[SizeClass, int]) -> str | None:
        """As `SizeFinder._problem`."""
        return self._problem(sizes, self._solved, self._values(sizes))

    def _values(self, sizes: Mapping[SizeClass, int]) -> dict[str, int]:
        return {size_name(c): sizes.get(c, c.size) for c in self._classes}

    def of(self, size_class: SizeClass) -> Bound | None:
        """The range of a class; None if no bound was found."""
        low, too_small = self._lowest(size_class)
        high, too_large = self._highest(size_class)
        return (slice(low, high), reason) if (reason := too_small or too_large) else None

    def hold_together(self, bounds: Mapping[SizeClass, Bound]) -> bool:
        """Of several bounds: also where each size is at one of its own?"""
        lowest = {c: min(c.size, 1) if bound.start is None else bound.start for c, (bound, _) in bounds.items()}
        ends = [{c: lowest[c] if bound.stop is None else bound.stop - 1 for c, (bound, _) in bounds.items()}, lowest]
        return len(bounds) < 2 or not any(self._tried(end) for end in ends)

    def _lowest(self, size_class: SizeClass) -> tuple[int | None, str]:
        """The smallest size for which it holds, if something differs below it, and what does."""
        good = size_class.size
        for small in (1, 2, 0, -1) if size_class.is_number else (1, 2, 0):
            if small < good and (problem := self._tried({size_class: small})) is not None:
                if problem:
                    return self._between(size_class, good, small, problem)
                good = small
        return None, ""

    def _highest(self, size_class: SizeClass) -> tuple[int | None, str]:
        """The first size for which it no longer holds, if there is one, and what differs there."""
        tries = [*_LARGE, 4 * size_class.size] if size_class.size < _LARGE[0] else [4 * size_class.size]
        for large in (n for n in tries if n > 2 * size_class.size + 3):
            if self._work({size_class: large}) <= _AFFORDABLE:
                if (problem := self._tried({size_class: large})) is None:
                    continue
                if not problem:
                    return None, ""
                last, problem = self._between(size_class, size_class.size, large, problem)
                return last + 1, problem
        return None, ""

    def _between(self, size_class: SizeClass, good: int, bad: int, problem: str) -> tuple[int, str]:
        """The last size, from ``good`` towards ``bad``, for which it holds, and what differs at the next."""
        while abs(good - bad) > 1:
            middle = (good + bad) // 2
            if found := self._tried({size_class: middle}):
                bad, problem = middle, found
            else:
                good = middle
        return good, problem

    def _work(self, sizes: Mapping[SizeClass, int]) -> float:
        """About how many multiplications a recording takes at these sizes."""
        values = self._values(sizes)
        shapes = {n.name: [d if isinstance(d, int) else d.evaluate(values) for d in n.shape or ()] for n in self._nodes}
        steps = {node.name: self._steps(node, values) for node in self._nodes}
        once = sum(self._products(node, shapes) for node in self._nodes if steps[node.name] == 1)
        again = ((self._products(node, shapes) + _CALL) * n for node in self._nodes if (n := steps[node.name]) > 1)
        return once + sum(again)

    def _steps(self, node: Node, values: Mapping[str, int]) -> int:
        """How often a loop computes it."""
        around = (self._by_name[loop] for loop in self._loops.get(node.name, ()))
        lengths = [loop.length for loop in around if isinstance(loop, Loop)]
        return prod(length if isinstance(length, int) else length.evaluate(values) for length in lengths)

    def _products(self, node: Node, shapes: Mapping[str, list[int]]) -> float:
        """About how many multiplications make a node's value: of each element read or made as many as are summed."""
        reads = [leaf.name for leaf in leaves(node.arguments) if isinstance(leaf, Ref)]
        made, summed = prod(shapes[node.name]), [1.0]
        if isinstance(node, Call):
            weights = [shapes[name] for name in reads if isinstance(self._by_name[name], Parameter)]
            if (module := self._modules.get(node.target_name.removeprefix("self."))) is not None:
                weights = [list(parameter.shape) for parameter in module.parameters()]
                made = max([made, *(prod(shapes[name]) for name in reads)])
            summed += [prod(shape) / min(shape[:2]) for shape in weights if len(shape) > 1]
            if node.target_name.rpartition(".")[2] in _PRODUCTS or ".linalg." in node.target_name:
                summed += [shapes[name][-1] for name in reads if shapes[name]]
        return made * sum(summed)


_PRODUCTS = frozenset(["matmul", "__matmul__", "mm", "bmm", "mv", "addmm", "baddbmm", "einsum", "cholesky", "cdist"])


def _guards(size_class: SizeClass, expected: object, reason: str) -> list[Guard]:
    return [Guard(path, dim, expected, reason) for path, dim in size_class.members]


def _differing(base: Run, run: Run) -> Numbers | str:
    """The numbers that differ, or what else does."""
    if run.recording.errors:
        return "the program is refused at another size"
    found = compared(base, run)
    if not isinstance(found, Difference):
        return found
    return f"the program's structure depends on it{_place(found.node)}"


def _number_depends(node: Node) -> str:
    return f"a number in the program depends on it in no simple way{_place(node)}"


def _place(node: Node | None) -> str:
    return f" ({node.location})" if node is not None and node.location is not None else ""
