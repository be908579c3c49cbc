"""Hierarchical VAE of 32 x 32 images: five layers of latents, each feature map twice the size of the one above.

The generative half of a ladder VAE (Sønderby et al. 2016, arXiv:1602.02282): z5 -> z4 -> z3 -> z2 -> z1 -> x.
"""

import pyro
import pyro.distributions as dist
import torch
import torch.nn.functional as F
from pyro.nn import PyroModule
from torch import Tensor, nn

LATENT = 16
"""Channels of every latent."""

CHANNELS = 1
"""Channels of an image."""

NOISE = 0.1
"""Standard deviation of a pixel."""


def upsample(width: int, out_channels: int) -> nn.Sequential:
    """Twice the height and width, ``LATENT`` channels to ``out_channels``."""
    return nn.Sequential(
        nn.ConvTranspose2d(LATENT, width, kernel_size=4, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.LeakyReLU(0.1),
        nn.Conv2d(width, width, kernel_size=3, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.LeakyReLU(0.1),
        nn.Conv2d(width, out_channels, kernel_size=3, padding=1),
    )


class HVAE(PyroModule):
    """Convolutions of ``width`` channels.

    ``name`` keeps its parameters apart from those of another in Pyro's parameter store.
    """

    def __init__(self, name: str, width: int) -> None:
        super().__init__(name)
        self.priors = nn.ModuleList(upsample(width, 2 * LATENT) for _ in range(4))
        self.decoder = upsample(width, CHANNELS)

    def forward(self, images: Tensor) -> Tensor:
        with pyro.plate("batch", images.shape[0]):
            top = images.new_zeros(images.shape[0], LATENT, 1, 1)
            z = pyro.sample("z5", dist.Normal(top, torch.ones_like(top)).to_event(3))
            for layer, prior in zip((4, 3, 2, 1), self.priors, strict=True):
                loc, scale = prior(z).chunk(2, dim=1)
                z = pyro.sample(f"z{layer}", dist.Normal(loc, F.softplus(scale)).to_event(3))
            return pyro.sample("x", dist.Normal(self.decoder(z), NOISE).to_event(3), obs=images)


with torch.random.fork_rng():
    torch.manual_seed(0)
    model = HVAE("large", width=128).eval()
    student = HVAE("small", width=32)

example_inputs = (torch.zeros(4, CHANNELS, 32, 32),)
