"""Appearance augmentation: the same scene in other colours, under other light, with shadows and patterns over it.

Nothing moves, so labels stay as they are. What is drawn knows nothing of the scene: colours are mixed by a random
affine map (white balance, hue, saturation, contrast, brightness), light varies smoothly across the picture, and a cloud
or a repeated pattern of a random grain, its edges anywhere from soft to sharp, is painted over it half transparently
(random overlays, after Hansen and Wang 2021). So neither a table's texture nor a wall's colour tells where to go.
"""

import math
from dataclasses import dataclass, fields

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
REPEATED = 0.5  # share of clouds that repeat themselves, in part or wholly
PERIODS = (2.0, 16.0)  # of its first wave across the middle; the second has half to twice as many
RECEDES = 0.6  # by how much depth, which density goes down with, changes at most from side to side
BENT = 2.0  # of its lines, at most, by the cloud [radians]
SHARPNESS = (0.5, 20.0)  # of a cloud's edges: 0.5 barely a gradient, 20 a border
OPACITY = 0.5  # of a cloud, at most
# Orthonormal: grey, then two axes of colour that hue turns.
AXES = torch.tensor([[1.0, 1.0, 1.0], [1.0, -1.0, 0.0], [1.0, 1.0, -2.0]], dtype=torch.float64)
AXES /= AXES.norm(dim=1, keepdim=True)


@dataclass(frozen=True)
class Cloud:
    """Two colours, blended by smooth noise, by waves that cross (stripes, a lattice of dots), or by some of both."""

    noise: Float[Tensor, "batch 32 32"]  # of which a corner of `cells` x `cells` fills the picture
    cells: Int[Tensor, " batch"]
    sharpness: Float[Tensor, " batch"]
    paint: Float[Tensor, "batch 2 3"]  # of low and of high parts, RGB in 0...1
    repeated: Float[Tensor, " batch"]  # share of waves: 0 noise alone
    waves: Float[Tensor, "batch 2 4"]  # of each, periods to the right and downwards, phase [radians], amplitude
    recedes: Float[Tensor, "batch 2"]  # rise of depth to the right and downwards, by which the waves are divided
    bent: Float[Tensor, " batch"]  # of the waves' lines by the noise [radians]

    def to(self, device: torch.device) -> "Cloud":
        return Cloud(*(getattr(self, f.name).to(device) for f in fields(self)))


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
    share = torch.rand(3, generator=generator, dtype=torch.float64)
    cells, sharpness, periods = (
        low * (high / low) ** x for (low, high), x in zip((GRAIN, SHARPNESS, PERIODS), share, strict=True)
    )
    noise = torch.randn(1, GRAIN[1], GRAIN[1], generator=generator, dtype=torch.float64)
    paint = torch.rand(1, 2, 3, generator=generator, dtype=torch.float64)
    number = torch.rand(9, generator=generator, dtype=torch.float64)
    repeated = number[0:1] if number[1] < REPEATED else torch.zeros(1, dtype=torch.float64)
    turn = 2 * math.pi * number[2]
    across = periods * torch.stack([turn.cos(), turn.sin()])
    along = torch.stack([-across[1], across[0]]) * 2 ** (2 * number[3] - 1)  # up to twice as dense, or half
    phase, amplitude = 2 * math.pi * number[4:6], torch.stack([torch.ones_like(turn), number[6]])
    waves = torch.cat([torch.stack([across, along]), phase[:, None], amplitude[:, None]], 1)
    recedes = RECEDES * (2 * torch.rand(1, 2, generator=generator, dtype=torch.float64) - 1)
    grain = cells.round().long()[None]
    return Cloud(noise, grain, sharpness[None], paint, repeated, waves[None], recedes, BENT * number[7:8] * number[8])


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
    x = rearrange(frames, "b t h w c -> b t c h w").float() / 255
    colour = look.colour.float()
    with torch.autocast(x.device.type, enabled=False):  # bf16 would be two grey levels off
        x = torch.einsum("boc,btchw->btohw", colour[:, :, :3], x) + colour[:, None, :, 3, None, None]
    light = F.interpolate(look.light[:, None].float(), (height, width), mode="bicubic", align_corners=True).exp()
    x = x * light[:, None]
    high = share_of(look.cloud, (height, width))
    low_opacity, high_opacity = look.opacity.float()[:, :, None, None].unbind(1)
    opacity = (low_opacity + (high_opacity - low_opacity) * high)[:, None, None]
    x = x + opacity * (paint_of(look.cloud, (height, width))[:, None] - x)
    return rearrange(x * 255, "b t c h w -> b t h w c").round().clamp(0, 255).to(torch.uint8)


def share_of(cloud: Cloud, size: tuple[int, int]) -> Float[Tensor, "batch height width"]:
    """Of the second colour: 0 in a cloud's low parts, 1 in its high ones."""
    corners = [noise[None, None, :n, :n] for noise, n in zip(cloud.noise.float(), cloud.cells.tolist(), strict=True)]
    smooth = torch.cat([F.interpolate(x, size, mode="bicubic", align_corners=True)[0] for x in corners])
    repeated, bent, sharpness = (x.float()[:, None, None] for x in (cloud.repeated, cloud.bent, cloud.sharpness))
    sides = (torch.linspace(-0.5, 0.5, n, device=smooth.device) for n in size)
    v, u = torch.meshgrid(*sides, indexing="ij")
    (right, down), waves = cloud.recedes.float()[:, :, None, None].unbind(1), cloud.waves.float()[..., None, None]
    depth = 1 + right * u + down * v
    total = torch.zeros_like(smooth)
    for periods_u, periods_v, phase, amplitude in (wave.unbind(1) for wave in waves.unbind(1)):
        turns = (periods_u * u + periods_v * v) / depth
        total = total + amplitude * torch.sin(2 * math.pi * turns + phase + bent * smooth)
    return torch.sigmoid(sharpness * torch.lerp(smooth, total, repeated))


def paint_of(cloud: Cloud, size: tuple[int, int]) -> Float[Tensor, "batch 3 height width"]:
    """A cloud's colours."""
    low, high = cloud.paint.float()[..., None, None].unbind(1)
    return low + (high - low) * share_of(cloud, size)[:, None]
