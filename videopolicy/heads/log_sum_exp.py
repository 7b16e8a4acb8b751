"""log-sum-exp of bilinearly upsampled maps and its gradient, without building the maps.

The upsampled map is A X B^T (`upsampled.interpolation`). Along a row of U = A X, between two neighbouring centres, a
whole factor r puts r samples on a line, so their exponentials are a geometric series with a closed sum; where the
factor is not whole, exp(A X B^T) is summed a few maps at a time. Both make value and gradient in the forward pass.
"""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

CHUNK = 4  # maps at a time: their temporaries stay in a core's cache


class LogSumExp(torch.autograd.Function):
    """Of A X B^T over each map X; `factor` is the whole factor of the columns, or 0 where B is needed."""

    @staticmethod
    def forward(
        ctx: Any, maps: Float[Tensor, "map row col"], A: Tensor, B: Tensor, factor: int
    ) -> Float[Tensor, " map"]:
        value = maps.new_empty(len(maps))
        gradient = torch.empty_like(maps) if ctx.needs_input_grad[0] else None
        for i in range(0, len(maps), CHUNK):
            part = slice(i, i + CHUNK)
            out = None if gradient is None else gradient[part]
            value[part] = _series(maps[part], A, factor, out) if factor else _sum(maps[part], A, B, out)
        if gradient is not None:
            ctx.save_for_backward(gradient)
        return value

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        (gradient,) = ctx.saved_tensors
        return grad[:, None, None] * gradient, None, None, None


def _sum(x: Tensor, A: Tensor, B: Tensor, gradient: Tensor | None) -> Float[Tensor, " map"]:
    """d lse / dX = A^T softmax(A X B^T) B."""
    z = A @ x @ B.T
    top = z.amax((-2, -1), keepdim=True)
    e = z.sub_(top).exp_()
    total = e.sum((-2, -1), keepdim=True)
    if gradient is not None:
        torch.div(A.T @ e @ B, total, out=gradient)
    return (top + total.log()).flatten()


def _series(x: Tensor, A: Tensor, factor: int, gradient: Tensor | None) -> Float[Tensor, " map"]:
    """Sum over segments between centres, and over the samples beyond the first and the last centre, which repeat them.

    An even factor puts samples at (k + 1/2) / r of a segment, an odd one at k / r, its left centre among them.
    """
    U = A @ x
    step = U.diff(dim=-1)
    log_ratio, slope = _log_ratio(step, factor)
    odd = factor % 2
    before, after = factor // 2, factor // 2 + odd
    terms = U.new_empty(*U.shape[:-1], U.shape[-1] + 1)
    torch.add(U[..., :-1], step, alpha=0.5 - odd / (2 * factor), out=terms[..., 1:-1]).add_(log_ratio)
    terms[..., 0] = U[..., 0] + math.log(before) if before else -math.inf
    terms[..., -1] = U[..., -1] + math.log(after)
    top = terms.amax((-2, -1), keepdim=True)
    share = terms.sub_(top).exp_()
    total = share.sum((-2, -1), keepdim=True)
    if gradient is not None:
        # A segment's term moves with its right end by `right` and with its left end by 1 - right.
        inner = share[..., 1:-1]
        right = slope.add_(0.5 - odd / (2 * factor)).mul_(inner)
        by_centre = torch.zeros_like(U)
        by_centre[..., 1:] += right
        by_centre[..., :-1] += inner - right
        by_centre[..., 0] += share[..., 0]
        by_centre[..., -1] += share[..., -1]
        torch.div(A.T @ by_centre, total, out=gradient)
    return (top + total.log()).flatten()


def _log_ratio(d: Tensor, factor: int) -> tuple[Tensor, Tensor]:
    """log[sinh(d/2) / sinh(d/2r)] and its derivative by d.

    Near 0 both sinh vanish and coth - coth cancels: there, the Taylor series of log(sinh x / x), which to d^8 is exact
    to rounding up to |d| = 0.1 in double and 1 in single precision.
    """
    r, size = factor, d.abs()
    far, near = -torch.expm1(-size), -torch.expm1(-size / r)
    value = (far / near).log_().add_(size, alpha=0.5 - 0.5 / r)
    slope = ((1 / far - 0.5) - (1 / near - 0.5) / r).copysign_(d)
    s = d * d
    a, b, c, e = ((1 - r**-p) / q for p, q in ((2, 24), (4, -2880), (6, 181440), (8, -9676800)))
    flat = size < (0.1 if d.dtype == torch.float64 else 1.0)
    value = torch.where(flat, math.log(r) + s * (a + s * (b + s * (c + s * e))), value)
    return value, torch.where(flat, d * (2 * a + s * (4 * b + s * (6 * c + s * (8 * e)))), slope)
