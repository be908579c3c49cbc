"""What a run of the user's program may change, put back afterwards."""

from __future__ import annotations

import pickle
import random
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from copy import copy, deepcopy
from importlib import import_module
from operator import is_
from typing import Any, cast

import numpy as np
import pyro
import torch
from pyro.params.param_store import ParamStoreDict
from torch import nn

_functorch: Any = import_module("torch._C._functorch")


class ModuleState:
    """A module's attributes, with what these hold, parameters and buffers as they were when it was first seen."""

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self._class = type(module)  # a lazy module is of another one once it has run
        self._attributes = dict(module.__dict__)
        self._containers = [(held, copy(held)) for held in containers_in(vars(module).values())]
        self._values = [
            (tensor, tensor.detach().clone())
            for tensor in (*module._buffers.values(), *module._parameters.values())
            if tensor is not None and not nn.parameter.is_lazy(tensor)
        ]

    def restore(self) -> None:
        self._module.__class__ = self._class
        vars(self._module).update(self._attributes)
        for name in set(vars(self._module)) - set(self._attributes):
            del vars(self._module)[name]
        for live, before in self._containers:
            if not _is_same(live, before):
                live.clear()
                live.extend(before) if isinstance(live, list) else live.update(before)
        for tensor, value in self._values:
            if not torch.equal(tensor, value):  # statistics are written past the version counter
                with torch.no_grad():
                    tensor.copy_(value)


def containers_in(values: Iterable[Any]) -> Iterator[Any]:
    """The dicts, lists and sets among them, and inside of these."""
    todo, seen = list(values), set[int]()
    while todo:
        held = todo.pop()
        if isinstance(held, dict | list | set) and id(held) not in seen:
            seen.add(id(held))
            yield held
            todo += cast("Iterable[Any]", held.values() if isinstance(held, dict) else held)


def _is_same(live: Any, before: Any) -> bool:
    """Does it hold the same things?"""
    if isinstance(live, dict):
        return live.keys() == before.keys() and all(live[key] is value for key, value in before.items())
    if isinstance(live, list):
        return len(live) == len(before) and all(map(is_, live, before))
    return live == before


class UserState:
    """RNG states, Pyro's parameter store and handlers, gradient mode, and the modules that are named."""

    def __init__(self) -> None:
        self._modules: dict[int, tuple[nn.Module, ModuleState]] = {}
        self._tensors: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        self._generators: list[tuple[Any, Any]] = []

    def remember(self, modules: Iterable[nn.Module]) -> None:
        """Put these modules back at the end; one that is known keeps its first state."""
        for module in modules:
            if id(module) not in self._modules:
                self._modules[id(module)] = (module, ModuleState(module))

    def remember_generators(self, generators: Iterable[Any]) -> None:
        """Put these, of Python or NumPy, back to where they stand."""
        self._generators += [(held, deepcopy(held)) for held in generators]

    def remember_tensor(self, tensor: torch.Tensor) -> None:
        """Put the values of ``tensor`` back at the end."""
        self._tensors.setdefault(id(tensor), (tensor, tensor.detach().clone()))

    def restore(self) -> None:
        with torch.no_grad():
            for tensor, value in self._tensors.values():
                if not torch.equal(tensor, value):  # one that shows its memory several times takes no copy
                    tensor.copy_(value)
        for held, before in self._generators:
            if isinstance(held, np.random.Generator):
                held.bit_generator.state = before.bit_generator.state
            elif isinstance(held, np.random.RandomState):
                held.set_state(before.get_state())
            else:
                held.setstate(before.getstate())
        for _, state in self._modules.values():  # whose buffers were remembered before anything ran
            state.restore()


def eager() -> AbstractContextManager[Any]:
    """What torch.compile made is the program's own code again, while inside."""
    loaded = "torch._dynamo" in sys.modules  # nothing is compiled yet where it is not, and to load it takes a second
    return torch.compiler.set_stance("force_eager") if loaded else nullcontext()


_ENDED = {
    _functorch.TransformType.Vmap: _functorch._vmap_decrement_nesting,
    _functorch.TransformType.Grad: _functorch._grad_decrement_nesting,
    _functorch.TransformType.Jvp: _functorch._jvp_decrement_nesting,
    _functorch.TransformType.Functionalize: _functorch._func_decrement_nesting,
}


@contextmanager
def transforms_ended() -> Iterator[None]:
    """Transforms of ``torch.func`` that a program has begun when it raises are over afterwards."""
    before = _open_transforms()
    try:
        yield
    finally:
        while len(stack := _open_transforms()) > len(before):
            _ENDED[stack[-1].key()]()


def _open_transforms() -> list[Any]:
    return _functorch.get_interpreter_stack() or []


@contextmanager
def preserved() -> Iterator[UserState]:
    """Run the body without a trace of it: see `UserState`."""
    state = UserState()
    torch_state = torch.get_rng_state()
    cuda_states = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    python_state, numpy_state = random.getstate(), np.random.get_state()
    store = pyro.get_param_store()
    tables = _store_tables(store)
    notes = [(vars(parameter), dict(vars(parameter))) for parameter in store._params.values()]
    handlers = list(pyro.poutine.runtime._PYRO_STACK)
    pyro.poutine.runtime._PYRO_STACK.clear()
    try:
        with transforms_ended(), pyro.validation_enabled(False), torch.enable_grad(), _without_autocast():
            yield state
    finally:
        state.restore()
        pyro.poutine.runtime._PYRO_STACK[:] = handlers
        for table, content in (*tables, *notes):  # a plate notes on a parameter which part of it was used
            table.clear()
            table.update(content)
        torch.set_rng_state(torch_state)
        if cuda_states:
            torch.cuda.set_rng_state_all(cuda_states)
        random.setstate(python_state)
        np.random.set_state(numpy_state)


@contextmanager
def _without_autocast() -> Iterator[None]:
    """The caller's is for calls of the compiled form, which follows it."""
    with ExitStack() as entered:
        for device in ("cpu", "cuda"):
            if torch.is_autocast_enabled(device):
                entered.enter_context(torch.autocast(device, enabled=False))
        yield


def _store_tables(store: ParamStoreDict) -> list[tuple[Any, dict[Any, Any]]]:
    tables = (store._params, store._param_to_name, store._constraints)
    return [(table, dict(table)) for table in tables]


def seed_everything(seed: int) -> None:
    """Other random values at every run; inside `preserved` only."""
    if torch.accelerator.is_available():
        torch.manual_seed(seed)
    else:  # which would note, for the day when there is one, from where it was called
        torch.default_generator.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed % 2**32)


def foreign_states(own: Mapping[str, Any]) -> dict[str, Any]:
    """Where the generators stand that are not torch's, by their name; the program's ``own`` ones by its variables."""
    state: Any = np.random.get_state(legacy=False)
    known = {"Python": random.getstate(), "NumPy": (state["state"]["key"].tobytes(), state["state"]["pos"])}
    return known | {name: pickle.dumps(held) for name, held in own.items()}
