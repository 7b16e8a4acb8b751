"""Exact losses and readings of bilinearly upsampled maps, without building the maps.

Bilinear upsampling (`align_corners=False`) of a map X is A X B^T with non-negative rows that sum to 1, so
cross-entropy over the upsampled map needs only its log-sum-exp and four taps, and values at one pixel only four cells.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from videopolicy.heads.log_sum_exp import LogSumExp


def interpolation(n_out: int, n_in: int, like: Tensor) -> Float[Tensor, "n_out n_in"]:
    """The matrix A of bilinear resizing from n_in to n_out samples along one axis."""
    return rows_at(torch.arange(n_out, device=like.device, dtype=like.dtype) + 0.5, n_out, n_in)


def rows_at(coordinate: Float[Tensor, "*batch"], n_out: int, n_in: int) -> Float[Tensor, "*batch n_in"]:
    """Interpolation weights at continuous output coordinates (first pixel's centre at 0.5), clamped at the borders."""
    x = (coordinate * n_in / n_out - 0.5).clamp(0, n_in - 1)
    cell = torch.arange(n_in, device=coordinate.device)
    return (1 - (x[..., None] - cell).abs()).clamp(min=0)


def read(
    maps: Float[Tensor, "*batch channel row col"], pixel: Float[Tensor, "*batch 2"], size: tuple[int, int]
) -> Float[Tensor, "*batch channel"]:
    """Values of the maps upsampled to `size` (width, height) at the pixel that holds each (u, v)."""
    weight_v, weight_u = cell_weights(pixel, size, (maps.shape[-2], maps.shape[-1]))
    with torch.autocast(maps.device.type, enabled=False):  # a bf16 logit would be off by more than the loss
        return torch.einsum("...chw,...h,...w->...c", maps, weight_v.to(maps.dtype), weight_u.to(maps.dtype))


def cell_weights(
    pixel: Float[Tensor, "*batch 2"], size: tuple[int, int], grid: tuple[int, int]
) -> tuple[Float[Tensor, "*batch row"], Float[Tensor, "*batch col"]]:
    """Weights of a grid's rows and columns at the centre of the pixel that holds each (u, v)."""
    index = pixel.nan_to_num(0.0).floor() + 0.5
    return rows_at(index[..., 1], size[1], grid[0]), rows_at(index[..., 0], size[0], grid[1])


def log_sum_exp(maps: Float[Tensor, "*batch row col"], size: tuple[int, int]) -> Float[Tensor, "*batch"]:
    """log of the sum of exp over each map upsampled to `size` (width, height); computed in at least float32."""
    x = (maps if maps.dtype == torch.float64 else maps.float()).reshape(-1, *maps.shape[-2:])
    width, height = size
    if width % x.shape[-1] and height % x.shape[-2] == 0:  # the closed form needs a whole factor along the columns
        x, width, height = x.transpose(-2, -1), height, width
    factor = 0 if width % x.shape[-1] else width // x.shape[-1]
    A = interpolation(height, x.shape[-2], x)
    B = x.new_empty(0) if factor else interpolation(width, x.shape[-1], x)
    with torch.autocast(x.device.type, enabled=False):
        return LogSumExp.apply(x, A, B, factor).reshape(maps.shape[:-2])


def cross_entropy(
    maps: Float[Tensor, "*batch row col"], pixel: Float[Tensor, "*batch 2"], size: tuple[int, int]
) -> Float[Tensor, "*batch"]:
    """Cross-entropy of the upsampled map against the pixel that holds (u, v). Equation 1, one term."""
    x = maps if maps.dtype == torch.float64 else maps.float()
    return log_sum_exp(x, size) - read(x[..., None, :, :], pixel, size)[..., 0]


def volume_cross_entropy(
    volume: Float[Tensor, "*batch bin row col"],
    index: Int[Tensor, "*batch"],
    pixel: Float[Tensor, "*batch 2"],
    size: tuple[int, int],
) -> Float[Tensor, "*batch"]:
    """Cross-entropy of one softmax over all pixels of all bins' upsampled maps, against one pixel of bin `index`.

    Its log-sum-exp is that of the maps' own.
    """
    x = volume if volume.dtype == torch.float64 else volume.float()
    chosen = x.gather(-3, index[..., None, None, None].expand(*index.shape, 1, *x.shape[-2:]))
    return log_sum_exp(x, size).logsumexp(-1) - read(chosen, pixel, size)[..., 0]


def upsample(maps: Float[Tensor, "*batch row col"], size: tuple[int, int]) -> Float[Tensor, "*batch height width"]:
    """The upsampled maps themselves, for decoding and pictures."""
    x = maps.float()
    return interpolation(size[1], x.shape[-2], x) @ x @ interpolation(size[0], x.shape[-1], x).T
