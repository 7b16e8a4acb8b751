"""Exact losses of upsampled maps, against torch's own bilinear upsampling in float64."""

import pytest
import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

from videopolicy.heads import upsampled

SHAPES = [  # (rows, cols), (width, height)
    ((28, 28), (224, 224)),  # a whole even factor: 8
    ((16, 16), (112, 112)),  # odd: 7
    ((9, 11), (33, 50)),  # odd, 3, along the columns alone
    ((9, 11), (50, 45)),  # 5, along the rows alone
    ((9, 11), (50, 37)),  # none
    ((6, 10), (80, 24)),
    ((5, 5), (5, 5)),
    ((4, 1), (6, 12)),  # one column
]
SCALES = [1e-6, 0.02, 1.0, 300.0]  # nearly flat, smooth, ordinary, and logits that overflow exp
LARGE = ((28, 28), (448, 448))  # 16: what policies are trained at
EXACT = 1e-12  # of the largest value

shapes = pytest.mark.parametrize(("grid", "size"), SHAPES)
each = pytest.mark.parametrize(("grid", "size", "scale"), [*((*s, x) for s in SHAPES for x in SCALES), (*LARGE, 1.0)])


def assert_exact(ours: Tensor, theirs: Tensor) -> None:
    assert ours.dtype == theirs.dtype == torch.float64
    assert (ours - theirs).abs().max() <= EXACT * theirs.abs().max()


def maps(grid: tuple[int, int], scale: float, n: int = 18) -> Tensor:
    """(2, n / 2) random maps; more than one chunk of the exact log-sum-exp."""
    generator = torch.Generator().manual_seed(0)
    x = scale * torch.randn(2, n // 2, *grid, generator=generator, dtype=torch.float64)
    return x.requires_grad_()


def pixels(size: tuple[int, int], n: int = 18) -> Tensor:
    """Pixels all over the image, its first and last among them."""
    generator = torch.Generator().manual_seed(1)
    uv = torch.rand(n, 2, generator=generator, dtype=torch.float64)
    uv[:2] = torch.tensor([[0.0, 0.0], [0.999, 0.999]])
    return rearrange(uv * torch.tensor(size), "(b n) c -> b n c", b=2)


def reference(x: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(x, (size[1], size[0]), mode="bilinear", align_corners=False)


def gradient(value: Tensor, x: Tensor) -> Tensor:
    """Of a sum with a different weight for every map."""
    weight = 1 + torch.arange(value.numel(), dtype=value.dtype).reshape(value.shape)
    return torch.autograd.grad((value * weight).sum(), x, retain_graph=True)[0]


@each
def test_log_sum_exp(grid: tuple, size: tuple, scale: float) -> None:
    """The same value and the same gradient as over the full-resolution map."""
    x = maps(grid, scale)
    ours, theirs = upsampled.log_sum_exp(x, size), reference(x, size).flatten(2).logsumexp(-1)
    assert_exact(ours, theirs)
    assert_exact(gradient(ours, x), gradient(theirs, x))


@pytest.mark.parametrize("scale", [1e-3, 0.01, 0.1, 0.3, 1.0, 3.0, 10.0])
@pytest.mark.parametrize(("grid", "size"), [((28, 28), (448, 448)), ((16, 16), (112, 112)), ((7, 9), (50, 37))])
def test_single_precision_gradients(grid: tuple, size: tuple, scale: float) -> None:
    """At every contrast within a few roundings of double precision: a series stands in where terms would cancel."""
    x = maps(grid, scale, 4)
    single = x.detach().float().requires_grad_()
    exact = torch.autograd.grad(upsampled.log_sum_exp(x, size).sum(), x)[0]
    ours = torch.autograd.grad(upsampled.log_sum_exp(single, size).sum(), single)[0]
    assert (ours.double() - exact).abs().max() < 5e-6 * exact.abs().max()
    naive = torch.autograd.grad(reference(single, size).flatten(2).logsumexp(-1).sum(), single)[0]
    assert (ours.double() - exact).abs().max() < 1.5 * (naive.double() - exact).abs().max() + 1e-6 * exact.abs().max()


@each
def test_volume_cross_entropy(grid: tuple, size: tuple, scale: float) -> None:
    """One softmax over the pixels of all nine bins' maps."""
    x, uv, index = maps(grid, scale), pixels(size)[:, 0], torch.tensor([7, 0])
    flat = index * size[0] * size[1] + uv[:, 1].long() * size[0] + uv[:, 0].long()
    theirs = F.cross_entropy(reference(x, size).flatten(1), flat, reduction="none")
    ours = upsampled.volume_cross_entropy(x, index, uv, size)
    assert_exact(ours, theirs)
    assert_exact(gradient(ours, x), gradient(theirs, x))


def test_no_gradient_is_made_where_none_is_asked_for() -> None:
    x = maps((28, 28), 1.0).detach()
    assert upsampled.log_sum_exp(x, (224, 224)).grad_fn is None


@each
def test_cross_entropy(grid: tuple, size: tuple, scale: float) -> None:
    """The same as torch's cross-entropy whose class is the index of the pixel that holds (u, v)."""
    x, uv = maps(grid, scale), pixels(size)
    index = uv[..., 1].long() * size[0] + uv[..., 0].long()
    logits = rearrange(reference(x, size), "b n h w -> b (h w) n")
    ours, theirs = upsampled.cross_entropy(x, uv, size), F.cross_entropy(logits, index, reduction="none")
    assert_exact(ours, theirs)
    assert_exact(gradient(ours, x), gradient(theirs, x))


@shapes
def test_read(grid: tuple, size: tuple) -> None:
    """Values at one pixel of many channels; only the cells around it get a gradient."""
    x, uv = maps(grid, 1.0), pixels(size, 2)[:, 0]
    row, col = uv[:, 1].long(), uv[:, 0].long()
    theirs = reference(x, size)[torch.arange(2), :, row, col]
    ours = upsampled.read(x, uv, size)
    assert_exact(ours, theirs)
    assert_exact(gradient(ours, x), gradient(theirs, x))
    assert (gradient(ours, x) != 0).sum((-2, -1)).max() <= 4


@shapes
def test_upsample(grid: tuple, size: tuple) -> None:
    x = maps(grid, 1.0).detach().float()
    torch.testing.assert_close(upsampled.upsample(x, size), reference(x, size), rtol=1e-5, atol=1e-5)


@shapes
def test_interpolation_rows_are_weights(grid: tuple, size: tuple) -> None:
    """No row is negative and each sums to 1: the upsampled maximum never exceeds the map's."""
    A = upsampled.interpolation(size[1], grid[0], torch.zeros(1, dtype=torch.float64))
    assert A.shape == (size[1], grid[0])
    assert (A >= 0).all()
    assert_exact(A.sum(-1), torch.ones(size[1], dtype=torch.float64))


def test_half_precision_is_computed_in_single() -> None:
    """Under autocast the loss is still float32: 50176 equal pixels have cross-entropy ln 50176, not a rounded one."""
    x = torch.full((1, 1, 28, 28), 3.0, dtype=torch.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = upsampled.cross_entropy(x, torch.full((1, 1, 2), 100.0), (224, 224))
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, torch.full((1, 1), 224.0**2).log(), rtol=1e-6, atol=1e-6)
