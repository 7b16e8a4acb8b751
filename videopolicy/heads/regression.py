"""Global regression: pooled features to coordinates. "Global" in section 4.3, "ACT" in section 4."""

from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from videopolicy.backbones.backbone import FeatureMap
from videopolicy.camera import Camera
from videopolicy.heads.head import Standardised, Targets, masked_mean
from videopolicy.types import ActionChunk


@dataclass(frozen=True)
class RegressionConfig:
    width: int = 512  # of the hidden layers


class RegressionHead(nn.Module):
    """Average pool, three-layer MLP, xyz in standard deviations of the training positions, and a gripper logit."""

    position_mean: Tensor
    position_std: Tensor

    def __init__(
        self,
        cfg: RegressionConfig,
        channels: int,
        n_frames: int,
        n_steps: int,
        position_mean: Tensor,
        position_std: Tensor,
        period: float,
    ) -> None:
        super().__init__()
        self.cfg, self.period, self.n_steps = cfg, period, n_steps
        self.register_buffer("position_mean", position_mean)
        self.register_buffer("position_std", position_std)
        self.standardise = Standardised(channels)
        self.net = nn.Sequential(
            nn.LayerNorm(channels * n_frames),
            nn.Linear(channels * n_frames, cfg.width),
            nn.SiLU(),
            nn.Linear(cfg.width, cfg.width),
            nn.SiLU(),
            nn.Linear(cfg.width, n_steps * 4),
        )

    def forward(self, features: FeatureMap) -> Float[Tensor, "batch step 4"]:
        b = len(features.dense)
        dense = self.standardise(rearrange(features.dense, "b t c h w -> (b t) c h w"))
        pooled = FeatureMap(rearrange(dense, "(b t) c h w -> b t c h w", b=b)).pooled
        return rearrange(self.net(pooled).float(), "b (n c) -> b n c", n=self.n_steps)

    def loss(self, prediction: Float[Tensor, "batch step 4"], targets: Targets) -> dict[str, Tensor]:
        # Masked labels may be NaN, whose gradient would survive a mask on the loss alone.
        goal = targets.position.where(targets.valid[..., None], self.position_mean)
        goal = (goal - self.position_mean) / self.position_std
        closed_or_open = targets.gripper.where(targets.valid, 0.0).clamp(0, 1)
        position = (prediction[..., :3] - goal).abs().mean(-1)
        gripper = F.binary_cross_entropy_with_logits(prediction[..., 3], closed_or_open, reduction="none")
        return {"position": masked_mean(position, targets.valid), "gripper": masked_mean(gripper, targets.valid)}

    @torch.no_grad()
    def decode(self, prediction: Float[Tensor, "batch step 4"], cameras: list[Camera]) -> list[ActionChunk]:
        position = (prediction[..., :3] * self.position_std + self.position_mean).double().cpu().numpy()
        gripper = prediction[..., 3].sigmoid().double().cpu().numpy()
        return [ActionChunk(p, g, self.period) for p, g in zip(position, gripper, strict=True)]
