"""Random numbers that depend on nothing but a seed."""

import torch


def generator(seed: int) -> torch.Generator:
    """Seeded, on the device that tensors are made on (``pytest --device``)."""
    return torch.Generator(torch.get_default_device()).manual_seed(seed)
