"""Where a head's most likely pixel is, below the grid's cells, and how much probability lies around it."""

from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from videopolicy.heads.upsampled import rows_at


@dataclass(frozen=True)
class Peak:
    """Of each batch of maps that share one softmax."""

    pixel: Float[Tensor, "*batch 2"]  # (u, v), the mean around the argmax
    bin: Float[Tensor, "*batch"]  # index of the map, likewise a mean
    confidence: Float[Tensor, "*batch"]  # probability of the cells (and bins) it is the mean of, 0 ... 1


def refine(
    maps: Float[Tensor, "*batch map row col"],
    at: tuple[Int[Tensor, "*batch"], Int[Tensor, "*batch"], Int[Tensor, "*batch"]],
    size: tuple[int, int],
    window: float,
    belief: Float[Tensor, "*batch map row col"] | None = None,
) -> Peak:
    """The mean over the probability within `window` grid cells, and one map to each side, of the argmax (map, v, u).

    `belief`: the maps whose probability the confidence is, where `maps` leave out what cannot be.
    """
    batch, (n_maps, rows, cols), (width, height) = maps.shape[:-3], maps.shape[-3:], size
    x = maps.float().reshape(-1, n_maps, rows, cols)
    best, v0, u0 = (i.reshape(-1, 1) for i in at)
    dv, du, disc = _window(size, (rows, cols), window, x.device)
    v, u = v0 + dv, u0 + du
    near = best + torch.arange(-1, 2, device=x.device) if n_maps > 1 else best
    there = (near >= 0) & (near < n_maps)
    index = near.clamp(0, n_maps - 1)[:, :, None, None].expand(-1, -1, rows, cols)
    chosen = x.gather(1, index) if n_maps > 1 else x
    inside = ((v >= 0) & (v < height))[:, :, None] & ((u >= 0) & (u < width))[:, None] & disc
    weight_v, weight_u = rows_at(v + 0.5, height, rows), rows_at(u + 0.5, width, cols)
    with torch.autocast(x.device.type, enabled=False):
        logits = weight_v[:, None] @ chosen @ weight_u[:, None].mT
    p = logits.where(inside[:, None] & there[:, :, None, None], -torch.inf).flatten(1).softmax(-1).reshape(logits.shape)
    flat = p.sum(1)
    pixel = torch.stack([(flat.sum(1) * (u + 0.5)).sum(-1), (flat.sum(2) * (v + 0.5)).sum(-1)], -1)
    mean_bin = (p.sum((2, 3)) * near).sum(-1)

    # Over cells rather than pixels: the log-sum-exp of every bin's map would cost more than all the rest.
    cell = pixel * pixel.new_tensor([cols / width, rows / height]) - 0.5
    col, row = (torch.arange(n, device=x.device) for n in (cols, rows))
    across, down = (col - cell[:, :1]).square(), (row - cell[:, 1:]).square()
    around = down[:, :, None] + across[:, None] <= max(window, 1.0) ** 2
    if belief is not None and belief is not maps:
        x = belief.float().reshape(x.shape)
        chosen = x.gather(1, index)
    share = (chosen - x.flatten(1).logsumexp(-1)[:, None, None, None]).exp()
    mass = share.where(there[:, :, None, None] & around[:, None], 0.0).sum((1, 2, 3))
    return Peak(pixel.reshape(*batch, 2), mean_bin.reshape(batch), mass.reshape(batch))


@lru_cache(maxsize=64)
def _window(
    size: tuple[int, int], grid: tuple[int, int], window: float, device: torch.device
) -> tuple[Float[Tensor, " v"], Float[Tensor, " u"], Bool[Tensor, "v u"]]:
    """Offsets of the pixels up to `window` cells of the grid (rows, cols) away, and which lie within it as a disc."""
    with torch.inference_mode(False):  # kept for callers outside of it
        reach_v, reach_u = window * size[1] / grid[0], window * size[0] / grid[1]
        dv, du = (torch.arange(-int(r), int(r) + 1, device=device, dtype=torch.float32) for r in (reach_v, reach_u))
        return dv, du, (dv / reach_v).square()[:, None] + (du / reach_u).square() <= 1
