"""A training step's batch, in the parts that processes and accumulation make of it: no loss depends on how many.

What is averaged over a batch must be averaged over all of its parts. Losses over what counts in it are divided by
numbers known before any part is computed; running statistics move once per step, after it. What networks draw by
themselves, the dropout and latent of `act` and the noise of `diffusion`, does depend on the parts.
"""

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from videopolicy.processes import mean_over_processes


class Counts(NamedTuple):
    """How much of a batch losses are means over, as the mean over its parts."""

    steps: Float[Tensor, ""]  # valid waypoints
    samples: Float[Tensor, ""]  # samples with any, or that a readout learns from


def mean_counts(parts: list[Counts]) -> Counts:
    """Of this process's parts and all others'."""
    return Counts(*mean_over_processes(torch.stack([torch.stack(part) for part in parts]).mean(0)))


def masked_mean(
    value: Float[Tensor, "*batch"], valid: Bool[Tensor, "*batch"], count: Float[Tensor, ""] | None = None
) -> Float[Tensor, ""]:
    """Mean over what is valid; 0 where nothing is (and then without gradient). NaN where valid stays NaN.

    `count` is the mean number over all parts of a batch: averaged over them, as gradients are, this is then the whole
    batch's mean. None: these values are the batch.
    """
    n = valid.sum().float() if count is None else count
    return value.where(valid, 0.0).sum() / n.clamp(min=1e-6)


class StepStatistics(nn.Module, ABC):
    """A module with running statistics of what training has shown it up to the last step.

    In training it notes each part's values, and uses statistics that do not have them yet; `settle` then moves them.
    """

    def __init__(self) -> None:
        super().__init__()
        self.noted: list[Tensor] = []

    def note(self, values: Float[Tensor, "..."]) -> None:
        """Values of a part, whose mean over all parts is the batch's."""
        self.noted.append(values.detach().double())

    def settle(self) -> None:
        """Move the statistics by the step's batch."""
        if self.noted:
            values = mean_over_processes(torch.stack(self.noted).mean(0))
            self.noted.clear()
            self.move(values)

    @abstractmethod
    def move(self, values: Float[Tensor, "..."]) -> None:
        """By the values' mean over a step's batch."""


def forget(model: nn.Module) -> None:
    """Drop what a model's running statistics have noted since they were settled."""
    for module in model.modules():
        if isinstance(module, StepStatistics):
            module.noted.clear()


def settle(model: nn.Module) -> None:
    """After a step: move every running statistic in a model by its batch."""
    for module in model.modules():
        if isinstance(module, StepStatistics):
            module.settle()
