"""Circles drawn over pictures where the end effector is, so that pictures of any arm, or of a hand, look the same.

numpy only: simulator processes use it without importing torch.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float, UInt8

from videopolicy.errors import BadInput

Overlay = Literal["none", "circle"]
JITTER_WIDTH = 224  # of the picture that `CircleConfig.pixel_jitter` is in pixels of


@dataclass(frozen=True)
class CircleConfig:
    """The circle that stands for the end effector, and what is random about it."""

    radius: float = 0.03  # of the picture's width
    colour: tuple[int, int, int] = (255, 128, 0)  # red, green, blue
    radius_jitter: float = 0.0  # an episode's radius is within 1 +- this of the radius
    colour_jitter: int = 0  # an episode's red, green and blue are each within this of the colour [grey levels]
    pixel_jitter: float = 0.0  # a frame's centre is within this of the pixel, in u and in v [pixels at 224]
    apart: int = 40  # no pixel of a picture may be within this of the circle's red, green and blue [grey levels]

    def __post_init__(self) -> None:
        if not 0 < self.radius <= 0.25:
            raise BadInput(f"circle.radius is {self.radius}; allowed: above 0 to 0.25 of the picture's width")
        if not all(0 <= c <= 255 for c in self.colour):
            raise BadInput(f"circle.colour is {list(self.colour)}; allowed: red, green and blue from 0 to 255")
        for name, high in (("radius_jitter", 0.9), ("colour_jitter", 255), ("pixel_jitter", 56), ("apart", 255)):
            if not 0 <= getattr(self, name) <= high:
                raise BadInput(f"circle.{name} is {getattr(self, name)}; allowed: 0 to {high}")


@dataclass(frozen=True)
class Circle:
    """One episode's circle, all that is random about it drawn."""

    radius: float  # [pixels]
    colour: tuple[int, int, int]
    shift: Float[np.ndarray, "frame 2"]  # of its centre [pixels]

    def to_json(self) -> dict:
        return {"radius": round(self.radius, 3), "colour": list(self.colour)}


def draw_circle(cfg: CircleConfig, n_frames: int, width: int, rng: np.random.Generator) -> Circle:
    """A circle for an episode of pictures `width` pixels wide."""
    radius = cfg.radius * width * (1 + cfg.radius_jitter * rng.uniform(-1, 1))
    offset = rng.integers(-cfg.colour_jitter, cfg.colour_jitter, 3, endpoint=True)
    red, green, blue = np.clip(np.array(cfg.colour) + offset, 0, 255).tolist()
    shift = cfg.pixel_jitter * width / JITTER_WIDTH * rng.uniform(-1, 1, (n_frames, 2))
    return Circle(float(radius), (red, green, blue), shift)


def overlaid(
    frames: UInt8[np.ndarray, "frame height width 3"], pixels: Float[np.ndarray, "frame 2"], circle: Circle
) -> UInt8[np.ndarray, "frame height width 3"]:
    """Pictures with a filled circle at each one's pixel, its edge one pixel soft.

    None where the pixel is outside the picture, or NaN as behind the camera.
    """
    height, width = frames.shape[1:3]
    found = frames.copy()
    inside = ((pixels >= 0) & (pixels < [width, height])).all(-1)
    for i in np.flatnonzero(inside):
        u, v = pixels[i] + circle.shift[i]
        reach = circle.radius + 1
        columns = np.arange(max(0, int(u - reach)), min(width, int(u + reach) + 1))
        rows = np.arange(max(0, int(v - reach)), min(height, int(v + reach) + 1))
        distance = np.hypot(columns[None] + 0.5 - u, rows[:, None] + 0.5 - v)
        cover = np.clip(circle.radius + 0.5 - distance, 0, 1)[..., None]
        where = np.ix_([i], rows, columns)
        found[where] = (found[where] * (1 - cover) + np.array(circle.colour) * cover).round()
    return found


def check_colour(
    frames: UInt8[np.ndarray, "frame height width 3"], colour: tuple[int, int, int], apart: int, where: str
) -> None:
    """`BadInput` where pictures without a circle have its colour; `where` says in words which pictures they are.

    A pixel has it whose red, green and blue are all within `apart` of it.
    """
    counts = [int((np.abs(f.astype(np.int16) - np.array(colour, np.int16)).max(-1) <= apart).sum()) for f in frames]
    if any(counts):
        raise BadInput(
            f"the circle's colour {list(colour)} occurs in {where}: {sum(counts)} pixels of {np.count_nonzero(counts)}"
            f" picture(s) are within {apart} of it; allowed: none; name another circle.colour"
        )
