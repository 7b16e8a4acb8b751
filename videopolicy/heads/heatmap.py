"""Where in the image, and nothing else: the part of the pixel-aligned head that pixels alone can teach. Section 4.4."""

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from videopolicy.backbones.backbone import FeatureMap
from videopolicy.camera import Camera
from videopolicy.errors import BadInput
from videopolicy.heads import upsampled
from videopolicy.heads.argmax import argmax
from videopolicy.heads.embedding import Embedding
from videopolicy.heads.head import Targets
from videopolicy.heads.peak import Peak, refine
from videopolicy.heads.viterbi import most_likely_path
from videopolicy.types import ActionChunk

LOCATES = "head.labels is '2d': it says where in the image, and cannot act; allowed: '3d', as one trained on from it"


@dataclass(frozen=True)
class ParaConfig:
    volume_loss: Literal["factored", "joint"] = "factored"  # equations 1 and 2, or one softmax over pixel x height
    n_height: int = 32  # N_H
    n_gripper: int = 32  # N_G
    n_rotation: int = 0  # bins for each of the three angles of `rotation.py`; 0: no rotation is predicted
    gripper_head: Literal["per_pixel", "indexed_mlp"] = "per_pixel"  # linear in the features at the pixel, or an MLP
    width: int = 64  # channels of the trunk
    n_layers: int = 2  # 3x3 convolutions in the trunk
    window: float = 1.5  # sub-cell refinement: mean over the pixels this close to the best one [grid cells]
    stiffness: float = 0.0  # Viterbi over the chunk, nats per squared cell between steps; 0: each step by itself

    def __post_init__(self) -> None:
        for name, least in (("n_layers", 0), ("n_height", 1), ("n_gripper", 2), ("n_rotation", 0), ("width", 1)):
            if getattr(self, name) < least:
                raise BadInput(f"head.para.{name} is {getattr(self, name)}; allowed: at least {least}")
        if self.n_rotation in (1, 2):  # a bin's two neighbours on the circle must be two
            raise BadInput(f"head.para.n_rotation is {self.n_rotation}; allowed: 0, or at least 3 bins for each angle")
        if not 0 < self.window <= 100:
            raise BadInput(f"head.para.window is {self.window}; allowed: above 0 to 100 grid cells")
        if not 0 <= self.stiffness < math.inf:
            raise BadInput(f"head.para.stiffness is {self.stiffness}; allowed: at least 0")


@dataclass(frozen=True)
class Heatmaps:
    """Logits on the head's grid; upsampled only in thought."""

    volume: Float[Tensor, "batch step bin row col"]  # one bin, but for a joint volume of pixels and heights
    hidden: Float[Tensor, "batch frame channel row col"]  # the rest is linear in what stands here at a pixel

    @property
    def heatmap(self) -> Float[Tensor, "batch step row col"]:
        return self.volume.logsumexp(2)


class HeatmapHead(nn.Module):
    """A small trunk and a linear map to each step's heatmap. By itself it says where, and cannot act."""

    terms: tuple[str, ...] = ("spatial",)
    acts = False

    def __init__(
        self,
        cfg: ParaConfig,
        channels: int,
        n_frames: int,
        n_steps: int,
        grid: tuple[int, int],
        image_size: tuple[int, int],
        n_bins: int = 1,
    ) -> None:
        super().__init__()
        if n_steps % n_frames:
            raise BadInput(f"n_steps is {n_steps}; allowed: multiples of the backbone's {n_frames} feature frames")
        self.cfg, self.image_size, self.n_steps, self.grid = cfg, image_size, n_steps, grid
        self.steps_per_frame = n_steps // n_frames
        self.embed = Embedding(channels, cfg.width)
        self.frame_embedding = nn.Parameter(torch.zeros(n_frames, cfg.width, 1, 1))  # the maps share all else
        layers: list[nn.Module] = [nn.SiLU()]
        for _ in range(cfg.n_layers):
            layers += [nn.Conv2d(cfg.width, cfg.width, 3, padding=1), nn.SiLU()]
        self.trunk = nn.Sequential(*layers)
        self.volume = nn.Conv2d(cfg.width, self.steps_per_frame * n_bins, 1)

    def maps(
        self, features: FeatureMap
    ) -> tuple[Float[Tensor, "batch step bin row col"], Float[Tensor, "batch frame channel row col"]]:
        """Volume and hidden features."""
        embedded = rearrange(self.embed(features), "(b t) c h w -> b t c h w", t=len(self.frame_embedding))
        b, embedded = len(embedded), embedded + self.frame_embedding
        hidden = self.trunk(rearrange(embedded, "b t c h w -> (b t) c h w"))
        volume = rearrange(self.volume(hidden).float(), "(b t) (n k) h w -> b (t n) k h w", b=b, n=self.steps_per_frame)
        return volume, rearrange(hidden.float(), "(b t) c h w -> b t c h w", b=b)

    def forward(self, features: FeatureMap) -> Any:
        return Heatmaps(*self.maps(features))

    def loss(self, prediction: Any, targets: Targets) -> dict[str, Tensor]:
        """Equation 1."""
        each = upsampled.cross_entropy(prediction.volume[:, :, 0], targets.pixel, self.image_size)
        return {"spatial": targets.mean(each)}

    @torch.no_grad()
    def pixels(self, prediction: Any) -> Float[Tensor, "batch step 2"]:
        """Best pixels, refined below the grid's cells."""
        return self.peaks(prediction.volume, prediction.volume).pixel

    def decode(self, prediction: Any, cameras: list[Camera]) -> list[ActionChunk]:
        raise BadInput(LOCATES)

    def peaks(
        self, volume: Float[Tensor, "batch step bin row col"], belief: Float[Tensor, "batch step bin row col"]
    ) -> Peak:
        """Best pixels and bins of `volume`; confidence is of `belief`.

        The argmax over the full image sits near cell centres, as the maxima of any bilinear surface do; the mean over
        the probability within `window` grid cells of it is finer than the grid.
        """
        if self.cfg.stiffness == 0:
            at = argmax(volume, self.image_size)
        else:
            row, col = most_likely_path(volume.logsumexp(2), self.cfg.stiffness)
            (width, height), (rows, cols) = self.image_size, self.grid
            v, u = (row * height + height // 2) // rows, (col * width + width // 2) // cols
            flat = rearrange(volume, "b n k h w -> b n (h w) k")
            best = flat.gather(2, (row * cols + col)[..., None, None].expand(-1, -1, 1, flat.shape[-1])).argmax(-1)
            at = (best[..., 0], v, u)
        return refine(volume, at, self.image_size, self.cfg.window, belief=belief)
