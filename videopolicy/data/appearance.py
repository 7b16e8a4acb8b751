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
# Orthonormal: grey, then two axes of colour that hue turns.
AXES = torch.tensor([[1.0, 1.0, 1.0], [1.0, -1.0, 0.0], [1.0, 1.0, -2.0]], dtype=torch.float64)
AXES /= AXES.norm(dim=1, keepdim=True)


@dataclass(frozen=True)
class Cloud:
    """Two colours, blended by smooth noise."""

    noise: Float[Tensor, "batch 32 32"]  # of which a corner of `cells` x `cells` fills the picture
    cells: Int[Tensor, " batch"]
    sharpness: Float[Tensor, " batch"]
    paint: Float[Tensor, "batch 2 3"]  # of low and of high parts, RGB in 0...1

    def to(self, device: torch.device) -> "Cloud":
        return Cloud(*(x.to(device) for x in (self.noise, self.cells, self.sharpness, self.paint)))


@dataclass(frozen=True)
class Appearance:
    """How samples are shown; one that is not changed has the identity, a level light and a clear cloud."""

    colour: Float[Tensor, "batch 3 4"]  # RGB in 0...1 and one, to RGB
    light: Float[Tensor, "batch 4 4"]  # log of its factor, from the upper left on
    cloud: Cloud
    opacity: Float[Tensor, "batch 2"]  # of the cloud's low and high parts

    def to(self, device: torch.device) -> "Appearance":
        tensors = (x.to(device) for x in (self.colour, self.light, self.cloud, self.opacity))
        return Appearance(*tensors)  # type: ignore[arg-type]


def draw_cloud(generator: torch.Generator) -> Cloud:
    """Of one sample."""
    share = torch.rand(2, generator=generator, dtype=torch.float64)
    cells, sharpness = (low * (high / low) ** x for (low, high), x in zip((GRAIN, SHARPNESS), share, strict=True))
    noise = torch.randn(1, GRAIN[1], GRAIN[1], generator=generator, dtype=torch.float64)
    paint = torch.rand(1, 2, 3, generator=generator, dtype=torch.float64)
    return Cloud(noise, cells.round().long()[None], sharpness[None], paint)


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
    offset = 0.5 * (1 - gain) + number(-BRIGHTNESS, BRIGHTNESS)
    colour = torch.cat([gain[:, None] * (AXES.T @ hue @ AXES), offset[:, None]], 1)
    light, opacity = number(-SHADE, SHADE, 1, 4, 4), number(0.0, OPACITY, 1, 2)
    if not changed:
        colour, light, opacity = torch.eye(3, 4, dtype=torch.float64), 0 * light, 0 * opacity
    return Appearance(colour[None], light, draw_cloud(generator), opacity)


def shown(
    frames: UInt8[Tensor, "batch frame height width 3"], look: Appearance
) -> UInt8[Tensor, "batch frame height width 3"]:
    """Pictures as they appear so, all frames of a sample alike; an unchanged sample to the last bit."""
    height, width = frames.shape[2:4]
    x = rearrange(frames, "b f h w c -> b f c h w").float() / 255
    colour = look.colour.float()
    with torch.autocast(x.device.type, enabled=False):  # bf16 would be two grey levels off
        x = torch.einsum("boc,bfchw->bfohw", colour[:, :, :3], x) + colour[:, None, :, 3, None, None]
    light = F.interpolate(look.light[:, None].float(), (height, width), mode="bicubic", align_corners=True).exp()
    x = x * light[:, None]
    high = share_of(look.cloud, (height, width))
    low_opacity, high_opacity = look.opacity.float()[:, :, None, None].unbind(1)
    opacity = (low_opacity + (high_opacity - low_opacity) * high)[:, None, None]
    x = x + opacity * (paint_of(look.cloud, (height, width))[:, None] - x)
    return rearrange(x * 255, "b f c h w -> b f h w c").round().clamp(0, 255).to(torch.uint8)


def share_of(cloud: Cloud, size: tuple[int, int]) -> Float[Tensor, "batch height width"]:
    """Of the second colour: 0 in a cloud's low parts, 1 in its high ones."""
    found = []
    for noise, cells, sharpness in zip(cloud.noise.float(), cloud.cells.tolist(), cloud.sharpness.float(), strict=True):
        corner = noise[None, None, :cells, :cells]
        smooth = F.interpolate(corner, size, mode="bicubic", align_corners=True)[0, 0]
        found.append(torch.sigmoid(sharpness * smooth))
    return torch.stack(found)


def paint_of(cloud: Cloud, size: tuple[int, int]) -> Float[Tensor, "batch 3 height width"]:
    """A cloud's colours."""
    low, high = cloud.paint.float()[..., None, None].unbind(1)
    return low + (high - low) * share_of(cloud, size)[:, None]
