"""Pictures in files: formats, renderers, and what is said where there is none."""

import os
import stat
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from dgmcompile.diagnostics import CompileError
from dgmcompile.ir.graph import Graph
from dgmcompile.viz import render as rendering
from dgmcompile.viz.dot import dot_of
from dgmcompile.viz.render import draw, mimebundle_of, render, renderers, svg_of

SVG = "{http://www.w3.org/2000/svg}"


def code_of(error):
    (diagnostic,) = error.value.diagnostics
    return diagnostic.code


def test_formats_of_render(semi):
    dot = dot_of(semi)
    assert render(dot, "png").startswith(b"\x89PNG\r\n\x1a\n")
    assert ET.fromstring(render(dot, "svg")).tag == f"{SVG}svg"


def test_svg_has_a_group_for_each_node_and_edge(semi):
    svg = ET.fromstring(svg_of(semi))
    kinds = [group.get("class", "").split()[:1] for group in svg.iter(f"{SVG}g")]
    assert kinds.count(["node"]) == len(semi.variables())
    assert kinds.count(["edge"]) == semi.variables().number_of_edges()
    assert kinds.count(["cluster"]) == 2


def test_tooltips_name_boxes_and_arrows(semi):
    titles = [title.text for title in ET.fromstring(svg_of(semi)).iter(f"{SVG}title")]
    assert "z | Normal [batch, 16] | deterministic" in titles
    assert "z_noise \N{RIGHTWARDS ARROW} z" in titles


def test_svg_has_no_ids_links_or_comments(pair):
    svg = svg_of(pair, detail="calls")
    assert " id=" not in svg
    assert "xlink" not in svg
    assert "<!" not in svg
    assert "<script" not in svg


def test_same_graph_same_picture(semi):
    assert svg_of(semi) == svg_of(semi)


@pytest.mark.parametrize("suffix", [".svg", ".png", ".dot", ".gv", ".SVG"])
def test_draw_writes_by_suffix(suffix, semi, tmp_path):
    path = tmp_path / f"model{suffix}"
    draw(semi, path, detail="calls", title="semi")
    content = path.read_bytes()
    match suffix.lower():
        case ".svg":
            assert ET.fromstring(content).tag == f"{SVG}svg"
        case ".png":
            assert content.startswith(b"\x89PNG")
        case _:
            assert content.decode() == dot_of(semi, detail="calls", title="semi")


def test_unknown_suffix_is_refused_before_anything_is_written(semi, tmp_path):
    with pytest.raises(CompileError) as error:
        draw(semi, tmp_path / "model.docx")
    assert code_of(error) == "unknown-picture-format"
    assert "docx" in str(error.value)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(CompileError) as error:
        render(dot_of(semi), "xdot")
    assert code_of(error) == "unknown-picture-format"


def test_no_renderer_says_what_to_install(semi, tmp_path, monkeypatch):
    monkeypatch.setattr(rendering, "renderers", lambda: ())
    with pytest.raises(CompileError) as error:
        svg_of(semi)
    assert code_of(error) == "no-renderer"
    assert "pip install graphviz-pure" in str(error.value)
    draw(semi, tmp_path / "model.dot")
    assert (tmp_path / "model.dot").read_text() == dot_of(semi)


def test_notebooks_get_picture_and_text(semi, monkeypatch):
    bundle = mimebundle_of(semi)
    assert bundle == {"text/plain": str(semi), "image/svg+xml": svg_of(semi)}
    monkeypatch.setattr(rendering, "renderers", lambda: ())
    bundle = mimebundle_of(semi)
    assert set(bundle) == {"text/plain"}
    assert str(semi) in bundle["text/plain"]
    assert "no-renderer" in bundle["text/plain"]


def program(folder: Path, name: str, body: str) -> Path:
    path = folder / name
    path.write_text(f"#!{sys.executable}\nimport sys\n{body}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


needs_shebang = pytest.mark.skipif(os.name == "nt", reason="a script with a #! line is no program there")


@needs_shebang
def test_system_dot_comes_first(tmp_path, monkeypatch):
    dot = program(tmp_path, "dot", "print('drawn by', sys.argv[1])")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert renderers()[0] == str(dot)
    assert render("digraph {}", "svg") == b"drawn by -Tsvg\n"


@needs_shebang
def test_dot_that_lacks_a_format_gives_way(tmp_path, monkeypatch):
    program(tmp_path, "dot", "sys.exit('Format not recognized')")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert len(renderers()) == 2
    assert render("digraph {}", "png").startswith(b"\x89PNG")


@needs_shebang
def test_failures_of_every_renderer_are_told(tmp_path, monkeypatch):
    failing = program(tmp_path, "dot", "sys.exit('no such thing')")
    silent = program(tmp_path, "silent", "")
    monkeypatch.setattr(rendering, "renderers", lambda: (str(failing), str(silent), str(tmp_path / "missing")))
    with pytest.raises(CompileError) as error:
        render("digraph {}", "svg")
    assert code_of(error) == "render-failed"
    assert "dot: no such thing" in str(error.value)
    assert "silent: wrote nothing" in str(error.value)
    assert "missing: " in str(error.value)


@needs_shebang
def test_a_renderer_that_hangs_is_stopped(tmp_path, monkeypatch):
    hanging = program(tmp_path, "dot", "import time\ntime.sleep(60)")
    monkeypatch.setattr(rendering, "renderers", lambda: (str(hanging),))
    monkeypatch.setattr(rendering, "_TIMEOUT_SECONDS", 0.2)
    with pytest.raises(CompileError, match="not done after"):
        render("digraph {}", "svg")


def test_graphviz_pure_is_found_without_a_path(monkeypatch):
    monkeypatch.setenv("PATH", "")
    (found,) = renderers()
    assert Path(found).stem == "graphviz-pure"


def test_graphviz_pure_is_found_where_it_was_installed(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setattr(rendering.sysconfig, "get_path", lambda _: str(tmp_path))
    (found,) = renderers()
    assert Path(found).stem == "graphviz-pure"


def test_nothing_installed_is_no_renderer(tmp_path, monkeypatch):
    def missing(name):
        raise rendering.metadata.PackageNotFoundError(name)

    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setattr(rendering.sysconfig, "get_path", lambda _: str(tmp_path))
    monkeypatch.setattr(rendering.metadata, "files", missing)
    assert renderers() == ()


def test_the_empty_graph_is_drawn(tmp_path):
    draw(Graph([]), tmp_path / "empty.svg")
    ET.fromstring((tmp_path / "empty.svg").read_bytes())
