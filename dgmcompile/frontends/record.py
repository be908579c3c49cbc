"""The recording tracer: runs a program once and records every torch call that it makes.

A recording is flat and concrete (sizes are plain integers); `merge` compares several of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from dgmcompile.diagnostics import Diagnostic, Location
from dgmcompile.frontends.modules import ModulePaths, is_standard
from dgmcompile.frontends.source import assigned_name, calling_frame, location_of, only_asserts, user_frame
from dgmcompile.frontends.targets import METADATA, is_in_place, short_name, target_name
from dgmcompile.frontends.values import Alias, Values
from dgmcompile.ir.formulas import COPIED, READ_VIEW, SETITEM, WRITE_VIEW
from dgmcompile.ir.graph import (
    Arg,
    Call,
    Constant,
    DeviceOf,
    Formula,
    Node,
    Parameter,
    Ref,
    leaves,
    map_arg,
    refs_in,
)

_LARGEST_LITERAL = 64
_SEEN_AGAIN = ("__getitem__", "select", "unbind", "narrow")
_LITERALS = (
    bool,
    int,
    float,
    complex,
    str,
    torch.dtype,
    torch.device,
    torch.layout,
    torch.memory_format,
    type(...),
    type(None),
)


@dataclass(frozen=True)
class ModuleSpan:
    """The nodes ``start:end`` were recorded inside a call of the submodule ``path``."""

    path: str
    module: nn.Module
    start: int
    end: int
    args: Arg
    kwargs: Arg
    output: Arg
    location: Location | None
    hints: tuple[str, ...]


@dataclass
class Recording:
    """What one run did. ``hints`` are names for nodes; ``poison`` is what is wrong with a node, should it be kept."""

    nodes: list[Node] = field(default_factory=list)
    hints: dict[str, str] = field(default_factory=dict)
    origin: dict[str, str] = field(default_factory=dict)
    poison: dict[str, Diagnostic] = field(default_factory=dict)
    errors: list[Diagnostic] = field(default_factory=list)
    warnings: list[Diagnostic] = field(default_factory=list)
    spans: list[ModuleSpan] = field(default_factory=list)
    tensors: dict[str, Tensor] = field(default_factory=dict)
    modules: dict[str, nn.Module] = field(default_factory=dict)


class Recorder(TorchFunctionMode):
    """Records into `self.recording` while it is entered.

    Args:
        paths: names of the program's modules, parameters and closure tensors.
        device: where the program runs; a literal of it is recorded as `DeviceOf`.
    """

    def __init__(self, paths: ModulePaths, device: torch.device) -> None:
        super().__init__()
        self.recording = Recording()
        self.values = Values()
        self.paths = paths
        self.in_constructor = 0
        self._device = device
        self._paused = False
        self._count = 0

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Calls made inside are not recorded."""
        before, self._paused = self._paused, True
        try:
            yield
        finally:
            self._paused = before

    @contextmanager
    def recording_modules(self) -> Iterator[None]:
        """Calls of submodules are seen while inside."""
        original = nn.Module.__call__

        def call(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
            return self._module_call(original, module, args, kwargs)

        nn.Module.__call__ = call  # type: ignore[method-assign]
        try:
            yield
        finally:
            nn.Module.__call__ = original  # type: ignore[method-assign]

    # -- nodes ------------------------------------------------------------------------------------------------

    def fresh_name(self) -> str:
        self._count += 1
        return f"%{self._count}"

    def add(self, node: Node, hint: str = "", value: Tensor | None = None) -> Ref:
        """Append a node; ``value`` is its tensor from now on."""
        recording = self.recording
        recording.nodes.append(node)
        recording.hints[node.name] = hint
        if (origin := _first_origin(recording.origin[n] for n in node.inputs if n in recording.origin)) is not None:
            recording.origin[node.name] = origin
        if value is not None:
            self.values.bind(value, node.name)
        return Ref(node.name)

    def call(
        self, target: str | Formula, args: Arg, kwargs: Arg, value: Any, location: Location | None, hint: str = ""
    ) -> Ref:
        """Append a call whose result was ``value``."""
        shape, dtype = _type_of(value)
        node = Call(
            name=self.fresh_name(),
            target=target,
            args=args,
            kwargs=kwargs,
            shape=shape,
            dtype=dtype,
            location=location,
        )
        return self.add(node, hint or short_name(node.target_name), value if isinstance(value, Tensor) else None)

    # -- values -----------------------------------------------------------------------------------------------

    def arg(self, value: Any) -> Arg:
        """``value`` with tensors replaced by references to their nodes."""
        return map_arg(value, self._leaf)

    def _leaf(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            return self.ref(value)
        if isinstance(value, torch.device):
            return DeviceOf() if _same_device(value, self._device) else value
        return value

    def ref(self, tensor: Tensor) -> Ref:
        """The node of this tensor, which may have to be made first: a parameter, a constant, a view."""
        alias = self.values.find(tensor)
        if alias is None:
            return self._lifted(tensor)
        return Ref(alias.name) if self.values.is_current(alias) else self._read_again(alias)

    def _read_again(self, alias: Alias) -> Ref:
        """A view whose memory was written through another one: read it from the whole."""
        tensor, root = alias.tensor, self.values.root(alias.tensor)
        location = location_of(user_frame())
        if root is None or root.tensor is tensor or not self.values.is_current(root):
            ref = self.call("identity", (Ref(alias.name),), {}, tensor, location)
            self.recording.poison[ref.name] = Diagnostic(
                code="view-write",
                message="a view of this tensor was written in place, and the memory that it shares cannot be followed",
                location=location,
                help="write x = x.clone() first, or build the tensor out of place (torch.where, torch.cat)",
            )
            return ref
        args = (Ref(root.name), tuple(tensor.shape), tuple(tensor.stride()), tensor.storage_offset())
        return self.call(READ_VIEW, args, {}, tensor, location)

    def _lifted(self, tensor: Tensor) -> Ref:
        path, trainable = self.paths.of_tensor(tensor)
        shape, dtype = _type_of(tensor)
        if path is None and tensor.numel() <= _LARGEST_LITERAL and not tensor.requires_grad:
            value = _as_literal(tensor)
            return self.add(Constant(name=self.fresh_name(), shape=shape, dtype=dtype, value=value), "constant", tensor)
        path = path or self.paths.add_constant(tensor)
        self.recording.tensors[path] = tensor
        node = Parameter(name=self.fresh_name(), shape=shape, dtype=dtype, path=path, trainable=trainable)
        ref = self.add(node, path, tensor)
        if tensor.grad_fn is not None:
            self.recording.poison[ref.name] = Diagnostic(
                code="unrecorded-tensor",
                message="a tensor that was computed from parameters before the model ran is used in it",
                location=location_of(user_frame()),
                help="compute it inside the model, from the parameters themselves",
            )
        return ref

    # -- torch calls ------------------------------------------------------------------------------------------

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        target = None if self._paused else target_name(func)
        if self._paused or (target is None and not _may_return_tensor(func)):
            return func(*args, **kwargs)
        if target is not None and short_name(target) in _METADATA_WORDS and not is_in_place(target):
            result = func(*args, **kwargs)
            if not isinstance(result, Tensor):
                return result
        else:
            result = None
        return self._record_call(func, target, args, kwargs, result)

    def _record_call(
        self, func: Callable[..., Any], target: str | None, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any
    ) -> Any:
        node_args, node_kwargs = self.arg(args), self.arg(kwargs)
        before = _rng_state()
        if result is None:
            result = func(*args, **kwargs)
        tensors = [leaf for leaf in leaves(_plain(result)) if isinstance(leaf, Tensor)]
        if not tensors and not (target and is_in_place(target)):
            self._value_read(target or getattr(func, "__name__", "call"), (node_args, node_kwargs))
            return result
        if target in ("torch.tensor", "torch.as_tensor", "torch.from_numpy") and not refs_in((node_args, node_kwargs)):
            return result
        if any(result is argument for argument in args) and not (target and is_in_place(target)):
            return result  # nothing was done: contiguous() of what is contiguous
        frame = user_frame()
        if target is not None and is_in_place(target):
            ref = self._in_place(target, args, node_args, node_kwargs, location_of(frame))
        elif kwargs.get("out") is not None or kwargs.get("inplace") is True:
            ref = self._written_to(kwargs.get("out", args[0] if args else None), target, node_args, node_kwargs, frame)
        else:
            if isinstance(result, Tensor) and args and isinstance(args[0], Tensor):
                earlier = self.values.source_of_view(args[0], result)
                node_args = (Ref(earlier), *node_args[1:]) if earlier else node_args
            ref = self._result(target or "", node_args, node_kwargs, result, frame)
        self._judge(ref, func, target, (args, kwargs), (node_args, node_kwargs), before, frame)
        return result

    def _result(self, target: str, args: Arg, kwargs: Arg, result: Any, frame: FrameType | None) -> Ref:
        last = target.rpartition(".")[2]
        if last in _SEEN_AGAIN and isinstance(result, Tensor) and (seen := self.values.same_memory(result)):
            self.values.bind(result, seen.name)
            return Ref(seen.name)
        target = {"torch.Tensor.data": "torch.Tensor.detach"}.get(target, target)
        ref = self.call(target, args, kwargs, result, location_of(frame), assigned_name(frame))
        if not torch.is_grad_enabled() and isinstance(result, Tensor) and result.is_floating_point():
            ref = self.call("torch.Tensor.detach", (ref,), {}, result, location_of(frame), assigned_name(frame))
        self._elements(ref, result, frame)
        return ref

    def _elements(self, ref: Ref, result: Any, frame: FrameType | None) -> None:
        """A node for each tensor of a tuple or list."""
        if isinstance(result, Tensor) or not isinstance(result, tuple | list):
            return
        for index, element in enumerate(result):
            if isinstance(element, Tensor | tuple | list):
                if isinstance(element, Tensor) and (seen := self.values.same_memory(element)) and _is_view(ref, self):
                    self.values.bind(element, seen.name)
                    continue
                hint = assigned_name(frame, index) or self.recording.hints[ref.name]
                inner = self.call("getitem", (ref, index), {}, element, location_of(frame), hint)
                self._elements(inner, element, None)

    # -- writes -----------------------------------------------------------------------------------------------

    def _in_place(self, target: str, args: tuple[Any, ...], node_args: Arg, kwargs: Arg, location: Any) -> Ref:
        tensor = args[0]
        functional, new_args = _functional(target, node_args)
        ref = self.call(functional, new_args, kwargs, None, location)
        self.retype(tensor)
        self.written(tensor, ref)
        return ref

    def _written_to(self, out: Any, target: str | None, args: Arg, kwargs: Arg, frame: FrameType | None) -> Ref:
        kwargs = {key: value for key, value in kwargs.items() if key not in ("out", "inplace")}
        ref = self.call(target or "", args, kwargs, None, location_of(frame), assigned_name(frame))
        if isinstance(out, Tensor):
            self.retype(out)
            self.written(out, ref)
            return ref
        self.recording.poison[ref.name] = _unfollowed(target or "a call with out=", location_of(frame))
        return ref

    def retype(self, tensor: Tensor) -> None:
        """The node just added has the type of ``tensor``."""
        shape, dtype = _type_of(tensor)
        self.recording.nodes[-1] = replace(self.recording.nodes[-1], shape=shape, dtype=dtype)

    def written(self, tensor: Tensor, ref: Ref) -> None:
        """``tensor`` was overwritten by the value of ``ref``, in place; so were the views of its memory."""
        root = self.values.root(tensor)
        root_name = None
        if root is not None and root.tensor is not tensor and self.values.is_shared(tensor):
            whole = self.ref(root.tensor)
            args = (whole, ref, tuple(tensor.shape), tuple(tensor.stride()), tensor.storage_offset())
            root_name = self._unbound_call(WRITE_VIEW, args, root.tensor)
        self.values.write(tensor, ref.name, root_name)

    def _unbound_call(self, target: Formula, args: Arg, like: Tensor) -> str:
        shape, dtype = _type_of(like)
        node = Call(name=self.fresh_name(), target=target, args=args, shape=shape, dtype=dtype)
        return self.add(node, target.name).name

    # -- refusals ---------------------------------------------------------------------------------------------

    def _value_read(self, target: str, node_args: Arg) -> None:
        """A value leaves torch: harmless unless it depends on a random variable or an input."""
        origin = self.origin_of(node_args)
        if origin is None or self.in_constructor or only_asserts(calling_frame()) or only_asserts(user_frame()):
            return
        word = target.rpartition(".")[2]
        location = location_of(user_frame())
        if word in ("__bool__", "is_nonzero", "equal", "allclose"):
            message, code = f"the value of {origin} decides a Python branch", "value-branch"
            advice = "use torch.where, or let the branch depend on an input's shape only"
        elif word in ("__index__", "__int__"):
            message, code = f"the value of {origin} becomes a Python number ({word})", "value-escape"
            advice = "index with the tensor itself (table[k], torch.gather), or pass the number as an int argument"
        else:
            message, code = f"the value of {origin} leaves torch through {word}", "value-escape"
            advice = "keep it a tensor; a number that the caller knows can be passed as an argument"
        self.recording.errors.append(Diagnostic(code=code, message=message, location=location, help=advice))

    def origin_of(self, node_args: Arg) -> str | None:
        """The random variable or input on which these depend, in words."""
        return _first_origin(self.recording.origin[n] for n in refs_in(node_args) if n in self.recording.origin)

    def _judge(
        self,
        ref: Ref,
        func: Callable[..., Any],
        target: str | None,
        args: Any,
        node_args: Arg,
        rng_before: Tensor,
        frame: FrameType | None,
    ) -> None:
        """What makes a node unfit to be kept."""
        location = location_of(frame)
        name = target or getattr(func, "__name__", repr(func))
        if not torch.equal(rng_before, _rng_state()):
            self.recording.poison[ref.name] = stray_random(name, location)
        elif target is None:
            self.recording.poison[ref.name] = _unfollowed(name, location)
        elif strange := [leaf for leaf in leaves(node_args) if not _is_literal(leaf)]:
            self.recording.poison[ref.name] = Diagnostic(
                code="unknown-argument",
                message=f"{name} is given a {type(strange[0]).__name__}, which is no part of a graph",
                location=location,
                help="pass tensors and plain Python values to torch functions",
            )
        elif torch.is_autocast_enabled("cpu") or torch.is_autocast_enabled("cuda"):
            self.recording.poison[ref.name] = Diagnostic(
                code="autocast",
                message="the model switches autocast on by itself",
                location=location,
                help="leave torch.autocast to the caller: wrap the compiled module's call in it",
            )

    # -- submodules -------------------------------------------------------------------------------------------

    def _module_call(
        self, original: Callable[..., Any], module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        if self._paused or self.paths.is_root(module):
            return original(module, *args, **kwargs)
        path = self.paths.of_module(module)
        frame = user_frame()
        location = location_of(frame)
        if is_standard(module):
            node_args, node_kwargs = self.arg(args), self.arg(kwargs)
            before = _rng_state()
            with self.paused():
                result = original(module, *args, **kwargs)
            self.recording.modules[path] = module
            hint = assigned_name(frame) or module_hint(path)
            ref = self.call(f"self.{path}", node_args, node_kwargs, _plain(result), location, hint)
            self._elements(ref, _plain(result), frame)
            if not torch.equal(before, _rng_state()):
                self.recording.warnings.append(random_module(path, module, location))
            return result
        start, node_args, node_kwargs = len(self.recording.nodes), self.arg(args), self.arg(kwargs)
        result = original(module, *args, **kwargs)
        output = self.arg(_plain(result))
        if all(isinstance(leaf, Ref | None) for leaf in leaves(output)) and refs_in(output):
            hints = tuple(assigned_name(frame, i) for i in range(len(result))) if isinstance(result, tuple) else ()
            self.recording.spans.append(
                ModuleSpan(
                    path,
                    module,
                    start,
                    len(self.recording.nodes),
                    node_args,
                    node_kwargs,
                    output,
                    location,
                    (assigned_name(frame), *hints),
                )
            )
        return result


_METADATA_WORDS = frozenset(word.strip("_") for word in METADATA)


def _first_origin(origins: Iterable[str]) -> str | None:
    """A random variable says more than an input."""
    return min(origins, key=lambda origin: not origin.startswith("site"), default=None)


def _may_return_tensor(func: Callable[..., Any]) -> bool:
    return getattr(func, "__name__", "") not in ("_set_grad_enabled", "_assert", "_has_compatible_shallow_copy_type")


def _is_view(ref: Ref, recorder: Recorder) -> bool:
    return recorder.recording.hints[ref.name] == "unbind" or _last_target(recorder, ref) in _SEEN_AGAIN


def _last_target(recorder: Recorder, ref: Ref) -> str:
    node = recorder.recording.nodes[-1]
    return node.target_name.rpartition(".")[2] if isinstance(node, Call) and node.name == ref.name else ""


def _type_of(value: Any) -> tuple[tuple[int, ...] | None, torch.dtype | None]:
    return (tuple(value.shape), value.dtype) if isinstance(value, Tensor) else (None, None)


def module_hint(path: str) -> str:
    """A name for what the submodule returns: ``encoder`` for ``net.encoder``, ``blocks_0`` for ``blocks.0``."""
    *above, last = path.split(".")
    return f"{above[-1]}_{last}" if above and last.isdigit() else last


def _plain(result: Any) -> Any:
    """Named tuples and torch's return types as tuples."""
    return tuple(result) if isinstance(result, tuple) and not isinstance(result, torch.Size) else result


def _as_literal(tensor: Tensor) -> Arg:
    def frozen(value: Any) -> Any:
        return tuple(frozen(v) for v in value) if isinstance(value, list) else value

    return frozen(tensor.detach().cpu().tolist())


def _is_literal(leaf: Any) -> bool:
    return isinstance(leaf, (Ref, DeviceOf, *_LITERALS))


def _same_device(a: torch.device, b: torch.device) -> bool:
    return a.type == b.type and (a.index or 0) == (b.index or 0)


def _rng_state() -> Tensor:
    return torch.default_generator.get_state()


def _functional(target: str, args: Arg) -> tuple[str | Formula, Arg]:
    """The out-of-place spelling of an in-place call."""
    head, _, last = target.rpartition(".")
    match last:
        case "__setitem__":
            return SETITEM, args
        case "__set__":
            return COPIED, args
        case "copy_":
            return COPIED, args[:2]
        case "zero_":
            return "torch.zeros_like", args
        case "fill_":
            return "torch.full_like", args
        case _:
            return f"{head}.{last[:-1]}", args


def _unfollowed(name: str, location: Location | None) -> Diagnostic:
    return Diagnostic(
        code="unknown-call",
        message=f"{name} is no public torch function that a graph can name",
        location=location,
        help="use the public torch function that does the same",
    )


def stray_random(name: str, location: Location | None) -> Diagnostic:
    """Random numbers that no site accounts for."""
    return Diagnostic(
        code="stray-random",
        message=f"{name} draws random numbers outside of pyro.sample",
        location=location,
        help="draw them by pyro.sample, so that they are a site of the model",
    )


def random_module(path: str, module: nn.Module, location: Location | None) -> Diagnostic:
    """A submodule that draws random numbers by itself, as dropout in training mode does."""
    return Diagnostic(
        severity="warning",
        code="random-module",
        message=f"submodule {path!r} ({type(module).__name__}) draws random numbers by itself",
        location=location,
        help="call .eval() on it, or know that its noise is not shared between teacher and student",
    )
