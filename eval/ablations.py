"""Ablations of the video backbone: trains and rolls out what is missing of a table's rows, and writes it.

python -m eval.ablations --scale cpu
python -m eval.ablations --scale cpu --rows "[core]"
python -m eval.ablations --scale full --rows "[two_stage, frozen]" --dry_run true

Any number of processes, on any number of machines, may run it on one `output` at once: each row is run by one of them,
and what several rows begin from is trained once. The same command resumes. What is trained is a stage by its own
script; every command stands in the dry run, and each row's logs beside its runs.
"""

import re
import shlex
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from eval.ablation_record import RECORD, keep, rolled_out
from eval.ablation_rows import Plan, Scale, plan, read_rows, read_scale
from eval.ablations_report import report
from eval.jobs import Job, run_all
from eval.lease import Lease
from eval.step import run
from eval.training import Training, failure, read_leaves
from videopolicy.config import dump, launch
from videopolicy.data.files import make_folder
from videopolicy.data.format import read_info
from videopolicy.errors import BadInput, at_least_one

STOPPED = (130, -signal.SIGINT, -signal.SIGTERM)  # how a stage ends that was asked to
Execute = Callable[[list[str], Path, Callable[[int], object]], tuple[int, int]]


@dataclass(frozen=True)
class Config:
    """Which rows of the table, how large, and where."""

    scale: str = "cpu"  # cpu, gpu, full, or the path of a YAML file as configs/ablations/scales has them
    rows: tuple[str, ...] = ()  # names of configs/ablations, or of groups of them, as core; empty: all
    output: Path = Path("runs/ablations")  # rows of a scale stand in a folder of its name
    n_cores: int = 2  # threads of a training, and simulators of a rollout
    launcher: str = "python"  # what starts a stage, as "accelerate launch --config_file configs/accelerate/ddp.yaml"
    report_only: bool = False  # write the table of what is there, and run nothing
    dry_run: bool = False  # print every row with its commands, steps and estimated share, and stop


def main(cfg: Config, execute: Execute = run) -> dict:
    print(dump(cfg))
    at_least_one(cfg, "n_cores")
    if not shlex.split(cfg.launcher):
        raise BadInput(f"launcher is {cfg.launcher!r}; allowed: a command, as python or accelerate launch")
    name, scale = read_scale(cfg.scale)
    folder = cfg.output / name
    rows = read_rows(cfg.rows, name, scale)
    plans = [plan(each, row, scale, folder, cfg.n_cores) for each, row in rows.items()]
    if cfg.dry_run:
        return describe(plans, cfg.launcher)
    every = [plan(each, row, scale, folder, cfg.n_cores) for each, row in read_rows((), name, scale).items()]
    make_folder(folder)
    failed = {}
    if not cfg.report_only:
        missing = [p for p in plans if not ((p.folder / RECORD).is_file() and rolled_out(p))]
        print(f"{len(plans) - len(missing)} of {len(plans)} rows are finished", flush=True)
        failed = run_all(jobs(missing, cfg, execute), folder / "leases", after=partial(report, folder, every))
    summary = report(folder, every)
    if failed:
        raise BadInput("; ".join(f"{job} failed: {why}" for job, why in failed.items()))
    return summary


def jobs(plans: Sequence[Plan], cfg: Config, execute: Execute) -> list[Job]:
    """A job for each row, which needs its stage one, which needs its data."""

    def carry_out(command: list[str], log: Path, lease: Lease) -> int:
        make_folder(log.parent)
        print(shlex.join(command), flush=True)
        status, peak = execute(command, log, lease.works)
        if status in STOPPED and not lease.lost:
            raise KeyboardInterrupt
        if status and not lease.lost:
            raise failure(log.stem, status, log)
        return peak

    def data(root: Path, scale: Scale) -> Job:
        recipe = scale.collections.get(str(root))

        def collect(lease: Lease) -> None:
            assert recipe is not None
            options = ["--output", str(root), "--n_workers", str(cfg.n_cores)]
            command = [sys.executable, "-m", "eval.collect", "--config_path", str(recipe), *options]
            carry_out(command, cfg.output / f"collect_{root.name}.log", lease)

        name = re.sub(r"[^\w-]+", "-", str(root))
        return Job(f"data_{name}", (), partial(_collected, root, recipe), collect)

    def stage(training: Training, lease: Lease) -> int:
        words = shlex.split(cfg.launcher)
        return carry_out(training.command([sys.executable] if words == ["python"] else words), training.log, lease)

    def row(p: Plan, lease: Lease) -> None:
        peaks = [0 if p.joint.done() else stage(p.joint, lease)]
        if not lease.lost:
            command = [sys.executable, *p.rollout_words]
            peaks.append(carry_out(command, p.folder / "rollout.log", lease))
        if not lease.lost:
            keep(p, max(peaks))

    def job(p: Plan) -> Job:
        needs = [data(p.data, p.scale)]
        if p.video is not None:
            needs = [Job(f"video_{p.video.run.name}", tuple(needs), p.video.done, partial(stage, p.video))]
        return Job(f"row_{p.name}", tuple(needs), partial(rolled_out, p), partial(row, p))

    return [job(p) for p in plans]


def _collected(root: Path, recipe: Path | None) -> bool:
    """Whether a dataset is whole; `BadInput` where nothing says how to collect what is not there."""
    there = (root / "meta/info.json").is_file()
    if recipe is None and not there:
        raise BadInput(
            f"data.root is {root}, which is not there; allowed: a dataset, or one of the scale's collections"
        )
    return there and (recipe is None or read_info(root)["total_episodes"] >= read_leaves(recipe)["grid.n_positions"])


def describe(plans: Sequence[Plan], launcher: str = "python") -> dict:
    """Print every row with its commands, steps and share of the whole; returns shares by name."""
    stages = {p.video.run.name: p.video for p in plans if p.video is not None}
    seconds = {f"video/{name}": v.n_steps * plans[0].scale.seconds["video"] for name, v in stages.items()}
    seconds |= {p.name: p.seconds for p in plans}
    whole = sum(seconds.values())

    def say(name: str, steps: str, title: str, training: Training) -> None:
        print(f"\n{name}: {steps}, {100 * seconds[name] / whole:.1f} % of all ({seconds[name] / 60:.0f} min): {title}")
        print(f"  {launcher} {shlex.join(training.words())}")

    print("Estimated, not measured: minutes are the scale's `seconds` times steps and episodes.")
    for root in dict.fromkeys(p.data for p in plans):
        recipe = plans[0].scale.collections.get(str(root))
        print(f"\ndata {root}: {'must be there' if recipe is None else f'where it is missing, by {recipe}'}")
    for name, training in stages.items():
        users = ", ".join(p.name for p in plans if p.video is not None and p.video.run.name == name)
        say(f"video/{name}", f"{training.n_steps} steps", f"stage one of {users}", training)
    for p in plans:
        steps = f"{p.video.n_steps if p.video else 0} + {p.joint.n_steps} steps, {p.n_episodes} episodes"
        say(p.name, steps, p.row.title, p.joint)
        print(f"  python {shlex.join(p.rollout_words)}")
    print(f"\n{len(plans)} rows, {whole / 3600:.1f} hours of this scale's machine, estimated")
    return {name: value / whole for name, value in seconds.items()}


if __name__ == "__main__":
    launch(main, Config)
