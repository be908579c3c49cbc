"""What the compiler makes of an entry, and the table of all of them."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyro
import torch

import dgmcompile as dgm
from dgmcompile.diagnostics import Diagnostic
from tests.corpus.entry import Entry


@dataclass(frozen=True)
class Outcome:
    """``found`` is "compiled", or the code of the first of ``diagnostics``; ``sites`` counts latents and targets."""

    entry: Entry
    found: str
    sites: tuple[int, int]
    families: tuple[str, ...]
    seconds: float
    diagnostics: tuple[Diagnostic, ...] = ()

    @property
    def words(self) -> str:
        """What is said of a refusal."""
        return "\n".join(diagnostic.render() for diagnostic in self.diagnostics)


def outcome(entry: Entry) -> Outcome:
    """Trace and compile: the program's compact form runs and gives a value for every site."""
    pyro.clear_param_store()
    start = time.perf_counter()
    sites, families = (0, 0), ()
    try:
        graph = dgm.trace(entry.model, entry.args, entry.kwargs, entry.targets)
        sites, families = (len(graph.latents), len(graph.targets)), _families(graph)
        dgm.compile(dgm.compact(dgm.semi_auxiliary(graph)))
    except dgm.CompileError as error:
        code = error.diagnostics[0].code
        return Outcome(entry, code, sites, families, time.perf_counter() - start, error.diagnostics)
    return Outcome(entry, "compiled", sites, families, time.perf_counter() - start)


def _families(graph: Any) -> tuple[str, ...]:
    return tuple(dict.fromkeys(sample.site.family for sample in graph.samples if sample.site))


def summary(entries: Sequence[Entry]) -> Iterator[str]:
    """How many there are of each kind, as predicted."""
    refused = Counter(entry.expect for entry in entries if not entry.compiles)
    codes = ", ".join(f"{count} `{code}`" for code, count in sorted(refused.items()))
    yield (
        f"{len(entries)} programs in {len({entry.topic for entry in entries})} topics, of which "
        f"{sum(entry.compiles for entry in entries)} are to compile and {refused.total()} to be refused: {codes}."
    )


def table(entries: Iterable[Entry]) -> Iterator[str]:
    """Lines of Markdown, a row for each program."""
    yield "| program | topic | result | latents | targets | families | seconds |"
    yield "|---|---|---|--:|--:|---|--:|"
    for entry in entries:
        with torch.random.fork_rng():
            made = outcome(entry)
        latents, targets = made.sites
        result = made.found if made.found == "compiled" else f"refused: `{made.found}`"
        if made.found != entry.expect:
            result += f" (predicted: `{entry.expect}`)"
        families = ", ".join(made.families)
        yield (
            f"| `{entry.label}` | {entry.topic} | {result} | {latents or ''} | {targets or ''} | {families} "
            f"| {made.seconds:.2f} |"
        )
