"""Every step's batch as this process computes it: in parts, on its device, each with what is random about it."""

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, default_collate

from videopolicy.data.dataset import ClipDataset, batch_indices
from videopolicy.data.mixture import Mixture
from videopolicy.training.randomness import network_seed
from videopolicy.training.setup import TrainConfig


class Part(NamedTuple):
    """Samples that are computed together."""

    data: dict[str, Tensor]
    draws: Any  # what an objective draws of them
    seed: int  # of what networks draw by themselves


class Batches:
    """From step `start` on, in order; `waited` counts the seconds that were spent waiting for clips."""

    def __init__(
        self,
        cfg: TrainConfig,
        clips: ClipDataset | Mixture,
        draws: Callable[[Sequence[int], int], object],
        start: int,
        rank: int,
        world: int,
        device: torch.device,
        overfit: bool,
    ) -> None:
        self.cfg, self.clips, self.draws, self.start, self.device = cfg, clips, draws, start, device
        self.places = _split(list(range(cfg.batch_size)[rank::world]), cfg.accumulate)
        steps = (batch_indices(len(clips), cfg.batch_size, cfg.seed, s, overfit) for s in range(start, cfg.n_steps))
        self.indices = [batch[rank::world] for batch in steps]
        parts = [part for own in self.indices for part in _split(own, cfg.accumulate)]
        self.loader = iter(DataLoader(clips, batch_sampler=parts, num_workers=cfg.num_workers, collate_fn=_collate))
        self.waited = 0.0

    def read(self, step: int) -> list[Part]:
        """This process's parts; steps must be asked for one after the other."""
        began = time.perf_counter()
        loaded = [next(self.loader) for _ in self.places]
        self.waited += time.perf_counter() - began
        return [
            Part(
                {k: torch.as_tensor(v, device=self.device) for k, v in data.items()},
                self.draws(places, step),
                network_seed(self.cfg.seed, step, places[0]),
            )
            for data, places in zip(loaded, self.places, strict=True)
        ]

    def names(self, step: int) -> list[tuple]:
        """Episode and frame of this process's samples, and of a mixture's their dataset."""
        return [self.clips.samples[i] for i in self.indices[step - self.start]]


def _collate(samples: list[dict[str, Tensor]]) -> dict[str, Tensor | np.ndarray]:
    """Small tensors as arrays: each tensor that a worker hands over costs a connection to it, half a millisecond."""
    batch = default_collate(samples)
    return {k: v.numpy() if v.nbytes < 2**16 else v for k, v in batch.items()}


def _split(samples: list[int], n: int) -> list[list[int]]:
    """In `n` parts, as equal as can be."""
    return [samples[len(samples) * i // n : len(samples) * (i + 1) // n] for i in range(n)]
