"""What an entry of the corpus is: a program as a user would write it, and what the compiler should make of it."""

from __future__ import annotations

from dataclasses import dataclass

from tests.programs.program import Program


@dataclass(frozen=True)
class Entry(Program):
    """A program, and what should become of it: by its structure, and not by what the compiler can do today.

    Args:
        sites: how many latents and how many targets it has, counted by hand; nothing of a program that is refused.
        expect: "compiled", or the code of the first diagnostic.
        note: why it is in the corpus.
        topic: the file that it stands in, in words.
    """

    sites: tuple[int, int] = (0, 0)
    expect: str = "compiled"
    note: str = ""
    topic: str = ""

    @property
    def compiles(self) -> bool:
        return self.expect == "compiled"
