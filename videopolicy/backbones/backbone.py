"""What every backbone gives a head."""

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, runtime_checkable

import torch
from einops import rearrange, reduce
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class FeatureMap:
    """Features of a batch of images on the head's grid, one map per predicted frame."""

    dense: Float[Tensor, "batch frame channel row col"]
    token: Float[Tensor, "batch width"] | None = None  # a ViT's class token
    start: Float[Tensor, "batch 1 row col"] | None = None  # weights of the start keypoint; None: no keypoint

    @property
    def keypoint(self) -> Float[Tensor, "batch 3"]:
        """Where the start keypoint is, from -1 to 1 across and down the grid, and 1; zeros where the picture has none.

        What is marked in a map is marked in its average alike wherever it stands: heads that pool are told by this.
        """
        if self.start is None:
            return self.dense.new_zeros(len(self.dense), 3)
        v, u = (2 * (torch.arange(n, device=self.start.device) + 0.5) / n - 1 for n in self.start.shape[-2:])
        mass = self.start[:, 0].float()
        return torch.stack([(mass.sum(1) * u).sum(-1), (mass.sum(2) * v).sum(-1), mass.sum((1, 2))], -1)

    @property
    def pooled(self) -> Float[Tensor, "batch width"]:
        """Average over each frame's map, frames side by side: all that coordinate regression sees without a token."""
        return rearrange(reduce(self.dense, "b t c h w -> b t c", "mean"), "b t c -> b (t c)")


class Pyramid(FeatureMap):
    """Features of several sizes, one below the other when resized to the head's grid, with the start keypoint marked.

    What a head does to each cell alike it may do before they are resized (`heads/embedding.py`); `dense` is for others.
    """

    levels: tuple[Tensor, ...]
    start: Tensor
    mark: Tensor

    def __init__(
        self,
        levels: tuple[Float[Tensor, "batch frame _ _ _"], ...],
        start: Float[Tensor, "batch 1 row col"],
        mark: Float[Tensor, " channel"],
    ) -> None:
        """`start` says how much each cell of the head's grid is the start's, whose features have `mark` added."""
        for name, value in (("levels", levels), ("start", start), ("mark", mark), ("token", None)):
            object.__setattr__(self, name, value)

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of the head's."""
        return self.start.shape[-2], self.start.shape[-1]

    @cached_property
    def dense(self) -> Float[Tensor, "batch frame channel row col"]:
        b = len(self.start)
        maps = [resize(rearrange(level, "b t c h w -> (b t) c h w"), self.grid) for level in self.levels]
        whole = rearrange(torch.cat(maps, 1), "(b t) c h w -> b t c h w", b=b)
        return whole + (self.start * self.mark[:, None, None])[:, None]


def resize(maps: Float[Tensor, "batch channel _ _"], size: tuple[int, int]) -> Float[Tensor, "batch channel row col"]:
    """Bilinearly, in full precision, to (rows, cols)."""
    x = maps if maps.dtype == torch.float64 else maps.float()
    return F.interpolate(x, size, mode="bilinear", align_corners=False)


@runtime_checkable
class Backbone(Protocol):
    """Images and the end effector's pixel in them to features.

    Its height above the table [m] is for backbones that are told it; None where it is not known.
    """

    @property
    def n_feature_frames(self) -> int: ...

    @property
    def feature_channels(self) -> int: ...

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of the features."""
        ...

    @property
    def image_size(self) -> tuple[int, int]:
        """(width, height) of the pictures it sees, whose pixels labels and predictions are in."""
        ...

    def forward(
        self,
        images: UInt8[Tensor, "batch height width 3"],
        start_pixel: Float[Tensor, "batch 2"],
        start_height: Float[Tensor, " batch"] | None = None,
    ) -> FeatureMap: ...


def to_pixels(frames: UInt8[Tensor, "*batch height width 3"]) -> Float[Tensor, "*batch 3 height width"]:
    """Images in [-1, 1], channels first."""
    return rearrange(frames, "... h w c -> ... c h w").float() / 127.5 - 1


def splat(
    pixel: Float[Tensor, "batch 2"], image_size: tuple[int, int], rows: int, cols: int
) -> Float[Tensor, "batch 1 row col"]:
    """Bilinear weights of one pixel on a feature grid; zero where it is NaN (outside the image). Section 3.4."""
    scale = torch.tensor([cols / image_size[0], rows / image_size[1]], device=pixel.device)
    u, v = (torch.nan_to_num(pixel, nan=-1e6) * scale - 0.5).unbind(-1)
    col, row = (torch.arange(n, device=pixel.device) for n in (cols, rows))
    weight_u = (1 - (col - u[:, None]).abs()).clamp(min=0)
    weight_v = (1 - (row - v[:, None]).abs()).clamp(min=0)
    return (weight_v[:, :, None] * weight_u[:, None, :])[:, None]
