"""Canonical text of a graph, and back: what people read in documentation, diffs and tests.

Each line is one node, in Python's syntax (it is read with `ast` and never run)::

    vae = graph(x, optional(mask))
    x: float32[batch, 784] = input()
    batch = size(x, 0)
    loc: float32[batch, 16] = self.encoder(x)
    z_noise: float32[batch, 16] = noise.StandardNormal()
    z: float32[batch, 16] = normal_from_noise(z_noise, loc, 1.0).latent(plate("data", -2, batch), family="Normal")
    y: float32[batch, 784] = sample.Bernoulli(logits=z).event(1).target(plate("data", -2, batch))

A bare name is a node's value; of a size node, the `Size` it makes. A dotted name (``teacher.z``)
stands as it is, any other that is no identifier as ``ref["weird name"]``. ``float32`` alone is a scalar
tensor. ``return`` stands where the outputs are not just the sites.
"""

from __future__ import annotations

from dgmcompile.ir.reading import parse
from dgmcompile.ir.writing import format_graph, format_type, format_value

__all__ = ["format_graph", "format_type", "format_value", "parse"]
