"""Sheets of clips and heatmaps."""

import warnings
from contextlib import suppress
from pathlib import Path

import matplotlib
import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw
from torch import Tensor

from videopolicy.heads.upsampled import upsample

TRUE, PREDICTED = (0, 255, 0), (80, 160, 255)  # colours of pixels


def save_image(path: Path, image: UInt8[np.ndarray, "height width 3"]) -> None:
    """Write a picture, or warn where that fails: no training ends because of one."""
    temporary = path.with_suffix(".tmp.png")
    try:
        Image.fromarray(image).save(temporary)
        temporary.replace(path)
    except OSError as error:
        warnings.warn(f"cannot write {path}: {error.strerror}", stacklevel=2)
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def rows_of(clips: UInt8[np.ndarray, "clip frame height width 3"]) -> UInt8[np.ndarray, "rows cols 3"]:
    """Clips one below the other, frames side by side."""
    return rearrange(clips, "b t h w c -> (b h) (t w) c")


def save_clip_comparison(path: Path, real: np.ndarray, generated: np.ndarray) -> None:
    """Real clip above its generated twin, for every clip; both start with the same frame."""
    size = generated.shape[-3:-1]
    if real.shape[-3:-1] != size:
        flat = rearrange(torch.from_numpy(real), "b t h w c -> (b t) c h w").float()
        resized = torch.nn.functional.interpolate(flat, size, mode="bilinear", antialias=True)
        real = rearrange(resized.round().clamp(0, 255).byte(), "(b t) c h w -> b t h w c", b=len(real)).numpy()
    pairs = np.stack([real, generated], 1)
    save_image(path, rows_of(rearrange(pairs, "b p t h w c -> (b p) t h w c")))


def overlay(
    image: UInt8[np.ndarray, "height width 3"], probability: Float[np.ndarray, "height width"]
) -> UInt8[np.ndarray, "height width 3"]:
    """An image with a heatmap over it, strongest where the probability is."""
    strength = (probability / max(probability.max(), 1e-12)) ** 0.5
    colour = matplotlib.colormaps["inferno"](strength)[..., :3] * 255
    alpha = 0.85 * strength[..., None]
    return (image * (1 - alpha) + colour * alpha).astype(np.uint8)


def heat(
    image: UInt8[np.ndarray, "height width 3"], logits: Float[Tensor, "row col"], size: tuple[int, int]
) -> UInt8[np.ndarray, "height width 3"]:
    """An image of `size` (width, height) with the heatmap of a head's logits over it."""
    probability = upsample(logits[None], size).flatten().softmax(-1).reshape(size[::-1])
    return overlay(image, probability.cpu().numpy())


def dot(
    image: UInt8[np.ndarray, "height width 3"], pixel: np.ndarray, colour: tuple[int, int, int], radius: float = 3.0
) -> None:
    """Draw a disc in place; nothing where the pixel is NaN."""
    if np.isnan(pixel).any():
        return
    v, u = np.mgrid[0 : image.shape[0], 0 : image.shape[1]] + 0.5
    image[np.hypot(u - pixel[0], v - pixel[1]) <= radius] = colour


def pointed(
    image: UInt8[np.ndarray, "height width 3"],
    logits: Float[Tensor, "row col"] | None,
    pixel: np.ndarray,
    true: np.ndarray | None = None,
) -> UInt8[np.ndarray, "height width 3"]:
    """A step: the image with a head's heatmap, if it has one, the true pixel (green) and the predicted one (blue)."""
    size = (image.shape[1], image.shape[0])
    tile = image.copy() if logits is None else heat(image, logits, size)
    if true is not None:
        dot(tile, true, TRUE, 2.0)
    dot(tile, pixel, PREDICTED, max(2.0, size[0] / 64))
    return tile


def save_heatmaps(
    path: Path, batch: dict[str, Tensor], heatmap: Tensor, pixel: Tensor, size: tuple[int, int], n: int = 6
) -> None:
    """Per row: the input, then a heatmap per step with the true pixel (green) and the predicted one (blue)."""
    rows = []
    for i in range(min(n, len(heatmap))):
        image = np.array(Image.fromarray(batch["frames"][i, 0].numpy()).resize(size))
        tiles = [image.copy()]
        dot(tiles[0], batch["start_pixel"][i].numpy(), TRUE)
        for step in range(heatmap.shape[1]):
            true = batch["pixel"][i, step].numpy() if batch["valid"][i, step] else None
            tiles.append(pointed(image, heatmap[i, step], pixel[i, step].numpy(), true))
        rows.append(np.stack(tiles))
    save_image(path, rows_of(np.stack(rows)))


OUTCOME_COLOURS = {"place": (27, 160, 90), "grasp": (230, 180, 20), "miss": (210, 60, 45)}


def labelled_grid(
    clips: list[UInt8[np.ndarray, "frame height width 3"]],
    labels: list[str],
    outcomes: list[str],
    columns: int,
    tile: int,
) -> UInt8[np.ndarray, "frame rows cols 3"]:
    """Clips side by side in coloured frames, shorter ones held at their last picture."""
    n_frames = max(len(clip) for clip in clips)
    border, strip = 4, 16
    cell = (tile + 2 * border + strip, tile + 2 * border)
    n_rows = -(-len(clips) // columns)
    sheet = np.full((n_frames, n_rows * cell[0], columns * cell[1], 3), 255, np.uint8)
    for i, (clip, label, outcome) in enumerate(zip(clips, labels, outcomes, strict=True)):
        top, left = (i // columns) * cell[0], (i % columns) * cell[1]
        caption = Image.new("RGB", (cell[1], strip), OUTCOME_COLOURS[outcome])
        ImageDraw.Draw(caption).text((4, 2), label, fill=(255, 255, 255))
        for t in range(n_frames):
            box = sheet[t, top : top + cell[0], left : left + cell[1]]
            box[:] = OUTCOME_COLOURS[outcome]
            box[:strip] = np.asarray(caption)
            picture = Image.fromarray(clip[min(t, len(clip) - 1)]).resize((tile, tile))
            box[strip + border : strip + border + tile, border : border + tile] = np.asarray(picture)
    return sheet
