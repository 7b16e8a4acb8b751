"""Trainings that a few-shot policy needs: one on circles unless it begins from scratch, and one on demonstrations."""

import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import yaml

from eval.fewshot_cells import Cell, Config
from videopolicy.data.files import make_folder
from videopolicy.errors import BadInput
from videopolicy.training import checkpoint

OTHER = "name another output, or remove it"
CONFIGS = Path(__file__).parent.parent / "configs/fewshot"


class Damaged(BadInput):
    """A run of which no checkpoint is whole: what needs it cannot be had, the rest can."""


@dataclass(frozen=True)
class Training:
    """A run of train_stages/light.py."""

    run: Path
    n_steps: int
    recipe: str
    options: dict[str, object]

    @property
    def keys(self) -> dict[str, object]:
        """What it changes of its recipe."""
        n = self.n_steps
        length = {"train.n_steps": n, "train.val_every": n, "train.warmup": min(40, max(1, n // 10))}
        return {"run": self.run, **self.options, **length}

    def settings(self) -> dict[str, object]:
        """All that its recipe and its keys say."""
        return dict(leaves(yaml.safe_load((CONFIGS / self.recipe).read_text()))) | self.keys

    def command(self) -> list[str]:
        words = [f"--{name}={value}" for name, value in self.keys.items()]
        script = str(CONFIGS.parent.parent / "train_stages/light.py")
        return [sys.executable, script, f"--config_path={CONFIGS / self.recipe}", *words]

    def done(self) -> bool:
        """`BadInput` where the run is there, and is of other data, another recipe or another source, or damaged."""
        try:
            found = checkpoint.latest(self.run) if self.run.is_dir() else None
        except BadInput as error:
            raise Damaged(f"{error}; remove it, and it is trained anew") from error
        if found is None or (state := checkpoint.read_state(found))["step"] < self.n_steps:
            return False
        asked, made = self.settings(), dict(leaves(checkpoint.read_config(found)))
        if differ := [name for name, value in asked.items() if str(made.get(name)) != str(value)]:
            name = differ[0]
            raise BadInput(f"{self.run} was trained with {name} {made.get(name)}, not {asked[name]}; {OTHER}")
        source = self.options.get("init_from")
        if source is not None:
            digest = checkpoint.weights_digest(checkpoint.find(Path(str(source))))
            if state.get("init_from") != digest:
                raise BadInput(f"{self.run} was tuned from other weights than {source} has now; {OTHER}")
        return True


def trainings_of(cfg: Config, cell: Cell, n_all: int) -> dict[str, Training]:
    """What a cell needs, in order: `pretraining` unless it is from scratch, the same for all seeds, and `tuning`."""
    options: dict[str, object] = {"head.kind": cell.kind, "data.root": cfg.robot, "train.seed": cell.seed}
    options |= {"data.n_train_episodes": cell.demos, "data.subset_seed": cell.seed}
    n_steps = cfg.n_steps_all if cell.demos == n_all else cfg.n_steps
    if cell.pretrain == "equal":
        n_steps += cfg.n_steps_pretrain
    run, found = cfg.output / "tune" / cell.name, {}
    if cell.pretrain in ("2d", "3d"):
        source = cfg.output / f"pretrain/{cell.kind}_{cell.pretrain}"
        about: dict[str, object] = {"head.kind": cell.kind, "data.root": cfg.circles}
        found["pretraining"] = Training(source, cfg.n_steps_pretrain, f"pretrain_{cell.pretrain}.yaml", about)
        options["init_from"] = source
    return found | {"tuning": Training(run, n_steps, "tune.yaml", options)}


def train(trainings: Iterable[Training], n_parallel: int) -> None:
    """Run what is not done, so many at a time; `BadInput` with the last line of the first that fails."""
    missing = [t for t in {t.run: t for t in trainings}.values() if not t.done()]
    missing.sort(key=lambda t: -t.n_steps)  # or the longest would go on alone
    with ThreadPoolExecutor(n_parallel) as pool:
        jobs = [pool.submit(_run, t.run, t.command()) for t in missing]
        try:
            for job in jobs:
                job.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _run(run: Path, command: list[str]) -> None:
    make_folder(run.parent)
    log = run.with_suffix(".log")
    print(f"[{run.name}] {' '.join(command[1:])}", flush=True)
    with log.open("w") as file:
        found = subprocess.run(
            command, stdout=file, stderr=subprocess.STDOUT, env={**os.environ, "OMP_NUM_THREADS": "1"}
        )
    if found.returncode:
        last = (log.read_text().strip().splitlines() or ["nothing"])[-1]
        raise BadInput(f"training of {run} ended with status {found.returncode}: {last} (see {log})")
    print(f"[{run.name}] done", flush=True)


def leaves(tree: dict, prefix: str = "") -> Iterator[tuple[str, object]]:
    """A configuration's keys, as the command line has them, and their values."""
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
