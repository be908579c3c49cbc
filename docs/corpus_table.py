"""The table of the corpus: every program of ``tests/corpus`` is traced and compiled while the pages are built."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

ROOT = Path(__file__).parents[1]


def write_corpus(folder: Path) -> None:
    """``corpus.md`` into ``folder``."""
    sys.path.insert(0, str(ROOT))  # before the packages, of which some bring a `tests` of their own
    from tests.corpus import ENTRIES
    from tests.corpus.outcome import summary, table

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        rows = list(table(ENTRIES))
    folder.mkdir(exist_ok=True)
    (folder / "corpus.md").write_text("\n".join((*summary(ENTRIES), "", *rows)), encoding="utf-8")
