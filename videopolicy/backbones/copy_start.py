"""A UNet that starts by copying: its v is that of a clip in which every frame is the conditioning frame.

From random weights a small UNet spends thousands of steps on reproducing what it is given; started here, all it has to
learn is what moves.
"""

from typing import Any

import torch

from videopolicy.backbones.carried import SCALE, WIDTH, group, read, route, zero


@torch.no_grad()
def start_copying(unet: Any, scaling_factor: float) -> bool:
    """Set the weights of a UNet with `WIDTH` channels at the first level; False, and nothing done, for any other.

    `scaling_factor` is the VAE's: the conditioning latent is unscaled, targets are scaled. The copy is exact for high
    noise, where v is -x0.
    """
    n = unet.config.out_channels
    if unet.config.block_out_channels[0] != WIDTH or n > WIDTH // 3 or unet.config.in_channels != 2 * n:
        return False
    # The conditioning latent, second of the inputs, is the first signal; the last resnet gets it as its skip.
    route(unet.conv_in, {(k, n + k): SCALE * scaling_factor for k in range(n)})
    last = unet.up_blocks[-1].resnets[-1]
    shortcut = last.spatial_res_block.conv_shortcut
    group(shortcut, [shortcut.in_channels - WIDTH + k for k in range(n)])
    for block in (last.spatial_res_block, last.temporal_res_block):
        block.conv2.weight[: 3 * n] = 0
        block.conv2.bias[: 3 * n] = 0
    zero(unet.conv_out)
    read(unet.conv_norm_out, unet.conv_out, n, n, gain=-1.0)
    return True
