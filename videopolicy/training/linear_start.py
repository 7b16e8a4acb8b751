"""A VAE made in closed form: principal components of 4 x 4 patches in, smooth colours out.

From random weights its normalisations hide colour and brightness for thousands of steps. Here the residual blocks begin
as identities: the encoder is a linear codec, and the decoder only has to learn what smooth colours miss.
"""

from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float, UInt8
from torch import Tensor

from videopolicy.backbones.backbone import to_pixels
from videopolicy.backbones.carried import SCALE, WIDTH, group, read, rescale, route, route_taps, zero
from videopolicy.errors import BadInput

LOG_VARIANCE = -6.0  # of the posterior


@torch.no_grad()
def start_linear(vae: Any, frames: UInt8[Tensor, "batch height width 3"]) -> None:
    """Set a VAE's weights and scaling factor from some frames; three levels, `WIDTH` channels in the first and last."""
    encoder, decoder, n = vae.encoder, vae.decoder, vae.config.latent_channels
    widths = vae.config.block_out_channels
    narrowest = max(12, n + 3)  # four colours in the encoder; colour and latents in the decoder
    if len(widths) != 3 or widths[0] != WIDTH or widths[-1] != WIDTH or not narrowest <= widths[1] < WIDTH or n > 29:
        raise BadInput(
            f"vae_channels is {widths}; allowed: ({WIDTH}, {narrowest} to {WIDTH - 1}, {WIDTH}), for 29 latents at most"
        )
    for block in [*encoder.modules(), *decoder.modules()]:
        if type(block).__name__ in ("ResnetBlock2D", "TemporalResnetBlock"):
            zero(block.conv2)
    for attention in encoder.mid_block.attentions:
        zero(attention.to_out[0])
    basis, mean, deviation = principal_patches(frames, n)  # of patches in the order (row, column, channel)

    # Encoder: colours, 2 x 2 blocks of them, components of 4 x 4 patches, each beside its constant.
    route(encoder.conv_in, {(c, c): 1.0 for c in range(3)})
    unshuffle = {(3 * (2 * y + x) + c, c, y, x): 1.0 for c in range(3) for y in range(2) for x in range(2)}
    route_taps(encoder.down_blocks[0].downsamplers[0].conv, unshuffle)
    route(encoder.down_blocks[1].resnets[0].conv_shortcut, {(k, k): 1.0 for k in range(12)})
    # A patch's number (row 2Y + y, column 2X + x, channel c) is channel 3(2y + x) + c of block (Y, X).
    order = rearrange(torch.arange(48), "(Y y X x c) -> Y X (y x c)", Y=2, y=2, X=2, x=2)
    down = encoder.down_blocks[1].downsamplers[0].conv
    scale = SCALE / deviation
    taps = {
        (k, m, y, x): float(basis[k, order[y, x, m]] * scale[k])
        for k in range(n)
        for m in range(12)
        for y in range(2)
        for x in range(2)
    }
    route_taps(down, taps)
    down.bias[:n] = -(basis @ mean) * scale
    group(encoder.down_blocks[2].resnets[0].conv_shortcut, list(range(n)))
    middle = encoder.mid_block
    rescale([middle.resnets[0].norm1, middle.attentions[0].group_norm, middle.resnets[1].norm1], n)
    read(encoder.conv_norm_out, encoder.conv_out, n, n)
    # Between whitening, which would make the diffusion spend itself on the faintest textures, and no scaling at all.
    strength = deviation.sqrt() / deviation.mean().sqrt()
    encoder.conv_out.weight[:n] *= strength[:, None, None, None]
    encoder.conv_out.weight[n:] = 0
    encoder.conv_out.bias[n:] = LOG_VARIANCE
    route(vae.quant_conv, {(k, k): 1.0 for k in range(2 * n)})
    vae.quant_conv.bias.zero_()

    # Decoder: a patch's mean colour, then the latents themselves; both are carried to the end, colours smoothly.
    colour = rearrange(basis * (deviation / strength)[:, None], "k (p c) -> c k p", c=3).mean(-1) * SCALE
    routes = {(c, k): float(colour[c, k]) for c in range(3) for k in range(n)}
    route(decoder.conv_in, routes | {(3 + k, k): float(SCALE / strength[k]) for k in range(n)})
    decoder.conv_in.bias[:3] = rearrange(mean, "(p c) -> c p", c=3).mean(-1) * SCALE
    kept = 3 + n
    for block in decoder.up_blocks[:2]:
        conv = block.upsamplers[0].conv
        route(conv, {(k, k): 1.0 for k in range(kept)})
        blur = torch.tensor([0.25, 0.5, 0.25])
        for c in range(3):
            conv.weight[c, c] = blur[:, None] * blur
    route(decoder.up_blocks[1].resnets[0].spatial_res_block.conv_shortcut, {(k, k): 1.0 for k in range(kept)})
    first, second = decoder.up_blocks[2].resnets
    group(first.spatial_res_block.conv_shortcut, list(range(kept)))
    inner = [first.temporal_res_block, second.spatial_res_block, second.temporal_res_block]
    rescale([block.norm1 for block in inner], kept)
    read(decoder.conv_norm_out, decoder.conv_out, 3, kept)
    zero(decoder.time_conv_out)
    for c in range(3):
        decoder.time_conv_out.weight[c, c, 1] = 1.0
    latents = torch.cat([vae.encode(to_pixels(f)).latent_dist.mode() for f in frames.split(16)])
    vae.register_to_config(scaling_factor=round(1 / float(latents.std()), 4))  # SVD's: to unit variance


def principal_patches(
    frames: UInt8[Tensor, "batch height width 3"], n: int
) -> tuple[Float[Tensor, "n 48"], Float[Tensor, " 48"], Float[Tensor, " n"]]:
    """The first `n` principal components of 4 x 4 patches in [-1, 1], their mean, and each component's deviation."""
    patches = rearrange(to_pixels(frames), "b c (h p) (w q) -> (b h w) (p q c)", p=4, q=4).double()
    mean = patches.mean(0)
    variance, vectors = torch.linalg.eigh((patches - mean).T @ (patches - mean) / len(patches))
    deviation = variance.flip(0)[:n].clamp(min=1e-8).sqrt()
    return vectors.flip(1)[:, :n].T.float(), mean.float(), deviation.float()
