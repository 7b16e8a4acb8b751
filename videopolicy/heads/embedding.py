"""A linear map of standardised features on the head's grid, with which most heads begin."""

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from videopolicy.backbones.backbone import FeatureMap, Pyramid, resize
from videopolicy.heads.head import Standardised


class Embedding(nn.Sequential):
    """Standardises channels and maps them, each cell alike.

    Features of several sizes are mapped before they are resized, which gives the same: bilinear resizing takes means of
    cells, and a mean of maps is the map of the mean. There are fewer cells then, and after it fewer channels.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__(Standardised(channels), nn.Conv2d(channels, width, 1))

    def forward(self, features: FeatureMap) -> Float[Tensor, "batch_frame width row col"]:
        standardise, linear = self
        assert isinstance(standardise, Standardised)
        assert isinstance(linear, nn.Conv2d)
        assert linear.bias is not None
        if not isinstance(features, Pyramid):
            return linear(standardise(rearrange(features.dense, "b t c h w -> (b t) c h w")))
        levels = standardise.each([rearrange(x, "b t c h w -> (b t) c h w") for x in features.levels])
        weights = linear.weight.split([x.shape[1] for x in levels], 1)
        out = linear.bias[:, None, None]
        for level, weight in zip(levels, weights, strict=True):
            out = out + resize(F.conv2d(level, weight), features.grid)
        mark = (linear.weight[:, :, 0, 0] * (features.mark / standardise.scale)).sum(1)
        start = features.start * mark[:, None, None]
        return out + torch.repeat_interleave(start, len(out) // len(start), 0)
