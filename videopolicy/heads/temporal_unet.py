"""The convolutional network of Diffusion Policy: a U-Net along a chunk's steps, which what was seen modulates."""

import math
from itertools import pairwise

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn


class TemporalUnet(nn.Module):
    """A noised chunk, its noise level and what was seen, to the noise (Chi et al. 2023, after Janner et al. 2022).

    Layers as in the authors' released code: two modulated blocks a level, steps halved between levels, and on the way
    up the skips of all levels but the first, which that code computes and does not read.
    """

    def __init__(
        self, down_dims: tuple[int, ...], kernel_size: int, n_groups: int, embed_dim: int, n_in: int, n_seen: int
    ) -> None:
        super().__init__()
        self.embed_dim, self.stride = embed_dim, 2 ** (len(down_dims) - 1)
        self.level = nn.Sequential(nn.Linear(embed_dim, 4 * embed_dim), nn.Mish(), nn.Linear(4 * embed_dim, embed_dim))

        def pair(wide_in: int, wide_out: int) -> nn.ModuleList:
            widths = pairwise((wide_in, wide_out, wide_out))
            return nn.ModuleList(Modulated(a, b, embed_dim + n_seen, kernel_size, n_groups) for a, b in widths)

        self.down = nn.ModuleList(pair(a, b) for a, b in pairwise((n_in, *down_dims)))
        self.shorter = nn.ModuleList(nn.Conv1d(n, n, 3, stride=2, padding=1) for n in down_dims[:-1])
        self.middle = pair(down_dims[-1], down_dims[-1])
        self.up = nn.ModuleList(pair(2 * a, b) for a, b in pairwise(reversed(down_dims)))
        self.longer = nn.ModuleList(nn.ConvTranspose1d(n, n, 4, stride=2, padding=1) for n in down_dims[-2::-1])
        first = down_dims[0]
        self.out = nn.Sequential(convolution(first, first, kernel_size, n_groups), nn.Conv1d(first, n_in, 1))

    def forward(
        self, noised: Float[Tensor, "batch step c"], level: Int[Tensor, " batch"], seen: Float[Tensor, "batch _"]
    ) -> Float[Tensor, "batch step c"]:
        """The number of steps must be a multiple of `stride`."""
        condition = torch.cat([self.level(sinusoids(level, self.embed_dim)), seen], -1)
        x, skips = rearrange(noised, "b n c -> b c n"), []
        for i, blocks in enumerate(self.down):
            x = self.shorter[i - 1](x) if i else x
            x = through(blocks, x, condition)
            skips.append(x)
        x = through(self.middle, x, condition)
        for blocks, longer in zip(self.up, self.longer, strict=True):
            x = longer(through(blocks, torch.cat([x, skips.pop()], 1), condition))
        return rearrange(self.out(x), "b c n -> b n c")


class Modulated(nn.Module):
    """Two convolutions beside a shortcut; between them the condition scales and shifts channels (FiLM)."""

    def __init__(self, n_in: int, n_out: int, n_condition: int, kernel_size: int, n_groups: int) -> None:
        super().__init__()
        self.first = convolution(n_in, n_out, kernel_size, n_groups)
        self.second = convolution(n_out, n_out, kernel_size, n_groups)
        self.film = nn.Sequential(nn.Mish(), nn.Linear(n_condition, 2 * n_out))
        self.shortcut = nn.Conv1d(n_in, n_out, 1) if n_in != n_out else nn.Identity()

    def forward(
        self, x: Float[Tensor, "batch n_in step"], condition: Float[Tensor, "batch _"]
    ) -> Float[Tensor, "batch n_out step"]:
        scale, shift = rearrange(self.film(condition), "b (two c) -> two b c 1", two=2)
        return self.second(scale * self.first(x) + shift) + self.shortcut(x)


def through(blocks: nn.Module, x: Tensor, condition: Tensor) -> Tensor:
    for block in blocks.children():
        x = block(x, condition)
    return x


def convolution(n_in: int, n_out: int, kernel_size: int, n_groups: int) -> nn.Sequential:
    """Keeps the number of steps."""
    return nn.Sequential(
        nn.Conv1d(n_in, n_out, kernel_size, padding=kernel_size // 2), nn.GroupNorm(n_groups, n_out), nn.Mish()
    )


def sinusoids(level: Int[Tensor, " batch"], width: int) -> Float[Tensor, "batch width"]:
    """Of a noise level, from a wave length of 2 pi levels to one of 2 pi 10 000 (Vaswani et al. 2017)."""
    frequency = torch.exp(-math.log(10000) * torch.linspace(0, 1, width // 2, device=level.device))
    angle = level[:, None] * frequency
    return torch.cat([angle.sin(), angle.cos()], -1)
