"""Sphinx: Markdown pages, no network; tables are made from the code."""

import sys
from importlib.metadata import version as installed_version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from corpus_table import write_corpus
from families_table import write_families
from tables import write_tables

write_tables(Path(__file__).parent / "_generated")
write_families(Path(__file__).parent / "_generated")
write_corpus(Path(__file__).parent / "_generated")

project = "dgmcompile"
author = "The dgmcompile authors"
version = release = installed_version("dgmcompile")

extensions = ["myst_parser"]
myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3
exclude_patterns = ["_build", "_generated", "diagnostics/*"]

html_theme = "furo"
html_title = f"dgmcompile {release}"
html_static_path = ["_static"]
html_css_files = ["wide.css"]
