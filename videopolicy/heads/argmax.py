"""The exact argmax of upsampled maps, without upsampling them.

Between cell centres a bilinear surface is largest at an extreme sample, so a map's maximum lies on the few rows and
columns next to centres; and no sample exceeds its map's largest cell, so most maps of a volume need not be sampled.
One of these samples that is clearly above all others is the answer; where several come within rounding of each other,
the maps that hold them are upsampled as torch would, to break the tie as torch does.
"""

import math
from functools import lru_cache

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from videopolicy.heads.upsampled import rows_at

CHUNK = 32  # maps upsampled at a time: if all tie, memory stays bounded


@torch.no_grad()
def argmax(
    maps: Float[Tensor, "*batch map row col"], size: tuple[int, int]
) -> tuple[Int[Tensor, "*batch"], Int[Tensor, "*batch"], Int[Tensor, "*batch"]]:
    """Map, v and u of the largest value of the maps upsampled to `size` (width, height).

    Among equal values the first in the order of (map, v, u), as torch's interpolate and argmax over all of them give.
    Raises `FloatingPointError` where a map is not finite. In full precision, whatever surrounds it.
    """
    with torch.autocast(maps.device.type, enabled=False):
        return _argmax(maps, size)


def _argmax(
    maps: Float[Tensor, "*batch map row col"], size: tuple[int, int]
) -> tuple[Int[Tensor, "*batch"], Int[Tensor, "*batch"], Int[Tensor, "*batch"]]:
    x = (maps if maps.dtype == torch.float64 else maps.float()).reshape(-1, *maps.shape[-3:])
    low, high = x.flatten(1).aminmax(dim=1)
    largest = torch.maximum(-low, high)
    if not torch.isfinite(largest).all():
        raise FloatingPointError("a map holds values that are not finite; the network that made it has diverged")
    (n, n_maps, rows, cols), (width, height) = x.shape, size
    (v, weight_v), (u, weight_u) = (_extreme(*axis, x.dtype, x.device) for axis in ((height, rows), (width, cols)))
    # interpolate rounds its weights relative to the coordinate, so values differ by this much from products of ours; a
    # sample between extreme ones is nearer to the best of them by up to the number of samples per cell.
    rounding = 4 * torch.finfo(x.dtype).eps * max(rows, cols, 8) * largest
    within = 2 * math.ceil(max(height / rows, width / cols)) * rounding

    if n_maps == 1:
        batch = torch.arange(n, device=x.device)
        number = torch.zeros_like(batch)
    else:  # a sample of the map with the largest cell rules most others out
        cell = x.amax((2, 3))
        reached = (weight_v @ x[torch.arange(n, device=x.device), cell.argmax(1)] @ weight_u.T).amax((1, 2))
        batch, number = (cell >= (reached - within)[:, None]).nonzero(as_tuple=True)
    samples = (weight_v @ x[batch, number] @ weight_u.T).flatten(1)
    best, place = samples.max(1)
    top = best.new_empty(n).scatter_reduce(0, batch, best, "amax", include_self=False)
    near = (samples >= (top - within)[batch, None]).sum(1)
    unsure = near.new_zeros(n).index_add(0, batch, near) > 1

    index = place.new_empty(n)
    won = best == top[batch]
    at = (number * height + v[place // len(u)]) * width + u[place % len(u)]
    index[batch[won]] = at[won]
    if unsure.any():
        tied = unsure[batch] & (near > 0)
        index = torch.where(unsure, _break_ties(x, batch[tied], number[tied], size), index)
    index = index.reshape(maps.shape[:-3])
    return index // (width * height), index % (width * height) // width, index % width


def _break_ties(
    x: Float[Tensor, "batch map row col"], batch: Int[Tensor, " chosen"], number: Int[Tensor, " chosen"], size: tuple
) -> Int[Tensor, " batch"]:
    """Flat index of the first largest value of the maps that are chosen, upsampled."""
    (n, n_maps, *_), (width, height) = x.shape, size
    values, places = [], []
    for part in x[batch, number][:, None].split(CHUNK):
        value, place = F.interpolate(part, (height, width), mode="bilinear", align_corners=False).flatten(1).max(-1)
        values.append(value)
        places.append(place)
    value, flat = torch.cat(values), number * (width * height) + torch.cat(places)
    best = value.new_full((n,), -torch.inf).scatter_reduce(0, batch, value, "amax")
    behind = n_maps * width * height
    first = torch.where(value == best[batch], flat, behind)
    return flat.new_full((n,), behind).scatter_reduce(0, batch, first, "amin")


@lru_cache(maxsize=64)
def _extreme(
    n_out: int, n_in: int, dtype: torch.dtype, device: torch.device
) -> tuple[Int[Tensor, " sample"], Float[Tensor, "sample n_in"]]:
    """The first and last sample along an axis and those next to each cell's centre, with their cells' weights.

    All samples before the first centre are its cell alone, to the last bit: the first of them stands for them.
    """
    with torch.inference_mode(False):  # kept for callers outside of it
        centre = (torch.arange(n_in, device=device, dtype=torch.float64) + 0.5) * n_out / n_in - 0.5
        ends = centre.new_tensor([0, n_out - 1])
        sample = torch.cat([ends, centre.floor(), centre.ceil()]).clamp(0, n_out - 1).long().unique()
        sample = sample[(sample == 0) | (sample > centre[0] - 1e-3)]
        return sample, rows_at(sample + 0.5, n_out, n_in).to(dtype)
