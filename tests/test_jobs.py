"""Work that processes share: by real ones, which race, are killed, and outlive each other."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from waiting import wait_for

from eval.jobs import Job, in_order, run_all
from eval.lease import holder, take
from videopolicy.errors import BadInput

ROOT = Path(__file__).parent.parent
# Rows that need one ancestor: each job notes that it begins and ends, and leaves a file.
RUNNER = """
import os, signal, sys, time
from pathlib import Path
from eval.jobs import Job, run_all
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell has its background jobs ignore it
folder, seconds, count = Path(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
def note(text):
    with (folder / "log").open("a") as file:
        file.write(text + "\\n")
def make(name, needs=()):
    def run(lease):
        note(f"begin {name}")
        time.sleep(seconds)
        note(f"end {name}")
        (folder / name).touch()
    return Job(name, needs, (folder / name).exists, run)
ancestor = make("ancestor")
print("ready", flush=True)
sys.stdin.readline()
run_all([make(f"row_{i}", (ancestor,)) for i in range(count)], folder / "leases", poll=0.02)
"""


@pytest.fixture
def runner(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen]]:
    """Starts a process that waits for a line before it runs all jobs; what is left of them ends with the test."""
    started: list[subprocess.Popen] = []

    def start(seconds: float, count: int) -> subprocess.Popen:
        command = [sys.executable, "-c", RUNNER, str(tmp_path), str(seconds), str(count)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        started.append(subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, **pipes))
        assert started[-1].stdout.readline() == "ready\n"
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def go(*processes: subprocess.Popen) -> None:
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()


def log(folder: Path) -> list[str]:
    return (folder / "log").read_text().splitlines() if (folder / "log").exists() else []


def test_processes_started_together_share_the_work(runner, tmp_path: Path) -> None:
    """Each job is run once, none before its ancestor is there, and several at a time."""
    processes = [runner(0.1, 8) for _ in range(3)]
    go(*processes)
    assert [process.wait(timeout=60) for process in processes] == [0, 0, 0]
    lines = log(tmp_path)
    assert sorted(lines) == sorted(f"{what} {name}" for what in ("begin", "end") for name in names(8))
    assert lines[:2] == ["begin ancestor", "end ancestor"]
    holding = [json.loads(p.read_text())["processes"][0]["pid"] for p in (tmp_path / "leases").glob("row_*.0001")]
    assert len(holding) == 8
    assert set(holding) <= {process.pid for process in processes}
    assert len(set(holding)) > 1
    assert all(json.loads(p.read_text())["released"] for p in (tmp_path / "leases").iterdir())


def names(count: int) -> list[str]:
    return ["ancestor", *(f"row_{i}" for i in range(count))]


def test_what_a_killed_process_held_is_taken_over(runner, tmp_path: Path) -> None:
    first, second = runner(60, 2), runner(0.05, 2)
    go(first)
    wait_for(lambda: log(tmp_path) == ["begin ancestor"])
    assert holder(tmp_path / "leases", "ancestor") == f"process {first.pid} on {os.uname().nodename}"
    go(second)
    time.sleep(0.3)
    assert log(tmp_path) == ["begin ancestor"]  # it waits
    first.kill()
    first.wait()
    assert second.wait(timeout=60) == 0
    assert "waiting for ancestor (process" in second.stdout.read()
    assert log(tmp_path)[1:3] == ["begin ancestor", "end ancestor"]
    assert (tmp_path / "leases/ancestor.0002").exists()


def test_an_interrupted_process_gives_back_what_it_held(runner, tmp_path: Path) -> None:
    first = runner(60, 1)
    go(first)
    wait_for(lambda: log(tmp_path) == ["begin ancestor"])
    first.send_signal(signal.SIGINT)
    assert first.wait(timeout=30) != 0
    assert json.loads((tmp_path / "leases/ancestor.0001").read_text())["released"]


def test_work_that_outlives_its_runner_is_still_held(tmp_path: Path) -> None:
    """A runner killed outright leaves its training behind, which goes on."""
    code = """
import subprocess, sys, time
from pathlib import Path
from eval.lease import take
with take(Path(sys.argv[1]), "row") as lease:
    training = [sys.executable, "-c", "import time; time.sleep(120)"]
    lease.works(subprocess.Popen(training, start_new_session=True, stdout=subprocess.DEVNULL).pid)
    print("ready", flush=True)
    time.sleep(120)
"""
    command = [sys.executable, "-c", code, str(tmp_path)]
    runner = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True)
    try:
        assert runner.stdout.readline() == "ready\n"
        about = json.loads((tmp_path / "row.0001").read_text())
        runner.kill()
        runner.communicate()
        assert holder(tmp_path, "row") is not None
        assert take(tmp_path, "row") is None
    finally:
        os.kill(about["processes"][1]["pid"], signal.SIGKILL)
    wait_for(lambda: holder(tmp_path, "row") is None)
    with take(tmp_path, "row") as lease:
        assert lease.path.name == "row.0002"


def elsewhere(folder: Path, age: float) -> Path:
    """A lease of another machine's process, last touched so many seconds ago."""
    about = {"host": "other", "machine": "other boot", "processes": [{"pid": 1, "started": 0.0}], "released": False}
    path = folder / "row.0001"
    path.write_text(json.dumps(about))
    os.utime(path, (time.time() - age,) * 2)
    return path


def test_another_machines_process_lives_while_it_touches_its_lease(tmp_path: Path) -> None:
    elsewhere(tmp_path, age=200)
    assert holder(tmp_path, "row") == "process 1 on other"
    assert take(tmp_path, "row") is None
    elsewhere(tmp_path, age=400)
    assert holder(tmp_path, "row") is None
    with take(tmp_path, "row") as lease:
        assert lease.path.name == "row.0002"
        assert take(tmp_path, "row") is None
    assert holder(tmp_path, "row") is None
    assert take(tmp_path, "row").path.name == "row.0003"


def test_a_lease_is_touched_while_it_is_held(tmp_path: Path) -> None:
    with take(tmp_path, "row", beat=0.02) as lease:
        os.utime(lease.path, (0, 0))
        wait_for(lambda: lease.path.stat().st_mtime > 0)
        assert time.time() - lease.path.stat().st_mtime < 60


def test_a_lease_may_be_empty_for_a_moment(tmp_path: Path) -> None:
    """Its maker may still be writing, or have died over it."""
    path = tmp_path / "row.0001"
    path.touch()
    assert holder(tmp_path, "row") == "another process"
    os.utime(path, (time.time() - 400,) * 2)
    assert holder(tmp_path, "row") is None


def test_who_was_taken_for_dead_stops(tmp_path: Path) -> None:
    """After minutes asleep another one has the lease: the work is ended, and the new holder's is not touched."""
    with take(tmp_path, "row", beat=0.02) as lease:
        work = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(120)"], start_new_session=True)
        lease.works(work.pid)
        newer = tmp_path / "row.0002"
        newer.write_text("{}")
        assert work.wait(timeout=30) == -signal.SIGTERM
        assert lease.lost
    assert newer.read_text() == "{}"
    assert not json.loads(lease.path.read_text())["released"]


def test_a_failure_stops_what_needs_it_alone(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    ran: list[str] = []

    def fails(_lease: object) -> None:
        raise BadInput("out of memory")

    def job(name: str, *needs: Job) -> Job:
        return Job(name, needs, lambda: name in ran, lambda _lease: ran.append(name))

    broken = Job("broken", (), lambda: False, fails)
    seen: list[int] = []
    failed = run_all(
        [job("needs_it", broken), job("other", job("base"))], tmp_path, after=lambda: seen.append(len(ran)), poll=0.01
    )
    assert failed == {"broken": "out of memory", "needs_it": "broken is missing"}
    assert ran == ["base", "other"]
    assert seen[-1] == 2
    assert "[broken] failed: out of memory" in capsys.readouterr().out
    assert holder(tmp_path, "broken") is None


def test_nothing_is_run_where_something_else_stands(tmp_path: Path) -> None:
    def refuses() -> bool:
        raise BadInput("trained otherwise")

    first = Job("first", (), lambda: False, lambda _lease: pytest.fail("it must not be run"))
    with pytest.raises(BadInput, match="trained otherwise"):
        run_all([first, Job("second", (), refuses, lambda _lease: None)], tmp_path)


def test_jobs_come_after_what_they_need() -> None:
    base = Job("base", (), lambda: False, lambda _lease: None)
    other = Job("other", (base,), lambda: False, lambda _lease: None)
    last = Job("last", (other, base), lambda: False, lambda _lease: None)
    assert [job.name for job in in_order([last, other, base])] == ["base", "other", "last"]
