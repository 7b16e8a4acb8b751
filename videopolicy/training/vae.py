"""What the decoder of a small video model's VAE is trained for, and the measure of a picture."""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Int, UInt8
from torch import Tensor

from videopolicy.backbones.backbone import to_pixels
from videopolicy.batch import Counts
from videopolicy.training.objective import Objective
from videopolicy.training.randomness import sample_generator


@dataclass(frozen=True)
class Crops:
    """Everything random about one step: where each clip is cut, and the seeds of the posteriors' noise."""

    corner: Int[Tensor, "batch 2"]  # (u, v) of the first pixel
    side: int
    seed: Int[Tensor, " batch"]
    precise: bool = False  # in full precision, whatever the training's


def crop_draws(
    image_size: tuple[int, int], side: int, places: Sequence[int], seed: int, step: int, precise: bool = False
) -> Crops:
    """Squares of `side` pixels in pictures of (width, height), for samples at these places of a step's batch."""
    limits = torch.tensor([s - side + 1 for s in image_size] + [2**31])
    share = [torch.rand(3, generator=sample_generator(seed, step, p), dtype=torch.float64) for p in places]
    numbers = (torch.stack(share) * limits).long()
    return Crops(numbers[:, :2], side, numbers[:, 2], precise)


class DecoderObjective(Objective):
    """Squared and absolute error of decoded clips; the encoder stays as it is."""

    vae: Any

    def __init__(self, vae: Any) -> None:
        super().__init__()
        self.vae = vae
        vae.encoder.requires_grad_(False)
        vae.quant_conv.requires_grad_(False)
        # With one layer per block the decoder never reaches its attention; data-parallel training would say so.
        middle = vae.decoder.mid_block
        if len(middle.resnets) == 1:
            middle.attentions.requires_grad_(False)

    def forward(self, batch: dict[str, Tensor], draws: Crops, counts: Counts | None = None) -> dict[str, Tensor]:
        """Losses on a batch's clips; `draws.precise` decodes in full precision.

        What is carried beside constants (`backbones/carried.py`) comes out a little darker in bfloat16: a decoder that
        has only learned there is off by three grey levels in full precision, in which it is used.
        """
        with torch.autocast(batch["frames"].device.type, enabled=False) if draws.precise else nullcontext():
            return self._losses(batch, draws)

    def _losses(self, batch: dict[str, Tensor], draws: Crops) -> dict[str, Tensor]:
        side, corners = draws.side, draws.corner.tolist()
        clips = [f[:, v : v + side, u : u + side] for f, (u, v) in zip(batch["frames"], corners, strict=True)]
        pixels = to_pixels(torch.stack(clips))
        b, t = pixels.shape[:2]
        with torch.no_grad():
            posterior = self.vae.encode(rearrange(pixels, "b t c h w -> (b t) c h w")).latent_dist
            shape = (t, *posterior.mean.shape[1:])
            noise = [torch.randn(shape, generator=torch.Generator().manual_seed(s)) for s in draws.seed.tolist()]
            z = posterior.mean + posterior.std * torch.cat(noise).to(posterior.mean)
        decoded = rearrange(self.vae.decode(z, num_frames=t).sample, "(b t) c h w -> b t c h w", b=b).float()
        mse, mae = (decoded - pixels).square().mean(), (decoded - pixels).abs().mean()
        return {"mse": mse, "mae": mae, "total": mse + 0.1 * mae}

    def reconstruct(self, clip: UInt8[Tensor, "frame height width 3"]) -> UInt8[Tensor, "frame height width 3"]:
        """A clip through the posterior's mode and the decoder."""
        z = self.vae.encode(to_pixels(clip)).latent_dist.mode()
        pixels = rearrange(self.vae.decode(z, num_frames=len(clip)).sample.float(), "t c h w -> t h w c")
        return ((pixels + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
