"""What every action head is given and must give."""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Bool, Float
from torch import Tensor, nn

from videopolicy.backbones.backbone import FeatureMap
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

    @staticmethod
    def of(batch: dict[str, Tensor]) -> "Targets":
        return Targets(**{f.name: batch[f.name] for f in fields(Targets)})

    def where(self, keep: Bool[Tensor, " batch"]) -> "Targets":
        """The same labels, valid only in the samples to keep."""
        return Targets(self.pixel, self.height, self.gripper, self.position, self.valid & keep[:, None])


@runtime_checkable
class ActionHead(Protocol):
    """Features to predictions; predictions to a loss in training, to action chunks in use."""

    n_steps: int

    def parameters(self) -> Iterator[nn.Parameter]: ...

    def forward(self, features: FeatureMap) -> Any: ...

    def loss(self, prediction: Any, targets: Targets) -> dict[str, Tensor]:
        """Named terms (means over valid steps); what is minimised is their weighted sum."""
        ...

    def decode(self, prediction: Any, cameras: list[Camera]) -> list[ActionChunk]: ...


def masked_mean(value: Float[Tensor, "batch step"], valid: Bool[Tensor, "batch step"]) -> Float[Tensor, ""]:
    """Mean over valid steps; 0 where there is none (and then without gradient). NaN in a valid step stays NaN."""
    return value.where(valid, 0.0).sum() / valid.sum().clamp(min=1)
