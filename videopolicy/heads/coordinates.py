"""What all heads that regress coordinates share: their targets, their loss, and their decoding."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from videopolicy.camera import Camera
from videopolicy.heads.head import Targets
from videopolicy.types import ActionChunk


@dataclass(frozen=True)
class CoordinateShape:
    """What a head that regresses coordinates reads and predicts, and the scale of its positions."""

    channels: int
    n_frames: int
    n_steps: int
    image_size: tuple[int, int]  # (width, height), whose pixels targets are in
    position_mean: Float[Tensor, " 3"]  # of the training positions [m]
    position_std: Float[Tensor, " 3"]
    period: float  # between waypoints [s]


class CoordinateHead(nn.Module):
    """Predicts (batch step 4): xyz in standard deviations of the training positions, and a gripper logit."""

    terms: tuple[str, ...] = ("position", "gripper")
    acts = True
    position_mean: Tensor
    position_std: Tensor

    def __init__(self, shape: CoordinateShape) -> None:
        super().__init__()
        self.n_steps, self.period = shape.n_steps, shape.period
        self.register_buffer("position_mean", shape.position_mean)
        self.register_buffer("position_std", shape.position_std)

    def goal(self, targets: Targets) -> Float[Tensor, "batch step 3"]:
        """Positions to predict; masked ones, which may be NaN, whose gradient a mask on the loss would not stop, 0."""
        goal = targets.position.where(targets.valid[..., None], self.position_mean)
        return (goal - self.position_mean) / self.position_std

    def loss(self, prediction: Any, targets: Targets) -> dict[str, Tensor]:
        return self.coordinate_loss(prediction, targets)

    def decode(self, prediction: Any, cameras: list[Camera]) -> list[ActionChunk]:
        return self.chunks(prediction)

    def coordinate_loss(self, prediction: Float[Tensor, "batch step 4"], targets: Targets) -> dict[str, Tensor]:
        """L1 of the positions, binary cross-entropy of the gripper."""
        closed_or_open = targets.gripper.where(targets.valid, 0.0).clamp(0, 1)
        position = (prediction[..., :3] - self.goal(targets)).abs().mean(-1)
        gripper = F.binary_cross_entropy_with_logits(prediction[..., 3], closed_or_open, reduction="none")
        return {"position": targets.mean(position), "gripper": targets.mean(gripper)}

    @torch.no_grad()
    def chunks(self, prediction: Float[Tensor, "batch step 4"]) -> list[ActionChunk]:
        position = (prediction[..., :3] * self.position_std + self.position_mean).double().cpu().numpy()
        gripper = prediction[..., 3].sigmoid().double().cpu().numpy()
        return [ActionChunk(p, g, self.period) for p, g in zip(position, gripper, strict=True)]


def mlp(n_in: int, width: int, n_out: int) -> nn.Sequential:
    """Three layers."""
    return nn.Sequential(nn.Linear(n_in, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, n_out))
