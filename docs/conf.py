"""Sphinx: Markdown pages, no network."""

from importlib.metadata import version as installed_version

project = "dgmcompile"
author = "The dgmcompile authors"
version = release = installed_version("dgmcompile")

extensions = ["myst_parser"]
myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]

html_theme = "furo"
html_title = f"dgmcompile {release}"
