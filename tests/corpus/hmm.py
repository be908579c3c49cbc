"""Hidden Markov models: of tones, of animals, with distributions of their own, of which the length is a value."""

from argparse import Namespace

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.distributions import constraints
from pyro.infer import config_enumerate
from pyro.ops.indexing import Vindex
from torch import Tensor, nn

from tests.corpus.entry import Entry
from tests.programs.program import bits, seeded, values

STATES = 3


def tones_one_by_one(sequences: Tensor, lengths: Tensor, include_prior: bool = True) -> None:
    """Sequence after sequence, each as long as ``lengths`` says."""
    _, _, tones = sequences.shape
    with poutine.mask(mask=include_prior):
        probs_x = pyro.sample("probs_x", dist.Dirichlet(0.9 * torch.eye(STATES) + 0.1).to_event(1))
        probs_y = pyro.sample("probs_y", dist.Beta(0.1, 0.9).expand([STATES, tones]).to_event(2))
    tones_plate = pyro.plate("tones", tones, dim=-1)
    for i in pyro.plate("sequences", len(sequences)):
        length = lengths[i]
        sequence = sequences[i, :length]
        x = 0
        for t in pyro.markov(range(length)):
            x = pyro.sample(f"x_{i}_{t}", dist.Categorical(probs_x[x]), infer={"enumerate": "parallel"})
            with tones_plate:
                pyro.sample(f"y_{i}_{t}", dist.Bernoulli(probs_y[x]), obs=sequence[t])


def tones_to_the_longest(sequences: Tensor, lengths: Tensor) -> None:
    """In a batch, for as many steps as the longest sequence has: a value of an input."""
    n, _, tones = sequences.shape
    probs_x = pyro.sample("probs_x", dist.Dirichlet(0.9 * torch.eye(STATES) + 0.1).to_event(1))
    probs_y = pyro.sample("probs_y", dist.Beta(0.1, 0.9).expand([STATES, tones]).to_event(2))
    tones_plate = pyro.plate("tones", tones, dim=-1)
    with pyro.plate("sequences", n, dim=-2):
        x = 0
        for t in pyro.markov(range(lengths.max())):
            with poutine.mask(mask=(t < lengths).unsqueeze(-1)):
                x = pyro.sample(f"x_{t}", dist.Categorical(probs_x[x]), infer={"enumerate": "parallel"})
                with tones_plate:
                    pyro.sample(f"y_{t}", dist.Bernoulli(probs_y[x.squeeze(-1)]), obs=sequences[:, t])


def tones_in_a_batch(sequences: Tensor, lengths: Tensor, include_prior: bool = True) -> None:
    """The same as Pyro's compiler for tensors needs it: as many steps as the data have."""
    n, max_length, tones = map(int, sequences.shape)
    assert lengths.shape == (n,)
    assert lengths.max() <= max_length
    with poutine.mask(mask=include_prior):
        probs_x = pyro.sample("probs_x", dist.Dirichlet(0.9 * torch.eye(STATES) + 0.1).to_event(1))
        probs_y = pyro.sample("probs_y", dist.Beta(0.1, 0.9).expand([STATES, tones]).to_event(2))
    tones_plate = pyro.plate("tones", tones, dim=-1)
    with pyro.plate("sequences", n, dim=-2):
        x = 0
        for t in pyro.markov(range(max_length)):
            with poutine.mask(mask=(t < lengths).unsqueeze(-1)):
                x = pyro.sample(f"x_{t}", dist.Categorical(probs_x[x]), infer={"enumerate": "parallel"})
                with tones_plate:
                    pyro.sample(f"y_{t}", dist.Bernoulli(probs_y[x.squeeze(-1)]), obs=sequences[:, t])


