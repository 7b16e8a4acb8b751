"""Trainings that a few-shot policy needs: one on circles unless it begins from scratch, and one on demonstrations."""

import os
import signal
import subprocess
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from eval.fewshot_cells import Cell, Config
from eval.training import Training, failure
from videopolicy.data.files import make_folder

CONFIGS = Path(__file__).parent.parent / "configs/fewshot"


def training(run: Path, recipe: str, n_steps: int, options: dict[str, object]) -> Training:
    """Of that recipe, for so many steps."""
    length = {"train.n_steps": n_steps, "train.val_every": n_steps, "train.warmup": min(40, max(1, n_steps // 10))}
    return Training("train_stages/light.py", CONFIGS / recipe, run, {**options, **length})


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
        if cell.kind == "regression":
            about["augment.limbs"] = 0.0  # they are for heatmaps; it places fewer after them (RESULTS)
        found["pretraining"] = training(source, f"pretrain_{cell.pretrain}.yaml", cfg.n_steps_pretrain, about)
        options["init_from"] = source
    return found | {"tuning": training(run, "tune.yaml", n_steps, options)}


def train(trainings: Iterable[Training], n_parallel: int) -> None:
    """Run what is not done, so many at a time; `BadInput` with the last line of the first that fails."""
    missing = [t for t in {t.run: t for t in trainings}.values() if not t.done()]
    missing.sort(key=lambda t: -t.n_steps)  # or the longest would go on alone
    begun: list[subprocess.Popen] = []
    with ThreadPoolExecutor(n_parallel) as pool:
        jobs = [pool.submit(_run, t, begun) for t in missing]
        try:
            for job in jobs:
                job.result()
        except BaseException as error:
            pool.shutdown(wait=False, cancel_futures=True)
            if not isinstance(error, Exception):  # it was asked to end, not let down by one of them
                for process in begun:
                    process.terminate()  # it saves where it is
            raise


def _run(one: Training, begun: list[subprocess.Popen]) -> None:
    make_folder(one.run.parent)
    print(f"[{one.run.name}] {' '.join(one.words())}", flush=True)
    with one.log.open("w") as file:
        one_core = {**os.environ, "OMP_NUM_THREADS": "1"}
        # In a session of its own: Ctrl-C in a terminal and `terminate` would be two signals; the second loses steps.
        process = subprocess.Popen(
            one.command(), stdout=file, stderr=subprocess.STDOUT, env=one_core, start_new_session=True
        )
        begun.append(process)
        status = process.wait()
    if status:
        raise failure(f"training of {one.run}", status, one.log)
    print(f"[{one.run.name}] done", flush=True)


@contextmanager
def ended_when_asked() -> Iterator[None]:
    """Whoever ends this program, or its terminal, ends what it has begun, as Ctrl-C does."""
    numbers = (signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, _end) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end(number: int, _frame: object) -> None:
    raise SystemExit(128 + number)
