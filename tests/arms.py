"""Emulated servos and calibrations, for tests."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from robot import registers as r
from robot.calibration import GRIPPER, NAMES, ArmCalibration, Joint
from robot.kinematics import JOINTS, LIMITS
from robot.registers import TURN
from robot.twin.line import Line
from robot.twin.servo import Servo

SLACK = 0.03  # [s] for answers, on a machine that other tests keep busy
MOTORS = {i: name for i, name in enumerate(NAMES, 1)}
SIGNS = {"shoulder_pan": -1, "elbow_flex": -1}  # the others count as the model does


def calibration() -> ArmCalibration:
    """An arm whose joints are homed near the middle of their ranges, each with another offset."""
    joints = {}
    for i, name in enumerate(JOINTS):
        sign, (low, high) = SIGNS.get(name, 1), LIMITS[i]
        zero = 2047 - sign * (low + high) / 2 * TURN / (2 * np.pi)
        ends = sorted(round(zero + sign * x * TURN / (2 * np.pi)) for x in (low, high))
        whole = name == "wrist_roll"
        ends = [0, TURN - 1] if whole else [max(1, ends[0]), min(TURN - 2, ends[1])]
        joints[name] = Joint(i + 1, 0, 37 * i - 80, *ends, sign, float(zero))
    joints[GRIPPER] = Joint(6, 0, 120, 1500, 2700, 1, 1500.0)
    return ArmCalibration(joints)


def servos(arm: ArmCalibration, rest: Sequence[float] = (0.0,) * 6) -> dict[int, Servo]:
    """The motors that a calibration is of, at the angles `rest` (the gripper's: its opening)."""
    found = {}
    for name, at in zip(NAMES, rest, strict=True):
        joint = arm.joints[name]
        ticks = joint.opened(at) if name == GRIPPER else joint.ticks(at)
        servo = found[joint.id] = Servo(joint.id, ticks + joint.homing_offset)
        registers = {r.HOMING_OFFSET: joint.homing_offset, r.MIN_POSITION: joint.range_min, r.RETURN_DELAY: 0}
        for register, value in (registers | {r.MAX_POSITION: joint.range_max}).items():
            servo.memory[register.address : register.address + register.size] = register.encode(value)
    return found


def line(folder: Path, rest: Sequence[float] = (0.0,) * 6) -> Line:
    return Line(folder / "port", servos(calibration(), rest), wire=False)
