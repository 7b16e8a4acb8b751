"""Which head reads the features: the one thing that differs between the policies that are compared."""

from dataclasses import dataclass, replace
from typing import Literal

import torch

from videopolicy.backbones.backbone import Backbone
from videopolicy.bins import Bins
from videopolicy.errors import BadInput, at_least_one, choices
from videopolicy.heads.act import ActConfig, ActHead
from videopolicy.heads.attention_pool import AttentionPoolConfig, AttentionPoolHead
from videopolicy.heads.coordinates import CoordinateHead, CoordinateShape
from videopolicy.heads.diffusion import DiffusionConfig, DiffusionHead
from videopolicy.heads.head import Standardised
from videopolicy.heads.heatmap import HeatmapHead, ParaConfig
from videopolicy.heads.para import ParaHead
from videopolicy.heads.regression import PixelRegressionHead, RegressionConfig, RegressionHead
from videopolicy.heads.spatial_softmax import SpatialSoftmaxConfig, SpatialSoftmaxHead
from videopolicy.heads.tracks import TracksConfig, TracksHead

HeadKind = Literal["para", "regression", "attention_pool", "spatial_softmax", "tracks", "act", "diffusion"]


@dataclass(frozen=True)
class HeadConfig:
    """A kind, and the configuration of each kind; those of the others are not read."""

    kind: HeadKind = "para"
    labels: Literal["3d", "2d"] = "3d"  # 2d: pixels alone, to pretrain on; without heights it cannot act
    n_steps: int = 12  # N_W, waypoints per chunk
    standardise: bool = True  # features, channel by channel; false: they are read as they are, for ablations
    para: ParaConfig = ParaConfig()
    regression: RegressionConfig = RegressionConfig()
    attention_pool: AttentionPoolConfig = AttentionPoolConfig()
    spatial_softmax: SpatialSoftmaxConfig = SpatialSoftmaxConfig()
    tracks: TracksConfig = TracksConfig()
    act: ActConfig = ActConfig()
    diffusion: DiffusionConfig = DiffusionConfig()

    def __post_init__(self) -> None:
        at_least_one(self, "n_steps", of="head.")
        if self.labels == "2d" and self.kind not in ("para", "regression"):
            raise BadInput(f"head.labels is '2d', but head.kind is {self.kind!r}; allowed for it: 'para', 'regression'")
        if self.labels == "2d" and self.kind == "para" and self.para.volume_loss == "joint":
            raise BadInput("head.labels is '2d', but head.para.volume_loss is 'joint'; allowed for it: 'factored'")


def make_head(cfg: HeadConfig, backbone: Backbone, labels: dict, fps: int) -> HeatmapHead | CoordinateHead:
    """The head for a backbone, its bins and scales from the training labels' statistics."""
    head = _make(cfg, backbone, labels, fps)
    for part in head.modules():
        if isinstance(part, Standardised):
            part.learns = cfg.standardise
    return head


def _make(cfg: HeadConfig, backbone: Backbone, labels: dict, fps: int) -> HeatmapHead | CoordinateHead:
    channels, n_frames = backbone.feature_channels, backbone.n_feature_frames
    image_size, period = backbone.image_size, 1 / fps
    if cfg.labels == "2d" and cfg.kind == "para":
        return HeatmapHead(cfg.para, channels, n_frames, cfg.n_steps, backbone.grid, image_size)
    if cfg.labels == "2d":
        nothing = torch.zeros(3)  # of positions, which it knows nothing of
        shape = CoordinateShape(channels, n_frames, cfg.n_steps, image_size, nothing, nothing, period)
        return PixelRegressionHead(cfg.regression, shape)
    if labels["height"] is None:
        raise BadInput("head.labels is '3d', but the data has tracks of pixels alone; allowed for it: '2d'")
    if cfg.kind == "para":
        low, high = labels["height"]
        if not high - low > 1e-6:
            raise BadInput(
                f"every height label is {low:.4f} m, and head.kind para would have degenerate bins; allowed: labels of"
                " more than one height, or another head.kind"
            )
        if cfg.para.n_rotation and not labels.get("rotation"):
            raise BadInput(f"head.para.n_rotation is {cfg.para.n_rotation}, but the data has no rotations; allowed: 0")
        bins = Bins.around(low, high, cfg.para.n_height)
        return ParaHead(cfg.para, channels, n_frames, cfg.n_steps, backbone.grid, image_size, bins, period)
    mean, std = torch.tensor(labels["position_mean"]), torch.tensor(labels["position_std"])
    shape = CoordinateShape(channels, n_frames, cfg.n_steps, image_size, mean, std, period)
    if cfg.kind == "regression":
        return RegressionHead(cfg.regression, shape)
    if cfg.kind == "attention_pool":
        return AttentionPoolHead(cfg.attention_pool, shape)
    if cfg.kind == "spatial_softmax":
        return SpatialSoftmaxHead(cfg.spatial_softmax, shape)
    if cfg.kind == "tracks":
        return TracksHead(cfg.tracks, shape)
    if cfg.kind == "act":
        return ActHead(cfg.act, shape)
    if cfg.kind == "diffusion":
        low, high = (torch.tensor(labels[name]) for name in ("position_low", "position_high"))
        half = ((high - low) / 2).clamp(min=1e-3)
        return DiffusionHead(cfg.diffusion, replace(shape, position_mean=(low + high) / 2, position_std=half))
    raise choices("head.kind", cfg.kind, HeadKind.__args__)
