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


def vrnn_hoisted(teacher: Any, student: Any, args: tuple[Tensor], noise: Mapping[str, Tensor], weight: float) -> Tensor:
    """The same with all that no step waits for out of the loops; ``noise`` is that of all steps, with the steps first.

    What the state is multiplied by is one product a step, and of the gates only that and the latents' is in the loop.
    """
    strokes = args[0]
    batch, latent = len(strokes), noise["z_noise"].shape[-1]

    def first(model: Any) -> tuple[Tensor, Tensor, list[int]]:
        """The weights and biases that the state meets first, in one matrix, and where it is cut."""
        weights = [model.prior[0].weight, model.cell.weight_hh]
        biases = [model.prior[0].bias, model.cell.bias_hh + model.cell.bias_ih]
        return torch.cat(weights), torch.cat(biases), [len(bias) for bias in biases]

    def gated(gates: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        i, f, g, o = gates.chunk(4, -1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        return torch.sigmoid(o) * torch.tanh(c), c

    def prior(model: Any, features: Tensor) -> tuple[Tensor, Tensor]:
        loc, scale = model.prior[2](torch.relu(features)).chunk(2, -1)
        return loc, F.softplus(scale)

    with torch.no_grad():
        weights, biases, parts = first(teacher)
        of_z, of_h = teacher.decoder[0].weight.split([latent, teacher.hidden], -1)
        weights, parts = torch.cat([weights, of_h]), [*parts, len(of_h)]
        biases = torch.cat([biases, teacher.decoder[0].bias])
        c = strokes.new_zeros(batch, teacher.hidden)
        h, pens, laws, zs = c, torch.logit(noise["pen_noise"]), list[tuple[Tensor, ...]](), list[Tensor]()
        for z_noise, pen_noise, move_noise in zip(noise["z_noise"], pens, noise["move_noise"], strict=True):
            features, gates, below = F.linear(h, weights, biases).split(parts, -1)
            loc, scale = prior(teacher, features)
            z = loc + scale * z_noise
            hidden = torch.relu(below + z @ of_z.T)
            logit, move, spread = teacher.decoder[2](hidden).split([1, 2, 2], -1)
            spread = F.softplus(spread)
            value = torch.cat([(pen_noise > -logit).to(logit.dtype), move + spread * move_noise], -1)
            h, c = gated(gates + torch.cat([z, value], -1) @ teacher.cell.weight_ih.T, c)
            laws.append((loc, scale, logit, move, spread))
            zs.append(value)
        ours = [torch.stack(law) for law in zip(*laws, strict=True)]
        values = torch.stack(zs)
    weights, biases, parts = first(student)
    of_z, of_value = student.cell.weight_ih.split([latent, 3], -1)
    given = (values @ of_value.T).unbind(0)
    c = strokes.new_zeros(batch, student.hidden)
    h, hs, priors, drawn = c, list[Tensor](), list[tuple[Tensor, Tensor]](), list[Tensor]()
    for z_noise, part in zip(noise["z_noise"], given, strict=True):
        features, gates = F.linear(h, weights, biases).split(parts, -1)
        loc, scale = prior(student, features)
        z = loc + scale * z_noise
        hs.append(h)
        drawn.append(z)
        priors.append((loc, scale))
        h, c = gated(gates + part + z @ of_z.T, c)
    loc, scale = (torch.stack(law) for law in zip(*priors, strict=True))
    output = student.decoder(torch.cat([torch.stack(drawn), torch.stack(hs)], -1))
    logit, move, spread = output.split([1, 2, 2], -1)
    total = weight * kl_normal(ours[0], ours[1], loc, scale).sum() + kl_bernoulli(ours[2], logit).sum()
    return (total + kl_normal(ours[3], ours[4], move, F.softplus(spread)).sum()) / batch
