"""Weights kept in the precision that they are computed with, so that no pass has to make them anew."""

import torch
from torch import nn

COMPUTED_LOW = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)  # in bfloat16 under autocast, on a GPU and on a CPU


def keep_low(network: nn.Module) -> None:
    """Round linear maps' and convolutions' weights to bfloat16, in place: of a network that acts, and under autocast.

    Autocast rounds them in every pass, one after the other, so outputs stay what they are to the last bit.
    """
    for module in network.modules():
        if isinstance(module, COMPUTED_LOW):
            module.to(torch.bfloat16)
