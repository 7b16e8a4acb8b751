"""Camera augmentation: turning or zooming a camera about its optical centre moves pixels by a homography.

What the camera sees does not change with it, so pixel labels stay exact without knowing depth, and heights, grippers,
positions and rotations stay as they are. A coordinate or an angle in the world cannot be told from a turned picture,
though: heads that regress them are given the augmentation where it can be, and labels that contradict each other.
"""

import math
from dataclasses import dataclass, fields
from typing import Literal

import torch
from einops import rearrange
from jaxtyping import Float, Int, UInt8
from torch import Tensor
from torch.nn import functional as F

from videopolicy.data.appearance import Appearance
from videopolicy.data.backdrop import Backdrop
from videopolicy.data.limbs import Limb
from videopolicy.errors import BadInput


@dataclass(frozen=True)
class AugmentConfig:
    """Ranges that each sample's camera is drawn from, evenly and on its own; and what else it is shown."""

    kind: Literal["none", "camera"] = "none"
    pan: float = 16.0  # to either side [degrees]
    tilt: float = 2.0  # up and down [degrees]
    roll: float = 3.0  # about the optical axis, either way [degrees]
    zoom: float = 0.05  # the focal length's factor is within 1 +- this
    copies: float = 0.0  # share of samples that show a second copy of the grasped object, see `data/copy_paste.py`
    appearance: float = 0.0  # share of samples shown in other colours and light, see `data/appearance.py`
    backdrop: float = 0.0  # share of samples shown on another table, in another room, see `data/backdrop.py`
    limbs: float = 0.0  # share of samples over which some arm reaches for the start keypoint, see `data/limbs.py`

    def __post_init__(self) -> None:
        for name in ("pan", "tilt", "roll"):
            if not 0 <= getattr(self, name) <= 45:
                raise BadInput(f"augment.{name} is {getattr(self, name)}; allowed: 0 to 45 degrees")
        if not 0 <= self.zoom < 1:
            raise BadInput(f"augment.zoom is {self.zoom}; allowed: 0 to below 1")
        for name in ("copies", "appearance", "backdrop", "limbs"):
            if not 0 <= getattr(self, name) <= 1:
                raise BadInput(f"augment.{name} is {getattr(self, name)}; allowed: 0 to 1, a share of the samples")


@dataclass(frozen=True)
class AugmentDraws:
    """What is random about one step's augmentation; None for what is off."""

    H: Float[Tensor, "batch 3 3"] | None  # of each sample's camera
    copy: Int[Tensor, " batch"] | None  # the object that each is shown besides, -1 for none
    look: Appearance | None = None
    backdrop: Backdrop | None = None
    limb: Limb | None = None

    def to(self, device: torch.device) -> "AugmentDraws":
        values = (getattr(self, f.name) for f in fields(self))
        return AugmentDraws(*(None if x is None else x.to(device) for x in values))


def draw_homographies(
    cfg: AugmentConfig, n: int, K: Float[Tensor, "3 3"], generator: torch.Generator
) -> Float[Tensor, "n 3 3"]:
    """Old pixels to new ones: K' R K^-1 for cameras turned by R, with K' zoomed about the principal point."""
    share = 2 * torch.rand(n, 4, generator=generator, dtype=torch.float64) - 1
    if cfg.kind == "none":
        share = torch.zeros_like(share)
    pan, tilt, roll = (share[:, i] * math.radians(a) for i, a in enumerate((cfg.pan, cfg.tilt, cfg.roll)))
    K = K.double()
    zoomed = K.repeat(n, 1, 1)
    zoomed[:, [0, 1], [0, 1]] *= (1 + cfg.zoom * share[:, 3])[:, None]
    return zoomed @ _turn(roll, 2) @ _turn(tilt, 0) @ _turn(pan, 1) @ torch.linalg.inv(K)


def _turn(angle: Float[Tensor, " n"], axis: int) -> Float[Tensor, "n 3 3"]:
    R = torch.eye(3, dtype=angle.dtype).repeat(len(angle), 1, 1)
    i, j = ((1, 2), (2, 0), (0, 1))[axis]
    R[:, i, i] = R[:, j, j] = angle.cos()
    R[:, j, i], R[:, i, j] = angle.sin(), -angle.sin()
    return R


def warp_pixels(H: Float[Tensor, "batch 3 3"], pixel: Float[Tensor, "batch step 2"]) -> Float[Tensor, "batch step 2"]:
    """Where pixels go; NaN stays NaN."""
    moved = torch.cat([pixel.double(), torch.ones_like(pixel[..., :1], dtype=torch.float64)], -1) @ H.mT
    return (moved[..., :2] / moved[..., 2:]).to(pixel.dtype)


def warp_images(
    H: Float[Tensor, "batch 3 3"], images: UInt8[Tensor, "batch height width 3"]
) -> UInt8[Tensor, "batch height width 3"]:
    """Pictures as the moved cameras take them; the border is repeated where they would see beyond it."""
    height, width = images.shape[1:3]
    v, u = torch.meshgrid(*(torch.arange(n, dtype=torch.float64) + 0.5 for n in (height, width)), indexing="ij")
    grid = rearrange(torch.stack([u, v], -1), "h w c -> 1 (h w) c").to(H.device)
    source = warp_pixels(torch.linalg.inv(H), grid.expand(len(H), -1, -1)) / grid.new_tensor([width, height]) * 2 - 1
    source = rearrange(source, "b (h w) c -> b h w c", h=height).float()
    x = rearrange(images, "b h w c -> b c h w").float()
    out = F.grid_sample(x, source, mode="bilinear", padding_mode="border", align_corners=False)
    return rearrange(out, "b c h w -> b h w c").round().clamp(0, 255).to(torch.uint8)


def augmented(batch: dict[str, Tensor], H: Float[Tensor, "batch 3 3"], size: tuple[int, int]) -> dict[str, Tensor]:
    """A batch as the moved cameras saw it."""
    frames = torch.stack([warp_images(H, f) for f in batch["frames"].unbind(1)], 1)
    return {**augmented_labels(batch, H, size), "frames": frames}


def augmented_labels(
    batch: dict[str, Tensor], H: Float[Tensor, "batch 3 3"], size: tuple[int, int]
) -> dict[str, Tensor]:
    """A batch with the labels of the moved cameras; waypoints that leave the picture are no longer valid."""
    pixel = warp_pixels(H, batch["pixel"])
    start = warp_pixels(H, batch["start_pixel"][:, None])[:, 0]
    side = pixel.new_tensor(size)
    start = torch.where(((start >= 0) & (start < side)).all(-1, keepdim=True), start, torch.nan)
    inside = ((pixel >= 0) & (pixel < side)).all(-1)
    return {**batch, "pixel": pixel, "start_pixel": start, "valid": batch["valid"] & inside}
