"""A network distilled by what it computes on the way: a deterministic latent and a deterministic target.

Romero et al. 2015, FitNets, arXiv:1412.6550. Both are compared by their squared distance, the Wasserstein distance of
two points.
"""

import torch
from torch import Tensor, nn

import dgmcompile as dgm

OPTIONS = {"latent_weight": 0.5}


class Network(nn.Module):
    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.below = nn.Sequential(nn.Linear(64, hidden), nn.ReLU(), nn.Linear(hidden, 32))
        self.above = nn.Sequential(nn.ReLU(), nn.Linear(32, 10))

    def forward(self, image: Tensor) -> Tensor:
        features = dgm.site("features", self.below(image))
        return self.above(features)


def by_hand(teacher: Network, student: Network, image: Tensor) -> Tensor:
    """The same loss as people write it."""
    wanted, found = teacher.below(image).detach(), student.below(image)
    features = (wanted - found).square().sum(-1).mean()
    output = (teacher.above(wanted).detach() - student.above(found)).square().sum(-1).mean()
    return output + 0.5 * features


model, student = Network(256), Network(16)
example_inputs = (torch.rand(8, 64),)
