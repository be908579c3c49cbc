"""Loops that teacher and student go through in step: one number counts the steps of both."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import replace

from dgmcompile.ir.graph import Graph, Node, Site, map_names
from dgmcompile.ir.names import unused
from dgmcompile.ir.size import Size


def in_step(teacher: Graph, student: Graph) -> Graph:
    """The student, whose loops are called as those of the teacher in which the same sites are."""
    theirs = {_without_names(site, teacher, node.name): node.name for node, site in _sites_of_steps(teacher)}
    names = dict[str, str]()
    for node, site in _sites_of_steps(student):
        same = theirs.get(_without_names(site, student, node.name))
        ours = teacher.steps_of(same) if same else ()
        for own, others in zip(student.steps_of(node.name), ours, strict=False):
            names.setdefault(own.symbols[0], others.symbols[0])
    if len({*names.values()}) < len(names):
        return student
    taken = {*student.graph, *names.values()}
    for name in [name for name in names.values() if name in student and name not in names]:
        taken.add(fresh := unused(name, taken))
        names[name] = fresh
    return _renamed(student, names)


def _sites_of_steps(graph: Graph) -> Iterator[tuple[Node, Site]]:
    for node in graph:
        if node.site is not None and node.site.parts:
            yield node, node.site


def _without_names(site: Site, graph: Graph, node: str) -> Hashable:
    """Its name, whatever its loops are called."""
    numbers = {step.symbols[0]: f"{{{depth}}}" for depth, step in enumerate(graph.steps_of(node))}
    return tuple(
        part.rename(lambda name: numbers.get(name, name)) if isinstance(part, Size) else part for part in site.parts
    )


def _renamed(graph: Graph, names: dict[str, str]) -> Graph:
    """With these names of nodes."""

    def new(name: str) -> str:
        return names.get(name, name)

    nodes = [replace(node.map_names(new), name=new(node.name)) for node in graph]
    guards = tuple(replace(guard, expected=map_names(guard.expected, new)) for guard in graph.guards)
    return graph.evolve(nodes, outputs={node.site.name: node.name for node in nodes if node.site}, guards=guards)
