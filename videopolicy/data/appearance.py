"""Appearance augmentation: the same scene in other colours, under other light, with shadows and patterns over it.

Nothing moves, so labels stay as they are. What is drawn knows nothing of the scene: colours are mixed by a random
affine map (white balance, hue, saturation, contrast, brightness), light varies smoothly across the picture, and a cloud
of a random grain, its edges anywhere from soft to sharp, is painted over it half transparently (random overlays, after
Hansen and Wang 2021). So neither a table's texture nor a wall's colour tells where to go.
"""

import math
from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Float, Int, UInt8
from torch import Tensor
from torch.nn import functional as F

HUE = 0.12  # of a turn, either way
SATURATION = (0.3, 1.6)  # factor
CONTRAST = (0.5, 1.5)  # factor, about mid grey
BRIGHTNESS = 0.2  # added, either way, of full scale
BALANCE = 0.2  # log of each channel's factor, either way
SHADE = 0.4  # log of the light's factor at each of 4 x 4 places, either way
GRAIN = (2, 32)  # cells of a cloud across the picture
SHARPNESS = (0.5, 20.0)  # of a cloud's edges: 0.5 barely a gradient, 20 a border
OPACITY = 0.5  # of a cloud, at most
LUMA = torch.tensor([0.299, 0.587, 0.114], dtype=torch.float64)  # BT.601
# Orthonormal: grey, then two axes of colour that hue turns.
AXES = torch.tensor([[1.0, 1.0, 1.0], [1.0, -1.0, 0.0], [1.0, 1.0, -2.0]], dtype=torch.float64)
AXES /= AXES.norm(dim=1, keepdim=True)


@dataclass(frozen=True)
class Appearance:
    """How samples are shown; what is not changed has the identity, a level light and a clear cloud."""

    colour: Float[Tensor, "batch 3 4"]  # RGB in 0...1 and one, to RGB
    light: Float[Tensor, "batch 4 4"]  # log of its factor, from the upper left on
    cloud: Float[Tensor, "batch 32 32"]  # of which a corner of `cells` x `cells` fills the picture
    cells: Int[Tensor, " batch"]
    sharpness: Float[Tensor, " batch"]
    paint: Float[Tensor, "batch 2 3"]  # of a cloud's low and high parts
    opacity: Float[Tensor, "batch 2"]  # of each

    def to(self, device: torch.device) -> "Appearance":
        return Appearance(*(getattr(self, name).to(device) for name in self.__dataclass_fields__))


def draw_appearance(share: float, generator: torch.Generator) -> Appearance:
    """Of one sample, changed with probability `share`."""

    def number(low: float, high: float, *shape: int) -> Float[Tensor, "..."]:
        return low + (high - low) * torch.rand(shape, generator=generator, dtype=torch.float64)

    changed = torch.rand((), generator=generator) < share
    turn = 2 * math.pi * number(-HUE, HUE)
    saturation = number(*SATURATION)
    hue = torch.eye(3, dtype=torch.float64)
    hue[1, 1] = hue[2, 2] = saturation * turn.cos()
    hue[2, 1], hue[1, 2] = saturation * turn.sin(), -saturation * turn.sin()
    gain = number(-BALANCE, BALANCE, 3).exp() * number(*CONTRAST)
    matrix = gain[:, None] * (AXES.T @ hue @ AXES)
    offset = 0.5 * (1 - gain) + number(-BRIGHTNESS, BRIGHTNESS)
    colour = torch.cat([matrix, offset[:, None]], 1)
    low, high = (math.log(x) for x in GRAIN)
    cells = number(low, high).exp().round().long()
    low, high = (math.log(x) for x in SHARPNESS)
    drawn = Appearance(
        colour=colour[None],
        light=number(-SHADE, SHADE, 1, 4, 4),
        cloud=torch.randn(1, GRAIN[1], GRAIN[1], generator=generator, dtype=torch.float64),
        cells=cells[None],
        sharpness=number(low, high, 1).exp(),
        paint=number(0.0, 1.0, 1, 2, 3),
        opacity=number(0.0, OPACITY, 1, 2),
    )
    if changed:
        return drawn
    same = torch.eye(3, 4, dtype=torch.float64)[None]
    return Appearance(same, 0 * drawn.light, drawn.cloud, drawn.cells, drawn.sharpness, drawn.paint, 0 * drawn.opacity)


def shown(
    frames: UInt8[Tensor, "batch frame height width 3"], look: Appearance
) -> UInt8[Tensor, "batch frame height width 3"]:
    """Pictures as they appear so, all frames of a sample alike; an unchanged sample to the last bit."""
    height, width = frames.shape[2:4]
    x = rearrange(frames, "b f h w c -> b f c h w").float() / 255
    colour = look.colour.float()
    x = torch.einsum("boc,bfchw->bfohw", colour[:, :, :3], x) + colour[:, None, :, 3, None, None]
    light = F.interpolate(look.light[:, None].float(), (height, width), mode="bicubic", align_corners=True).exp()
    x = x * light[:, None]
    clouds = torch.stack([_cloud(look, i, (height, width)) for i in range(len(frames))])
    for part, share in enumerate((1 - clouds, clouds)):
        opacity = (look.opacity[:, part, None, None].float() * share)[:, None, None]
        x = x + opacity * (look.paint[:, part].float()[:, None, :, None, None] - x)
    return rearrange(x * 255, "b f c h w -> b f h w c").round().clamp(0, 255).to(torch.uint8)


def _cloud(look: Appearance, i: int, size: tuple[int, int]) -> Float[Tensor, "height width"]:
    """0 in its low parts, 1 in its high ones."""
    cells = int(look.cells[i])
    grid = look.cloud[i, :cells, :cells].float()
    smooth = F.interpolate(grid[None, None], size, mode="bicubic", align_corners=True)[0, 0]
    return torch.sigmoid(look.sharpness[i].float() * smooth)
