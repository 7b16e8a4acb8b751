"""Measures of pictures and clips."""

from jaxtyping import Float, UInt8
from torch import Tensor


def psnr(
    frames: UInt8[Tensor, "*batch height width 3"], reference: UInt8[Tensor, "*batch height width 3"]
) -> Float[Tensor, "*batch"]:
    """Peak signal-to-noise ratio of pictures [dB], each on its own; at most 60, for equal ones."""
    mse = (frames.float() - reference.float()).square().mean((-3, -2, -1)) / 255**2
    return -10 * mse.clamp(min=1e-6).log10()


def motion(clips: UInt8[Tensor, "clip frame height width 3"]) -> float:
    """Mean change from frame to frame [grey levels]: of a generated clip far below a real one's, it is a still."""
    return float(clips.float().diff(dim=1).abs().mean())
