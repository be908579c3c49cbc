"""The original program, run with the values that the compiled form drew."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from pyro.distributions.util import scale_and_mask
from pyro.poutine.messenger import Messenger
from torch import Tensor

from dgmcompile.diagnostics import CompileError
from dgmcompile.frontends.calls import is_expanded
from dgmcompile.frontends.distributions import ConstructorCalls
from dgmcompile.frontends.modules import ModulePaths
from dgmcompile.frontends.pyro import broadcast_replayed, hidden_draws
from dgmcompile.frontends.state import UserState, seed_everything
from dgmcompile.ir.graph import Law


@dataclass(frozen=True)
class Replayed:
    """A site of the original program, at the compiled form's value.

    ``law`` is None where it is deterministic, ``log_prob`` where the program itself cannot tell it, as without an
    inverse; ``failed`` is what it raises where it fails otherwise.
    """

    value: Tensor
    law: Law | None = None
    log_prob: Tensor | None = None
    distribution: Any = None
    classes: Mapping[str, type] = field(default_factory=dict[str, type])
    failed: str = ""


class Given:
    """Stands in for the recorder: values stay values."""

    in_constructor = 0

    def arg(self, value: Any) -> Any:
        return value


class _Replay(Messenger):
    """Gives every site the compiled form's value; observed tensors are overwritten, so that later reads agree."""

    def __init__(
        self, random: set[str], values: Mapping[str, Tensor], calls: ConstructorCalls, state: UserState
    ) -> None:
        super().__init__()
        self._random, self._values, self._calls, self._state = random, values, calls, state
        self._grad = torch.is_grad_enabled()  # a program may run under no_grad; its densities are asked for outside
        self.sites: dict[str, Replayed] = {}

    def _pyro_sample(self, msg: Any) -> None:
        name = msg["name"]
        if type(msg["fn"]).__name__ == "_Subsample":
            return
        broadcast_replayed(msg)
        if name not in self._random and (msg["infer"].get("_deterministic") or name in self._values):
            if msg["value"] is None:
                msg["value"], msg["done"] = msg["fn"](), True
            self.sites[name] = Replayed(msg["value"])
            return
        value = self._values[name]
        observed = msg["value"] if msg["is_observed"] else None
        with torch.set_grad_enabled(self._grad):
            msg["value"], msg["done"] = value.clone(), True  # into which the program may write
        log_prob, failed = self._log_prob(msg, value)
        law = self._calls.unwrapped(msg["fn"], name, None).law
        law = law.map_leaves(lambda leaf: leaf.clone() if isinstance(leaf, Tensor) else leaf)  # as they are now
        self.sites[name] = Replayed(value, law, log_prob, msg["fn"], self._calls.classes, failed)
        if isinstance(observed, Tensor) and observed.shape == value.shape and not is_expanded(observed):
            self._state.remember_tensor(observed)
            if not torch.equal(observed, value):
                observed.data.copy_(value.detach())

    def _log_prob(self, msg: Any, value: Tensor) -> tuple[Tensor | None, str]:
        """The site's, if the program can tell it, and what it raises if it fails."""
        try:
            with torch.set_grad_enabled(self._grad):
                return scale_and_mask(msg["fn"].log_prob(value), msg["scale"], msg["mask"]), ""
        except (KeyError, NotImplementedError):  # a step without an inverse
            return None, ""
        except CompileError:
            raise
        except Exception as error:
            return None, f"{type(error).__name__}: {error}".splitlines()[0]

    def hidden(self, msg: Any) -> None:
        """A draw that `hidden_draws` found; nothing reads those that the graph does not have."""
        if msg["name"] in self._values:
            self._pyro_sample(msg)


def run_with(
    model: Callable[..., Any],
    args: list[Any],
    kwargs: dict[str, Any],
    random: set[str],
    values: Mapping[str, Tensor],
    state: UserState,
    seed: int,
) -> dict[str, Replayed]:
    """The sites of the program, of which the ``random`` ones have the given ``values``."""
    calls = ConstructorCalls(Given(), lambda *_: ())  # type: ignore[arg-type]
    paths = ModulePaths(model)
    state.remember(paths.modules())
    handler = _Replay(random, values, calls, state)
    seed_everything(seed)
    with calls.watched(), handler, hidden_draws(handler.hidden):
        model(*args, **kwargs)
    return handler.sites
