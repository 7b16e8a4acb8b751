"""The program that people start: in real time on the twin, stopped by hand, its policy killed, its input wrong."""

import itertools
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
import twins
import yaml
from flows import config

from robot import pictures, run, telemetry
from robot.calibration import read_calibration, write_calibration
from robot.connection import twin_of
from robot.packets import PING, READ, SYNC_READ, Reader
from robot.settings import read_settings
from train_stages import light
from videopolicy.config import to_dict
from videopolicy.data.video import write_video
from videopolicy.errors import BadInput


@pytest.fixture(scope="module")
def folder(written_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A policy that knows nothing, a twin that is calibrated, and a robot's YAML file."""
    folder = tmp_path_factory.mktemp("run")
    light.main(config(light.Config, "light", run=folder / "policy", data__root=written_dataset, train__n_steps=1))
    settings = twins.settings(folder, lockstep=False)
    (folder / "robot.yaml").write_text(yaml.safe_dump(to_dict(settings)))
    return folder


class Program:
    """`python -m robot.run`, and what it has said."""

    def __init__(self, folder: Path, *arguments: str, robot: str = "robot.yaml") -> None:
        given = ["--policy", str(folder / "policy"), "--robot", str(folder / robot), "--log", str(folder / "log")]
        command = [sys.executable, "-m", "robot.run", *given, *arguments]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
        )
        self.said = ""

    def wait_for(self, words: str) -> None:
        assert self.process.stdout is not None
        while not re.search(words, self.said):
            line = self.process.stdout.readline()
            assert line, self.said
            self.said += line

    def end(self, seconds: float = 120.0) -> int:
        rest, _ = self.process.communicate(timeout=seconds)
        self.said += rest
        return self.process.returncode

    def child(self, module: str) -> psutil.Process:
        found = [p for p in psutil.Process(self.process.pid).children() if module in p.cmdline()]
        assert len(found) == 1
        return found[0]


@pytest.fixture
def program(folder: Path) -> Iterator[Program]:
    program = Program(folder, "--seconds", "600")
    yield program
    program.process.kill()


def newest_log(folder: Path) -> Path:
    return max((folder / "log").iterdir())


def test_ctrl_c_takes_it_to_rest(program: Program, folder: Path) -> None:
    """Meanwhile nobody else can open its port."""
    program.wait_for(r"s  run ")
    script = "import sys; from robot.feetech import Bus; Bus(sys.argv[1], {})"
    port = os.path.realpath(folder / "twin/port")
    found = subprocess.run([sys.executable, "-c", script, port], capture_output=True, text=True, check=False)
    assert found.returncode == 1
    assert f"{port} is used by another program; end it first" in found.stderr
    os.killpg(program.process.pid, signal.SIGINT)  # as a terminal does: to all that belong to it
    assert program.end() == 0
    assert "going to rest" in program.said
    assert re.search(r"s  park +asked to stop", program.said)
    assert re.search(r"ticks at \d+\.\d+ Hz", program.said)
    assert re.search(r"\d+ chunks, \d+ ms after their pictures", program.said)
    rows = telemetry.read(newest_log(folder))
    assert rows["mode"].to_pylist()[-1] == "off"
    assert not (newest_log(folder) / "pictures").exists()


def test_pictures_are_kept_until_the_disk_is_full(folder: Path) -> None:
    """Then the arm goes to its rest. From there on no file may have a byte, which is what a full disk says."""
    program = Program(folder, "--seconds", "600", "--pictures")
    try:
        program.wait_for(r"s  run ")
        log = newest_log(folder)
        end = time.monotonic() + 60
        while len(pictures.files(log)) < 3:
            assert time.monotonic() < end
            time.sleep(0.1)
        process = psutil.Process(program.process.pid)
        _, most = process.rlimit(psutil.RLIMIT_FSIZE)
        process.rlimit(psutil.RLIMIT_FSIZE, (0, most))
        program.wait_for(r"s  park +pictures: cannot write .*\.jpg: File too large")
        process.rlimit(psutil.RLIMIT_FSIZE, (most, most))
        assert program.end() == 0, program.said
    finally:
        program.process.kill()
    assert re.search(r"telemetry and \d+ pictures in ", program.said)
    now = telemetry.read(log)["now"].to_pylist()
    looks = [pictures.read(path) for path in pictures.files(log)]
    for look in looks:
        assert look.observation.image.shape == (120, 160, 3)
        assert look.chunk.heatmaps is not None
        assert len(look.chunk.heatmaps) == len(look.chunk.gripper)
        assert look.captured < look.came < now[-1]
    assert all(a.captured < b.captured for a, b in itertools.pairwise(looks))
    assert {path.suffix for path in (log / "pictures").iterdir()} == {".jpg", ".png", ".json"}


