"""In what precision networks are trained: bfloat16 where the machine computes in it, which elsewhere is far slower."""

from dataclasses import replace
from typing import Any, Literal

import torch

Precision = Literal["auto", "fp32", "bf16"]


def has_bf16() -> bool:
    """Whether the device that a script would choose has instructions for bfloat16; a CPU without imitates them."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return any(has for name, has in torch.cpu.get_capabilities().items() if name.endswith("bf16"))


def with_precision(cfg: Any) -> Any:
    """A script's configuration with `train.mixed_precision` decided; what is decided is printed and saved."""
    if cfg.train.mixed_precision != "auto":
        return cfg
    return replace(cfg, train=replace(cfg.train, mixed_precision="bf16" if has_bf16() else "fp32"))
