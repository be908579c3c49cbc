"""What the program's tensors and submodules are called: by their path from the model."""

from __future__ import annotations

import contextlib
import functools
import inspect
import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pyro
import torch
from pyro.infer.discrete import _sample_posterior
from pyro.nn import PyroModule
from pyro.poutine.messenger import _bound_partial, _context_wrap
from pyro.poutine.trace_messenger import TraceHandler
from torch import Tensor, nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear
from torch.nn.utils import parametrize

from dgmcompile.diagnostics import CompileError, Diagnostic
from dgmcompile.ir.names import unused


def is_standard(module: nn.Module) -> bool:
    """Only torch's own modules, called as they are: emitted code can construct them by name."""
    return all(_is_plain(part) for part in module.modules())


_OFTEN_ZERO = (nn.ReLU, nn.ReLU6, nn.Threshold, nn.Hardsigmoid, nn.Hardtanh, nn.Softshrink, nn.Hardshrink)
_OFTEN_ZERO += (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.ZeroPad1d, nn.ZeroPad2d, nn.ZeroPad3d)
_PASSING = (nn.Identity, nn.Flatten, nn.Unflatten, nn.Upsample, nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)
_PASSING += (nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.Softsign, nn.Tanh, nn.LeakyReLU, nn.GELU, nn.SiLU, nn.ELU)


def may_return_zeros(module: nn.Module) -> bool:
    """Is what it returns exactly 0 here and there, as behind a rectifier?"""
    if isinstance(module, nn.Sequential):
        telling = [part for part in module if not isinstance(part, _PASSING)]
        return bool(telling) and may_return_zeros(telling[-1])
    return isinstance(module, _OFTEN_ZERO)


def _is_plain(module: nn.Module) -> bool:
    own = type(module).__module__.startswith("torch.nn.") and getattr(nn, type(module).__name__, None) is type(module)
    own |= type(module) is NonDynamicallyQuantizableLinear  # inside of attention
    in_place = getattr(module, "inplace", False)
    changed = is_hooked(module) or in_place or parametrize.is_parametrized(module)
    return own and _owns_its_weights(module) and not changed


def is_hooked(module: nn.Module) -> bool:
    """Does a call of it do more than its class says?"""
    return bool(module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module))


def _owns_its_weights(module: nn.Module) -> bool:
    """Are its weights parameters? A draw may stand in their place, for good (``pyro.random_module``, or an attribute
    that was deleted and set again) or for one call (``torch.func.functional_call``)."""
    held = (*module._parameters.values(), *vars(module).values())
    return all(isinstance(value, nn.Parameter) for value in held if isinstance(value, Tensor))


def behind(model: Callable[..., Any]) -> Callable[..., Any]:
    """The user's own callable, without the handlers around it, as in ``poutine.scale(model, scale=0.5)``."""
    while (inner := _handled(model)) is not None:
        model = inner
    return model


def _handled(model: Any) -> Any:
    """What one handler was put around; None if ``model`` is no such thing."""
    if isinstance(model, functools.partial) and model.func is _context_wrap:  # or a copy of a bound one
        _, inner, *given = model.args
        if len(given) == 1 and hasattr(type(given[0]), getattr(inner, "__name__", "")):  # a decorated method
            return inner.__get__(given[0])
        return functools.partial(inner, *given, **model.keywords) if given or model.keywords else inner
    if isinstance(model, _bound_partial):
        return model.func
    if isinstance(model, functools.partial) and model.func is _sample_posterior:  # infer_discrete
        return model.args[0]
    handler = model.__self__ if inspect.ismethod(model) else model  # get_trace takes the same arguments
    return handler.fn if isinstance(handler, TraceHandler) else None


def as_callable(model: Any) -> Callable[..., Any]:
    """What is run of a model: of an exported program its module, which shares its parameters; what was compiled, or
    is run in parallel.

    Errors:
        `CompileError` ``compiled-model`` of what TorchScript runs.
    """
    if isinstance(model, torch.jit.ScriptModule | torch.jit.ScriptFunction):
        name = getattr(model, "original_name", "") or getattr(model, "__name__", "")
        raise CompileError(_compiled_model(name, "TorchScript", "give the module or the function that it was made of"))
    match type(model).__name__:
        case "ExportedProgram":
            return model.module()
        case "OptimizedModule":  # `torch.compile` of a module, whose name for it is in each path
            return model._orig_mod
        case "DataParallel" | "DistributedDataParallel":
            return as_callable(model.module)
        case _:
            return model


