"""Calibration from end to end, on emulated motors and drawn pictures; and driving the arm."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import arms
import numpy as np
import pytest
from arms import REST, FakeClock
from PIL import Image
from test_board import BOARD, LENS, SIZE, render
from test_hand_eye import PLACES, apart, board_in_camera
from test_homing import somebody

from robot import calibrate, markers, moving
from robot import registers as r
from robot.board import BoardConfig
from robot.calibration import read_calibration, write_calibration
from robot.control import ControlConfig
from robot.feetech import Bus, BusLost
from robot.hand_eye import Mount
from robot.kinematics import JOINTS, Kinematics, Pose
from robot.mounting import MountedCamera, lens_to_json
from robot.operator import Operator, Terminal
from robot.safety import SafetyConfig
from robot.so100 import Arm, ArmConfig
from robot.twin import mishaps
from robot.twin.line import Line
from robot.views import Station, take_views
from videopolicy.errors import BadInput

Printed = pytest.CaptureFixture
FAST = SafetyConfig(speed=4.0, acceleration=40.0)
UP = np.array([0.3, -1.5, 1.3, 0.6, 0.5])
CAMERA = MountedCamera(LENS.K, np.array([-0.1, 0.02, 0, 0, 0]), SIZE, "fixed", PLACES["fixed"][0], 0.4)


@dataclass
class Obliging:
    """Does what it is asked for at once, by `acts`."""

    acts: Callable[[str], object] = lambda step: None
    asked: list[str] = field(default_factory=list)

    def ask(self, step: str, text: str) -> None:
        assert len(text) > 20
        self.asked.append(step)
        self.acts(step)

    def done(self) -> bool:
        return True


@pytest.fixture
def line(tmp_path: Path) -> Iterator[Line]:
    with arms.line(tmp_path, REST) as line:
        yield line


@pytest.fixture
def clock(line: Line) -> FakeClock:
    return FakeClock(line)


@pytest.fixture
def arm(line: Line, clock: FakeClock) -> Iterator[Arm]:
    with Bus(str(line.port), arms.MOTORS) as bus:
        bus.slack = arms.SLACK
        arm = Arm(bus, arms.calibration(), ArmConfig(), clock.now)
        arm.connect()
        yield arm


def truth(clock: FakeClock) -> np.ndarray:
    """Joint angles as the motors stand."""
    joints = arms.calibration().joints
    return np.array([joints[n].angle(clock.line.servos[joints[n].id].actual - joints[n].homing_offset) for n in JOINTS])


def torque(clock: FakeClock) -> list[int]:
    return [servo.get(r.TORQUE_ENABLE) for servo in clock.line.servos.values()]


def at_rest(clock: FakeClock) -> None:
    np.testing.assert_allclose(np.degrees(truth(clock)), ControlConfig().rest_deg, atol=1)
    assert torque(clock) == [0] * 6


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A calibration file with joints and a lens."""
    write_calibration(tmp_path / "calibration.json", arms.calibration(), {"lens": lens_to_json(LENS, 0.1), "note": 1})
    return tmp_path / "calibration.json"


def station(arm: Arm, clock: FakeClock, mount: Mount, operator: Operator) -> Station:
    """With a camera that sees the board where `PLACES` says, once it was put there."""

    def take() -> np.ndarray:
        return render(board_in_camera(mount, truth(clock)))

    return Station(arm, Kinematics(limits=arm.limits), clock, operator, take, FAST, ControlConfig())


# -- views, lens, place ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mount", ["fixed", "wrist"])
def test_the_camera_is_found(arm: Arm, clock: FakeClock, path: Path, mount: Mount, capsys: Printed) -> None:
    """From pictures alone; the arm ends at rest without torque, and the rest of the file stays."""
    person = Obliging()
    views = take_views(station(arm, clock, mount, person), mount, BOARD, n_views=18)
    assert person.asked == ["board", "off_table"]
    assert len(views) == 18
    at_rest(clock)
    found = calibrate.place_camera(path, mount, views, calibrate.known_lens(path, SIZE), BOARD)
    mm, deg = apart(found.T, PLACES[mount][0])
    assert mm < 1.0
    assert deg < 0.1
    assert found.disagreement_mm < 3  # though some poses are half a turn apart
    _, rest = read_calibration(path)
    assert set(rest) == {"lens", "note", "camera"}
    assert MountedCamera.from_json(rest["camera"]).reprojection_px == found.reprojection_px < 0.6
    if mount == "wrist":  # near enough to tell the lens too
        lens = calibrate.find_lens(path, views, BOARD, SIZE)
        assert lens.K[0, 0] == pytest.approx(LENS.K[0, 0], rel=0.02)
        assert calibrate.known_lens(path, SIZE).K.tolist() == lens.K.tolist()
    else:
        calibrate.keep_markers(path, views, found, BOARD)
        camera = MountedCamera.from_json(rest["camera"]).camera(np.eye(4), -0.01)
        points, _, _ = markers.read(path, camera, -0.01)  # which says that they are where the camera sees them
        assert len(points) == 4
    said = capsys.readouterr().out
    assert "mm at the board, over 18 views" in said


