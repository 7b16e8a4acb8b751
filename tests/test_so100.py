"""The arm on emulated motors: the right one, set up once, and never asked for what could hurt it."""

import dataclasses
import json
import time
from collections.abc import Iterator
from pathlib import Path

import arms
import numpy as np
import pytest

from robot import registers as r
from robot.calibration import ArmCalibration, Joint, read_calibration, write_calibration
from robot.feetech import Bus, MotorSilent
from robot.packets import SYNC_WRITE, WRITE
from robot.so100 import Arm, ArmConfig
from robot.twin import mishaps
from robot.twin.line import Line
from videopolicy.errors import BadInput

REST = (0.3, -1.6, 1.5, 1.1, -0.2, 0.25)


@pytest.fixture
def line(tmp_path: Path) -> Iterator[Line]:
    with arms.line(tmp_path, REST) as line:
        yield line


@pytest.fixture
def arm(line: Line) -> Iterator[Arm]:
    with Bus(str(line.port), arms.MOTORS) as bus:
        bus.slack = arms.SLACK
        yield Arm(bus, arms.calibration(), ArmConfig())


def held(line: Line, register: r.Register) -> list[int]:
    """What motors hold, after all that was sent has arrived: writes to several are not answered."""
    time.sleep(0.02)
    return [servo.get(register) for servo in line.servos.values()]


def test_angles_are_the_models(arm: Arm) -> None:
    arm.connect()
    np.testing.assert_allclose(arm.state.position, REST[:5], atol=2 * np.pi / r.TURN)
    assert arm.state.opening == pytest.approx(REST[5], abs=1e-3)
    assert arm.state.errors == [0] * 6


def test_connecting_writes_differences_alone(arm: Arm, line: Line) -> None:
    """Nothing that lasts is written twice, the lock is closed behind it, and no motor moves or gets torque."""
    arm.connect()
    assert held(line, r.P_GAIN) == [16] * 6
    assert held(line, r.LOCK) == [1] * 6
    assert held(line, r.MAX_TORQUE) == [1000] * 5 + [500]
    line.heard.clear()
    arm.connect()
    assert not [p for _, p in line.heard if p.code in (WRITE, SYNC_WRITE)]
    assert held(line, r.TORQUE_ENABLE) == [0] * 6


def test_goals_are_sent_with_their_speed(arm: Arm, line: Line) -> None:
    arm.connect()
    arm.torque_on()
    assert held(line, r.TORQUE_ENABLE) == [1] * 6
    assert held(line, r.TORQUE_LIMIT) == [1000] * 5 + [500]
    goal = np.array([0.1, -1.2, 1.0, 0.8, 0.3])
    arm.command(goal, 0.75, speed=1.0, acceleration=10.0)
    assert held(line, r.ACCELERATION) == [65] * 6
    for _ in range(400):
        for servo in line.servos.values():
            servo.advance(0.005)
            if servo.setpoint is not None:
                servo.actual = servo.setpoint
    state = arm.read()
    np.testing.assert_allclose(state.position, goal, atol=2 * np.pi / r.TURN)
    assert state.opening == pytest.approx(0.75, abs=1e-3)
    speeds = np.array(held(line, r.GOAL_VELOCITY)) * 2 * np.pi / r.TURN  # the unit is a tick: bit 2 of the phase
    np.testing.assert_allclose(speeds, 1.0, rtol=0.01)


@pytest.mark.parametrize(
    ("goal", "words"),
    [
        ([0.1, -1.2, np.nan, 0.8, 0.3], "are not finite"),
        ([0.1, 0.5, 1.0, 0.8, 0.3], r"shoulder_lift is to go to 28.6 deg; allowed: -180.0 to 11.5"),
        ([3.0, -1.2, 1.0, 0.8, 0.3], "shoulder_pan is to go to 171.9 deg"),
    ],
)
def test_what_would_hurt_is_not_sent(arm: Arm, line: Line, goal: list, words: str) -> None:
    arm.connect()
    arm.torque_on()
    before = held(line, r.GOAL_POSITION)
    with pytest.raises(ValueError, match=words):
        arm.command(np.array(goal), 0.5)
    assert held(line, r.GOAL_POSITION) == before


