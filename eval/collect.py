"""Collect video in LIBERO, by the scripted expert or at random for pretraining; the same command resumes.

python -m eval.collect --config_path configs/demo/collect.yaml
python -m eval.collect --suite libero_object --task 3 --output data/libero_object_3
python -m eval.collect --config_path configs/pretrain/corpus.yaml
python -m eval.collect --config_path configs/fewshot/circles.yaml
python -m eval.collect --config_path configs/fewshot/circles_ur5e.yaml
"""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from eval.arm import Arm
from eval.corpus import CorpusConfig, collect_corpus
from eval.grid import GridConfig, ViewsConfig
from eval.pool import Pool
from eval.record import BOWL_ON_PLATE, record
from eval.tasks import find_tasks, task_spots
from videopolicy.config import dump, launch
from videopolicy.data.files import lock_folder, make_folder
from videopolicy.data.overlay import CircleConfig, Overlay
from videopolicy.errors import BadInput, at_least_one


@dataclass(frozen=True)
class Config:
    """What to collect, and where to."""

    output: Path = Path("data/left_half")
    kind: Literal["grid", "views", "corpus"] = "grid"  # without a suite
    suite: str | None = None  # of LIBERO: demonstrations of one of its pick-and-place tasks instead
    task: int | None = None  # the task's number in LIBERO's order, from 0
    n_states: int = 40  # of the task's 50 fixed initial states: the first, in which demonstrations begin
    grid: GridConfig = GridConfig()  # demonstrations of the task on the position grid
    views: ViewsConfig = ViewsConfig()  # demonstrations of the task before moved cameras
    corpus: CorpusConfig = CorpusConfig()  # clips of everything else, for pretraining
    arm: Arm = "Panda"  # LIBERO's own; another one does the task of bowl and plate
    # circle: pictures show a circle where the end effector is, and no robot; not of a corpus.
    overlay: Overlay = "none"
    circle: CircleConfig = CircleConfig()
    image_size: int = 224  # [pixels]
    fps: int = 4  # frames and waypoints per second
    n_tries: int = 4  # where the expert fails it tries again, everything moved by at most 4 mm
    n_workers: int = 2
    seed: int = 0


def main(cfg: Config) -> dict:
    print(dump(cfg))
    if cfg.fps not in (1, 2, 4, 5, 10, 20):
        raise BadInput(f"fps is {cfg.fps}; allowed: 1, 2, 4, 5, 10, 20 (divisors of the 20 Hz control rate)")
    at_least_one(cfg, "n_workers", "n_tries")
    if cfg.suite is None and cfg.task is not None:
        raise BadInput(f"task is {cfg.task}, but suite is null; allowed: a suite of LIBERO with it, as libero_spatial")
    if cfg.suite is not None and cfg.kind != "grid":
        raise BadInput(f"kind is {cfg.kind!r}, but suite is {cfg.suite!r}; allowed: one of the two")
    if cfg.overlay != "none" and cfg.suite is None and cfg.kind == "corpus":
        raise BadInput(f"overlay is {cfg.overlay!r}, but kind is 'corpus'; allowed: one of the two")
    if cfg.arm != "Panda" and (cfg.suite is not None or cfg.kind == "corpus"):
        raise BadInput(f"arm is {cfg.arm!r}; allowed: Panda, or without a suite and with kind grid or views")
    cfg.corpus.check()
    language = BOWL_ON_PLATE
    if cfg.suite is not None:
        (task,) = find_tasks(cfg.suite, [cfg.task])
        spots, language = task_spots(task, cfg.n_states), task.language
    else:
        spots = [] if cfg.kind == "corpus" else (cfg.grid if cfg.kind == "grid" else cfg.views).spots(cfg.seed)
    make_folder(cfg.output)
    started = time.perf_counter()
    with lock_folder(cfg.output), Pool(cfg.n_workers) as pool:
        common = (pool, cfg.output, cfg.image_size, cfg.fps, cfg.seed)
        if cfg.kind == "corpus":
            found = collect_corpus(cfg.corpus, *common)
        else:
            circle = cfg.circle if cfg.overlay == "circle" else None
            found = record(spots, *common, cfg.n_tries, language=language, circle=circle, arm=cfg.arm)
    seconds = time.perf_counter() - started
    new = found["new"]
    print(f"{new} new episodes in {seconds:.0f} s ({60 * new / seconds:.1f} a minute)")
    return {**found, "seconds": seconds}


if __name__ == "__main__":
    launch(main, Config)
