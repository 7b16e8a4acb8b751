"""Global regression: pooled features to coordinates. "Global" in section 4.3, "ACT" in section 4."""

from dataclasses import dataclass

from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from videopolicy.backbones.backbone import FeatureMap
from videopolicy.heads.coordinates import CoordinateHead, mlp
from videopolicy.heads.head import Standardised


@dataclass(frozen=True)
class RegressionConfig:
    width: int = 512  # of the hidden layers


class RegressionHead(CoordinateHead):
    """A ViT's class token, else the average over each map, and a three-layer MLP."""

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
        super().__init__(n_steps, position_mean, position_std, period)
        self.standardise = Standardised(channels)
        self.net = nn.Sequential(
            nn.LayerNorm(channels * n_frames), *mlp(channels * n_frames, cfg.width, n_steps * 4).children()
        )

    def forward(self, features: FeatureMap) -> Float[Tensor, "batch step 4"]:
        pooled = features.token
        if pooled is None:
            b = len(features.dense)
            dense = self.standardise(rearrange(features.dense, "b t c h w -> (b t) c h w"))
            pooled = FeatureMap(rearrange(dense, "(b t) c h w -> b t c h w", b=b)).pooled
        return rearrange(self.net(pooled).float(), "b (n c) -> b n c", n=self.n_steps)
