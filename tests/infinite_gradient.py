"""One of two processes that share a network: a loss of 0 whose gradient is infinite. Prints what became of it.

Run by tests/test_processes.py, since DeepSpeed wants processes of its own.
"""

import math

import torch
from accelerate import PartialState
from torch import Tensor, nn

from videopolicy.training.sharding import Sharded


class Root(nn.Module):
    """The derivative of a square root at 0."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x).abs().sqrt().mean()


def main(stage: int) -> None:
    state = PartialState(cpu=True)
    torch.manual_seed(0)
    network = Root()
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.1)
    engine = Sharded(stage, network, optimizer, clip=1.0, n_samples=1, bf16=False)  # type: ignore
    norms: list[float] = []

    def step(x: Tensor) -> Tensor:
        with engine.part(last=True):
            engine.backward(engine.wrapped(x))
        norms.append(engine.step(lambda _norm: None))
        return engine.weights()["linear.weight"].clone()

    moved, unmoved = step(torch.ones(1, 3)), step(torch.zeros(1, 3))
    if state.is_main_process:
        finite = [math.isfinite(norm) for norm in norms]
        print(f"finite {finite}, changed {not torch.equal(moved, unmoved)}")
