"""What the program's tensors and submodules are called: by their path from the model."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import pyro
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize


def is_standard(module: nn.Module) -> bool:
    """Only torch's own modules, called as they are: emitted code can construct them by name."""
    return all(_is_plain(part) for part in module.modules())


def _is_plain(module: nn.Module) -> bool:
    own = type(module).__module__.startswith("torch.nn.") and getattr(nn, type(module).__name__, None) is type(module)
    hooked = module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module)
    return own and not hooked and not parametrize.is_parametrized(module) and not getattr(module, "inplace", False)


def signature_of(model: Callable[..., Any]) -> inspect.Signature:
    """Of the callable, or of the module's ``forward``."""
    return inspect.signature(model.forward if isinstance(model, nn.Module) else model)


class ModulePaths:
    """Names for what the model owns, closes over or registers with Pyro.

    A module that owns the model (``vae.model``, a `PyroModule`) is the root: paths are those of its
    state dict. Anything else is named by the variable that holds it.
    """

    def __init__(self, model: Callable[..., Any]) -> None:
        self._model = model
        self._owner = _owner(model)
        self._modules: dict[int, tuple[str, nn.Module]] = {}
        self._tensors: dict[int, tuple[str, bool, Tensor]] = {}
        self._buffers: set[int] = set()
        self._constants: dict[str, Tensor] = {}
        self._in_use: set[str] = set()
        if isinstance(self._owner, nn.Module):
            self._register("", self._owner)

    def _register(self, path: str, module: nn.Module) -> None:
        for name, part in module.named_modules(prefix=path):
            self._modules.setdefault(id(part), (name, part))
        for name, parameter in module.named_parameters(prefix=path):
            self._add_tensor(name, parameter, True)
        for name, buffer in module.named_buffers(prefix=path):
            self._add_tensor(name, buffer, False)
            self._buffers.add(id(buffer))

    def _add_tensor(self, path: str, tensor: Tensor, trainable: bool) -> None:
        self._tensors.setdefault(id(tensor), (path, trainable, tensor))

    def is_root(self, module: nn.Module) -> bool:
        """Is it the program itself, or what the program is a method of?"""
        return module is self._owner or module is self._model

    def of_module(self, module: nn.Module) -> str:
        """Its path; a module not met before is named now."""
        if id(module) not in self._modules:
            name = self._variable(module) or _registered_name(module) or type(module).__name__.lower()
            self._register(self._unused(name), module)
        return self._modules[id(module)][0]

    def of_tensor(self, tensor: Tensor) -> tuple[str | None, bool]:
        """(path, trainable), or (None, False) for a tensor that no module and no parameter store holds."""
        if id(tensor) not in self._tensors:
            self._find(tensor)
        path, trainable, _ = self._tensors.get(id(tensor), (None, False, None))
        return path, trainable

    def _find(self, tensor: Tensor) -> None:
        for name, held in pyro.get_param_store()._params.items():
            if held is tensor:
                self._add_tensor(name.replace("$$$", "."), tensor, True)
                return
        if tensor.requires_grad and tensor.is_leaf:
            for name, module in self._variables(nn.Module):
                if any(parameter is tensor for parameter in module.parameters()):
                    self._register(self._unused(name), module)
                    return
            self._add_tensor(self._unused(self._variable(tensor) or "parameter"), tensor, True)

    def is_buffer(self, tensor: Tensor) -> bool:
        """Does a module hold it, to be loaded with its weights?"""
        return id(tensor) in self._buffers

    def add_constant(self, tensor: Tensor) -> str:
        """A path for a tensor that the program closes over or makes; equal ones of two recordings share it."""
        for path, held in self._constants.items():
            if path not in self._in_use and held.dtype == tensor.dtype and torch.equal(held, tensor):
                break
        else:
            path = self._unused(self._variable(tensor) or "constant")
            self._constants[path] = tensor
        self._in_use.add(path)
        self._add_tensor(path, tensor, False)
        return path

    def begin_recording(self) -> None:
        """The constants of earlier recordings may be met again."""
        for tensor in self._constants.values():
            self._tensors.pop(id(tensor), None)
        self._in_use.clear()

    def modules(self) -> list[nn.Module]:
        """All modules known so far, and those that the model's variables hold."""
        held = [part for _, module in self._variables(nn.Module) for part in module.modules()]
        return [module for _, module in self._modules.values()] + held

    def _unused(self, name: str) -> str:
        taken = {path.partition(".")[0] for path, *_ in self._tensors.values()}
        taken |= set(self._constants)
        taken |= {path.partition(".")[0] for path, _ in self._modules.values()}
        count, unique = 0, name
        while unique in taken:
            count += 1
            unique = f"{name}_{count}"
        return unique

    def tensors(self) -> list[Tensor]:
        """Tensors that the model's variables hold, in no module."""
        return [tensor for _, tensor in self._variables(Tensor)]

    def _variable(self, value: object) -> str:
        return next((name for name, held in self._variables(object) if held is value), "")

    def _variables(self, kind: type) -> Iterator[tuple[str, Any]]:
        """What the model reaches by name: its owner's attributes, closure, defaults and globals."""
        if self._owner is not None and not isinstance(self._owner, nn.Module):
            yield from ((n, v) for n, v in vars(self._owner).items() if isinstance(v, kind))
        for function in _functions(self._model):
            yield from ((n, v) for n, v in _closure(function) if isinstance(v, kind))
            names = function.__code__.co_names
            yield from (
                (n, function.__globals__[n])
                for n in names
                if n in function.__globals__ and isinstance(function.__globals__[n], kind)
            )


def _owner(model: Any) -> Any:
    while isinstance(model, functools.partial):
        model = model.func
    if isinstance(model, nn.Module):
        return model
    owner = getattr(model, "__self__", None)
    if owner is None and not inspect.isroutine(model) and hasattr(model, "__dict__"):
        return model
    return owner


def _functions(model: Any, depth: int = 4) -> Iterator[Any]:
    """The Python functions behind a model: through partials, methods, wrappers and handlers."""
    if depth == 0:
        return
    if isinstance(model, functools.partial):
        yield from _functions(model.func, depth)
        for held in (*model.args, *model.keywords.values()):
            if inspect.isroutine(held):
                yield from _functions(held, depth - 1)
        return
    function = getattr(model, "__func__", model)
    if not inspect.isfunction(function):
        function = vars(type(model)).get("__call__")
    if inspect.isfunction(function):
        yield function
        for _, held in _closure(function):
            if inspect.isroutine(held):
                yield from _functions(held, depth - 1)
        for name in function.__code__.co_names:
            if inspect.isfunction(held := function.__globals__.get(name)) and held is not function:
                yield from _functions(held, depth - 1)


def _closure(function: Any) -> list[tuple[str, Any]]:
    cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
    held = []
    for name, cell in cells:
        try:
            held.append((name, cell.cell_contents))
        except ValueError:  # the variable is not bound yet
            continue
    return held


def _registered_name(module: nn.Module) -> str:
    """The name under which ``pyro.module`` registered it."""
    parameters = {id(parameter) for parameter in module.parameters()}
    for name, held in pyro.get_param_store()._params.items():
        if "$$$" in name and id(held) in parameters:
            return str(name.partition("$$$")[0])
    return ""
