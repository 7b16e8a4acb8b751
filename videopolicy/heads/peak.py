"""Where a head's most likely pixel is, below the grid's cells, and how much probability lies around it."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
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
    reach_u, reach_v = window * width / cols, window * height / rows
    u, v, near = (
        centre + torch.arange(-int(reach), int(reach) + 1, device=x.device)
        for centre, reach in ((u0, reach_u), (v0, reach_v), (best, 1))
    )
    near_in, v_in, u_in = ((i >= 0) & (i < n) for i, n in ((near, n_maps), (v, height), (u, width)))
    inside = near_in[:, :, None, None] & v_in[:, None, :, None] & u_in[:, None, None, :]
    disc = (((v - v0) / reach_v) ** 2)[:, :, None] + (((u - u0) / reach_u) ** 2)[:, None, :] <= 1
    chosen = x.gather(1, near.clamp(0, n_maps - 1)[:, :, None, None].expand(-1, -1, rows, cols))
    weight_v, weight_u = rows_at(v + 0.5, height, rows), rows_at(u + 0.5, width, cols)
    logits = torch.einsum("bmhw,bih,bjw->bmij", chosen, weight_v, weight_u)
    p = logits.where(inside & disc[:, None], -torch.inf).flatten(1).softmax(-1).reshape(logits.shape)
    pixel = torch.stack([(p.sum((1, 2)) * (u + 0.5)).sum(-1), (p.sum((1, 3)) * (v + 0.5)).sum(-1)], -1)
    mean_bin = (p.sum((2, 3)) * near).sum(-1)

    # Over cells rather than pixels: the log-sum-exp of every bin's map would cost more than all the rest.
    row, col = (torch.arange(n, device=x.device) for n in (rows, cols))
    cell_v, cell_u = pixel[:, 1:] * rows / height - 0.5, pixel[:, :1] * cols / width - 0.5
    around = ((row - cell_v) ** 2)[:, :, None] + ((col - cell_u) ** 2)[:, None, :] <= max(window, 1.0) ** 2
    bins = (torch.arange(n_maps, device=x.device) - best).abs() <= 1
    believed = x if belief is None else belief.float().reshape(x.shape)
    mass = (believed.flatten(1).softmax(-1).reshape(x.shape) * (bins[:, :, None, None] & around[:, None])).sum(
        (1, 2, 3)
    )
    return Peak(pixel.reshape(*batch, 2), mean_bin.reshape(batch), mass.reshape(batch))
