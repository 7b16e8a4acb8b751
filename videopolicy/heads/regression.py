"""Global regression: pooled features to coordinates. "Global" in section 4.3, "ACT" in section 4."""

from dataclasses import dataclass

from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from videopolicy.backbones.backbone import FeatureMap
from videopolicy.errors import BadInput
from videopolicy.heads.coordinates import CoordinateHead, CoordinateShape, mlp
from videopolicy.heads.head import Standardised


@dataclass(frozen=True)
class RegressionConfig:
    width: int = 512  # of the hidden layers

    def __post_init__(self) -> None:
        if self.width < 1:
            raise BadInput(f"head.regression.width is {self.width}; allowed: at least 1")


class RegressionHead(CoordinateHead):
    """A ViT's class token, else the average over each map, and a three-layer MLP."""

    def __init__(self, cfg: RegressionConfig, shape: CoordinateShape) -> None:
        super().__init__(shape)
        self.standardise = Standardised(shape.channels)
        n = shape.channels * shape.n_frames
        self.net = nn.Sequential(nn.LayerNorm(n), *mlp(n, cfg.width, shape.n_steps * 4).children())

    def forward(self, features: FeatureMap) -> Float[Tensor, "batch step 4"]:
        pooled = features.token
        if pooled is None:
            b = len(features.dense)
            dense = self.standardise(rearrange(features.dense, "b t c h w -> (b t) c h w"))
            pooled = FeatureMap(rearrange(dense, "(b t) c h w -> b t c h w", b=b)).pooled
        return rearrange(self.net(pooled).float(), "b (n c) -> b n c", n=self.n_steps)
