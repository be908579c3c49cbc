"""The page: every picture, no network, no script, and headings as data."""

import re
from html.parser import HTMLParser

import pytest

from dgmcompile.diagnostics import CompileError
from dgmcompile.ir.graph import Graph, Input, Sample, Site
from dgmcompile.viz import dot, page
from dgmcompile.viz import render as rendering
from dgmcompile.viz.page import page_of


class Reader(HTMLParser):
    """Tags, attributes and text of a page."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.text, self.open = [], [], {}, []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.setdefault(self.open[-1] if self.open else "", []).append(data)


@pytest.fixture
def text(vae, semi, pair):
    return page_of({"original": vae, "semi-auxiliary": semi, "pair": pair}, "vae.py")


def test_every_graph_has_its_heading_picture_counts_and_text(text, semi):
    read = Reader(text)
    assert read.open == []
    assert read.text["h2"] == ["original", "semi-auxiliary", "pair"]
    assert read.tags.count("svg") == 1 + 3  # the legend
    assert "1 input, 2 noises, 3 deterministic, 1 target, 14 nodes in all" in read.text["p"]
    assert len(read.text["pre"]) == 3
    assert read.text["pre"][1] == str(semi)


def test_legend_has_the_roles_that_occur(vae, pair):
    legend = re.compile(r'<div class="legend">.*?</div>', re.DOTALL)

    def roles(graph):
        return re.findall(r"<title>([^<]*)</title>", legend.search(page_of({"g": graph}, "t"))[0])

    assert roles(vae) == ["input", "latent", "deterministic", "target"]
    assert roles(pair) == ["input", "noise", "deterministic", "target", "loss"]


def test_page_needs_no_network_and_no_script(text):
    read = Reader(text)
    assert not {"script", "link", "img", "iframe", "object", "a", "base"} & set(read.tags)
    assert not {"src", "href", "xlink:href", "srcset"} & {key for key, _ in read.attributes}
    assert "url(" not in text
    assert "@import" not in text
    assert ("content", "default-src 'none'; style-src 'unsafe-inline'") in read.attributes
    assert set(re.findall(r"https?://[^\"' <]+", text)) == {"http://www.w3.org/2000/svg"}


def test_no_id_stands_twice(text):
    ids = [value for key, value in Reader(text).attributes if key == "id"]
    assert len(ids) == len(set(ids))


def test_every_colour_has_a_dark_partner(text, vae, pair):
    text += page_of({"a": vae, "b": pair}, "calls", details={"a": "calls", "b": "calls"})
    text += rendering.svg_of_dot(dot.dot_of_legend(dot.ROLE_STYLES))
    colours = set(re.findall(r'(?:fill|stroke)="([^"]+)"', text.replace("{", "")))
    assert len(colours) > 10
    assert colours - {"none", "transparent"} <= set(page.DARK)


def test_wide_pictures_have_a_row_of_their_own(vae):
    wide = Graph([Input(name=f"argument_{i}", path=(i,), shape=(3,)) for i in range(12)])
    text = page_of({"narrow": vae, "wide": wide}, "t")
    assert re.findall(r'<section( class="wide")?>\n<h2>(\w+)', text) == [("", "narrow"), (' class="wide"', "wide")]


def test_same_graphs_same_page(vae, pair):
    graphs = {"original": vae, "pair": pair}
    assert page_of(graphs, "t") == page_of(graphs, "t")


def test_no_graphs():
    read = Reader(page_of({}, "nothing"))
    assert read.text["h1"] == ["nothing"]
    assert "svg" not in read.tags


@pytest.mark.parametrize(
    "name", ["<script>alert(1)</script>", '"><img src=x>', "a\nb", "</pre></title></style>", "&lt;"]
)
def test_headings_titles_and_names_are_data(name):
    site = Site(name, "target", "Normal")
    graph = Graph([Sample(name=name, family="Normal", params={}, shape=(), site=site)], name=name)
    text = page_of({name: graph}, name)
    read = Reader(text)
    shown = name.replace("\n", "\\n")
    assert read.open == []
    assert not {"script", "img"} & set(read.tags)
    assert "".join(read.text["h1"]) == shown
    assert "".join(read.text["h2"]) == shown
    assert shown in "".join(read.text["text"])


def test_without_a_renderer_the_page_is_refused(vae, monkeypatch):
    monkeypatch.setattr(rendering, "renderers", lambda: ())
    with pytest.raises(CompileError, match="no-renderer"):
        page_of({"original": vae}, "t")
