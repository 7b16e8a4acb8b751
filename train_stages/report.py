"""What a training script says before it starts."""

from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from accelerate import Accelerator
from torch import nn

from videopolicy.config import dump
from videopolicy.data.dataset import ClipDataset
from videopolicy.data.mixture import Mixture
from videopolicy.data.visibility import never_seen
from videopolicy.heads.para import ParaHead


@runtime_checkable
class Run(Protocol):
    """Any stage's configuration: it names the run's folder."""

    @property
    def run(self) -> Path: ...


def describe(
    accelerator: Accelerator,
    cfg: Run,
    clips: ClipDataset | Mixture,
    val_clips: ClipDataset,
    optimizer: torch.optim.Optimizer,
) -> None:
    """Print the resolved configuration, data counts, parameters per group, and the output folder."""
    accelerator.print(dump(cfg))
    accelerator.print(
        f"data: {len(clips)} training clips, {len(val_clips)} validation clips of {clips.n_frames} frames"
    )
    for group in optimizer.param_groups:
        n = sum(p.numel() for p in group["params"])
        accelerator.print(f"parameters: {group['name']} {n / 1e6:.2f} M at learning rate {group['lr']:g}")
    accelerator.print(
        f"output: {cfg.run} ({accelerator.num_processes} process(es), {torch.get_num_threads()} thread(s) each)"
    )


def describe_labels(
    accelerator: Accelerator, clips: ClipDataset | Mixture, labels: dict, tuned: nn.Module | None = None
) -> None:
    """Print how many waypoints are masked and why, which episodes have none left, and what is beyond a head's bins.

    That can only be in a head that is `tuned`, and whose bins are those of what it was trained on before.
    """
    masked = f"{labels['outside_image']} outside the image, {labels['past_end']} past their episode's end"
    accelerator.print(
        f"waypoints: {labels['waypoints']}, of which masked: {masked}; starts outside: {labels['start_outside_image']}"
    )
    sources = clips.sources if isinstance(clips, Mixture) else [clips]
    if isinstance(tuned, ParaHead):
        heights = torch.from_numpy(np.concatenate([each.heights() for each in sources]))
        bins = tuned.height_bins
        if n_outside := int(bins.outside(heights).sum()):
            accelerator.print(
                f"heights: {n_outside} of {len(heights)} are beyond the bins that are taken over, {bins.low:.3f} to"
                f" {bins.high:.3f} m, and teach the outermost one"
            )
    for each in sources:
        if unseen := never_seen(each.data, list(each.shown)):
            names = ", ".join(map(str, unseen))
            whose = f" of {each.data.root}" if isinstance(clips, Mixture) else ""
            n = f"{len(unseen)} of {len(each.shown)} episodes{whose}"
            accelerator.print(f"{n} have no waypoint in the image: {names}")
