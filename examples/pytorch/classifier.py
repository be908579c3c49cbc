"""A classifier distilled into a small one by its soft labels: no latent, one target.

Hinton, Vinyals & Dean 2015, arXiv:1503.02531. The loss is that of a pair with one option:

    dgm.compile(pair, divergence="cross_entropy", temperature=TEMPERATURE)
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import Categorical

import dgmcompile as dgm

PIXELS, CLASSES, TEMPERATURE = 64, 10, 4.0
OPTIONS = {"divergence": "cross_entropy", "temperature": TEMPERATURE}


class Classifier(nn.Module):
    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(PIXELS, hidden), nn.ReLU(), nn.Linear(hidden, CLASSES))

    def forward(self, image: Tensor) -> Tensor:
        logits = self.net(image)
        dgm.target("label", Categorical(logits=logits))
        return logits


def by_hand(teacher: Classifier, student: Classifier, image: Tensor) -> Tensor:
    """The same loss as people write it."""
    soft = F.softmax(teacher.net(image).detach() / TEMPERATURE, -1)
    return -(TEMPERATURE**2) * (soft * F.log_softmax(student.net(image) / TEMPERATURE, -1)).sum(-1).mean()


model, student = Classifier(256), Classifier(16)
example_inputs = (torch.rand(8, PIXELS),)