def test_a_board_that_is_not_seen_is_told(arm: Arm, clock: FakeClock) -> None:
    """After the search, or at once where it is mirrored; the arm rests again."""
    right = station(arm, clock, "wrist", Obliging())
    with pytest.raises(BadInput, match="pictures show the board mirrored"):
        take_views(replace(right, take=lambda: right.take()[::-1].copy()), "wrist", BOARD)
    at_rest(clock)
    words = r"the board was seen in 0 of \d+ poses; allowed: at least 15: .* \(5 x 4 squares, DICT_6X6_50\)"
    with pytest.raises(BadInput, match=words):
        take_views(station(arm, clock, "wrist", Obliging()), "wrist", BoardConfig(dictionary="DICT_6X6_50"))
    assert torque(clock) == [0] * 6


# -- the other steps -------------------------------------------------------------------------------------------------


def test_the_table_is_touched(arm: Arm, clock: FakeClock, path: Path) -> None:
    """By the arm's own tip, without torque."""
    arm.torque_on()
    touched = [(0.14, 0.1), (0.14, -0.1), (0.24, 0.12), (0.24, -0.12), (0.2, 0.0), (0.28, 0.02)]

    def touch(step: str) -> None:
        assert torque(clock) == [0] * 6
        x, y = touched[int(step.removeprefix("touch_")) - 1]
        q = Kinematics().inverse(Pose(np.array([x, y, -0.006]), -1.4))
        for name, angle in zip(JOINTS, q, strict=True):
            joint = arm.calibration.joints[name]
            clock.line.servos[joint.id].actual = joint.ticks(angle) + joint.homing_offset

    person = Obliging(touch)
    table = calibrate.touch(arm, Kinematics(), clock, person, path)
    assert person.asked == [f"touch_{i}" for i in range(1, 7)]
    assert table.height == pytest.approx(-0.006, abs=3e-4)
    _, rest = read_calibration(path)
    assert rest["table"] == {"height": table.height, "tilt_deg": table.tilt_deg}
    assert rest["note"] == 1


def test_checking_draws_the_tool_where_it_is(arm: Arm, clock: FakeClock, path: Path, tmp_path: Path) -> None:
    write_calibration(path, arms.calibration(), {"camera": CAMERA.to_json(), "table": {"height": -0.006}})
    uv = calibrate.check(station(arm, clock, "fixed", Obliging()), path, tmp_path / "check.png")
    hand = Kinematics().hand_to_base(truth(clock))
    in_camera = np.linalg.inv(CAMERA.T) @ hand[:, 3]
    x, y = in_camera[:2] / in_camera[2]
    bent = 1 - 0.1 * (x * x + y * y) + 0.02 * (x * x + y * y) ** 2
    np.testing.assert_allclose(uv, [610 * bent * x + 322, 610 * bent * y + 236], atol=0.5)
    with Image.open(tmp_path / "check.png") as image:
        drawn = np.array(image).astype(int)
    blank = np.abs(drawn - drawn.mean(-1, keepdims=True)).max(-1) > 40  # what has a colour
    v, u = np.nonzero(blank)
    assert 20 < len(v) < 2000
    assert np.hypot(u + 0.5 - uv[0], v + 0.5 - uv[1]).min() < 1.5


