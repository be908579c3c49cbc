"""Many programs, on several processes: ``python -m tests.random_programs --count 20000 --seed 0 --jobs 2``.

Each program is that of one number, so a run goes on with ``--start``, and ``--only 123`` shows and checks one again.
The seeds of programs that fail are printed with the fewest statements that still fail.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import torch

from tests.random_programs.generator import random_program
from tests.random_programs.program import RandomProgram
from tests.random_programs.properties import PARTS, Invalid, Violation, check_program
from tests.random_programs.shrink import smallest

AT_ONCE = 50
"""Programs that one process checks before another takes its place: each leaves something in caches."""


@dataclass(frozen=True)
class Outcome:
    """What became of the program of one number: ``holds``, ``invalid``, or the part that does not hold."""

    number: int
    kind: str
    words: str = ""
    text: str = ""


def numbered(seed: int, number: int) -> RandomProgram:
    """The program of a number, the same in each run."""
    return random_program(Random(f"{seed}/{number}"))


def outcomes(seed: int, numbers: Iterable[int]) -> list[Outcome]:
    """Of these programs, one after the other."""
    torch.set_num_threads(1)
    warnings.simplefilter("error")
    with TemporaryDirectory() as folder:
        return [_outcome(numbered(seed, number), number, Path(folder)) for number in numbers]


def _outcome(program: RandomProgram, number: int, folder: Path) -> Outcome:
    try:
        check_program(program, folder)
    except Invalid as error:
        return Outcome(number, "invalid", _first_line(error))
    except Violation as error:
        smaller = smallest(program, error, folder)
        return Outcome(number, error.part, str(error), smaller.source)
    return Outcome(number, "holds")


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]


def run(seed: int, numbers: range, jobs: int) -> Iterator[Outcome]:
    """Outcomes in the order of the numbers, from processes of their own."""
    pieces = [numbers[i : i + AT_ONCE] for i in range(0, len(numbers), AT_ONCE)]
    pool = ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), max_tasks_per_child=1)
    with pool:
        for done in pool.map(outcomes, [seed] * len(pieces), pieces):
            yield from done


def main() -> int:
    """1 where a property of some program does not hold."""
    parser = argparse.ArgumentParser(prog="python -m tests.random_programs", description=__doc__)
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--start", type=int, default=0, help="number of the first program, to go on with a run")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--only", type=int, help="one number, whose program is printed as well")
    given = parser.parse_args()
    numbers = range(given.start, given.count) if given.only is None else range(given.only, given.only + 1)
    if given.only is not None:
        print(numbered(given.seed, given.only).source)
    began, counts, failed = time.monotonic(), Counter[str](), list[int]()
    for outcome in run(given.seed, numbers, given.jobs):
        counts[outcome.kind] += 1
        if outcome.kind not in ("holds", "invalid"):
            failed.append(outcome.number)
            print(f"--- program {outcome.number} of seed {given.seed}\n{outcome.words}\n{outcome.text}", flush=True)
        if counts.total() % 100 == 0 or counts.total() == len(numbers):
            took = time.monotonic() - began
            print(f"up to {outcome.number} of {given.count}, in {took:.0f} s: {dict(counts)}", flush=True)
    print(f"failed: {sorted(failed) or 'none'}")
    print(f"parts that were checked of each: {', '.join(PARTS)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
