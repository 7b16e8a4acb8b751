"""Backdrop augmentation: what a camera sees standing still is painted over, as if table and room were others.

After GreenAug (Teoh et al. 2024), which keys out a green screen and finds random textures to generalise best; here the
backdrop is the median of what each camera has recorded, so nothing has to be hung up. What differs from it stays: the
arm, and things. Shadows differ too, but in brightness alone: they fall on the new backdrop as dark, darker, lighter, or
not at all. The lamp stays where it was, so the same things may throw another shadow beside, bent another way.
"""

from dataclasses import dataclass, fields

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor
from torch.nn import functional as F

from videopolicy.data.appearance import Cloud, draw_cloud, paint_of
from videopolicy.data.dataset import ClipDataset, Maps
from videopolicy.data.splits import spread
from videopolicy.errors import BadInput

N_PICTURES = 200  # of a camera, evenly spread, that its median is of
N_EPISODES = 3  # of a camera, at least: things that stand still in one would be its backdrop
DIFFERS = 16  # what differs from the backdrop by more is no backdrop [grey levels]
SHADED = (0.3, 0.97)  # brightness of shadows, of the backdrop's
SAME_HUE = 12  # what differs by no more, once it is as bright, is a shadow [grey levels]
SHADE = (0.0, 1.5)  # power of a shadow's brightness: 0 none, 1 as it was
CAST = 0.7  # share of painted samples with another shadow
BENT, MOVED = 1.0, 0.3  # how it differs from what throws it, at most: in shape, and in place [half pictures]
DARK = (0.4, 0.9)  # brightness in it
NOISE = 12  # of a painted backdrop, at most [grey levels, standard deviation]


@dataclass(frozen=True)
class Backdrop:
    """What samples stand before."""

    painted: Bool[Tensor, " batch"]  # otherwise they are as they were
    cloud: Cloud
    shade: Float[Tensor, " batch"]
    noise: Float[Tensor, "batch 64 64"]  # tiled over the picture [grey levels]
    bent: Float[Tensor, "batch 2 3"]  # from where another shadow falls to what throws it, about the latter's middle
    dark: Float[Tensor, " batch"]  # brightness in that shadow, 1 for none

    def to(self, device: torch.device) -> "Backdrop":
        values = (getattr(self, f.name).to(device) for f in fields(self))
        return Backdrop(*values)

    def of(self, chosen: Int[Tensor, " chosen"]) -> "Backdrop":
        """Of some of the samples."""
        cloud = Cloud(*(getattr(self.cloud, f.name)[chosen] for f in fields(Cloud)))
        values = {f.name: getattr(self, f.name)[chosen] for f in fields(self) if f.name != "cloud"}
        return Backdrop(cloud=cloud, **values)


def draw_backdrop(share: float, generator: torch.Generator) -> Backdrop:
    """Of one sample, painted with probability `share`."""
    low, high = SHADE
    number = torch.rand(3, generator=generator, dtype=torch.float64)
    noise = torch.randn(1, 64, 64, generator=generator, dtype=torch.float64)
    shade = low + (high - low) * number[1:2]
    cloud = draw_cloud(generator)
    cast = torch.rand(6, generator=generator, dtype=torch.float64)
    turned = torch.where(cast[2:4] < 0.5, -1.0, 1.0)  # mirrored, either way
    shape = torch.diag(turned) + BENT * (2 * torch.rand(2, 2, generator=generator, dtype=torch.float64) - 1)
    bent = torch.cat([shape, MOVED * (2 * cast[4:6, None] - 1)], 1)
    dark = DARK[0] + (DARK[1] - DARK[0]) * cast[1:2] if cast[0] < CAST else torch.ones(1, dtype=torch.float64)
    return Backdrop(number[:1] < share, cloud, shade, NOISE * number[2] * noise, bent[None], dark)


def repainted(
    frames: UInt8[Tensor, "batch frame height width 3"],
    before: Float[Tensor, "batch frame height width 3"],
    drawn: Backdrop,
) -> UInt8[Tensor, "batch frame height width 3"]:
    """Pictures, that were taken before backdrops, before the drawn ones."""
    chosen = drawn.painted.nonzero()[:, 0]
    if not len(chosen):
        return frames
    out = frames.clone()
    out[chosen] = _painted(frames[chosen], before[chosen], drawn.of(chosen))
    return out


