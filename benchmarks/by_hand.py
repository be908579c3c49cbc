"""The floor: what an expert writes for one model by hand, on noise that is ready.

Teacher's forward under no_grad, student's forward, closed-form terms; the emitted code is compared with this.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def kl_normal(p_loc: Tensor, p_scale: Tensor, q_loc: Tensor, q_scale: Tensor) -> Tensor:
    ratio = (p_scale / q_scale).pow(2)
    return 0.5 * (ratio + ((p_loc - q_loc) / q_scale).pow(2) - 1 - ratio.log())


def kl_bernoulli(p: Tensor, q: Tensor) -> Tensor:
    return torch.sigmoid(p) * (p - q) + F.softplus(q) - F.softplus(p)


def threshold(noise: Tensor, logits: Tensor) -> Tensor:
    return (torch.logit(noise) > -logits).to(logits.dtype)


def hvae(teacher: Any, student: Any, args: tuple[Tensor], noise: Mapping[str, Tensor], weight: float) -> Tensor:
    def forward(model: Any) -> tuple[list[tuple[Tensor, Tensor]], Tensor]:
        z, laws = noise["z5_noise"], []
        for layer, prior in zip((4, 3, 2, 1), model.priors, strict=True):
            loc, scale = prior(z).chunk(2, dim=1)
            scale = F.softplus(scale)
            z = loc + scale * noise[f"z{layer}_noise"]
            laws.append((loc, scale))
        return laws, model.decoder(z)

    with torch.no_grad():
        ours, image = forward(teacher)
    theirs, copy = forward(student)
    latent = sum(kl_normal(*p, *q).sum() for p, q in zip(ours, theirs, strict=True))
    surrogate = ((image - copy) / 0.1).pow(2).sum() / 2
    return (surrogate + weight * latent) / len(args[0])


def helmholtz(
    teacher: Any, student: Any, args: tuple[Tensor, Tensor], noise: Mapping[str, Tensor], weight: float
) -> Tensor:
    def normal(output: Tensor) -> tuple[Tensor, Tensor]:
        loc, scale = output.unbind(-1)
        return loc, F.softplus(scale) + 0.01

    def forward(model: Any, y2: Tensor | None) -> tuple[list[Tensor], list[tuple[Tensor, Tensor]], Tensor]:
        logits4 = model.top_logits
        logits3 = model.logits3(threshold(noise["z4_noise"], logits4))
        duration = normal(model.duration(threshold(noise["z3_noise"], logits3)))
        if y2 is None:
            y2 = duration[0] + duration[1] * noise["y2_noise"]
        logits2 = model.logits2(y2.unsqueeze(-1))
        logits1 = model.logits1(threshold(noise["z2_noise"], logits2))
        wait = normal(model.wait(threshold(noise["z1_noise"], logits1)))
        return [logits4, logits3, logits2, logits1], [duration, wait], y2

    n = len(args[0])
    with torch.no_grad():
        ours, targets, y2 = forward(teacher, None)
    theirs, copies, _ = forward(student, y2)
    latent = kl_bernoulli(ours[0], theirs[0]).sum() * n
    latent = latent + sum(kl_bernoulli(p, q).sum() for p, q in zip(ours[1:], theirs[1:], strict=True))
    surrogate = sum(kl_normal(*p, *q).sum() for p, q in zip(targets, copies, strict=True))
    return (surrogate + weight * latent) / n


def vrnn(teacher: Any, student: Any, args: tuple[Tensor], noise: Mapping[str, Tensor], weight: float) -> Tensor:
    def step(model: Any, h: Tensor, t: int) -> tuple[tuple[Tensor, Tensor], Tensor, Tensor, tuple[Tensor, Tensor]]:
        loc, scale = model.prior(h).chunk(2, dim=-1)
        scale = F.softplus(scale)
        z = loc + scale * noise[f"z_{t}_noise"]
        logit, move, spread = model.decoder(torch.cat([z, h], dim=-1)).split([1, 2, 2], dim=-1)
        return (loc, scale), z, logit, (move, F.softplus(spread))

    strokes = args[0]
    batch, steps = strokes.shape[:2]
    ours: list[Any] = []
    values: list[Tensor] = []
    with torch.no_grad():
        h = c = strokes.new_zeros(batch, teacher.hidden)
        for t in range(steps):
            prior, z, logit, move = step(teacher, h, t)
            ours.append((prior, logit, move))
            pen = threshold(noise[f"pen_{t}_noise"], logit)
            values.append(torch.cat([pen, move[0] + move[1] * noise[f"move_{t}_noise"]], dim=-1))
            h, c = teacher.cell(torch.cat([z, values[-1]], dim=-1), (h, c))
    total = torch.zeros(())
    h = c = strokes.new_zeros(batch, student.hidden)
    for t in range(steps):
        prior, z, logit, move = step(student, h, t)
        (p_loc, p_scale), p_logit, (p_move, p_spread) = ours[t]
        total = total + weight * kl_normal(p_loc, p_scale, *prior).sum()
        total = total + kl_bernoulli(p_logit, logit).sum() + kl_normal(p_move, p_spread, *move).sum()
        h, c = student.cell(torch.cat([z, values[t]], dim=-1), (h, c))
    return total / batch
