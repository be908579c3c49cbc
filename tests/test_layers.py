"""The imports go one way: DESIGN's order of the folders, read from the source."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "dgmcompile"

STAGES = frozenset({"diagnostics", "ir", "reparam", "frontends", "passes", "distill", "codegen", "viz"})
ABOVE = STAGES | {"registration", "report", "replay", "pipeline"}

MAY_IMPORT: dict[str, frozenset[str]] = {
    # diagnostics <- ir <- reparam <- passes <- distill
    "diagnostics": frozenset(),
    "ir": frozenset({"diagnostics"}),
    "reparam": frozenset({"diagnostics", "ir"}),
    "passes": frozenset({"diagnostics", "ir", "reparam"}),
    "distill": frozenset({"diagnostics", "ir", "reparam", "passes"}),
    # what meets the others in the graph only
    "frontends": frozenset({"diagnostics", "ir"}),
    "viz": frozenset({"diagnostics", "ir"}),
    "codegen": frozenset({"diagnostics", "ir", "reparam"}),
    # what puts them together
    "report": ABOVE,
    "replay": ABOVE,
    "registration": STAGES,
    "family_checks": STAGES,
    "full_reparam": ABOVE - {"report", "replay", "pipeline"},
    "api": ABOVE | {"replay", "pipeline", "family_checks", "full_reparam"},
    "pipeline": ABOVE,
    "cli": ABOVE | {"api", "__init__"},  # the version
    "__init__": ABOVE | {"api"},
    "__main__": ABOVE | {"cli"},
}
"""Folder or file directly under the package -> the others that it may import, in functions and for types too."""

ONLY_IN = {"networkx": "ir/graph.py"}
"""Package of others -> the one file of ours that may import it."""


def parts(root: Path) -> Iterator[str]:
    """What stands directly under ``root``: each folder and each file is a part."""
    for path in sorted(root.iterdir()):
        if path.suffix == ".py" or (path.is_dir() and any(path.rglob("*.py"))):
            yield path.stem


def imports(file: Path, root: Path) -> Iterator[tuple[int, str]]:
    """Line and dotted name of every module that ``file`` imports, wherever in the file."""
    package = (root.name, *file.relative_to(root).parts[:-1])
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        match node:
            case ast.Import():
                yield from ((node.lineno, alias.name) for alias in node.names)
            case ast.ImportFrom(level=0, module=str(module)):
                yield from ((node.lineno, f"{module}.{alias.name}") for alias in node.names)
            case ast.ImportFrom():
                base = ".".join((*package[: len(package) - node.level + 1], *(node.module or "").split(".")))
                yield from ((node.lineno, f"{base.rstrip('.')}.{alias.name}") for alias in node.names)
            case _:
                pass


def part_of(module: str, root: Path) -> str | None:
    """The part of the package that ``module`` lies in; None for what is not ours."""
    package, *rest = module.split(".")
    if package != root.name:
        return None
    return rest[0] if rest and rest[0] in set(parts(root)) else "__init__"


def violations(root: Path) -> list[str]:
    """``file:line: what it may not import``, for the package at ``root``."""
    found = [f"{part}: stands in no row of MAY_IMPORT" for part in parts(root) if part not in MAY_IMPORT]
    for file in sorted(root.rglob("*.py")):
        own, name = file.relative_to(root).parts[0].removesuffix(".py"), file.relative_to(root).as_posix()
        for line, module in imports(file, root):
            other, library = part_of(module, root), module.split(".")[0]
            if other is not None and other != own and other not in MAY_IMPORT.get(own, frozenset()):
                found.append(f"{name}:{line}: {own} may not import {other}")
            if ONLY_IN.get(library, name) != name:
                found.append(f"{name}:{line}: only {ONLY_IN[library]} may import {library}")
    return found


def test_imports_point_one_way():
    assert violations(ROOT) == []


def test_no_two_parts_may_import_each_other():
    stages = {part: MAY_IMPORT[part] for part in STAGES}
    assert [(a, b) for a, seen in stages.items() for b in seen if a in MAY_IMPORT[b]] == []


@pytest.mark.parametrize(
    ("file", "source", "expected"),
    [
        ("ir/graph.py", "from dgmcompile.diagnostics import Location", None),
        ("ir/graph.py", "import dgmcompile.passes.base", "ir/graph.py:1: ir may not import passes"),
        ("ir/graph.py", "from dgmcompile import passes", "ir/graph.py:1: ir may not import passes"),
        ("ir/graph.py", "from ..passes import base", "ir/graph.py:1: ir may not import passes"),
        ("ir/graph.py", "from .. import passes", "ir/graph.py:1: ir may not import passes"),
        ("ir/graph.py", "from .size import Size", None),
        ("ir/graph.py", "import dgmcompile as dgm", "ir/graph.py:1: ir may not import __init__"),
        ("ir/graph.py", "def f():\n    from dgmcompile.passes import base", "ir/graph.py:2: ir may not import passes"),
        ("passes/base.py", "from networkx import DiGraph", "passes/base.py:1: only ir/graph.py may import networkx"),
        ("diagnostics.py", "from dgmcompile.ir import graph", "diagnostics.py:1: diagnostics may not import ir"),
        ("cli.py", "from dgmcompile import pipeline", None),
        ("pipeline.py", "from dgmcompile.cli import main", "pipeline.py:1: pipeline may not import cli"),
        ("utils.py", "", "utils: stands in no row of MAY_IMPORT"),
        ("extras/deep/one.py", "", "extras: stands in no row of MAY_IMPORT"),
    ],
)
def test_what_the_rule_finds(tmp_path: Path, file: str, source: str, expected: str | None):
    root = tmp_path / "dgmcompile"
    for name in ("diagnostics.py", "cli.py", "pipeline.py", "ir/size.py", "passes/base.py", file):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("")
    (root / file).write_text(source)
    assert violations(root) == ([] if expected is None else [expected])
