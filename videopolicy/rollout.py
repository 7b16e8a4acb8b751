"""The one closed loop: observe, act, execute part of the chunk, again."""

import time
from dataclasses import dataclass

import numpy as np

from videopolicy.ensemble import ensembled
from videopolicy.types import ActionChunk, Executor, Observation, Policy


@dataclass(frozen=True)
class RolloutResult:
    """One episode as it was run."""

    observations: list[Observation]  # one per chunk, and the last one
    chunks: list[ActionChunk]  # as they were executed
    seconds: float  # wall clock


def rollout(
    policy: Policy, executor: Executor, n_execute: int, max_chunks: int, ensemble: float | None = None
) -> RolloutResult:
    """Run until the executor is done or `max_chunks` chunks have been executed, `n_execute` steps of each.

    `ensemble`: the m of `ensembled`, which averages this episode's overlapping chunks; None: each chunk by itself.
    Exceptions of policy and executor pass through: a crash is never an episode that failed.
    """
    started = time.perf_counter()
    observations = [executor.observe()]
    predicted: list[ActionChunk] = []
    chunks: list[ActionChunk] = []
    while len(chunks) < max_chunks and not executor.done():
        chunk = policy.act(observations[-1])
        numbers = [x for x in (chunk.position, chunk.gripper, chunk.rotation) if x is not None]
        if not all(np.isfinite(x).all() for x in numbers):
            raise FloatingPointError(f"chunk {len(chunks)} holds numbers that are not finite: {chunk}")
        predicted.append(chunk)
        if ensemble is not None:
            chunk = ensembled(predicted, n_execute, ensemble)
        executor.execute(chunk, n_execute)
        chunks.append(chunk)
        observations.append(executor.observe())
    return RolloutResult(observations, chunks, time.perf_counter() - started)
