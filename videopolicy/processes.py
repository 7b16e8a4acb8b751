"""What is averaged over all processes that share a batch, so that their number changes no loss."""

import torch
from torch import Tensor
from torch.distributed import all_reduce, get_world_size, is_available, is_initialized


@torch.no_grad()
def mean_over_processes(value: Tensor) -> Tensor:
    """The mean of every process's value, without gradient; all must call it alike. One process: the value."""
    if not (is_available() and is_initialized() and get_world_size() > 1):
        return value.detach()
    total = value.detach().clone()
    all_reduce(total)
    return total / get_world_size()
