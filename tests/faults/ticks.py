"""Moments at which a program is about to do something to files, and what then happens to it."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

from faults.fault import run
from videopolicy.training import saving

CHANGES = ("os.mkdir", "os.rename", "os.remove", "os.rmdir")  # audit events of the file system, beside "open"


class Ticks:
    """Counts what this process does to files below a folder, and does something at one of these moments."""

    def __init__(self, folder: Path, at: int, happen: Callable[[bool], None]) -> None:
        self.folder, self.at, self.happen = str(folder), at, happen
        self.heard: list[bool] = []  # whether each moment so far needed room
        sys.addaudithook(self._hear)
        plain = saving.save_file

        def save_file(tensors: dict, path: Path) -> None:  # written by Rust, which says nothing
            self.tick(True)
            plain(tensors, path)
            self.tick(False)

        saving.save_file = save_file

    def _hear(self, event: str, args: tuple) -> None:
        if event == "open" and isinstance(args[0], str | bytes | os.PathLike) and self._below(args[0]):
            mode, flags = args[1], args[2]
            self.tick(bool(mode and set("wax+") & set(mode)) or bool(flags & (os.O_WRONLY | os.O_RDWR)))
        elif event in CHANGES and self._below(args[0]):
            self.tick(event in ("os.mkdir", "os.rename"))

    def _below(self, path: str | bytes | os.PathLike) -> bool:
        return os.fsdecode(path).startswith(self.folder)

    def tick(self, needs_room: bool) -> None:
        self.heard.append(needs_room)
        if len(self.heard) == self.at:
            self.happen(needs_room)


def moments_of(folder: Path, log: Path, work: Callable[[], object]) -> list[bool]:
    """What some work does to files below a folder: of each moment whether it needs room."""
    read, write = os.pipe()

    def counted() -> None:
        ticks = Ticks(folder, -1, lambda _room: None)
        work()
        os.write(write, bytes(ticks.heard))

    assert run(counted, log) == 0, log.read_text()
    return [bool(room) for room in os.read(read, 2**16)]
