"""``python -m tests.corpus``: the table of the documentation, measured here and now."""

from __future__ import annotations

import warnings

import torch

from tests.corpus import ENTRIES
from tests.corpus.outcome import summary, table

if __name__ == "__main__":
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    for line in (*summary(ENTRIES), ""):
        print(line)
    for line in table(ENTRIES):
        print(line, flush=True)
