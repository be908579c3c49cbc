"""Time: Markov chains, recurrent cells, observed values that are read again."""

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

from tests.programs.program import Program, edges, seeded, values


def random_walk(y: Tensor) -> None:
    x = torch.tensor(0.0)
    for t in pyro.markov(range(len(y))):
        x = pyro.sample(f"x_{t}", dist.Normal(x, 1.0))
        pyro.sample(f"y_{t}", dist.Normal(x, 0.5), obs=y[t])


def hidden_markov(sequences: Tensor) -> None:
    """``for t, y in pyro.markov(enumerate(...))`` with a discrete state."""
    transition = pyro.param("transition", torch.tensor([[0.9, 0.1], [0.2, 0.8]]), constraint=dist.constraints.simplex)
    locs = torch.tensor([-1.0, 1.0])
    with pyro.plate("sequences", len(sequences)):
        state = torch.tensor(0)
        for t, y in pyro.markov(enumerate(sequences.unbind(1))):
            state = pyro.sample(f"state_{t}", dist.Categorical(transition[state]), infer={"enumerate": "parallel"})
            pyro.sample(f"y_{t}", dist.Normal(locs[state], 1.0), obs=y)


def taught_by_returned_values(x: Tensor) -> None:
    """Each target depends on the one before: an autoregressive chain of targets."""
    with pyro.plate("batch", len(x)):
        last = torch.zeros(len(x))
        for t in range(3):
            last = pyro.sample(f"x_{t}", dist.Normal(0.8 * last, 1.0), obs=x[:, t])


def taught_by_slices(x: Tensor) -> None:
    """Reads ``x[:, t - 1]`` again after it was observed."""
    with pyro.plate("batch", len(x)):
        for t in range(3):
            loc = 0.5 * x[:, t - 1] if t > 0 else torch.zeros(len(x))
            pyro.sample(f"x_{t}", dist.Normal(loc, 1.0), obs=x[:, t])


def read_before_it_is_observed(x: Tensor) -> None:
    """Data that are an input first, as they are, and a target later."""
    with pyro.plate("batch", len(x)):
        z = pyro.sample("z", dist.Normal(x, 1.0))
        pyro.sample("x", dist.Normal(x, z.exp()), obs=x)
        pyro.sample("y", dist.Normal(x * z, 1.0))


def taught_by_unbind(x: Tensor) -> None:
    steps = x.unbind(1)
    with pyro.plate("batch", len(x)):
        for t, step in enumerate(steps):
            loc = 0.5 * steps[t - 1] if t > 0 else torch.zeros(len(x))
            pyro.sample(f"x_{t}", dist.Normal(loc, 1.0), obs=step)


def taught_by_iteration(x: Tensor) -> None:
    """The first dimension is time; iterating over a tensor unbinds it."""
    with pyro.plate("batch", x.shape[1]):
        previous = torch.zeros(x.shape[1])
        for t, step in enumerate(x):
            pyro.sample(f"x_{t}", dist.Normal(previous.cos(), 1.0), obs=step)
            previous = step


class VRNN(nn.Module):
    """An LSTM cell, whose state depends on what was observed."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.LSTMCell(3, 4)
        self.prior = nn.Linear(4, 2)
        self.output = nn.Linear(6, 1)

    def model(self, x: Tensor) -> None:
        h = c = x.new_zeros(x.shape[0], 4)
        with pyro.plate("batch", x.shape[0]):
            for t, step in enumerate(x.unbind(1)):
                z = pyro.sample(f"z_{t}", dist.Normal(self.prior(h), 1.0).to_event(1))
                logits = self.output(torch.cat([z, h], -1))
                pyro.sample(f"x_{t}", dist.Normal(logits, 1.0).to_event(1), obs=step)
                h, c = self.cell(torch.cat([z, step], -1), (h, c))


class WithGRU(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.GRUCell(1, 2)
        self.register_buffer("start", torch.zeros(2))

    def forward(self, x: Tensor) -> None:
        h = self.start.expand(len(x), 2)
        with pyro.plate("batch", len(x)):
            for t in range(2):
                z = pyro.sample(f"z_{t}", dist.Normal(h.sum(-1), 1.0))
                h = self.cell(z.unsqueeze(-1), h)
            pyro.sample("x", dist.Normal(h, 1.0).to_event(1), obs=x)


class WithLSTM(nn.Module):
    """A whole `nn.LSTM`: a tuple that holds a tuple."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(2, 3, batch_first=True)

    def forward(self, x: Tensor) -> None:
        with pyro.plate("batch", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(4, 2), 1.0).to_event(2))
            out, (h, c) = self.lstm(z)
            pyro.sample("y", dist.Normal(out.sum(-1), 1.0).to_event(1))
            pyro.sample("x", dist.Normal((h + c).squeeze(0), 1.0).to_event(1), obs=x)


