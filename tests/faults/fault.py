"""A fault, how it is injected into a program in a child process, and what came of it."""

import ctypes
import json
import os
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

LIMIT = 400.0  # [s] for all injections of a fault
CLONE_NEWNS, CLONE_NEWUSER, MS_PRIVATE, MS_REC = 0x00020000, 0x10000000, 1 << 18, 1 << 14


@dataclass(frozen=True)
class Outcome:
    """How often a fault was injected, after how many the program did what it should, and what was lost in all."""

    injected: int
    survived: int
    lost: int
    note: str = ""
    failed: list[str] = field(default_factory=list)  # what was not survived, in words


@dataclass(frozen=True)
class Fault:
    name: str
    inject: Callable[[Path, int], Outcome]  # into an empty folder, so many times
    n: int
    n_quick: int  # the same in tests; 0: left out there


def attempt(fault: Fault, folder: Path, n: int) -> Outcome:
    """Inject a fault `n` times, in a process of its own: one that hangs or dies has survived nothing."""
    answer, log, place = folder / "outcome.json", folder / "log", folder / "place"
    place.mkdir()

    def work() -> None:
        os.setpgid(0, 0)  # with all that it starts
        answer.write_text(json.dumps(asdict(fault.inject(place, n))))

    pid = start(work, log)
    try:
        status = wait(pid, LIMIT)
    except TimeoutError:
        return Outcome(n, 0, n, why := f"hung for {LIMIT:.0f} s", [why])
    finally:
        with suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
    if status:
        return Outcome(n, 0, n, f"ended with status {status}", log.read_text().splitlines()[-5:])
    return Outcome(**json.loads(answer.read_text()))


def start(work: Callable[[], object], log: Path) -> int:
    """A child process that does the work; its number. What it prints goes to `log`."""
    sys.stdout.flush()
    sys.stderr.flush()
    if pid := os.fork():
        return pid
    status = 1
    try:
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
        work()
        status = 0
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        with suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


def wait(pid: int, patience: float = 120.0) -> int:
    """A child's exit status, minus the signal that ended it. `TimeoutError` for one that must be killed to end."""
    end = time.monotonic() + patience
    while time.monotonic() < end:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    raise TimeoutError(f"process {pid} did not end in {patience:.0f} s")


def run(work: Callable[[], object], log: Path, patience: float = 120.0) -> int:
    return wait(start(work, log), patience)


def killed(pid: int) -> int:
    """End a child as kill -9 does."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    return wait(pid)


def small_disk(path: Path, size: int) -> bool:
    """Give this process a disk of `size` bytes at `path`; whether the system lets it.

    For a child process: the disk lasts as long as it does.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    uid, gid = os.getuid(), os.getgid()
    if libc.unshare(CLONE_NEWNS | (CLONE_NEWUSER if uid else 0)) != 0:
        return False
    with suppress(OSError):
        if uid:
            Path("/proc/self/setgroups").write_text("deny")
            Path("/proc/self/uid_map").write_text(f"0 {uid} 1")
            Path("/proc/self/gid_map").write_text(f"0 {gid} 1")
    libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None)
    return libc.mount(b"none", os.fsencode(path), b"tmpfs", 0, f"size={size}".encode()) == 0


def limit_files(size: int) -> None:
    """Let this process write files of at most `size` bytes: what stands for a full disk where none can be mounted."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
