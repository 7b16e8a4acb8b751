"""A backbone and a head as a policy: observations in, action chunks out; and how both come back from a checkpoint."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from videopolicy.backbones.backbone import Backbone
from videopolicy.backbones.svd import SVDBackbone, SVDConfig
from videopolicy.bins import Bins
from videopolicy.config import from_dict
from videopolicy.errors import BadInput, choices
from videopolicy.heads.head import ActionHead
from videopolicy.heads.para import ParaConfig, ParaHead
from videopolicy.heads.regression import RegressionConfig, RegressionHead
from videopolicy.images import resized
from videopolicy.training import checkpoint
from videopolicy.types import ActionChunk, Observation

HeadKind = Literal["para", "regression"]


@dataclass(frozen=True)
class HeadConfig:
    """Which head reads the features. Only this differs between the policies that are compared."""

    kind: HeadKind = "para"
    n_steps: int = 6  # N_W, waypoints per chunk
    para: ParaConfig = ParaConfig()
    regression: RegressionConfig = RegressionConfig()


def make_head(cfg: HeadConfig, backbone: SVDBackbone, labels: dict, fps: int) -> ParaHead | RegressionHead:
    """The head for a backbone, its bins and scales from the training labels' statistics."""
    shape = (backbone.feature_channels, backbone.n_feature_frames, cfg.n_steps)
    if cfg.kind == "para":
        low, high = labels["height"]
        margin = 0.05 * (high - low) + 0.005
        bins = Bins(low - margin, high + margin, cfg.para.n_height)
        grid = (backbone.cfg.grid, backbone.cfg.grid)
        return ParaHead(cfg.para, *shape, grid, backbone.cfg.image_size, bins, 1 / fps)
    if cfg.kind == "regression":
        mean, std = (torch.tensor(labels[k]) for k in ("position_mean", "position_std"))
        return RegressionHead(cfg.regression, *shape, mean, std, 1 / fps)
    raise choices("head.kind", cfg.kind, ("para", "regression"))


class FeaturePolicy:
    """Acts on images through a backbone's features and a head; deterministic.

    The backbone runs in the precision it was trained in, the head, which costs little, in full precision.
    """

    def __init__(
        self,
        backbone: Backbone,
        head: ActionHead,
        image_size: tuple[int, int],
        precision: Literal["fp32", "bf16"] = "fp32",
    ) -> None:
        self.backbone, self.head, self.image_size, self.precision = backbone, head, image_size, precision

    def act(self, observation: Observation) -> ActionChunk:
        return self.act_batch([observation])[0]

    @torch.inference_mode()
    def act_batch(self, observations: list[Observation]) -> list[ActionChunk]:
        return self.head.decode(self.predict(observations), [o.camera for o in observations])

    def predict(self, observations: list[Observation]) -> Any:
        """The head's prediction, before decoding."""
        device = next(self.head.parameters()).device
        images = torch.from_numpy(np.stack([resized(o.image, self.image_size) for o in observations])).to(device)
        start = torch.stack([self._start_pixel(o) for o in observations]).to(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            features = self.backbone.forward(images, start)
        return self.head.forward(features)

    def _start_pixel(self, observation: Observation) -> Tensor:
        camera = observation.camera.resized(self.image_size)
        pixel = camera.project(observation.ee_position)
        return torch.from_numpy(np.where(camera.contains(pixel), pixel, np.nan)).float()


def load(path: Path, device: str = "cpu") -> tuple[FeaturePolicy, dict]:
    """The policy of a stage-two checkpoint (its folder, or its run's) and the checkpoint's configuration."""
    path = checkpoint.find(path)
    config, state = checkpoint.read_config(path), checkpoint.read_state(path)
    if "head" not in config:
        raise BadInput(f"{path} is a stage-one checkpoint, without an action head; name one of train_stages/joint.py")
    backbone = SVDBackbone(from_dict(SVDConfig, config["backbone"]), state["fps"])
    checkpoint.check_frozen(path, state, backbone.identity)
    head = make_head(from_dict(HeadConfig, config["head"]), backbone, state["labels"], state["fps"])
    both = nn.ModuleDict({"backbone": backbone, "head": head})
    checkpoint.load_model(path, both, accept=lambda key: key.startswith(("backbone.", "head.")))  # not the loss's
    both.eval().to(device)
    return FeaturePolicy(backbone, head, backbone.cfg.image_size, config["train"]["mixed_precision"]), config
