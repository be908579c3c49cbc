"""The cases of the documentation: for each code programs that are refused with it, and the same ones mended.

``docs/diagnostics/CODE.md`` holds Markdown. A case is a ``python`` block (``model.py``; where the case is about the
command alone, that of the case before), a ``text`` block with a command and what it writes to standard error, the line
``Instead:``, and a ``python`` or a ``text`` block, or both, with what was changed. A line that ends in ``...`` is cut.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "docs" / "diagnostics"

_BLOCK = re.compile(r"```(python|text)\n(.*?)```\n|^(Instead:)$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Case:
    """``program`` with ``command`` says ``output``; with ``mended`` and ``mended_command`` there is no such word."""

    code: str
    number: int
    program: str
    command: str
    output: str
    mended: str
    mended_command: str

    @property
    def name(self) -> str:
        return f"{self.code} {self.number}" if self.number else self.code

    def agrees(self, printed: str) -> bool:
        """Is that what was written down?"""
        expected, found = self.output.splitlines(), printed.splitlines()
        return len(expected) == len(found) and all(
            line.startswith(want.removesuffix("...")) if want.endswith("...") else line == want
            for want, line in zip(expected, found, strict=True)
        )


def cases() -> list[Case]:
    """All cases, by code."""
    return [case for file in sorted(FOLDER.glob("*.md")) for case in _cases(file.stem, file.read_text("utf-8"))]


def _cases(code: str, page: str) -> list[Case]:
    blocks = [(kind or "instead", text) for kind, text, _ in _BLOCK.findall(page)]
    found: list[Case] = []
    program = ""
    while blocks:
        if blocks[0][0] == "python":
            program = blocks.pop(0)[1]
        _, said = blocks.pop(0)
        assert blocks.pop(0)[0] == "instead", f"{code}: a refusal is followed by the line 'Instead:'"
        command, output = _command(said)
        mended = blocks.pop(0)[1] if blocks[0][0] == "python" else program
        again = mended == program or (bool(blocks) and blocks[0][0] == "text" and not _is_refusal(blocks, code))
        mended_command = _command(blocks.pop(0)[1])[0] if again else command
        found.append(Case(code, len(found), program, command, output, mended, mended_command))
    return found


def _is_refusal(blocks: list[tuple[str, str]], code: str) -> bool:
    return f"[{code}]" in blocks[0][1]


def _command(text: str) -> tuple[str, str]:
    first, _, rest = text.partition("\n")
    assert first.startswith("$ "), first
    return first.removeprefix("$ "), rest


def rewrite(case: Case, printed: str) -> None:
    """What was printed, into the page; a line that is cut stays so where it still fits."""
    file = FOLDER / f"{case.code}.md"
    page = file.read_text("utf-8")
    said = f"```text\n$ {case.command}\n{case.output}```\n"
    starts = [match.start() for match in re.finditer(re.escape(said), page)]
    same = [c for c in cases() if c.code == case.code and (c.command, c.output) == (case.command, case.output)]
    start = starts[[c.number for c in same].index(case.number)]
    page = page[:start] + f"```text\n$ {case.command}\n{printed}```\n" + page[start + len(said) :]
    file.write_text(page, "utf-8")
