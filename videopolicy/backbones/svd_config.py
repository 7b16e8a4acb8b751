"""Which video model, and what of it a head reads."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from videopolicy.backbones.tuning import Tune
from videopolicy.backbones.unet import Attention, Checkpointing, Compile
from videopolicy.diffusion import SIGMA_MAX, SIGMA_MIN
from videopolicy.errors import BadInput, at_least_one

# `random`: as diffusers initialises a UNet; `copying`: then made to copy the first frame, as pretraining began.
Weights = Literal["pretrained", "random", "copying"]
Variant = Literal["fp16"] | None  # of a folder's files; None: those without a variant in their names


@dataclass(frozen=True)
class SVDConfig:
    """Which video model, and which of its features a head reads. Defaults are ours unless marked."""

    # A diffusers StableVideoDiffusionPipeline: a folder, or its name on the model hub, as
    # stabilityai/stable-video-diffusion-img2vid; null: the published sizes with random weights.
    pretrained: Path | None = Path("weights/svd-tiny")
    weights: Weights = "pretrained"  # of the UNet
    image_size: tuple[int, int] = (96, 96)  # (width, height) the clips are resized to [pixels]
    n_frames: int = 7  # section 4.3
    # Noise on the conditioning frame: of random strength in training and 0.02 afterwards, as SVD has it; or never, so
    # that its latent need not be encoded anew in every step.
    augmentation: Literal["live", "none"] = "live"
    targets: Literal["mode", "sample"] = "mode"  # of the VAE's posterior, which clips to learn are taken from
    tune: Tune = "full"  # which of the UNet's weights are trained
    lora_rank: int = 16  # of the updates where that is `lora`
    feature_blocks: tuple[int, ...] = (1, 2)  # decoder up-blocks that a head reads, 0-based. Section 4.3
    grid: int = 64  # they are resized to grid x grid and concatenated
    feature_sigma: float = 200.0  # noise level a policy reads at
    feature_seed: int = 0  # of the fixed noise sample it reads with
    # Activations that training computes again instead of keeping: of the finest levels' blocks, which hold the most, or
    # of all. Nothing but memory and time changes.
    checkpointing: Checkpointing = "none"
    attention: Attention = "auto"  # kernels of the UNet's self-attention
    compile: Compile = "none"  # of the UNet's blocks: inductor takes minutes at first use, for faster steps on a GPU
    variant: Variant = None  # of the files of `pretrained`; fp16 where only those were fetched


def check(cfg: SVDConfig, fps: int, purpose: dict | None, vae_factor: int, n_levels: int) -> None:
    """`BadInput` for a configuration that this video model cannot run, or was not made for."""
    for name in ("image_size", "n_frames"):
        made_for = (purpose or {}).get(name)
        ours = getattr(cfg, name)
        if made_for is not None and (list(ours) if isinstance(ours, tuple) else ours) != made_for:
            raise BadInput(f"backbone.{name} is {ours}, but {cfg.pretrained} was made for {made_for}")
    if (purpose or {}).get("fps", fps) != fps:
        raise BadInput(
            f"the data has {fps} frames per second, but {cfg.pretrained} was made for {(purpose or {})['fps']}"
        )
    multiple = vae_factor * 2 ** (n_levels - 1)
    if any(side % multiple or side < multiple for side in cfg.image_size):
        raise BadInput(
            f"backbone.image_size is {cfg.image_size}; allowed: multiples of {multiple} (VAE x UNet downsampling)"
        )
    read = cfg.feature_blocks
    if not read or len(set(read)) < len(read) or any(not 0 <= i < n_levels for i in read):
        raise BadInput(f"backbone.feature_blocks is {read}; allowed: 0 to {n_levels - 1}, each at most once")
    if not SIGMA_MIN <= cfg.feature_sigma <= SIGMA_MAX:
        raise BadInput(f"backbone.feature_sigma is {cfg.feature_sigma}; allowed: {SIGMA_MIN} to {SIGMA_MAX:g}")
    if cfg.n_frames < 2:
        raise BadInput(f"backbone.n_frames is {cfg.n_frames}; allowed: at least 2")
    at_least_one(cfg, "lora_rank", of="backbone.")
    if not 2 <= cfg.grid <= min(cfg.image_size):
        raise BadInput(f"backbone.grid is {cfg.grid}; allowed: 2 to {min(cfg.image_size)}, the picture's smaller side")
