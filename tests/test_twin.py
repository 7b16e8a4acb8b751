"""The simulated arm: what it shows, what it says and what a hand does to it, when it is told to."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import numpy as np
import psutil
import pytest
import twins

from robot import registers as r
from robot import trials, truth
from robot.connection import Connection, connect
from robot.kinematics import LIMITS, Kinematics
from robot.mounting import read_mounted
from robot.twin import assembly
from robot.twin.control import ControlClient
from robot.twin.frames import FrameReader, FrameWriter
from robot.twin.hand import jaw, lead, path, pick_and_place
from robot.twin.model import Look
from robot.twin.remote import LockstepClock, Twin
from robot.twin.scenes import by_chance
from videopolicy.errors import BadInput

FOLDED = [0.0, -1.9, 1.9, 1.2, 0.0, 0.0]


@pytest.fixture(scope="module")
def robot(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Connection]:
    with connect(twins.settings(tmp_path_factory.mktemp("robot"))) as robot:
        yield robot


@pytest.fixture
def twin(robot: Connection) -> Twin:
    """At rest, nobody's hand on it."""
    assert robot.twin is not None
    robot.twin.ask("lead", path=[[0.0, *robot.twin.ask("state")["angles"]], [1.0, *FOLDED]])
    robot.twin.ask("step", seconds=1.2)
    robot.twin.ask("lead", path=None)
    robot.twin.ask("place", name="cup", xy=[0.22, 0.08])
    robot.twin.ask("place", name="saucer", xy=[0.22, -0.08])
    return robot.twin


def test_time_passes_when_it_is_told_to(robot: Connection, twin: Twin) -> None:
    clock = robot.clock
    assert isinstance(clock, LockstepClock)
    begun = twin.ask("state")["time"]
    assert twin.ask("state")["time"] == begun
    clock = LockstepClock(twin, lambda: None)
    clock.sleep_until(clock.now() + 0.1)
    assert twin.ask("state")["time"] == pytest.approx(begun + 0.1)
    clock.sleep_until(0.0)
    assert clock.now() == pytest.approx(begun + 0.1)


def test_the_arm_is_what_kinematics_says(robot: Connection, twin: Twin) -> None:
    """Through the bus: angles as they are in the model, the tool where forward kinematics puts it."""
    calibration, _, _ = read_mounted(robot.settings.calibration)
    arm = robot.arm(calibration)
    rng = np.random.default_rng(0)
    for _ in range(4):
        q = rng.uniform([-1.0, -1.8, 0.9, 0.2, -0.5], [1.0, -1.2, 1.5, 0.9, 0.5])
        lead(twin, np.array([[1.0, *q, jaw(0.4)]]))
        twin.ask("step", seconds=1.5)
        state, read = twin.ask("state"), arm.read()
        np.testing.assert_allclose(read.position, state["angles"][:5], atol=1e-3)
        np.testing.assert_allclose(Kinematics().hand_to_base(read.position), state["hand"], atol=1e-3)
        np.testing.assert_allclose(arm.limits, LIMITS, atol=2e-3)
        assert read.opening == pytest.approx(state["opening"], abs=2e-3)


def test_torque_holds_the_arm_and_its_absence_does_not(robot: Connection, twin: Twin) -> None:
    calibration, _, _ = read_mounted(robot.settings.calibration)
    arm = robot.arm(calibration)
    lead(twin, np.array([[1.0, 0.0, -1.2, 0.9, 0.6, 0.0, 0.0]]))
    twin.ask("step", seconds=1.5)
    before = arm.read().position.copy()
    arm.torque_on()
    assert arm.bus.ping(1) is not None
    twin.ask("lead", path=None)
    twin.ask("step", seconds=1.0)
    assert twin.ask("state")["torque"] == [True] * 6
    np.testing.assert_allclose(arm.read().position, before, atol=np.radians(4))
    assert max(abs(arm.state.load)) > 0.05
    assert arm.torque_off() == []
    twin.ask("step", seconds=2.0)
    assert np.abs(arm.read().position - before).max() > np.radians(15)


