"""The randomness of a training step: of each sample a function of seed, step and its place in the batch.

A resumed run draws the same, and so does any number of processes that share the batch.
"""

from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any, TypeVar

import numpy as np
import torch

T = TypeVar("T")


def sample_generator(seed: int, step: int, place: int) -> torch.Generator:
    state = np.random.SeedSequence([seed, step, place]).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0] >> 1))


def network_seed(seed: int, step: int, place: int) -> int:
    """For what networks draw by themselves in training: dropout, the latent of `act`, the noise of `diffusion`.

    `place` is that of the part's first sample: a resumed run draws the same, another number of parts or processes not.
    """
    return int(np.random.SeedSequence([seed, step, place, 1]).generate_state(1, np.uint64)[0] >> 1)


def drawn(one: Callable[[torch.Generator], T], seed: int, step: int, places: Sequence[int]) -> T:
    """A dataclass of tensors for samples at these places of step's batch, from what `one` draws for a single one.

    Each tensor's first axis is the batch; fields that are None stay so, and those that are dataclasses are alike.
    """
    return _together([one(sample_generator(seed, step, place)) for place in places])


def _together(found: list[Any]) -> Any:
    if found[0] is None:
        return None
    if isinstance(found[0], torch.Tensor):
        return torch.cat(found)
    return type(found[0])(*(_together([getattr(x, f.name) for x in found]) for f in fields(found[0])))
