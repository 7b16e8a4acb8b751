"""Training that is killed, fed what is not finite, asked to stop, or started twice."""

import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import builders
import torch
from flows import SPEED, config
from safetensors.torch import load_file

from faults.fault import Outcome, killed, run, small_disk, start, wait
from train_stages import light
from videopolicy.config import guarded
from videopolicy.data.dataset import ClipDataset
from videopolicy.data.files import read_jsonl
from videopolicy.training import checkpoint
from videopolicy.training.engine import Replicated


def train(run: Path, data: Path, n_steps: int, save_every: int = 1, head: str = "para") -> None:
    """What `train_stages/light.py` does, on a small dataset."""
    keys = {"head__kind": head, "train__n_steps": n_steps, "train__save_every": save_every, "train__val_every": 1000}
    guarded(lambda: light.main(config(light.Config, "light", run=run, data__root=data, **keys)))


def whole(folder: Path, n_steps: int, head: str = "para") -> tuple[Path, Path]:
    """A dataset, and a run on it that nothing happened to."""
    data, plain = builders.write_dataset(folder / "data"), folder / "whole"
    assert run(lambda: train(plain, data, n_steps, head=head), folder / "log") == 0, (folder / "log").read_text()
    return data, plain


def same(one: Path, other: Path) -> bool:
    """Whether two runs have the same losses, norms and weights, bit for bit."""
    records = [
        [{k: v for k, v in r.items() if k not in SPEED} for r in read_jsonl(p / "metrics.jsonl")] for p in (one, other)
    ]
    a, b = (load_file(checkpoint.find(p) / checkpoint.MODEL) for p in (one, other))
    return records[0] == records[1] and a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def step_of(run: Path) -> int:
    found = checkpoint.latest(run) if run.is_dir() else None
    return 0 if found is None else checkpoint.read_state(found)["step"]


def until(condition: Callable[[], bool], pid: int, patience: float = 120.0) -> None:
    end = time.monotonic() + patience
    while not condition() and time.monotonic() < end and Path(f"/proc/{pid}").exists():
        time.sleep(0.01)


def kill_training(folder: Path, n: int) -> Outcome:
    """kill -9 at random moments; the same command goes on each time, and ends where the uninterrupted run does."""
    n_steps, rng, lost, survived = 4 * n + 4, random.Random(0), 0, 0
    data, plain = whole(folder, n_steps)
    path = folder / "run"
    for _ in range(n):
        before = step_of(path)
        pid = start(lambda: train(path, data, n_steps), folder / "log")
        until(lambda before=before: (path / f"step_{before + 1:06d}").exists(), pid)
        time.sleep(rng.uniform(0, 0.5))
        survived += killed(pid) == -signal.SIGKILL
        lost += step_of(path) <= before  # at least the step that was seen to be saved is there
    if run(lambda: train(path, data, n_steps), folder / "log") or not same(path, plain):
        return Outcome(n, 0, lost, "ended elsewhere than the uninterrupted run")
    return Outcome(n, survived, lost, f"{n_steps} steps, all bit for bit")


def stop_training(folder: Path, n: int) -> Outcome:
    """SIGTERM and Ctrl-C: saved, status 130; the same command goes on to the same end."""
    n_steps, survived = 3 * n + 3, 0
    data, plain = whole(folder, n_steps)
    path = folder / "run"
    for i in range(n):
        before = step_of(path)
        pid = start(lambda: train(path, data, n_steps, save_every=1000), folder / "log")
        until(lambda before=before: any(r["step"] > before for r in read_jsonl(path / "metrics.jsonl")), pid)
        os.kill(pid, (signal.SIGTERM, signal.SIGINT)[i % 2])
        survived += wait(pid) == 130 and step_of(path) > before
    assert run(lambda: train(path, data, n_steps), folder / "log") == 0
    return Outcome(n, survived if same(path, plain) else 0, 0)


def not_finite(folder: Path, n: int) -> Outcome:
    """NaN in a batch, and infinite gradients: nothing is updated, and without the fault the run goes on."""
    n_steps, survived = n + 2, 0
    data, plain = whole(folder, n_steps, "regression")
    path = folder / "run"
    for i in range(n):
        log = folder / f"log{i}"

        def trains(i: int = i) -> None:
            calls, get, backward = [0], ClipDataset.__getitem__, Replicated.backward

            def poisoned(self: ClipDataset, index: int) -> dict[str, torch.Tensor]:
                calls[0] += 1
                sample = get(self, index)
                if calls[0] > 2:  # of two samples a batch
                    sample["position"] = torch.full_like(sample["position"], torch.nan)
                return sample

            def infinite(self: Replicated, loss: torch.Tensor) -> None:
                backward(self, loss)
                calls[0] += 1
                if calls[0] > 1:
                    next(p for p in self.wrapped.parameters() if p.grad is not None).grad.fill_(torch.inf)

            if i % 2:
                Replicated.backward = infinite  # type: ignore[method-assign]
            else:
                ClipDataset.__getitem__ = poisoned  # type: ignore[method-assign]
            train(path, data, n_steps, head="regression")

        before = step_of(path)
        status, said = run(trains, log), log.read_text()
        told = status == 1 and "nothing was updated" in said and "Traceback" not in said
        survived += told and step_of(path) in (before, before + 1)
    assert run(lambda: train(path, data, n_steps, head="regression"), folder / "log") == 0, (folder / "log").read_text()
    return Outcome(n, survived if same(path, plain) else 0, 0)


def small_disks(folder: Path, n: int) -> Outcome:
    """A disk on which three checkpoints have no room: refused before the first step."""
    data, survived, mounted = builders.write_dataset(folder / "data"), 0, []
    for i in range(n):
        log, mount = folder / f"log{i}", folder / f"disk{i}"
        mount.mkdir()

        def trains(i: int = i, mount: Path = mount) -> None:
            size = 2**20 * (i + 1)
            print(is_disk := small_disk(mount, size))
            if not is_disk:
                shutil.disk_usage = lambda _path: SimpleNamespace(free=size)  # what the system would say of one
            train(mount / "run", data, 2)

        status, said = run(trains, log), log.read_text()
        mounted.append(said.startswith("True"))
        survived += status == 2 and "checkpoints need about" in said
    return Outcome(n, survived, 0, f"{sum(mounted)} of them a tmpfs")


def two_trainers(folder: Path, n: int) -> Outcome:
    """A second process in the same run folder is refused, and the first one does not notice."""
    n_steps, survived = 12, 0
    data, plain = whole(folder, n_steps)
    for i in range(n):
        path, log = folder / f"run{i}", folder / f"log{i}"
        first = start(lambda path=path: train(path, data, n_steps), folder / "log")
        until(lambda path=path: step_of(path) > 0, first)
        second = run(lambda path=path: train(path, data, n_steps), log)
        refused = second == 2 and f"process {first} on " in log.read_text()
        survived += wait(first) == 0 and refused and same(path, plain)
    return Outcome(n, survived, 0)
