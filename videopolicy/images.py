"""Resizing pictures: one function for training data and for acting, so that a policy sees what it was trained on."""

import numpy as np
from jaxtyping import UInt8
from PIL import Image


def resized(frames: UInt8[np.ndarray, "*batch height width 3"], size: tuple[int, int]) -> np.ndarray:
    """Pictures resized to (width, height), antialiased; the same array where they have that size."""
    if (frames.shape[-2], frames.shape[-3]) == size:
        return frames
    flat = frames.reshape(-1, *frames.shape[-3:])
    small = np.stack([np.asarray(Image.fromarray(f).resize(size, Image.Resampling.BILINEAR)) for f in flat])
    return small.reshape(*frames.shape[:-3], size[1], size[0], 3)
