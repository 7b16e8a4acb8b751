"""A linear patch codec: the small stand-in for SVD's VAE, fitted in closed form to a few frames."""

import torch
from einops import rearrange
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from videopolicy.errors import BadInput


class PatchCodec(nn.Module):
    """Square patches to `channels` principal components; latents have unit variance over all of them.

    Component i is scaled by the square root of its standard deviation: between whitening, which would make the
    diffusion model spend itself on the faintest textures, and no scaling, which would hide the gripper's fingers.
    """

    scaling_factor = 1.0
    mean: Tensor
    basis: Tensor
    scale: Tensor

    def __init__(self, patch: int, channels: int) -> None:
        super().__init__()
        if channels > 3 * patch**2:
            raise BadInput(
                f"codec channels is {channels}; allowed: at most {3 * patch**2} for patches of {patch} pixels"
            )
        self.patch, self.channels = patch, channels
        self.register_buffer("mean", torch.zeros(3 * patch**2))
        self.register_buffer("basis", torch.eye(3 * patch**2)[:channels].clone())
        self.register_buffer("scale", torch.ones(channels))

    def encode(self, pixels: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch channel row col"]:
        """Latents of images in [-1, 1]."""
        p = self.patch
        patches = rearrange(pixels, "b c (h p) (w q) -> b h w (c p q)", p=p, q=p)
        with torch.autocast(pixels.device.type, enabled=False):  # in full precision, as SVD's VAE needs it
            return rearrange((patches - self.mean) @ self.basis.T * self.scale, "b h w c -> b c h w")

    def decode(self, latents: Float[Tensor, "batch channel row col"]) -> Float[Tensor, "batch 3 height width"]:
        """Images of latents."""
        p = self.patch
        patches = (rearrange(latents, "b c h w -> b h w c") / self.scale) @ self.basis + self.mean
        return rearrange(patches, "b h w (c p q) -> b c (h p) (w q)", p=p, q=p)

    @torch.no_grad()
    def fit(self, frames: UInt8[Tensor, "batch height width 3"]) -> float:
        """Fit to frames in closed form; returns the mean squared error of their reconstruction in [-1, 1]."""
        pixels = rearrange(frames, "b h w c -> b c h w").float() / 127.5 - 1
        p = self.patch
        patches = rearrange(pixels, "b c (h p) (w q) -> (b h w) (c p q)", p=p, q=p).double()
        mean = patches.mean(0)
        variance, vectors = torch.linalg.eigh((patches - mean).T @ (patches - mean) / len(patches))
        basis = vectors.flip(1)[:, : self.channels].T
        deviation = variance.flip(0)[: self.channels].clamp(min=1e-8).sqrt()
        scale = deviation.rsqrt()
        scale = scale / (scale * deviation).square().mean().sqrt()
        for buffer, value in ((self.mean, mean), (self.basis, basis), (self.scale, scale)):
            buffer.copy_(value.float())
        return float((self.decode(self.encode(pixels)) - pixels).square().mean())
