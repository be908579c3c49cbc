"""DOT text -> SVG or PNG, by the system's Graphviz or by the ``graphviz-pure`` wheel."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Mapping
from importlib import metadata
from os import PathLike, environ, pathsep
from pathlib import Path
from xml.dom.minidom import Document, Element, Node, Text, parseString

from dgmcompile.diagnostics import CompileError, Diagnostic
from dgmcompile.ir.graph import Graph
from dgmcompile.viz.dot import ROLE_NAMES, dot_of_picture, name_of, visible
from dgmcompile.viz.picture import Box, Detail, Picture, picture_of

FORMATS = ("svg", "png", "pdf")
"""``pdf`` needs a system Graphviz: graphviz-pure has none."""

_TIMEOUT_SECONDS = 120
_SMALLEST = 0.65
"""How far a picture shrinks to fit its column before it scrolls: its captions stay readable."""

_SCREEN_FONTS = "Helvetica, Arial, 'Liberation Sans', sans-serif"


def render(dot_text: str, format: str = "svg") -> bytes:
    """The picture as the renderer writes it.

    Errors:
        ``unknown-picture-format``, ``no-renderer``, ``render-failed``.
    """
    if format not in FORMATS:
        raise _unknown_format(format)
    commands = renderers()
    if not commands:
        raise _no_renderer()
    failures: list[str] = []
    for command in commands:  # a `dot` built without PNG must not hide a graphviz-pure that has it
        picture, failure = _run(command, dot_text, format)
        if picture:
            return picture
        failures.append(f"{Path(command).name}: {failure}")
    raise _render_failed(format, failures)


def renderers() -> tuple[str, ...]:
    """The programs to try, in order: the system's ``dot``, then graphviz-pure beside this Python."""
    found = (shutil.which("dot"), _graphviz_pure())
    return tuple(program for program in found if program)


def svg_of(graph: Graph, *, detail: Detail = "variables", title: str | None = None, parameters: bool = False) -> str:
    """One ``<svg>`` element, which can stand in a page, a notebook or a file of its own."""
    return svg_of_picture(picture_of(graph, detail=detail, parameters=parameters), title)


def svg_of_picture(picture: Picture, title: str | None = None) -> str:
    """One ``<svg>`` element; a box's tooltip tells its name, caption, role and source line."""
    return svg_of_dot(dot_of_picture(picture, title), {box.name: _tooltip(box) for box in picture.boxes})


def svg_of_dot(dot_text: str, tooltips: Mapping[str, str] | None = None) -> str:
    """One ``<svg>`` element without ids, links and comments: several of them can stand in one page.

    ``tooltips`` are the words for nodes, by name; without, a node's tooltip is its name.
    """
    document = parseString(render(dot_text, "svg"))
    svg = document.documentElement
    assert svg is not None
    _clean(document, svg, tooltips or {})
    svg.removeAttribute("xmlns:xlink")
    svg.setAttribute("role", "img")
    smallest = _SMALLEST * float(svg.getAttribute("width").removesuffix("pt"))
    svg.setAttribute("style", f"max-width: 100%; min-width: {smallest:.0f}pt; height: auto")
    return svg.toxml()


def _tooltip(box: Box) -> str:
    details = (box.caption, ROLE_NAMES[box.role], str(box.location or ""))
    return " | ".join(map(visible, (box.name, *filter(None, details))))


def width_in_points(svg: str) -> float:
    """How wide a picture of `svg_of_dot` is before it is fitted to a column."""
    root = parseString(svg).documentElement
    assert root is not None
    return float(root.getAttribute("width").removesuffix("pt"))


def draw(
    graph: Graph,
    path: str | PathLike[str],
    *,
    detail: Detail = "variables",
    title: str | None = None,
    parameters: bool = False,
) -> None:
    """Write the picture to ``path``, by its suffix: ``.svg``, ``.png``, ``.pdf``; ``.dot`` or ``.gv`` for DOT text.

    Errors: as `render`; an unknown suffix is refused before anything is drawn.
    """
    path = Path(path)
    suffix = path.suffix.lower().removeprefix(".")
    if suffix not in (*FORMATS, "dot", "gv"):
        raise _unknown_format(suffix)
    picture = picture_of(graph, detail=detail, parameters=parameters)
    match suffix:
        case "dot" | "gv":
            content = dot_of_picture(picture, title).encode()
        case "svg":
            content = svg_of_picture(picture, title).encode()
        case _:
            content = render(dot_of_picture(picture, title), suffix)
    path.write_bytes(content)