def tones_with_settings(sequences: Tensor, lengths: Tensor, args: Namespace) -> None:
    """The settings come as the command line's."""
    n, max_length, tones = sequences.shape
    probs_x = pyro.sample("probs_x", dist.Dirichlet(0.9 * torch.eye(args.hidden_dim) + 0.1).to_event(1))
    probs_y = pyro.sample("probs_y", dist.Beta(0.1, 0.9).expand([args.hidden_dim, tones]).to_event(2))
    with pyro.plate("sequences", n, dim=-2):
        x = 0
        for t in pyro.markov(range(max_length)):
            with poutine.mask(mask=(t < lengths).unsqueeze(-1)):
                x = pyro.sample(f"x_{t}", dist.Categorical(probs_x[x]))
                with pyro.plate(f"tones_{t}", tones, dim=-1):
                    pyro.sample(f"y_{t}", dist.Bernoulli(probs_y[x.squeeze(-1)]), obs=sequences[:, t])


@config_enumerate
def autoregressive_tones(sequences: Tensor, lengths: Tensor) -> None:
    """A tone depends on the state and on whether it sounded just before: the observed value is an index."""
    n, steps, tones = sequences.shape
    probs_x = pyro.sample("probs_x", dist.Dirichlet(0.9 * torch.eye(STATES) + 0.1).to_event(1))
    probs_y = pyro.sample("probs_y", dist.Beta(0.1, 0.9).expand([STATES, 2, tones]).to_event(3))
    tones_plate = pyro.plate("tones", tones, dim=-1)
    with pyro.plate("sequences", n, dim=-2):
        x, y = 0, 0
        for t in pyro.markov(range(steps)):
            with poutine.mask(mask=(t < lengths).unsqueeze(-1)):
                x = pyro.sample(f"x_{t}", dist.Categorical(probs_x[x]))
                with tones_plate as tone:
                    y = pyro.sample(f"y_{t}", dist.Bernoulli(probs_y[x, y, tone]), obs=sequences[:, t]).long()


def two_chains(sequences: Tensor) -> None:
    """A factorial model, of which the second chain listens to the first."""
    n, steps, tones = sequences.shape
    probs_w = pyro.sample("probs_w", dist.Dirichlet(0.9 * torch.eye(2) + 0.1).to_event(1))
    probs_x = pyro.sample("probs_x", dist.Dirichlet(0.9 * torch.eye(2) + 0.1).expand_by([2]).to_event(2))
    probs_y = pyro.sample("probs_y", dist.Beta(0.1, 0.9).expand([2, 2, tones]).to_event(3))
    tones_plate = pyro.plate("tones", tones, dim=-1)
    with pyro.plate("sequences", n, dim=-2):
        w = x = torch.tensor(0)
        for t in pyro.markov(range(steps)):
            w = pyro.sample(f"w_{t}", dist.Categorical(probs_w[w]), infer={"enumerate": "parallel"})
            x = pyro.sample(f"x_{t}", dist.Categorical(Vindex(probs_x)[w, x]), infer={"enumerate": "parallel"})
            with tones_plate as tone:
                pyro.sample(f"y_{t}", dist.Bernoulli(Vindex(probs_y)[w, x, tone]), obs=sequences[:, t])


class TonesGenerator(nn.Module):
    """State and last tones -> logits of the next tones."""

    def __init__(self, tones: int) -> None:
        super().__init__()
        self.x_to_hidden = nn.Linear(STATES, 4)
        self.y_to_hidden = nn.Linear(tones, 4)
        self.logits = nn.Linear(4, tones)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        x_onehot = y.new_zeros((*x.shape[:-1], STATES)).scatter_(-1, x, 1)
        hidden = torch.relu(self.x_to_hidden(x_onehot) + self.y_to_hidden(y))
        return self.logits(hidden)


class NeuralTones(nn.Module):
    def __init__(self, tones: int) -> None:
        super().__init__()
        self.generator = TonesGenerator(tones)

    def forward(self, sequences: Tensor, lengths: Tensor) -> None:
        n, steps, tones = sequences.shape
        pyro.module("tones_generator", self.generator)
        probs_x = pyro.sample("probs_x", dist.Dirichlet(0.9 * torch.eye(STATES) + 0.1).to_event(1))
        with pyro.plate("sequences", n, dim=-2):
            x, y = torch.zeros(n, 1, dtype=torch.long), torch.zeros(n, tones)
            for t in pyro.markov(range(steps)):
                with poutine.mask(mask=(t < lengths).unsqueeze(-1)):
                    x = pyro.sample(f"x_{t}", dist.Categorical(probs_x[x]), infer={"enumerate": "parallel"})
                    with pyro.plate(f"tones_{t}", tones, dim=-1):
                        y = pyro.sample(f"y_{t}", dist.Bernoulli(logits=self.generator(x, y)), obs=sequences[:, t])


