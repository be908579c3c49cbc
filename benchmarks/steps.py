"""One loss step, forward and backward: emitted code, the same by Pyro handlers, and the floor by hand."""

from __future__ import annotations

import copy
import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

import dgmcompile as dgm
from benchmarks import by_hand
from benchmarks.by_handlers import loss_by_handlers, without_validation
from benchmarks.timing import medians, milliseconds

EXAMPLES = Path(__file__).parents[1] / "examples"
LATENT_WEIGHT = 0.1


@dataclass(frozen=True)
class Case:
    """A model at the size it is measured at; limits are on the ratios, as the project promises them.

    ``memory_format`` is that of the emitted code's weights; the other sides keep the default one.
    """

    name: str
    teacher: Any
    student: Any
    args: tuple[Tensor, ...]
    floor: Callable[..., Tensor]
    seconds: float
    most_of_floor: float | None = None
    least_over_handlers: float | None = None
    memory_format: torch.memory_format | None = None


def example(name: str) -> ModuleType:
    """The example's module."""
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def cases() -> list[Case]:
    """hvae at batch 64 in both memory formats, helmholtz on its 272 eruptions, a vrnn (30 steps, 64 units, batch 8)."""
    hvae, helmholtz, vrnn = example("hvae"), example("helmholtz"), example("vrnn")
    images = torch.zeros(64, 1, 32, 32)
    strokes = vrnn.example_inputs()[0].repeat(2, 1, 1)
    return [
        Case(
            "helmholtz", helmholtz.model, helmholtz.student, helmholtz.example_inputs(), by_hand.helmholtz, 6, 1.10, 2.3
        ),
        Case("vrnn", vrnn.VRNN("teacher", 64), vrnn.VRNN("student", 64), (strokes,), by_hand.vrnn, 12, None, 2.0),
        Case("hvae", hvae.model, hvae.student, (images,), by_hand.hvae, 40, 1.02),
        # the format that emitted files choose
        Case("hvae, chosen", hvae.model, hvae.student, (images,), by_hand.hvae, 40, 0.90, None, torch.channels_last),
    ]


def sides(case: Case, device: torch.device) -> dict[str, Callable[[], Tensor]]:
    """What is timed: each makes the loss from the same noise and takes its gradient."""
    teacher, student = case.teacher, case.student
    if case.memory_format is not None:
        teacher, student = copy.deepcopy((teacher, student))
    pair = dgm.pair(teacher, student, model_args=case.args)
    loss: Any = dgm.compile(pair, latent_weight=LATENT_WEIGHT, memory_format=case.memory_format)
    noise = loss.sample_noise(*case.args, generator=torch.Generator(device).manual_seed(0))
    noise = {**noise, **_unused_targets(case, noise)}

    def emitted() -> Tensor:
        return loss(*case.args, noise=noise).total

    def handlers() -> Tensor:
        with without_validation():
            return loss_by_handlers(case.teacher, case.student, case.args, noise, LATENT_WEIGHT)

    def floor() -> Tensor:
        return case.floor(case.teacher, case.student, case.args, noise, LATENT_WEIGHT)

    return {
        "emitted": step(emitted, student),
        "handlers": step(handlers, case.student),
        "by hand": step(floor, case.student),
    }


def _unused_targets(case: Case, noise: dict[str, Tensor]) -> dict[str, Tensor]:
    """Noise of targets that nothing reads: the handlers want to draw these as well."""
    graph = dgm.trace(case.teacher, case.args)
    module: Any = dgm.compile(graph)
    return {name: value for name, value in module.sample_noise(*case.args).items() if name not in noise}


def step(loss: Callable[[], Tensor], student: Any) -> Callable[[], Tensor]:
    def step() -> Tensor:
        student.zero_grad(set_to_none=True)
        total = loss()
        total.backward()
        if total.device.type != "cpu":
            torch.accelerator.synchronize()
        return total.detach()

    return step


def run(device: torch.device) -> None:
    """Print medians and ratios, and that all sides give the same loss."""
    print(f"{'loss step':13}{'emitted':>12}{'by hand':>12}{'handlers':>12}{'/ hand':>9}{'handl. /':>9}{'spread':>9}")
    with device:
        measured = cases()
    for case in measured:
        timed = sides(case, device)
        values = [float(side()) for side in timed.values()]
        found = medians(timed, seconds=case.seconds)
        of_floor, over_handlers = found["emitted"] / found["by hand"], found["handlers"] / found["emitted"]
        spread = (max(values) - min(values)) / abs(values[0])
        times = "".join(f"{milliseconds(found[side]):>12}" for side in ("emitted", "by hand", "handlers"))
        print(f"{case.name:13}{times}{of_floor:9.2f}{over_handlers:9.2f}{spread:9.0e}", flush=True)
        for text, kept in _promises(case, of_floor, over_handlers):
            print(f"{'':13}{'kept' if kept else 'NOT kept'}: {text}")


def _promises(case: Case, of_floor: float, over_handlers: float) -> list[tuple[str, bool]]:
    found: list[tuple[str, bool]] = []
    if case.most_of_floor is not None:
        found.append((f"at most {case.most_of_floor:.2f} times the floor", of_floor <= case.most_of_floor))
    if case.least_over_handlers is not None:
        text = f"at least {case.least_over_handlers:.1f} times faster than handlers"
        found.append((text, over_handlers >= case.least_over_handlers))
    return found
