"""Every program of the corpus is compiled, and is the same program, or is refused with the code that was predicted."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

import dgmcompile as dgm
from tests.corpus import ENTRIES, TOPICS
from tests.corpus.entry import Entry
from tests.corpus.outcome import outcome, table

COMPILED = [entry for entry in ENTRIES if entry.compiles]
REFUSED = [entry for entry in ENTRIES if not entry.compiles]


def test_there_are_enough_programs_and_each_says_why_it_is_here():
    labels = [entry.label for entry in ENTRIES]
    assert len(ENTRIES) >= 80
    assert len(set(labels)) == len(labels)
    assert {entry.topic.replace(" ", "_") for entry in ENTRIES} == set(TOPICS)
    assert all(entry.note for entry in ENTRIES)
    assert all(entry.sites != (0, 0) for entry in COMPILED)


@pytest.mark.parametrize("entry", COMPILED, ids=[entry.label for entry in COMPILED])
def test_compiles_and_is_the_same_program(entry: Entry):
    """`dgm.check` runs the compact form, at another size where there is one."""
    report = dgm.check(entry.model, entry.args, entry.kwargs, entry.targets)
    roles = Counter(site.role for site in report.sites)
    assert (roles["latent"], roles["target"]) == entry.sites
    assert report.ok, str(report)
    assert bool(report.sizes) is entry.other_size


@pytest.mark.parametrize("entry", REFUSED, ids=[entry.label for entry in REFUSED])
def test_is_refused_with_this_code_at_a_line_of_the_program(entry: Entry):
    made = outcome(entry)
    assert made.found == entry.expect, made.words
    first = made.diagnostics[0]
    assert first.help
    if entry.model.__module__.startswith("tests.") and first.code != "unknown-argument":  # of which no line is to blame
        assert first.location is not None and Path(first.location.file).parent == Path(__file__).parent


def test_table_has_a_row_for_each_and_marks_what_was_not_predicted():
    right = next(entry for entry in ENTRIES if entry.label == "clamped")
    wrong = Entry(right.model, right.args, sites=(1, 1), expect="factor", name="a wrong prediction")
    rows = list(table((right, REFUSED[0], wrong)))[2:]
    assert [row.split("|")[3].strip() for row in rows] == [
        "compiled",
        f"refused: `{REFUSED[0].expect}`",
        "compiled (predicted: `factor`)",
    ]
    assert "| 1 | 1 | HalfNormal, Normal |" in rows[0]
