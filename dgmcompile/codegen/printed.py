# pyright: reportUnknownVariableType=false
"""Definitions that emitted files contain besides formulas; they read torch and nothing else."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class State(nn.Module):
    """Parameters, buffers and modules by name; constants are left out of the state dict."""

    __getattr__: Any  # type checkers do not see what is registered

    def __init__(self, constants: dict[str, Tensor] | None = None, /, **state: nn.Module | Tensor) -> None:
        super().__init__()
        for name, value in state.items():
            if isinstance(value, nn.Module):
                self.add_module(name, value)
            elif isinstance(value, nn.Parameter):
                self.register_parameter(name, value)
            else:
                self.register_buffer(name, value)
        for name, value in (constants or {}).items():
            self.register_buffer(name, value, persistent=False)


def load_weights(module: nn.Module, weights: Any, *, strict: bool = True) -> None:
    """Give ``module`` the values of a state dict, of a file of one, or of a file of Pyro's parameter store.

    Values of the parameter store are unconstrained, as they are here; a store may hold more than is read.
    Raises ValueError where a value is missing or, unless ``strict`` is False, where a state dict holds others.
    """
    saved: dict[str, Any] = weights if isinstance(weights, dict) else read_weights(weights)
    names = {name_in_program(module, name): name for name in module.state_dict()}
    is_store = set(saved) == {"params", "constraints"}
    state: dict[str, Any] = state_from_store(saved["params"], list(names)) if is_store else saved
    if missing := sorted(names.keys() - state.keys()):
        note = "; Pyro's parameter store holds no buffers, a state dict does" if is_store else ""
        raise ValueError(f"the weights lack {missing}{note}")
    others = sorted(name for name in state.keys() - names.keys() if not name.endswith("num_batches_tracked"))
    if strict and not is_store and others:
        raise ValueError(f"nothing here is named {others}; strict=False leaves them out")
    module.load_state_dict({ours: state[name] for name, ours in names.items()})


def name_in_program(module: nn.Module, name: str) -> str:
    """What the user's program calls the parameter or buffer ``name``."""
    table: dict[str, str] = getattr(module, "names_in_program", {})
    for ours, theirs in table.items():
        if name == ours or name.startswith(f"{ours}."):
            return theirs + name.removeprefix(ours)
    return name


def state_from_store(params: dict[str, Tensor], expected: list[str]) -> dict[str, Tensor]:
    """Values of Pyro's parameter store by the program's names: it writes ``module$$$weight`` for ``module.weight``."""
    state: dict[str, Tensor] = {}
    for name in expected:
        names = (name, name.removesuffix("_unconstrained"))  # as PyroModule calls it
        keys = [key for key in params if key.replace("$$$", ".") in names]
        keys = keys or [key for key in params if key.rpartition("$$$")[2] == name]
        if len(keys) > 1:
            raise ValueError(f"{name!r} may be any of {keys} in the parameter store; load a state dict instead")
        state.update((name, params[key].detach()) for key in keys)
    return state


def read_weights(path: Any) -> dict[str, Any]:
    """What ``torch.save`` wrote; nothing in the file is run, and the store's constraints are left empty."""
    constraints: list[Any] = []
    for name in torch.serialization.get_unsafe_globals_in_checkpoint(path):
        module, _, kind = name.rpartition(".")
        if module in ("torch.distributions.constraints", "pyro.distributions.constraints"):
            constraints.append(type(kind, (), {"__module__": module}))
    with torch.serialization.safe_globals(constraints):
        return torch.load(path, map_location="cpu", weights_only=True)
