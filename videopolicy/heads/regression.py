"""Coordinate regression: from pooled features. "Global" in section 4.3, "ACT" in section 4."""

from dataclasses import dataclass
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from videopolicy.backbones.backbone import FeatureMap
from videopolicy.camera import Camera
from videopolicy.errors import BadInput, at_least_one
from videopolicy.heads.coordinates import CoordinateHead, CoordinateShape, mlp
from videopolicy.heads.head import Standardised, Targets
from videopolicy.heads.heatmap import LOCATES
from videopolicy.types import ActionChunk


@dataclass(frozen=True)
class RegressionConfig:
    width: int = 512  # of the hidden layers

    def __post_init__(self) -> None:
        at_least_one(self, "width", of="head.regression.")


class RegressionHead(CoordinateHead):
    """A ViT's class token, else the average over each map; beside it the start keypoint, and a three-layer MLP."""

    def __init__(self, cfg: RegressionConfig, shape: CoordinateShape, n_coordinates: int = 4) -> None:
        super().__init__(shape)
        self.standardise = Standardised(shape.channels)
        n = shape.channels * shape.n_frames
        self.norm = nn.LayerNorm(n)
        self.net = mlp(n + 3, cfg.width, shape.n_steps * n_coordinates)

    def forward(self, features: FeatureMap) -> Float[Tensor, "batch step _"]:
        pooled = features.token
        if pooled is None:
            b = len(features.dense)
            dense = self.standardise(rearrange(features.dense, "b t c h w -> (b t) c h w"))
            pooled = FeatureMap(rearrange(dense, "(b t) c h w -> b t c h w", b=b)).pooled
        told = torch.cat([self.norm(pooled), features.keypoint], -1)
        return rearrange(self.net(told).float(), "b (n c) -> b n c", n=self.n_steps)


class PixelRegressionHead(RegressionHead):
    """The same to pixels, which is all that it learns before it is shown a robot. Section 4.4."""

    terms = ("track",)
    acts = False

    def __init__(self, cfg: RegressionConfig, shape: CoordinateShape) -> None:
        super().__init__(cfg, shape, n_coordinates=2)
        del self.position_mean, self.position_std  # what pixels do not teach is not taken over from here
        self.image_size = shape.image_size

    def loss(self, prediction: Float[Tensor, "batch step 2"], targets: Targets) -> dict[str, Tensor]:
        """L1, in units of half the picture, as `tracks` has it."""
        goal = (2 * targets.pixel / targets.pixel.new_tensor(self.image_size) - 1).where(targets.valid[..., None], 0.0)
        return {"track": targets.mean((prediction - goal).abs().mean(-1))}

    @torch.no_grad()
    def pixels(self, prediction: Float[Tensor, "batch step 2"]) -> Float[Tensor, "batch step 2"]:
        return (prediction + 1) / 2 * prediction.new_tensor(self.image_size)

    def decode(self, prediction: Any, cameras: list[Camera]) -> list[ActionChunk]:
        raise BadInput(LOCATES)