def mimebundle_of(graph: Graph, shown: Graph | None = None) -> dict[str, str]:
    """What a notebook shows of ``graph``: the picture (of ``shown``) if it can be rendered, and its text."""
    bundle = {"text/plain": str(graph)}
    try:
        bundle["image/svg+xml"] = svg_of(shown or graph)
    except CompileError as error:
        bundle["text/plain"] += f"\n\n{error}"
    return bundle


def _graphviz_pure() -> str | None:
    beside_python = (str(Path(sys.executable).parent), sysconfig.get_path("scripts"))
    path = pathsep.join((*beside_python, environ.get("PATH", "")))
    return shutil.which("graphviz-pure", path=path) or _installed_script()


def _installed_script() -> str | None:
    """The script where the installer says that it put it: a folder of the user's own, for example."""
    try:
        files = metadata.files("graphviz-pure") or []
    except metadata.PackageNotFoundError:
        return None
    scripts = (str(file.locate()) for file in files if Path(file).stem == "graphviz-pure")
    return next((script for script in scripts if shutil.which(script)), None)


def _run(command: str, dot_text: str, format: str) -> tuple[bytes, str]:
    """(picture, "") or (b"", why there is none)."""
    resolution = ["-Gdpi=144"] if format == "png" else []
    try:
        done = subprocess.run(
            [command, f"-T{format}", *resolution],
            input=dot_text.encode(),
            capture_output=True,
            timeout=_TIMEOUT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return b"", f"not done after {_TIMEOUT_SECONDS} s"
    except OSError as error:
        return b"", str(error)
    if done.returncode:
        return b"", done.stderr.decode(errors="replace").strip() or f"exit code {done.returncode}"
    return done.stdout, "wrote nothing"


def _clean(document: Document, element: Element, tooltips: Mapping[str, str]) -> None:
    if element.hasAttribute("id"):
        element.removeAttribute("id")
    if element.tagName == "text":
        element.setAttribute("font-family", _SCREEN_FONTS)
    for child in list(element.childNodes):
        if child.nodeType == Node.COMMENT_NODE:
            element.removeChild(child)
        elif isinstance(child, Element):
            _clean(document, child, tooltips)
    if element.tagName == "g":
        _name_for_reader(document, element, tooltips)


def _name_for_reader(document: Document, group: Element, tooltips: Mapping[str, str]) -> None:
    """Graphviz titles a group by its identifier; a reader wants a box's tooltip, or an arrow's two ends."""
    title = next((child for child in group.childNodes if isinstance(child, Element) and child.tagName == "title"), None)
    if title is None or not isinstance(title.firstChild, Text):
        return
    names = [name_of(end) for end in title.firstChild.data.split("->")]
    group.removeChild(title)
    match group.getAttribute("class").split()[:1]:
        case ["node"]:
            words = tooltips.get(names[0], visible(names[0]))
        case ["edge"]:
            words = " \N{RIGHTWARDS ARROW} ".join(map(visible, names))
        case _:
            return
    title = document.createElement("title")
    title.appendChild(document.createTextNode(words))
    group.insertBefore(title, group.firstChild)


def _no_renderer() -> CompileError:
    return CompileError(
        Diagnostic(
            code="no-renderer",
            message="no program to draw with: neither 'dot' (Graphviz) nor 'graphviz-pure' is installed",
            notes=("a '.dot' file can be written without one",),
            help="pip install graphviz-pure",
        )
    )


def _render_failed(format: str, failures: list[str]) -> CompileError:
    return CompileError(
        Diagnostic(
            code="render-failed",
            message=f"the picture could not be drawn as {format}",
            notes=tuple(failures),
            help="draw it as svg, or write a '.dot' file; detail='variables' is the smaller picture",
        )
    )


def _unknown_format(format: str) -> CompileError:
    return CompileError(
        Diagnostic(
            code="unknown-picture-format",
            message=f"no picture can be written as {format!r}",
            help="use .svg, .png, .pdf or .dot",
        )
    )
