"""Where a token stands on the feature grid, for heads that forget it."""

import math

import torch
from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor


def position_encoding(rows: int, cols: int, width: int, like: Tensor) -> Float[Tensor, "cell width"]:
    """Sines and cosines of row and column, half the channels each, as in DETR (Carion et al. 2020)."""
    frequency = 10000 ** (-torch.arange(width // 4, device=like.device) * 4 / width)
    axes = []
    for n in (rows, cols):
        angle = 2 * math.pi * (torch.arange(n, device=like.device) + 0.5)[:, None] / n * frequency
        axes.append(torch.cat([angle.sin(), angle.cos()], -1))
    by_row, by_col = repeat(axes[0], "r c -> r k c", k=cols), repeat(axes[1], "k c -> r k c", r=rows)
    return rearrange(torch.cat([by_row, by_col], -1), "r k c -> (r k) c").to(like.dtype)