def model_of(model: Any) -> Callable[..., Any]:
    """`as_callable` of what a user gives as a model.

    Errors:
        `CompileError` ``no-model``, ``compiled-model``.
    """
    model = as_callable(model)
    if inspect.isclass(model) or not callable(model):
        what = f"the class {model.__name__}" if inspect.isclass(model) else f"a value of type {type(model).__name__}"
        raise CompileError(
            Diagnostic(
                code="no-model",
                message=f"{what} is no model",
                help="a model is a function, a method or a module that draws; of a class, make an instance",
            )
        )
    return model


def _keywords_of(model: Any) -> frozenset[str]:
    """The arguments that an exported program takes by keyword alone, which its signature does not tell."""
    given = getattr(getattr(getattr(model, "graph", None), "_codegen", None), "pytree_info", None)
    specs = [] if given is None else given.in_spec.children()
    return frozenset(specs[1].context) if len(specs) == 2 and specs[1].type is dict else frozenset()


def _with_keywords(signature: inspect.Signature, keywords: frozenset[str]) -> inspect.Signature:
    by_keyword = inspect.Parameter.KEYWORD_ONLY
    parameters = [p.replace(kind=by_keyword) if p.name in keywords else p for p in signature.parameters.values()]
    return signature.replace(parameters=sorted(parameters, key=lambda parameter: parameter.kind))


def signature_of(model: Callable[..., Any]) -> inspect.Signature:
    """Of the callable, or of the module's ``forward``; of what handlers are put around, which they pass on.

    A guide that Pyro writes takes the arguments of its model; a copy of one has lost it, and takes any.

    Errors:
        `CompileError` ``compiled-model`` of what is no Python function.
    """
    model = behind(model)
    if isinstance(model, PyroModule) and hasattr(model, "prototype_trace"):
        with contextlib.suppress(TypeError):  # of what a copy does not have
            return signature_of(model.model)
    if isinstance(model, functools.partial):

        def called() -> None: ...

        called.__signature__ = signature_of(model.func)  # type: ignore[attr-defined]
        return inspect.signature(functools.partial(called, *model.args, **model.keywords))
    try:
        found = inspect.signature(model.forward if isinstance(model, nn.Module) else model)
        return _with_keywords(found, _keywords_of(model))
    except ValueError as error:
        raise CompileError(
            _compiled_model(getattr(model, "__name__", ""), "compiled code", "call it in a function, and give that")
        ) from error


def _compiled_model(name: str, runs: str, way_out: str) -> Diagnostic:
    return Diagnostic(
        code="compiled-model",
        message=f"{name or 'the model'} is no Python: {runs} runs it, out of sight",
        help=way_out,
    )


