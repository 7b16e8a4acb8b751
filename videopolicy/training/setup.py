"""How long and how fast any stage trains, and on what device."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from accelerate import Accelerator
from torch.distributed import is_initialized

from videopolicy.errors import BadInput, at_least_one
from videopolicy.training.launch import check_launch, check_world
from videopolicy.training.log import Tracker, check_tracker
from videopolicy.training.memory import keep_memory
from videopolicy.training.precision import Precision
from videopolicy.training.zero import check_zero, plain_processes, zero_stage

OptimizerName = Literal["adamw", "adamw8bit"]
MOST_THREADS = 1024


@dataclass(frozen=True)
class TrainConfig:
    """How long and how fast."""

    n_steps: int = 4000
    batch_size: int = 16  # over all processes
    accumulate: int = 1  # parts that a process computes its share of a batch in, one after another
    warmup: int = 200  # steps
    schedule: Literal["constant", "cosine"] = "constant"
    optimizer: OptimizerName = "adamw"  # the second keeps its moments in 8 bits each
    weight_decay: float = 0.01
    clip: float = 1.0  # gradient norm
    ema: float = 0.0  # decay per step of the weights' running mean, which then validates and acts; 0: none is kept
    ema_on_cpu: bool = False  # keep it in main memory
    mixed_precision: Precision = "auto"  # bf16 where the device computes in it, otherwise fp32
    n_threads: int = 0  # per process; 0 leaves torch's choice
    num_workers: int = 0  # of the data loader
    log_every: int = 20
    val_every: int = 200
    save_every: int = 500
    tracker: Tracker = "tensorboard"  # beside metrics.jsonl
    seed: int = 0

    def __post_init__(self) -> None:
        at_least_one(self, "n_steps", "batch_size", "accumulate", "log_every", "val_every", "save_every", of="train.")
        for key in ("warmup", "weight_decay", "n_threads", "num_workers", "seed"):
            if not 0 <= getattr(self, key) < math.inf:
                raise BadInput(f"train.{key} is {getattr(self, key)}; allowed: at least 0")
        if self.n_threads > MOST_THREADS:  # OpenMP crashes where it cannot start them
            raise BadInput(f"train.n_threads is {self.n_threads}; allowed: 0 to {MOST_THREADS}")
        if not 0 <= self.ema < 1:
            raise BadInput(f"train.ema is {self.ema}; allowed: 0 to below 1")
        if not self.clip > 0:
            raise BadInput(f"train.clip is {self.clip}; allowed: above 0, .inf for none")


def make_accelerator(cfg: TrainConfig) -> Accelerator:
    """The device, and on a CPU its threads and its memory, which from here on stay with the process.

    Raises `BadInput` for a batch that the processes cannot share, what ZeRO cannot do, what else accelerate was asked
    for, or a tracker that is not installed.
    """
    assert cfg.mixed_precision != "auto", "undecided: see `precision.py`"
    if cfg.n_threads:
        torch.set_num_threads(cfg.n_threads)
    check_launch()
    check_zero(cfg)
    with plain_processes():
        accelerator = Accelerator(mixed_precision="bf16" if cfg.mixed_precision == "bf16" else "no")
    check_world(accelerator.num_processes)
    if zero_stage() and not is_initialized():
        raise BadInput("ZeRO shares what several processes hold, and this is one: --num_processes 2 or more")
    if accelerator.device.type == "cpu":
        keep_memory()
    if cfg.batch_size % (accelerator.num_processes * cfg.accumulate):
        raise BadInput(
            f"train.batch_size is {cfg.batch_size}; allowed: multiples of the {accelerator.num_processes} processes x"
            f" train.accumulate {cfg.accumulate}"
        )
    check_tracker(cfg.tracker)
    return accelerator
