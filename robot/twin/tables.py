"""What the table's top may look like: pictures of other tables than the one that a task was shown on."""

import io
from collections.abc import Callable

import numpy as np
from jaxtyping import UInt8
from PIL import Image

SIDE = 512  # [px] of a picture


def planks() -> UInt8[np.ndarray, "side side 3"]:
    """Boards of unequal width and shade, with grain along them and dark joints."""
    rng = np.random.default_rng(0)
    edges = np.concatenate([[0], np.cumsum(rng.integers(20, 60, 40))])
    board = np.searchsorted(edges, np.arange(SIDE), side="right")
    shade = rng.uniform(0.75, 1.15, board.max() + 1)[board]
    grain = np.repeat(rng.normal(0, 0.04, (SIDE, SIDE // 64)), 64, axis=1)
    shade = shade[:, None] + grain
    shade[np.isin(np.arange(SIDE), edges)] = 0.4
    return _coloured(shade[..., None] * np.array([150.0, 105.0, 65.0]))


def dots() -> UInt8[np.ndarray, "side side 3"]:
    """Light dots on dark cloth, in rows that are moved against each other."""
    v, u = np.mgrid[0:SIDE, 0:SIDE] / SIDE * 14
    u = u + 0.5 * (np.floor(v) % 2)
    inside = np.hypot(u % 1 - 0.5, v % 1 - 0.5) < 0.27
    return _coloured(np.where(inside[..., None], [215.0, 205.0, 180.0], [70.0, 80.0, 110.0]))


def tartan() -> UInt8[np.ndarray, "side side 3"]:
    """Bands of unequal width that cross, each thread's colour half of what is seen."""
    widths, colours = [22, 6, 14, 6, 30, 4], [0, 1, 2, 1, 0, 3]
    palette = np.array([[150.0, 40.0, 40.0], [225.0, 215.0, 190.0], [35.0, 70.0, 50.0], [200.0, 170.0, 60.0]])
    thread = np.resize(np.repeat(colours, widths), SIDE)
    return _coloured((palette[thread][:, None] + palette[thread][None]) / 2)


PAINTED: dict[str, Callable[[], UInt8[np.ndarray, "side side 3"]]] = {
    "planks": planks,
    "dots": dots,
    "tartan": tartan,
}


def files() -> dict[str, bytes]:
    """Each as a PNG file, by its name."""
    found = {}
    for name, paint in PAINTED.items():
        file = io.BytesIO()
        Image.fromarray(paint()).save(file, "PNG")
        found[f"{name}.png"] = file.getvalue()
    return found


def _coloured(x: np.ndarray) -> UInt8[np.ndarray, "side side 3"]:
    return x.round().clip(0, 255).astype(np.uint8)
