"""Emulated servos and calibrations, an arm under control in a time of its own: for tests."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from robot import registers as r
from robot.calibration import GRIPPER, NAMES, ArmCalibration, Joint
from robot.control import Control, ControlConfig, Tick
from robot.feetech import Bus
from robot.kinematics import JOINTS, LIMITS, Kinematics
from robot.registers import TURN
from robot.safety import Safety, SafetyConfig
from robot.so100 import Arm, ArmConfig
from robot.trajectory import Trajectory
from robot.twin.line import Line
from robot.twin.servo import Servo
from videopolicy.types import ActionChunk

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


REST = (0.1, -1.7, 1.6, 1.2, 0.0, 0.5)  # [rad], and the gripper's opening
PERIOD, N = 0.2, 12


class FakeClock:
    """Sleeping takes no time; the emulated motors move meanwhile."""

    def __init__(self, line: Line) -> None:
        self.time, self.line = 100.0, line

    def now(self) -> float:
        return self.time

    def sleep_until(self, moment: float) -> None:
        while self.time < moment:
            step = min(0.01, moment - self.time)
            self.time += step
            with self.line.lock:
                for servo in self.line.servos.values():
                    servo.advance(step)
                    if servo.setpoint is not None:
                        servo.velocity = (servo.setpoint - servo.actual) / step
                        servo.actual = servo.setpoint


@contextmanager
def driven(line: Line, clock: FakeClock) -> Iterator[Control]:
    """The arm on a line, held where it is, with nothing to do yet."""
    with Bus(str(line.port), MOTORS) as bus:
        bus.slack = SLACK
        arm = Arm(bus, calibration(), ArmConfig(), clock.now)
        arm.connect()
        arm.torque_on()
        safety = Safety(SafetyConfig(), Kinematics(limits=arm.limits), arm.limits, arm.state.position.copy())
        yield Control(arm, safety, Trajectory(), ControlConfig())


def tool(control: Control) -> np.ndarray:
    return control.safety.kinematics.forward(control.arm.state.position).position


def chunk(start: np.ndarray, velocity: tuple = (-0.02, 0.03, 0.0), opening: float = 0.0) -> ActionChunk:
    t = PERIOD * np.arange(1, N + 1)[:, None]
    return ActionChunk(start + t * np.array(velocity), np.full(N, opening), PERIOD)


def go(control: Control, clock: FakeClock, seconds: float) -> list[Tick]:
    rows: list[Tick] = []
    end = clock.time + seconds
    due = clock.time
    while clock.time < end and not control.ended:
        due += 0.02
        clock.sleep_until(due)
        rows.append(control.tick(clock.now()))
        control.arm.bus.ping(1)  # what was sent has arrived
    return rows