def tones_in_parallel(sequences: Tensor) -> None:
    """`DiscreteHMM` sums the states out: no loop over time."""
    _, _, tones = sequences.shape
    probs_x = pyro.sample("probs_x", dist.Dirichlet(0.9 * torch.eye(STATES) + 0.1).to_event(1))
    probs_y = pyro.sample("probs_y", dist.Beta(0.1, 0.9).expand([STATES, tones]).to_event(2))
    init_logits = torch.full((STATES,), -float("inf"))
    init_logits[0] = 0
    with pyro.plate("sequences", len(sequences), dim=-1):
        observation = dist.Bernoulli(probs_y.unsqueeze(-3)).to_event(1)
        law = dist.DiscreteHMM(init_logits, probs_x.log(), observation, duration=sequences.shape[1])
        pyro.sample("y", law, obs=sequences)


def partly_seen_states(words: Tensor, tags: Tensor) -> None:
    """Supervised: the states are tags that someone wrote down."""
    transition = pyro.sample("transition", dist.Dirichlet(torch.ones(4, 4)).to_event(1))
    emission = pyro.sample("emission", dist.Dirichlet(torch.full((4, 6), 0.1)).to_event(1))
    tag = torch.tensor(0)
    for t in pyro.markov(range(len(words))):
        tag = pyro.sample(f"tag_{t}", dist.Categorical(transition[tag]), obs=tags[t])
        pyro.sample(f"word_{t}", dist.Categorical(emission[tag]), obs=words[t])


def seals(steps: Tensor, angles: Tensor, dives: Tensor, mask: Tensor) -> None:
    """Mixed-effects model of how seals move: random effects of group and animal on the transitions.

    Each is ``(individual, group, time)``; a zero step or dive is inflated.
    """
    individuals, groups, times = steps.shape
    loc = torch.zeros(STATES**2)
    concentration = pyro.param("step_concentration", torch.ones(STATES), constraint=constraints.positive)
    rate = pyro.param("step_rate", lambda: torch.ones(STATES), constraint=constraints.positive)
    step_zero = pyro.param("step_zero", lambda: torch.ones(STATES, 2))
    angle_loc = pyro.param("angle_loc", torch.linspace(-1.0, 1.0, STATES))
    angle_concentration = pyro.param("angle_concentration", torch.ones(STATES), constraint=constraints.positive)
    dive_1 = pyro.param("dive_1", torch.ones(STATES), constraint=constraints.positive)
    dive_0 = pyro.param("dive_0", torch.ones(STATES), constraint=constraints.positive)
    with pyro.plate("group", groups, dim=-1):
        gamma = pyro.sample("eps_g", dist.Normal(loc, 1.0).to_event(1))
        with pyro.plate("individual", individuals, dim=-2), poutine.mask(mask=mask):
            gamma = gamma + pyro.sample("eps_i", dist.Normal(loc, 1.0).to_event(1))
            matrix = gamma.reshape((*gamma.shape[:-1], STATES, STATES))
            state = torch.tensor(0)
            for t in pyro.markov(range(times)):
                logits = Vindex(matrix)[..., state, :]
                state = pyro.sample(f"state_{t}", dist.Categorical(logits=logits), infer={"enumerate": "parallel"})
                missing = steps[..., t] == 0
                zero = pyro.sample(f"step_zero_{t}", dist.Categorical(logits=step_zero[state]), obs=missing.long())
                law = dist.MaskedMixture(
                    zero.bool(), dist.Gamma(concentration[state], rate[state]), dist.Delta(torch.tensor(0.0))
                )
                pyro.sample(f"step_{t}", law, obs=steps[..., t])
                pyro.sample(
                    f"angle_{t}", dist.VonMises(angle_loc[state], angle_concentration[state]), obs=angles[..., t]
                )
                pyro.sample(f"dive_{t}", dist.Beta(dive_1[state], dive_0[state]), obs=dives[..., t])


