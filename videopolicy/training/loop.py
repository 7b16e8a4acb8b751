"""The training loop of every stage: steps, metrics, checkpoints, and an orderly end on signals."""

import math
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import closing, nullcontext
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from videopolicy.backbones.unet import as_compiled
from videopolicy.batch import forget, mean_counts, settle
from videopolicy.config import dump, to_dict
from videopolicy.data.dataset import ClipDataset
from videopolicy.data.files import reading, replace
from videopolicy.data.mixture import Mixture
from videopolicy.errors import BadInput
from videopolicy.operations import Operations
from videopolicy.processes import mean_over_processes
from videopolicy.progress import Progress
from videopolicy.provenance import commit
from videopolicy.training import checkpoint, restoring, saving
from videopolicy.training.average import WeightAverage
from videopolicy.training.batches import Batches, Part
from videopolicy.training.engine import Engine, make_engine
from videopolicy.training.log import Metrics
from videopolicy.training.objective import Objective
from videopolicy.training.optimizer import check_groups, lr_factor
from videopolicy.training.resume import check_same
from videopolicy.training.setup import TrainConfig
from videopolicy.training.throughput import Throughput
from videopolicy.training.zero import zero_stage


def fit(
    cfg: TrainConfig,
    accelerator: Accelerator,
    objective: Objective,
    optimizer: torch.optim.Optimizer,
    clips: ClipDataset | Mixture,
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
    rank, world = accelerator.process_index, accelerator.num_processes
    model: nn.Module = objective.to(accelerator.device)
    check_groups(model, optimizer)
    average = WeightAverage(model, cfg.ema, cfg.ema_on_cpu) if cfg.ema else None
    if accelerator.is_main_process:
        checkpoint.sweep(run)
    state = state | {"dataset": clips.digest, "camera_size": list(clips.size)}
    start = 0
    found = checkpoint.latest(run)
    commits: list[str] = []  # that trained this run, in order
    if found is not None:
        if table := check_same(found, config, state):
            accelerator.print(f"warning: {table}")
        restoring.load_model(found, model)
        if average is not None:
            with reading(found / checkpoint.AVERAGED):
                average.load(restoring.read_averaged(found))
        before = checkpoint.read_state(found)
        start, commits = before["step"], before.get("commits", [])
        accelerator.print(f"resuming {run} at step {start}")
    acting = average.instead if average is not None else nullcontext
    if start >= cfg.n_steps:
        with acting():
            return validate(start)
    moments = restoring.read_optimizer(found, optimizer.param_groups) if found is not None else None
    batches = Batches(cfg, clips, draws, start, rank, world, accelerator.device, overfit)
    throughput = Throughput(accelerator.device, world, cfg.batch_size)
    metrics = None
    if accelerator.is_main_process:
        if (now := commit()) not in commits:
            commits = [*commits, now]
        replace(run / "config.yaml", lambda path: path.write_text(dump(config)))
        metrics = Metrics(run, start, cfg.tracker, to_dict(config))

    progress = Progress(run.name, cfg.n_steps, start)
    sums, count = _window(found, rank, world)
    last: dict[str, float] = {}
    since = time.perf_counter()
    with _Signals() as signals, closing(metrics) if metrics else nullcontext():
        # The first batch is looked at by the whole model, before processes may each hold a share of it.
        batch = batches.read(start)
        if start == 0:
            with as_compiled():
                _show(accelerator, objective, batch)
        if metrics and not zero_stage():  # counting takes whole gradients
            throughput.flop_per_sample = _operations(accelerator, objective, batch[0])
        engine = make_engine(accelerator, objective, optimizer, cfg)
        if moments is not None:
            engine.load_optimizer(moments)
            del moments

        def keep(step: int) -> None:
            weights, moments = engine.weights(), engine.optimizer_state()
            window: dict[str, Any] | None = None  # what has not been logged yet
            if count:
                here = torch.tensor([[*sums.values()]], dtype=torch.float64, device=accelerator.device)
                window = {"names": [*sums], "sums": accelerator.gather(here).tolist(), "count": count}
            if accelerator.is_main_process:
                more, kept = {"commits": commits, "window": window}, average.means if average is not None else None
                saving.save(run, step, weights, moments, state | more, to_dict(config), kept)
            accelerator.wait_for_everyone()

        for step in range(start, cfg.n_steps):
            factor = lr_factor(cfg, step)
            for group in optimizer.param_groups:
                group["lr"] = group["base_lr"] * factor
            losses = _accumulate(accelerator, objective, engine, batch)
            if step + 1 < cfg.n_steps:  # a GPU still computes: the next batch costs it no time
                batch = batches.read(step + 1)
            terms = {name: float(value) for name, value in losses.items()}
            refuse = partial(_refuse, step, terms["total"], batches.names(step))
            refuse(None)
            terms["grad_norm"] = engine.step(refuse)
            settle(model)
            if average is not None:
                average.update(step)
            for name, value in terms.items():
                sums[name] = sums.get(name, 0.0) + value
            count += 1
            done = step + 1
            if done % cfg.log_every == 0 or done == cfg.n_steps:
                values = torch.tensor([*sums.values()], dtype=torch.float64, device=accelerator.device) / count
                means = dict(zip(sums, mean_over_processes(values).tolist(), strict=True))
                if metrics:
                    seconds = time.perf_counter() - since
                    metrics.write(
                        step,
                        **means,
                        **{f"lr/{g['name']}": g["lr"] for g in optimizer.param_groups},
                        seconds=metrics.spent + time.perf_counter() - progress.started,
                        wait_share=batches.waited / seconds,
                        **throughput.rates(count, seconds),
                    )
                    progress.update(done, " ".join(f"{k} {v:.3f}" for k, v in means.items() if k != "total"))
                sums, count, batches.waited = {}, 0, 0.0
            if done % cfg.val_every == 0 or done == cfg.n_steps:
                with acting(), engine.in_reach(), as_compiled():
                    last = validate(done)
                if metrics:
                    metrics.write(step, **{f"val/{k}": v for k, v in last.items()})
            caught = signals.caught
            if world > 1:  # all ranks stop at the same step
                caught = bool(accelerator.reduce(torch.tensor(float(caught), device=accelerator.device)))
            if caught or done % cfg.save_every == 0 or done == cfg.n_steps:
                keep(done)
            if caught:
                accelerator.print(f"\nsaved step {done} of {run}")
                raise KeyboardInterrupt
            if count == 0:
                since = time.perf_counter()
    progress.close()
    return last


def _window(found: Path | None, rank: int, world: int) -> tuple[dict[str, float], int]:
    """This process's sums, and the number of steps, of what had not been logged when a checkpoint was saved."""
    window = checkpoint.read_state(found).get("window") if found is not None else None
    if found is None or not window:
        return {}, 0
    with reading(found / checkpoint.STATE):
        if len(window["sums"]) != world:  # others now share the batch: their first line has fewer steps
            return {}, 0
        if type(window["count"]) is not int or window["count"] < 0:
            raise BadInput(f"window.count is {window['count']!r}; allowed: a whole number from 0 on")
        return {str(k): float(v) for k, v in zip(window["names"], window["sums"][rank], strict=True)}, window["count"]


@torch.no_grad()
def _show(accelerator: Accelerator, objective: Objective, batch: list[Part]) -> None:
    """Show a model with running statistics its first batch, before it learns from it."""
    objective.train()
    counts = mean_counts([objective.counted(part.data, part.draws) for part in batch])
    with accelerator.autocast():
        for part in batch:
            objective(part.data, part.draws, counts)
    settle(objective)


def _operations(accelerator: Accelerator, objective: Objective, part: Part) -> float:
    """Those that training on a part needs, of each of its samples.

    Computed besides, because counting changes the last bits of what it counts; nothing of it stays.
    """
    objective.train()
    devices = [accelerator.device] if accelerator.device.type == "cuda" else []
    with torch.random.fork_rng(devices), Operations() as counter:
        with accelerator.autocast():
            losses = objective(part.data, part.draws)
        trained = [p for p in objective.parameters() if p.requires_grad]
        torch.autograd.grad(losses["total"], trained, allow_unused=True)
    forget(objective)
    return counter.needed / len(part.data["frames"])


def _accumulate(accelerator: Accelerator, objective: Objective, engine: Engine, batch: list[Part]) -> dict[str, Tensor]:
    """Add up the gradients of a batch's parts; the losses' means over them."""
    engine.wrapped.train()
    counts = mean_counts([objective.counted(part.data, part.draws) for part in batch])
    sums: dict[str, Tensor] = {}
    for i, part in enumerate(batch):
        torch.manual_seed(part.seed)
        with engine.part(last=i == len(batch) - 1):
            with accelerator.autocast():
                losses = engine.wrapped(part.data, part.draws, counts)
            engine.backward(losses["total"] / len(batch))
        for name, value in losses.items():
            sums[name] = sums.get(name, 0.0) + value.detach() / len(batch)
    return sums


def _refuse(step: int, loss: float, clips: list[tuple], norm: float | None) -> None:
    """Stop at a loss, or a gradient's norm where it is known, that is not finite."""
    if not math.isfinite(loss + (norm or 0.0)):
        found = f"loss {loss}" if norm is None else f"loss {loss}, gradient norm {norm}"
        raise FloatingPointError(f"step {step}: {found}; nothing was updated. Clips (episode, frame): {clips}")


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
