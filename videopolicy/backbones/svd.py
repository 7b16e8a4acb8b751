"""Stable Video Diffusion as a video model and as a policy backbone: the only user of diffusers and transformers.

The tiny form is the same UNet class built from a config, with a linear patch codec for the VAE.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import UNetSpatioTemporalConditionModel
from einops import rearrange, repeat
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from videopolicy.backbones.backbone import FeatureMap, splat
from videopolicy.backbones.codec import PatchCodec
from videopolicy.diffusion import SIGMA_MAX, SIGMA_MIN, like, precondition, sample
from videopolicy.errors import BadInput

MOTION_BUCKET = 127
DEPLOY_AUGMENTATION = 0.02  # noise added to the conditioning frame when sampling or acting


@dataclass(frozen=True)
class SVDConfig:
    """Size of a small SVD, and which of its features a head reads. Defaults are ours unless marked."""

    image_size: tuple[int, int] = (224, 224)  # (width, height) the clips are resized to [pixels]
    n_frames: int = 7  # section 4.3
    channels: tuple[int, ...] = (32, 64, 64)  # per level, multiples of 32
    attention: tuple[bool, ...] = (False, False, True)  # per level
    n_layers: int = 1  # per block
    codec_patch: int = 8  # [pixels]
    codec_channels: int = 12
    feature_blocks: tuple[int, ...] = (1, 2)  # decoder up-blocks that a head reads, 0-based
    grid: int = 28  # they are resized to grid x grid and concatenated
    feature_sigma: float = 200.0  # noise level a policy reads at
    feature_seed: int = 0  # of the fixed noise sample it reads with


class SVDBackbone(nn.Module):
    """UNet, latent codec and CLIP image encoder with SVD's conditioning."""

    def __init__(self, cfg: SVDConfig, fps: int) -> None:
        super().__init__()
        self.cfg = cfg
        _check(cfg)
        width, height = cfg.image_size
        self.latent_size = (height // cfg.codec_patch, width // cfg.codec_patch)
        down = ["CrossAttnDownBlockSpatioTemporal" if a else "DownBlockSpatioTemporal" for a in cfg.attention]
        up = ["CrossAttnUpBlockSpatioTemporal" if a else "UpBlockSpatioTemporal" for a in reversed(cfg.attention)]
        unet: Any = UNetSpatioTemporalConditionModel(  # its mixins hide that it is a module
            in_channels=2 * cfg.codec_channels,
            out_channels=cfg.codec_channels,
            down_block_types=tuple(down),
            up_block_types=tuple(up),
            block_out_channels=cfg.channels,
            layers_per_block=cfg.n_layers,
            num_attention_heads=tuple(c // 32 for c in cfg.channels),
            cross_attention_dim=64,
            addition_time_embed_dim=32,
            projection_class_embeddings_input_dim=96,
            num_frames=cfg.n_frames,
        )
        self.unet: nn.Module = unet
        self.codec = PatchCodec(cfg.codec_patch, cfg.codec_channels)
        clip = CLIPVisionConfig(
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=2,
            image_size=64,
            patch_size=16,
            projection_dim=64,
        )
        self.image_encoder = CLIPVisionModelWithProjection(clip).requires_grad_(False).eval()
        # SVD's fps id is one less than the frame rate; this is the one place that says so.
        self.fps_id = fps - 1
        self.start_embedding = nn.Parameter(torch.zeros(cfg.channels[0]))
        noise = torch.randn(
            cfg.n_frames,
            cfg.codec_channels,
            *self.latent_size,
            generator=torch.Generator().manual_seed(cfg.feature_seed),
        )
        self.feature_noise: Tensor
        self.register_buffer("feature_noise", noise, persistent=False)
        self._features: dict[int, Tensor] = {}
        self._start: Tensor | None = None
        for i in cfg.feature_blocks:
            unet.up_blocks[i].register_forward_hook(self._keep(i))
        unet.conv_in.register_forward_hook(self._add_start)

    @property
    def n_feature_frames(self) -> int:
        """Future frames, whose maps a head reads."""
        return self.cfg.n_frames - 1

    @property
    def feature_channels(self) -> int:
        channels = self.cfg.channels[::-1]
        return sum(channels[i] for i in self.cfg.feature_blocks)

    def unet_parameters(self) -> list[nn.Parameter]:
        return list(self.unet.parameters())

    def fit_codec(self, frames: UInt8[Tensor, "batch height width 3"]) -> float:
        """Fit the patch codec in closed form; returns its reconstruction MSE in [-1, 1]."""
        pixels = rearrange((self.pixels(frames) + 1) * 127.5, "b c h w -> b h w c")
        return self.codec.fit(pixels.round().clamp(0, 255).to(torch.uint8))

    # -- pixels and latents ----------------------------------------------------------------------------------------

    def pixels(self, frames: UInt8[Tensor, "*batch height width 3"]) -> Float[Tensor, "*batch 3 height2 width2"]:
        """Images in [-1, 1] at the model's size."""
        flat = rearrange(frames.reshape(-1, *frames.shape[-3:]), "b h w c -> b c h w").float() / 127.5 - 1
        width, height = self.cfg.image_size
        if flat.shape[-2:] != (height, width):
            flat = F.interpolate(flat, (height, width), mode="bilinear", antialias=True, align_corners=False)
        return flat.reshape(*frames.shape[:-3], 3, height, width)

    @torch.no_grad()
    def encode(
        self, pixels: Float[Tensor, "batch frame 3 height width"]
    ) -> Float[Tensor, "batch frame channel row col"]:
        """Latents of clips, scaled to unit variance: what the diffusion runs on."""
        b = len(pixels)
        latents = self.codec.encode(rearrange(pixels, "b t c h w -> (b t) c h w")) * self.codec.scaling_factor
        return rearrange(latents, "(b t) c h w -> b t c h w", b=b)

    @torch.no_grad()
    def decode(
        self, latents: Float[Tensor, "batch frame channel row col"]
    ) -> Float[Tensor, "batch frame 3 height width"]:
        b = len(latents)
        pixels = self.codec.decode(rearrange(latents, "b t c h w -> (b t) c h w") / self.codec.scaling_factor)
        return rearrange(pixels, "(b t) c h w -> b t c h w", b=b)

    @torch.no_grad()
    def condition(
        self,
        first: Float[Tensor, "batch 3 height width"],
        augmentation: Float[Tensor, " batch"],
        noise: Float[Tensor, "batch 3 height width"],
        keep_image: Tensor | None = None,
        keep_embedding: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """SVD's conditioning on a first frame: noise-augmented latent (unscaled), CLIP embedding, time ids.

        `augmentation` is the noise strength per sample, added to pixels before encoding and given as third time id.
        `keep_image` and `keep_embedding` (0 or 1 per sample) drop either for classifier-free guidance.
        """
        latent = self.codec.encode(first + like(augmentation, first) * noise)
        size = self.image_encoder.config.image_size
        small = F.interpolate(first, (size, size), mode="bilinear", antialias=True, align_corners=False)
        mean, std = (first.new_tensor(x).reshape(3, 1, 1) for x in (CLIP_MEAN, CLIP_STD))
        embedding = self.image_encoder((small / 2 + 0.5 - mean) / std).image_embeds[:, None]
        if keep_image is not None and keep_embedding is not None:
            latent = latent * like(keep_image, latent)
            embedding = embedding * like(keep_embedding, embedding)
        ids = torch.stack(
            [torch.full_like(augmentation, self.fps_id), torch.full_like(augmentation, MOTION_BUCKET), augmentation], 1
        )
        return {"latent": latent, "embedding": embedding, "time_ids": ids}

    # -- the network -----------------------------------------------------------------------------------------------

    def denoise(
        self,
        x: Float[Tensor, "batch frame channel row col"],
        sigma: Float[Tensor, " batch"],
        condition: dict[str, Tensor],
        start_pixel: Float[Tensor, "batch 2"] | None = None,
    ) -> Float[Tensor, "batch frame channel row col"]:
        """The network's v for noisy latents; features of the same pass are then in `features()`."""
        _, _, c_in, c_noise = precondition(sigma)
        image = repeat(condition["latent"], "b c h w -> b t c h w", t=x.shape[1])
        self._start = None
        if start_pixel is not None:
            weight = splat(start_pixel, self.cfg.image_size, *self.latent_size)
            self._start = repeat(weight * self.start_embedding[:, None, None], "b c h w -> (b t) c h w", t=x.shape[1])
        inputs = torch.cat([like(c_in, x) * x, image], 2)
        return self.unet(inputs, c_noise, condition["embedding"], condition["time_ids"]).sample.float()

    def features(self, n_batch: int) -> FeatureMap:
        """Up-block features of the last pass, for the future frames, on the head's grid."""
        size = (self.cfg.grid, self.cfg.grid)
        maps = [
            F.interpolate(self._features[i].float(), size, mode="bilinear", align_corners=False)
            for i in self.cfg.feature_blocks
        ]
        dense = rearrange(torch.cat(maps, 1), "(b t) c h w -> b t c h w", b=n_batch)
        return FeatureMap(dense[:, 1:])

    def forward(
        self, images: UInt8[Tensor, "batch height width 3"], start_pixel: Float[Tensor, "batch 2"]
    ) -> FeatureMap:
        """Features for acting: one pass at `feature_sigma` on a fixed noise sample, so that a policy is deterministic.

        `start_pixel` is in pixels of `cfg.image_size`; NaN where the end effector is outside the image.
        """
        first = self.pixels(images)
        augmentation = first.new_full((len(first),), DEPLOY_AUGMENTATION)
        pixel_noise = torch.randn(first.shape[1:], generator=torch.Generator().manual_seed(self.cfg.feature_seed)).to(
            first.device
        )
        condition = self.condition(first, augmentation, pixel_noise.expand_as(first))
        sigma = first.new_full((len(first),), self.cfg.feature_sigma)
        noise = self.feature_noise[None]
        self.denoise(like(sigma, noise) * noise, sigma, condition, start_pixel)
        return self.features(len(first))

    @torch.no_grad()
    def generate(
        self, images: UInt8[Tensor, "batch height width 3"], n_steps: int, seed: int
    ) -> UInt8[Tensor, "batch frame height2 width2 3"]:
        """Clips that start with the given images."""
        generator = torch.Generator().manual_seed(seed)
        first = self.pixels(images)
        augmentation = first.new_full((len(first),), DEPLOY_AUGMENTATION)
        condition = self.condition(first, augmentation, torch.randn(first.shape, generator=generator).to(first.device))
        noise = torch.randn(len(first), *tuple(self.feature_noise.shape), generator=generator).to(first.device)
        latents = sample(lambda x, sigma: self.denoise(x, sigma, condition), noise, n_steps)
        pixels = rearrange(self.decode(latents), "b t c h w -> b t h w c")
        return ((pixels + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)

    # -- hooks -----------------------------------------------------------------------------------------------------

    def _keep(self, block: int) -> Callable[[nn.Module, tuple, Tensor], None]:
        def hook(_module: nn.Module, _inputs: tuple, output: Tensor) -> None:
            self._features[block] = output

        return hook

    def _add_start(self, _module: nn.Module, _inputs: tuple, output: Tensor) -> Tensor:
        return output if self._start is None else output + self._start.to(output.dtype)


CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


def _check(cfg: SVDConfig) -> None:
    n_levels = len(cfg.channels)
    multiple = cfg.codec_patch * 2 ** (n_levels - 1)
    if any(side % multiple for side in cfg.image_size):
        raise BadInput(
            f"image_size is {cfg.image_size}; allowed: multiples of {multiple} (codec patch x UNet downsampling)"
        )
    if any(c % 32 for c in cfg.channels):
        raise BadInput(f"channels is {cfg.channels}; allowed: multiples of 32")
    if len(cfg.attention) != n_levels:
        raise BadInput(f"attention has {len(cfg.attention)} entries; allowed: one per level, {n_levels}")
    if not cfg.feature_blocks or any(not 0 <= i < n_levels for i in cfg.feature_blocks):
        raise BadInput(f"feature_blocks is {cfg.feature_blocks}; allowed: 0 to {n_levels - 1}")
    if not SIGMA_MIN <= cfg.feature_sigma <= SIGMA_MAX:
        raise BadInput(f"feature_sigma is {cfg.feature_sigma}; allowed: {SIGMA_MIN} to {SIGMA_MAX:g}")
    if cfg.n_frames < 2:
        raise BadInput(f"n_frames is {cfg.n_frames}; allowed: at least 2")
