"""Submodules called whole: torch's own, the user's, nested, shared, with state."""

from typing import NamedTuple

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

from tests.programs.program import Program, bits, edges, seeded, values


class Decoder(nn.Module):
    """Returns a tuple."""

    def __init__(self, latent: int = 2, hidden: int = 4, features: int = 3) -> None:
        super().__init__()
        self.hidden = nn.Linear(latent, hidden)
        self.loc = nn.Linear(hidden, features)
        self.log_scale = nn.Linear(hidden, features)

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.hidden(z).relu()
        return self.loc(hidden), self.log_scale(hidden).exp()


class VAE(nn.Module):
    """In the manner of Pyro's tutorial: model and guide are methods."""

    def __init__(self) -> None:
        super().__init__()
        self.decoder = Decoder()
        self.encoder = Decoder(3, 4, 2)

    def model(self, x: Tensor) -> Tensor:
        pyro.module("decoder", self.decoder)
        with pyro.plate("data", x.shape[0]):
            z = pyro.sample("z", dist.Normal(x.new_zeros(x.shape[0], 2), x.new_ones(x.shape[0], 2)).to_event(1))
            loc, scale = self.decoder(z)
            pyro.sample("x", dist.Normal(loc, scale).to_event(1), obs=x)
            return loc

    def guide(self, x: Tensor) -> None:
        pyro.module("encoder", self.encoder)
        with pyro.plate("data", x.shape[0]):
            loc, scale = self.encoder(x)
            pyro.sample("z", dist.Normal(loc, scale).to_event(1))


