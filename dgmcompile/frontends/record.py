"""The recording tracer: runs a program once and records every torch call that it makes.

A recording is flat and concrete (sizes are plain integers); `merge` compares several of them.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import FrameType
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch._ops import HigherOrderOperator
from torch.overrides import TorchFunctionMode

from dgmcompile.diagnostics import CompileError, Diagnostic, Location
from dgmcompile.frontends import refusals
from dgmcompile.frontends.calls import (
    Before,
    as_literal,
    first_origin,
    is_among,
    may_return_tensor,
    plain,
    same_device,
    type_of,
)
from dgmcompile.frontends.judging import Judge
from dgmcompile.frontends.modules import ModulePaths
from dgmcompile.frontends.operators import public_call
from dgmcompile.frontends.recording import Recording
from dgmcompile.frontends.source import (
    called_for,
    calling_frame,
    fx_node_of,
    has_lines,
    library_call,
    location_of,
    user_frame,
    variable_of,
)
from dgmcompile.frontends.targets import (
    INDEXED,
    METADATA,
    functional,
    is_in_place,
    is_no_op,
    short_name,
    unversioned_writes,
    without_defaults,
)
from dgmcompile.frontends.unseen import UnseenCalls
from dgmcompile.frontends.values import Alias, Values, carries_gradient, memory_key, shows_twice
from dgmcompile.ir.formulas import COPIED, READ_VIEW, SETITEM, WITH_GRADIENT_OF, WRITE_VIEW
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


KeptValues = dict[int, tuple["weakref.ref[Tensor]", str]]
"""By identity: a tensor of an earlier recording, if it is still alive, and the random variable it comes from."""


RandomCall = Callable[[Callable[..., Any], str, tuple[Any, ...], dict[str, Any]], Any]
"""(function, its public name, args, kwargs) -> what the call returns."""


class Recorder(TorchFunctionMode):
    """Records into `self.recording` while it is entered.

    Args:
        paths: names of the program's modules, parameters and closure tensors.
        device: where the program runs; a literal of it is recorded as `DeviceOf`.
        before_write: is told of each tensor of the user's before the program writes into it.
        kept: what no recording should find again; see `random_values`.
    """

    def __init__(
        self,
        paths: ModulePaths,
        device: torch.device,
        before_write: Callable[[Tensor], None] = lambda tensor: None,
        kept: KeptValues | None = None,
    ) -> None:
        super().__init__()
        self.recording = Recording()
        self.values = Values()
        self.paths = paths
        self.in_constructor = 0
        self.in_composed = False
        """Are calls made that stand for one of the program's?"""
        self._device = device
        self._before_write = before_write
        self._kept = kept or {}
        self._lifted_names: set[str] = set()
        self._places: dict[str, int] = {}
        self._in_call = 0
        self._inside_of: tuple[FrameType | None, str] = (None, "")
        """A library's function that the program called, and the last value that it computed."""
        self._by_data: set[str] = set()
        self._cut: set[str] = set()
        self._unseen: dict[int, tuple[Tensor, Diagnostic]] = {}
        self._lent: dict[int, tuple[Tensor, Diagnostic]] = {}
        self._watched: list[tuple[Tensor, int, Ref, Diagnostic]] = []
        self._paused = False
        self._count = 0
        self._judge = Judge(self)
        self.on_random: RandomCall | None = None
        """Is given these calls of torch's random functions instead of having them recorded as calls."""
        self.random_calls: Container[str] = ()

    def random_values(self) -> KeptValues:
        """The tensors that depend on random variables, by identity; they are not kept alive.

        What a library draws in a program that has sites is none, as when networks are made at the first call.
        """
        origin, random = self.recording.origin, ["site", "draw"]
        random += ["library"] if self.recording.is_plain else []
        made = (alias for alias in self.values.aliases() if alias.versions[0][1] not in self._lifted_names)
        found = [(alias.tensor, origin.get(alias.name, "")) for alias in made]
        return {id(tensor): (weakref.ref(tensor), site) for tensor, site in found if site.startswith(tuple(random))}

    def zeros(self) -> frozenset[str]:
        """The nodes of which some element is 0, as they are now."""
        found = self.values.aliases()
        with self.paused(), torch.no_grad():
            return frozenset(a.name for a in found if self.values.is_current(a) and bool((a.tensor == 0).any()))

    def unseen_calls(self) -> UnseenCalls:
        """Finds, while it is entered, what is computed from the program's values and never recorded."""
        return UnseenCalls(lambda: self._paused or self._in_call > 0, self._unseen_call)

    def _unseen_call(self, read: list[Tensor], made: list[Tensor]) -> None:
        known = [alias.name for tensor in read if (alias := self.values.find(tensor)) is not None]
        if self.origin_of(tuple(map(Ref, known))) is None:
            return
        refusal = refusals.unrecorded_tensor(location_of(user_frame()))
        with torch._C.DisableTorchFunction():
            self._unseen.update((memory_key(tensor), (tensor, refusal)) for tensor in made)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Calls made inside are not recorded."""
        before, self._paused = self._paused, True
        try:
            yield
        finally:
            self._paused = before

    # -- nodes ------------------------------------------------------------------------------------------------

    def fresh_name(self) -> str:
        self._count += 1
        return f"%{self._count}"

    def add(self, node: Node, hint: str = "", value: Tensor | None = None) -> Ref:
        """Append a node; ``value`` is its tensor from now on."""
        recording = self.recording
        self._places[node.name] = len(recording.nodes)
        recording.nodes.append(node)
        recording.hints[node.name] = hint
        inputs = node.inputs
        if (origin := first_origin(recording.origin[n] for n in inputs if n in recording.origin)) is not None:
            recording.origin[node.name] = origin
        if recording.shaped and node.shape != ():
            recording.shaped.update((node.name, recording.shaped[n]) for n in inputs if n in recording.shaped)
        if value is not None:
            self.values.bind(value, node.name)
        return Ref(node.name)

    def watch(self, tensor: Any, kind: str, site: str, location: Location | None) -> None:
        """``tensor`` is the mask or the scale of a site, which `judge_watched` finds as it is now."""
        if isinstance(tensor, Tensor):
            refusal = refusals.mask_write(kind, site, location)
            self._watched.append((tensor, tensor._version, self.ref(tensor), refusal))

    def judge_watched(self) -> None:
        """Refuse the program that wrote into what a site holds."""
        written = [refusal for tensor, version, ref, refusal in self._watched if self.is_written(tensor, version, ref)]
        self.recording.errors += written[:1]

    def is_written(self, tensor: Tensor, version: int, before: Ref) -> bool:
        """Has any of its elements another value than at that version, when ``before`` was its node?"""
        return tensor._version != version and self.ref(tensor) != before

    def name_variable(self, ref: Ref) -> None:
        """The value was just made: remember which variable of the program receives it."""
        if self.on_random is not None and not self.in_composed:
            frame, inside = user_frame(), library_call()
            before, called_now = self._inside_of, ref.name not in self.recording.variables
            if inside is not None and before[0] is inside:  # which returns this one, not the one before
                self.recording.variables.pop(before[1], None)
            self._inside_of = (inside, ref.name if called_now else "")
            self.call_as(ref.name, variable_of(frame), frame)

    def call_as(self, name: str, variable: str, frame: FrameType | None) -> None:
        """The node is called as the variable that receives it; if none does, as the frame's graph of fx calls it."""
        if variable:
            self.recording.variables.setdefault(name, variable)
        elif node := fx_node_of(frame):
            self.recording.knows_lines |= has_lines(frame)
            self.recording.graph_names.setdefault(name, node)

    def variable_for(self, tensor: Tensor) -> str:
        """The program's variable for what the tensor was last known to hold."""
        alias = self.values.find(tensor)
        return self.recording.variables.get(alias.name, "") if alias is not None else ""

    def name_value(self, tensor: Tensor, hint: str) -> None:
        """``tensor`` is what a library's function gave the program, which calls it ``hint``."""
        if (alias := self.values.find(tensor)) is not None:
            self.recording.hints[alias.name] = hint

    def call(
        self, target: str | Formula, args: Arg, kwargs: Arg, value: Any, location: Location | None, hint: str = ""
    ) -> Ref:
        """Append a call whose result was ``value``."""
        shape, dtype = type_of(value)
        node = Call(
            name=self.fresh_name(),
            target=target,
            args=args,
            kwargs=kwargs,
            shape=shape,
            dtype=dtype,
            location=location,
        )
        if target == "torch.Tensor.detach" or self._is_of_cut(args, value):
            self._cut.add(node.name)
        return self.add(node, hint or short_name(node.target_name), value if isinstance(value, Tensor) else None)

    def _is_of_cut(self, args: Arg, value: Any) -> bool:
        """Is it a view, or so many, of what was cut off from its gradient?"""
        is_view = not isinstance(value, Tensor) or value._is_view()
        return is_view and bool(args) and isinstance(args[0], Ref) and args[0].name in self._cut

    # -- values -----------------------------------------------------------------------------------------------

    def arg(self, value: Any) -> Arg:
        """``value`` with tensors replaced by references to their nodes."""
        return map_arg(value, self._leaf)

    def _leaf(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            return self.ref(value)
        if isinstance(value, np.generic):
            return value.item()
        if isinstance(value, torch.device):
            return DeviceOf() if same_device(value, self._device) else value
        return value

    def ref(self, tensor: Tensor) -> Ref:
        """The node of this tensor, which may have to be made first: a parameter, a constant, a view."""
        alias = self.values.find(tensor)
        if alias is None:
            ref = self._lifted(tensor)
            if not self.paths.is_in_store(tensor):  # its initialiser may read random values, once
                self._refuse_kept(tensor, ref)
        elif alias.tensor is not tensor:  # it came back from outside, by DLPack or NumPy, and brings no gradient
            ref = self.call("torch.Tensor.detach", (Ref(alias.name),), {}, tensor, location_of(user_frame()))
        else:
            ref = Ref(alias.name) if self.values.is_current(alias) else self._read_again(alias)
        return self._judged(tensor, ref) if self._unseen or self._lent else ref

    def _judged(self, tensor: Tensor, ref: Ref) -> Ref:
        """``ref``, unless its memory was made or written out of sight."""
        with torch._C.DisableTorchFunction():
            key = memory_key(tensor)
            _, refusal = self._unseen.get(key, (None, None))
            if refusal is None and key in self._lent and not torch.equal(_content(tensor), self._lent[key][0]):
                refusal = self._lent[key][1]
        if refusal is None:
            return ref
        ref = self.call("identity", (ref,), {}, None, None)
        self.recording.poison[ref.name] = refusal
        return ref

    def lend(self, node_args: Arg, location: Location | None) -> None:
        """The program has these tensors' memory now, and may write into it."""
        aliases = (self.values.by_name(name) for name in refs_in(node_args))
        with torch._C.DisableTorchFunction():
            for alias in (alias for alias in aliases if alias is not None):
                self._lent[memory_key(alias.tensor)] = (_content(alias.tensor), refusals.foreign_write(location))

    def _read_again(self, alias: Alias) -> Ref:
        """A view whose memory was written through another one: read it from the whole."""
        tensor, root = alias.tensor, self.values.root(alias.tensor)
        location = location_of(user_frame())
        if (
            root is None
            or root.tensor is tensor
            or not self.values.is_current(root)
            or root.tensor.dtype != tensor.dtype
        ):
            ref = self.call("identity", (Ref(alias.name),), {}, tensor, location)
            self.recording.poison[ref.name] = refusals.view_write(location)
            return ref
        args = (Ref(root.name), tuple(tensor.shape), tuple(tensor.stride()), tensor.storage_offset())
        ref = self.call(READ_VIEW, args, {}, tensor, location)
        if carries_gradient(root.tensor) and not carries_gradient(tensor):
            return self.call("torch.Tensor.detach", (ref,), {}, tensor, location)
        return ref

    def _lifted(self, tensor: Tensor) -> Ref:
        path, trainable = self.paths.of_tensor(tensor)
        shape, dtype = type_of(tensor)
        if path is None and tensor.numel() <= _LARGEST_LITERAL and not tensor.requires_grad:
            with self.paused():
                value = as_literal(tensor)
            ref = self.add(Constant(name=self.fresh_name(), shape=shape, dtype=dtype, value=value), "constant", tensor)
            self._lifted_names.add(ref.name)
            return ref
        location = location_of(user_frame()) if path is None else None
        with self.paused():
            path = path or self.paths.add_constant(tensor)
        self.recording.tensors[path] = tensor
        node = Parameter(
            name=self.fresh_name(), shape=shape, dtype=dtype, path=path, trainable=trainable, location=location
        )
        ref = self.add(node, path, tensor)
        self._lifted_names.add(ref.name)
        if trainable:
            self.recording.origin[ref.name] = f"parameter {path!r}"
        elif self.paths.is_buffer(tensor):
            self.recording.buffers[ref.name] = path
        if tensor.grad_fn is not None:
            self.recording.poison[ref.name] = refusals.unrecorded_tensor(location_of(user_frame()))
        return ref

    def _refuse_kept(self, tensor: Tensor, ref: Ref) -> None:
        kept, site = self._kept.get(id(tensor), (None, ""))
        if kept is not None and kept() is tensor:
            self.recording.poison[ref.name] = refusals.kept_value(site, location_of(user_frame()))

    def origin_of(self, node_args: Arg) -> str | None:
        """The random variable or input on which these depend, in words."""
        return first_origin(self.recording.origin[n] for n in refs_in(node_args) if n in self.recording.origin)

    # -- torch calls ------------------------------------------------------------------------------------------

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if not self._paused and isinstance(func, HigherOrderOperator):
            raise CompileError(refusals.higher_order(func.name(), location_of(user_frame())))
        target, func, args, kwargs = public_call(func, args, kwargs)
        if self._device.type not in _RAISE and short_name(target or "") in INDEXED:
            with self._inside():
                _rehearse(func, args, kwargs)
        if self._paused or (target is None and not may_return_tensor(func)):
            with self._inside():
                return func(*args, **kwargs)
        if target is not None and short_name(target) in _METADATA_WORDS and not is_in_place(target):
            with self._inside():
                result = func(*args, **kwargs)
            if not isinstance(result, Tensor):
                self._judge.metadata_read(short_name(target), args, sys._getframe(1))
                return result
        else:
            result = None
        with self._inside():
            if self.on_random is not None and target is not None and target in self.random_calls:
                return self.on_random(func, target, args, kwargs)
            return self._record_call(func, target, args, kwargs, result)

    @contextmanager
    def _inside(self) -> Iterator[None]:
        self._in_call += 1
        try:
            yield
        finally:
            self._in_call -= 1

    @property
    def is_paused(self) -> bool:
        return self._paused

    def _record_call(
        self, func: Callable[..., Any], target: str | None, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any
    ) -> Any:
        try:
            node_args, node_kwargs = self.arg(args), self.arg(kwargs)
        except NotImplementedError:  # it has no memory of its own
            raise CompileError(_not_dense(func, target)) from None
        if target is not None and is_in_place(target) and args and isinstance(args[0], Tensor):
            self.remember(args[0])
        before = Before(args, kwargs)
        if result is None:
            result = func(*args, **kwargs)
            if target == "torch.Tensor.__getitem__" and len(refs_in(node_args)) > 1:
                result = result.clone()  # by an index of no dims it is a view, of which the place is a value
        if is_no_op(target):
            return result
        written = before.written() or unversioned_writes(target, args, kwargs)
        tensors = [leaf for leaf in leaves(plain(result)) if isinstance(leaf, Tensor)]
        if any(tensor.layout != torch.strided for tensor in tensors):
            raise CompileError(_not_dense(func, target))
        if not tensors and not written:
            self._judge.value_read(target or getattr(func, "__name__", "call"), (node_args, node_kwargs))
            return result
        if target in _FROM_NUMBERS and not refs_in((node_args, node_kwargs)):
            return result
        if not written and any(result is argument for argument in args):
            if isinstance(result, Tensor):
                self.name_variable(self.ref(result))
            return result  # nothing was done: contiguous() of what is contiguous
        frame = user_frame()
        if written:
            self._judge.statistics(target, written, frame)
            ref = self._write(target, args, kwargs, (node_args, node_kwargs), result, written, frame)
        else:
            if isinstance(result, Tensor) and args and isinstance(args[0], Tensor):
                earlier = self.values.source_of_view(args[0], result)
                node_args = (Ref(earlier), *node_args[1:]) if earlier else node_args
            ref = self._result(target or "", node_args, without_defaults(func, node_kwargs), result, frame)
        self.name_variable(ref)
        name = target or getattr(func, "__name__", repr(func))
        self._judge.call(ref, target, name, (node_args, node_kwargs), before, frame)
        if target is not None:
            self._judge.sizes(ref, target, args, kwargs, (node_args, node_kwargs), location_of(frame))
        return result

    def _result(self, target: str, args: Arg, kwargs: Arg, result: Any, frame: FrameType | None) -> Ref:
        last = target.rpartition(".")[2]
        cut = bool(refs_in(args[:1])) and refs_in(args[:1])[0] in self._cut
        if last in _SEEN_AGAIN and isinstance(result, Tensor) and (seen := self._seen(result, cut)):
            self.values.bind(result, seen.name)
            return Ref(seen.name)
        by_data = last == "data"
        if last in ("data", "__deepcopy__"):
            target, args, kwargs = "torch.Tensor.detach", args[:1], {}
        ref = self.call(target, args, kwargs, result, location_of(frame), called_for(frame))
        if by_data and calling_frame() is frame:
            self._by_data.add(ref.name)
        self.elements(ref, result, frame)
        return self.without_gradient(ref, result, frame)

    def _seen(self, view: Tensor, cut: bool) -> Alias | None:
        """The same memory, met before, and as far from its gradient."""
        seen = self.values.same_memory(view)
        return seen if seen is not None and (seen.name in self._cut) == cut else None

    def without_gradient(self, ref: Ref, result: Any, frame: FrameType | None) -> Ref:
        """Under ``no_grad`` the value carries no gradient."""
        if torch.is_grad_enabled() or not isinstance(result, Tensor) or not result.is_floating_point():
            return ref
        return self.call("torch.Tensor.detach", (ref,), {}, result, location_of(frame), called_for(frame))

    def elements(self, ref: Ref, result: Any, frame: FrameType | None) -> None:
        """A node for each tensor of a tuple or list."""
        if isinstance(result, Tensor) or not isinstance(result, tuple | list):
            return
        for index, element in enumerate(result):
            if isinstance(element, Tensor | tuple | list):
                if isinstance(element, Tensor) and self.values.holds(element):
                    continue  # an argument, returned as it is
                seen = self._seen(element, ref.name in self._cut) if isinstance(element, Tensor) else None
                if isinstance(element, Tensor) and seen is not None and _is_view(ref, self):
                    self.values.bind(element, seen.name)
                    continue
                hint = called_for(frame, index) or self.recording.hints[ref.name]
                inner = self.call("getitem", (ref, index), {}, element, location_of(frame), hint)
                if calling_frame() is frame:
                    self.call_as(inner.name, called_for(frame, index) or variable_of(frame), frame)
                self.elements(inner, element, None)
                self.without_gradient(inner, element, frame)

    # -- writes -----------------------------------------------------------------------------------------------

    def _write(
        self,
        target: str | None,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        node_arguments: tuple[Arg, Arg],
        result: Any,
        written: list[Tensor],
        frame: FrameType | None,
    ) -> Ref:
        """A call that wrote into its arguments, as one that returns what it wrote."""
        location = location_of(frame)
        node_args, node_kwargs = node_arguments
        if short_name(target or "") not in ("zero", "fill") and any(map(shows_twice, written)):
            self.recording.errors.append(refusals.overlapping_write(location))
        if target is not None and is_in_place(target) and args and is_among(args[0], written):
            copied = self._whole_copy(target, args, node_args)
            spelled, node_args = copied or self._masked_write(target, node_args) or functional(target, node_args)
            ref = self.call(spelled, node_args, node_kwargs, None, location)
            if variable := self.variable_for(args[0]):
                self.recording.variables.setdefault(ref.name, variable)
            if target.endswith(".copy_") and isinstance(source := node_arguments[0][1], Ref):
                self.call_as(source.name, variable_of(frame), None)  # of `x[:, t] = ...` in an exported program
            self.retype(args[0])
            self.written(args[0], ref, replaced=target == "torch.Tensor.data.__set__")
            return ref
        node_kwargs = {key: value for key, value in node_kwargs.items() if key not in ("out", "inplace")}
        outputs = list(result) if isinstance(result, tuple | list) else [result]
        is_hidden = not all(is_among(output, written) for output in outputs)
        made = result if is_hidden else None
        ref = self.call(target or "", node_args, node_kwargs, made, location, called_for(frame))
        if is_hidden:
            self._hidden_write(ref, target, written, result, frame)
        elif isinstance(result, Tensor):
            self.retype(result)
            self.written(result, ref)
        else:
            for index, output in enumerate(outputs):
                self.written(output, self.call("getitem", (ref, index), {}, None, location))
                self.retype(output)
        return ref

    def _whole_copy(self, target: str, args: tuple[Any, ...], node_args: Arg) -> tuple[str, Arg] | None:
        """``a.copy_(b)`` of tensors of one type: nothing of ``a`` is left, if it is no part of another."""
        match args:
            case (Tensor() as a, Tensor() as b) if target.endswith(".copy_") and type_of(a) == type_of(b):
                root = self.values.root(a)
                is_whole = a.device == b.device and (root is None or root.tensor is a)
                return ("identity", node_args[1:]) if is_whole else None
            case _:
                return None

    def _masked_write(self, target: str, node_args: Arg) -> tuple[str, Arg] | None:
        """``a[mask] = b[mask]`` of tensors of one type: a choice between them, whatever the mask selects."""
        match node_args:
            case (Ref() as a, Ref() as mask, Ref() as selected) if target.endswith("__setitem__"):
                value = self.node(selected)
            case _:
                return None
        if not isinstance(value, Call) or not value.target_name.endswith("__getitem__") or value.args[1:] != (mask,):
            return None
        ours, theirs, of_mask = (self.node(ref) for ref in (a, value.args[0], mask))
        if of_mask.dtype != torch.bool or not of_mask.shape == ours.shape == theirs.shape or ours.dtype != theirs.dtype:
            return None
        return "torch.where", (mask, value.args[0], a)

    def node(self, ref: Ref) -> Node:
        return self.recording.nodes[self._places[ref.name]]

    def _hidden_write(
        self, ref: Ref, target: str | None, written: list[Tensor], result: Any, frame: FrameType | None
    ) -> None:
        """The result is as always; what was written beside it must not be read again."""
        location = location_of(frame)
        for tensor in written:
            lost = self.call("identity", (self.ref(tensor),), {}, None, location)
            self.retype(tensor)
            self.recording.poison[lost.name] = refusals.hidden_write(target or "this call", location)
            self.written(tensor, lost, by_user=False)
        self.elements(ref, result, frame)

    def replace(self, node: Node) -> None:
        """The node of that name is this one."""
        self.recording.nodes[self._places[node.name]] = node

    def retype(self, tensor: Tensor) -> None:
        """The node just added has the type of ``tensor``."""
        shape, dtype = type_of(tensor)
        self.recording.nodes[-1] = replace(self.recording.nodes[-1], shape=shape, dtype=dtype)

    def written(self, tensor: Tensor, ref: Ref, by_user: bool = True, replaced: bool = False) -> None:
        """``tensor`` was overwritten by the value of ``ref``, in place; so were the views of its memory.

        Args:
            by_user: no, where a site writes what it drew into the data.
            replaced: is it memory of another tensor now, as after ``x.data = y``?
        """
        with torch._C.DisableTorchFunction():
            if self._lent and (key := memory_key(tensor)) in self._lent:
                self._lent[key] = (_content(tensor), self._lent[key][1])
        root, alias = self.values.root(tensor), self.values.find(tensor)
        if by_user:
            self._judge.write(tensor if root is None or replaced else root.tensor)
        seen = not by_user or torch.is_grad_enabled()  # by autograd
        cut = self._cut_off(alias, root) if by_user and alias is not None else None
        if not seen and cut is None and alias is not None:
            ref = self._unseen_write(Ref(alias.name), ref, tensor)
        if replaced or cut in self._by_data:
            self.recording.poison[ref.name] = refusals.gradient_write(location_of(user_frame()))
        root_name = None
        if root is not None and root.tensor is not tensor:
            whole = self.ref(root.tensor)
            args = (whole, ref, tuple(tensor.shape), tuple(tensor.stride()), tensor.storage_offset())
            assigned = self._assignment(whole, ref, alias.name, root) if alias is not None else None
            made = Ref(self._unbound_call(*(assigned or (WRITE_VIEW, args)), root.tensor))
            if ref.name in self.recording.poison:
                self.recording.poison[made.name] = self.recording.poison[ref.name]
            elif root.tensor.dtype != tensor.dtype:
                self.recording.poison[made.name] = refusals.view_write(location_of(user_frame()))
            root_name = (self._unseen_write(whole, made, root.tensor) if cut or not seen else made).name
        self.values.write(tensor, ref.name, root_name)

    def _assignment(self, whole: Ref, ref: Ref, view: str, root: Alias) -> tuple[Formula, Arg] | None:
        """``whole[index] = value``, if that is what ``whole[index].copy_(value)``, or a draw, has made of the view."""
        made, value = self.node(ref), ref
        if isinstance(made, Call):
            if made.target != COPIED:
                return None
            view, value = made.args[0].name, made.args[1]
        index = self.node(Ref(view))
        if not isinstance(index, Call) or index.target != "torch.Tensor.__getitem__" or refs_in(index.args[1:]):
            return None
        if index.args[0].name not in {name for _, name in root.versions}:
            return None
        return SETITEM, (whole, index.args[1], value)

    def _cut_off(self, alias: Alias, root: Alias | None) -> str | None:
        """The node, if any, that cut the tensor, or what it is a view of, off from the gradient of its memory."""
        owners = {name for _, name in root.versions} if root is not None and root.tensor is not alias.tensor else set()
        name = alias.versions[0][1]
        while name not in owners and isinstance(node := self.node(Ref(name)), Call):
            if node.target == "torch.Tensor.detach":
                return name
            if not owners or not node.args or not isinstance(node.args[0], Ref):
                return None
            name = node.args[0].name
        return None

    def _unseen_write(self, before: Ref, after: Ref, tensor: Tensor) -> Ref:
        """The new value with the gradient of the old one."""
        if not tensor.is_floating_point():
            return after
        poison = self.recording.poison.get(after.name)
        if self.origin_of(before) is None:
            shape, dtype = type_of(tensor)
            node = Call(name=self.fresh_name(), target="torch.Tensor.detach", args=(after,), shape=shape, dtype=dtype)
            ref = self.add(node, "value")
        else:
            ref = Ref(self._unbound_call(WITH_GRADIENT_OF, (before, after), tensor))
        if poison is not None:
            self.recording.poison[ref.name] = poison
        return ref

    def remember(self, tensor: Tensor) -> None:
        """It is about to be written in place: a tensor of the user's is put back in the end."""
        root = self.values.root(tensor)
        alias = root if root is not None else self.values.find(tensor)
        if alias is not None and alias.versions[0][1] in self._lifted_names:
            self._before_write(alias.tensor)

    def _unbound_call(self, target: Formula, args: Arg, like: Tensor) -> str:
        shape, dtype = type_of(like)
        node = Call(name=self.fresh_name(), target=target, args=args, shape=shape, dtype=dtype)
        return self.add(node, target.name).name


_RAISE = ("cpu", "meta")
"""Devices on which a call raises what is wrong with its arguments."""


def _rehearse(func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """The call on the CPU, where an index out of range is an exception.

    On an accelerator it ends all work of the process, and recordings at other sizes and of other values may well
    have one.
    """
    with torch._C.DisableTorchFunction(), torch.no_grad(), torch.random.fork_rng(devices=[]):
        func(*map_arg(args, _on_cpu), **map_arg(kwargs, _on_cpu))


def _not_dense(func: Callable[..., Any], target: str | None) -> Diagnostic:
    name = target or getattr(func, "__name__", "call")
    return refusals.layout(f"{name} takes or returns", location_of(user_frame()))


def _on_cpu(leaf: Any) -> Any:
    return leaf.detach().to("cpu", copy=True) if isinstance(leaf, Tensor) else leaf


def _content(tensor: Tensor) -> Tensor:
    """A copy of the bytes of its whole memory."""
    return torch.empty(0, dtype=torch.uint8, device=tensor.device).set_(tensor.untyped_storage()).clone()


_METADATA_WORDS = frozenset(word.strip("_") for word in METADATA)
_FROM_NUMBERS = ("torch.tensor", "torch.as_tensor", "torch.asarray", "torch.from_numpy")


def _is_view(ref: Ref, recorder: Recorder) -> bool:
    node = recorder.node(ref)
    return isinstance(node, Call) and node.target_name.startswith("torch.") and _word(node.target_name) in _SEEN_AGAIN


def _word(target: str) -> str:
    return target.rpartition(".")[2]