def switching_dynamics(track: Tensor) -> None:
    """A switching linear dynamical system: which matrix moves the state is a chain of its own."""
    moves = pyro.param("moves", torch.stack([torch.eye(2), 0.5 * torch.eye(2)]))
    stay = pyro.sample("stay", dist.Beta(torch.tensor([9.0, 9.0]), 1.0).to_event(1))
    table = torch.stack([torch.stack([stay[0], 1 - stay[0]]), torch.stack([1 - stay[1], stay[1]])])
    regime, x = torch.tensor(0), torch.zeros(2)
    for t in pyro.markov(range(len(track))):
        regime = pyro.sample(f"regime_{t}", dist.Categorical(table[regime]), infer={"enumerate": "parallel"})
        x = pyro.sample(f"x_{t}", dist.MultivariateNormal(moves[regime] @ x, 0.1 * torch.eye(2)))
        pyro.sample(f"y_{t}", dist.Normal(x, 0.3).to_event(1), obs=track[t])


def alignment(sequences: Tensor) -> None:
    """A profile in the manner of biology: every position of an ancestor emits letters of its own."""
    from pyro.contrib.mue.missingdatahmm import MissingDataDiscreteHMM

    positions, letters = 4, sequences.shape[-1]
    profile = pyro.sample("profile", dist.Dirichlet(torch.ones(letters)).expand([positions]).to_event(1))
    start = torch.full((positions,), -4.0)
    start[0] = 0.0
    transition = torch.eye(positions).roll(1, -1) * 4.0
    transition = transition - transition.logsumexp(-1, keepdim=True)
    with pyro.plate("batch", len(sequences)):
        law = MissingDataDiscreteHMM(start - start.logsumexp(-1), transition, profile.log())
        pyro.sample("obs", law, obs=sequences)


SONGS, LENGTHS = bits(2, 3, 4), torch.tensor([3, 2])

ENTRIES = (
    Entry(tones_one_by_one, (SONGS, LENGTHS), expect="value-slice", note="a loop over the value of an input"),
    Entry(tones_to_the_longest, (SONGS, LENGTHS), expect="value-loop", note="the loop's bound is a maximum of values"),
    Entry(tones_in_a_batch, (SONGS, LENGTHS), sites=(5, 3), note="masks, plates, markov; assertions on inputs"),
    Entry(
        tones_with_settings,
        (SONGS, LENGTHS, Namespace(hidden_dim=3)),
        expect="unknown-argument",
        note="a Namespace among the arguments, as Pyro's examples pass it",
    ),
    Entry(autoregressive_tones, (SONGS, LENGTHS), sites=(5, 3), note="observed values as indices"),
    Entry(two_chains, (SONGS,), sites=(9, 3), note="two chains, Vindex"),
    Entry(
        seeded(lambda: NeuralTones(4)),
        (SONGS, LENGTHS),
        sites=(4, 3),
        name="NeuralTones",
        note="a network with scatter_ on a discrete latent",
    ),
    Entry(tones_in_parallel, (SONGS,), sites=(2, 1), note="DiscreteHMM as likelihood"),
    Entry(
        partly_seen_states,
        (torch.tensor([0, 3, 5, 1]), torch.tensor([1, 0, 3, 2])),
        sites=(2, 8),
        other_size=False,
        note="a chain of targets",
    ),
    Entry(
        seals,
        (torch.rand(2, 2, 3), values(2, 2, 3), 0.1 + 0.8 * bits(2, 2, 3), torch.tensor([[True, True], [True, False]])),
        sites=(5, 12),
        note="the mixed model: random effects, MaskedMixture, von Mises, Beta",
    ),
    Entry(switching_dynamics, (values(3, 2),), sites=(7, 3), note="discrete and continuous chains"),
    Entry(
        alignment,
        (torch.eye(3)[torch.tensor([[0, 1, 2], [1, 1, 0]])],),
        expect="no-emitted-draw",
        note="a likelihood of pyro.contrib, which emitted code cannot import",
    ),
)
