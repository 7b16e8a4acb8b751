"""How a head's losses are added up."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from videopolicy.batch import StepStatistics
from videopolicy.errors import BadInput

Balance = Literal["sum", "ema"]


class LossBalance(StepStatistics):
    """The sum of named terms, or of each over its running mean, so that none outweighs the others by its unit.

    A term counts from the step after the first that had a sample for it.
    """

    averages: Tensor

    def __init__(self, balance: Balance, terms: tuple[str, ...]) -> None:
        super().__init__()
        if balance == "ema" and "kl" in terms:
            raise BadInput("loss_balance is ema; allowed with head.kind act: sum, or its KL weight would mean nothing")
        self.balance, self.terms = balance, terms
        self.register_buffer("averages", torch.zeros(len(terms)))

    def forward(self, losses: dict[str, Tensor]) -> Tensor:
        values = torch.stack([losses[t] for t in self.terms])
        if self.balance == "sum":
            return values.sum()
        if self.training:
            self.note(values)
        return (values / self.averages.clamp(min=1e-6)).where(self.averages > 0, 0.0).sum()

    def move(self, values: Float[Tensor, " term"]) -> None:
        now = values.float()
        moved = torch.where(self.averages == 0, now, self.averages.lerp(now, 0.02))
        self.averages.copy_(torch.where(now == 0, self.averages, moved))  # 0: no sample of the batch counted
