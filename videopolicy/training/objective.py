"""What a stage minimises: one module with one forward, so that a data-parallel wrapper sees every use.

A batch may come in parts (`batch.py`): `counted` says beforehand how much of one losses will be means over, and with
`counts`, the mean over all parts, the mean of their losses is the whole batch's.
"""

from typing import Any

import torch
from torch import Tensor, nn

from videopolicy.batch import Counts


class Objective(nn.Module):
    """Forward takes a batch, draws and counts, and gives named losses, of them `total`."""

    def counted(self, batch: dict[str, Tensor], draws: Any) -> Counts:
        """Nothing, where all losses are means over equally much of every sample."""
        nothing = torch.zeros((), device=batch["frames"].device)
        return Counts(nothing, nothing)