def name_of(model: Callable[..., Any]) -> str:
    """The callable's own, or its module's class."""
    model = behind(model)
    while isinstance(model, functools.partial):
        model = behind(model.func)
    if isinstance(model, nn.Module):
        return type(model).__name__
    owner = getattr(model, "__self__", None)
    return type(owner).__name__ if isinstance(owner, nn.Module) else getattr(model, "__name__", type(model).__name__)


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
        self._by_content: dict[tuple[Any, ...], list[str]] = {}
        self._in_use: set[str] = set()
        self._passing: list[tuple[list[int], list[int]]] = []
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
            held, modules, tensors = self._variable(module), set(self._modules), set(self._tensors)
            self._register(self._unused(held or _registered_name(module) or type(module).__name__.lower()), module)
            if not held:
                self._passing.append(([*self._modules.keys() - modules], [*self._tensors.keys() - tensors]))
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
                self._passing.append(([], [id(tensor)]))  # a module that the model makes may own it later
                self._add_tensor(name.replace("$$$", "."), tensor, True)
                return
        if tensor.requires_grad and tensor.is_leaf:
            for name, module in self._variables(nn.Module):
                if any(parameter is tensor for parameter in module.parameters()):
                    self._register(self._unused(name), module)
                    return
            if not (held := self._variable(tensor)):  # Pyro's store may name it later
                self._passing.append(([], [id(tensor)]))
            self._add_tensor(self._unused(held or "parameter"), tensor, True)

    def is_in_store(self, tensor: Tensor) -> bool:
        """Is it the unconstrained value of a ``pyro.param``?"""
        return any(held is tensor for held in pyro.get_param_store()._params.values())

    def is_buffer(self, tensor: Tensor) -> bool:
        """Does a module hold it, to be loaded with its weights?"""
        return id(tensor) in self._buffers

    def add_constant(self, tensor: Tensor) -> str:
        """A path for a tensor that the program closes over or makes; equal ones of two recordings share it."""
        equal = self._by_content.setdefault(_content(tensor), [])
        path = next((path for path in equal if path not in self._in_use), None)
        if path is None:
            path = self._unused(self._variable(tensor) or "constant")
            self._constants[path] = tensor
            equal.append(path)
        self._in_use.add(path)
        self._add_tensor(path, tensor, False)
        return path

    def begin_recording(self) -> None:
        """The constants of earlier recordings may be met again; modules that no variable holds may be others.

        The owner may have made some of its submodules in the last recording, as Pyro's guides do.
        """
        for tensor in self._constants.values():
            self._tensors.pop(id(tensor), None)
        self._in_use.clear()
        for modules, tensors in self._passing:
            for key in modules:
                self._modules.pop(key, None)
            for key in tensors:
                self._tensors.pop(key, None)
        self._passing.clear()
        if isinstance(self._owner, nn.Module):
            self._register("", self._owner)

    def modules(self) -> list[nn.Module]:
        """All modules known so far, and those that the model's variables hold."""
        held = [part for _, module in self._variables(nn.Module) for part in module.modules()]
        return [module for _, module in self._modules.values()] + held

    def _unused(self, name: str) -> str:
        taken = {path.partition(".")[0] for path, *_ in self._tensors.values()}
        taken |= set(self._constants)
        taken |= {path.partition(".")[0] for path, _ in self._modules.values()}
        return unused(name, taken)

    def tensors(self) -> list[Tensor]:
        """Tensors that the model's variables hold, in no module."""
        return [tensor for _, tensor in self._variables(Tensor)]

    def generators(self) -> dict[str, Any]:
        """Generators of Python and NumPy that the model's variables hold."""
        kinds = (random.Random, np.random.Generator, np.random.RandomState)
        found = {name: held for kind in kinds for name, held in self._variables(kind)}
        return {name: held for name, held in found.items() if not isinstance(held, random.SystemRandom)}

    def _variable(self, value: object) -> str:
        return next((name for name, held in self._variables(object) if held is value), "")

    def _variables(self, kind: type) -> Iterator[tuple[str, Any]]:
        """What the model reaches by name: its owner's attributes, closure, defaults and globals."""
        owners = self._owner.modules() if isinstance(self._owner, nn.Module) else [self._owner]
        for owner in owners:
            yield from ((n, v) for n, v in getattr(owner, "__dict__", {}).items() if isinstance(v, kind))
        for name, value in _bound_values(self._model):
            if isinstance(value, kind):
                yield name, value
        for function in _functions(self._model):
            yield from ((n, v) for n, v in _closure(function) if isinstance(v, kind))
            names = function.__code__.co_names
            yield from (
                (n, function.__globals__[n])
                for n in names
                if n in function.__globals__ and isinstance(function.__globals__[n], kind)
            )


def _content(tensor: Tensor) -> tuple[Any, ...]:
    """What tells constants apart: type, shape and bytes."""
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    data = flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b""
    return tensor.dtype, tuple(tensor.shape), hash(data)


def _owner(model: Any) -> Any:
    model = behind(model)
    while isinstance(model, functools.partial):
        model = behind(model.func)
    if isinstance(model, nn.Module):
        return model
    owner = getattr(model, "__self__", None)
    if owner is None and not inspect.isroutine(model) and hasattr(model, "__dict__"):
        return model
    return owner


def _bound_values(model: Any) -> Iterator[tuple[str, Any]]:
    """What ``functools.partial`` gives to the model's parameters, by their names."""
    model = behind(model)
    while isinstance(model, functools.partial):
        yield from signature_of(model.func).bind_partial(*model.args, **model.keywords).arguments.items()
        model = behind(model.func)


def _functions(model: Any, depth: int = 4) -> Iterator[Any]:
    """The Python functions behind a model: through partials, methods, wrappers and handlers."""
    if depth == 0:
        return
    model = behind(model)
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