def test_a_policy_that_is_killed_ends_at_rest(program: Program) -> None:
    program.wait_for(r"s  run ")
    program.child("robot.policy_server").send_signal(signal.SIGKILL)
    assert program.end() == 0
    assert re.search(r"s  off +policy: .*killed by signal 9", program.said)


def test_dry_runs_send_nothing(folder: Path) -> None:
    """Who listens on the line hears questions alone. That joints move says nothing: without torque the arm sinks."""
    rng = np.random.default_rng(0)
    write_video(folder / "room.mp4", rng.integers(0, 255, (30, 120, 160, 3), dtype=np.uint8), 10)
    settings = read_settings(folder / "robot.yaml")
    with twin_of(settings) as twin:
        camera = replace(settings.camera, source="video", path=str(folder / "room.mp4"), loop=True)
        other = replace(settings, port=str(twin.port), twin=None, camera=camera)
        (folder / "dry.yaml").write_text(yaml.safe_dump(to_dict(other)))
        program = Program(folder, "--dry_run", "--seconds", "2", robot="dry.yaml")
        assert program.end() == 0, program.said
        heard = [packet for _, packet in twin.ask("heard")["packets"]]
        assert not any(twin.ask("state")["torque"])
    codes = {packet.code for data in heard for packet in Reader().feed(bytes.fromhex(data))}
    assert SYNC_READ in codes
    assert codes <= {PING, READ, SYNC_READ}
    withheld = re.search(r"'withheld': (\d+)", program.said)
    assert withheld is not None
    assert int(withheld[1]) > 50


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("calibration", "nowhere.json", "no calibration at nowhere.json: run robot.calibrate"),
        ("calibration", "short.json", "short.json"),
        ("calibration", "other.json", "its motor .*: is it another arm's"),
        ("mount", "ceiling", "Cannot convert 'ceiling' .* into one of: fixed, wrist"),
        ("slack", 3.0, "slack is 3.0; allowed"),
        ("port", None, "'port' is null"),
    ],
)
def test_what_is_wrong_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch, key: str, value: object, words: str
) -> None:
    entry = yaml.safe_load((folder / "robot.yaml").read_text())
    whole = (folder / "calibration.json").read_text()
    (folder / "short.json").write_text(whole[: len(whole) // 2])
    joints = json.loads(whole)
    joints["joints"]["elbow_flex"]["homing_offset"] += 5
    (folder / "other.json").write_text(json.dumps(joints))
    inside = isinstance(value, str) and value.endswith(".json") and value != "nowhere.json"
    entry[key] = str(folder / str(value)) if inside else value
    (folder / "wrong.yaml").write_text(yaml.safe_dump(entry))
    monkeypatch.setattr(sys, "argv", ["run", "--policy", str(folder / "policy"), "--robot", str(folder / "wrong.yaml")])
    with pytest.raises(BadInput, match=words):
        run.main()


def test_a_program_that_cannot_start_says_so_in_a_line(folder: Path) -> None:
    program = Program(folder, "--seconds", "-1")
    assert program.end() == 2
    assert program.said == "error: --seconds is -1.0; allowed: above 0\n"


def test_threads_are_one_or_more(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["--policy", str(folder / "policy"), "--robot", str(folder / "robot.yaml"), "--threads", "0"]
    monkeypatch.setattr(sys, "argv", ["run", *names])
    with pytest.raises(BadInput, match=r"--threads is 0; allowed: at least 1"):
        run.main()


def test_a_calibration_is_kept_as_it_was_read(folder: Path, tmp_path: Path) -> None:
    arm, rest = read_calibration(folder / "calibration.json")
    write_calibration(tmp_path / "again.json", arm, rest)
    assert json.loads((tmp_path / "again.json").read_text()) == json.loads((folder / "calibration.json").read_text())
