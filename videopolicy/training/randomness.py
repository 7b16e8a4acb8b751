"""The randomness of a training step: a function of seed, step and process, so that a resumed run draws the same."""

import torch


def step_generator(seed: int, step: int, rank: int) -> torch.Generator:
    return torch.Generator().manual_seed(((seed * 1_000_003 + step) * 1009 + rank) % 2**63)