def test_torque_begins_where_the_arm_is(arm: Arm, line: Line) -> None:
    """Whatever goal the motors still held: none jumps."""
    arm.connect()
    for servo in line.servos.values():
        servo.memory[42:44] = r.GOAL_POSITION.encode(2047)
    arm.torque_on()
    assert held(line, r.GOAL_POSITION) == held(line, r.PRESENT_POSITION)
    enabling = [i for i, (_, p) in enumerate(line.heard) if p.code == SYNC_WRITE and p.parameters[0] == 40]
    goals = [i for i, (_, p) in enumerate(line.heard) if p.code == SYNC_WRITE and p.parameters[0] == 42]
    assert goals[0] < enabling[0]
    line.always[2] = mishaps.silent
    with pytest.raises(MotorSilent, match="shoulder_lift does not answer"):
        arm.torque_on()


def test_letting_go_is_on_the_wire_and_confirmed(arm: Arm, line: Line) -> None:
    arm.connect()
    arm.torque_on()
    assert held(line, r.TORQUE_ENABLE) == [1] * 6
    line.heard.clear()
    assert arm.torque_off() == []
    assert line.heard[0][1].to_bytes() == bytes.fromhex("ff ff fe 04 03 28 00 d2")
    assert held(line, r.TORQUE_ENABLE) == [0] * 6
    arm.torque_on()
    line.always[4] = mishaps.silent
    assert arm.torque_off() == ["wrist_flex"]  # it has let go, but nobody can say so
    assert held(line, r.TORQUE_ENABLE) == [0] * 6
    line.unplug()
    assert arm.torque_off() == list(arms.MOTORS.values())


def test_a_silent_motor_keeps_its_last_value_with_its_time(arm: Arm, line: Line) -> None:
    arm.connect()
    before = arm.read().heard.copy()
    line.always[3] = mishaps.silent
    line.servos[1].actual += 40
    state = arm.read()
    assert state.heard[2] == before[2]
    assert (np.delete(state.heard, 2) > np.delete(before, 2)).all()
    assert state.position[2] == pytest.approx(REST[2], abs=2e-3)


def test_troubles_are_named(arm: Arm, line: Line) -> None:
    arm.connect()
    line.servos[5].errors = 32
    line.servos[2].memory[r.PRESENT_TEMPERATURE.address] = 71
    assert arm.read().troubles(arm.cfg) == ["wrist_roll: overload", "shoulder_lift: 71 C"]


def test_another_arm_is_refused(arm: Arm, line: Line) -> None:
    line.servos[3].memory[r.HOMING_OFFSET.address] ^= 1
    with pytest.raises(BadInput, match=r"homing_offset -6 of elbow_flex, its motor -7: is it another arm's\?"):
        arm.connect()
    line.servos[3].memory[r.HOMING_OFFSET.address] ^= 1
    line.servos[6].memory[3] = 8
    with pytest.raises(BadInput, match=r"gripper \(id 6\) is a motor of model 776; allowed: 777"):
        arm.connect()
    line.servos[6].memory[3] = 9
    line.servos[6].memory[1] = 9
    with pytest.raises(BadInput, match=r"different firmware: .*gripper 3\.9; allowed: one version"):
        arm.connect()
    line.always[4] = mishaps.silent
    with pytest.raises(MotorSilent, match="wrist_flex does not answer"):
        arm.connect()
    assert held(line, r.TORQUE_ENABLE) == [0] * 6


# -- calibration.json ------------------------------------------------------------------------------------------------


