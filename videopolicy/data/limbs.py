"""Limb augmentation: an arm of no particular make is drawn over pictures, reaching for the start keypoint.

Circle-overlay video shows no arm, and a network that has seen none points at the first one's joints. Drawn are what
arms have in common, round links, a palm and two fingers about the end effector's pixel, in colours, sizes and angles at
random. Labels stay as they are (embodiment randomization, after domain randomization, Tobin et al. 2017). Hands reach
down from above in the picture, as a camera that looks at an arm's workspace sees them. Lengths are in picture widths.
"""

import math
from dataclasses import dataclass, fields

import torch
from einops import rearrange
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

LEAN = math.radians(50)  # of the hand from upright, at most, either way
N_LINKS = 4  # from the wrist on; the last is often out of the picture, or the arm ends in it
LINK = (0.08, 0.4)  # a link's length
BEND = math.radians(110)  # from one link to the next, at most, either way
THICK = (0.02, 0.08)  # radius of links
FINGER = (0.01, 0.09)  # length of the fingers
THIN = (0.006, 0.02)  # their radius
APART = (0.005, 0.06)  # of each one's axis from the hand's; they may touch
PALM = (0.012, 0.04)  # radius of the palm, whose axis ends beyond the fingers' by up to:
WIDER = 0.08
COVERS = 0.5  # share of limbs whose tip is solid, so that it hides the circle: no robot's end effector is marked
TIP = (0.03, 0.05)  # radius of that tip; a larger circle's rim, or an ellipse's where a picture was squeezed, looks out
GREY = 0.6  # share of limbs without a hue, as most arms
SHADE = 0.8  # how much darker a link is at its edge than along the line that the light meets, at most
N_PARTS = N_LINKS + 4  # links, palm, two fingers, tip


@dataclass(frozen=True)
class Limb:
    """Of each sample, its parts: capsules, those named later in front."""

    shown: Bool[Tensor, " batch"]
    ends: Float[Tensor, "batch part 2 2"]  # of each part's axis, from the start keypoint [picture widths]
    radius: Float[Tensor, "batch part"]  # [picture widths]; 0: no such part
    paint: Float[Tensor, "batch part 3"]  # RGB in 0...1
    light: Float[Tensor, " batch"]  # where across each part it is brightest, from its first end on: -1 left, 1 right
    shade: Float[Tensor, " batch"]  # how much darker a radius away from there

    def to(self, device: torch.device) -> "Limb":
        return Limb(*(getattr(self, f.name).to(device) for f in fields(self)))


def draw_limb(share: float, generator: torch.Generator) -> Limb:
    """Of one sample, shown with probability `share`."""

    def number(low: float, high: float, *shape: int) -> Float[Tensor, "..."]:
        return low + (high - low) * torch.rand(shape, generator=generator, dtype=torch.float64)

    shown = torch.rand(1, generator=generator) < share
    # The hand: fingers from the tip up to the palm, across which the wrist stands.
    lean = number(-LEAN, LEAN)
    up, across = torch.stack([lean.sin(), -lean.cos()]), torch.stack([lean.cos(), lean.sin()])
    apart, palm_at = number(*APART), number(*FINGER) * up
    fingers = [torch.stack([side * apart * across, side * apart * across + palm_at]) for side in (-1, 1)]
    half = apart + number(0.0, WIDER)
    palm = torch.stack([palm_at - half * across, palm_at + half * across])

    # The arm, link by link away from the hand.
    joints, angle = [palm_at], lean
    for length in number(*LINK, N_LINKS):
        joints.append(joints[-1] + length * torch.stack([angle.sin(), -angle.cos()]))
        angle = angle + number(-BEND, BEND)
    links = [torch.stack(pair) for pair in zip(joints, joints[1:], strict=False)]

    thick, thin = number(*THICK, N_LINKS), number(*THIN).expand(2)
    covers = number(0.0, 1.0, 1) < COVERS
    tip = number(*TIP, 1) * covers
    colours = number(0.0, 1.0, 3, 3)  # a limb has three paints
    grey = number(0.0, 1.0) < GREY
    colours = colours.mean(1, keepdim=True).lerp(colours, 0.1) if grey else colours
    chosen = torch.randint(len(colours), (N_PARTS,), generator=generator)
    ends = torch.stack([*reversed(links), palm, *fingers, torch.zeros(2, 2, dtype=torch.float64)])
    radius = torch.cat([thick.flip(0), number(*PALM, 1), thin, tip])
    light, shade = number(-1.0, 1.0, 1), number(0.0, SHADE, 1)
    return Limb(shown, ends[None], radius[None], colours[chosen][None], light, shade)


def reached_for(
    frames: UInt8[Tensor, "batch frame height width 3"], start: Float[Tensor, "batch 2"], limb: Limb
) -> UInt8[Tensor, "batch frame height width 3"]:
    """Pictures over which a limb reaches for the start keypoint [pixels], in all frames of a sample alike.

    Samples without a limb, or whose start keypoint is not in the picture (NaN), are left to the last bit.
    """
    width = frames.shape[3]
    has = (limb.shown & start.isfinite().all(-1)).nonzero()[:, 0].tolist()
    found = frames.clone() if has else frames
    ends = (width * limb.ends + start[:, None, None].double()).tolist()
    radius, light, shade = (width * limb.radius).tolist(), limb.light.tolist(), limb.shade.tolist()
    paint = (255 * limb.paint).float()
    for i in has:
        planes = rearrange(frames[i], "t h w c -> c t h w").float()
        for (first, last), r, colour in zip(ends[i], radius[i], paint[i], strict=True):
            if r:
                _paint(planes, first, last, r, colour, light[i], shade[i])
        found[i] = rearrange(planes.round().clamp(0, 255).to(torch.uint8), "c t h w -> t h w c")
    return found


def _paint(
    planes: Float[Tensor, "3 frame height width"],
    first: list[float],
    last: list[float],
    radius: float,
    paint: Float[Tensor, "3"],
    light: float,
    shade: float,
) -> None:
    """A capsule from `first` to `last`, in place; of the picture, only the box about it is worked on."""
    height, width = planes.shape[2:]
    reach = radius + 1
    (left, right), (top, bottom) = (
        (max(0, math.floor(min(pair) - reach)), min(size, math.ceil(max(pair) + reach)))
        for pair, size in zip(zip(first, last, strict=True), (width, height), strict=True)
    )
    if left >= right or top >= bottom:
        return
    u = torch.arange(left, right, device=planes.device) + (0.5 - first[0])
    v = torch.arange(top, bottom, device=planes.device)[:, None] + (0.5 - first[1])
    across, down = last[0] - first[0], last[1] - first[1]
    length = math.hypot(across, down)
    across, down = (across / length, down / length) if length else (1.0, 0.0)
    along, side = across * u + down * v, across * v - down * u
    cover = (radius + 0.5 - torch.hypot(side, along - along.clamp(0, length))).clamp(0, 1)
    dark = shade * (side / radius - light).square().clamp(max=1)
    box = planes[:, :, top:bottom, left:right]
    box += cover * (paint[:, None, None, None] * (1 - dark) - box)
