"""In what precision networks are trained: bfloat16 where the machine computes in it, which elsewhere is far slower."""

from dataclasses import replace
from typing import Any, Literal

import torch
from accelerate import PartialState
from accelerate.utils import parse_flag_from_env

from videopolicy.training import checkpoint
from videopolicy.training.zero import plain_processes

Precision = Literal["auto", "fp32", "bf16"]


def has_bf16(device: str) -> bool:
    """Whether a type of device ("cuda", "cpu") has instructions for bfloat16; a CPU without imitates them."""
    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return any(has for name, has in torch.cpu.get_capabilities().items() if name.endswith("bf16"))


def with_precision(cfg: Any) -> Any:
    """A script's configuration with `train.mixed_precision` decided; what is decided is printed and saved.

    `auto` is what the run was begun with, or for a new one what the device has that accelerate will use.
    """
    if cfg.train.mixed_precision != "auto":
        return cfg
    found = checkpoint.latest(cfg.run)
    if found is not None:
        chosen = checkpoint.read_config(found)["train"]["mixed_precision"]
    else:
        with plain_processes():
            device = PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU")).device  # as Accelerator will make it
        chosen = "bf16" if has_bf16(device.type) else "fp32"
    return replace(cfg, train=replace(cfg.train, mixed_precision=chosen))
