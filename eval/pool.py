"""Simulator processes and the jobs they run, seen from a parent that may import torch.

The parent names the worker module instead of importing it: a process that imports triton after a Mesa GL context was
made in it dies of a segmentation fault.
"""

import contextlib
import os
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection, wait
from typing import Any

from videopolicy.errors import BadInput

PATIENCE = 300.0  # [s] without a word from a simulator; compiling numba caches on a first run takes most of a minute
Answer = Callable[[list[tuple[str, Any]]], list[Any]]  # requests ("act" | "oracle", payload) to replies, as one batch


class Worker:
    """One simulator process, which runs `module`, and the connection to it."""

    def __init__(self, module: str, patience: float) -> None:
        ours, theirs = socket.socketpair()
        limit = struct.pack("ll", max(1, int(patience)), 0)
        for direction in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):  # it may hang in the middle of a message
            ours.setsockopt(socket.SOL_SOCKET, direction, limit)
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
        self.spoken_to = time.monotonic()  # when it last was given something to do
        self.connection = Connection(ours.detach())

    def close(self) -> None:
        self.connection.close()
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        self.connection.close()
        self.process.kill()
        self.process.wait()


class Pool:
    """A fixed number of workers; use as a context manager.

    A worker that dies, or says nothing for `patience` seconds, is replaced.
    """

    def __init__(self, n_workers: int, module: str = "eval.worker", patience: float = PATIENCE) -> None:
        self.module, self.patience = module, patience
        self.workers = [Worker(module, patience) for _ in range(n_workers)]
        self.n_restarts = 0
        self.deaths: list[int] = []  # of simulators, by job of the last `run`

    def __enter__(self) -> "Pool":
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self.workers:
            worker.close()
        if self.n_restarts:
            print(f"{self.n_restarts} simulator(s) died or hung and were replaced; what they were at was repeated")

    def run(self, jobs: list[dict], answer: Answer | None = None, n_tries: int = 3) -> Iterator[tuple[int, Any]]:
        """Yield (job number, result) in the order of completion.

        Requests that workers send while they run are gathered and answered as one batch. The job of a worker that was
        replaced is repeated, at most `n_tries` times. So is one that raised an exception, as for want of memory or of a
        GL context: in a new process, and if it raises the same there, `RuntimeError` is raised here.
        """
        waiting = list(range(len(jobs)))[::-1]
        self.deaths = deaths = [0] * len(jobs)
        running: dict[int, int] = {}  # worker number -> job number
        raised: dict[int, str] = {}  # job number -> what it raised when it was last tried

        def repeat(number: int, why: str) -> None:
            """Its worker is of no use any more: give the job to a new one."""
            job = running[number]
            deaths[job] += 1
            if deaths[job] == n_tries:
                raise RuntimeError(f"the simulator {why}, {n_tries} times in job {job}: {jobs[job]}")
            self._replace(number)
            self._start(number, job, jobs, running)

        for number in range(len(self.workers)):
            if waiting:
                self._start(number, waiting.pop(), jobs, running)
        while running:
            by_connection = {self.workers[w].connection: w for w in running}
            first = min(self.workers[w].spoken_to for w in running)
            ready = wait(list(by_connection), timeout=max(0.0, first + self.patience - time.monotonic()))
            for number in set(running) - {by_connection[c] for c in ready if isinstance(c, Connection)}:
                if time.monotonic() - self.workers[number].spoken_to >= self.patience:
                    repeat(number, f"said nothing for {self.patience:.0f} s")
            requests: list[tuple[int, str, Any]] = []
            for connection in ready:
                assert isinstance(connection, Connection)
                number = by_connection[connection]
                job = running[number]
                try:
                    kind, value = connection.recv()
                except (EOFError, ConnectionResetError, OSError):
                    repeat(number, "died")
                    continue
                if kind == "bad_input":
                    raise BadInput(value)
                if kind == "error":
                    if raised.get(job) == value:
                        raise RuntimeError(f"job {job} failed in two simulators:\n{value}")
                    raised[job] = value
                    repeat(number, f"failed:\n{value}")
                    continue
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

    def restarts(self, job: int) -> dict[str, int]:
        """What a dataset says of the simulators that a job of the last `run` has cost; nothing where it cost none."""
        return {"restarts": self.deaths[job]} if self.deaths[job] else {}

    def _start(self, number: int, job: int, jobs: list[dict], running: dict[int, int]) -> None:
        running[number] = job
        self._send(number, jobs[job])

    def _send(self, number: int, message: Any) -> None:
        """Send to a worker; one that has died is noticed, and replaced, at the next receive."""
        self.workers[number].spoken_to = time.monotonic()
        with contextlib.suppress(OSError):
            self.workers[number].connection.send(message)

    def _replace(self, number: int) -> None:
        self.n_restarts += 1
        self.workers[number].kill()
        self.workers[number] = Worker(self.module, self.patience)
