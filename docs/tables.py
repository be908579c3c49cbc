"""The parts of the pages that are made from the code, whenever the pages are built: tables and text forms."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

import dgmcompile as dgm
from dgmcompile.reparam import NOISE_TRANSFORMS

PACKAGE = Path(dgm.__file__).parent


def write_tables(folder: Path) -> None:
    """``diagnostics.md``, ``families.md`` and ``forms.md`` into ``folder``."""
    folder.mkdir(exist_ok=True)
    (folder / "diagnostics.md").write_text("\n".join(diagnostics_page()), encoding="utf-8")
    (folder / "families.md").write_text("\n".join(families_table()), encoding="utf-8")
    (folder / "forms.md").write_text("\n".join(forms()), encoding="utf-8")


# diagnostics


def diagnostics() -> Iterator[tuple[str, str, str]]:
    """(code, message, help) of every ``Diagnostic(...)`` in the package; what is filled in stands as ``...``."""
    for file in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Diagnostic":
                given = {keyword.arg: keyword.value for keyword in node.keywords}
                yield _text(given["code"]), _text(given["message"]), _text(given["help"]) if "help" in given else ""


def _text(node: ast.expr) -> str:
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=parts):
            return "".join(_text(part) for part in parts)
        case _:
            return "..."


def diagnostics_page() -> Iterator[str]:
    cases: dict[str, list[tuple[str, str]]] = {}
    for code, message, help in diagnostics():
        cases.setdefault(code, []).append((message, help))
    for code in sorted(cases):
        yield f"({code})=\n## {code}\n"
        for message, help in dict.fromkeys(cases[code]):
            yield f"{_escaped(message)}\n"
            if help not in ("", "..."):
                yield f"*Way out:* {_escaped(help)}\n"


def _escaped(text: str) -> str:
    return "".join(f"\\{c}" if c in "\\`*_{}[]<>()#+-!|$~" else c for c in text)


# families


def families_table() -> Iterator[str]:
    yield "| family | noise | transform | gradient | source |"
    yield "|---|---|---|---|---|"
    for entry in sorted(NOISE_TRANSFORMS, key=lambda entry: entry.family):
        noise = ", ".join(source.law.name for source in entry.noises) or "none"
        call = f"`{entry.forward.name}({', '.join(('noise', *entry.params))})`"
        gradient = "yes" if entry.differentiable else "zero"
        yield f"| {entry.family} | {noise} | {call} | {gradient} | {_escaped(entry.source)} |"


# text forms


def model(x: Tensor) -> Tensor:
    """A program small enough to be read in all its forms."""
    with pyro.plate("batch", len(x)):
        z = pyro.sample("z", dist.Normal(torch.zeros(len(x)), 1.0))
        k = pyro.sample("k", dist.Bernoulli(logits=z))
        return pyro.sample("y", dist.Normal(z + x, 1.0 + k), obs=x)


def forms() -> Iterator[str]:
    traced = dgm.trace(model, model_args=(torch.zeros(8),))
    semi = dgm.semi_auxiliary(traced)
    compact = dgm.compact(semi)
    for heading, text in (
        ("As recorded", str(traced)),
        ("Semi-auxiliary: the latents are functions of noise", str(semi)),
        ("Compact", str(compact)),
        ("The report", str(compact.report())),
    ):
        yield f"{heading}:\n\n```text\n{text}\n```\n"
