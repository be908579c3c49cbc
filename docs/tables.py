"""The parts of the pages that are made from the code, whenever the pages are built: tables and text forms."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

import dgmcompile as dgm


def write_tables(folder: Path) -> None:
    """``diagnostics.md`` and ``forms.md`` into ``folder``."""
    folder.mkdir(exist_ok=True)
    (folder / "diagnostics.md").write_text("\n".join(diagnostics_page()), encoding="utf-8")
    (folder / "forms.md").write_text("\n".join(forms()), encoding="utf-8")


# diagnostics

DIAGNOSTICS = Path(__file__).parent / "diagnostics"
"""A page for each code; the tests run what stands there (tests/diagnostics/cases.py)."""


def diagnostics_page() -> Iterator[str]:
    """A table of all codes, and below it their pages."""
    pages = {file.stem: file.read_text(encoding="utf-8") for file in sorted(DIAGNOSTICS.glob("*.md"))}
    yield "| code | when |"
    yield "|---|---|"
    for code, page in pages.items():
        yield f"| [{code}](#{code}) | {_first_sentence(page)} |"
    for code, page in pages.items():
        yield f"\n({code})=\n#{page}"


def _first_sentence(page: str) -> str:
    _, paragraph, *_ = page.split("\n\n")
    sentences = [s for s in re.split(r"(?<=\.)\s+", paragraph.strip()) if s not in ("A warning.", "A note.")]
    return sentences[0].replace("\n", " ").removesuffix(".")


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
