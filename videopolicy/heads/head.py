"""What every action head is given and must give."""

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from videopolicy.backbones.backbone import FeatureMap
from videopolicy.batch import Counts, StepStatistics, masked_mean
from videopolicy.camera import Camera
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
    counts: Counts | None = None  # of all parts of the batch; None: these labels are the batch

    @staticmethod
    def of(batch: dict[str, Tensor]) -> "Targets":
        return Targets(**{f.name: batch[f.name] for f in fields(Targets) if f.name in batch})  # type: ignore[arg-type]

    def where(self, keep: Bool[Tensor, " batch"]) -> "Targets":
        """The same labels, valid only in the samples to keep."""
        return replace(self, valid=self.valid & keep[:, None])

    def count(self) -> Counts:
        """How much counts in these labels."""
        return Counts(self.valid.sum().float(), self.valid.any(-1).sum().float())

    def mean(self, value: Float[Tensor, "batch step"]) -> Float[Tensor, ""]:
        """Of the batch's valid steps."""
        return masked_mean(value, self.valid, self.counts.steps if self.counts else None)

    def mean_over_samples(self, value: Float[Tensor, " batch"]) -> Float[Tensor, ""]:
        """Of the batch's samples with any valid step."""
        return masked_mean(value, self.valid.any(-1), self.counts.samples if self.counts else None)


class Standardised(StepStatistics):
    """Features in standard deviations of what training has shown so far, channel by channel.

    Up-blocks of different levels differ in scale, and svd-tiny's last one holds constants (`backbones/carried.py`),
    beside which a normalisation over groups of channels would lose the rest. Where it does not learn, features stay as
    they are, over a constant.
    """

    mean: Tensor
    std: Tensor
    n_seen: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.learns = True
        for name, value in (
            ("mean", torch.zeros(channels)),
            ("std", torch.ones(channels)),
            ("n_seen", torch.zeros(())),
        ):
            self.register_buffer(name, value)

    @property
    def scale(self) -> Float[Tensor, " channel"]:
        """What features are divided by."""
        return self.std + 1e-2

    def forward(self, x: Float[Tensor, "batch channel row col"]) -> Float[Tensor, "batch channel row col"]:
        return self.each([x])[0]

    def each(self, levels: list[Float[Tensor, "batch _ _ _"]]) -> list[Float[Tensor, "batch _ _ _"]]:
        """Of maps of several sizes, whose channels are one after the other's."""
        if self.training and self.learns:
            both = [torch.var_mean(x.detach().float(), (0, 2, 3), correction=0) for x in levels]
            variance, mean = (torch.cat([pair[i] for pair in both]).double() for i in (0, 1))
            self.note(torch.stack([mean, variance + mean.square()]))
        sizes = [x.shape[1] for x in levels]
        parts = zip(levels, self.mean.split(sizes), self.scale.split(sizes), strict=True)
        return [(x - mean[:, None, None]) / scale[:, None, None] for x, mean, scale in parts]

    def move(self, values: Float[Tensor, "2 channel"]) -> None:
        mean, square = values
        share = torch.maximum(1 / (self.n_seen + 1), self.n_seen.new_tensor(0.02))
        self.mean.lerp_(mean.float(), share)
        self.std.lerp_((square - mean.square()).clamp(min=0).sqrt().float(), share)
        self.n_seen += 1


@runtime_checkable
class ActionHead(Protocol):
    """Features to predictions; predictions to a loss in training, to action chunks in use."""

    n_steps: int
    terms: tuple[str, ...]  # names of the losses that are minimised
    acts: bool  # whether `decode` makes chunks; else it only says where, by `pixels`

    def parameters(self) -> Iterator[nn.Parameter]: ...

    def forward(self, features: FeatureMap) -> Any: ...

    def loss(self, prediction: Any, targets: Targets) -> dict[str, Tensor]:
        """Named terms (means over valid steps); what is minimised is their weighted sum."""
        ...

    def decode(self, prediction: Any, cameras: list[Camera]) -> list[ActionChunk]: ...
