"""What goes wrong on an accelerator only."""

from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor, nn

import dgmcompile as dgm
from dgmcompile.frontends import record

if not torch.accelerator.is_available():
    pytest.skip("there is no accelerator here", allow_module_level=True)

DEVICE = torch.device(str(torch.accelerator.current_accelerator()))


def looked_up(table: Tensor, index: Tensor) -> Tensor:
    with pyro.plate("data", len(index)):
        return pyro.sample("y", dist.Normal(table[index], 1.0), obs=torch.zeros(len(index), device=table.device))


class Embedded(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(5, 2)

    def forward(self, x: Tensor, rows: Tensor) -> Tensor:
        values = x[rows].sum(-1) + self.table(rows % 5).sum(-1)
        with pyro.plate("data", len(rows)):
            return pyro.sample("y", dist.Normal(values, 1.0), obs=torch.zeros(len(rows), device=x.device))


@pytest.mark.parametrize("program", [looked_up, Embedded()], ids=["function", "module"])
def test_an_index_out_of_range_at_another_size_leaves_the_device_at_work(program: Any):
    """A table with fewer rows is tried as well, of which the index is out of range."""
    if isinstance(program, nn.Module):
        program.to(DEVICE)
    table = torch.randn(6, device=DEVICE) if program is looked_up else torch.randn(6, 2, device=DEVICE)
    args = (table, torch.tensor([0, 5, 3, 4, 1], device=DEVICE))
    assert dgm.check(program, args).ok
    torch.accelerator.synchronize()
    assert float(torch.ones(3, device=DEVICE).sum()) == 3


def test_the_rehearsal_writes_nothing_and_draws_nothing():
    values, index = torch.arange(4.0, device=DEVICE), torch.tensor([1], device=DEVICE)
    ours, before = torch.zeros(4), torch.get_rng_state()
    record._rehearse(torch.Tensor.__setitem__, (values, index, 7.0), {})
    record._rehearse(torch.Tensor.__setitem__, (ours, index.cpu(), 7.0), {})
    assert values.tolist() == [0, 1, 2, 3] and not ours.any() and torch.equal(before, torch.get_rng_state())
    with pytest.raises(IndexError):
        record._rehearse(torch.Tensor.__getitem__, (values, torch.tensor([9], device=DEVICE)), {})
