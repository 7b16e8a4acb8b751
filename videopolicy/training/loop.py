"""The training loop of every stage: steps, metrics, checkpoints, and an orderly end on signals."""

import math
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Literal

import torch
from accelerate import Accelerator
from torch import nn
from torch.utils.data import DataLoader

from videopolicy.config import dump, to_dict
from videopolicy.data.dataset import ClipDataset, batch_indices
from videopolicy.errors import BadInput
from videopolicy.processes import mean_over_processes
from videopolicy.progress import Progress
from videopolicy.provenance import commit
from videopolicy.training import checkpoint
from videopolicy.training.average import WeightAverage
from videopolicy.training.log import Metrics
from videopolicy.training.memory import keep_memory
from videopolicy.training.precision import Precision
from videopolicy.training.resume import check_same


@dataclass(frozen=True)
class TrainConfig:
    """How long and how fast."""

    n_steps: int = 4000
    batch_size: int = 16  # over all processes
    warmup: int = 200  # steps
    schedule: Literal["constant", "cosine"] = "constant"
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
    seed: int = 0

    def __post_init__(self) -> None:
        for key in ("n_steps", "batch_size", "log_every", "val_every", "save_every"):
            if getattr(self, key) < 1:
                raise BadInput(f"train.{key} is {getattr(self, key)}; allowed: at least 1")
        for key in ("warmup", "weight_decay", "n_threads", "num_workers"):
            if not 0 <= getattr(self, key) < math.inf:
                raise BadInput(f"train.{key} is {getattr(self, key)}; allowed: at least 0")
        if not 0 <= self.ema < 1:
            raise BadInput(f"train.ema is {self.ema}; allowed: 0 to below 1")
        if not self.clip > 0:
            raise BadInput(f"train.clip is {self.clip}; allowed: above 0, .inf for none")


def make_accelerator(cfg: TrainConfig) -> Accelerator:
    """The device, and on a CPU its threads and its memory, which from here on stay with the process."""
    assert cfg.mixed_precision != "auto", "undecided: see `precision.py`"
    if cfg.n_threads:
        torch.set_num_threads(cfg.n_threads)
    accelerator = Accelerator(mixed_precision="bf16" if cfg.mixed_precision == "bf16" else "no")
    if accelerator.device.type == "cpu":
        keep_memory()
    return accelerator


def make_optimizer(groups: dict[str, tuple[list[nn.Parameter], float]], cfg: TrainConfig) -> torch.optim.Optimizer:
    """AdamW over named groups of (parameters, learning rate); every parameter is in exactly one."""
    seen = [id(p) for parameters, _ in groups.values() for p in parameters]
    assert len(seen) == len(set(seen)), "a parameter stands in two groups"
    for name, (_, lr) in groups.items():
        if not 0 <= lr < 1:
            raise BadInput(f"the learning rate of {name} is {lr}; allowed: 0 to 1")
    if not seen:
        raise BadInput(f"nothing would be trained: no parameter of {', '.join(groups)} is (backbone.tune?)")
    rows = [{"params": p, "lr": lr, "base_lr": lr, "name": name} for name, (p, lr) in groups.items() if p]
    return torch.optim.AdamW(rows, betas=(0.9, 0.99), weight_decay=cfg.weight_decay, fused=True)


def lr_factor(cfg: TrainConfig, step: int) -> float:
    """Share of the base learning rate at a step: linear warm-up, then constant or half a cosine down to 2 %."""
    warm = min(1.0, (step + 1) / max(1, cfg.warmup))
    if cfg.schedule == "constant":
        return warm
    return warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / cfg.n_steps)))


