"""Calls of submodules: one of torch's own is a node, of any other the calls inside are recorded, as a span."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, replace
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn

from dgmcompile.diagnostics import Location
from dgmcompile.frontends import refusals
from dgmcompile.frontends.calls import Before, in_autocast, module_hint, plain
from dgmcompile.frontends.modules import is_hooked, is_standard
from dgmcompile.frontends.random_calls import DROPOUT_MODULES
from dgmcompile.frontends.record import Recorder
from dgmcompile.frontends.recording import ModuleSpan
from dgmcompile.frontends.source import assigned_name, location_of, user_frame
from dgmcompile.frontends.state import eager
from dgmcompile.ir.graph import Ref, leaves, refs_in


@dataclass(frozen=True)
class _Call:
    """One call of a submodule, and how to make it: by `nn.Module.__call__`, of the module that stands first."""

    original: Callable[..., Any]
    module: nn.Module
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    path: str
    frame: FrameType | None

    def result(self) -> Any:
        return self.original(self.module, *self.args, **self.kwargs)


class ModuleCalls:
    """Records the calls of the program's submodules, and of its autograd functions.

    Args:
        opened: torch's own modules, whose calls are seen none the less.
        named: paths of submodules whose calls are seen, also inside of torch's own.
    """

    def __init__(self, recorder: Recorder, opened: tuple[type[nn.Module], ...] = (), named: Iterable[str] = ()) -> None:
        self._recorder = recorder
        self._opened = opened
        self._named = tuple(named)
        self.on_result: Callable[[str, Any], Any] | None = None
        """Is given the path of each submodule that was called, and what it returned, which it may replace."""

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Calls are seen while inside."""
        module_call, apply = nn.Module.__call__, torch.autograd.Function.__dict__["apply"]

        def call(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
            if self._recorder.is_paused or self._recorder.paths.is_root(module):
                return module_call(module, *args, **kwargs)
            result = self._called(module_call, module, args, kwargs)
            return result if self.on_result is None else self.on_result(self._recorder.paths.of_module(module), result)

        def applied(cls: Any, *args: Any, **kwargs: Any) -> Any:
            return self._applied(cls, apply.__get__(None, cls), args, kwargs)

        nn.Module.__call__ = call  # type: ignore[method-assign]
        torch.autograd.Function.apply = classmethod(applied)  # type: ignore[method-assign]
        try:
            with eager():
                yield
        finally:
            nn.Module.__call__ = module_call  # type: ignore[method-assign]
            torch.autograd.Function.apply = apply  # type: ignore[method-assign]

    def _called(
        self, original: Callable[..., Any], module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        wrapped = type(module).__name__ == "OptimizedModule" or is_hooked(module)
        if wrapped or isinstance(module, self._opened):
            return original(module, *args, **kwargs)
        path = self._recorder.paths.of_module(module)
        call = _Call(original, module, args, kwargs, path, user_frame())
        if isinstance(module, DROPOUT_MODULES) and module.inplace and args:
            return self._dropped_in_place(call)
        opened = self._opened and any(isinstance(inner, self._opened) for inner in module.modules())
        opened = opened or any(named.startswith(f"{path}.") for named in self._named)
        record = self._whole if is_standard(module) and not opened else self._span
        return record(call)

    def _whole(self, call: _Call) -> Any:
        """One of torch's own: what it does is known by its class."""
        recorder, path, frame, location = self._recorder, call.path, call.frame, location_of(call.frame)
        node_args, node_kwargs = recorder.arg(call.args), recorder.arg(call.kwargs)
        with recorder.paused():
            before = Before(call.args, call.kwargs)
            result = call.result()
            if any(result is leaf for leaf in leaves((call.args, call.kwargs))) and not before.written():
                result = result.view_as(result)  # as dropout in eval mode returns what it is given
        self._keep(path, call.module, location)
        hint = assigned_name(frame) or module_hint(path)
        ref = recorder.call(f"self.{path}", node_args, node_kwargs, plain(result), location, hint)
        recorder.elements(ref, plain(result), frame)
        recorder.name_variable(recorder.without_gradient(ref, result, frame))
        if before.drew():
            recorder.recording.warnings.append(refusals.random_module(path, call.module, location))
        if in_autocast():
            recorder.recording.poison[ref.name] = refusals.autocast(location)
        return result

    def _dropped_in_place(self, call: _Call) -> Any:
        """Dropout that writes into its argument, as one that does not and a copy: its mode is no part of the graph."""
        twin = copy(call.module)
        twin.inplace = False  # type: ignore[assignment]
        return call.args[0].copy_(self._whole(replace(call, module=twin)))

    def _keep(self, path: str, module: nn.Module, location: Location | None) -> None:
        """With its parameters and buffers, which are the same ones at each call."""
        recording, held = self._recorder.recording, dict((*module.named_parameters(), *module.named_buffers()))
        recording.modules[path] = module
        for name, tensor in recording.held.setdefault(path, held).items():
            if held.get(name) is not tensor:
                place = f"{path}.{name}"
                recording.state_writes.setdefault(place, refusals.state_write(place, location))

    def _span(self, call: _Call) -> Any:
        """The calls that it makes are recorded; they can be made one call again."""
        recorder, frame, start = self._recorder, call.frame, len(self._recorder.recording.nodes)
        node_args, node_kwargs = recorder.arg(call.args), recorder.arg(call.kwargs)
        result = call.result()
        output, end = recorder.arg(plain(result)), len(recorder.recording.nodes)
        if all(isinstance(leaf, Ref | None) for leaf in leaves(output)) and refs_in(output):
            hints = tuple(assigned_name(frame, i) for i in range(len(result))) if isinstance(result, tuple) else ()
            names, location = (assigned_name(frame), *hints), location_of(frame)
            span = ModuleSpan(call.path, call.module, start, end, node_args, node_kwargs, output, location, names)
            recorder.recording.spans.append(span)
            for leaf, value in zip(leaves(output), leaves(plain(result)), strict=True):
                recorder.without_gradient(leaf, value, frame)
        return result

    def _applied(self, cls: Any, apply: Callable[..., Any], args: tuple[Any, ...], kwargs: Any) -> Any:
        """A custom autograd function: its forward could be recorded, its gradient could not."""
        recorder = self._recorder
        if recorder.is_paused:
            return apply(*args, **kwargs)
        node_args, location = recorder.arg(args), location_of(user_frame())
        with recorder.paused():
            result = apply(*args, **kwargs)
        named = tuple(leaf for leaf in leaves(node_args) if isinstance(leaf, Ref))
        for tensor in leaves(plain(result)):
            if isinstance(tensor, Tensor):
                ref = recorder.call("identity", named, {}, tensor, location)
                recorder.recording.poison[ref.name] = refusals.custom_function(cls.__name__, location)
        return result
