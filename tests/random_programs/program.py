"""A random program as text, in two versions, and what is left of it without some of its statements."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, replace
from textwrap import indent

HEAD = """\
import functools

import pyro
import pyro.distributions as dist
import torch
import torch.nn.functional as F
from pyro import poutine
from pyro.distributions import constraints, transforms
from pyro.nn import PyroModule, PyroParam, PyroSample
from torch import nn
"""

_CHOICE = re.compile(r"<\|(.*?)\|(.*?)\|>")
_BODY = re.compile(r"^( +){body}$", re.MULTILINE)


def either(teacher: str, student: str) -> str:
    """A text that is not the same in the two versions."""
    return teacher if teacher == student else f"<|{teacher}|{student}|>"


@dataclass(frozen=True)
class RandomProgram:
    """``source`` defines ``model`` and ``example(n)``: arguments, and keyword arguments, of a batch of ``n``.

    Args:
        head: statements of the module: networks, tables.
        frame: the model with ``{body}`` for its statements, and ``example``.
        body: statements of the model; one may have several lines.
        exact_relations: does Pyro's own inspection see every dependence?
        targets: as in `dgm.trace`.
        sampled: can Pyro sample every family?
        method, reduction: of the loss that is tried.
    """

    head: tuple[str, ...]
    frame: str
    body: tuple[str, ...]
    exact_relations: bool = True
    targets: tuple[str, ...] | None = None
    sampled: bool = True
    method: str = "surrogate"
    reduction: str = "sum"

    @property
    def source(self) -> str:
        """The program."""
        return self._text(1)

    @property
    def student(self) -> str:
        """The same program with other numbers, and other initial values of what it learns."""
        return self._text(2)

    def _text(self, version: int) -> str:
        frame = _BODY.sub(lambda found: indent("\n".join(self.body) or "pass", found[1]), self.frame)
        text = "\n\n".join([HEAD, "\n".join(self.head), frame])
        return _CHOICE.sub(lambda found: found[version], text) + "\n"

    def __len__(self) -> int:
        return len(self.head) + len(self.body)

    def without(self, places: Collection[int]) -> RandomProgram:
        """Without these statements, counted through head and body."""
        kept = [text for i, text in enumerate((*self.head, *self.body)) if i not in places]
        head = sum(i not in places for i in range(len(self.head)))
        return replace(self, head=tuple(kept[:head]), body=tuple(kept[head:]))
