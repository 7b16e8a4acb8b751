"""Checkpoints whose saving is cut short, or whose files change afterwards."""

import encodings.cp437  # noqa: F401  # names in zip files; a user without rights may not be able to import it
import errno
import os
import random
import shutil
import signal
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import builders
import pytest
import torch
from safetensors.torch import load_file

from faults.fault import Outcome, killed, limit_files, run, small_disk, start
from faults.ticks import Ticks, moments_of
from faults.training import train
from videopolicy.config import guarded
from videopolicy.errors import BadInput
from videopolicy.training import checkpoint, saving

WIDTH = 300  # of a square layer


def save(run: Path, step: int, width: int = WIDTH) -> Path:
    """A checkpoint of a network of one layer, all of whose numbers are its step's."""
    layer = torch.nn.Linear(width, width)
    torch.nn.init.constant_(layer.weight, float(step))
    torch.nn.init.constant_(layer.bias, float(step))
    optimizer = torch.optim.AdamW([{"params": list(layer.parameters()), "name": "all"}], lr=0.0, weight_decay=0.0)
    layer(torch.ones(1, width)).sum().backward()
    optimizer.step()
    return saving.save(run, step, layer.state_dict(), optimizer.state_dict(), {"fps": 4}, {"n": 1})


def newest(run: Path) -> int:
    """The step of the newest whole checkpoint, whose numbers must be that step's; 0 where there is none."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = checkpoint.latest(run)
    if found is None:
        return 0
    step = checkpoint.read_state(found)["step"]
    assert all((value == step).all() for value in load_file(found / checkpoint.MODEL).values()), f"{found} is another's"
    return step


def goes_on(run: Path, step: int) -> bool:
    """After a sweep nothing is left of what was cut short, and the next save is whole."""
    checkpoint.sweep(run)
    left = [p.name for p in run.iterdir() if p.name.endswith(".tmp")]
    save(run, step)
    return not left and newest(run) == step


def kill_saves(folder: Path, n: int) -> Outcome:
    """kill -9 at random moments of a process that saves one checkpoint after another."""
    survived = lost = 0
    rng = random.Random(0)
    for i in range(n):
        path, (read, write) = folder / f"run{i}", os.pipe()

        def saves(path: Path = path, write: int = write) -> None:
            for step in range(1, 10_000):
                save(path, step)
                os.write(write, step.to_bytes(4, "little"))

        pid = start(saves, folder / "log")
        os.close(write)
        first = os.read(read, 4)
        time.sleep(rng.uniform(0, 0.25))
        killed(pid)
        told = first + os.read(read, 2**20)
        os.close(read)
        promised = int.from_bytes(told[-4:], "little")
        found = newest(path)
        lost += max(0, promised - found)
        survived += found in (promised, promised + 1) and goes_on(path, found + 1)
        shutil.rmtree(path)
    return Outcome(n, survived, lost)


def kill_everywhere(folder: Path, n: int) -> Outcome:
    """kill -9 before every single operation on files that a save consists of; `n` of them where they are more."""
    return _everywhere(folder, n, "kill")


def full_everywhere(folder: Path, n: int) -> Outcome:
    """No space left, at every operation of a save that needs some."""
    return _everywhere(folder, n, "full")


def _everywhere(folder: Path, n: int, what: str) -> Outcome:
    base, path, log = folder / "base", folder / "run", folder / "log"
    for step in (1, 2):
        save(base, step)
    shutil.copytree(base, path)
    every = moments_of(path, log, lambda: save(path, 3))
    moments = [i for i, needs_room in enumerate(every, 1) if needs_room or what == "kill"]
    moments = moments if n >= len(moments) else sorted(random.Random(0).sample(moments, n))
    survived = lost = 0

    def happen(_needs_room: bool) -> None:
        if what == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    for moment in moments:
        shutil.rmtree(path)
        shutil.copytree(base, path)
        log.unlink(missing_ok=True)

        def saves(moment: int = moment) -> None:
            Ticks(path, moment, happen)
            try:
                save(path, 3)
            except BadInput as error:
                print(error)
                raise SystemExit(2) from error

        status = run(saves, log)
        found = newest(path)
        lost += max(0, 2 - found)
        said = log.read_text()
        refused = status == 2 and "No space left" in said
        spared = status == 0 and found == 3  # it needed no room after all
        well = status == -signal.SIGKILL if what == "kill" else refused or spared
        survived += found in (2, 3) and well and goes_on(path, 4)
    return Outcome(len(moments), survived, lost, f"of {len(every)} moments of one save")


def full_disk(folder: Path, n: int) -> Outcome:
    """A disk that is full at another point of each save, in the middle of a file; then it is emptied."""
    survived, mounted = 0, []
    for i in range(n):
        log, mount = folder / f"log{i}", folder / f"disk{i}"
        mount.mkdir()

        def saves(i: int = i, mount: Path = mount) -> None:
            size = 4 * 3 * WIDTH * (WIDTH + 1)  # of a checkpoint, nearly
            run, ballast = mount / "run", mount / "ballast"
            print(is_disk := small_disk(mount, int(2.2 * size)))
            save(run, 1)
            room = int(size * (i + 0.5) / n)
            if is_disk:
                ballast.write_bytes(bytes(shutil.disk_usage(mount).free - room))
            else:
                limit_files(room // 3)  # weights are a third of it
            freed = r"are needed: free \d+ MiB.*" if is_disk else ""
            with pytest.raises(BadInput, match=f"{freed}step_000001 is as it was; free some space") as caught:
                save(run, 2)
            print(caught.value)
            assert newest(run) == 1
            assert not list(run.glob("*.tmp"))
            ballast.unlink(missing_ok=True)
            limit_files(-1)
            save(run, 2)
            assert newest(run) == 2

        survived += run(saves, log) == 0
        mounted.append(log.read_text().startswith("True"))
    return Outcome(n, survived, n - survived, f"{sum(mounted)} of them a tmpfs")


def damaged_files(folder: Path, n: int) -> Outcome:
    """Every file of the newest checkpoint, one bit flipped at `n` random places, cut off at as many, empty, missing."""
    rng = random.Random(0)
    path = folder / "run"
    for step in (1, 2):
        save(path, step, width=40)
    injected = survived = lost = 0
    for file in sorted((path / "step_000002").iterdir()):
        whole = file.read_bytes()
        faults: list[bytes | None] = [b"", None]
        for _ in range(n):
            changed = bytearray(whole)
            changed[rng.randrange(len(whole))] ^= 1 << rng.randrange(8)
            faults += [bytes(changed), whole[: rng.randrange(len(whole))]]
        for fault in faults:
            if fault is None:
                file.unlink()
            else:
                file.write_bytes(fault)
            found = newest(path)  # checks that the numbers are that step's
            injected += 1
            # A flipped bit of the manifest's own notes, as a library's version, changes nothing that is loaded.
            fine = found == 1 or (file.name == checkpoint.MANIFEST and found == 2)
            survived += fine
            lost += found == 0
            file.write_bytes(whole)
    return Outcome(injected, survived, lost)


def read_only(folder: Path, n: int) -> Outcome:
    """A folder that cannot be written to: programs say so in one line, and leave it as it is."""
    data, survived, place = builders.write_dataset(folder / "data"), 0, folder / "place"
    place.mkdir(mode=0o555)
    for parent in (place, *place.parents):
        if parent.stat().st_uid == os.getuid() and not parent.stat().st_mode & 0o001:
            parent.chmod(parent.stat().st_mode | 0o001)
    programs = (lambda: train(place / "run", data, 1), lambda: guarded(lambda: builders.write_dataset(place / "data")))
    for i, program in enumerate(programs[:n]):
        log = folder / f"log{i}"
        log.touch()

        def tries(program: Callable[[], object] = program) -> None:
            if os.getuid() == 0:
                os.setuid(65534)  # root may write anywhere
            program()

        status, said = run(tries, log), log.read_text()
        survived += status == 2 and "cannot write" in said and str(place) in said.splitlines()[-1]
    return Outcome(n, survived if not list(place.iterdir()) else 0, 0)
