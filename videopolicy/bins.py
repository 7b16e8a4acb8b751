"""Uniform bins over an interval: how a head classifies a scalar."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from videopolicy.errors import BadInput
from videopolicy.lifting import bin_range


@dataclass(frozen=True)
class Bins:
    """`n` equal bins over [low, high]; unit of the values. Saved with the model that was trained on them."""

    low: float
    high: float
    n: int

    def __post_init__(self) -> None:
        if self.n < 1:
            raise BadInput(f"n bins must be at least 1, not {self.n}")
        if not self.high - self.low > 1e-9:
            raise BadInput(f"degenerate bins: low {self.low} and high {self.high} must span more than nothing")

    @staticmethod
    def around(low: float, high: float, n: int) -> "Bins":
        """Bins over labels [m] from `low` to `high`, and a little on either side."""
        return Bins(*bin_range(low, high), n)

    @property
    def width(self) -> float:
        return (self.high - self.low) / self.n

    def centres(self, like: Tensor) -> Float[Tensor, " n"]:
        index = torch.arange(self.n, device=like.device, dtype=torch.float32)
        return self.low + (index + 0.5) * self.width

    def encode(self, value: Float[Tensor, "*batch"]) -> Int[Tensor, "*batch"]:
        """Index of the bin that holds each value; values outside fall in the first or last (see `outside`)."""
        return ((value - self.low) / self.width).floor().long().clamp(0, self.n - 1)

    def outside(self, value: Float[Tensor, "*batch"]) -> Bool[Tensor, "*batch"]:
        return (value < self.low) | (value > self.high)

    def decode(self, logits: Float[Tensor, "*batch n"], window: int = 1) -> Float[Tensor, "*batch"]:
        """Value at the most likely bin, refined by the mean over `window` bins to each side of it."""
        probability = logits.float().softmax(-1)
        peak = probability.argmax(-1, keepdim=True)
        index = torch.arange(self.n, device=logits.device)
        near = probability * ((index - peak).abs() <= window)
        return (near * self.centres(logits)).sum(-1) / near.sum(-1)
