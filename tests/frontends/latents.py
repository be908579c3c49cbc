"""What a program of plain PyTorch draws, found in its graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

import dgmcompile as dgm

PROBS, MEAN, SCALE = torch.tensor([0.2, 0.5, 0.9]), torch.tensor([0.0, 1.0, -2.0]), torch.tensor([0.5, 1.0, 2.0])


def families(graph: Any) -> list[tuple[str, str]]:
    return [(node.family, node.site.role) for node in graph.samples if node.site]


def the_latent(draw: Callable[[], Tensor], family: str) -> Any:
    """The graph of a program with one latent, ``z``, which is checked."""

    def model() -> Tensor:
        z = draw()
        return torch.sin(z.float())

    graph = dgm.trace(model, ())
    (sample,) = (node for node in graph.samples if node.site and node.site.role == "latent")
    assert (sample.family, sample.site and sample.site.name) == (family, "z")
    report = dgm.check(model, ())
    assert report.ok, str(report)
    return graph
