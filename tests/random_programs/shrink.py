"""Fewer statements that still fail in the same way."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.random_programs.program import RandomProgram
from tests.random_programs.properties import Invalid, Violation, check_program


def shrunk(program: RandomProgram, fails: Callable[[RandomProgram], bool]) -> RandomProgram:
    """``program`` without every statement that it can lose, in larger pieces first.

    Args:
        fails: does a program still fail as the first one did? One that cannot run at all does not.
    """
    size = max(len(program) // 2, 1)
    while True:
        before, start = program, 0
        while start < len(program):
            smaller = program.without(range(start, start + size))
            if fails(smaller):
                program = smaller
            else:
                start += size
        if size == 1 and program == before:
            return program
        size = max(size // 2, 1)


def smallest(program: RandomProgram, error: Violation, folder: Path) -> RandomProgram:
    """What of ``program`` still fails as it did."""
    return shrunk(program, lambda other: fails_like(error, other, folder))


def fails_like(first: Violation, program: RandomProgram, folder: Path) -> bool:
    """Is the same part of ``program`` wrong, by an error of the same kind?"""
    try:
        check_program(program, folder, {"replay", first.part})
    except Invalid:
        return False
    except Violation as error:
        return error.part == first.part and type(error.__cause__) is type(first.__cause__)
    return False
