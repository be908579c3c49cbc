"""What a recorded call shows of the program that no graph can hold: each makes a refusal, or a warning."""

from __future__ import annotations

from dataclasses import replace
from types import FrameType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from dgmcompile.diagnostics import Diagnostic, Location
from dgmcompile.frontends import refusals
from dgmcompile.frontends.calls import Before, in_autocast, is_literal
from dgmcompile.frontends.libraries import in_torch_or_pyro, is_library, is_users
from dgmcompile.frontends.reads import is_harmless, use_of
from dgmcompile.frontends.source import calling_frame, in_expand, location_of, user_frame, users_location
from dgmcompile.frontends.targets import (
    DROPOUTS,
    DTYPE_READS,
    SIZE_READS,
    TAKEN_APART,
    is_normalisation,
    short_name,
    slice_bounds,
    value_shaped,
    whole_numbers,
)
from dgmcompile.ir.graph import Arg, Ref, leaves, refs_in

if TYPE_CHECKING:
    from dgmcompile.frontends.record import Recorder


class Judge:
    """Judges the calls of one recording, as they are made."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._recording = recorder.recording

    def value_read(self, target: str, node_args: Arg) -> None:
        """A value leaves torch: harmless unless it depends on a random variable, an input or a parameter."""
        frame, word = user_frame(), target.rpartition(".")[2]
        if self._recorder.in_constructor or is_harmless(calling_frame()) or is_harmless(frame) or in_expand():
            return
        if word in (refusals.MEMORY | refusals.GRADIENT) and in_torch_or_pyro(calling_frame()):
            return  # it asks where a tensor lies, or looks for nan in gradients
        origin, location = self._recorder.origin_of(node_args), location_of(frame)
        if origin is not None:
            refusal = refusals.value_read(word, origin, location, use_of(frame))
            self._recording.errors.append(_with_users_place(refusal))
            return
        if word in refusals.MEMORY:
            self._recorder.lend(node_args, location)
        by_name = {ref: self._recording.buffers[ref] for ref in refs_in(node_args) if ref in self._recording.buffers}
        for path in by_name.values():
            self._recording.warnings.append(refusals.frozen_buffer(path, word, location))

    def metadata_read(self, word: str, args: tuple[Any, ...], frame: FrameType) -> None:
        """A property of a tensor is asked for that is none of its values."""
        if word in DTYPE_READS and not is_library(frame.f_code.co_filename):
            self._recording.asks_dtype = True
        self._size_read(word, args)

    def _size_read(self, word: str, args: tuple[Any, ...]) -> None:
        """A size is asked for: the value of a random variable, where the tensor is as long as that says."""
        if not self._recording.shaped or word not in SIZE_READS or self._recorder.in_constructor:
            return
        for tensor in args[:1]:
            alias = self._recorder.values.find(tensor) if isinstance(tensor, Tensor) else None
            if alias is None or alias.name not in self._recording.shaped:
                continue
            if not is_harmless(user_frame()) and not in_expand():
                self._recording.errors.append(self._recording.shaped[alias.name])

    def call(
        self,
        ref: Ref,
        target: str | None,
        name: str,
        arguments: tuple[Arg, Arg],
        before: Before,
        frame: FrameType | None,
    ) -> None:
        """What makes a node unfit to be kept."""
        location, literals = location_of(frame), leaves(arguments)
        refused = None
        drew = before.drew() or any(isinstance(leaf, torch.Generator) for leaf in literals)
        if drew and short_name(name) in DROPOUTS:
            self._recording.strays[ref.name] = refusals.beside_sites(name, location)
            self._recording.warnings_if_plain.append(refusals.random_call(name, location))
        elif drew:
            is_plain = self._recorder.on_random is not None or short_name(name) == "randperm"
            refused = (refusals.stray_random if is_plain else refusals.beside_sites)(name, location)
            self._recording.origin.setdefault(ref.name, f"draw {name!r}")
        elif name in refusals.GRADIENT:
            refused = refusals.gradient_call(name, location)
        elif target is None:
            refused = refusals.unknown_call(name, location)
        elif strange := [leaf for leaf in literals if not is_literal(leaf)]:
            refused = refusals.unknown_literal(name, type(strange[0]).__name__, location)
        elif in_autocast():
            refused = refusals.autocast(location)
        if refused is not None:
            self._recording.poison[ref.name] = refused

    def sizes(
        self,
        ref: Ref,
        target: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        arguments: tuple[Arg, Arg],
        location: Location | None,
    ) -> None:
        """Values that decide how many elements there are."""
        recorder, recording, refused = self._recorder, self._recording, None
        if (origin := recorder.origin_of(recorder.arg(slice_bounds(target, args)))) is not None:
            refused = refusals.value_slice(origin, location)
        elif (origin := recorder.origin_of(recorder.arg(whole_numbers(target, args, kwargs)))) is not None:
            refused = refusals.value_size(target, origin, location)
        elif value_shaped(target, args, kwargs) and (origin := recorder.origin_of(_shaping(target, arguments))):
            refused = refusals.value_shape(target, origin, location)
        if refused is not None:
            recording.poison.setdefault(ref.name, refused)
            recording.shaped[ref.name] = refused
        elif target.rpartition(".")[2] in TAKEN_APART and ref.name in recording.shaped and not in_expand():
            recording.errors.append(recording.shaped[ref.name])

    def statistics(self, target: str | None, written: list[Tensor], frame: FrameType | None) -> None:
        """A normalisation that is called by itself moves running statistics, in a mode that is part of the call."""
        if is_normalisation(target):
            path, _ = self._recorder.paths.of_tensor(written[0])
            self._recording.warnings.append(refusals.moving_statistics(path or "", location_of(frame)))

    def write(self, whole: Tensor) -> None:
        """Memory is written into, of which this is the whole."""
        path, _ = self._recorder.paths.of_tensor(whole)
        if path is not None:
            self._recording.state_writes.setdefault(path, refusals.state_write(path, location_of(user_frame())))


def _with_users_place(refusal: Diagnostic) -> Diagnostic:
    """Of what a package's code does: where the user's own has called it, and what can be done there."""
    if refusal.location is None or is_users(refusal.location.file) or (place := users_location()) is None:
        return refusal
    note = f"it is the code of a package, which is called at {place}"
    way_out = "choose arguments with which it does not ask, or call it outside of the model and pass what it returns"
    return replace(refusal, notes=(*refusal.notes, note), help=way_out)


def _shaping(target: str, arguments: tuple[Arg, Arg]) -> Arg:
    """Arguments on whose values the shape of the result depends."""
    args, kwargs = arguments
    return args[1:] if target.rpartition(".")[2] in ("__getitem__", "index") else (args, kwargs)
