"""Types of formulas, sizes kept symbolic."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from dgmcompile.ir.graph import Formula, Ref
from dgmcompile.ir.size import Size
from dgmcompile.ir.text import parse
from dgmcompile.passes.inference import infer_type

GRAPH = parse("""
    x: float32[batch, 3] = input()
    d: float64[2 * batch, 1] = input()
    n: int64[5] = input()
    batch = size(x, 0)
""")
NODES = {node.name: node for node in GRAPH}
BATCH = Size.symbol("batch")
TWICE = Size.of({("batch",): 2})
X, D, N = Ref("x"), Ref("d"), Ref("n")


@pytest.mark.parametrize(
    ("function", "args", "expected"),
    [
        (lambda x: x.exp(), (X,), ((BATCH, 3), torch.float32)),
        (lambda x, d: d[:, 0].unsqueeze(-1) + x[:1], (X, D), ((TWICE, 3), torch.float64)),
        (lambda x, n: torch.argmax(x, -1), (X, 3), ((BATCH,), torch.int64)),
        (lambda n: torch.zeros(n, 5), (BATCH,), ((BATCH, 5), torch.float32)),
        (lambda p: torch.logit(torch.tensor(p)), (0.5,), ((), torch.float32)),
        (lambda xs: torch.cat([*xs, xs[0]], -1), ([X, X],), ((BATCH, 9), torch.float32)),
        (lambda x: torch.cat([x, x, x]), (X,), None),  # 3 * batch is no size of the arguments
        (lambda x: x if x.sum() > 0 else -x, (X,), None),  # looks at values
        (lambda x, n: x + n, (X, N), None),  # does not fit
        (lambda x: (x, x), (X,), None),  # no tensor
        (lambda n: torch.zeros([1] * (n % 7)), (BATCH,), None),  # a rank that is a size
    ],
)
def test_types(function: Callable[..., Tensor], args: tuple[Any, ...], expected: Any):
    assert infer_type(Formula("f", function), args, NODES) == expected
