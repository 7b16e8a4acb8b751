"""Exact losses and readings of bilinearly upsampled maps, without building the maps.

Bilinear upsampling (`align_corners=False`) of a map X is A X B^T with non-negative rows that sum to 1, so
cross-entropy over the upsampled map needs only its log-sum-exp and four taps, and values at one pixel only four cells.
"""

from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor


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
    index = pixel.nan_to_num(0.0).floor() + 0.5
    weight_u = rows_at(index[..., 0], size[0], maps.shape[-1])
    weight_v = rows_at(index[..., 1], size[1], maps.shape[-2])
    with torch.autocast(maps.device.type, enabled=False):  # a bf16 logit would be off by more than the loss
        return torch.einsum("...chw,...h,...w->...c", maps, weight_v.to(maps.dtype), weight_u.to(maps.dtype))


class _LogSumExp(torch.autograd.Function):
    """log sum exp(A X B^T) with the gradient A^T softmax(A X B^T) B made in the forward pass, chunk by chunk."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, A: Tensor, B: Tensor, chunk: int) -> Tensor:
        value, gradient = [], []
        for part in x.split(chunk):
            top = part.amax((-2, -1), keepdim=True)  # at least the upsampled maximum: rows of A and B are convex
            e = (A @ (part - top) @ B.T).exp()
            total = e.sum((-2, -1), keepdim=True)
            value.append((top + total.log()).flatten())
            gradient.append(A.T @ e @ B / total)
        ctx.save_for_backward(torch.cat(gradient))
        return torch.cat(value)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        (gradient,) = ctx.saved_tensors
        return grad[:, None, None] * gradient, None, None, None


def log_sum_exp(maps: Float[Tensor, "*batch row col"], size: tuple[int, int]) -> Float[Tensor, "*batch"]:
    """log of the sum of exp over each map upsampled to `size` (width, height); computed in at least float32."""
    x = maps if maps.dtype == torch.float64 else maps.float()
    A, B = interpolation(size[1], x.shape[-2], x), interpolation(size[0], x.shape[-1], x)
    flat = rearrange(x.reshape(-1, *x.shape[-2:]), "b h w -> b h w")
    with torch.autocast(x.device.type, enabled=False):
        return _LogSumExp.apply(flat, A, B, 16).reshape(maps.shape[:-2])


def cross_entropy(
    maps: Float[Tensor, "*batch row col"], pixel: Float[Tensor, "*batch 2"], size: tuple[int, int]
) -> Float[Tensor, "*batch"]:
    """Cross-entropy of the upsampled map against the pixel that holds (u, v). Equation 1, one term."""
    x = maps if maps.dtype == torch.float64 else maps.float()
    return log_sum_exp(x, size) - read(x[..., None, :, :], pixel, size)[..., 0]


def upsample(maps: Float[Tensor, "*batch row col"], size: tuple[int, int]) -> Float[Tensor, "*batch height width"]:
    """The upsampled maps themselves, for decoding and pictures."""
    x = maps.float()
    return interpolation(size[1], x.shape[-2], x) @ x @ interpolation(size[0], x.shape[-1], x).T
