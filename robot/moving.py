"""Driving the arm to joint angles and waiting until it is there, as calibration needs it.

Every goal goes through `robot/safety.py`. A motor that is silent, hot or overloaded ends a motion with an error, and
`powered` then takes the arm to its rest, as it does when all went well. `candidates` are joint angles that show a board
to the camera, or the camera a board, from many sides.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import numpy as np
from jaxtyping import Float
from scipy.stats import qmc

from robot.calibration import NAMES
from robot.clock import Clock
from robot.control import ControlConfig
from robot.feetech import BusError, MotorSilent
from robot.hand_eye import Mount
from robot.kinematics import JOINTS, PAN, Kinematics, Pose, Unreachable
from robot.safety import Safety, SafetyConfig
from robot.so100 import Arm
from videopolicy.errors import BadInput

SAG = np.radians(5.0)  # that a weak servo may stay away from its goal
STILL, SETTLE = np.radians(0.2), 0.3  # that a joint may move within so many seconds and have arrived
PATIENCE = 3.0  # [s] beyond what the way takes
N_READS, PAUSE = 10, 0.02  # [s] between them; meanwhile the arm stays where it was sent last
BEHIND = 5  # ticks that the loop may be late before it lets them go
SPEEDS = (ControlConfig.servo_speed, ControlConfig.servo_acceleration)  # that a servo may use from tick to tick

# Aims: radius from the pan axis [m], pan, share of the height that there is above the table, pitch, roll [rad].
ROOM = {"fixed": 0.16, "wrist": 0.08}  # [m] under the tool: for a board in the hand, or for the camera
SEARCH = {
    "fixed": [
        (0.24, pan, 0.5, pitch, roll)
        for pan, pitches in ((0.0, (-45, -15, 15, 40)), (0.8, (-25, 10)), (-0.8, (10, -25)))
        for i, pitch in enumerate(np.radians(pitches))
        for roll in np.radians(np.linspace(-157.5, 157.5, 8))[:: 1 if i % 2 == 0 else -1]
    ],
    "wrist": [
        *(
            (r, pan, h, pitch, 0.0)
            for h in (0.2, 0.6)
            for r in (0.17, 0.25)
            for pitch in np.radians([-90, -65, -40])
            for pan in np.radians([-20, 0, 20])
        ),
        *(
            (0.2, pan, 0.3, pitch, roll)
            for roll in np.radians([60, -60, 120, -120, 175])
            for pitch in np.radians([-60, -40])
            for pan in np.radians([-15, 15])
        ),
    ],
}
AROUND = {  # an aim from which the board was seen
    "fixed": np.array([0.08, np.radians(35), 0.4, np.radians(25), np.radians(35)]),
    "wrist": np.array([0.08, np.radians(30), 0.4, np.radians(30), np.radians(50)]),
}
N_AROUND, ENOUGH = 400, 10  # aims around others; views at which the search may end


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
    why = ""
    try:
        try:
            yield safety
        except BaseException as error:
            why = f" ({error})"
            if not isinstance(error, BusError):
                with suppress(RuntimeError, BadInput):  # what ended it is what is told
                    drive(arm, safety, clock, rest, 0.0)
            raise
        drive(arm, safety, clock, rest, 0.0)
    finally:
        if left := arm.torque_off():
            raise RuntimeError(f"{', '.join(left)} did not confirm that torque is off: cut the arm's power{why}")


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
    stood, since = arm.state.position.copy(), clock.now()
    for sent, now in _ticks(arm, clock, lambda seconds: safety.angles(goal, seconds), opening, rate):
        away = np.abs(goal - arm.state.position)
        on_its_way = np.abs(goal - sent).max() > 1e-3 or away.max() > SAG
        if on_its_way or np.abs(arm.state.position - stood).max() > STILL:
            stood, since = arm.state.position.copy(), now
        elif now - since >= SETTLE:
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
    """Read all motors, and say when [s]. One that does not answer is asked again for a while, then `MotorSilent`."""
    asked = clock.now()
    for _ in range(N_READS):
        heard = arm.read().heard
        if (heard >= asked).all():
            return clock.now()
        clock.sleep_until(clock.now() + PAUSE)
    i = int(np.argmin(heard))
    raise MotorSilent(arm.joints[i].id, NAMES[i], "reading where the arm is")


def lowest(kinematics: Kinematics, start: Float[np.ndarray, " 5"], goal: Float[np.ndarray, " 5"]) -> float:
    """Height of the tool point where it is lowest on the way that `drive` takes [m]."""
    return min(float(kinematics.forward(start + s * (goal - start)).position[2]) for s in np.linspace(0, 1, 20))


def usable(safety: Safety) -> Float[np.ndarray, "5 2"]:
    """Joint angles that a goal may have: the limits, less the margin."""
    margin = np.radians(safety.cfg.margin_deg)
    return safety.limits + np.array([margin, -margin])


def candidates(
    mount: Mount, kinematics: Kinematics, cfg: SafetyConfig, seen: list[np.ndarray]
) -> Iterator[tuple[np.ndarray, Float[np.ndarray, " 5"]]]:
    """Aims, and the joint angles that take them, within the workspace and the limits of `kinematics`.

    First a search all over; then around those aims that the caller meanwhile puts into `seen`, wider and wider.
    """
    low, high = np.array(cfg.low) + [0, 0, ROOM[mount]], np.array(cfg.high)
    if not high[2] - low[2] > 0.02:
        raise BadInput(
            f"safety.high is {cfg.high}; allowed: a height of {low[2] + 0.02:.3f} m or more, to show the board"
        )
    spread = qmc.Halton(6, scramble=False).random(N_AROUND + 1)[1:]
    steps = (2 * spread[:, :5] - 1) * (0.3 + 0.7 * spread[:, 5:])  # some near, or few would still see it
    for i in range(len(SEARCH[mount]) + N_AROUND):
        k = i - len(SEARCH[mount])
        if k >= 0 and not seen:
            return
        if k < 0 and len(seen) >= ENOUGH:
            continue
        aim = np.array(SEARCH[mount][i]) if k < 0 else seen[k % len(seen)] + steps[k] * AROUND[mount]
        radius, pan, share, pitch, roll = aim
        z = low[2] + share * (high[2] - low[2])
        position = np.array([PAN[0] + radius * np.cos(pan), PAN[1] + radius * np.sin(pan), z])
        if (position < low).any() or (position > high).any():
            continue
        try:
            q = kinematics.inverse(Pose(position, float(pitch), float(roll)))
        except Unreachable:
            continue
        yield aim, q


def presenting(mount: Mount, kinematics: Kinematics, cfg: SafetyConfig) -> Float[np.ndarray, " 5"]:
    """Joint angles with the hand up and ahead, where somebody reaches it; `BadInput` where the arm does not."""
    z = (cfg.low[2] + ROOM[mount] + cfg.high[2]) / 2
    wanted = Pose(np.array([PAN[0] + 0.24, 0.0, z]), np.radians(-30))
    try:
        return kinematics.relaxed(wanted, np.radians([-60, -45, -30, -15, 0]))[0]
    except Unreachable as error:
        raise BadInput(f"the arm cannot show the board: {error}; allowed: a lower safety.high, wider ranges") from error


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
