"""Simulator processes and the jobs they run, seen from a parent that may import torch.

The parent names the worker module instead of importing it: a process that imports triton after a Mesa GL context was
made in it dies of a segmentation fault.
"""

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection, wait
from typing import Any

from videopolicy.errors import BadInput

START_TIMEOUT = 600.0  # [s]; compiling numba caches on a first run takes most of a minute
Answer = Callable[[list[tuple[str, Any]]], list[Any]]  # requests ("act" | "oracle", payload) to replies, as one batch


class Worker:
    """One simulator process, which runs `module`, and the connection to it."""

    def __init__(self, module: str) -> None:
        ours, theirs = socket.socketpair()
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
        environment["LP_NUM_THREADS"] = "0"  # Mesa draws in the worker's own thread: the same pictures, less waiting
        self.process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", module, str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        theirs.close()
        self.connection = Connection(ours.detach())

    def close(self) -> None:
        self.connection.close()
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Pool:
    """A fixed number of workers; use as a context manager."""

    def __init__(self, n_workers: int, module: str = "eval.worker") -> None:
        self.module = module
        self.workers = [Worker(module) for _ in range(n_workers)]
        self.n_restarts = 0
        self.deaths: list[int] = []  # of simulators, by job of the last `run`

    def __enter__(self) -> "Pool":
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self.workers:
            worker.close()

    def run(self, jobs: list[dict], answer: Answer | None = None, n_tries: int = 3) -> Iterator[tuple[int, Any]]:
        """Yield (job number, result) in the order of completion.

        Requests that workers send while they run are gathered and answered as one batch. A worker that dies is
        replaced and its job repeated, at most `n_tries` times; an exception inside a job is raised here.
        """
        waiting = list(range(len(jobs)))[::-1]
        self.deaths = deaths = [0] * len(jobs)
        running: dict[int, int] = {}  # worker number -> job number
        for number in range(len(self.workers)):
            if waiting:
                self._start(number, waiting.pop(), jobs, running)
        while running:
            by_connection = {self.workers[w].connection: w for w in running}
            ready = wait(list(by_connection), timeout=START_TIMEOUT)
            if not ready:
                raise TimeoutError(
                    f"no simulator answered for {START_TIMEOUT:.0f} s; running jobs: {sorted(running.values())}"
                )
            requests: list[tuple[int, str, Any]] = []
            for connection in ready:
                assert isinstance(connection, Connection)
                number = by_connection[connection]
                job = running[number]
                try:
                    kind, value = connection.recv()
                except (EOFError, ConnectionResetError, OSError):
                    deaths[job] += 1
                    if deaths[job] == n_tries:
                        raise RuntimeError(f"the simulator died {n_tries} times in job {job}: {jobs[job]}") from None
                    self._replace(number)
                    self._start(number, job, jobs, running)
                    continue
                if kind == "bad_input":
                    raise BadInput(value)
                if kind == "error":
                    raise RuntimeError(f"job {job} failed in its simulator:\n{value}")
                if kind != "result":
                    requests.append((number, kind, value))
                    continue
                del running[number]
                if waiting:
                    self._start(number, waiting.pop(), jobs, running)
                yield job, value
            if requests:
                assert answer is not None, "a job asked for actions, but no policy was given"
                replies = answer([(kind, value) for _, kind, value in requests])
                for (number, _, _), reply in zip(requests, replies, strict=True):
                    self._send(number, reply)

    def run_in_order(self, jobs: list[dict]) -> Iterator[tuple[int, Any]]:
        """`run`, with results kept back until all before them are there."""
        ready: dict[int, Any] = {}
        turn = 0
        for number, result in self.run(jobs):
            ready[number] = result
            while turn in ready:
                yield turn, ready.pop(turn)
                turn += 1

    def _start(self, number: int, job: int, jobs: list[dict], running: dict[int, int]) -> None:
        running[number] = job
        self._send(number, jobs[job])

    def _send(self, number: int, message: Any) -> None:
        """Send to a worker; one that has died is noticed, and replaced, at the next receive."""
        with contextlib.suppress(OSError):
            self.workers[number].connection.send(message)

    def _replace(self, number: int) -> None:
        self.n_restarts += 1
        self.workers[number].close()
        time.sleep(0.1)
        self.workers[number] = Worker(self.module)
