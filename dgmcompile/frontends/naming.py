"""Names for nodes that a reader of the program recognises."""

from __future__ import annotations

from collections.abc import Iterable

from dgmcompile.diagnostics import Diagnostic
from dgmcompile.frontends.refusals import site_name
from dgmcompile.ir.graph import Input, Node, Noise, Parameter, Site
from dgmcompile.ir.names import unused


def named(nodes: Iterable[Node], hints: dict[str, str]) -> dict[str, str]:
    """Recorded name -> final name: sites keep theirs, then inputs, parameters, then what was assigned to a variable."""
    nodes = list(nodes)
    names: dict[str, str] = {}
    taken: set[str] = set()
    for node in sorted(nodes, key=_precedence):
        names[node.name] = unused(_wanted(node, hints), taken)
        taken.add(names[node.name])
    return names


def _precedence(node: Node) -> int:
    if node.site:
        return 2 if node.site.parts else 0
    return 1 if isinstance(node, Input) else 3 if isinstance(node, Parameter) else 4


def _wanted(node: Node, hints: dict[str, str]) -> str:
    if node.site:
        return variable_name(node.site)
    if isinstance(node, Input):
        return ".".join(map(str, node.path))
    if isinstance(node, Parameter):
        return node.path
    return hints.get(node.name) or ("noise" if isinstance(node, Noise) else "value")


def variable_name(site: Site) -> str:
    """The site's name, in a loop without the numbers of the step."""
    texts = [part for part in site.parts if isinstance(part, str)]
    return ("".join(texts).strip("_") or "site") if site.parts else site.name


def strange_names(nodes: Iterable[Node]) -> list[Diagnostic]:
    """Of the sites whose names are none."""
    return [site_name(n.site.name, n.location) for n in nodes if n.site is not None and not is_name(n.site.name)]


def is_name(given: object) -> bool:
    return isinstance(given, str) and bool(given)
