"""Variational autoencoder of binary 28 x 28 digits: a generative model, and an encoder as its guide.

Kingma & Welling 2014, arXiv:1312.6114; written in the manner of Pyro's VAE tutorial.
"""

import pyro
import pyro.distributions as dist
import torch
import torch.nn.functional as F
from torch import Tensor, nn

PIXELS = 28 * 28
LATENT = 20


class Decoder(nn.Module):
    """Latent code -> logits of the pixels."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(LATENT, hidden)
        self.logits = nn.Linear(hidden, PIXELS)

    def forward(self, z: Tensor) -> Tensor:
        return self.logits(F.softplus(self.hidden(z)))


class Encoder(nn.Module):
    """Pixels -> mean and standard deviation of the latent code."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(PIXELS, hidden)
        self.loc = nn.Linear(hidden, LATENT)
        self.log_scale = nn.Linear(hidden, LATENT)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        hidden = F.softplus(self.hidden(x))
        return self.loc(hidden), self.log_scale(hidden).exp()


class VAE(nn.Module):
    """``name`` keeps its parameters apart from those of another VAE in Pyro's parameter store."""

    def __init__(self, name: str, hidden: int) -> None:
        super().__init__()
        self.name = name
        self.decoder = Decoder(hidden)
        self.encoder = Encoder(hidden)

    def model(self, images: Tensor) -> Tensor:
        pyro.module(f"{self.name}.decoder", self.decoder)
        with pyro.plate("batch", images.shape[0]):
            loc = images.new_zeros(images.shape[0], LATENT)
            scale = images.new_ones(images.shape[0], LATENT)
            z = pyro.sample("z", dist.Normal(loc, scale).to_event(1))
            logits = self.decoder(z)
            pixels = images.reshape(-1, PIXELS)
            return pyro.sample("x", dist.Bernoulli(logits=logits).to_event(1), obs=pixels)

    def guide(self, images: Tensor) -> None:
        pyro.module(f"{self.name}.encoder", self.encoder)
        with pyro.plate("batch", images.shape[0]):
            loc, scale = self.encoder(images.reshape(-1, PIXELS))
            pyro.sample("z", dist.Normal(loc, scale).to_event(1))


with torch.random.fork_rng():
    torch.manual_seed(0)
    large = VAE("large", hidden=400)
    small = VAE("small", hidden=50)

model = large.model
guide = large.guide
student = small.model


def example_inputs() -> tuple[Tensor]:
    """Four images of a vertical bar, each in another column."""
    images = torch.zeros(4, 1, 28, 28)
    for i, image in enumerate(images):
        image[:, 4:24, 6 + 4 * i : 9 + 4 * i] = 1.0
    return (images,)