class StackedGuide(nn.Module):
    """An `nn.GRU` that reads the data backwards, as the deep Markov model's guide does."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(1, 2, batch_first=True)
        self.loc = nn.Linear(2, 1)

    def forward(self, x: Tensor) -> None:
        backwards, _ = self.rnn(torch.flip(x.unsqueeze(-1), [1]))
        hidden = torch.flip(backwards, [1])
        with pyro.plate("batch", len(x)):
            for t in range(2):
                pyro.sample(f"z_{t}", dist.Normal(self.loc(hidden[:, t]), 1.0).to_event(1))


def filtered_without_gradient(y: Tensor) -> None:
    """``detach`` cuts gradients and no dependence."""
    drift = pyro.param("drift", torch.tensor(0.5))
    x = pyro.sample("x_0", dist.Normal(drift, 1.0))
    x = pyro.sample("x_1", dist.Normal(drift * x.detach(), 1.0))
    with torch.no_grad():
        frozen = drift * 2
    with pyro.plate("data", len(y)):
        pyro.sample("y", dist.Normal(x + frozen, 1.0), obs=y)


PROGRAMS = (
    Program(random_walk, (values(4),), other_size=False),
    Program(
        hidden_markov,
        (values(3, 4),),
        edges=edges(
            "state_0 -> state_1",
            "state_1 -> state_2",
            "state_2 -> state_3",
            "state_0 -> y_0",
            "state_1 -> y_1",
            "state_2 -> y_2",
            "state_3 -> y_3",
        ),
    ),
    Program(taught_by_returned_values, (values(4, 3),), edges=edges("x_0 -> x_1", "x_1 -> x_2")),
    Program(taught_by_slices, (values(4, 3),), edges=edges("x_0 -> x_1", "x_1 -> x_2")),
    Program(
        read_before_it_is_observed,
        (values(4),),
        targets=["x", "y"],
        edges=edges("x_1 -> z", "x_1 -> x", "z -> x", "x -> y", "z -> y"),
    ),
    Program(taught_by_unbind, (values(4, 3),), edges=edges("x_0 -> x_1", "x_1 -> x_2")),
    Program(taught_by_iteration, (values(3, 4),), edges=edges("x_0 -> x_1", "x_1 -> x_2")),
    Program(
        seeded(VRNN).model,
        (values(4, 3, 1),),
        name="VRNN.model",
        edges=edges(
            "z_0 -> x_0",
            "z_0 -> z_1",
            "x_0 -> z_1",
            "z_0 -> x_1",
            "x_0 -> x_1",
            "z_1 -> x_1",
            "z_0 -> z_2",
            "x_0 -> z_2",
            "z_1 -> z_2",
            "x_1 -> z_2",
            "z_0 -> x_2",
            "x_0 -> x_2",
            "z_1 -> x_2",
            "x_1 -> x_2",
            "z_2 -> x_2",
        ),
    ),
    Program(seeded(WithGRU), (values(4, 2),)),
    Program(seeded(WithLSTM), (values(4, 3),)),
    Program(seeded(StackedGuide), (values(4, 3),), targets="all", edges=edges("x -> z_0", "x -> z_1")),
    Program(filtered_without_gradient, (values(4),), edges=edges("x_0 -> x_1", "x_1 -> y")),
)
