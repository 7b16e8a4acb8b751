"""How many operations a computation takes; a multiplication and an addition are two."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode, conv_flop_count


class Operations(FlopCounterMode):
    """Counts what is computed under it: `total`, and `needed`, which leaves out what checkpointing computes again.

    Model FLOPs utilisation is about the needed ones (Chowdhery et al. 2022, appendix B).
    """

    counting: "Operations | None" = None

    def __init__(self) -> None:
        # torch's own formula for a convolution's backward pass takes no account of groups.
        formulas = {torch.ops.aten.convolution_backward: _convolution_backward}
        super().__init__(display=False, custom_mapping=formulas)
        self.again = 0

    def __enter__(self) -> "Operations":
        super().__enter__()
        Operations.counting = self
        return self

    def __exit__(self, *args: Any) -> None:
        Operations.counting = None
        super().__exit__(*args)

    @property
    def total(self) -> int:
        return self.get_total_flops()

    @property
    def needed(self) -> int:
        return self.total - self.again


def once_and_again() -> tuple[AbstractContextManager, AbstractContextManager]:
    """`context_fn` of torch's checkpoint: around the first computation, and around the one in the backward pass."""
    return nullcontext(), _Again()


class _Again:
    """May be entered once for every backward pass."""

    def __enter__(self) -> None:
        self.counter = Operations.counting
        self.before = self.counter.total if self.counter is not None else 0

    def __exit__(self, *_: object) -> None:
        if self.counter is not None:
            self.counter.again += self.counter.total - self.before


def _convolution_backward(out: Any, x: Any, weight: Any, *rest: Any, **_kwargs: Any) -> int:
    """Shapes of the output's gradient, input and weight: either's gradient costs what the forward pass did."""
    transposed, mask = rest[4], rest[7]
    return (int(mask[0]) + int(mask[1])) * conv_flop_count(x, weight, out, transposed=transposed)
