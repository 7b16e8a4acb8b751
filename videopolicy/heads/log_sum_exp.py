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

    An even factor r puts samples at (k + 1/2) / r of a segment, an odd one at k / r, its left centre among them. Seen
    from a segment's higher end their exponentials are e^high q^(k + offset) with q = e^(-|step| / r) <= 1: sums of
    positive numbers, exact at every contrast, and nothing overflows.
    """
    U = A @ x
    step = U.diff(dim=-1)
    rises = step > 0
    odd, before, after = factor % 2, factor // 2, factor // 2 + factor % 2
    offset: Tensor | float = rises.to(U.dtype) if odd else 0.5
    fall = step.abs().div_(-factor)  # log q
    total, mean = _geometric(fall.exp(), factor)
    terms = U.new_empty(*U.shape[:-1], U.shape[-1] + 1)
    torch.maximum(U[..., 1:], U[..., :-1], out=terms[..., 1:-1]).add_(fall * offset).add_(total.log_())
    terms[..., 0] = U[..., 0] + math.log(before) if before else -math.inf
    terms[..., -1] = U[..., -1] + math.log(after)
    top = terms.amax((-2, -1), keepdim=True)
    share = terms.sub_(top).exp_()
    total = share.sum((-2, -1), keepdim=True)
    if gradient is not None:
        # A segment's term moves with each end in proportion to how near to it its samples lie, by their weights.
        inner = share[..., 1:-1]
        from_high = mean.add_(offset).div_(factor)
        right = torch.where(rises, 1 - from_high, from_high).mul_(inner)
        by_centre = torch.zeros_like(U)
        by_centre[..., 1:] += right
        by_centre[..., :-1] += inner.sub(right)
        by_centre[..., 0] += share[..., 0]
        by_centre[..., -1] += share[..., -1]
        torch.div(A.T @ by_centre, total, out=gradient)
    return (top + total.log()).flatten()


def _geometric(q: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """The sum of q^k over k < n, and the mean of k weighted by q^k, by doubling.

    S(2m) = S(m) (1 + q^m) and S(m + 1) = S(m) + q^m; sums of k q^k likewise.
    """
    total, weighted, power, m = torch.ones_like(q), torch.zeros_like(q), q.clone(), 1
    for bit in f"{n:b}"[1:]:
        weighted.addcmul_(weighted, power).add_((power * total).mul_(m))
        total.addcmul_(total, power)
        power.square_()
        m *= 2
        if bit == "1":
            weighted.add_(power, alpha=m)
            total.add_(power)
            power.mul_(q)
            m += 1
    return total, weighted.div_(total)
