"""One loss step of plain PyTorch models, forward and backward: emitted code, and the loss as people write it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import dgmcompile as dgm
from benchmarks.steps import example, step
from benchmarks.timing import medians, milliseconds

MOST_OF_FLOOR = 1.02


@dataclass(frozen=True)
class Case:
    """An example of ``examples/pytorch`` at the size it is measured at.

    ``by_hand`` takes teacher, student, the arguments and the noise.
    """

    name: str
    teacher: Any
    student: Any
    args: tuple[Any, ...]
    options: dict[str, Any]
    by_hand: Callable[..., Tensor]


def cases() -> list[Case]:
    """The classifiers of Hinton, Vinyals & Dean (2015, section 3) at batch 128; else layers of 2048 and 512 units.

    These at batch 1024, and sentences by 256 and 64 units at batch 64.
    """
    classifier, features, generator, sequence = (
        example(f"pytorch/{name}") for name in ("classifier", "features", "generator", "sequence")
    )
    return [
        Case(
            "classifier",
            _of_paper(classifier.Classifier, 1200),
            _of_paper(classifier.Classifier, 800),
            (torch.rand(128, 784),),
            classifier.OPTIONS,
            _without_noise(classifier.by_hand),
        ),
        Case(
            "features",
            features.Network(2048),
            features.Network(512),
            (torch.rand(1024, 64),),
            features.OPTIONS,
            _without_noise(features.by_hand),
        ),
        Case(
            "generator",
            generator.Generator(2048),
            generator.Generator(512),
            (1024,),
            generator.OPTIONS,
            generator.by_hand,
        ),
        Case(
            "sequence",
            sequence.Language(256),
            sequence.Language(64),
            (torch.arange(64) % sequence.WORDS,),
            sequence.OPTIONS,
            sequence_by_hand,
        ),
    ]


def _of_paper(classifier: Callable[[int], Any], hidden: int) -> Any:
    """Two layers, on MNIST's pixels."""
    model = classifier(hidden)
    layers = (nn.Linear(784, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, 10))
    model.net = nn.Sequential(*layers)
    return model


def _without_noise(by_hand: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return lambda teacher, student, *rest: by_hand(teacher, student, *rest[:-1])


def sequence_by_hand(teacher: Any, student: Any, first: Tensor, noise: dict[str, Tensor]) -> Tensor:
    """The teacher writes a sentence by Gumbel-max, and the student is compared at each of its words."""
    ours, theirs = (torch.zeros(len(first), m.cell.hidden_size, device=first.device) for m in (teacher, student))
    word, total = first, torch.zeros((), device=first.device)
    for t in range(1, len(noise) + 2):
        with torch.no_grad():
            ours = teacher.cell(teacher.embedding(word), ours)
            wanted = F.log_softmax(teacher.logits(ours), -1)
        theirs = student.cell(student.embedding(word), theirs)
        found = F.log_softmax(student.logits(theirs), -1)
        total = total + F.kl_div(found, wanted, reduction="batchmean", log_target=True)
        if f"word_{t}_noise" in noise:
            word = torch.argmax(wanted - torch.log(noise[f"word_{t}_noise"]), -1)
    return total


def sides(case: Case) -> dict[str, Callable[[], Tensor]]:
    """What is timed: each makes the loss from the same noise and takes its gradient."""
    loss: Any = dgm.compile(dgm.pair(case.teacher, case.student, model_args=case.args), **case.options)
    noise = loss.sample_noise(*case.args)

    def emitted() -> Tensor:
        total: Tensor = loss(*case.args, noise=noise).total
        return total

    def by_hand() -> Tensor:
        return case.by_hand(case.teacher, case.student, *case.args, noise)

    return {"emitted": step(emitted, case.student), "by hand": step(by_hand, case.student)}


def run(device: torch.device) -> None:
    """Print medians and ratios, and that both sides give the same loss."""
    print(f"{'plain step':13}{'emitted':>12}{'by hand':>12}{'/ hand':>9}{'spread':>9}")
    with device:
        measured = cases()
    for case in measured:
        with device:
            timed = sides(case)
        values = [float(side()) for side in timed.values()]
        found = medians(timed, seconds=8)
        ratio, spread = found["emitted"] / found["by hand"], abs(values[0] - values[1]) / abs(values[0])
        times = "".join(f"{milliseconds(found[side]):>12}" for side in timed)
        print(f"{case.name:13}{times}{ratio:9.2f}{spread:9.0e}", flush=True)
        print(f"{'':13}{'kept' if ratio <= MOST_OF_FLOOR else 'NOT kept'}: at most {MOST_OF_FLOOR} times the floor")
