"""A running mean of a model's trained weights, which is what acts: smoother than the last step's."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from videopolicy.errors import BadInput


class WeightAverage:
    """Exponential moving average. Early on it forgets faster, or it would hold on to the start.

    Kept where the weights are, or in main memory (`on_cpu`), at the cost of a copy every step.
    """

    def __init__(self, model: nn.Module, decay: float, on_cpu: bool) -> None:
        self.decay = decay
        self.weights = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.means = {
            name: p.detach().float().clone().to("cpu" if on_cpu else p.device) for name, p in self.weights.items()
        }

    @torch.no_grad()
    def update(self, step: int) -> None:
        """After optimizer step `step`, counted from 0."""
        share = 1 - min(self.decay, (1 + step) / (10 + step))
        for name, p in self.weights.items():
            self.means[name].lerp_(p.detach().to(self.means[name]).view_as(self.means[name]), share)

    @contextmanager
    @torch.no_grad()
    def instead(self) -> Iterator[None]:
        """The model with averaged weights, while this lasts."""
        own = {name: p.detach().to(self.means[name].device, copy=True) for name, p in self.weights.items()}
        try:
            self._put(self.means)
            yield
        finally:
            self._put(own)

    @torch.no_grad()
    def load(self, means: dict[str, Tensor]) -> None:
        """`BadInput` where they are not these weights'."""
        for name, mean in self.means.items():
            found = means.get(name)
            if found is None or found.shape != mean.shape or not found.isfinite().all():
                what = "nothing" if found is None else tuple(found.shape)
                raise BadInput(f"the mean of {name} is {what}; allowed: finite, {tuple(mean.shape)}")
            mean.copy_(found)

    def _put(self, values: dict[str, Tensor]) -> None:
        for name, p in self.weights.items():
            p.data.copy_(values[name])
