"""AdamW over named groups of parameters, and the course of their learning rates."""

import math
from typing import Any

import torch
from torch import nn

from videopolicy.errors import BadInput
from videopolicy.training.setup import TrainConfig


def make_optimizer(groups: dict[str, tuple[list[nn.Parameter], float]], cfg: TrainConfig) -> torch.optim.Optimizer:
    """AdamW over named groups of (parameters, learning rate); no parameter is in two."""
    seen = [id(p) for parameters, _ in groups.values() for p in parameters]
    assert len(seen) == len(set(seen)), "a parameter stands in two groups"
    for name, (_, lr) in groups.items():
        if not 0 <= lr < 1:
            raise BadInput(f"the learning rate of {name} is {lr}; allowed: 0 to 1")
    if not seen:
        raise BadInput(f"nothing would be trained: no parameter of {', '.join(groups)} is (backbone.tune?)")
    rows = [{"params": p, "lr": lr, "base_lr": lr, "name": name} for name, (p, lr) in groups.items() if p]
    options: dict[str, Any] = {"betas": (0.9, 0.99), "weight_decay": cfg.weight_decay}
    if cfg.optimizer == "adamw8bit":
        from bitsandbytes.optim import AdamW8bit  # seconds, which only those wait for who ask for it

        return AdamW8bit(rows, **options)
    return torch.optim.AdamW(rows, fused=True, **options)


def check_groups(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Every parameter of a model that is to be trained is in a group."""
    grouped = {id(p) for group in optimizer.param_groups for p in group["params"]}
    for name, p in model.named_parameters():
        assert id(p) in grouped or not p.requires_grad, f"{name} is trained by no group"


def lr_factor(cfg: TrainConfig, step: int) -> float:
    """Share of the base learning rate at a step: linear warm-up, then constant or half a cosine down to 2 %."""
    warm = min(1.0, (step + 1) / max(1, cfg.warmup))
    if cfg.schedule == "constant":
        return warm
    return warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / cfg.n_steps)))
