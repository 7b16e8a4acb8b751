"""Where a token stands on the feature grid, for heads that forget it."""

import math

import torch
from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor

from videopolicy.errors import BadInput


def check_width(head: str, width: int, n_heads: int) -> None:
    """`BadInput` where attention heads cannot share a width, or the encoding below not fill it."""
    if n_heads < 1 or width < 4 or width % (4 * n_heads):
        raise BadInput(
            f"head.{head} has width {width} and n_heads {n_heads}; allowed: a width that is a multiple of 4"
            " times n_heads"
        )


def position_encoding(rows: int, cols: int, width: int, like: Tensor) -> Float[Tensor, "cell width"]:
    """Sines and cosines of row and column, half the channels each, as in DETR (Carion et al. 2020)."""
    frequency = 10000 ** (-torch.arange(width // 4, device=like.device) * 4 / width)
    axes = []
    for n in (rows, cols):
        angle = 2 * math.pi * (torch.arange(n, device=like.device) + 0.5)[:, None] / n * frequency
        axes.append(torch.cat([angle.sin(), angle.cos()], -1))
    by_row, by_col = repeat(axes[0], "r c -> r k c", k=cols), repeat(axes[1], "k c -> r k c", r=rows)
    return rearrange(torch.cat([by_row, by_col], -1), "r k c -> (r k) c").to(like.dtype)
