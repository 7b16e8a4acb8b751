"""Latents of a dataset's frames, encoded once: a VAE costs more than the rest of a training step.

Targets come from here, and the conditioning latent where no noise is added to its pixels (`backbone.augmentation`).
"""

from accelerate import Accelerator
from torch import Tensor

from videopolicy.backbones.svd import SVDBackbone
from videopolicy.data.dataset import ClipDataset
from videopolicy.training.cache import attach


def attach_latents(backbone: SVDBackbone, accelerator: Accelerator, *datasets: ClipDataset) -> None:
    """Give clips the scaled latents of their frames, as `latents`."""
    width, height = backbone.cfg.image_size
    backbone.to(accelerator.device)

    def encode(frames: Tensor) -> Tensor:
        return backbone.encode(backbone.pixels(frames)[:, None])[:, 0]

    attach("latents", f"{backbone.identity}_{width}x{height}", encode, accelerator, list(datasets))
