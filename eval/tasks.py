"""LIBERO's tasks as what to record and what to test: fixed initial states of one task.

Demonstrations begin in the first of its states, evaluations in those that no demonstration began in, from the last.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from eval.grid import Spot
from eval.pool import Pool
from eval.positions import JITTER, episode_seed
from videopolicy.errors import BadInput


@dataclass(frozen=True)
class Task:
    """A task whose goal is one pick and place."""

    name: str  # suite/file
    language: str
    n_states: int  # fixed initial states


@dataclass(frozen=True)
class TaskTrial:
    """One episode: the initial state of a task, and where the arm starts."""

    task: str
    init_state: int
    start_jitter: Float[np.ndarray, " 3"]
    seed: int

    def job(self) -> dict:
        """What a simulator process needs to know."""
        return {name: getattr(self, name) for name in ("task", "init_state", "start_jitter")}

    def record(self) -> dict:
        """What a result says of its episode."""
        names = ("task", "init_state", "seed")
        return {"group": self.init_state, **{name: getattr(self, name) for name in names}}


def find_tasks(suite: str, numbers: Sequence[int | None]) -> list[Task]:
    """Tasks by their numbers in LIBERO's order; `BadInput` where there is none, or its goal is no pick and place."""
    if None in numbers:
        raise BadInput(f"suite is {suite!r}, but task is null; allowed: the number of one of its tasks, from 0")
    with Pool(1) as pool:
        jobs = [{"kind": "task", "suite": suite, "number": number} for number in numbers]
        return [Task(**found) for _, found in pool.run_in_order(jobs)]


def task_spots(task: Task, n_states: int) -> list[Spot]:
    """The demonstrations of a task: from the first `n_states` of its initial states."""
    if not 1 <= n_states <= task.n_states:
        raise BadInput(
            f"n_states is {n_states}; allowed: 1 to {task.n_states}, the fixed initial states of {task.name}"
        )
    return [Spot(None, {"task": task.name, "init_state": i}, task=task.name) for i in range(n_states)]


def task_trials(task: Task, extras: list[dict], n: int | None, seed: int) -> list[TaskTrial]:
    """The first `n` test episodes, or all: from initial states that no episode of the training data began in."""
    trained = {e.get("init_state") for e in extras if e.get("task") == task.name}
    left = [i for i in reversed(range(task.n_states)) if i not in trained]
    if n is not None and n > len(left):
        raise BadInput(
            f"n_episodes is {n}; allowed: at most {len(left)}, the initial states of {task.name} that no demonstration"
            " began in"
        )
    found = []
    for i in left[:n]:
        key = episode_seed("rollout", seed, task.name, i)
        found.append(TaskTrial(task.name, i, np.random.default_rng(key).uniform(-JITTER, JITTER, 3), key))
    return found