def test_a_hand_puts_the_cup_on_the_saucer(twin: Twin) -> None:
    state = twin.ask("state")
    assert not trials.placed(state)
    tool = np.array(state["hand"])[:3, 3]
    strokes = pick_and_place((0.22, 0.08), (0.22, -0.08), np.random.default_rng(0))
    rows = path(strokes, tool, state["opening"])
    seconds = lead(twin, rows)
    highest = 0.0
    for _ in range(int(seconds / 0.2) + 3):
        twin.ask("step", seconds=0.2)
        state = twin.ask("state")
        highest = max(highest, state["cup"]["position"][2])
    assert highest > 0.07
    assert not state["led"]
    assert trials.placed(state)


def test_pictures_show_what_changes(twin: Twin) -> None:
    """Noise aside: the cup where it is, another table, another camera."""
    reader = FrameReader(twin.folder / "camera")

    def seen() -> np.ndarray:
        number = twin.ask("picture")["number"]
        found = reader.newest()
        assert found is not None
        assert found[0] == number == reader.number
        assert found[1] == pytest.approx(twin.ask("state")["time"])
        return found[2].astype(float)

    first = seen()
    assert 0 < np.abs(seen() - first).mean() < 5  # noise alone
    twin.ask("place", name="cup", xy=[0.24, 0.02])
    moved = np.abs(seen() - first).max(-1) > 60
    assert 30 < moved.sum() < 1200
    twin.ask("dress", table="checks")
    assert np.abs(seen() - first).mean() > 10
    assert twin.ask("dress", table="plain")["table"] == "plain"
    twin.ask("place", name="cup", xy=[0.22, 0.08])
    assert np.abs(seen() - first).mean() < 5
    reader.close()


def test_a_lamp_is_turned_to_the_things(twin: Twin) -> None:
    """The table is as bright wherever it hangs: it is not what stands beside its cone."""
    reader = FrameReader(twin.folder / "camera")
    bright = []
    for lamp in (Look().lamp, *(by_chance(number, "test").look.lamp for number in range(12))):
        twin.ask("dress", **{**asdict(Look()), "lamp": lamp})
        twin.ask("picture")
        found = reader.newest()
        assert found is not None
        bright.append(np.median(found[2][60:].mean(2)))  # the lower half is table
    twin.ask("dress", **asdict(Look()))
    reader.close()
    np.testing.assert_allclose(np.divide(bright, bright[0]), 1, atol=0.08)


def test_a_camera_can_fail(twin: Twin) -> None:
    reader = FrameReader(twin.folder / "camera")
    twin.ask("picture")
    before = reader.newest()
    assert before is not None
    twin.ask("shutter", state="frozen")
    twin.ask("step", seconds=0.1)
    twin.ask("picture")
    after = reader.newest()
    assert after is not None
    assert after[1] == pytest.approx(before[1] + 0.1)
    np.testing.assert_array_equal(after[2], before[2])
    twin.ask("shutter", state="stale")
    assert twin.ask("picture")["number"] == 0
    twin.ask("shutter", state="unplugged")
    assert not (twin.folder / "camera").exists()
    twin.ask("shutter", state="running")
    assert twin.ask("picture")["number"] == 1
    reader.close()


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ({"do": "fly"}, "do is 'fly'; allowed: board, cable, camera"),
        ({"do": "place", "name": "fork", "xy": [0, 0]}, "place .*fork"),
        ({"do": "place", "name": "cup"}, "missing 1 required positional argument: 'xy'"),
        ({"do": "dress", "table": "glass"}, "look.table is 'glass'; allowed: plain, checks, stripes"),
        ({"do": "board", "at": "home"}, "board is at 'home'; allowed: hand, table, nowhere"),
        ({"do": "shutter", "state": "shut"}, "'shut'; allowed: running, frozen, stale, unplugged"),
        ({"do": "lead", "path": [[1, 2]]}, "lead"),
        ({"do": "camera", "T": [[1]]}, "camera"),
    ],
)
def test_requests_without_sense_are_refused(twin: Twin, request_: dict, words: str) -> None:
    with pytest.raises(BadInput, match=words):
        twin.ask(request_["do"], **{k: v for k, v in request_.items() if k != "do"})
    assert twin.ask("state")["time"] >= 0


