"""Graphs -> one HTML page that needs no network and no script."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

from dgmcompile.ir.graph import Graph
from dgmcompile.viz.dot import ROLE_STYLES, dot_of_legend, visible
from dgmcompile.viz.picture import BoxRole, Detail, Picture, picture_of
from dgmcompile.viz.render import svg_of_dot, svg_of_picture, width_in_points

DARK: Mapping[str, str] = {
    "white": "none",
    "#1f2328": "#e6edf3",
    "#57606a": "#9da7b1",
    "#8c959f": "#6e7781",
    "#6e7781": "#8c959f",
    "#424a53": "#afb8c1",
    "#afb8c1": "#444c56",
    "#ffffff": "#0d1117",
    "#fafbfc": "#161b22",
    "#f6f8fa": "#1b2129",
    "#eef4fb": "#16273a",
    "#fdf6e7": "#33290f",
    "#d8dee4": "#424a53",
    "#eef2ee": "#1c2a20",
    "#f3f0f8": "#282138",
    "#fbeeee": "#3a1d1d",
}
"""Each colour of the drawing -> its partner on a dark page."""

_PLURALS: Mapping[BoxRole, tuple[str, str]] = {
    "input": ("input", "inputs"),
    "noise": ("noise", "noises"),
    "latent": ("latent", "latents"),
    "deterministic": ("deterministic", "deterministic"),
    "target": ("target", "targets"),
    "parameter": ("parameter", "parameters"),
    "call": ("call", "calls"),
    "module": ("submodule call", "submodule calls"),
    "constant": ("constant", "constants"),
    "size": ("size", "sizes"),
    "result": ("result", "results"),
    "loss": ("loss", "losses"),
}

_STYLE = """\
:root { color-scheme: light dark; --paper: #ffffff; --ink: #1f2328; --soft: #57606a; --line: #d0d7de; }
body { margin: 2rem; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Helvetica, Arial, sans-serif; }
h1 { font-size: 1.5rem; margin: 0 0 1rem; overflow-wrap: anywhere; }
.wide { grid-column: 1 / -1; }
h2 { font-size: 1.1rem; margin: 0; overflow-wrap: anywhere; }
main { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 30rem), 1fr)); gap: 1.5rem; }
section { min-width: 0; padding: 1rem; border: 1px solid var(--line); border-radius: 8px; }
p { margin: .2rem 0 .8rem; color: var(--soft); }
.picture, pre { overflow: auto; }
.legend { margin-bottom: 1.5rem; overflow: auto; }
svg { display: block; margin: 0 auto; }
.legend svg { margin: 0; }
details { margin-top: .8rem; }
summary { cursor: pointer; color: var(--soft); }
pre { margin: .5rem 0 0; font: 12px/1.45 ui-monospace, Consolas, "Liberation Mono", monospace; }
"""

_COLUMN_POINTS = 750
"""A wider picture has a row of its own."""

_POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def page_of(
    graphs: Mapping[str, Graph],
    title: str,
    *,
    details: Mapping[str, Detail] | None = None,
    shown: Mapping[str, Graph] | None = None,
) -> str:
    """One HTML page with the pictures of ``graphs`` side by side.

    Each stands under its heading (the key), with how many nodes it has and its text. A legend names
    the roles that occur. Light and dark follow the reader's system. ``details`` says by heading what a
    picture shows (see `picture_of`); by default the variables. ``shown`` are graphs that are drawn for others.
    """
    wanted, drawn = details or {}, {**graphs, **(shown or {})}
    pictures = {heading: picture_of(drawn[heading], detail=wanted.get(heading, "variables")) for heading in graphs}
    roles: set[BoxRole] = {role for picture in pictures.values() for role in picture.roles}
    sections = "\n".join(_section(heading, graphs[heading], picture) for heading, picture in pictures.items())
    legend = f'<div class="legend">{svg_of_dot(dot_of_legend(roles))}</div>' if roles else ""
    return f"""\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{escape(_POLICY)}">
<title>{escape(visible(title))}</title>
<style>
{_STYLE}{_dark_style()}</style>
</head>
<body>
<h1>{escape(visible(title))}</h1>
{legend}
<main>
{sections}
</main>
</body>
</html>
"""


def _section(heading: str, graph: Graph, picture: Picture) -> str:
    svg = svg_of_picture(picture)
    wide = ' class="wide"' if width_in_points(svg) > _COLUMN_POINTS else ""
    return f"""\
<section{wide}>
<h2>{escape(visible(heading))}</h2>
<p>{_counts(graph, picture)}</p>
<div class="picture">{svg}</div>
{_text(graph)}</section>"""


def _counts(graph: Graph, picture: Picture) -> str:
    counts = picture.roles
    parts = [f"{counts[role]} {_PLURALS[role][counts[role] != 1]}" for role in ROLE_STYLES if counts[role]]
    words = ", ".join([*parts, f"{len(graph)} {'node' if len(graph) == 1 else 'nodes'} in all"])
    return f"{words}; {picture.implied} arrows that longer paths imply are not drawn" if picture.implied else words


def _text(graph: Graph) -> str:
    lines = "\n".join(visible(line, blank="") for line in str(graph).split("\n"))
    return f"<details>\n<summary>text of the graph</summary>\n<pre>{escape(lines)}</pre>\n</details>\n"


def _dark_style() -> str:
    colours = [(kind, light, dark) for light, dark in DARK.items() for kind in ("fill", "stroke")]
    rules = [f'  svg [{kind}="{light}"] {{ {kind}: {dark}; }}' for kind, light, dark in colours]
    return "\n".join(
        (
            "@media (prefers-color-scheme: dark) {",
            "  :root { --paper: #0d1117; --ink: #e6edf3; --soft: #9da7b1; --line: #30363d; }",
            *rules,
            "}\n",
        )
    )
