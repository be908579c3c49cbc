"""The program's arguments: their leaves are inputs, and the sizes among them may vary."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from copy import copy
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from dgmcompile.diagnostics import CompileError, Diagnostic
from dgmcompile.frontends.modules import signature_of
from dgmcompile.ir.graph import Argument, Call, Graph, Input, is_size

Path = tuple[str | int, ...]


@dataclass(frozen=True)
class SizeClass:
    """Dimensions (and whole-number arguments, ``dim`` None) that are varied together; ``first`` names it."""

    size: int
    members: tuple[tuple[Path, int | None], ...]

    @property
    def first(self) -> tuple[Path, int | None]:
        """The member that the compiled form reads the size from: an argument before a dimension."""
        return next((member for member in self.members if member[1] is None), self.members[0])

    @property
    def is_number(self) -> bool:
        """Is it no length of any tensor?"""
        return all(dim is None for _, dim in self.members)


class Arguments:
    """Example arguments, bound to the program's signature."""

    def __init__(self, model: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        self._model = model
        signature = signature_of(model)
        if isinstance(args, Tensor):
            raise CompileError(_no_tuple())
        try:
            self._bound = signature.bind(*args, **kwargs)
        except TypeError as error:
            raise CompileError(
                Diagnostic(
                    code="example-inputs",
                    message=f"the example inputs do not fit the model's signature {signature}: {error}",
                    help="give a tuple with one entry per argument (example_inputs in the file, model_args in the API)",
                )
            ) from None
        self._signature = signature
        self._defaulted = self._fill_in_defaults()
        self._values = self._by_name(self._bound.arguments)
        self.leaves = dict(_leaves(self._values))

    def _fill_in_defaults(self) -> frozenset[str]:
        """Plain values that the caller left to the program count as given: the graph holds for them alone."""
        given = self._bound.arguments
        defaults = {n: p.default for n, p in self._signature.parameters.items() if n not in given and _is_literal(p)}
        both = {**given, **defaults}
        self._bound.arguments = {n: both[n] for n in self._signature.parameters if n in both}  # type: ignore[assignment]
        return frozenset(defaults)

    def _by_name(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """What came through ``**`` counts as so many arguments."""
        values: dict[str, Any] = {}
        for name, value in arguments.items():
            values.update(value if self._kind(name) is inspect.Parameter.VAR_KEYWORD else {name: value})
        return values

    def _bound_to(self, values: Mapping[str, Any]) -> inspect.BoundArguments:
        arguments = {
            name: {key: values[key] for key in value}
            if self._kind(name) is inspect.Parameter.VAR_KEYWORD
            else values[name]
            for name, value in self._bound.arguments.items()
        }
        return inspect.BoundArguments(self._signature, arguments)  # type: ignore[arg-type]

    def _kind(self, name: str) -> Any:
        parameter = self._signature.parameters.get(name)
        return parameter.kind if parameter else inspect.Parameter.KEYWORD_ONLY

    @property
    def args(self) -> tuple[Any, ...]:
        return self._bound.args

    @property
    def kwargs(self) -> dict[str, Any]:
        return self._bound.kwargs

    @property
    def by_name(self) -> Mapping[str, Any]:
        """Every argument by its name, however it was given."""
        return self._values

    def to(self, dtype: torch.dtype) -> Arguments:
        """The same arguments with floating-point tensors in ``dtype``."""
        new = {p: v.to(dtype) if isinstance(v, Tensor) and v.is_floating_point() else v for p, v in self.leaves.items()}
        bound = self._bound_to({n: _rebuilt(v, (n,), new) for n, v in self._values.items()})
        return Arguments(self._model, bound.args, bound.kwargs)

    def at(self, sizes: Mapping[SizeClass, int]) -> Arguments:
        """The same arguments at other sizes, as if they had been given so."""
        made, (_, _, leaves) = copy(self), self.varied(sizes)
        made._values = {n: _rebuilt(v, (n,), leaves) for n, v in self._values.items()}
        made._bound = self._bound_to(made._values)
        made.leaves = dict(_leaves(made._values))
        return made

    def sizes_of(self, classes: Iterable[SizeClass]) -> dict[SizeClass, int] | None:
        """How long the dims of each class are; None where those of one class differ."""
        found = {c: {self._size(path, dim) for path, dim in c.members} for c in classes}
        return {c: sizes.pop() for c, sizes in found.items()} if all(len(s) == 1 for s in found.values()) else None

    def _size(self, path: Path, dim: int | None) -> int:
        leaf = self.leaves[path]
        return int(leaf) if dim is None else int(leaf.shape[dim])

    def arguments(self, sizes: Iterable[SizeClass] = ()) -> tuple[Argument, ...]:
        """Those that were given, in the signature's order; ``sizes`` are read from them.

        One may be left out later only where the program's own default is what was recorded.
        """
        read = {path for size_class in sizes for path, dim in size_class.members if dim is None}
        return tuple(
            Argument(
                f"*{name}" if self._kind(name) is inspect.Parameter.VAR_POSITIONAL else name,
                required=any(path[0] == name and self._is_needed(path, path in read) for path in self.leaves),
                keyword_only=self._kind(name) is inspect.Parameter.KEYWORD_ONLY,
            )
            for name in self._values
        )

    def _is_needed(self, path: Path, is_size: bool) -> bool:
        leaf, parameter = self.leaves[path], self._signature.parameters.get(str(path[0]))
        if isinstance(leaf, Tensor) or is_size:
            return True
        if not isinstance(leaf, bool | int | float | str | None):
            return False
        return len(path) > 1 or parameter is None or not _is_literal(parameter) or not _same(parameter.default, leaf)

    @property
    def tensors(self) -> dict[Path, Tensor]:
        return {path: leaf for path, leaf in self.leaves.items() if isinstance(leaf, Tensor)}

    @property
    def lengths(self) -> dict[Path, int]:
        """How many each list and dict among them holds, where that is any."""
        return {path: length for name, value in self._values.items() for path, length in _lengths(value, (name,))}

    @property
    def literals(self) -> dict[Path, Any]:
        """Leaves that are taken as fixed: no tensors, no modules, no whole numbers that the caller gave."""
        return {
            path: leaf
            for path, leaf in self.leaves.items()
            if not isinstance(leaf, Tensor | nn.Module) and (not _is_int(leaf) or path[0] in self._defaulted)
        }

    def sizes_in(self, graph: Graph) -> dict[str, int]:
        """Size node of the graph of this program -> how large it is in these arguments."""
        found = dict[str, int]()
        for node in filter(is_size, graph):
            if isinstance(node, Call):
                source, dim = node.args
                found[node.name] = self._size(cast(Input, graph[source.name]).path, dim)
            elif isinstance(node, Input):
                found[node.name] = self._size(node.path, None)
        return found

    def size_classes(self) -> list[SizeClass]:
        """Leading dimensions of one length (and equal numbers) first, then the other dimensions by length."""
        groups: dict[tuple[str, int], list[tuple[Path, int | None]]] = {}
        leading = {tensor.shape[0] for tensor in self.tensors.values() if tensor.dim()}
        for path, tensor in self.tensors.items():
            for dim, size in enumerate(tensor.shape):
                groups.setdefault(("leading" if dim == 0 else "other", size), []).append((path, dim))
        for path, leaf in self.leaves.items():
            if _is_int(leaf) and path[0] not in self._defaulted:
                kind = ("leading", leaf) if leaf in leading else ("/".join(map(str, path)), leaf)
                groups.setdefault(kind, []).append((path, None))
        ordered = sorted(groups.items(), key=lambda group: group[0][0] != "leading")
        return [SizeClass(size, tuple(members)) for (_, size), members in ordered]

    def varied(
        self, sizes: Mapping[SizeClass, int], shuffle: bool = False, longer: Path | None = None
    ) -> tuple[list[Any], dict[str, Any], Any]:
        """Fresh copies of the arguments: ``(args, kwargs, leaves)``.

        Args:
            sizes: new sizes; a dimension is filled by repeating what is there, zeros where that is nothing.
            shuffle: other values of the same kind as well.
            longer: the list or dict there holds one more, which is no leaf of its own.
        """
        new: dict[Path, Any] = {}
        for path, leaf in self.leaves.items():
            new[path] = _other_values(leaf) if shuffle and isinstance(leaf, Tensor) else leaf
        for size_class, size in sizes.items():
            for path, dim in size_class.members:
                new[path] = size if dim is None else _repeated(new[path], dim, size)
        new = {p: v.detach().clone() if isinstance(v, Tensor) else v for p, v in new.items()}
        bound = self._bound_to({n: _rebuilt(v, (n,), new, longer) for n, v in self._values.items()})
        return list(bound.args), bound.kwargs, new


def _no_tuple() -> Diagnostic:
    return Diagnostic(
        code="example-inputs",
        message="the example inputs are a tensor, where a tuple of the model's arguments is expected",
        help="write model_args=(x,)",
    )


def _is_literal(parameter: inspect.Parameter) -> bool:
    """Has it a default that a signature can show?"""
    return parameter.default is None or isinstance(parameter.default, bool | int | float | str)


def _same(default: Any, value: Any) -> bool:
    return type(default) is type(value) and (default == value or default != default)


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _leaves(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _leaves(item, (*path, key))
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _leaves(item, (*path, index))
    elif isinstance(value, Tensor | bool | int | float | str | nn.Module | type(None)) or callable(value):
        yield path, value
    else:
        raise CompileError(
            Diagnostic(
                code="unknown-argument",
                message=f"argument {'.'.join(map(str, path))!r} is a {type(value).__name__}",
                notes=("arguments may be tensors, numbers, strings, None and dicts, lists and tuples of these",),
                help="pass the tensors that it holds",
            )
        )


def _lengths(value: Any, path: Path) -> Iterator[tuple[Path, int]]:
    if not isinstance(value, dict | list | tuple) or not value:
        return
    if not hasattr(value, "_fields"):
        yield path, len(value)
    for key, item in value.items() if isinstance(value, dict) else enumerate(value):
        yield from _lengths(item, (*path, key))


_ANOTHER = "another"
"""The key of what a dict holds more."""


def _rebuilt(value: Any, path: Path, new: Mapping[Path, Any], longer: Path | None = None) -> Any:
    if path in new:
        return new[path]
    if isinstance(value, dict):
        items = {key: _rebuilt(item, (*path, key), new, longer) for key, item in value.items()}
        return {**items, _ANOTHER: next(iter(items.values()))} if path == longer else items
    items = [_rebuilt(item, (*path, index), new, longer) for index, item in enumerate(value)]
    items += items[-1:] if path == longer else []
    if isinstance(value, tuple):
        return type(value)(*items) if hasattr(value, "_fields") else tuple(items)
    return items


def _repeated(tensor: Tensor, dim: int, size: int) -> Tensor:
    if not tensor.shape[dim]:
        return tensor.new_zeros([*tensor.shape[:dim], size, *tensor.shape[dim + 1 :]])
    return tensor.index_select(dim, torch.arange(size, device=tensor.device) % tensor.shape[dim])


def _other_values(tensor: Tensor) -> Tensor:
    """The same elements in another order, and smaller where they are real numbers (so probabilities stay such)."""
    rolled = tensor.roll(1, 0) if tensor.dim() else tensor
    if not tensor.is_floating_point():
        return rolled
    wide = rolled.float() if tensor.dtype.itemsize == 1 else rolled  # of 8 bits there is no arithmetic
    return (wide * 0.9).to(tensor.dtype)
