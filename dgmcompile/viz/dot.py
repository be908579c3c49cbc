"""Graph -> DOT text. Roles differ by outline and line style, so that a grey print reads as well."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from html import escape
from itertools import count
from urllib.parse import quote, unquote

from graphviz import Digraph

from dgmcompile.ir.graph import Graph, Plate
from dgmcompile.viz.picture import SIDES, Box, BoxRole, Detail, Picture, Side, picture_of

FONT = "Helvetica"
"""Has metrics in every Graphviz, with the system's fonts and without."""

INK, SOFT_INK = "#1f2328", "#57606a"
LONGEST = 40
"""Characters of a name before its middle is left out; a tooltip has them all."""

MOST_CURVED_SPAN = 8000
"""Rows crossed by all arrows together up to which they are curves; beyond it a layout could take minutes."""

ROLE_STYLES: Mapping[BoxRole, Mapping[str, str]] = {
    "input": {"shape": "box", "style": "rounded,filled", "fillcolor": "#eef4fb"},
    "noise": {"shape": "hexagon", "style": "filled", "fillcolor": "#fdf6e7", "margin": "0.02,0"},
    "latent": {"shape": "ellipse", "style": "filled", "fillcolor": "#ffffff", "penwidth": "1.4"},
    "deterministic": {"shape": "ellipse", "style": "filled,dashed", "fillcolor": "#ffffff", "penwidth": "1.2"},
    "target": {"shape": "ellipse", "style": "filled", "fillcolor": "#d8dee4", "peripheries": "2", "penwidth": "1.2"},
    "parameter": {"shape": "cylinder", "style": "filled", "fillcolor": "#f6f8fa", "color": SOFT_INK},
    "call": {"shape": "box", "style": "filled", "fillcolor": "#ffffff", "color": "#8c959f"},
    "module": {"shape": "component", "style": "filled", "fillcolor": "#eef2ee", "penwidth": "1.4"},
    "constant": {"shape": "note", "style": "filled", "fillcolor": "#ffffff", "color": SOFT_INK},
    "size": {"shape": "plaintext", "fontcolor": SOFT_INK},
    "result": {"shape": "invhouse", "style": "filled", "fillcolor": "#f3f0f8", "penwidth": "1.4"},
    "loss": {"shape": "octagon", "style": "filled", "fillcolor": "#fbeeee", "penwidth": "1.8"},
}

ROLE_NAMES: Mapping[BoxRole, str] = {
    "input": "input",
    "noise": "noise",
    "latent": "latent",
    "deterministic": "deterministic",
    "target": "target",
    "parameter": "parameter",
    "call": "call",
    "module": "submodule",
    "constant": "constant",
    "size": "size",
    "result": "result",
    "loss": "loss",
}

_SMALL: frozenset[BoxRole] = frozenset({"parameter", "call", "constant", "size"})
_PLATE = {
    "style": "rounded,dashed",
    "bgcolor": "transparent",
    "color": "#6e7781",
    "labelloc": "b",
    "labeljust": "r",
    "class": "plate",
}
_SIZE_ARROW = {"style": "dotted", "color": "#8c959f", "class": "size"}
_LATER_ARROW = {"style": "dashed", "arrowhead": "vee", "constraint": "false", "class": "later"}
_SIDE = {"style": "rounded,filled", "color": "#afb8c1", "fillcolor": "#fafbfc", "labeljust": "l", "margin": "14"}


def dot_of(graph: Graph, *, detail: Detail = "variables", title: str | None = None, parameters: bool = False) -> str:
    """DOT text of ``graph``; the same graph gives the same text.

    Args:
        graph: any graph, a teacher-student pair included.
        detail: ``variables`` (inputs, noises, latents, targets; loss terms), ``random`` (of these, what is
            still random) or ``calls`` (every node).
        title: printed above the picture.
        parameters: draw the parameters with the variables as well.
    """
    return dot_of_picture(picture_of(graph, detail=detail, parameters=parameters), title)


def dot_of_picture(picture: Picture, title: str | None = None) -> str:
    """DOT text of a picture: a box around each model of a pair, within it boxes around the plates."""
    dot = _canvas()
    if title is not None:
        dot.attr("graph", label=_label(title, size=15), labelloc="t")
    if _total_span(picture) > MOST_CURVED_SPAN:
        dot.attr("graph", splines="line", nslimit="0.2", mclimit="0.2")
    cluster_names = map("cluster_{}".format, count())
    for side in ("teacher", "", "student"):  # what they share is drawn between them
        boxes = [box for box in picture.boxes if box.side == side]
        if not side or not boxes:
            _draw_nest(dot, _nest(boxes), picture, cluster_names)
            continue
        model = Digraph(name=next(cluster_names))
        model.attr(label=_label(side.capitalize(), size=13), **{"class": side}, **_SIDE)
        model.node(_anchor(side), label="", style="invis", width="0", height="0")
        _draw_nest(model, _nest(boxes), picture, cluster_names)
        dot.subgraph(model)
        dot.edge(_anchor(side), node_id(boxes[0].name), style="invis")
    if {box.side for box in picture.boxes}.issuperset(SIDES):
        dot.subgraph(_left_to_right(*map(_anchor, SIDES)))
    for arrow in picture.arrows:
        look = _SIZE_ARROW if arrow.is_size else _LATER_ARROW if arrow.is_later else {}
        dot.edge(node_id(arrow.tail), node_id(arrow.head), **look)
    return dot.source


