"""Leases: a piece of work in a folder that many processes share, taken by one of them at a time.

A lease is a file, `NAME.0001`, that can only be made once (O_EXCL, which also holds on NFS). It names its holder's
machine and process, and is touched while the holder lives. Where the newest one was given back, or its holder is dead,
whoever makes the next number takes over; none is ever removed, so that no number can be made twice.
"""

import contextlib
import json
import os
import platform
import signal
import threading
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

import psutil

from videopolicy.data.files import make_folder, replace, writing

BEAT = 10.0  # between touches [s]
STALE = 300.0  # without a touch, after which a holder on another machine counts as dead [s]


@dataclass
class Lease:
    """One that this process holds, until the end of a `with` block."""

    path: Path
    beat: float = BEAT
    lost: bool = False  # another process took this one for dead, as after minutes of a suspended machine
    _processes: list[dict] = field(default_factory=list)
    _ended: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> "Lease":
        self._thread = threading.Thread(target=self._keep, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, _kind: type | None, _error: BaseException | None, _trace: TracebackType | None) -> None:
        self._ended.set()
        self._thread.join()
        if not self.lost:
            self._write(released=True)

    def works(self, pid: int) -> None:
        """A process that does the work: while it lives the lease is held, also where this one is killed."""
        self._processes.append({"pid": pid, "started": _started(pid)})
        self._write(released=False)

    def _write(self, released: bool) -> None:
        about = {"host": platform.node(), "machine": _machine(), "processes": self._processes, "released": released}
        replace(self.path, lambda path: path.write_text(json.dumps(about) + "\n"))

    def _keep(self) -> None:
        name, number = self.path.stem, int(self.path.suffix[1:])
        while not self._ended.wait(self.beat):
            with contextlib.suppress(OSError):  # a file server that is away for a moment
                os.utime(self.path)
            if self.path.with_name(f"{name}.{number + 1:04d}").exists():
                self.lost = True
                for one in self._processes[1:]:
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(one["pid"], signal.SIGTERM)
                return


def take(folder: Path, name: str, beat: float = BEAT, stale: float = STALE) -> Lease | None:
    """A lease on `name`, to be used in a `with` block; None where a living process has it, or was faster."""
    make_folder(folder)
    newest = _newest(folder, name)
    if newest is not None and _alive(newest, stale):
        return None
    path = folder / f"{name}.{1 if newest is None else int(newest.suffix[1:]) + 1:04d}"
    with writing(path):
        try:
            path.open("x").close()
        except FileExistsError:
            return None
    lease = Lease(path, beat)
    lease.works(os.getpid())
    return lease


def holder(folder: Path, name: str, stale: float = STALE) -> str | None:
    """Who has it, in words; None where nobody living does."""
    newest = _newest(folder, name)
    if newest is None or not _alive(newest, stale):
        return None
    about = _read(newest)
    return f"process {about['processes'][0]['pid']} on {about['host']}" if about else "another process"


def _newest(folder: Path, name: str) -> Path | None:
    found = [p for p in folder.glob(f"{name}.*") if p.stem == name and p.suffix[1:].isdigit()]
    return max(found, key=lambda p: int(p.suffix[1:]), default=None)


def _alive(path: Path, stale: float) -> bool:
    """Whether a lease is held: on this machine by its processes, on another by when it was touched."""
    about = _read(path)
    if about is not None and about["released"]:
        return False
    if about is not None and about["machine"] == _machine():
        return any(_runs(**one) for one in about["processes"])
    return _age(path) < stale


def _read(path: Path) -> dict | None:
    """What a lease says; None of one that is just being made, or whose maker died over it."""
    try:
        about = json.loads(path.read_text())
        return about if {"host", "machine", "processes", "released"} <= about.keys() else None
    except (OSError, ValueError, AttributeError):
        return None


def _age(path: Path) -> float:
    """Since it was touched [s], by the clock of the folder's own file system: other machines' clocks may be wrong."""
    probe = path.with_name(f".clock.{platform.node()}.{os.getpid()}.{threading.get_ident()}")
    try:
        probe.touch()
        return probe.stat().st_mtime - path.stat().st_mtime
    except OSError:
        return 0.0  # not known: it counts as held, and is looked at again
    finally:
        with contextlib.suppress(OSError):
            probe.unlink()


def _started(pid: int) -> float | None:
    """When a process began, which tells it from a later one of the same number; None where there is none."""
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else process.create_time()
    return None


def _runs(pid: int, started: float | None) -> bool:
    now = _started(pid)
    return now is not None and started is not None and abs(now - started) < 5.0  # the clock may have been set since


def _machine() -> str:
    """What two processes share that see each other's numbers: host, start of its kernel, and container."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    with contextlib.suppress(OSError):
        return f"{platform.node()} {boot.read_text().strip()} {os.readlink('/proc/self/ns/pid')}"
    return f"{platform.node()} {psutil.boot_time():.0f}"
