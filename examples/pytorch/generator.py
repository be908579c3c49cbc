"""A generator distilled by what it makes of the same noise: no input, a latent that is noise, a deterministic target.

Aguinaldo et al. 2019, arXiv:1902.00159.
"""

import torch
from torch import Tensor, nn

OPTIONS: dict[str, float] = {}


class Generator(nn.Module):
    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(8, hidden), nn.LeakyReLU(0.2), nn.Linear(hidden, 64), nn.Tanh())

    def forward(self, count: int) -> Tensor:
        z = torch.randn(count, 8)
        return self.net(z)


def by_hand(teacher: Generator, student: Generator, count: int, noise: dict[str, Tensor]) -> Tensor:
    """The same loss as people write it."""
    z = noise["z_noise"]
    return (teacher.net(z).detach() - student.net(z)).square().sum(-1).mean()


model, student = Generator(256), Generator(16)
example_inputs = (8,)
