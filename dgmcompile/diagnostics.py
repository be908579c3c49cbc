"""What is wrong with a user's program, as data: code, site, source line and a way out."""

from __future__ import annotations

import linecache
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Location:
    """A stretch of a user's source; lines and columns count from 1, ``end_column`` is exclusive."""

    file: str
    line: int
    column: int = 1
    end_column: int | None = None

    @property
    def text(self) -> str:
        """The source line, or "" where the file is gone."""
        return linecache.getline(self.file, self.line).rstrip("\n")

    def __str__(self) -> str:
        return f"{Path(self.file).name}:{self.line}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnostic:
    """One refusal. ``code`` is stable: a few words joined by hyphens."""

    code: str
    message: str
    location: Location | None = None
    notes: tuple[str, ...] = ()
    help: str = ""
    severity: str = "error"

    def render(self) -> str:
        """The diagnostic as compilers print it: place, message, source line with carets, notes, help."""
        lines = [f"{_place(self.location)}{self.severity}[{self.code}]: {_one_line(self.message)}"]
        lines += _source_lines(self.location)
        lines += [f"  note: {_one_line(note)}" for note in self.notes]
        if self.help:
            lines.append(f"  help: {_one_line(self.help)}")
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.render()


def _place(location: Location | None) -> str:
    if location is None:
        return ""
    return f"{_shown_path(location.file)}:{location.line}:{location.column}: "


def _shown_path(file: str) -> str:
    path = Path(file)
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return path.name


def _source_lines(location: Location | None) -> list[str]:
    if location is None or not location.text.strip():
        return []
    number = str(location.line)
    end = location.end_column or len(location.text) + 1
    carets = "^" * max(1, min(end, len(location.text) + 1) - location.column)
    before = "".join("\t" if c == "\t" else " " for c in location.text[: location.column - 1])
    return [
        f"  {number} | {_one_line(location.text)}",
        f"  {' ' * len(number)} | {before}{carets}",
    ]


def _one_line(text: str) -> str:
    """Site names and messages of exceptions are data: no control character of theirs reaches a terminal."""
    return "".join(c if c.isprintable() or c == "\t" else repr(c)[1:-1] for c in text)


class CompileError(Exception):
    """The user's to mend: every problem that was found, each once, in source order."""

    def __init__(self, *diagnostics: Diagnostic) -> None:
        self.diagnostics = tuple(sorted(dict.fromkeys(diagnostics), key=_source_order))
        super().__init__(*self.diagnostics)

    def __str__(self) -> str:
        return "\n".join(diagnostic.render() for diagnostic in self.diagnostics)


def _source_order(diagnostic: Diagnostic) -> tuple[str, int, int]:
    location = diagnostic.location
    return (location.file, location.line, location.column) if location else ("", 0, 0)


class InternalError(Exception):
    """Ours to mend: an invariant between two stages does not hold."""

    def __init__(self, message: str, graph: object = "") -> None:
        super().__init__(f"bug in dgmcompile: {message}\n{graph}")
