"""Names, paths and titles are data: how they become identifiers, literals, comments and docstrings."""

from __future__ import annotations

import builtins
import keyword
import unicodedata
from collections.abc import Iterable

from dgmcompile.ir.names import unused

_TAKEN = frozenset(
    {
        *keyword.kwlist,
        *keyword.softkwlist,
        *dir(builtins),
        *("self", "cls", "torch", "math", "nn", "F", "Tensor", "typing", "Any", "ClassVar", "NamedTuple"),
        *("l", "O", "I"),  # E741: not to be told from digits
    }
)
_LONGEST = 60


class Namespace:
    """Identifiers of one scope: every call of `new` gives another one.

    Args:
        reserved: names that may not be given, besides keywords, builtins and what files import.
    """

    def __init__(self, reserved: Iterable[str] = ()) -> None:
        self._taken = set(_TAKEN).union(reserved)

    def copy(self) -> Namespace:
        """One from which the same names are taken."""
        return Namespace(self._taken)

    def reserve(self, name: str) -> None:
        """Let `new` not give ``name``."""
        self._taken.add(name)

    def new(self, text: str, fallback: str = "value") -> str:
        """An identifier that resembles ``text``."""
        self._taken.add(name := unused(identifier(text, fallback), self._taken))
        return name


def identifier(text: str, fallback: str = "value") -> str:
    """``text`` with everything replaced that an identifier cannot hold; it may still be a keyword."""
    text = unicodedata.normalize("NFKC", text[: 4 * _LONGEST])
    kept = "".join(c if f"a{c}".isidentifier() else "_" for c in text)
    # No leading underscore: a class would mangle two of them, and linters take one for "unused".
    kept = unicodedata.normalize("NFKC", kept).strip("_")[:_LONGEST].rstrip("_")
    if not kept.isidentifier():
        kept = f"{fallback}_{kept}" if kept else fallback
    return kept if kept.isidentifier() else fallback


def class_name(text: str, fallback: str = "Model") -> str:
    """``text`` in the way that classes are named: ``markov_model`` becomes ``MarkovModel``."""
    parts = [part for part in identifier(text, fallback).split("_") if part]
    name = unicodedata.normalize("NFKC", "".join(part[:1].upper() + part[1:] for part in parts))
    return name if name.isidentifier() else fallback


def is_plain(name: str) -> bool:
    """May ``name`` stand after ``self.`` as it is?"""
    return (
        name.isascii()
        and name.isidentifier()
        and not keyword.iskeyword(name)
        and (not name.startswith("__") or name.endswith("__"))  # else the class mangles it
    )


def one_line(text: str) -> str:
    """``text`` without anything that ends a line, hides or moves in a terminal."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def docstring(*lines: str) -> str:
    """A docstring of these lines (each one printed line, whatever it holds)."""
    safe = [one_line(line).replace("\\", "\\\\").replace('"', "'") for line in lines]
    end = "\n" if len(lines) > 1 else ""
    return '"""' + "\n".join(safe).strip() + f'{end}"""'
