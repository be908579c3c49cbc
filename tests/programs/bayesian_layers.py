"""Layers whose weights are drawn, in every way that Pyro and torch have; and Pyro's own networks.

Priors made in a constructor hold float32 numbers, which stay so: such programs run in float32 only.
"""

import functools
import warnings

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.distributions import constraints
from pyro.nn import (
    AutoRegressiveNN,
    ConditionalAutoRegressiveNN,
    ConditionalDenseNN,
    DenseNN,
    PyroModule,
    PyroParam,
    PyroSample,
    pyro_method,
)
from pyro.nn.module import to_pyro_module_
from torch import Tensor, nn

from tests.programs.program import Program, edges, seeded, values


class BayesianNetwork(PyroModule):
    """Two layers, of which one bias is a parameter, and an observation noise that is drawn where it is read."""

    def __init__(self) -> None:
        super().__init__()
        self.first = PyroModule[nn.Linear](3, 2)
        self.first.weight = PyroSample(dist.Normal(0.0, 1.0).expand([2, 3]).to_event(2))
        self.first.bias = PyroSample(dist.Normal(0.0, 1.0).expand([2]).to_event(1))
        self.second = PyroModule[nn.Linear](2, 1)
        self.second.weight = PyroSample(dist.Normal(torch.zeros(()), 1.0).expand([1, 2]).to_event(2))
        self.activation = nn.Tanh()
        self.noise = PyroSample(dist.Uniform(0.1, 1.0))

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        mean = self.second(self.activation(self.first(x))).squeeze(-1)
        noise = self.noise
        with pyro.plate("data", len(x)):
            return pyro.sample("y", dist.Normal(mean, noise), obs=y)


class Lazily(PyroModule):
    """Decorated attributes: a parameter, a draw, and a draw's square, which is deterministic."""

    def __init__(self) -> None:
        super().__init__()
        self.loc = PyroParam(torch.tensor(0.5))

    @PyroParam(constraint=constraints.positive)
    def scale(self) -> Tensor:
        return torch.tensor(2.0)

    @PyroSample
    def z(self) -> dist.Normal:
        return dist.Normal(self.loc, self.scale)

    @PyroSample
    def square(self) -> Tensor:
        return self.z**2

    def forward(self, x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(self.z + self.square, 1.0), obs=x)


class Nested(PyroModule):
    """Modules in modules; each draw is made once in a call, and named by its path."""

    class Layer(PyroModule):
        def __init__(self) -> None:
            super().__init__()
            self.prior = PyroSample(lambda self: dist.Normal(torch.zeros(()), 1.0))
            self.gain = PyroSample(lambda self: dist.Normal(self.prior, 1.0))

        def forward(self, x: Tensor) -> Tensor:
            return x * self.gain + self.gain

    def __init__(self) -> None:
        super().__init__()
        self.one = self.Layer()
        self.more = PyroModule[nn.ModuleList]([self.Layer() for _ in range(2)])

    def forward(self, x: Tensor) -> None:
        h = self.one(x)
        for layer in self.more:
            h = layer(h)
        with pyro.plate("data", len(x)):
            pyro.sample("y", dist.Normal(h, 1.0))


class AllDrawn(PyroModule):
    """`PyroModule[nn.Sequential]`, every weight of which gets a prior in a loop."""

    def __init__(self) -> None:
        super().__init__()
        self.net = PyroModule[nn.Sequential](
            PyroModule[nn.Linear](3, 2), PyroModule[nn.ReLU](), PyroModule[nn.Linear](2, 2)
        )
        for module in self.net.modules():
            for name, value in list(module.named_parameters(recurse=False)):
                setattr(module, name, PyroSample(dist.Normal(torch.zeros_like(value), 1.0).to_event(value.dim())))

    def forward(self, x: Tensor) -> None:
        logits = self.net(x)
        with pyro.plate("data", len(x)):
            pyro.sample("k", dist.Categorical(logits=logits))


