"""Names for the random variables of a program of plain PyTorch."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import count
from typing import Any

from dgmcompile.diagnostics import CompileError, Diagnostic
from dgmcompile.frontends.lifting.rules import maps_one_value, reads_same, takes_part
from dgmcompile.frontends.naming import is_name
from dgmcompile.frontends.recording import ModuleSpan, Recording
from dgmcompile.frontends.refusals import site_name
from dgmcompile.ir.formulas import COPIED
from dgmcompile.ir.graph import Call, Dim, Node, Ref, Sample, Site
from dgmcompile.ir.names import unused


def with_latents(nodes: Sequence[Node], recording: Recording) -> list[Node]:
    """Every draw that has no site yet is a latent, called as its variable is; a site without a name gets one.

    Several of one variable are told apart by the submodules that draw them, or else numbered in their order.

    Errors:
        `CompileError` ``unnamed-site`` for a draw that reaches no variable.
    """
    latents = [node for node in nodes if isinstance(node, Sample) and not (node.site and node.site.name)]
    called = Variables(nodes, recording)
    variables = {node.name: called.of_draw(node) for node in latents}
    if nameless := [node for node in latents if not variables[node.name]]:
        raise CompileError(*map(_unnamed, nameless))
    taken = {node.site.name for node in nodes if node.site and node.site.name}
    names = _names(variables, recording, taken)
    return [_with_site(node, names.get(node.name)) for node in nodes]


def _with_site(node: Node, name: str | None) -> Node:
    if name is None or not isinstance(node, Sample):
        return node
    return replace(node, site=Site(name, node.site.role if node.site else "latent", node.family))


def with_names(nodes: Sequence[Node], names: Mapping[str, str]) -> list[Node]:
    """The sites with other names.

    Errors:
        `CompileError` ``unknown-site`` for a name that no site has.
    """
    known = {node.site.name for node in nodes if node.site is not None}
    if strange := [name for name in names.values() if not is_name(name)]:
        raise CompileError(site_name(strange[0], None))
    if unknown := names.keys() - known:
        raise CompileError(_unknown(sorted(unknown), sorted(known)))
    kept = known - names.keys()
    if twice := {name for name, times in Counter([*names.values(), *kept]).items() if times > 1}:
        raise CompileError(_twice(sorted(twice)))
    return [_renamed(node, names) for node in nodes]


def _renamed(node: Node, names: Mapping[str, str]) -> Node:
    if node.site is None or node.site.name not in names:
        return node
    return replace(node, site=replace(node.site, name=names[node.site.name]))


def _twice(names: list[str]) -> Diagnostic:
    return Diagnostic(
        code="repeated-site",
        message=f"with these names, several variables are called {', '.join(map(repr, names))}",
        help="give each variable a name of its own",
    )


def _unknown(unknown: list[str], known: list[str]) -> Diagnostic:
    return Diagnostic(
        code="unknown-site",
        message=f"no variable and no submodule is called {', '.join(map(repr, unknown))}",
        notes=(f"the variables are {', '.join(map(repr, known))}",),
        help="name variables of the program as they are called there, or submodules by their paths",
    )


def _names(variables: Mapping[str, str], recording: Recording, taken: set[str]) -> dict[str, str]:
    shared = _repeated(variables, taken)
    qualified = {
        name: ".".join(filter(None, (_module(name, recording.spans), variable))) if variable in shared else variable
        for name, variable in variables.items()
    }
    return _numbered(qualified, taken)


def _repeated(names: Mapping[str, str], taken: set[str]) -> set[str]:
    counts = Counter(names.values())
    return {name for name, count in counts.items() if count > 1 or name in taken}


def _numbered(names: Mapping[str, str], taken: set[str]) -> dict[str, str]:
    repeated, used = _repeated(names, taken), {*taken, *names.values()}
    found = dict[str, str]()
    for node, name in names.items():
        if name in repeated:
            name = next(new for i in count() if (new := f"{name}_{i}") not in used)
            used.add(name)
        found[node] = name
    return found


class Variables:
    """The program's own names for what its nodes hold."""

    def __init__(self, nodes: Sequence[Node], recording: Recording) -> None:
        self._recording = recording
        self._readers = defaultdict[str, list[Call]](list)
        self._sizes = defaultdict[str, set[Any]](set)
        for node in (*nodes, *recording.nodes):
            self._sizes[node.name].add(_sizes(node))
            if isinstance(node, Call):
                for name in dict.fromkeys(node.inputs):
                    self._readers[name].append(node)

    def of_draw(self, draw: Sample) -> str:
        """As the value is, or what is made of it alone: of what is no 0 or 1, ``y_draw`` for ``y = square(draw)``.

        Else as what it is part of: ``y_draw`` for ``y = x * draw`` too, ``output_draw`` where that is returned. At last
        as a graph of fx calls it.
        """
        if found := self.at(draw.name):
            return found
        made = self.at(draw.name, of_functions=True)
        if made and draw.family == "Bernoulli":
            return made
        name = draw.name.removesuffix(".draw")
        made = made or self._recording.around.get(name, "")
        taken = set(self._recording.variables.values())
        return unused(f"{made}_draw", taken) if made else self._recording.graph_names.get(name, "")

    def at(self, name: str, of_functions: bool = False) -> str:
        """That of the value, or of the one view, copy or function of it that has one; else as a graph calls it."""
        name = name.removesuffix(".draw")
        if found := self._recording.variables.get(name, ""):
            return found
        shown = [node for node in self._readers[name] if self._shows(node, name, of_functions)]
        names = {found for reader in shown if (found := self.at(reader.name, of_functions))}
        return names.pop() if len(names) == 1 else self._recording.weak_names.get(name, "")

    def _shows(self, reader: Call, name: str, of_functions: bool) -> bool:
        """Does it give all values of the node, or a function of them alone?"""
        if _is_copy(reader, name) or (of_functions and maps_one_value(reader)):
            return True
        return reads_same(reader, name) and (not takes_part(reader) or _sizes(reader) in self._sizes[name])


def _sizes(node: Node) -> tuple[Dim, ...] | None:
    """Of its dims, in order of none; None of what is no tensor."""
    return None if node.shape is None else tuple(sorted((size for size in node.shape if size != 1), key=str))


def _is_copy(node: Call, name: str) -> bool:
    """Is it ``tensor.copy_(value)`` of that value?"""
    return node.target == COPIED and node.args[1] == Ref(name)


def _module(name: str, spans: Sequence[ModuleSpan]) -> str:
    """The innermost submodule in which a node was recorded."""
    number = int(name[1:].partition(".")[0])  # of a value that is cast as well, ``%12.draw``
    inside = [span for span in spans if span.start < number <= span.end]
    return max(inside, key=lambda span: span.start).path if inside else ""


def _unnamed(node: Sample) -> Diagnostic:
    return Diagnostic(
        code="unnamed-site",
        message=f"a draw from a {node.family} has no name that the program gives it",
        location=node.location,
        help="assign it to a variable before it is read, as in z = ...",
    )
