"""Heads of every kind, small, with features and targets for them."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch import Tensor

from videopolicy.backbones.backbone import FeatureMap
from videopolicy.bins import Bins
from videopolicy.camera import Camera
from videopolicy.heads.act import ActConfig
from videopolicy.heads.attention_pool import AttentionPoolConfig
from videopolicy.heads.choice import HeadConfig, HeadKind, make_head
from videopolicy.heads.coordinates import CoordinateHead, CoordinateShape
from videopolicy.heads.diffusion import DiffusionConfig
from videopolicy.heads.head import Targets
from videopolicy.heads.heatmap import ParaConfig
from videopolicy.heads.para import ParaHead, ParaPrediction
from videopolicy.heads.regression import RegressionConfig, RegressionHead
from videopolicy.heads.spatial_softmax import SpatialSoftmaxConfig
from videopolicy.heads.tracks import TracksConfig

SIZE, GRID, CELL = (224, 224), (28, 28), 8
HEIGHTS = Bins(-0.02, 0.33, 32)


def para(n_frames: int = 6, n_steps: int = 6, channels: int = 16, **options: object) -> ParaHead:
    torch.manual_seed(0)
    return ParaHead(ParaConfig(width=16, **options), channels, n_frames, n_steps, GRID, SIZE, HEIGHTS, 0.25)


def joint() -> ParaHead:
    return para(volume_loss="joint")


def rotating() -> ParaHead:
    return para(n_rotation=24, gripper_head="indexed_mlp")


def prediction_of(heatmap: Tensor) -> ParaPrediction:
    """A factored prediction that says nothing but where."""
    return ParaPrediction(heatmap[:, :, None], heatmap.new_zeros(len(heatmap), 1, 1, *heatmap.shape[-2:]), {})


def regression(mean: tuple = (0.0, 0.0, 0.0), std: tuple = (1.0, 1.0, 1.0)) -> RegressionHead:
    torch.manual_seed(0)
    shape = CoordinateShape(16, 6, 6, SIZE, torch.tensor(mean), torch.tensor(std), 0.25)
    return RegressionHead(RegressionConfig(width=16), shape)


@dataclass(frozen=True)
class Shape:
    """A backbone that knows its sizes, and sees the same features in every picture."""

    feature_channels: int = 16
    n_feature_frames: int = 6
    grid: tuple[int, int] = GRID
    image_size: tuple[int, int] = SIZE

    def forward(self, images: Tensor, start_pixel: Tensor, start_height: Tensor | None = None) -> FeatureMap:
        return features(len(images), self.n_feature_frames)


SMALL = HeadConfig(
    n_steps=6,
    para=ParaConfig(width=16),
    regression=RegressionConfig(16),
    attention_pool=AttentionPoolConfig(16, 2),
    spatial_softmax=SpatialSoftmaxConfig(4, 16),
    tracks=TracksConfig(AttentionPoolConfig(16, 2), 16),
    act=ActConfig(16, 32, 2, 1, 1, 4),
    diffusion=DiffusionConfig((16, 32, 32), 5, 8, 16, 4, 16, n_eval_iterations=10),
)
LABELS = {
    "height": (0.0, 0.3),
    "position_mean": [-0.2, 0.0, 0.15],
    "position_std": [0.1, 0.15, 0.1],
    "position_low": [-0.4, -0.3, 0.0],
    "position_high": [0.0, 0.3, 0.3],
}


def kind(name: str) -> Callable[[], ParaHead | CoordinateHead]:
    """What makes a small head of that kind; in evaluation mode, so that nothing is drawn."""

    def make() -> ParaHead | CoordinateHead:
        torch.manual_seed(0)
        return make_head(replace(SMALL, kind=name), Shape(), LABELS, 4).eval()

    return make


KINDS = [*(kind(k) for k in HeadKind.__args__), joint, rotating]
every_head = pytest.mark.parametrize("make", KINDS, ids=[*HeadKind.__args__, "joint", "rotating"])


def features(n: int = 2, frames: int = 6) -> FeatureMap:
    return FeatureMap(torch.randn(n, frames, 16, *GRID, generator=torch.Generator().manual_seed(0)))


def targets(camera: Camera, n: int = 4, steps: int = 6) -> Targets:
    """Waypoints over the table with their true pixels, all inside the image."""
    rng = np.random.default_rng(0)
    position = rng.uniform([-0.35, -0.25, 0.0], [0.0, 0.25, 0.3], (n, steps, 3))
    pixel = camera.project(position)
    assert camera.contains(pixel).all()
    gripper = rng.integers(0, 2, (n, steps)).astype(float)
    numbers = (torch.from_numpy(x).float() for x in (pixel, position[..., 2], gripper, position))
    rotation = torch.from_numpy(rng.uniform(-np.pi, np.pi, (n, steps, 3))).float()
    return Targets(*numbers, torch.ones(n, steps, dtype=torch.bool), rotation)


def changed(labels: Targets, at: Tensor, value: float) -> Targets:
    """The same labels with every number replaced by `value` where `at`, and invalid there."""
    fill = {name: getattr(labels, name).clone() for name in ("pixel", "height", "gripper", "position", "rotation")}
    for x in fill.values():
        x[at] = value
    return Targets(**fill, valid=labels.valid & ~at)