class PlainWeights(PyroModule):
    """`PyroModule[nn.Linear]` with weights that are parameters, tied and untied, beside a plain module."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.tied = PyroModule[nn.Linear](3, 2), PyroModule[nn.Linear](3, 2)
        self.tied.weight = self.linear.weight
        self.plain = nn.Linear(2, 2)
        self.table = PyroModule[nn.Embedding](3, 2)

    def forward(self, x: Tensor, k: Tensor) -> None:
        h = self.plain(self.linear(x) + self.tied(x)) + self.table(k)
        with pyro.plate("data", len(x)):
            pyro.sample("y", dist.Normal(h, 1.0).to_event(1))


class Recurrent(PyroModule):
    """A recurrent cell with a drawn bias, beside one without."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = PyroModule[nn.GRUCell](2, 3)
        self.cell.bias_hh = PyroSample(dist.Normal(0.0, 1.0).expand([9]).to_event(1))
        self.whole = PyroModule[nn.GRU](2, 3, batch_first=True)

    def forward(self, x: Tensor) -> None:
        h = self.cell(x[:, 0])
        out, _ = self.whole(x)
        with pyro.plate("data", len(x)):
            pyro.sample("y", dist.Normal(h + out[:, -1], 1.0).to_event(1))


class ModelAndGuide(PyroModule):
    """Both are methods, and share a parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = PyroSample(lambda self: dist.Normal(torch.zeros(()), 1.0))
        self.scale = PyroParam(torch.tensor(1.0), constraints.positive)

    @pyro_method
    def model(self, x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(self.weight * 2.0, self.scale), obs=x)

    @pyro_method
    def guide(self, x: Tensor) -> None:
        pyro.sample("weight", dist.Normal(x.mean() * self.scale, 1.0))


class PyroNetworks(nn.Module):
    """`DenseNN` and the autoregressive networks, each kept whole."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = DenseNN(2, [3], param_dims=[2, 2], nonlinearity=nn.Tanh())
        self.conditional = ConditionalDenseNN(2, 3, [3], param_dims=[1])
        self.autoregressive = AutoRegressiveNN(2, [3], param_dims=[1, 1])
        self.both = ConditionalAutoRegressiveNN(2, 3, [3], param_dims=[1])

    def forward(self, x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            a, b = self.dense(z)
            c, d = self.autoregressive(a)
            e, f = self.conditional(b, context=x), self.both(b, context=x)
            pyro.sample("y", dist.Normal((a + c + e + f).sum(-1), d.exp().sum(-1)))


class Replaced(nn.Module):
    """A layer of torch whose weight was deleted and is drawn in each call."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 1)
        del self.linear.weight

    def forward(self, x: Tensor) -> None:
        self.linear.weight = pyro.sample("weight", dist.Normal(torch.zeros(1, 3), 1.0).to_event(2))
        with pyro.plate("data", len(x)):
            pyro.sample("y", dist.Normal(self.linear(x).squeeze(-1), 1.0))


class Functional(nn.Module):
    """``torch.func.functional_call`` with some drawn weights."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(3, 2), nn.Tanh(), nn.Linear(2, 1))

    def forward(self, x: Tensor) -> None:
        first = self.net[0]
        weights = {
            f"0.{name}": pyro.sample(name, dist.Normal(torch.zeros_like(value), 1.0).to_event(value.dim()))
            for name, value in first.named_parameters()
        }
        mean = torch.func.functional_call(self.net, weights, (x,))
        with pyro.plate("data", len(x)):
            pyro.sample("y", dist.Normal(mean.squeeze(-1), 1.0))


_NET = seeded(lambda: nn.Sequential(nn.Linear(3, 2), nn.Tanh(), nn.Linear(2, 1)))


def random_module(x: Tensor) -> None:
    """``pyro.random_module``: deprecated, and still there; a copy of the network is made in each call."""
    prior = {"0.weight": dist.Normal(torch.zeros(2, 3), 1.0).to_event(2)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        lifted = pyro.random_module("net", _NET, prior)
    net = lifted()
    with pyro.plate("data", len(x)):
        pyro.sample("y", dist.Normal(net(x).squeeze(-1), 1.0))


def wholly_random_module(x: Tensor) -> None:
    shapes = {name: value.shape for name, value in _NET.named_parameters()}
    prior = {name: dist.Normal(torch.zeros(shape), 1.0).to_event(len(shape)) for name, shape in shapes.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        net = pyro.random_module("net", _NET, prior)()
    with pyro.plate("data", len(x)):
        pyro.sample("y", dist.Normal(net(x).squeeze(-1), 1.0))


def _converted() -> nn.Module:
    """A `nn.Sequential` made a `PyroModule` in place: the program itself."""
    net = seeded(lambda: nn.Sequential(nn.Linear(3, 2), nn.Tanh(), nn.Linear(2, 1)))
    to_pyro_module_(net)
    net[0].weight = PyroSample(lambda self: dist.Normal(torch.zeros(2, 3), 1.0).to_event(2))
    net[2].bias = PyroParam(torch.ones(1), constraint=constraints.positive)
    return net


class LocalParameters(PyroModule):
    """Under ``module_local_params`` no parameter goes through Pyro's store."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = PyroParam(torch.tensor(0.5), constraints.positive)
        self.linear, self.plain = PyroModule[nn.Linear](1, 1), nn.Linear(1, 1)

    def forward(self, x: Tensor) -> None:
        mean = self.plain(self.linear(x.unsqueeze(-1))).squeeze(-1)
        with pyro.plate("data", len(x)):
            pyro.sample("y", dist.Normal(mean, self.scale))


with pyro.settings.context(module_local_params=True):
    _LOCAL = seeded(LocalParameters)


def with_local_parameters(x: Tensor) -> None:
    with pyro.settings.context(module_local_params=True):
        _LOCAL(x)


_NETWORK = edges("first.weight -> y", "first.bias -> y", "second.weight -> y", "noise -> y", "x -> y")

PROGRAMS = (
    Program(seeded(BayesianNetwork), (values(4, 3), values(4)), name="BayesianNetwork", float64=False, edges=_NETWORK),
    Program(
        poutine.condition(seeded(BayesianNetwork), data={"noise": torch.tensor(0.4)}),
        (values(4, 3), values(4)),
        name="BayesianNetwork conditioned",
        float64=False,
        edges=_NETWORK,
    ),
    Program(
        functools.partial(seeded(BayesianNetwork), y=values(4)),
        (values(4, 3),),
        name="BayesianNetwork on its data",
        float64=False,
        edges=_NETWORK,
    ),
    Program(seeded(Lazily), (values(4),), name="Lazily", edges=edges("z -> square", "z -> x", "square -> x")),
    Program(
        seeded(Nested),
        (values(4),),
        name="Nested",
        edges=edges(
            "one.prior -> one.gain",
            "more.0.prior -> more.0.gain",
            "more.1.prior -> more.1.gain",
            "one.gain -> y",
            "more.0.gain -> y",
            "more.1.gain -> y",
            "x -> y",
        ),
    ),
    Program(
        seeded(AllDrawn),
        (values(4, 3),),
        name="AllDrawn",
        float64=False,
        edges=edges("net.0.weight -> k", "net.0.bias -> k", "net.2.weight -> k", "net.2.bias -> k", "x -> k"),
    ),
    Program(seeded(PlainWeights), (values(4, 3), torch.tensor([0, 2, 1, 0])), name="PlainWeights"),
    Program(
        seeded(Recurrent),
        (values(4, 2, 2),),
        name="Recurrent",
        float64=False,
        edges=edges("cell.bias_hh -> y", "x -> y"),
    ),
    Program(seeded(ModelAndGuide).model, (values(4),), name="ModelAndGuide.model", edges=edges("weight -> x")),
    Program(seeded(ModelAndGuide).guide, (values(4),), name="ModelAndGuide.guide", edges=edges("x -> weight")),
    Program(seeded(PyroNetworks), (values(4, 3),), name="PyroNetworks", edges=edges("z -> y", "x -> y")),
    Program(seeded(Replaced), (values(4, 3),), name="Replaced", edges=edges("weight -> y", "x -> y")),
    Program(seeded(Functional), (values(4, 3),), name="Functional", edges=edges("weight -> y", "bias -> y", "x -> y")),
    Program(random_module, (values(4, 3),), edges=edges("net$$$0.weight -> y", "x -> y")),
    Program(
        wholly_random_module,
        (values(4, 3),),
        edges=edges("net$$$0.weight -> y", "net$$$0.bias -> y", "net$$$2.weight -> y", "net$$$2.bias -> y", "x -> y"),
    ),
    Program(_converted(), (values(4, 3),), name="converted", edges=edges()),
    Program(_LOCAL, (values(4),), name="LocalParameters"),
    Program(with_local_parameters, (values(4),)),
)
