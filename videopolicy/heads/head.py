"""What every action head is given and must give."""

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from videopolicy.backbones.backbone import FeatureMap
from videopolicy.camera import Camera
from videopolicy.processes import mean_over_processes
from videopolicy.types import ActionChunk


@dataclass(frozen=True)
class Targets:
    """Labels of a batch. Steps that are not `valid` (outside the image, past the episode's end) count in no loss."""

    pixel: Float[Tensor, "batch step 2"]
    height: Float[Tensor, "batch step"]  # [m]
    gripper: Float[Tensor, "batch step"]
    position: Float[Tensor, "batch step 3"]  # [m]
    valid: Bool[Tensor, "batch step"]
    rotation: Float[Tensor, "batch step 3"] | None = None  # Euler angles of `rotation.py` [rad], where recorded

    @staticmethod
    def of(batch: dict[str, Tensor]) -> "Targets":
        return Targets(**{f.name: batch[f.name] for f in fields(Targets) if f.name in batch})

    def where(self, keep: Bool[Tensor, " batch"]) -> "Targets":
        """The same labels, valid only in the samples to keep."""
        return replace(self, valid=self.valid & keep[:, None])


class Standardised(nn.Module):
    """Features in standard deviations of what training has shown so far, channel by channel.

    Up-blocks of different levels differ in scale, and svd-tiny's last one holds constants (`backbones/carried.py`),
    beside which a normalisation over groups of channels would lose the rest.
    """

    mean: Tensor
    std: Tensor
    n_seen: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        for name, value in (
            ("mean", torch.zeros(channels)),
            ("std", torch.ones(channels)),
            ("n_seen", torch.zeros(())),
        ):
            self.register_buffer(name, value)

    def forward(self, x: Float[Tensor, "batch channel row col"]) -> Float[Tensor, "batch channel row col"]:
        if self.training:
            with torch.no_grad():
                share = torch.maximum(1 / (self.n_seen + 1), self.n_seen.new_tensor(0.02))
                std, mean = std_mean(x.detach().float())
                self.mean.lerp_(mean, share)
                self.std.lerp_(std, share)
                self.n_seen += 1
        return (x - self.mean[:, None, None]) / (self.std[:, None, None] + 1e-2)


@runtime_checkable
class ActionHead(Protocol):
    """Features to predictions; predictions to a loss in training, to action chunks in use."""

    n_steps: int
    terms: tuple[str, ...]  # names of the losses that are minimised

    def parameters(self) -> Iterator[nn.Parameter]: ...

    def forward(self, features: FeatureMap) -> Any: ...

    def loss(self, prediction: Any, targets: Targets) -> dict[str, Tensor]:
        """Named terms (means over valid steps); what is minimised is their weighted sum."""
        ...

    def decode(self, prediction: Any, cameras: list[Camera]) -> list[ActionChunk]: ...


def std_mean(x: Float[Tensor, "batch channel row col"]) -> tuple[Float[Tensor, " channel"], Float[Tensor, " channel"]]:
    """Standard deviations and means of channels over the batch, all processes' parts of it together."""
    variance, mean = torch.var_mean(x, (0, 2, 3), correction=0)
    whole = mean_over_processes(mean)
    variance = mean_over_processes(variance + (mean - whole).square())
    return variance.sqrt(), whole


def masked_mean(value: Float[Tensor, "batch step"], valid: Bool[Tensor, "batch step"]) -> Float[Tensor, ""]:
    """Mean over valid steps; 0 where there is none (and then without gradient). NaN in a valid step stays NaN.

    Where processes share a batch it is divided by their mean number of valid steps: averaged over them, as gradients
    are, it is the whole batch's mean.
    """
    return value.where(valid, 0.0).sum() / mean_over_processes(valid.sum().float()).clamp(min=1e-6)
