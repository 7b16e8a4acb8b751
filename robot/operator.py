"""Whoever moves the arm by hand during calibration: a person at a terminal, or a script that plays one."""

import os
import select
import sys
from collections.abc import Callable
from typing import Protocol, TextIO, runtime_checkable

from robot.clock import Clock
from videopolicy.errors import BadInput

PERIOD = 0.01  # [s] between two looks at whether it is done


@runtime_checkable
class Operator(Protocol):
    """Steps have names: "middle", "ranges", "zero", "signs", "board", "touch_1" ..., "off_table"."""

    def ask(self, step: str, text: str) -> None:
        """Say what is to be done; returns at once."""
        ...

    def done(self) -> bool:
        """Whether it has been done; returns at once."""
        ...


class Terminal:
    """A person, who presses Enter when done."""

    def __init__(self, file: TextIO | None = None) -> None:
        self._file = (file or sys.stdin).fileno()

    def ask(self, step: str, text: str) -> None:
        while self._line() is not None:  # Enter pressed too often is no answer to the next question
            pass
        print(f"\n[{step}] {text}\nThen press Enter.", flush=True)

    def done(self) -> bool:
        return self._line() is not None

    def typed(self) -> str | None:
        """The line that was typed, without white space around it; None where nothing was."""
        line = self._line()
        return None if line is None else line.decode(errors="replace").strip()

    def _line(self) -> bytes | None:
        """What was typed, which a terminal hands over by lines; None where nothing was."""
        if not select.select([self._file], [], [], 0)[0]:
            return None
        if not (typed := os.read(self._file, 4096)):
            raise BadInput("standard input has ended, and nobody can press Enter: run this in a terminal")
        return typed


def wait(
    operator: Operator, clock: Clock, step: str, text: str, meanwhile: Callable[[], object] = lambda: None
) -> None:
    """Ask for a step and return when it is done; `meanwhile` is called a hundred times a second until then."""
    operator.ask(step, text)
    due = clock.now()
    while not operator.done():
        meanwhile()
        due = max(due + PERIOD, clock.now())
        clock.sleep_until(due)
