"""A VAE made in closed form: principal components of 4 x 4 patches in, smooth colours out.

From random weights its normalisations hide colour and brightness for thousands of steps. Here the residual blocks begin
as identities: the encoder is a linear codec, and the decoder only has to learn what smooth colours miss.

SVD's normalisations have 32 groups, whatever the width. A group of three channels, of which two are the constants C and
-C, is scaled by C alone and loses only a third of its signal's mean, which can be read off the constants again; through
two channels or one, the brightness of an even picture cannot pass at all. Hence the width of 96 at both ends.
"""

import math
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from videopolicy.errors import BadInput
from videopolicy.training.vae import to_pixels

WIDTH = 96  # of the levels that end in a normalisation: three channels per group
CONSTANT = 20.0  # signals have a standard deviation of about 0.5
SPREAD = CONSTANT * math.sqrt(2 / 3)  # standard deviation of a group
OFFSET = 3.0  # signals enter the last activation here, where it is nearly linear
SIGMOID = 1 / (1 + math.exp(-OFFSET))
SLOPE = SIGMOID * (1 + OFFSET * (1 - SIGMOID))  # derivative of the activation x sigmoid(x) there
SCALE = 0.5
LOG_VARIANCE = -6.0  # of the posterior at the start


@torch.no_grad()
def start_linear(vae: Any, frames: UInt8[Tensor, "batch height width 3"]) -> None:
    """Set a VAE's weights and scaling factor from some frames; three levels, `WIDTH` channels in the first and last."""
    encoder, decoder, n = vae.encoder, vae.decoder, vae.config.latent_channels
    widths = vae.config.block_out_channels
    narrowest = max(12, n + 3)  # four colours in the encoder; colour and latents in the decoder
    if len(widths) != 3 or widths[0] != WIDTH or widths[-1] != WIDTH or widths[1] < narrowest or n > 29:
        raise BadInput(
            f"vae_channels is {widths}; allowed: ({WIDTH}, at least {narrowest}, {WIDTH}), for 29 latents at most"
        )
    for block in [*encoder.modules(), *decoder.modules()]:
        if type(block).__name__ in ("ResnetBlock2D", "TemporalResnetBlock"):
            _zero(block.conv2)
    for attention in encoder.mid_block.attentions:
        _zero(attention.to_out[0])
    basis, mean, deviation = principal_patches(frames, n)  # of patches in the order (row, column, channel)

    # Encoder: colours, 2 x 2 blocks of them, components of 4 x 4 patches, each beside its constant.
    _route(encoder.conv_in, {(c, c): 1.0 for c in range(3)})
    unshuffle = {(3 * (2 * y + x) + c, c, y, x): 1.0 for c in range(3) for y in range(2) for x in range(2)}
    _route_taps(encoder.down_blocks[0].downsamplers[0].conv, unshuffle)
    _route(encoder.down_blocks[1].resnets[0].conv_shortcut, {(k, k): 1.0 for k in range(12)})
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
    _route_taps(down, taps)
    down.bias[:n] = -(basis @ mean) * scale
    _group(encoder.down_blocks[2].resnets[0].conv_shortcut, n)
    middle = encoder.mid_block
    _rescale([middle.resnets[0].norm1, middle.attentions[0].group_norm, middle.resnets[1].norm1], n)
    _read(encoder.conv_norm_out, encoder.conv_out, n, n)
    # Between whitening, which would make the diffusion spend itself on the faintest textures, and no scaling at all.
    strength = deviation.sqrt() / deviation.mean().sqrt()
    encoder.conv_out.weight[:n] *= strength[:, None, None, None]
    encoder.conv_out.weight[n:] = 0
    encoder.conv_out.bias[n:] = LOG_VARIANCE
    _route(vae.quant_conv, {(k, k): 1.0 for k in range(2 * n)})
    vae.quant_conv.bias.zero_()

    # Decoder: a patch's mean colour, then the latents themselves; both are carried to the end, colours smoothly.
    colour = rearrange(basis * (deviation / strength)[:, None], "k (p c) -> c k p", c=3).mean(-1) * SCALE
    routes = {(c, k): float(colour[c, k]) for c in range(3) for k in range(n)}
    _route(decoder.conv_in, routes | {(3 + k, k): float(SCALE / strength[k]) for k in range(n)})
    decoder.conv_in.bias[:3] = rearrange(mean, "(p c) -> c p", c=3).mean(-1) * SCALE
    kept = 3 + n
    for block in decoder.up_blocks[:2]:
        conv = block.upsamplers[0].conv
        _route(conv, {(k, k): 1.0 for k in range(kept)})
        blur = torch.tensor([0.25, 0.5, 0.25])
        for c in range(3):
            conv.weight[c, c] = blur[:, None] * blur
    _route(decoder.up_blocks[1].resnets[0].spatial_res_block.conv_shortcut, {(k, k): 1.0 for k in range(kept)})
    first, second = decoder.up_blocks[2].resnets
    _group(first.spatial_res_block.conv_shortcut, kept)
    inner = [first.temporal_res_block, second.spatial_res_block, second.temporal_res_block]
    _rescale([block.norm1 for block in inner], kept)
    _read(decoder.conv_norm_out, decoder.conv_out, 3, kept)
    _zero(decoder.time_conv_out)
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


def _zero(layer: nn.Module) -> None:
    for p in layer.parameters():
        p.zero_()


def _route(conv: Any, weights: dict[tuple[int, int], float]) -> None:
    """Make the named output channels weighted sums of the named input channels, at the kernel's centre."""
    middle = conv.weight.shape[-1] // 2
    _route_taps(conv, {(o, i, middle, middle): w for (o, i), w in weights.items()})


def _route_taps(conv: Any, weights: dict[tuple[int, int, int, int], float]) -> None:
    rows = sorted({o for o, *_ in weights})
    conv.weight[rows] = 0
    conv.bias[rows] = 0
    for place, weight in weights.items():
        conv.weight[place] = weight


def _group(conv: Any, n: int) -> None:
    """Signal k to channel 3k, beside the constants C and -C."""
    _route(conv, {(3 * k, k): 1.0 for k in range(n)})
    conv.weight[1 : 3 * n : 3] = 0
    conv.weight[2 : 3 * n : 3] = 0
    conv.bias[1 : 3 * n : 3] = CONSTANT
    conv.bias[2 : 3 * n : 3] = -CONSTANT


def _rescale(norms: list[nn.GroupNorm], n: int) -> None:
    """Give signals back the size that the constants beside them take."""
    for norm in norms:
        norm.weight[0 : 3 * n : 3] = SPREAD


def _read(norm: nn.GroupNorm, conv: Any, n: int, n_grouped: int) -> None:
    """Read the first `n` signals through a normalisation and an activation, scaled from `SCALE` to 1."""
    for channel, shift in ((0, 0.0), (1, -CONSTANT), (2, CONSTANT)):
        norm.weight[channel : 3 * n_grouped : 3] = SPREAD
        norm.bias[channel : 3 * n_grouped : 3] = OFFSET + shift
    gain = 1 / (SLOPE * SCALE)
    # x - m/3, and twice -m/3 in the constants' channels, where m is the signal's mean.
    _route(conv, {(k, 3 * k + i): gain * w for k in range(n) for i, w in ((0, 1.0), (1, -0.5), (2, -0.5))})