def fit(
    cfg: TrainConfig,
    accelerator: Accelerator,
    objective: nn.Module,
    optimizer: torch.optim.Optimizer,
    clips: ClipDataset,
    draws: Callable[[Sequence[int], int], object],
    validate: Callable[[int], dict[str, float]],
    run: Path,
    config: Any,
    state: dict,
    overfit: bool = False,
) -> dict[str, float]:
    """Train to `cfg.n_steps`, from the run's newest checkpoint if it has one; returns the last validation.

    `config` is the script's whole configuration, `state` what else a checkpoint must know to be loaded.
    `draws(places, step)` makes the randomness of samples at these places of a step's batch. On SIGINT or SIGTERM the
    step is finished, saved, and the process ends with `KeyboardInterrupt`. A loss or gradient that is not finite stops
    before the optimizer step.
    """
    model: nn.Module = objective.to(accelerator.device)
    average = WeightAverage(model, cfg.ema, cfg.ema_on_cpu) if cfg.ema else None
    start = 0
    found = checkpoint.latest(run)
    commits: list[str] = []  # that trained this run, in order
    if found is not None:
        check_same(found, config, state)
        checkpoint.load_model(found, model)
        if average is not None:
            average.load(checkpoint.read_averaged(found))
        before = checkpoint.read_state(found)
        start, commits = before["step"], before.get("commits", [])
        accelerator.print(f"resuming {run} at step {start}")
    acting = average.instead if average is not None else nullcontext
    if start >= cfg.n_steps:
        with acting():
            return validate(start)
    if found is not None:
        checkpoint.load_optimizer(found, optimizer)
    rank, world = accelerator.process_index, accelerator.num_processes
    if cfg.batch_size % world:
        raise BadInput(f"train.batch_size is {cfg.batch_size}; allowed: multiples of the {world} processes")
    places = range(cfg.batch_size)[rank::world]  # of this process's samples in the batch
    batches = [
        batch_indices(len(clips), cfg.batch_size, cfg.seed, s, overfit)[rank::world] for s in range(start, cfg.n_steps)
    ]
    loader = DataLoader(clips, batch_sampler=batches, num_workers=cfg.num_workers)
    wrapped, prepared = accelerator.prepare(objective, optimizer)
    metrics = None
    if accelerator.is_main_process:
        if (now := commit()) not in commits:
            commits = [*commits, now]
        (run / "config.yaml").write_text(dump(config))
        metrics = Metrics(run, start)

    def keep(step: int) -> None:
        if accelerator.is_main_process:
            more, means = {"commits": commits}, average.means if average is not None else None
            checkpoint.save(run, step, model.state_dict(), optimizer, state | more, to_dict(config), means)
        accelerator.wait_for_everyone()

    progress = Progress(run.name, cfg.n_steps, start)
    sums: dict[str, float] = {}
    count, waited, last = 0, 0.0, {}
    with _Signals() as signals:
        mark = time.perf_counter()
        for step, batch in enumerate(loader, start):
            waited += time.perf_counter() - mark
            factor = lr_factor(cfg, step)
            for group in optimizer.param_groups:
                group["lr"] = group["base_lr"] * factor
            batch = {k: v.to(accelerator.device) for k, v in batch.items()}
            wrapped.train()
            with accelerator.autocast():
                losses = wrapped(batch, draws(places, step))
            accelerator.backward(losses["total"])
            norm = accelerator.clip_grad_norm_(wrapped.parameters(), cfg.clip)
            terms = {name: float(value.detach()) for name, value in {**losses, "grad_norm": norm}.items()}
            if not math.isfinite(terms["total"] + terms["grad_norm"]):
                names = [clips.samples[i] for i in batches[step - start]]
                raise FloatingPointError(
                    f"step {step}: loss {terms['total']}, gradient norm {terms['grad_norm']}; nothing was updated."
                    f" Clips (episode, frame): {names}"
                )
            prepared.step()
            prepared.zero_grad()
            if average is not None:
                average.update(step)
            for name, value in terms.items():
                sums[name] = sums.get(name, 0.0) + value
            count += 1
            done = step + 1
            if done % cfg.val_every == 0 or done == cfg.n_steps:
                with acting():
                    last = validate(done)
                if metrics:
                    metrics.write(step, **{f"val/{k}": v for k, v in last.items()})
            if done % cfg.log_every == 0 or done == cfg.n_steps:
                values = torch.tensor([*sums.values()], dtype=torch.float64, device=accelerator.device) / count
                means = dict(zip(sums, mean_over_processes(values).tolist(), strict=True))
                sums, count = {}, 0
                if metrics:
                    seconds = time.perf_counter() - progress.started
                    rates = {g["name"]: g["lr"] for g in optimizer.param_groups}
                    metrics.write(
                        step,
                        **means,
                        **{f"lr/{k}": v for k, v in rates.items()},
                        seconds=metrics.spent + seconds,
                        wait_share=waited / seconds,
                    )
                    progress.update(done, " ".join(f"{k} {v:.3f}" for k, v in means.items() if k != "total"))
            caught = signals.caught
            if world > 1:  # all ranks stop at the same step
                caught = bool(accelerator.reduce(torch.tensor(float(caught), device=accelerator.device)))
            if caught or done % cfg.save_every == 0 or done == cfg.n_steps:
                keep(done)
            if caught:
                accelerator.print(f"\nsaved step {done} of {run}")
                raise KeyboardInterrupt
            mark = time.perf_counter()
    progress.close()
    return last


class _Signals:
    """Notes the first SIGINT or SIGTERM; a second one ends the process as usual."""

    def __enter__(self) -> "_Signals":
        self.caught = False
        self.before = {s: signal.signal(s, self._note) for s in (signal.SIGINT, signal.SIGTERM)}
        return self

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self.caught = True
        signal.signal(number, self.before[signal.Signals(number)])

    def __exit__(self, *_: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)
