"""The exact argmax of upsampled maps, without upsampling them.

Between cell centres a bilinear surface is largest at an extreme sample, so a map's maximum lies on the few rows and
columns next to centres. One of these samples that is clearly above all others is the answer; where several come
within rounding of each other, the maps that hold them are upsampled as torch would, to break the tie as torch does.
"""

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from videopolicy.heads.upsampled import rows_at

CHUNK = 32  # maps upsampled at a time: if all tie, memory stays bounded


def argmax(
    maps: Float[Tensor, "*batch map row col"], size: tuple[int, int]
) -> tuple[Int[Tensor, "*batch"], Int[Tensor, "*batch"], Int[Tensor, "*batch"]]:
    """Map, v and u of the largest value of the maps upsampled to `size` (width, height).

    Among equal values the first in the order of (map, v, u), as torch's interpolate and argmax over all of them give.
    Raises `FloatingPointError` where a map is not finite.
    """
    x = (maps if maps.dtype == torch.float64 else maps.float()).reshape(-1, *maps.shape[-3:])
    largest = x.abs().amax((1, 2, 3))
    if not torch.isfinite(largest).all():
        raise FloatingPointError("a map holds values that are not finite; the network that made it has diverged")
    (rows, cols), (width, height) = x.shape[2:], size
    v, u = (_extreme_samples(n_out, n_in, x) for n_out, n_in in ((height, rows), (width, cols)))
    samples = rows_at(v + 0.5, height, rows).to(x) @ x @ rows_at(u + 0.5, width, cols).to(x).T
    flat = samples.flatten(1)
    top, place = flat.max(-1)
    # interpolate rounds its weights relative to the coordinate, so values differ by this much from the products above;
    # a sample between extreme ones is nearer to the best of them by up to the number of samples per cell.
    rounding = 4 * torch.finfo(x.dtype).eps * max(rows, cols, 8) * largest
    per_cell = math.ceil(max(height / rows, width / cols))
    others = flat.scatter(1, place[:, None], -torch.inf).amax(-1)
    unsure = (top - others <= 2 * per_cell * rounding).nonzero()[:, 0]
    per_map = len(v) * len(u)
    index = (place // per_map * height + v[place % per_map // len(u)]) * width + u[place % len(u)]
    if len(unsure):
        near = samples[unsure].amax((-2, -1)) >= (top - 2 * per_cell * rounding)[unsure, None]
        index[unsure] = _break_ties(x[unsure], near, size)
    index = index.reshape(maps.shape[:-3])
    return index // (width * height), index % (width * height) // width, index % width


def _break_ties(
    x: Float[Tensor, "batch map row col"], keep: Bool[Tensor, "batch map"], size: tuple[int, int]
) -> Int[Tensor, " batch"]:
    """Flat index of the first largest value of the maps to keep, upsampled."""
    (n_maps, *_), (width, height) = x.shape[1:], size
    batch, number = keep.nonzero(as_tuple=True)
    values, places = [], []
    for part in x[batch, number][:, None].split(CHUNK):
        value, place = F.interpolate(part, (height, width), mode="bilinear", align_corners=False).flatten(1).max(-1)
        values.append(value)
        places.append(place)
    value, flat = torch.cat(values), number * (width * height) + torch.cat(places)
    best = value.new_full((len(x),), -torch.inf).scatter_reduce(0, batch, value, "amax")
    behind = n_maps * width * height
    first = torch.where(value == best[batch], flat, behind)
    return flat.new_full((len(x),), behind).scatter_reduce(0, batch, first, "amin")


def _extreme_samples(n_out: int, n_in: int, like: Tensor) -> Int[Tensor, " sample"]:
    """The first and last sample along an axis, and those next to each cell's centre."""
    centre = (torch.arange(n_in, device=like.device, dtype=torch.float64) + 0.5) * n_out / n_in - 0.5
    ends = centre.new_tensor([0, n_out - 1])
    return torch.cat([ends, centre.floor(), centre.ceil()]).clamp(0, n_out - 1).long().unique()
