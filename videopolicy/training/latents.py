"""What VAE and image encoder make of a dataset's frames, once: they cost more than the rest of a training step.

Targets come from here, and every clip's image embedding; the conditioning latent only where no noise is added to its
pixels (`backbone.augmentation`), otherwise that one frame is encoded anew in every step.
"""

from collections.abc import Callable

import torch
from accelerate import Accelerator
from torch import Tensor

from videopolicy.backbones.svd import SVDBackbone
from videopolicy.data.dataset import ClipDataset
from videopolicy.training.cache import Encode, attach

CHUNK = 8  # frames encoded at a time


def attach_latents(backbone: SVDBackbone, accelerator: Accelerator, *datasets: ClipDataset) -> dict[str, int]:
    """Give clips `posterior` and `embeddings` of their frames; how many episodes had none yet."""
    width, height = backbone.cfg.image_size
    backbone.to(accelerator.device)
    made_by = f"{backbone.identity}_{width}x{height}"

    def chunked(encode: Callable[[Tensor], Tensor]) -> Encode:
        return lambda frames: torch.cat([encode(backbone.pixels(part)) for part in frames.split(CHUNK)])

    made = {"posterior": backbone.posterior, "embeddings": backbone.embed}
    return {kind: attach(kind, made_by, chunked(encode), accelerator, list(datasets)) for kind, encode in made.items()}
