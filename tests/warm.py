"""Simulators that outlive the pool that started them: to start one, and to open its scene, takes seconds each time."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

import pytest

from eval import pool
from eval.pool import Worker

NOTHING = {"kind": "tasks", "suites": []}  # a job that any simulator does at once
PATIENCE = 60.0  # [s] for it, of one that may still be starting


class Warm(Worker):
    """A worker that goes on with the process of a closed one, where that is sound and was started alike."""

    spare: ClassVar[list["Warm"]] = []  # closed ones, whose processes live

    def __init__(self, module: str, patience: float) -> None:
        around = {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}
        self.start = (module, patience, Path.cwd(), around)
        while self.spare:
            closed = self.spare.pop()
            if closed.start == self.start and closed.is_idle():
                self.process, self.connection = closed.process, closed.connection
                self.spoken_to = time.monotonic()
                return
            closed.kill()
        super().__init__(module, patience)

    def close(self) -> None:
        try:
            self.connection.send(NOTHING)
        except OSError:  # it has died
            self.kill()
        else:
            self.spare.append(self)

    def is_idle(self) -> bool:
        """Whether it answers `NOTHING`, and had nothing else to say."""
        try:
            return self.connection.poll(PATIENCE) and self.connection.recv() == ("result", {})
        except (EOFError, OSError):
            return False


@contextmanager
def simulators() -> Iterator[None]:
    """Pools that are made meanwhile take over each other's simulators."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pool, "Worker", Warm)
        yield
    while Warm.spare:
        Worker.close(Warm.spare.pop())
