"""What the pixel-aligned head would cost if every map were upsampled to the image: the form its losses equal."""

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from videopolicy.heads.head import Targets
from videopolicy.heads.para import ParaHead


def full_maps(head: ParaHead, hidden: Tensor) -> Tensor:
    """Every output map of one frame's features at the image's resolution (batch step bin height width)."""
    n = head.steps_per_frame
    kernels: list[nn.Module] = [head.volume, *head.readers.values()]
    weights, biases = ([k.get_parameter(name) for k in kernels] for name in ("weight", "bias"))
    weight = torch.cat([rearrange(w.flatten(1), "(n k) c -> n k c", n=n) for w in weights], 1)
    bias = torch.cat([rearrange(b, "(n k) -> n k", n=n) for b in biases], 1)
    maps = F.conv2d(hidden[:, 0], weight.flatten(0, 1)[..., None, None], bias.flatten())
    maps = F.interpolate(maps, head.image_size[::-1], mode="bilinear", align_corners=False)
    return rearrange(maps, "b (n k) h w -> b n k h w", n=n)


def loss(head: ParaHead, hidden: Tensor, targets: Targets) -> dict[str, Tensor]:
    """The terms of `ParaHead.loss`, from full-resolution maps."""
    maps, (width, height) = full_maps(head, hidden), head.image_size
    index = targets.pixel.floor().long()
    flat = index[..., 1] * width + index[..., 0]
    joint = head.cfg.volume_loss == "joint"
    sizes = [head.cfg.n_height if joint else 1, *head.sizes.values()]
    volume, *bins = maps.split(sizes, 2)
    labels = head._labels(targets)
    goal = labels["height"] * (width * height) + flat if joint else flat
    terms = {head.terms[0]: F.cross_entropy(rearrange(volume, "b n k h w -> b (k h w) n"), goal, reduction="none")}
    for name, maps_of in zip(head.sizes, bins, strict=True):
        at = maps_of.flatten(3).gather(3, flat[..., None, None].expand(-1, -1, maps_of.shape[2], 1))[..., 0]
        label = labels[name]
        share = label if label.is_floating_point() else F.one_hot(label, at.shape[-1])
        terms[name] = -(share * at.log_softmax(-1)).sum(-1)
    return {name: targets.mean(value) for name, value in terms.items()}


def volume_loss(volume: Tensor, index: Tensor, pixel: Tensor, size: tuple[int, int]) -> Tensor:
    """`upsampled.volume_cross_entropy`, from the full-resolution volume."""
    full = F.interpolate(volume.flatten(0, 1), size[::-1], mode="bilinear", align_corners=False)
    uv = pixel.flatten(0, 1).floor().long()
    goal = (index.flatten() * size[1] + uv[:, 1]) * size[0] + uv[:, 0]
    return F.cross_entropy(full.flatten(1), goal, reduction="none").reshape(index.shape)


def argmax(volume: Tensor, size: tuple[int, int]) -> Tensor:
    """Flat index (bin, v, u) of each step's best voxel."""
    b, n = volume.shape[:2]
    full = F.interpolate(volume.flatten(0, 1), size[::-1], mode="bilinear", align_corners=False)
    return full.flatten(1).argmax(-1).reshape(b, n)
