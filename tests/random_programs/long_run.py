"""Programs by number, checked on several processes."""

from __future__ import annotations

import warnings
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

SELDOM, EACH = "sizes", 4
"""A part that is checked of each fourth program only: it is a whole recording more."""

AT_ONCE = 100
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
        check_program(program, folder, parts_of(number))
    except Invalid as error:
        return Outcome(number, "invalid", _first_line(error))
    except Violation as error:
        smaller = smallest(program, error, folder)
        return Outcome(number, error.part, str(error), smaller.source)
    return Outcome(number, "holds")


def parts_of(number: int) -> set[str]:
    """What is checked of the program of a number."""
    return {*PARTS} - ({SELDOM} if number % EACH else set[str]())


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]


def run(seed: int, numbers: range, jobs: int) -> Iterator[Outcome]:
    """Outcomes in the order of the numbers, from processes of their own."""
    pieces = [numbers[i : i + AT_ONCE] for i in range(0, len(numbers), AT_ONCE)]
    pool = ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), max_tasks_per_child=1)
    with pool:
        for done in pool.map(outcomes, [seed] * len(pieces), pieces):
            yield from done
