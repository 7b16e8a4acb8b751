"""What becomes of a step's gradients: added up over parts and processes, measured, applied, and kept in checkpoints."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from videopolicy.training.objective import Objective
from videopolicy.training.setup import TrainConfig
from videopolicy.training.zero import zero_stage


class Engine(ABC):
    """One objective and one optimizer, trained by all processes together. `wrapped` is what a step must call."""

    wrapped: Any  # a module

    @abstractmethod
    def part(self, last: bool) -> AbstractContextManager:
        """Around a part's forward and backward pass, to say which one ends a step's gradient."""

    @abstractmethod
    def backward(self, loss: Tensor) -> None:
        """Add the gradient of a part's loss to the step's."""

    @abstractmethod
    def step(self, refuse: Callable[[float], None]) -> float:
        """Clip and apply the gradient, and forget it; its norm over all parameters before it was clipped.

        `refuse` is given the norm and raises where it is not finite; it has then changed no weight.
        """

    @abstractmethod
    def in_reach(self) -> AbstractContextManager:
        """Around what reads weights outside of the objective's forward, as a policy does; all must enter together."""

    @abstractmethod
    def weights(self) -> dict[str, Tensor]:
        """The objective's whole state, in the main process; all must ask for it together."""

    @abstractmethod
    def optimizer_state(self) -> dict[str, Any]:
        """The state dictionary of an optimizer that is not shared, in the main process; all must ask together."""

    @abstractmethod
    def load_optimizer(self, state: dict[str, Any]) -> None:
        """The opposite: each process is given the whole state."""


class Replicated(Engine):
    """Every process holds all weights and moments, by accelerate and torch's DistributedDataParallel."""

    def __init__(
        self, accelerator: Accelerator, objective: Objective, optimizer: torch.optim.Optimizer, clip: float
    ) -> None:
        self.accelerator, self.objective, self.optimizer, self.clip = accelerator, objective, optimizer, clip
        self.wrapped, self.prepared = accelerator.prepare(objective, optimizer)

    def part(self, last: bool) -> AbstractContextManager:
        return nullcontext() if last else self.accelerator.no_sync(self.wrapped)

    def backward(self, loss: Tensor) -> None:
        self.accelerator.backward(loss)

    def step(self, refuse: Callable[[float], None]) -> float:
        norm = float(self.accelerator.clip_grad_norm_(self.wrapped.parameters(), self.clip))
        refuse(norm)
        self.prepared.step()
        self.prepared.zero_grad()
        return norm

    def in_reach(self) -> AbstractContextManager:
        return nullcontext()

    def weights(self) -> dict[str, Tensor]:
        return self.objective.state_dict()

    def optimizer_state(self) -> dict[str, Any]:
        return self.optimizer.state_dict()

    def load_optimizer(self, state: dict[str, Any]) -> None:
        self.optimizer.load_state_dict(state)


def make_engine(
    accelerator: Accelerator, objective: Objective, optimizer: torch.optim.Optimizer, cfg: TrainConfig
) -> Engine:
    """The one that the launch asks for: `Sharded` under a ZeRO stage."""
    stage = zero_stage()
    if not stage:
        return Replicated(accelerator, objective, optimizer, cfg.clip)
    from videopolicy.training.sharding import Sharded  # DeepSpeed is a package of those who ask for it

    n_samples = cfg.batch_size // (accelerator.num_processes * cfg.accumulate)
    return Sharded(stage, objective, optimizer, cfg.clip, n_samples, cfg.mixed_precision == "bf16")
