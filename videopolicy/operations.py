"""How many operations a computation takes; a multiplication and an addition are two."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import conv_flop_count, flop_registry, shape_wrapper


def _convolution_backward(out: Any, x: Any, weight: Any, *rest: Any, **_kwargs: Any) -> int:
    """Shapes of the output's gradient, input and weight: either's gradient costs what the forward pass did."""
    transposed, mask = rest[4], rest[7]
    return (int(mask[0]) + int(mask[1])) * conv_flop_count(x, weight, out, transposed=transposed)


FORMULAS: dict[Any, Any] = {
    **flop_registry,
    # torch's own for a convolution's backward pass takes no account of groups.
    torch.ops.aten.convolution_backward: shape_wrapper(_convolution_backward),
}


class Operations(TorchDispatchMode):
    """Counts what is computed under it: `total`, and `needed`, which leaves out what checkpointing computes again.

    By torch's formulas, as its `FlopCounterMode` does, but of no module by itself: to tell them apart takes longer than
    to count. Model FLOPs utilisation is about the needed ones (Chowdhery et al. 2022, appendix B).
    """

    counting: "Operations | None" = None

    def __init__(self) -> None:
        super().__init__()
        self.total = self.again = 0
        self.whole: set[Any] = set()  # what is not made of other operations

    def __enter__(self) -> "Operations":
        super().__enter__()
        Operations.counting = self
        return self

    def __exit__(self, *args: Any) -> None:
        Operations.counting = None
        super().__exit__(*args)

    def __torch_dispatch__(self, func: Any, _types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        given = kwargs or {}
        if func not in self.whole:
            made = self._of_others(func, args, given)
            if made is not NotImplemented:
                return made
            self.whole.add(func)
        out = func(*args, **given)
        if (formula := FORMULAS.get(func._overloadpacket)) is not None:
            self.total += formula(*args, **given, out_val=out)
        return out

    def _of_others(self, func: Any, args: tuple, given: dict) -> Any:
        """An operation's result by others, which are counted; `NotImplemented` for one that is not made of any."""
        super().__enter__()
        try:
            return func.decompose(*args, **given)
        finally:
            super().__exit__(None, None, None)

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