def test_motors_keep_what_they_are_told_without_power(tmp_path: Path) -> None:
    servos = assembly.servos(3)
    servo = servos["elbow_flex"]
    servo.write(r.LOCK.address, b"\0")
    servo.write(r.HOMING_OFFSET.address, r.HOMING_OFFSET.encode(-321))
    assembly.remember(tmp_path / "eeprom", servos)
    again = assembly.servos(3)
    assembly.recall(tmp_path / "eeprom", again)
    assert again["elbow_flex"].get(r.HOMING_OFFSET) == -321
    assert again["wrist_flex"].get(r.HOMING_OFFSET) == 0
    (tmp_path / "eeprom").write_bytes(b"short")
    with pytest.raises(BadInput, match="eeprom has 5 bytes; allowed: 240"):
        assembly.recall(tmp_path / "eeprom", again)


def test_frames_of_another_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "camera").write_bytes(b"nothing of the kind" * 10)
    with pytest.raises(BadInput, match="camera holds no pictures"):
        FrameReader(tmp_path / "camera")
    writer = FrameWriter(tmp_path / "camera", (8, 6))
    reader = FrameReader(tmp_path / "camera")
    assert reader.newest() is None
    image = np.arange(144, dtype=np.uint8).reshape(6, 8, 3)
    assert writer.write(image, 1.5) == 1
    found = reader.newest()
    assert found is not None
    assert found[:2] == (1, 1.5)
    np.testing.assert_array_equal(found[2], image)


def test_it_answers_a_line_and_drops_what_is_no_json(twin: Twin) -> None:
    """The socket is its owner's alone."""
    assert (twin.folder / "control").stat().st_mode & 0o777 == 0o600
    client = ControlClient(twin.folder / "control", 0.2)  # waits its turn
    with pytest.raises(TimeoutError):
        client.ask("state")
    client.close()


def test_a_twin_that_cannot_start_says_so(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="ended with status 2 at its start"), Twin(tmp_path / "twin", "--fovy", "wide"):
        pass
    command = [sys.executable, "-m", "robot.truth", "configs/robot_so100.yaml"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert found.returncode == 2
    assert "this is no twin, its camera fixed; allowed: a twin, fixed" in found.stderr


def test_two_programs_do_not_share_a_twin(robot: Connection, twin: Twin) -> None:
    """The first goes on as if nothing had been."""
    with pytest.raises(BadInput, match="ended with status 2 at its start"), Twin(twin.folder):
        pass
    assert twin.ask("state")["time"] >= 0
    assert robot.bus.ping(1) is not None


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--board", "nowhere.png"], "no picture nowhere.png"),
        (["--size", "0", "0"], "--size [0, 0] --fps 10.0 --seed 0; allowed: from 16, above 0, from 0 on"),
        (["--seed", "-1"], "--seed -1; allowed"),
    ],
)
def test_a_twin_that_cannot_be_says_so_in_a_line(tmp_path: Path, arguments: list[str], words: str) -> None:
    command = [sys.executable, "-m", "robot.twin", str(tmp_path / "twin"), *arguments]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert found.returncode == 2
    assert found.stderr.startswith("error: ")
    assert words in found.stderr
    assert found.stderr.count("\n") == 1


def test_it_ends_with_the_program_that_started_it(tmp_path: Path) -> None:
    script = (
        "import os, signal, sys; from pathlib import Path; from robot.twin.remote import Twin\n"
        "twin = Twin(Path(sys.argv[1]), '--size', '64', '48', lockstep=True).__enter__()\n"
        "print(twin.process.pid, flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    found = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=False)
    assert found.returncode == -9
    with suppress(psutil.NoSuchProcess):
        psutil.Process(int(found.stdout)).wait(5)
    assert not (tmp_path / "control").exists()


def test_the_truth_agrees_with_itself(robot: Connection) -> None:
    found = truth.errors(robot.settings)
    assert max(abs(v) for v in found.values()) < 1e-4
