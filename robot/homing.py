"""The joints of an arm, from somebody who moves it by hand while it has no torque: offsets, ranges, zeros, signs.

Offsets and ranges are LeRobot's, in the file and in the motors' registers. Zeros are not judged by eye: four joints
have mechanical stops at angles that the published model knows; their zero is counted from the middle between them.
"""

from contextlib import suppress

import numpy as np

from robot import registers as r
from robot.calibration import GRIPPER, LEAST_RANGE, MAX_OFFSET, NAMES, ArmCalibration, Joint
from robot.clock import Clock
from robot.feetech import Bus, BusError, MotorSilent
from robot.kinematics import JOINTS, LIMITS
from robot.operator import Operator, wait
from robot.registers import TURN, Register
from videopolicy.errors import BadInput

MOTORS = dict(enumerate(NAMES, 1))
MIDDLE = 2047  # [ticks] that a joint reads where it is homed
MULTI_TURN = 0x10  # of PHASE: positions that count on beyond a turn
ROLL = "wrist_roll"  # turns all the way round: it has no stops
TREMBLE = 30  # [ticks] that a hand may move while it holds still
WIDTH_DEG = 6.0  # that a measured range may differ from the published one
ZERO_DEG = 20.0  # that the zero pose, set by eye, may differ from the zero between the stops
ROLL_DEG = 90.0  # that the hand may be rolled where it is homed
LEAST_TURN_DEG, LEAST_OPENING = 15.0, 0.3  # that a joint, and the gripper, must move to show which way they count
CLOSED = 0.3  # share of its range that the gripper may be open in the zero pose
SILENCE = 50  # looks in a row at which a motor may be missing while ranges are recorded

TEXTS = {
    "middle": "The arm has no torque. Hold every joint near the middle of its range, the gripper half open.",
    "ranges": (
        "Move every joint slowly through its whole range, against its stop at either end, one after the other, the"
        " gripper too; wrist_roll need not be moved."
    ),
    "zero": "Stretch the arm out level, straight ahead, the hand not rolled, and close the gripper.",
    "signs": (
        "From there, each by 30 degrees or more: pan to the arm's left, raise the upper arm, fold the elbow, bend the"
        " wrist down, roll the hand counter-clockwise as seen from the base, open the gripper."
    ),
}
# Which way the model's angles go from the zero pose to the pose of the signs; the gripper opens.
DIRECTIONS = {"shoulder_pan": 1, "shoulder_lift": -1, "elbow_flex": 1, "wrist_flex": 1, ROLL: 1, GRIPPER: 1}


def home(bus: Bus, operator: Operator, clock: Clock) -> ArmCalibration:
    """Have somebody lead the arm, write what follows into its motors, and return it.

    `BadInput` names the joint that was not moved as it should be; offsets and ranges of the motors are then what they
    were. `MotorSilent` for a motor that does not answer.
    """
    for motor in MOTORS:
        if (model := bus.read(motor, r.MODEL_NUMBER)) != r.MODEL:
            raise BadInput(f"{MOTORS[motor]} (id {motor}) is a motor of model {model}; allowed: {r.MODEL} (STS3215)")
        bus.write(motor, r.TORQUE_ENABLE, 0)
    kept = (r.HOMING_OFFSET, r.MIN_POSITION, r.MAX_POSITION)
    before = {motor: {register: bus.read(motor, register) for register in kept} for motor in MOTORS}
    try:
        offsets = _set_middles(bus, operator, clock)
        ranges = _record_ranges(bus, operator, clock)
        wait(operator, clock, "zero", TEXTS["zero"])
        zero_pose = _positions(bus)
        wait(operator, clock, "signs", TEXTS["signs"])
        signs = _signs(zero_pose, _positions(bus), ranges)
        joints = {}
        for motor, name in MOTORS.items():
            low, high = ranges[name]
            zero = _zero(name, signs[name], low, high, zero_pose[name])
            joints[name] = Joint(motor, 0, offsets[name], low, high, signs[name], zero)
        found = ArmCalibration(joints)
        for motor, name in MOTORS.items():
            _write(bus, motor, {r.MIN_POSITION: ranges[name][0], r.MAX_POSITION: ranges[name][1]})
    except BaseException:
        for motor, values in before.items():
            with suppress(BusError):  # what ended it is what is told
                _write(bus, motor, values)
        raise
    return found


def _set_middles(bus: Bus, operator: Operator, clock: Clock) -> dict[str, int]:
    """Homing offsets that make every joint read the middle where it is held."""
    for motor in MOTORS:
        phase = bus.read(motor, r.PHASE) & ~MULTI_TURN
        _write(bus, motor, {r.MODE: 0, r.PHASE: phase, r.HOMING_OFFSET: 0, r.MIN_POSITION: 0, r.MAX_POSITION: TURN - 1})
    wait(operator, clock, "middle", TEXTS["middle"])
    offsets = {}
    for (motor, name), actual in zip(MOTORS.items(), _positions(bus).values(), strict=True):
        offset = actual - MIDDLE
        if abs(offset) > MAX_OFFSET:  # a turn more or less is the same place
            offset -= TURN * int(np.sign(offset))
        if abs(offset) > MAX_OFFSET:
            raise BadInput(
                f"{name} reads {actual} where it is held, which would be homing_offset {actual - MIDDLE}; allowed:"
                f" {-MAX_OFFSET} to {MAX_OFFSET}: hold it a few degrees further"
            )
        _write(bus, motor, {r.HOMING_OFFSET: offset})
        offsets[name] = offset
    for name, reads in _positions(bus).items():
        if abs(reads - MIDDLE) > TREMBLE:
            raise BadInput(
                f"{name} reads {reads} after it was homed; allowed: {MIDDLE - TREMBLE} to {MIDDLE + TREMBLE}: hold it"
                " still, and switch the arm off and on if that does not help"
            )
    return offsets


