"""Driving the arm to joint angles and waiting until it is there, as calibration needs it.

Every goal goes through `robot/safety.py`. A motor that is silent, hot or overloaded ends a motion with an error, and
`powered` then takes the arm to its rest, as it does when all went well.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import numpy as np
from jaxtyping import Float

from robot.calibration import NAMES
from robot.clock import Clock
from robot.control import ControlConfig
from robot.feetech import BusError, MotorSilent
from robot.kinematics import JOINTS, Kinematics
from robot.safety import Safety, SafetyConfig
from robot.so100 import Arm
from videopolicy.errors import BadInput

NEAR = np.radians(1.0)  # of its goal, where a joint has arrived
SAG = np.radians(5.0)  # that a weak servo may stay away from its goal, once it stands still
STILL = 0.02  # [rad/s]
SETTLE = 0.3  # [s]
PATIENCE = 3.0  # [s] beyond what the way takes
BEHIND = 5  # ticks that the loop may be late before it lets them go
SPEEDS = (ControlConfig.servo_speed, ControlConfig.servo_acceleration)  # that a servo may use from tick to tick


@contextmanager
def powered(
    arm: Arm, kinematics: Kinematics, cfg: SafetyConfig, control: ControlConfig, clock: Clock
) -> Iterator[Safety]:
    """Torque from where the arm is on; at the end, however that comes, it goes to its rest, and torque goes off.

    `RuntimeError` names joints that did not confirm that they let go.
    """
    arm.torque_on()
    safety = Safety(cfg, kinematics, arm.limits, arm.state.position.copy())
    rest = np.clip(np.radians(control.rest_deg), *usable(safety).T)
    try:
        try:
            yield safety
        except BusError:
            raise
        except BaseException:
            with suppress(RuntimeError, BadInput):  # what ended it is what is told
                drive(arm, safety, clock, rest, 0.0)
            raise
        drive(arm, safety, clock, rest, 0.0)
    finally:
        if left := arm.torque_off():
            raise RuntimeError(f"{', '.join(left)} did not confirm that torque is off: cut the arm's power")


def drive(
    arm: Arm, safety: Safety, clock: Clock, goal: Float[np.ndarray, " 5"], opening: float, rate: float = 50.0
) -> None:
    """Move to joint angles [rad], with torque on; returns when the arm has settled there, and was read.

    Raises `BadInput` for a goal beyond the limits, `RuntimeError` with joint and angle where it does not get there,
    or where a motor may not go on, `MotorSilent` for one that is not heard of.
    """
    inside = usable(safety)
    if ((goal < inside[:, 0]) | (goal > inside[:, 1])).any():
        i = int(np.maximum(inside[:, 0] - goal, goal - inside[:, 1]).argmax())
        low, high = np.degrees(inside[i])
        raise BadInput(f"{JOINTS[i]} is to go to {np.degrees(goal[i]):.1f} deg; allowed: {low:.1f} to {high:.1f}")
    way = float(np.linalg.norm(goal - arm.state.position))
    until = clock.now() + way / safety.cfg.speed + safety.cfg.speed / safety.cfg.acceleration + PATIENCE
    since: float | None = None  # when it was first there
    for sent, now in _ticks(arm, clock, lambda seconds: safety.angles(goal, seconds), opening, rate):
        away = np.abs(goal - arm.state.position)
        still = np.abs(arm.state.velocity[:5]).max() < STILL
        there = np.abs(goal - sent).max() < 1e-3 and (away.max() < NEAR or (still and away.max() < SAG))
        since = (now if since is None else since) if there else None
        if since is not None and now - since >= SETTLE:
            return
        if now > until:
            i = int(away.argmax())
            raise RuntimeError(
                f"{JOINTS[i]} is still {np.degrees(away[i]):.1f} deg from the {np.degrees(goal[i]):.0f} deg that it was"
                " sent to: is something in its way, or its motor too weak?"
            )


def hold(arm: Arm, safety: Safety, clock: Clock, opening: float, done: Callable[[], bool], rate: float = 50.0) -> None:
    """Stay, and take the gripper to an opening, until something is done; raises as `drive` does."""
    for _ in _ticks(arm, clock, safety.hold, opening, rate):
        if done():
            return


def read(arm: Arm, clock: Clock) -> float:
    """Read all motors, and say when [s]; `MotorSilent` for one that was not heard of for too long."""
    arm.read()
    now = clock.now()
    for name, joint, heard in zip(NAMES, arm.joints, arm.state.heard, strict=True):
        if now - heard > ControlConfig.stale:
            raise MotorSilent(joint.id, name, "reading where the arm is")
    return now


def lowest(kinematics: Kinematics, start: Float[np.ndarray, " 5"], goal: Float[np.ndarray, " 5"]) -> float:
    """Height of the tool point where it is lowest on the way that `drive` takes [m]."""
    return min(float(kinematics.forward(start + s * (goal - start)).position[2]) for s in np.linspace(0, 1, 20))


def usable(safety: Safety) -> Float[np.ndarray, "5 2"]:
    """Joint angles that a goal may have: the limits, less the margin."""
    margin = np.radians(safety.cfg.margin_deg)
    return safety.limits + np.array([margin, -margin])


def _ticks(
    arm: Arm, clock: Clock, wish: Callable[[float], np.ndarray], opening: float, rate: float
) -> Iterator[tuple[np.ndarray, float]]:
    """Read, look, send, on absolute deadlines for ever: the goal that was sent, and when."""
    period = 1 / rate
    due = clock.now()
    while True:
        due = due + period if clock.now() - due < BEHIND * period else clock.now()
        clock.sleep_until(due)
        now = read(arm, clock)
        if troubles := arm.state.troubles(arm.cfg):
            raise RuntimeError(f"the arm may not go on: {'; '.join(troubles)}")
        goal = wish(period)
        arm.command(goal, opening, *SPEEDS)
        yield goal, now
