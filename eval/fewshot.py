"""Few-shot tuning: policies from few demonstrations, from scratch and pretrained on circles. Section 4.4.

python -m eval.fewshot --config_path configs/fewshot/suite.yaml
python -m eval.fewshot --config_path configs/fewshot/suite.yaml --policies "[para]" --pretrain "[3d]" --demos "[10]"

Trains and rolls out what is missing of the named cells, and reports all that is there.
"""

import itertools
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import yaml

from eval.fewshot_report import report
from eval.rollout import Config as RolloutConfig
from eval.suites import N_EACH, N_POSITIONS
from eval.training import Training, failure
from videopolicy.config import dump, launch, load
from videopolicy.data.files import make_folder, replace
from videopolicy.data.lerobot import Dataset
from videopolicy.errors import BadInput, choices

Kind = Literal["para", "regression"]
Pretrain = Literal["scratch", "2d", "3d"]
CONFIGS = Path(__file__).parent.parent / "configs/fewshot"


@dataclass(frozen=True)
class Config:
    """Which cells to fill, from which data, and at what cost."""

    output: Path = Path("runs/fewshot")
    robot: Path = Path("data/grid")  # demonstrations to tune on
    circles: Path = Path("data/circles")  # demonstrations to pretrain on, of `eval.collect --overlay circle`
    policies: tuple[Kind, ...] = ("para", "regression")
    pretrain: tuple[Pretrain, ...] = ("scratch", "2d", "3d")
    demos: tuple[int, ...] = (1, 3, 5, 10, 20, 256)  # the dataset's whole number: from scratch alone, the upper bound
    seeds: tuple[int, ...] = (0, 1)  # of the demonstrations' choice and of the weights
    n_episodes: int = 50  # of each seed
    n_steps_pretrain: int = 1300
    n_steps: int = 400  # of tuning, and from scratch
    n_steps_all: int = 1300  # from all demonstrations
    n_parallel: int = 2  # trainings at a time, of one core each


@dataclass(frozen=True)
class Cell:
    """One policy: a head, what it began as, and what it was shown."""

    kind: Kind
    pretrain: Pretrain
    demos: int
    seed: int

    @property
    def name(self) -> str:
        return f"{self.kind}_{self.pretrain}_{self.demos}_{self.seed}"


def main(cfg: Config) -> dict:
    print(dump(cfg))
    n_all = _check(cfg)
    cells = cells_of(cfg, n_all)
    make_folder(cfg.output)

    # Pretrain once for each head and kind, whatever the seed of tuning.
    wanted = {(c.kind, c.pretrain): None for c in cells if c.pretrain != "scratch"}
    _train(cfg, [_pretraining(cfg, kind, pretrain) for kind, pretrain in wanted])
    _train(cfg, [_tuning(cfg, cell, n_all) for cell in cells])

    # Roll out all policies of one number of demonstrations together: simulators start once.
    for demos in cfg.demos:
        mine = [c for c in cells if c.demos == demos]
        if mine:
            _roll_out(cfg, demos, mine)
    return report(cfg.output, cfg.robot, cfg.circles)


def cells_of(cfg: Config, n_all: int) -> list[Cell]:
    """The named cells; from all `n_all` demonstrations none is pretrained."""
    every = dict.fromkeys(itertools.product(cfg.policies, cfg.pretrain, cfg.demos, cfg.seeds))
    found = [Cell(*each) for each in every if each[2] < n_all or each[1] == "scratch"]
    if not found:
        raise BadInput(
            f"pretrain is {list(cfg.pretrain)}, but all {n_all} demos are only from scratch; allowed: scratch"
        )
    return found


def _check(cfg: Config) -> int:
    """The number of robot demonstrations; `BadInput` for what cannot be run."""
    for name, allowed in (("policies", get_args(Kind)), ("pretrain", get_args(Pretrain))):
        for value in getattr(cfg, name):
            if value not in allowed:
                raise choices(name, value, allowed)
    for name in ("policies", "pretrain", "demos", "seeds"):
        if not getattr(cfg, name):
            raise BadInput(f"{name} is empty; allowed: at least one")
    for name in ("n_episodes", "n_steps_pretrain", "n_steps", "n_steps_all", "n_parallel"):
        if getattr(cfg, name) < 1:
            raise BadInput(f"{name} is {getattr(cfg, name)}; allowed: at least 1")
    if min(cfg.seeds) < 0:
        raise BadInput(f"seeds has {min(cfg.seeds)}; allowed: from 0 on")
    n_all = len(Dataset(cfg.robot))
    for demos in cfg.demos:
        if not 1 <= demos <= n_all:
            raise BadInput(f"demos has {demos}; allowed: 1 to the {n_all} demonstrations of {cfg.robot}")
    if cfg.n_episodes > N_POSITIONS * N_EACH:
        raise BadInput(f"n_episodes is {cfg.n_episodes}; allowed: 1 to {N_POSITIONS * N_EACH}, which few_shot has")
    if any(pretrain != "scratch" for pretrain in cfg.pretrain):
        overlay = Dataset(cfg.circles).overlay or {}
        if overlay.get("kind") != "circle" or overlay.get("robot") == "shown":
            raise BadInput(f"circles is {cfg.circles}, in which a robot is seen; allowed: data of --overlay circle")
    return n_all


