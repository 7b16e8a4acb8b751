"""Signals carried through a network in closed form, and read again behind its last normalisation.

SVD's normalisations have 32 groups, whatever the width. A group of three channels, of which two are the constants C and
-C, is scaled by C alone and loses only a third of its signal's mean, which can be read off the constants again; with
two channels or one, the brightness of an even picture cannot pass at all. Hence the width of 96 where a network ends.
"""

import math
from typing import Any

from torch import nn

WIDTH = 96  # three channels per group
SCALE = 0.5  # standard deviation of a carried signal; what blocks add to a smaller one would be magnified in reading
CONSTANT = 20.0
SPREAD = CONSTANT * math.sqrt(2 / 3)  # standard deviation of a group
OFFSET = 3.0  # signals enter the last activation, x sigmoid(x), here, where it is nearly linear
SIGMOID = 1 / (1 + math.exp(-OFFSET))
SLOPE = SIGMOID * (1 + OFFSET * (1 - SIGMOID))


def zero(layer: nn.Module) -> None:
    """Make a layer give nothing: a residual block that ends in it begins as the identity."""
    for p in layer.parameters():
        p.zero_()


def route(conv: Any, weights: dict[tuple[int, int], float]) -> None:
    """Make the named output channels weighted sums of the named input channels, at the kernel's centre."""
    middle = conv.weight.shape[-1] // 2
    route_taps(conv, {(o, i, middle, middle): w for (o, i), w in weights.items()})


def route_taps(conv: Any, weights: dict[tuple[int, int, int, int], float]) -> None:
    """The same with a row and column of the kernel for every weight."""
    rows = sorted({o for o, *_ in weights})
    conv.weight[rows] = 0
    conv.bias[rows] = 0
    for place, weight in weights.items():
        conv.weight[place] = weight


def group(conv: Any, signals: list[int]) -> None:
    """Input channel `signals[k]` to channel 3k, beside the constants C and -C."""
    route(conv, {(3 * k, i): 1.0 for k, i in enumerate(signals)})
    for channel, constant in ((1, CONSTANT), (2, -CONSTANT)):
        conv.weight[channel : 3 * len(signals) : 3] = 0
        conv.bias[channel : 3 * len(signals) : 3] = constant


def rescale(norms: list[nn.GroupNorm], n: int) -> None:
    """Give the first `n` grouped signals unit size, as other channels have it behind a normalisation."""
    for norm in norms:
        norm.weight[0 : 3 * n : 3] = SPREAD / SCALE


def read(norm: nn.GroupNorm, conv: Any, n: int, n_grouped: int, gain: float = 1.0) -> None:
    """Read the first `n` of the grouped signals through a normalisation and an activation, scaled to `gain`."""
    for channel, shift in ((0, 0.0), (1, -CONSTANT), (2, CONSTANT)):
        norm.weight[channel : 3 * n_grouped : 3] = SPREAD
        norm.bias[channel : 3 * n_grouped : 3] = OFFSET + shift
    scale = gain / (SLOPE * SCALE)
    # The signal's channel holds x - m/3, where m is its mean; the constants' channels hold -m/3 each.
    route(conv, {(k, 3 * k + i): scale * w for k in range(n) for i, w in ((0, 1.0), (1, -0.5), (2, -0.5))})