class Sequential(nn.Module):
    """`nn.Sequential` called once, and by its parts."""

    def __init__(self) -> None:
        super().__init__()
        self.net = seeded(lambda: nn.Sequential(nn.Linear(2, 4), nn.Softplus(), nn.Linear(4, 3)))
        self.head = seeded(lambda: nn.Sequential(nn.Linear(3, 3), nn.Tanh()))

    def forward(self, x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            h = self.net(z)
            for layer in self.head:
                h = layer(h)
            pyro.sample("x", dist.Bernoulli(logits=h).to_event(1), obs=x)


class Residual(nn.Module):
    """Nested user classes, one block called three times."""

    class Block(nn.Module):
        class Inner(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.linear = nn.Linear(3, 3)

            def forward(self, x: Tensor, *, gain: float = 1.0) -> Tensor:
                return gain * torch.tanh(self.linear(x))

        def __init__(self) -> None:
            super().__init__()
            self.inner = self.Inner()

        def forward(self, x: Tensor) -> Tensor:
            return x + self.inner(x, gain=0.5)

    def __init__(self) -> None:
        super().__init__()
        self.block = seeded(self.Block)

    def forward(self, x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(3), 1.0).to_event(1))
            h = self.block(z)
            y = pyro.sample("y", dist.Normal(self.block(h), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(self.block(y), 1.0).to_event(1), obs=x)


class SharedAtTwoShapes(nn.Module):
    """One network for a latent of a plate and for the global one."""

    def __init__(self) -> None:
        super().__init__()
        self.net = seeded(lambda: nn.Linear(2, 2))

    def forward(self, x: Tensor) -> None:
        whole = pyro.sample("whole", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        with pyro.plate("data", len(x)):
            each = pyro.sample("each", dist.Normal(self.net(whole), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(self.net(each), 1.0).to_event(1), obs=x)


class Normalised(nn.Module):
    """Batch norm in training mode: its buffers are as they were afterwards."""

    def __init__(self) -> None:
        super().__init__()
        self.net = seeded(lambda: nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.ReLU(), nn.Linear(3, 2)))

    def forward(self, x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(self.net(z), 1.0).to_event(1), obs=x)


class Convolutional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up = seeded(lambda: nn.ConvTranspose2d(2, 1, kernel_size=2, stride=2))

    def forward(self, image: Tensor) -> None:
        with pyro.plate("data", image.shape[0]):
            z = pyro.sample("z", dist.Normal(torch.zeros(2, 2, 2), 1.0).to_event(3))
            pyro.sample("image", dist.Bernoulli(logits=self.up(z)).to_event(3), obs=image)


class Moments(NamedTuple):
    loc: Tensor
    scale: Tensor


class NamedOutput(nn.Module):
    """A submodule that returns a named tuple, and one that returns a dict."""

    class ToMoments(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.both = nn.Linear(2, 2)

        def forward(self, z: Tensor) -> Moments:
            loc, raw = self.both(z).chunk(2, dim=-1)
            return Moments(loc, nn.functional.softplus(raw))

    class ToDict(nn.Module):
        def forward(self, z: Tensor) -> dict[str, Tensor]:
            return {"loc": z.sin(), "other": z.cos()}

    def __init__(self) -> None:
        super().__init__()
        self.moments = seeded(self.ToMoments)
        self.table = self.ToDict()

    def forward(self, x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            moments = self.moments(z)
            found = self.table(z)
            loc = moments.loc.squeeze(-1) + found["loc"].sum(-1)
            pyro.sample("x", dist.Normal(loc, moments.scale.squeeze(-1)), obs=x)


class ReturnsALaw(nn.Module):
    """A submodule that returns a distribution is no whole call."""

    class Head(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(2, 1)

        def forward(self, z: Tensor) -> dist.Normal:
            return dist.Normal(self.linear(z).squeeze(-1), 1.0)

    def __init__(self) -> None:
        super().__init__()
        self.head = seeded(self.Head)

    def forward(self, x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample("x", self.head(z), obs=x)


class SampleInside(nn.Module):
    """Sites inside a submodule: it is recorded through."""

    class Layer(nn.Module):
        def __init__(self, name: str) -> None:
            super().__init__()
            self.name, self.linear = name, nn.Linear(2, 2)

        def forward(self, z: Tensor) -> Tensor:
            return pyro.sample(self.name, dist.Normal(self.linear(z), 1.0).to_event(1))

    def __init__(self) -> None:
        super().__init__()
        self.layers = seeded(lambda: nn.ModuleList([self.Layer(f"layer {i}/ß") for i in range(3)]))

    def forward(self, x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            for layer in self.layers:
                z = layer(z)
            pyro.sample("x", dist.Normal(z.sum(-1), 1.0), obs=x)


class Embedded(nn.Module):
    """`nn.Embedding` of a discrete latent."""

    def __init__(self) -> None:
        super().__init__()
        self.table = seeded(lambda: nn.Embedding(3, 2))

    def forward(self, x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            k = pyro.sample("k", dist.Categorical(logits=torch.zeros(3)))
            pyro.sample("x", dist.Normal(self.table(k), 1.0).to_event(1), obs=x)


class DropsOut(nn.Module):
    """Dropout in eval mode does nothing, as a module and as a function."""

    def __init__(self) -> None:
        super().__init__()
        self.net = seeded(lambda: nn.Sequential(nn.Linear(2, 3), nn.Dropout(0.5)))
        self.eval()

    def forward(self, x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            h = nn.functional.dropout(self.net(z), 0.5, training=self.training)
            pyro.sample("x", dist.Normal(h.sum(-1), 1.0), obs=x)


def _closure_net() -> Program:
    net = seeded(lambda: nn.Linear(2, 2))
    scale = torch.tensor([0.5, 2.0])
    large = values(100, 2, seed=3)

    def closes_over(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(large.mean(0), scale).to_event(1))
            pyro.sample("x", dist.Normal(net(z), scale).to_event(1), obs=x)

    return Program(closes_over, (values(4, 2),))


PROGRAMS = (
    Program(seeded(VAE).model, (values(4, 3),), name="VAE.model", edges=edges("z -> x")),
    Program(seeded(VAE).guide, (values(4, 3),), name="VAE.guide", targets="all", edges=edges("x -> z")),
    Program(Sequential(), (bits(4, 3),)),
    Program(Residual(), (values(4, 3),), edges=edges("z -> y", "y -> x")),
    Program(SharedAtTwoShapes(), (values(4, 2),)),
    Program(Normalised(), (values(4, 2),)),
    Program(Convolutional(), (bits(3, 1, 4, 4),)),
    Program(NamedOutput(), (values(4),)),
    Program(ReturnsALaw(), (values(4),)),
    Program(SampleInside(), (values(4),)),
    Program(Embedded(), (values(4, 2),)),
    Program(DropsOut(), (values(4),)),
    _closure_net(),
)
