"""Stable Video Diffusion as a video model and as a policy backbone, the published one or a small one."""

from contextlib import nullcontext
from typing import Any

import torch
from einops import rearrange, repeat
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from videopolicy.backbones import pipeline, tuning, unet
from videopolicy.backbones.backbone import Pyramid, splat, to_pixels
from videopolicy.backbones.svd_config import SVDConfig, check
from videopolicy.diffusion import like, precondition, sample
from videopolicy.errors import BadInput

MOTION_BUCKET = 127
DEPLOY_AUGMENTATION = 0.02  # noise added to the conditioning frame when sampling or acting, where training adds some
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


class SVDBackbone(nn.Module):
    """UNet, temporal VAE and CLIP image encoder with SVD's conditioning."""

    unet: Any  # diffusers' mixins hide that these are modules
    vae: Any
    image_encoder: Any
    feature_noise: Tensor
    pixel_noise: Tensor

    def __init__(self, cfg: SVDConfig, fps: int, parts: pipeline.Parts | None = None) -> None:
        """`parts`: the networks, where they are not to be read from `cfg.pretrained`."""
        super().__init__()
        if parts is None:
            parts = pipeline.load(cfg.pretrained, cfg.weights, cfg.variant)
        self.cfg, self.identity, self.start = cfg, parts.identity, parts.start
        self.unet = parts.unet
        unet.set_attention(self.unet, cfg.attention)
        unet.shorten_cross_attention(self.unet)
        # Frozen, in evaluation mode, and no part of a checkpoint: they come with the pretrained folder.
        self.vae = parts.vae.requires_grad_(False)
        self.image_encoder = parts.image_encoder.requires_grad_(False)
        vae_factor = 2 ** (len(self.vae.config.block_out_channels) - 1)
        check(cfg, fps, parts.purpose, vae_factor, len(self.unet.config.block_out_channels))
        tuning.choose(self.unet, cfg.tune, cfg.lora_rank)
        unet.compile_blocks(self.unet, cfg.compile)
        width, height = cfg.image_size
        self.latent_size = (height // vae_factor, width // vae_factor)
        # SVD's fps id is one less than the frame rate; this is the one place that says so.
        self.fps_id = fps - 1
        self.start_embedding = nn.Parameter(torch.randn(self.feature_channels))  # of a head's input. Section 3.4
        noise = torch.randn(
            cfg.n_frames,
            self.vae.config.latent_channels,
            *self.latent_size,
            generator=torch.Generator().manual_seed(cfg.feature_seed),
        )
        self.register_buffer("feature_noise", noise, persistent=False)
        pixels = torch.randn(3, height, width, generator=torch.Generator().manual_seed(cfg.feature_seed))
        self.register_buffer("pixel_noise", pixels, persistent=False)

    def train(self, mode: bool = True) -> "SVDBackbone":
        """As every module, but VAE and image encoder stay as they act."""
        super().train(mode)
        self.vae.eval()
        self.image_encoder.eval()
        return self

    def skip_silent(self) -> None:
        """See `pipeline.skip_silent`; of weights that were filled in after they were made."""
        pipeline.skip_silent(self.vae.encoder)

    @property
    def n_feature_frames(self) -> int:
        """Future frames, whose maps a head reads."""
        return self.cfg.n_frames - 1

    @property
    def grid(self) -> tuple[int, int]:
        return self.cfg.grid, self.cfg.grid

    @property
    def image_size(self) -> tuple[int, int]:
        return self.cfg.image_size

    @property
    def deploy_augmentation(self) -> float:
        """Noise strength on the conditioning frame when sampling or acting."""
        return DEPLOY_AUGMENTATION if self.cfg.augmentation == "live" else 0.0

    @property
    def feature_channels(self) -> int:
        # An up-block's output has the channels of the level it leads to.
        channels = self.unet.config.block_out_channels[::-1]
        return sum(channels[i] for i in self.cfg.feature_blocks)

    def unet_parameters(self) -> list[nn.Parameter]:
        """Those that are trained."""
        return [p for p in self.unet.parameters() if p.requires_grad]

    # -- pixels and latents ----------------------------------------------------------------------------------------

    def pixels(self, frames: UInt8[Tensor, "*batch height width 3"]) -> Float[Tensor, "*batch 3 height width"]:
        """Images of the model's size (`videopolicy.images.resized`) in [-1, 1]."""
        if (frames.shape[-2], frames.shape[-3]) != self.cfg.image_size:
            raise BadInput(f"images are {frames.shape[-2]}x{frames.shape[-3]}; allowed: {self.cfg.image_size}")
        return to_pixels(frames)

    @torch.no_grad()
    def posterior(self, pixels: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch both row col"]:
        """The VAE's: means, unscaled, and log-variances; in full precision, whether training or acting."""
        with torch.autocast(pixels.device.type, enabled=False):
            found = [self.vae.encode(p).latent_dist for p in pixels.split(8)]
        return torch.cat([torch.cat([d.mean, d.logvar], 1).float() for d in found])

    def encode_images(self, pixels: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch channel row col"]:
        """Unscaled latents: the posterior's mode."""
        return self.posterior(pixels).chunk(2, 1)[0]

    @torch.no_grad()
    def embed(self, pixels: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch embedding"]:
        """The image encoder's embeddings."""
        size = self.image_encoder.config.image_size
        small = F.interpolate(pixels, (size, size), mode="bilinear", antialias=True, align_corners=False)
        mean, std = (pixels.new_tensor(x).reshape(3, 1, 1) for x in (CLIP_MEAN, CLIP_STD))
        return self.image_encoder((small / 2 + 0.5 - mean) / std).image_embeds

    def encode(
        self, pixels: Float[Tensor, "batch frame 3 height width"]
    ) -> Float[Tensor, "batch frame channel row col"]:
        """Latents of clips, scaled to unit variance: what the diffusion runs on; the posterior's mode."""
        latents = self.encode_images(rearrange(pixels, "b t c h w -> (b t) c h w")) * self.vae.config.scaling_factor
        return rearrange(latents, "(b t) c h w -> b t c h w", b=len(pixels))

    @torch.no_grad()
    def decode(
        self, latents: Float[Tensor, "batch frame channel row col"]
    ) -> Float[Tensor, "batch frame 3 height width"]:
        """Clips of scaled latents, each decoded as a whole by the temporal decoder."""
        precise = self.vae.config.force_upcast
        with torch.autocast(latents.device.type, enabled=False) if precise else nullcontext():
            clips = [self.vae.decode(z, num_frames=len(z)).sample for z in latents / self.vae.config.scaling_factor]
        return torch.stack(clips).float()

    @torch.no_grad()
    def condition(
        self,
        first: Float[Tensor, "batch 3 height width"],
        augmentation: Float[Tensor, " batch"],
        noise: Float[Tensor, "batch 3 height width"],
        keep_image: Tensor | None = None,
        keep_embedding: Tensor | None = None,
        latent: Float[Tensor, "batch channel row col"] | None = None,
        embedding: Float[Tensor, "batch embedding"] | None = None,
    ) -> dict[str, Tensor]:
        """SVD's conditioning on a first frame: noise-augmented latent (unscaled), CLIP embedding, time ids.

        `augmentation` is the noise strength per sample, added to pixels before encoding and given as third time id.
        `keep_image` and `keep_embedding` (0 or 1 per sample) drop either for classifier-free guidance. `latent`, if
        given, is the (unscaled) latent of `first` without noise, which then is not encoded again; likewise `embedding`.
        """
        if latent is None:
            latent = self.encode_images(first + like(augmentation, first) * noise)
        embedding = (self.embed(first) if embedding is None else embedding)[:, None]
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
    ) -> Float[Tensor, "batch frame channel row col"]:
        """The network's v for noisy latents."""
        return self.denoise_and_read(x, sigma, condition)[0]

    def denoise_and_read(
        self,
        x: Float[Tensor, "batch frame channel row col"],
        sigma: Float[Tensor, " batch"],
        condition: dict[str, Tensor],
    ) -> tuple[Float[Tensor, "batch frame channel row col"], dict[int, Tensor]]:
        """The network's v for noisy latents, and its up-blocks' outputs, for `features`."""
        found = self._run(x, sigma, condition, whole=True)
        assert found.output is not None
        return found.output.float(), found.blocks

    def read(
        self, x: Float[Tensor, "batch frame channel row col"], sigma: Float[Tensor, " batch"], condition: dict
    ) -> dict[int, Tensor]:
        """Up-blocks' outputs for noisy latents, for `features`; the pass ends after the last that is read."""
        return self._run(x, sigma, condition, whole=False).blocks

    def _run(self, x: Tensor, sigma: Tensor, condition: dict[str, Tensor], whole: bool) -> unet.Pass:
        _, _, c_in, c_noise = precondition(sigma)
        image = repeat(condition["latent"], "b c h w -> b t c h w", t=x.shape[1])
        inputs = torch.cat([like(c_in, x) * x, image], 2)
        conditions = condition["embedding"], condition["time_ids"]
        read = self.cfg.feature_blocks
        return unet.run(self.unet, inputs, c_noise, *conditions, read, whole, self.cfg.checkpointing)

    def features(self, blocks: dict[int, Tensor], start_pixel: Float[Tensor, "batch 2"]) -> Pyramid:
        """Up-blocks' outputs for the future frames, for the head's grid, the start keypoint marked."""
        b = len(start_pixel)
        levels = (rearrange(blocks[i], "(b t) c h w -> b t c h w", b=b)[:, 1:] for i in self.cfg.feature_blocks)
        start = splat(start_pixel, self.cfg.image_size, *self.grid)
        return Pyramid(tuple(levels), start, self.start_embedding)

    def forward(
        self,
        images: UInt8[Tensor, "batch height width 3"],
        start_pixel: Float[Tensor, "batch 2"],
        start_height: Float[Tensor, " batch"] | None = None,
    ) -> Pyramid:
        """Features for acting: one pass at `feature_sigma` on a fixed noise sample, so that a policy is deterministic.

        `start_pixel` is in pixels of `cfg.image_size`; NaN where the end effector is outside the image. Its height is
        not read.
        """
        first = self.pixels(images)
        augmentation = first.new_full((len(first),), self.deploy_augmentation)
        condition = self.condition(first, augmentation, self.pixel_noise.expand_as(first))
        sigma = first.new_full((len(first),), self.cfg.feature_sigma)
        noise = self.feature_noise[None]
        return self.features(self.read(like(sigma, noise) * noise, sigma, condition), start_pixel)

    @torch.no_grad()
    def generate(
        self, images: UInt8[Tensor, "batch height width 3"], n_steps: int, seed: int
    ) -> UInt8[Tensor, "batch frame height width 3"]:
        """Clips that start with the given images."""
        generator = torch.Generator().manual_seed(seed)
        first = self.pixels(images)
        augmentation = first.new_full((len(first),), self.deploy_augmentation)
        condition = self.condition(first, augmentation, torch.randn(first.shape, generator=generator).to(first.device))
        noise = torch.randn(len(first), *tuple(self.feature_noise.shape), generator=generator).to(first.device)
        latents = sample(lambda x, sigma: self.denoise(x, sigma, condition), noise, n_steps)
        pixels = rearrange(self.decode(latents), "b t c h w -> b t h w c")
        return ((pixels + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
