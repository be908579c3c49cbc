"""Variational recurrent network of handwriting: at each step, is the pen lifted, and where does it move?

Chung et al. 2015, arXiv:1506.02216. The recurrence reads what was observed at the step before.
"""

import pyro
import pyro.distributions as dist
import torch
import torch.nn.functional as F
from pyro.nn import PyroModule
from torch import Tensor, nn

LATENT = 8
STEPS = 30


def network(n_inputs: int, hidden: int, n_outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(n_inputs, hidden), nn.ReLU(), nn.Linear(hidden, n_outputs))


class VRNN(PyroModule):
    """An LSTM cell and networks of ``hidden`` units; a step observes (pen, dx, dy).

    ``name`` keeps its parameters apart from those of another in Pyro's parameter store.
    """

    def __init__(self, name: str, hidden: int) -> None:
        super().__init__(name)
        self.hidden = hidden
        self.prior = network(hidden, hidden, 2 * LATENT)
        self.decoder = network(LATENT + hidden, hidden, 5)
        self.cell = nn.LSTMCell(LATENT + 3, hidden)

    def forward(self, strokes: Tensor) -> None:
        h = c = strokes.new_zeros(strokes.shape[0], self.hidden)
        with pyro.plate("batch", strokes.shape[0]):
            for t, stroke in enumerate(strokes.unbind(1)):
                loc, scale = self.prior(h).chunk(2, dim=-1)
                z = pyro.sample(f"z_{t}", dist.Normal(loc, F.softplus(scale)).to_event(1))
                logit, loc, scale = self.decoder(torch.cat([z, h], dim=-1)).split([1, 2, 2], dim=-1)
                pen = pyro.sample(f"pen_{t}", dist.Bernoulli(logits=logit).to_event(1), obs=stroke[:, :1])
                move = pyro.sample(f"move_{t}", dist.Normal(loc, F.softplus(scale)).to_event(1), obs=stroke[:, 1:])
                h, c = self.cell(torch.cat([z, pen, move], dim=-1), (h, c))


with torch.random.fork_rng():
    torch.manual_seed(0)
    model = VRNN("large", hidden=64)
    student = VRNN("small", hidden=16)


def example_inputs() -> tuple[Tensor]:
    """Four circles, of different sizes, after which the pen is lifted: (batch, step, (pen, dx, dy))."""
    angle = torch.linspace(0, 2 * torch.pi, STEPS)
    radius = torch.tensor([0.5, 1.0, 1.5, 2.0]).unsqueeze(-1)
    pen = (angle == angle[-1]).float().expand(4, STEPS)
    return (torch.stack([pen, -radius * angle.sin(), radius * angle.cos()], dim=-1),)
