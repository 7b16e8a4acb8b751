"""An SO-100 arm: six servos as five joint angles and a gripper's opening, and nothing sent that could hurt it."""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float

from robot import registers as r
from robot.calibration import GRIPPER, NAMES, ArmCalibration, Joint
from robot.feetech import Answer, Bus, BusError, MotorSilent
from robot.registers import TURN, Register, error_names
from videopolicy.errors import BadInput

PRESENT = (r.PRESENT_POSITION.address, 15)  # position to current, in one request
HARD_ERRORS = 1 | 4 | 8 | 32  # voltage, heat, current, overload: the arm is to stop
KEPT = 100  # readings that are remembered
N_STOP = 20  # times that torque off is sent before a motor counts as not confirmed


@dataclass(frozen=True)
class ArmConfig:
    """What is written to the motors when they are connected, where it is not there already."""

    p_gain: int = 16
    i_gain: int = 0
    d_gain: int = 32
    torque: float = 1.0  # share of the stall torque that a joint may use
    gripper_torque: float = 0.5  # the same of the gripper, whose motor otherwise burns on what it cannot close
    max_temperature: float = 65.0  # [C] above which the arm stops

    def __post_init__(self) -> None:
        for name in ("torque", "gripper_torque"):
            if not 0 < getattr(self, name) <= 1:
                raise BadInput(f"arm.{name} is {getattr(self, name)}; allowed: above 0, to 1")
        for name in ("p_gain", "i_gain", "d_gain"):
            if not 0 <= getattr(self, name) <= 254:
                raise BadInput(f"arm.{name} is {getattr(self, name)}; allowed: 0 to 254")
        if not 30 <= self.max_temperature <= 80:
            raise BadInput(f"arm.max_temperature is {self.max_temperature}; allowed: 30 to 80 C")


@dataclass
class ArmState:
    """What the motors last said of themselves; the gripper is the last of six."""

    position: Float[np.ndarray, " 5"]  # [rad]
    opening: float  # 0 closed ... 1 open
    velocity: Float[np.ndarray, " 6"]  # [rad/s]
    load: Float[np.ndarray, " 6"]  # share of the stall torque
    temperature: Float[np.ndarray, " 6"]  # [C]
    errors: list[int] = field(default_factory=lambda: [0] * 6)  # bits
    heard: Float[np.ndarray, " 6"] = field(default_factory=lambda: np.full(6, -np.inf))  # [s] when, monotonic

    def troubles(self, cfg: ArmConfig) -> list[str]:
        """What forbids to go on, by joint."""
        found = [
            f"{n}: {', '.join(error_names(e))}" for n, e in zip(NAMES, self.errors, strict=True) if e & HARD_ERRORS
        ]
        hot = zip(NAMES, self.temperature, strict=True)
        return found + [f"{n}: {t:.0f} C" for n, t in hot if t > cfg.max_temperature]


