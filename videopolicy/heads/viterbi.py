"""Temporal decoding: the path over a chunk's heatmaps that is most likely when long jumps are unlikely."""

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor


def most_likely_path(
    score: Float[Tensor, "batch step row col"], stiffness: float
) -> tuple[Int[Tensor, "batch step"], Int[Tensor, "batch step"]]:
    """Rows and columns that maximise the sum of scores minus `stiffness` * (distance between steps)^2 [cells].

    Viterbi (1967) with the squared-distance maxima taken axis by axis, as in Felzenszwalb and Huttenlocher's distance
    transform (2012): (rows + cols) instead of rows * cols candidates per cell. `stiffness` 0: each step by itself.
    """
    n_steps, rows, cols = score.shape[1:]
    row, col = (torch.arange(n, device=score.device) for n in (rows, cols))
    cost_row, cost_col = (stiffness * (x[:, None] - x[None, :]).square().to(score.dtype) for x in (row, col))
    best, came_from = score[:, 0], []
    for step in range(1, n_steps):
        # The best previous row for every (new row, old column), then the best old column for every (new row, column).
        by_row, old_row = (best[:, None] - cost_row[None, :, :, None]).max(2)
        by_col, old_col = (by_row[:, :, None] - cost_col[None, None]).max(3)
        old_row = old_row.gather(2, old_col)
        came_from.append(rearrange(old_row * cols + old_col, "b r c -> b (r c)"))
        best = by_col + score[:, step]
    flat = [rearrange(best, "b r c -> b (r c)").argmax(-1)]
    for back in reversed(came_from):
        flat.append(back.gather(1, flat[-1][:, None])[:, 0])
    path = torch.stack(flat[::-1], 1)
    return path // cols, path % cols
