"""Whether processes share what each would hold: ZeRO (Rajbhandari et al. 2020), as `accelerate launch` is asked for it.

Stage 2 shares gradients and moments, stage 3 weights as well. `sharding.py` does it.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING

from videopolicy.errors import BadInput, choices

if TYPE_CHECKING:
    from videopolicy.training.setup import TrainConfig

DEEPSPEED, STAGE = "ACCELERATE_USE_DEEPSPEED", "ACCELERATE_DEEPSPEED_ZERO_STAGE"  # what accelerate's launcher sets

OTHERS = (  # settings of its `deepspeed_config` that would change something, and are not supported
    "ACCELERATE_DEEPSPEED_CONFIG_FILE",
    "ACCELERATE_DEEPSPEED_OFFLOAD_OPTIMIZER_DEVICE",
    "ACCELERATE_DEEPSPEED_OFFLOAD_PARAM_DEVICE",
)


def zero_stage() -> int:
    """0 where every process holds everything."""
    if os.environ.get(DEEPSPEED, "false") != "true":
        return 0
    return int(os.environ.get(STAGE, "2"))


@contextmanager
def plain_processes() -> Iterator[None]:
    """Accelerate is not told of DeepSpeed meanwhile: what it sets up are data-parallel processes, as without it."""
    asked = os.environ.pop(DEEPSPEED, None)
    try:
        yield
    finally:
        if asked is not None:
            os.environ[DEEPSPEED] = asked


def check_zero(cfg: "TrainConfig") -> None:
    """`BadInput` for what cannot be trained in shares."""
    stage = zero_stage()
    if not stage:
        return
    if stage not in (2, 3):
        raise choices("zero_stage", stage, (2, 3))
    for name in OTHERS:
        if os.environ.get(name, "none") not in ("none", ""):
            raise BadInput(f"{name.removeprefix('ACCELERATE_').lower()} is {os.environ[name]!r}; allowed: none")
    if find_spec("deepspeed") is None:
        raise BadInput("ZeRO needs DeepSpeed, which is not installed: pip install -e '.[zero]' -c constraints.txt")
    if cfg.optimizer != "adamw":
        raise BadInput(f"train.optimizer is {cfg.optimizer}; allowed with ZeRO: adamw")
    if cfg.ema:
        at_most(2, f"with train.ema {cfg.ema}")


def check_compile(compile: str) -> None:
    """`BadInput` for compiled blocks: DeepSpeed's hooks stand inside them."""
    if zero_stage() and compile != "none":
        raise BadInput(f"backbone.compile is {compile}; allowed with ZeRO: none")


def at_most(stage: int, where: str) -> None:
    """`BadInput` for a higher stage: at stage 3 no process has all weights, and some things need them."""
    if zero_stage() > stage:
        raise BadInput(f"zero_stage is {zero_stage()}; allowed {where}: {stage} (configs/accelerate/zero{stage}.yaml)")