class Arm:
    """Six motors on a bus; angles in radians of the published model, openings 0 to 1.

    `connect` checks that this is the arm that was calibrated before anything is written to it.
    """

    def __init__(
        self, bus: Bus, calibration: ArmCalibration, cfg: ArmConfig, now: Callable[[], float] = time.monotonic
    ) -> None:
        self.bus, self.calibration, self.cfg, self.now = bus, calibration, cfg, now
        self.joints = [calibration.joints[name] for name in NAMES]
        self.ids = [joint.id for joint in self.joints]
        self.limits = calibration.limits()
        zeros = np.zeros(6)
        self.state = ArmState(np.zeros(5), 0.0, zeros.copy(), zeros.copy(), zeros.copy())
        self._past: deque[tuple[float, np.ndarray]] = deque(maxlen=KEPT)
        self._unit = [50.0] * 6  # [ticks/s] of a unit of GOAL_VELOCITY

    def connect(self) -> None:
        """Find all motors, compare them with the calibration, set them up. Torque stays as it is.

        `MotorSilent` for one that is missing, `BadInput` for another arm's calibration.
        """
        firmware = {}
        for name, joint in zip(NAMES, self.joints, strict=True):
            if self.bus.ping(joint.id) is None and self.bus.ping(joint.id) is None:
                raise MotorSilent(joint.id, name, "ping")
            model = self.bus.read(joint.id, r.MODEL_NUMBER)
            if model != r.MODEL:
                raise BadInput(f"{name} (id {joint.id}) is a motor of model {model}; allowed: {r.MODEL} (STS3215)")
            firmware[name] = self.bus.read(joint.id, r.FIRMWARE)
            registers = {"homing_offset": r.HOMING_OFFSET, "range_min": r.MIN_POSITION, "range_max": r.MAX_POSITION}
            for key, register in registers.items():
                held = self.bus.read(joint.id, register)
                if held != getattr(joint, key):
                    raise BadInput(
                        f"the calibration says {key} {getattr(joint, key)} of {name}, its motor {held}: is it another"
                        " arm's? Run robot.calibrate, or name this arm's file"
                    )
        if len(set(firmware.values())) > 1:
            said = ", ".join(f"{name} {v & 255}.{v >> 8}" for name, v in firmware.items())
            raise BadInput(f"motors have different firmware: {said}; allowed: one version on all")
        for i, joint in enumerate(self.joints):
            self._set_up(joint.id, is_gripper=NAMES[i] == GRIPPER)
            self._unit[i] = 1.0 if self.bus.read(joint.id, r.PHASE) & 4 else 50.0
        if not self.bus.dry:
            self.bus.return_delay = 0.0
        self.read()

    def read(self) -> ArmState:
        """What all motors say now; of one that does not answer the last it said, with its time."""
        answers, now = self.bus.sync_read(*PRESENT, self.ids), self.now()
        state = self.state
        for i, (joint, answer) in enumerate(zip(self.joints, (answers[j] for j in self.ids), strict=True)):
            if answer is None:
                continue
            ticks = _value(answer, r.PRESENT_POSITION)
            if NAMES[i] == GRIPPER:
                state.opening = joint.opening(ticks)
            else:
                state.position[i] = joint.angle(ticks)
            state.velocity[i] = joint.sign * _value(answer, r.PRESENT_VELOCITY) * 2 * np.pi / TURN
            state.load[i] = joint.sign * _value(answer, r.PRESENT_LOAD) / 1000
            state.temperature[i] = _value(answer, r.PRESENT_TEMPERATURE)
            state.errors[i] = answer.errors | _value(answer, r.STATUS)
            state.heard[i] = now
        self._past.append((now, np.array([*state.position, state.opening])))
        return state

    def at(self, moment: float) -> tuple[Float[np.ndarray, " 5"], float]:
        """Angles and opening at a moment of the last second or two, between two readings; from any thread."""
        past = tuple(self._past)
        times = np.array([when for when, _ in past])
        values = np.stack([value for _, value in past])
        *position, opening = (float(np.interp(moment, times, column)) for column in values.T)
        return np.array(position), opening

    def command(
        self, position: Float[np.ndarray, " 5"], opening: float, speed: float = 2.0, acceleration: float = 20.0
    ) -> None:
        """Goals of all motors in one packet, each with the speed [rad/s] and acceleration [rad/s2] it may use.

        `ValueError`, and nothing is sent, for what is not finite or beyond the limits: whoever plans motion stays
        within them, so that this never happens.
        """
        if not (np.isfinite(position).all() and np.isfinite(opening)):
            raise ValueError(f"goals {position.tolist()}, opening {opening}, are not finite")
        outside = self.outside(position)
        if outside.any():
            i = int(outside.argmax())
            raise ValueError(
                f"{NAMES[i]} is to go to {np.degrees(position[i]):.1f} deg; allowed:"
                f" {np.degrees(self.limits[i, 0]):.1f} to {np.degrees(self.limits[i, 1]):.1f}"
            )
        ticks = [joint.ticks(a) for joint, a in zip(self.joints[:5], position, strict=True)]
        ticks.append(self.joints[5].opened(opening))
        per_second = speed * TURN / (2 * np.pi)
        rate = int(np.clip(round(acceleration * TURN / (2 * np.pi) / 100), 1, 254))
        values = {}
        for joint, tick, unit in zip(self.joints, ticks, self._unit, strict=True):
            fast = int(np.clip(round(per_second / unit), 1, 32767))
            goal = _clipped(joint, tick)
            wanted = {r.ACCELERATION: rate, r.GOAL_POSITION: goal, r.GOAL_TIME: 0, r.GOAL_VELOCITY: fast}
            values[joint.id] = b"".join(register.encode(value) for register, value in wanted.items())
        self.bus.sync_write(r.ACCELERATION.address, values)

    def outside(self, position: Float[np.ndarray, " 5"]) -> Bool[np.ndarray, " 5"]:
        """Joints that would be beyond their limits, by more than rounding."""
        return (position < self.limits[:, 0] - 1e-3) | (position > self.limits[:, 1] + 1e-3)

    def torque_on(self) -> None:
        """Hold the arm where it is: goals are the present positions before any motor gets torque."""
        self.read()
        for i, (joint, heard) in enumerate(zip(self.joints, self.state.heard, strict=True)):
            if self.now() - heard > 0.1:
                raise MotorSilent(joint.id, NAMES[i], "before torque")
        goals = {j: _clipped(self.joints[i], self.bus.read(j, r.PRESENT_POSITION)) for i, j in enumerate(self.ids)}
        limits = {j: r.TORQUE_LIMIT.encode(self._torque(i)) for i, j in enumerate(self.ids)}
        self.bus.sync_write(r.TORQUE_LIMIT.address, limits)
        self.bus.sync_write(r.GOAL_POSITION.address, {j: r.GOAL_POSITION.encode(g) for j, g in goals.items()})
        self.bus.sync_write(r.TORQUE_ENABLE.address, dict.fromkeys(self.ids, b"\x01"))

    def torque_off(self) -> list[str]:
        """Let go of all motors, known or not, and ask each whether it has: names of those that did not confirm.

        The arm falls. Never raises for what the bus does: it is what one does when all else has failed.
        """
        if self.bus.dry:
            return []
        waiting = list(self.ids)
        for _ in range(N_STOP):
            try:
                self.bus.broadcast(r.TORQUE_ENABLE, 0)
                found = self.bus.sync_read(r.TORQUE_ENABLE.address, 1, waiting)
                waiting = [j for j in waiting if (a := found[j]) is None or a.data != b"\x00"]
            except BusError:
                time.sleep(0.01)
            if not waiting:
                break
        return [name for name, j in zip(NAMES, self.ids, strict=True) if j in waiting]

    def _torque(self, i: int) -> int:
        return round(1000 * (self.cfg.gripper_torque if NAMES[i] == GRIPPER else self.cfg.torque))

    def _set_up(self, motor: int, is_gripper: bool) -> None:
        """Write what differs from the configuration, with the lock open for that alone."""
        wanted: dict[Register, int] = {
            r.RETURN_DELAY: 0,
            r.MODE: 0,
            r.PHASE: self.bus.read(motor, r.PHASE) & ~0x10,  # one turn
            r.P_GAIN: self.cfg.p_gain,
            r.I_GAIN: self.cfg.i_gain,
            r.D_GAIN: self.cfg.d_gain,
        }
        if is_gripper:
            wanted |= {r.MAX_TORQUE: 500, r.PROTECTION_CURRENT: 250, r.OVERLOAD_TORQUE: 25}
        changes = {register: value for register, value in wanted.items() if self.bus.read(motor, register) != value}
        if not changes:
            return
        self.bus.write(motor, r.LOCK, 0)
        try:
            for register, value in changes.items():
                self.bus.write(motor, register, value)
        finally:
            self.bus.write(motor, r.LOCK, 1)


def _value(answer: Answer, register: Register) -> int:
    return answer.value(register, PRESENT[0])


def _clipped(joint: Joint, ticks: int) -> int:
    return min(max(ticks, joint.range_min), joint.range_max)
