"""One loss step of a sequence model, its loop rolled: emitted code, and by hand, as one writes it and optimised."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from benchmarks import by_hand
from benchmarks.by_handlers import loss_by_handlers, without_validation
from benchmarks.steps import LATENT_WEIGHT, example, step
from benchmarks.timing import medians, milliseconds
from dgmcompile import pipeline
from dgmcompile.distill.losses import LossOptions
from dgmcompile.distill.pair import pair_graphs
from dgmcompile.frontends.trace import trace

BATCH, STEPS = 32, 100


@dataclass(frozen=True)
class Case:
    """Units of the teacher's and of the student's LSTM; limits are on the ratios, as the project promises them."""

    teacher: int
    student: int
    seconds: float
    least_over_hand: float | None = None
    least_over_handlers: float | None = None


CASES = (Case(64, 64, 30, None, 3.0), Case(600, 600, 60, 1.9), Case(1200, 600, 90, 1.4))
MOST_OF_OPTIMISED = 1.05


def sides(case: Case, device: torch.device) -> dict[str, Callable[[], Tensor]]:
    """What is timed: each makes the loss from the same noise and takes its gradient."""
    vrnn = example("vrnn")
    with device:
        teacher, student = vrnn.VRNN("teacher", case.teacher), vrnn.VRNN("student", case.student)
        strokes = torch.randn(BATCH, STEPS, 3)
    strokes[..., 0] = (strokes[..., 0] > 0).to(strokes)
    pair = pair_graphs(trace(teacher, (strokes,), roll=True, eval_mode=True), trace(student, (strokes,), roll=True))
    loss: Any = pipeline.compiled(pair, LossOptions(latent_weight=LATENT_WEIGHT))
    noise = loss.sample_noise(strokes, generator=torch.Generator(device).manual_seed(0))
    by_step = {f"{name.removesuffix('_noise')}_{t}_noise": e for name in noise for t, e in enumerate(noise[name])}
    given = teacher, student, (strokes,)

    def handlers() -> Tensor:
        with without_validation():
            return loss_by_handlers(*given, by_step, LATENT_WEIGHT)

    losses: dict[str, Callable[[], Tensor]] = {
        "emitted": lambda: loss(strokes, noise=noise).total,
        "by hand": lambda: by_hand.vrnn(*given, by_step, LATENT_WEIGHT),
        "optimised": lambda: by_hand.vrnn_hoisted(*given, noise, LATENT_WEIGHT),
    }
    if case.least_over_handlers is not None:
        losses["handlers"] = handlers
    return {name: step(side, student) for name, side in losses.items()}


def run(device: torch.device) -> None:
    """Print medians and ratios, and that all sides give the same loss."""
    print(f"{'sequences':13}{'emitted':>12}{'by hand':>12}{'optimised':>12}{'handlers':>12}{'spread':>9}")
    for case in CASES:
        timed = sides(case, device)
        values = [float(side()) for side in timed.values()]
        spread = (max(values) - min(values)) / abs(values[0])
        found = medians(timed, seconds=case.seconds, at_least=5)
        columns = ("emitted", "by hand", "optimised", "handlers")
        times = "".join(f"{milliseconds(found[side]) if side in found else '':>12}" for side in columns)
        print(f"{f'{case.teacher} -> {case.student}':13}{times}{spread:9.0e}", flush=True)
        for text, kept in _promises(case, found):
            print(f"{'':13}{'kept' if kept else 'NOT kept'}: {text}")


def _promises(case: Case, found: dict[str, float]) -> list[tuple[str, bool]]:
    ours = found["emitted"]
    of_optimised = ours / found["optimised"]
    promised = [
        (f"{of_optimised:.2f} times the optimised, at most {MOST_OF_OPTIMISED}", of_optimised <= MOST_OF_OPTIMISED)
    ]
    for side, least in (("by hand", case.least_over_hand), ("handlers", case.least_over_handlers)):
        times = found[side] / ours if side in found else 0.0
        if least is not None:
            promised.append((f"{times:.2f} times faster than {side}, at least {least}", times >= least))
    return promised
