"""Spatial softmax: the mean position of each of a few learned keypoints, and coordinates from those."""

from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from videopolicy.backbones.backbone import FeatureMap
from videopolicy.errors import at_least_one
from videopolicy.heads.coordinates import CoordinateHead, CoordinateShape, mlp
from videopolicy.heads.embedding import Embedding


@dataclass(frozen=True)
class SpatialSoftmaxConfig:
    n_keypoints: int = 32
    width: int = 512  # of the hidden layers

    def __post_init__(self) -> None:
        at_least_one(self, "n_keypoints", "width", of="head.spatial_softmax.")


class SpatialSoftmaxHead(CoordinateHead):
    """Keypoints as in end-to-end visuomotor policies (Levine et al. 2016, section 4), then a three-layer MLP."""

    def __init__(self, cfg: SpatialSoftmaxConfig, shape: CoordinateShape) -> None:
        super().__init__(shape)
        self.maps, self.n_frames = Embedding(shape.channels, cfg.n_keypoints), shape.n_frames
        self.log_temperature = nn.Parameter(torch.zeros(()))
        self.net = mlp(2 * shape.n_frames * cfg.n_keypoints, cfg.width, shape.n_steps * 4)

    def forward(self, features: FeatureMap) -> Float[Tensor, "batch step 4"]:
        points = expected_points(self.maps(features), self.log_temperature)
        flat = rearrange(points, "(b t) k c -> b (t k c)", t=self.n_frames)
        return rearrange(self.net(flat).float(), "b (n c) -> b n c", n=self.n_steps)


def expected_points(
    maps: Float[Tensor, "batch_frame keypoint row col"], log_temperature: Float[Tensor, "..."]
) -> Float[Tensor, "batch_frame keypoint 2"]:
    """Each map's mean position (u, v) under its softmax, -1 ... 1 along each side; the temperature is one number."""
    maps = maps.float()
    mass = (maps.flatten(2) / log_temperature.exp()).softmax(-1).reshape(maps.shape)
    v, u = (2 * (torch.arange(n, device=maps.device) + 0.5) / n - 1 for n in maps.shape[-2:])
    return torch.stack([(mass.sum(2) * u).sum(-1), (mass.sum(3) * v).sum(-1)], -1)
