"""The text of our own functions, as it stands in emitted files, with all that they call."""

from __future__ import annotations

import ast
import builtins
import inspect
import sys
import textwrap
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from dgmcompile.diagnostics import InternalError
from dgmcompile.ir.graph import Formula

Import = tuple[str, str | None]
"""(module, name in it); with None the module itself."""

STANDARD: dict[str, Import] = {
    "math": ("math", None),
    "torch": ("torch", None),
    "nn": ("torch", "nn"),
    "F": ("torch.nn.functional", None),
    "Tensor": ("torch", "Tensor"),
    "Any": ("typing", "Any"),
    "ClassVar": ("typing", "ClassVar"),
    "NamedTuple": ("typing", "NamedTuple"),
    "OrderedDict": ("typing", "OrderedDict"),
}
"""What emitted files may import without asking."""

_BUILTINS = frozenset(dir(builtins))
_FOREIGN = sys.stdlib_module_names | {"torch"}


class NoText(InternalError):
    """A formula that cannot stand in an emitted file; ``reason`` says why."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


@dataclass
class Texts:
    """Definitions in the order in which they can stand, and the imports that they need."""

    definitions: dict[str, str] = field(default_factory=dict[str, str])
    imports: dict[str, Import] = field(default_factory=dict[str, Import])
    _functions: dict[str, object] = field(default_factory=dict[str, object])
    _constants: dict[str, object] = field(default_factory=dict[str, object])

    def add(self, name: str, function: object) -> None:
        """Take in ``function``, after what it refers to.

        Errors:
            `NoText` where it refers to anything but torch, math, typing and definitions like itself.
        """
        if name in self._functions:
            if self._functions[name] is not function:
                raise NoText(f"two definitions of the name {name!r}")
            return
        if name in self._constants:
            raise NoText(f"two definitions of the name {name!r}")
        self._functions[name] = function
        text, names = _text_and_names(name, function)
        scope = _globals_of(function)
        for used in names:
            if used != name and used not in _BUILTINS:
                self._refer(used, scope, name)
        self.definitions[name] = text

    def _refer(self, used: str, scope: dict[str, Any], user: str) -> None:
        if used not in scope:
            raise NoText(f"formula {user!r} reads {used!r}, which its module does not define")
        value = scope[used]
        if isinstance(value, bool | int | float | str):
            self._define(used, value)
        elif isinstance(value, types.ModuleType):
            parent, _, last = value.__name__.rpartition(".")
            self._import(used, (parent, used) if parent and last == used else (value.__name__, None), user)
        elif (module := _home(value)).split(".")[0] in _FOREIGN:
            self._import(used, (module, used), user)
        elif (inspect.isfunction(value) or inspect.isclass(value)) and _package(value) in _packages(scope):
            self.add(used, value)
        else:
            raise NoText(f"formula {user!r} reads {used!r}, which has no text: {value!r:.200}")

    def _define(self, name: str, value: bool | int | float | str) -> None:
        if name in self._functions or repr(self._constants.setdefault(name, value)) != repr(value):
            raise NoText(f"two definitions of the name {name!r}")
        self.definitions[name] = f"{name} = {value!r}"

    def _import(self, name: str, origin: Import, user: str) -> None:
        if origin[0].split(".")[0] not in {"torch", "math", "typing"}:
            raise NoText(f"formula {user!r} reads {name!r} of {origin[0]!r}; emitted files import torch only")
        if {**STANDARD, **self.imports}.get(name, origin) != origin:
            raise NoText(f"formula {user!r} imports {name!r}, which stands for something else in emitted files")
        self.imports[name] = origin


def _packages(scope: Mapping[str, Any]) -> set[str]:
    """Whose functions a formula may call: those of its own package, and ours."""
    return {str(scope["__name__"]).split(".")[0], __name__.split(".")[0]}


def _package(value: Any) -> str:
    return str(value.__module__).split(".")[0]


def _home(value: Any) -> str:
    module = str(getattr(value, "__module__", None) or "")
    name = getattr(value, "__name__", None) or getattr(value, "_name", None)
    if module.startswith("collections.abc") and hasattr(typing, str(name)):
        return "typing"
    return (
        "torch" if module.startswith("torch.") and getattr(sys.modules["torch"], str(name), None) is value else module
    )


def texts_of(formulas: Iterable[Formula]) -> Texts:
    """The definitions of ``formulas`` and of all that they call."""
    texts = Texts()
    for formula in formulas:
        texts.add(formula.name, formula.function)
    return texts


@lru_cache(maxsize=4096)
def _text_and_names(name: str, function: object) -> tuple[str, tuple[str, ...]]:
    text = source_text(name, function)
    return text, tuple(_names_read(text))


def source_text(name: str, function: object) -> str:
    """The text of a function or class whose own name is ``name``."""
    if getattr(getattr(function, "__code__", None), "co_freevars", ()):
        raise NoText(f"formula {name!r} reads variables of the function around it")
    try:
        text = textwrap.dedent(inspect.getsource(typing.cast(Any, function)))
    except (OSError, TypeError) as error:
        raise NoText(f"formula {name!r} has no source text") from error
    match ast.parse(text).body:
        case [ast.FunctionDef(name=found) | ast.ClassDef(name=found)] if found == name:
            return text.strip()
        case _:
            raise NoText(f"the text of formula {name!r} is not one definition of that name")


def _globals_of(function: object) -> dict[str, Any]:
    if inspect.isclass(function):
        return vars(sys.modules[function.__module__])
    return typing.cast(types.FunctionType, inspect.unwrap(typing.cast(Any, function))).__globals__


def _names_read(text: str) -> list[str]:
    """Names that the definition reads and neither binds itself nor takes as arguments, in order."""
    nodes = list(ast.walk(ast.parse(text)))
    bound = {node.arg for node in nodes if isinstance(node, ast.arg)}
    bound |= {node.id for node in nodes if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load)}
    bound |= {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    bound |= {node.name for node in nodes if isinstance(node, ast.ExceptHandler) and node.name}
    read = [node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)]
    return [name for name in dict.fromkeys(read) if name not in bound]


def import_lines(texts: Iterable[str], others: Mapping[str, Import]) -> str:
    """The imports that these definitions need: Python's own, then torch's."""
    used = names_used(texts)
    wanted = {name: origin for name, origin in {**others, **STANDARD}.items() if name in used}
    members: dict[str, list[str]] = {}
    modules: list[str] = []
    for name, (module, member) in wanted.items():
        if member is None:
            modules.append(f"import {module}" if name == module else f"import {module} as {name}")
        else:
            members.setdefault(module, []).append(name)
    lines = sorted(modules) + [
        f"from {module} import {', '.join(sorted(members[module]))}" for module in sorted(members)
    ]
    ours = [line for line in lines if line.split()[1].split(".")[0] == "torch"]
    return "\n".join([*(line for line in lines if line not in ours), "", *ours])


def names_used(texts: Iterable[str]) -> frozenset[str]:
    """The names that stand in these definitions."""
    return frozenset[str]().union(*map(_names_in, texts))


@lru_cache(maxsize=1024)
def _names_in(text: str) -> frozenset[str]:
    return frozenset(node.id for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Name))
