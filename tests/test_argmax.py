"""The argmax of upsampled maps: the very index that upsampling them all would give."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from videopolicy.heads.argmax import argmax
from videopolicy.heads.peak import refine

SHAPES = [
    ((28, 28), (448, 448)),
    ((16, 16), (112, 112)),
    ((10, 12), (36, 30)),
    ((40, 72), (576, 320)),
    ((28, 28), (140, 100)),
    ((5, 5), (5, 5)),
]


def smooth(x: Tensor) -> Tensor:
    for _ in range(4):
        x = F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), 3, 1)
    return x


MAPS = {
    "random": lambda x: 3 * x,
    "smooth": smooth,
    "ties": lambda x: x.round(),
    "constant": lambda x: 0 * x + 2.5,
    "nearly flat": lambda x: 1 + 1e-6 * smooth(x),
    "large": lambda x: 1e5 * x,
    "tiny": lambda x: 1e-6 * x,
    "border": lambda x: x + torch.linspace(0, 20, x.shape[-1]) - torch.linspace(0, 20, x.shape[-2])[:, None],
}


@pytest.mark.parametrize("kind", MAPS)
@pytest.mark.parametrize(("grid", "size"), SHAPES)
def test_the_index_is_that_of_the_full_argmax(grid: tuple, size: tuple, kind: str) -> None:
    """Always: random, smooth and quantised maps, maxima at the border, all values equal."""
    generator, (width, height) = torch.Generator().manual_seed(0), size
    n = 4 if kind == "constant" else 24
    x = MAPS[kind](torch.randn(n, 6, *grid, generator=generator))
    full = F.interpolate(x, (height, width), mode="bilinear", align_corners=False).flatten(1)
    best, v, u = argmax(x, size)
    assert torch.equal((best * height + v) * width + u, full.argmax(-1))


def test_leading_axes_are_kept() -> None:
    x = torch.randn(2, 3, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    for part, whole in zip(argmax(x[1, 2], (64, 64)), argmax(x, (64, 64)), strict=True):
        assert whole.shape == (2, 3)
        assert part == whole[1, 2]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_diverged_network_is_an_error(value: float) -> None:
    x = torch.zeros(2, 1, 8, 8)
    x[1, 0, 3, 3] = value
    with pytest.raises(FloatingPointError, match="not finite"):
        argmax(x, (64, 64))


def test_lower_precision_around_it_changes_nothing() -> None:
    """Validation may run under autocast."""
    x = 5 * torch.randn(12, 32, 64, 64, generator=torch.Generator().manual_seed(0))
    expected = argmax(x, (576, 320))
    with torch.autocast("cpu", torch.bfloat16):
        found = argmax(x, (576, 320))
        peak = refine(x, found, (576, 320), 1.5)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    torch.testing.assert_close(peak.pixel, refine(x, expected, (576, 320), 1.5).pixel, rtol=0, atol=0)
