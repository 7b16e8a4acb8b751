"""Attention pooling: a learned query per step looks where it wants, and regresses coordinates from what it sees."""

from dataclasses import dataclass

import torch
from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor, nn

from videopolicy.backbones.backbone import FeatureMap
from videopolicy.heads.coordinates import CoordinateHead, CoordinateShape, mlp
from videopolicy.heads.embedding import Embedding
from videopolicy.heads.position import check_width, position_encoding


@dataclass(frozen=True)
class AttentionPoolConfig:
    width: int = 256
    n_heads: int = 4

    def __post_init__(self) -> None:
        check_width("attention_pool", self.width, self.n_heads)


class AttentionPool(nn.Module):
    """Queries (step width) over the cells of all frames, with their positions."""

    def __init__(self, cfg: AttentionPoolConfig, channels: int, n_frames: int, n_steps: int) -> None:
        super().__init__()
        self.embed = Embedding(channels, cfg.width)
        self.frame_embedding = nn.Parameter(torch.zeros(n_frames, cfg.width, 1))
        self.query = nn.Parameter(torch.randn(n_steps, cfg.width))
        self.attention = nn.MultiheadAttention(cfg.width, cfg.n_heads, batch_first=True)
        self.norm = nn.LayerNorm(cfg.width)

    def forward(self, features: FeatureMap) -> Float[Tensor, "batch step width"]:
        maps = self.embed(features)
        (rows, cols), t = maps.shape[-2:], len(self.frame_embedding)
        cells = rearrange(maps, "(b t) c h w -> b t c (h w)", t=t) + self.frame_embedding
        value = rearrange(cells, "b t c k -> b (t k) c")
        where = position_encoding(rows, cols, value.shape[-1], value)
        key = value + repeat(where, "k c -> (t k) c", t=t)
        query = repeat(self.query, "n c -> b n c", b=len(value))
        # The values carry their position too, or a query could not say where it looked.
        return self.norm(query + self.attention(query, key, key, need_weights=False)[0])


class AttentionPoolHead(CoordinateHead):
    """Attention pool and a three-layer MLP per step."""

    def __init__(self, cfg: AttentionPoolConfig, shape: CoordinateShape) -> None:
        super().__init__(shape)
        self.pool = AttentionPool(cfg, shape.channels, shape.n_frames, shape.n_steps)
        self.net = mlp(cfg.width, cfg.width, 4)

    def forward(self, features: FeatureMap) -> Float[Tensor, "batch step 4"]:
        return self.net(self.pool(features)).float()