def _total_span(picture: Picture) -> int:
    """Rows that the arrows cross, all together: what a layout costs grows faster than this."""
    row = dict.fromkeys((box.name for box in picture.boxes), 0)
    arrows = [arrow for arrow in picture.arrows if not arrow.is_later]
    for arrow in arrows:  # in the order of their heads, which is the program's
        row[arrow.head] = max(row[arrow.head], row[arrow.tail] + 1)
    return sum(row[arrow.head] - row[arrow.tail] for arrow in arrows)


def _anchor(side: Side) -> str:
    """An unseen node in the box of ``side``; no node of a graph has this identifier."""
    return f"={side}"


def _left_to_right(left: str, right: str) -> Digraph:
    """Clusters have no order of their own in Graphviz: an unseen edge in one rank gives them theirs."""
    row = Digraph()
    row.attr(rank="same")
    row.edge(left, right, style="invis")
    return row


def dot_of_legend(roles: Iterable[BoxRole]) -> str:
    """DOT text of one box for each role, named by its role, in the table's order."""
    present = set(roles)
    dot = _canvas()
    dot.attr("graph", nodesep="0.15", ranksep="0.1")
    for role in ROLE_STYLES:
        if role in present:
            dot.node(role, label=_label(ROLE_NAMES[role], size=11, bold=False), **_look(role))
    return dot.source


def node_id(name: str) -> str:
    """The DOT identifier of the node ``name``, free of DOT's special characters; `name_of` undoes it."""
    return quote(name, safe="", errors="surrogatepass").replace("%", "=") or "="  # % opens a name of Graphviz's own


def name_of(node_id: str) -> str:
    """The name of the node that has this DOT identifier."""
    return unquote(node_id.replace("=", "%"), errors="surrogatepass") if node_id != "=" else ""


def _canvas() -> Digraph:
    dot = Digraph(name="dgm")
    dot.attr(
        "graph", bgcolor="white", fontname=FONT, fontcolor=INK, pad="0.15", nodesep="0.3", ranksep="0.4", newrank="true"
    )
    dot.attr(
        "node", fontname=FONT, fontsize="13", fontcolor=INK, color=INK, height="0.3", width="0.3", margin="0.1,0.05"
    )
    dot.attr("edge", color="#424a53", arrowsize="0.65", penwidth="0.9")
    return dot


@dataclass
class _Nest:
    """Boxes, and the plates drawn around further ones. A plate that overlaps another stands twice."""

    boxes: list[Box] = field(default_factory=list)
    plates: dict[Plate, _Nest] = field(default_factory=dict)


def _nest(boxes: Iterable[Box]) -> _Nest:
    root = _Nest()
    for box in boxes:
        place = root
        for plate in box.plates:
            place = place.plates.setdefault(plate, _Nest())
        place.boxes.append(box)
    return root


def _draw_nest(dot: Digraph, nest: _Nest, picture: Picture, cluster_names: Iterator[str]) -> None:
    for box in nest.boxes:
        dot.node(node_id(box.name), label=_box_label(box), **_look(box.role, box.computed))
    for plate, inner in nest.plates.items():
        cluster = Digraph(name=next(cluster_names))
        cluster.attr(label=_label(picture.plate_labels[plate], size=11, bold=False, color=SOFT_INK), **_PLATE)
        _draw_nest(cluster, inner, picture, cluster_names)
        dot.subgraph(cluster)


def _look(role: BoxRole, computed: bool = False) -> dict[str, str]:
    look = {**ROLE_STYLES[role], "class": role}
    if computed and role == "target":
        look["style"] += ",dashed"
    return look


def _box_label(box: Box) -> str:
    small = box.role in _SMALL
    heading = _text(box.heading, size=11 if small else 13, bold=not small)
    if not box.caption:
        return f"<{heading}>"
    lines = (heading, _text(box.caption, size=10, color=SOFT_INK))
    rows = "".join(f"<tr><td>{line}</td></tr>" for line in lines)
    return f'<<table border="0" cellborder="0" cellspacing="0" cellpadding="0">{rows}</table>>'


def _label(text: str, *, size: int, bold: bool = True, color: str = INK) -> str:
    return f"<{_text(text, size=size, bold=bold, color=color)}>"


def _text(text: str, *, size: int, bold: bool = False, color: str = INK) -> str:
    words = escaped(_shortened(visible(text)))
    words = f"<b>{words}</b>" if bold else words
    return f'<font point-size="{size}" color="{color}">{words}</font>'


def visible(text: str, blank: str | None = None) -> str:
    """``text`` with its control characters spelled out; ``blank`` (its repr) where nothing would be seen."""
    shown = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
    if shown.strip():
        return shown
    return repr(shown) if blank is None else blank


def _shortened(text: str) -> str:
    half = LONGEST // 2
    return text if len(text) <= LONGEST else f"{text[: half - 3]}...{text[-half:]}"


def escaped(text: str) -> str:
    """``text`` as data in an HTML-like label: no markup, no entity, no ``\\N`` of Graphviz."""
    return escape(text).replace("\\", "\\\\")