def test_calibrations_come_back(tmp_path: Path) -> None:
    arm = arms.calibration()
    write_calibration(tmp_path / "calibration.json", arm, {"table": [0, 0, 1, 0]})
    assert read_calibration(tmp_path / "calibration.json") == (arm, {"table": [0, 0, 1, 0]})
    arm.need_signs(tmp_path)


def test_lerobots_file_is_read_and_written(tmp_path: Path) -> None:
    """Its five numbers of each joint; which way they turn must still be found out."""
    arm, path = arms.calibration(), tmp_path / "lerobot.json"
    path.write_text(json.dumps(arm.lerobot()))
    assert set(arm.lerobot()["gripper"]) == {"id", "drive_mode", "homing_offset", "range_min", "range_max"}
    found, rest = read_calibration(path)
    assert (found.lerobot(), rest) == (arm.lerobot(), {})
    with pytest.raises(BadInput, match=r"lerobot.json has no sign of shoulder_pan, .*run robot.calibrate joints"):
        found.need_signs(path)


def test_angles_and_ticks_are_one(tmp_path: Path) -> None:
    for joint in arms.calibration().joints.values():
        for ticks in (joint.range_min, 2000, joint.range_max):
            assert joint.ticks(joint.angle(ticks)) == ticks
    gripper = arms.calibration().joints["gripper"]
    mirrored = dataclasses.replace(gripper, sign=-1, zero=float(gripper.range_max))
    assert [gripper.opened(x) for x in (0, 0.5, 1)] == [1500, 2100, 2700]
    assert [mirrored.opened(x) for x in (0, 0.5, 1)] == [2700, 2100, 1500]
    assert mirrored.opening(1800) == pytest.approx(0.75)


WRONG = {
    "of no file": (None, "no calibration at"),
    "cut short": ('{"joints": {"shoulder', "cannot read .*calibration.json"),
    "without a joint": ({"wrist_roll": None}, "no joint wrist_roll"),
    "with one id twice": ({"gripper": {"id": 1}}, "ids .*allowed: one each"),
    "across the seam": ({"elbow_flex": {"range_min": 0, "range_max": 4095}}, "joint elbow_flex has the whole turn"),
    "of a joint that was not moved": ({"elbow_flex": {"range_min": 2000, "range_max": 2010}}, "range 2000 to 2010"),
    "with an offset that no register holds": ({"elbow_flex": {"homing_offset": 2114}}, "homing_offset 2114; allowed"),
    "with half a tick": ({"elbow_flex": {"range_min": 700.5}}, "joint elbow_flex is .*whole numbers"),
    "with a strange sign": ({"elbow_flex": {"sign": 2}}, "sign 2"),
    "with a zero that is none": ({"elbow_flex": {"zero": float("nan")}}, "zero nan"),
    "with a gripper that closes in the middle": ({"gripper": {"zero": 1600.0}}, "joint gripper closes at 1600.0"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_calibrations_are_refused(tmp_path: Path, name: str) -> None:
    change, words = WRONG[name]
    path = tmp_path / "calibration.json"
    joints = {n: dataclasses.asdict(j) for n, j in arms.calibration().joints.items()}
    if isinstance(change, str):
        path.write_text(change)
    elif change is not None:
        for joint, values in change.items():
            joints[joint] = joints[joint] | values if values is not None else None
        path.write_text(json.dumps({"joints": {n: j for n, j in joints.items() if j is not None}}))
    with pytest.raises(BadInput, match=words) as caught:
        read_calibration(path)
    assert str(path) in str(caught.value)


def test_the_limits_are_both() -> None:
    """The calibrated range's, and the published model's."""
    arm = arms.calibration()
    narrow = ArmCalibration(arm.joints | {"elbow_flex": dataclasses.replace(arm.joints["elbow_flex"], range_max=2500)})
    assert isinstance(narrow.joints["elbow_flex"], Joint)
    assert (narrow.limits()[2] != arm.limits()[2]).sum() == 1
    np.testing.assert_allclose(narrow.limits()[[0, 1, 3, 4]], arm.limits()[[0, 1, 3, 4]])