def test_joints_keep_what_still_holds(arm: Arm, clock: FakeClock, path: Path, capsys: Printed) -> None:
    """The camera's place while angles mean what they meant; not when an arm was put together anew."""
    person = somebody(clock.line, 2)
    first = calibrate.joints(arm.bus, person, clock, path)
    write_calibration(path, first, {"camera": CAMERA.to_json(), "table": {"height": 0.0}, "lens": {}})
    person.paths["middle"] = person.paths["middle"] + 0.1  # homed elsewhere
    second = calibrate.joints(arm.bus, person, clock, path)
    assert second.joints["elbow_flex"].homing_offset != first.joints["elbow_flex"].homing_offset
    assert set(read_calibration(path)[1]) == {"camera", "table", "lens"}
    capsys.readouterr()
    person.zeros[2] += 80  # a tooth of the elbow's gear
    calibrate.joints(arm.bus, person, clock, path)
    assert set(read_calibration(path)[1]) == {"lens"}
    assert (
        "elbow_flex counts from another zero than before: calibrate camera and table again" in capsys.readouterr().out
    )


def test_the_board_is_printed_by_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "robot.yaml").write_text("board: {n_columns: 6}\n")
    output = tmp_path / "board.png"
    monkeypatch.setattr("sys.argv", ["", "board", "--robot", str(tmp_path / "robot.yaml"), "--output", str(output)])
    calibrate.main()
    with Image.open(output) as image:
        assert image.size == (7 * 300, 5 * 300)


def test_people_answer_with_enter(capsys: Printed) -> None:
    """Once for each question; a pipe that has ended answers none."""
    out, into = os.pipe()
    with os.fdopen(out) as file:
        person = Terminal(file)
        os.write(into, b"\n\n")
        person.ask("middle", "Hold every joint near its middle.")
        assert not person.done()
        assert "[middle] Hold every joint near its middle.\nThen press Enter." in capsys.readouterr().out
        os.write(into, b"\n")
        assert person.done()
        assert not person.done()
        os.close(into)
        with pytest.raises(BadInput, match="standard input has ended"):
            person.done()


# -- driving ---------------------------------------------------------------------------------------------------------


def test_driving_arrives_and_settles(arm: Arm, clock: FakeClock) -> None:
    with moving.powered(arm, Kinematics(), FAST, ControlConfig(), clock) as safety:
        began = clock.now()
        moving.drive(arm, safety, clock, UP, 0.8)
        np.testing.assert_allclose(truth(clock), UP, atol=np.radians(0.5))
        assert arm.state.opening == pytest.approx(0.8, abs=0.01)
        assert 0.3 < clock.now() - began < 2.0
        moving.hold(arm, safety, clock, 0.1, lambda: clock.now() > began + 4)
        np.testing.assert_allclose(truth(clock), UP, atol=np.radians(0.5))
        assert arm.state.opening == pytest.approx(0.1, abs=0.01)
        with pytest.raises(BadInput, match=r"elbow_flex is to go to 178\.\d deg; allowed: 2\.\d to 177\.\d"):
            moving.drive(arm, safety, clock, UP + [0, 0, np.radians(178.5) - UP[2], 0, 0], 0.5)
    at_rest(clock)


FAULTS = {
    "silent": (
        lambda line: line.always.update({3: mishaps.silent}),
        RuntimeError,
        "cut the arm's power .*elbow_flex does not answer",
    ),
    "overloaded": (lambda line: line.always.update({5: mishaps.error(32)}), RuntimeError, "wrist_roll: overload"),
    "hot": (lambda line: line.servos[2].heat(80), RuntimeError, "shoulder_lift: 80 C"),
    "stuck": (
        lambda line: setattr(line.servos[1], "advance", lambda s: None),
        RuntimeError,
        r"shoulder_pan is still 1\d",
    ),
    "unplugged": (lambda line: line.unplug(), RuntimeError, "did not confirm that torque is off: cut the arm's power"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_what_stops_the_arm_is_told(arm: Arm, clock: FakeClock, name: str) -> None:
    """And torque goes off, where a motor still hears it."""
    befall, kind, words = FAULTS[name]

    def try_to_move() -> None:
        with moving.powered(arm, Kinematics(), FAST, ControlConfig(), clock) as safety:
            befall(clock.line)
            arm.bus.slack = 0.002
            moving.drive(arm, safety, clock, UP, 0.5)

    with pytest.raises(kind, match=words) as caught:
        try_to_move()
    if name == "unplugged":
        assert isinstance(caught.value.__context__, BusLost)
    else:
        assert torque(clock) == [0] * 6


def test_programs_that_fail_take_the_arm_to_its_rest(arm: Arm, clock: FakeClock) -> None:

    def fail() -> None:
        with moving.powered(arm, Kinematics(), FAST, ControlConfig(), clock) as safety:
            moving.drive(arm, safety, clock, UP, 0.5)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    at_rest(clock)
