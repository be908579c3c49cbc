"""Programs of plain PyTorch: what torch's random functions and its distributions draw are random variables."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from types import FrameType
from typing import Any

import torch
from torch import Tensor

from dgmcompile.diagnostics import Location
from dgmcompile.frontends import refusals
from dgmcompile.frontends.distributions import ConstructorCalls, event_dim_of, methods_of_distributions
from dgmcompile.frontends.libraries import in_torch_or_pyro, is_library
from dgmcompile.frontends.marks import marked_by
from dgmcompile.frontends.module_calls import ModuleCalls
from dgmcompile.frontends.outputs import OUTPUT, add_outputs, deterministic
from dgmcompile.frontends.random_calls import (
    COMPOSED_CALLS,
    DROPOUT_CALLS,
    NOISE,
    RANDOM_CALLS,
    RandomLaw,
    law_of,
    written_by,
)
from dgmcompile.frontends.record import Recorder
from dgmcompile.frontends.samplers import nothing_kept
from dgmcompile.frontends.source import library_call, location_of, user_frame, variable_around, variable_of
from dgmcompile.ir.graph import Law, Node, Noise, Sample, Site


class DrawRecorder:
    """Records each draw as a `Noise` or a `Sample`, which have no site yet, in the order in which they are drawn.

    Args:
        names: path of a submodule -> what the variable is called that it returns.
        share_dropout: is dropout noise as well?
    """

    def __init__(
        self,
        recorder: Recorder,
        modules: ModuleCalls,
        calls: ConstructorCalls,
        names: Mapping[str, str],
        share_dropout: bool,
    ) -> None:
        self._recorder = recorder
        self._composed = {**COMPOSED_CALLS, **(DROPOUT_CALLS if share_dropout else {})}
        recorder.random_calls = {*RANDOM_CALLS, *self._composed}
        self._modules = modules
        self._calls = calls
        self._names = names
        self.named: set[str] = set()
        """The submodules among ``names`` that were called."""
        self._places: dict[int, Location | None] = {}
        self._drawing = False
        self.marks_targets = False
        """Does the program say which its targets are?"""

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Random functions, ``sample`` and ``rsample`` of distributions, and marks are seen while inside."""
        self._recorder.on_random = self._random_call
        self._modules.on_result = self._module_called if self._names else None
        drawing = dict.fromkeys(("sample", "rsample", "sample_n"), self._sample)
        methods = {"__init__": self._initialise, **drawing}
        with methods_of_distributions(methods), marked_by(self._mark_site, self._mark_target):
            yield

    def _initialise(
        self, original: Callable[..., None], distribution: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        self._calls.initialise(original, distribution, args, kwargs)
        self._places[id(distribution)] = location_of(user_frame())

    def _random_call(self, func: Callable[..., Any], target: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if (composed := self._composed.get(target)) is not None:
            self._recorder.in_composed = True
            try:
                with self._recorder:
                    return composed(partial(self._part, target), *args, **kwargs)
            finally:
                self._recorder.in_composed = False
        drawn, written = law_of(target, args, kwargs), written_by(target, args, kwargs)
        if written is not None:
            self._recorder.remember(written)
        law = self._law(drawn)
        with self._judged(target, kwargs.get("generator")):
            value = func(*args, **kwargs)
            self._add(replace(law, shape=tuple(value.shape)), value, target, in_place=written is not None)
        return value

    @contextmanager
    def _judged(self, drawn_by: str, generator: torch.Generator | None = None) -> Iterator[None]:
        """A draw, made while inside. A generator in a state in which it was before gives the same numbers again."""
        recording, location = self._recorder.recording, location_of(user_frame())
        before = _state_of(generator)
        yield
        if before == _state_of(generator):  # nothing was drawn: there is no element, or it is another device's
            return
        if before in recording.generator_states:
            recording.poison[recording.draws[-1]] = refusals.fixed_random(drawn_by, location)
        recording.generator_states[before] = (drawn_by, location)

    def _part(self, target: str, drawn: RandomLaw, draw: Callable[[], Tensor]) -> Tensor:
        """A draw that a function makes something of."""
        with self._judged(target):
            with self._recorder.paused():
                value = draw()
            node = self._add(replace(self._law(drawn), shape=tuple(value.shape)), value, target)
        if target in DROPOUT_CALLS:
            self._recorder.recording.hints[node.name] = "dropout"
            self._recorder.recording.dropouts.add(node.name)
        return value

    def _law(self, drawn: RandomLaw) -> Law:
        return Law(family=drawn.family, params=self._recorder.arg(dict(drawn.params)), event_dim=drawn.event_dim)

    def _sample(
        self, original: Callable[..., Tensor], distribution: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Tensor:
        """``distribution.sample(...)``, where the program itself asks for it."""
        if self._drawing or self._recorder.is_paused or not _is_by_program(sys._getframe(2)):
            return original(distribution, *args, **kwargs)
        return self._drawn(distribution, lambda: original(distribution, *args, **kwargs))[0]

    def _drawn(self, distribution: Any, draw: Callable[[], Tensor]) -> tuple[Tensor, Node]:
        family = type(distribution).__name__
        made = self._places.get(id(self._calls.original(distribution)))
        location = location_of(user_frame()) or made  # a law that is returned is drawn outside of the program
        with self._judged(f"{family}.sample"):
            self._drawing = True
            try:
                with self._recorder.paused(), nothing_kept(distribution):
                    value = draw().clone()
                found = self._calls.unwrapped(distribution, family, location, tuple(value.shape))
            finally:
                self._drawing = False
            law = replace(found.law, event_dim=event_dim_of(distribution), shape=tuple(value.shape))
            return value, self._add(law, value, f"{family}.sample", location=location)

    def _add(
        self, law: Law, value: Tensor, drawn_by: str, in_place: bool = False, location: Location | None = None
    ) -> Node:
        recorder, frame = self._recorder, user_frame()
        variable, location = variable_of(frame), location or location_of(frame)
        if in_place and not variable:
            variable = recorder.variable_for(value)
        node = _node(law, value, recorder.fresh_name(), location)
        ref = recorder.add(node, variable, None if in_place else value)
        recorder.call_as(node.name, variable, frame)
        around = variable_around(frame)
        recorder.recording.around[node.name] = OUTPUT if around is None else around
        if in_place:
            recorder.written(value, ref)
        recorder.recording.draws.append(node.name)
        by = "draw" if library_call() is None else "library draw"
        recorder.recording.origin[node.name] = f"{by} {variable or drawn_by!r}"
        recorder.recording.strays[node.name] = refusals.beside_sites(drawn_by, location)
        return node

    def _module_called(self, path: str, result: Any) -> Any:
        """What a submodule returned is a site, if it is among the names."""
        if path not in self._names or not isinstance(result, Tensor):
            return result
        self.named.add(path)
        return self._mark_site(self._names[path], result)

    def finish(self, result: Any) -> None:
        """What the program returned are its targets, unless it marked some."""
        if not self.marks_targets:
            add_outputs(self._recorder, result, self._mark_target)

    # -- marks ------------------------------------------------------------------------------------------------

    def _mark_site(self, name: str, value: Tensor) -> Tensor:
        """The value from now on is that of a site, which a draw becomes if the value is one."""
        with self._recorder.paused():
            seen = value.view_as(value)
        self._recorder.add(deterministic(self._recorder, name, "latent", value), name, seen)
        return seen

    def _mark_target(self, name: str, distribution: Any) -> Tensor:
        value, node = self._drawn(distribution, distribution.sample)
        assert isinstance(node, Sample)
        self._recorder.replace(replace(node, site=Site(name, "target", node.family)))
        self.marks_targets = True
        return value


def _state_of(generator: torch.Generator | None) -> int:
    """A number for the state of this one, or of the default one; the same for all states of another device's."""
    generator = generator or torch.default_generator
    return hash(generator.get_state().numpy().tobytes()) if generator.device.type == "cpu" else 0


def _is_by_program(frame: FrameType | None) -> bool:
    """Does the program itself ask for the draw, and no library on its behalf?"""
    if frame is not None and frame.f_code.co_name == "__call__" and in_torch_or_pyro(frame):
        frame = frame.f_back
    return frame is not None and not is_library(frame.f_code.co_filename)


def _node(law: Law, value: Tensor, name: str, location: Location | None) -> Node:
    made: dict[str, Any] = {
        "name": name,
        "shape": law.shape,
        "dtype": value.dtype,
        "location": location,
    }
    if law.family in NOISE:
        return Noise(law=law.family, **made)
    return Sample(family=law.family, params=law.params, transforms=law.transforms, event_dim=law.event_dim, **made)
