"""How often the scripted expert succeeds in LIBERO's tasks at its first try: a table, a line per task.

python -m eval.experts --suite libero_spatial
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from eval.pool import Pool
from eval.tasks import Task, find_tasks
from videopolicy.config import dump, launch
from videopolicy.errors import at_least_one
from videopolicy.rates import wilson95

IMAGE_SIZE = 64  # [pixels]; nobody looks


@dataclass(frozen=True)
class Config:
    """Which tasks to try, and how often."""

    suite: str = "libero_spatial"
    tasks: tuple[int, ...] = tuple(range(10))  # numbers in LIBERO's order
    n_states: int = 5  # the first of each task's fixed initial states
    fps: int = 4  # waypoints a second
    n_workers: int = 2


def main(cfg: Config) -> dict[str, list[bool]]:
    """Whether the object was placed, task by task and state by state."""
    print(dump(cfg))
    at_least_one(cfg, "n_states", "fps", "n_workers")
    tasks = find_tasks(cfg.suite, cfg.tasks)
    placed: dict[str, list[bool]] = {}
    with Pool(cfg.n_workers) as pool:
        jobs = [_job(task, state, cfg.fps) for task in tasks for state in range(cfg.n_states)]
        for number, result in pool.run_in_order(jobs):
            mine = placed.setdefault(jobs[number]["task"], [])
            mine.append(result["placed"])
            if len(mine) == cfg.n_states:
                print(_line(jobs[number]["task"], mine), flush=True)
    print(_line(f"all of {cfg.suite}", [p for mine in placed.values() for p in mine]))
    return placed


def _job(task: Task, state: int, fps: int) -> dict[str, Any]:
    once = [(None, np.zeros(3))]  # nothing moved, no jitter
    where = {"task": task.name, "init_state": state, "attempts": once}
    return {"kind": "collect", **where, "image_size": IMAGE_SIZE, "fps": fps}


def _line(name: str, placed: list[bool]) -> str:
    low, high = wilson95(sum(placed), len(placed))
    return f"{sum(placed)}/{len(placed)} (Wilson 95 % {low} to {high}) {name}"


if __name__ == "__main__":
    launch(main, Config)