def _painted(
    frames: UInt8[Tensor, "batch frame height width 3"],
    before: Float[Tensor, "batch frame height width 3"],
    drawn: Backdrop,
) -> UInt8[Tensor, "batch frame height width 3"]:
    size = (frames.shape[2], frames.shape[3])
    x = frames.float()
    shown, shade = parted(x, before)
    # A pixel at an edge shows some of both: the thing's edge is drawn soft, and a little of its old surroundings cut.
    b = len(frames)
    alpha = rearrange(shown.float(), "b t h w -> (b t) 1 h w")
    alpha = F.avg_pool2d(alpha, 3, 1, 1, count_include_pad=False)
    alpha = rearrange((2 * alpha - 0.6).clamp(0, 1), "(b t) 1 h w -> b t h w 1", b=b)
    new = 255 * rearrange(paint_of(drawn.cloud, size), "b c h w -> b 1 h w c")
    tiles = [-(-n // 64) for n in size]
    noise = drawn.noise.float().repeat(1, *tiles)[:, : size[0], : size[1]]
    new = (new + noise[:, None, :, :, None]) * shade.pow(drawn.shade.float()[:, None, None, None])[..., None]
    out = (alpha * x + (1 - alpha) * new) * cast_shadow(alpha[..., 0], drawn)[..., None]
    return out.round().clamp(0, 255).to(torch.uint8)


def cast_shadow(
    things: Float[Tensor, "batch frame height width"], drawn: Backdrop
) -> Float[Tensor, "batch frame height width"]:
    """Brightness under another shadow that things throw: on what is behind them, and on things themselves."""
    height, width = things.shape[2:]
    v, u = torch.meshgrid(*(torch.linspace(-1, 1, n, device=things.device) for n in (height, width)), indexing="ij")
    where = torch.stack([u, v], -1)
    weight = things[:, 0] + 1e-6
    middle = torch.einsum("bhw,hwc->bc", weight, where) / weight.sum((1, 2))[:, None]
    bent = drawn.bent.float()
    away = where - (middle + bent[:, :, 2])[:, None, None]
    source = (away[..., None, :] * bent[:, None, None, :, :2]).sum(-1) + middle[:, None, None]
    mask = F.grid_sample(things, source, mode="bilinear", padding_mode="zeros", align_corners=True)
    return 1 - (1 - drawn.dark.float())[:, None, None, None] * mask


def parted(
    x: Float[Tensor, "batch frame height width 3"], before: Float[Tensor, "batch frame height width 3"]
) -> tuple[Bool[Tensor, "batch frame height width"], Float[Tensor, "batch frame height width"]]:
    """What is no backdrop, and the brightness of the rest as a share of the backdrop's."""
    ratio = (x.sum(-1) / before.sum(-1).clamp(min=1)).clamp(max=1)
    other = (x - before).abs().amax(-1) > DIFFERS
    hue = (x - ratio[..., None] * before).abs().amax(-1)
    shadow = other & (hue <= SAME_HUE) & (ratio > SHADED[0]) & (ratio < SHADED[1])
    return other & ~shadow, torch.where(shadow, ratio, 1.0)


def backdrops_of(clips: ClipDataset) -> dict[int, Maps]:
    """Of each episode's frames (frame height width 3), the backdrop of its camera: the median of what that recorded.

    A thing that stands in the same place in most episodes, such as a fixed plate, is part of it and is painted over.
    `BadInput` where a camera has recorded fewer than three episodes.
    """
    cameras: list[tuple[np.ndarray, list[int]]] = []
    for e in clips.shown:
        camera = clips.data.camera_of(e)
        T = np.concatenate([camera.T_world_cam.ravel(), camera.K.ravel()])
        mine = next((episodes for seen, episodes in cameras if np.allclose(seen, T)), None)
        if mine is None:
            cameras.append((T, [e]))
        else:
            mine.append(e)
    found: dict[int, Maps] = {}
    for _, episodes in cameras:
        if len(episodes) < N_EPISODES:
            raise BadInput(
                f"augment.backdrop needs {N_EPISODES} episodes or more of each camera, but {clips.data.root} has"
                f" {len(episodes)} of the camera of episode {episodes[0]}; allowed for it: 0"
            )
        # Spread over all that the camera recorded: first pictures alone would have the arm at its start in each.
        every = [(e, i) for e in episodes for i in range(clips.data.length(e))]
        pictures = np.stack([clips.frames(e)[i] for e, i in (every[k] for k in spread(len(every), N_PICTURES))])
        rows = [np.median(pictures[:, row], axis=0) for row in range(pictures.shape[1])]  # all at once takes gigabytes
        backdrop = np.stack(rows).astype(np.uint8)
        found |= {e: np.broadcast_to(backdrop, (clips.data.length(e), *backdrop.shape)) for e in episodes}
    return found