def _pretraining(cfg: Config, kind: Kind, pretrain: Pretrain) -> Training:
    options: dict[str, object] = {"head.kind": kind, "data.root": cfg.circles}
    run = pretrained(cfg.output, kind, pretrain)
    return training(run, f"pretrain_{pretrain}.yaml", cfg.n_steps_pretrain, options)


def pretrained(output: Path, kind: str, pretrain: str) -> Path:
    return output / f"pretrain/{kind}_{pretrain}"


def _tuning(cfg: Config, cell: Cell, n_all: int) -> Training:
    options: dict[str, object] = {"head.kind": cell.kind, "data.root": cfg.robot, "train.seed": cell.seed}
    options |= {"data.n_train_episodes": cell.demos, "data.subset_seed": cell.seed}
    if cell.pretrain != "scratch":
        options["init_from"] = pretrained(cfg.output, cell.kind, cell.pretrain)
    n_steps = cfg.n_steps_all if cell.demos == n_all else cfg.n_steps
    return training(cfg.output / "tune" / cell.name, "tune.yaml", n_steps, options)


def training(run: Path, recipe: str, n_steps: int, options: dict[str, object]) -> Training:
    """Of that recipe, for so many steps."""
    length = {"train.n_steps": n_steps, "train.val_every": n_steps, "train.warmup": min(40, max(1, n_steps // 10))}
    return Training("train_stages/light.py", CONFIGS / recipe, run, {**options, **length})


def _train(cfg: Config, trainings: Sequence[Training]) -> None:
    """Run what is not done, some at a time; `BadInput` with the last line of the first that fails."""
    missing = [t for t in trainings if not t.done()]
    print(f"{len(trainings) - len(missing)} of {len(trainings)} trainings are done", flush=True)
    with ThreadPoolExecutor(cfg.n_parallel) as pool:
        jobs = [pool.submit(_run, t) for t in missing]
        try:
            for job in jobs:
                job.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _run(one: Training) -> None:
    run, log = one.run, one.run.with_suffix(".log")
    make_folder(run.parent)
    print(f"[{run.name}] {' '.join(one.words())}", flush=True)
    with log.open("w") as file:
        one_core = {**os.environ, "OMP_NUM_THREADS": "1"}
        found = subprocess.run(one.command(), stdout=file, stderr=subprocess.STDOUT, env=one_core)
    if found.returncode:
        raise failure(f"training of {run}", found.returncode, log)
    print(f"[{run.name}] done", flush=True)


def _roll_out(cfg: Config, demos: int, cells: Sequence[Cell]) -> None:
    """Beside policies that were rolled out before, which stay in the report."""
    folder = cfg.output / f"rollout/{demos}"
    make_folder(folder)
    path = folder / "config.yaml"
    before = yaml.safe_load(path.read_text())["policies"] if path.is_file() else {}
    policies = before | {c.name: str(cfg.output / "tune" / c.name) for c in cells}
    file = folder / "suite.yaml"
    asked = {"output": str(folder), "policies": policies, "n_episodes": cfg.n_episodes}
    recipe = yaml.safe_load((CONFIGS / "rollout.yaml").read_text())
    replace(file, lambda to: to.write_text(yaml.safe_dump(recipe | asked)))
    load(RolloutConfig, ["--config_path", str(file)])
    print(f"[rollout of {demos}] {len(policies)} policies", flush=True)
    found = subprocess.run([sys.executable, "-m", "eval.rollout", "--config_path", str(file)])
    if found.returncode:
        raise BadInput(f"rollouts of {folder} ended with status {found.returncode}; the same command continues")


if __name__ == "__main__":
    launch(main, Config)