def _record_ranges(bus: Bus, operator: Operator, clock: Clock) -> dict[str, tuple[int, int]]:
    """The lowest and highest that every joint reads while it is moved, followed across the seam of its turn."""
    last = _positions(bus)
    low, high, missing = dict(last), dict(last), dict.fromkeys(NAMES, 0)

    def look() -> None:
        answers = bus.sync_read(r.PRESENT_POSITION.address, r.PRESENT_POSITION.size, list(MOTORS))
        for motor, answer in answers.items():
            name = MOTORS[motor]
            missing[name] = missing[name] + 1 if answer is None else 0
            if missing[name] > SILENCE:
                raise MotorSilent(motor, name, "recording ranges")
            if answer is not None:  # of equal places the nearest to the last one
                ahead = answer.value(r.PRESENT_POSITION) - last[name]
                last[name] += (ahead + TURN // 2) % TURN - TURN // 2
                low[name], high[name] = min(low[name], last[name]), max(high[name], last[name])

    wait(operator, clock, "ranges", TEXTS["ranges"], look)
    look()
    return {name: _range(name, low[name], high[name]) for name in NAMES}


def _range(name: str, low: int, high: int) -> tuple[int, int]:
    width = high - low
    if name == ROLL:
        return 0, TURN - 1
    if width < LEAST_RANGE:
        raise BadInput(
            f"{name} was moved by {width} ticks ({_degrees(width):.0f} deg); allowed: at least {LEAST_RANGE}: move it"
            " through its whole range"
        )
    if width >= TURN:
        raise BadInput(f"{name} was moved by {width} ticks, more than a turn; allowed: less than {TURN}: between stops")
    if low < 0 or high >= TURN:
        raise BadInput(
            f"{name} was moved from {low} to {high}, across the seam of its turn; allowed: 0 to {TURN - 1}: home it at"
            " mid-range first, nearer to its middle"
        )
    return low, high


def _signs(zero: dict[str, int], moved: dict[str, int], ranges: dict[str, tuple[int, int]]) -> dict[str, int]:
    """Which way each joint's ticks count; `BadInput` for one that did not move enough to tell."""
    signs = {}
    for name in NAMES:
        by = moved[name] - zero[name]
        if name == ROLL:
            by = (by + TURN // 2) % TURN - TURN // 2
        if name == GRIPPER:
            share = abs(by) / (ranges[name][1] - ranges[name][0])
            if share < LEAST_OPENING:
                raise BadInput(f"{name} was opened by {share:.2f} of its range; allowed: at least {LEAST_OPENING}")
        elif _degrees(abs(by)) < LEAST_TURN_DEG:
            raise BadInput(
                f"{name} was moved by {_degrees(abs(by)):.1f} deg from the zero pose; allowed: at least"
                f" {LEAST_TURN_DEG:g}, to tell which way it counts"
            )
        signs[name] = DIRECTIONS[name] * (1 if by > 0 else -1)
    return signs


def _zero(name: str, sign: int, low: int, high: int, at: int) -> float:
    """[ticks] of the model's zero, of a joint that is `at` so many in the zero pose."""
    if name == GRIPPER:
        closed = low if sign > 0 else high
        if (opening := abs(at - closed) / (high - low)) > CLOSED:
            raise BadInput(f"{name} was open by {opening:.2f} of its range in the zero pose; allowed: at most {CLOSED}")
        return float(closed)
    if name == ROLL:
        if abs(angle := _degrees(at - MIDDLE)) > ROLL_DEG:
            raise BadInput(
                f"{name} was {abs(angle):.0f} deg from where it was homed in the zero pose; allowed: {ROLL_DEG:g}: home"
                " it with the hand not rolled"
            )
        return float(at)
    published = np.degrees(LIMITS[JOINTS.index(name)])
    width, wanted = _degrees(high - low), float(np.ptp(published))
    if abs(width - wanted) > WIDTH_DEG:
        raise BadInput(
            f"{name} was moved through {width:.1f} deg; allowed: {wanted - WIDTH_DEG:.1f} to {wanted + WIDTH_DEG:.1f}:"
            " move it gently against its stop at either end, with nothing in its way"
        )
    zero = (low + high) / 2 - sign * published.mean() * TURN / 360
    if abs(angle := sign * _degrees(at - zero)) > ZERO_DEG:
        raise BadInput(
            f"{name} was at {angle:.0f} deg in the zero pose, counted from between its stops; allowed: {-ZERO_DEG:g} to"
            f" {ZERO_DEG:g}: was that pose right, and the way to the pose of the signs?"
        )
    return float(zero)


def _positions(bus: Bus) -> dict[str, int]:
    """What all joints read [ticks]."""
    return {name: bus.read(motor, r.PRESENT_POSITION) for motor, name in MOTORS.items()}


def _write(bus: Bus, motor: int, values: dict[Register, int]) -> None:
    """Write what differs, with the lock open for that alone, and read it back."""
    changes = {register: value for register, value in values.items() if bus.read(motor, register) != value}
    if not changes:
        return
    bus.write(motor, r.LOCK, 0)
    try:
        for register, value in changes.items():
            bus.write(motor, register, value)
    finally:
        bus.write(motor, r.LOCK, 1)
    for register, value in changes.items():
        if (held := bus.read(motor, register)) != value:
            raise BusError(f"{MOTORS[motor]} holds {held} in register {register.address} after {value} was written")


def _degrees(ticks: float) -> float:
    return ticks * 360 / TURN
