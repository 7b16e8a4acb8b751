"""Whether a run's checkpoints will fit on its disk, asked before the first step."""

import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import torch
from torch import nn

from videopolicy.errors import BadInput
from videopolicy.training import checkpoint

GIB = 2**30


def check_disk(run: Path, size: int, n_steps: int, say: Callable[[str], object]) -> None:
    """Say what the checkpoints of a run, each of `size` bytes, will need; `BadInput` where that is not free."""
    needed = max(1, checkpoint.N_KEPT + 1 - len(checkpoint.steps(run))) * size
    free = shutil.disk_usage(next(p for p in (run, *run.absolute().parents) if p.exists())).free
    free += sum(_size(folder) for folder in checkpoint.unfinished(run))  # goes before the first step
    say(f"disk: about {needed / GIB:.2f} GiB for checkpoints of {n_steps} steps, {free / GIB:.1f} GiB are free")
    if needed > free:
        raise BadInput(f"checkpoints need about {needed / GIB:.2f} GiB in {run}, where {free / GIB:.2f} are free")


def checkpoint_size(model: nn.Module, optimizer: torch.optim.Optimizer, ema: bool) -> int:
    """Bytes of a checkpoint: weights, two moments of each that is trained, and its running mean."""
    kept = sum(v.nbytes for k, v in model.state_dict().items() if not k.startswith(checkpoint.FROZEN))
    trained = sum(p.nbytes for group in optimizer.param_groups for p in group["params"])
    return kept + (3 if ema else 2) * trained


def _size(folder: Path) -> int:
    """Bytes of a folder's files; of one that another process is just renaming or removing, what is still there."""
    total = 0
    with suppress(FileNotFoundError, NotADirectoryError):
        for file in folder.iterdir():
            total += file.stat().st_size
    return total
