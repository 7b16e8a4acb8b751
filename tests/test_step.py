"""One step of a pipeline: done once, done again when something it depends on changed, and never left running."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from eval import step
from videopolicy.data.files import read_jsonl
from videopolicy.errors import BadInput

ROOT = Path(__file__).parent.parent


@pytest.fixture
def run(tmp_path: Path):
    """Run a step that writes a line to `count`; returns how often it has run so far."""
    (tmp_path / "config.yaml").write_text("a: 1")

    def run(*options: str, name: str = "first", code: str = "") -> int:
        count = tmp_path / f"count_{name}"
        line = f"open({str(count)!r}, 'a').write('x'); {code}"
        arguments = [str(tmp_path), name, *options, str(tmp_path / "config.yaml")]
        handlers = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
        step.main([*arguments, "--", sys.executable, "-c", line])
        for number, handler in zip((signal.SIGINT, signal.SIGTERM, signal.SIGHUP), handlers, strict=True):
            signal.signal(number, handler)
        return len(count.read_text())

    return run


def test_a_step_runs_once(run, tmp_path: Path) -> None:
    code = "import time; block = bytearray(300 * 2**20); time.sleep(2)"
    assert [run(code=code), run(code=code)] == [1, 1]
    (record,) = read_jsonl(tmp_path / "steps.jsonl")
    assert record["status"] == 0
    assert 0.29 < record["peak_gib"] < 0.5


def test_a_step_runs_again_when_its_input_changed_or_its_output_is_gone(run, tmp_path: Path) -> None:
    output = tmp_path / "output"
    output.touch()
    assert run("--output", str(output)) == 1
    (tmp_path / "config.yaml").write_text("a: 2")
    assert run("--output", str(output)) == 2
    output.unlink()
    assert run("--output", str(output)) == 3
    other = tmp_path / "other"
    for file in (output, other):
        file.touch()
    both = ("--output", str(output), "--output", str(other))
    assert [run(*both), run(*both)] == [3, 3]
    other.unlink()
    assert run(*both) == 4


def test_a_step_runs_again_after_any_of_those_before(run) -> None:
    both = ("--after", "first", "--after", "second")
    for name in ("first", "second"):
        run(name=name)
    assert [run(*both, name="third"), run(*both, name="third")] == [1, 1]
    for number, name in enumerate(("first", "second"), 2):
        run(name=name, code="pass")  # another command
        assert run(*both, name="third") == number


def test_a_step_runs_again_after_an_earlier_one_did(run, tmp_path: Path) -> None:
    run()
    assert run("--after", "first", name="second") == 1
    assert run("--after", "first", name="second") == 1
    (tmp_path / "config.yaml").write_text("a: 2")
    run()
    assert run("--after", "first", name="second") == 2


def test_a_failed_step_is_not_done(run) -> None:
    assert [run(code="raise SystemExit(3)"), run(code="raise SystemExit(3)")] == [1, 2]


def test_an_interrupted_step_waits_for_its_whole_family(tmp_path: Path) -> None:
    """A launcher that leaves at once on a signal, and a child of it that still saves: the step ends after the child."""
    saved = tmp_path / "saved"
    child = f"""
import pathlib, signal, time
def save(*_):
    time.sleep(1.5)
    pathlib.Path({str(saved)!r}).touch()
    raise SystemExit(130)
signal.signal(signal.SIGINT, save)
pathlib.Path({str(tmp_path / "ready")!r}).touch()
time.sleep(60)"""
    launcher = f"import subprocess, sys; sys.exit(subprocess.Popen([sys.executable, '-c', {child!r}]).wait())"
    command = [sys.executable, "-m", "eval.step", str(tmp_path / "run"), "x", "--", sys.executable, "-c", launcher]
    process = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, stderr=subprocess.DEVNULL)
    deadline = time.time() + 30
    while not (tmp_path / "ready").exists() and time.time() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=30) != 0
    assert saved.exists()


@pytest.mark.parametrize("arguments", [["runs/x", "video"], ["runs/x", "video", "--"]])
def test_a_step_without_a_command_is_refused_in_one_line(arguments: list[str]) -> None:
    with pytest.raises(BadInput, match=r"no command in .*'video'.*; allowed: FOLDER NAME \[inputs\] -- COMMAND"):
        step.main(arguments)
