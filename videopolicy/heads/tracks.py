"""Motion tracks: where the end effector goes in the image as regressed 2-D points, and coordinates from those."""

from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from videopolicy.backbones.backbone import FeatureMap
from videopolicy.camera import Camera
from videopolicy.errors import at_least_one
from videopolicy.heads.attention_pool import AttentionPool, AttentionPoolConfig
from videopolicy.heads.coordinates import CoordinateHead, CoordinateShape, mlp
from videopolicy.heads.head import Targets
from videopolicy.types import ActionChunk


@dataclass(frozen=True)
class TracksConfig:
    pool: AttentionPoolConfig = AttentionPoolConfig()
    width: int = 512  # of the hidden layers

    def __post_init__(self) -> None:
        at_least_one(self, "width", of="head.tracks.")


@dataclass(frozen=True)
class TracksPrediction:
    track: Float[Tensor, "batch step 2"]  # in the image, -1 ... 1 along each side
    coordinates: Float[Tensor, "batch step 4"]


class TracksHead(CoordinateHead):
    """After Motion Tracks (Ren et al. 2025), from one camera, where they triangulate from two.

    A single track says nothing of depth, so coordinates are regressed from all steps' tracks and the pooled features.
    """

    terms = ("track", "position", "gripper")

    def __init__(self, cfg: TracksConfig, shape: CoordinateShape) -> None:
        super().__init__(shape)
        self.image_size = shape.image_size
        self.pool = AttentionPool(cfg.pool, shape.channels, shape.n_frames, shape.n_steps)
        self.track = mlp(cfg.pool.width, cfg.width, 2)
        self.lift = mlp(shape.n_steps * (2 + cfg.pool.width), cfg.width, shape.n_steps * 4)

    def forward(self, features: FeatureMap) -> TracksPrediction:
        pooled = self.pool(features)
        track = self.track(pooled).float()
        both = rearrange(torch.cat([track, pooled], -1), "b n c -> b (n c)")
        return TracksPrediction(track, rearrange(self.lift(both).float(), "b (n c) -> b n c", n=self.n_steps))

    def loss(self, prediction: TracksPrediction, targets: Targets) -> dict[str, Tensor]:
        """L1 of the tracks beside the losses of coordinate regression."""
        side = targets.pixel.new_tensor(self.image_size)
        goal = (2 * targets.pixel / side - 1).where(targets.valid[..., None], 0.0)
        track = (prediction.track - goal).abs().mean(-1)
        return {"track": targets.mean(track), **self.coordinate_loss(prediction.coordinates, targets)}

    @torch.no_grad()
    def decode(self, prediction: TracksPrediction, cameras: list[Camera]) -> list[ActionChunk]:
        pixel = (prediction.track + 1) / 2 * prediction.track.new_tensor(self.image_size)
        chunks = self.chunks(prediction.coordinates)
        return [
            ActionChunk(c.position, c.gripper, c.period, uv)
            for c, uv in zip(chunks, pixel.double().cpu().numpy(), strict=True)
        ]
