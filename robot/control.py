"""One tick of control after another: the newest chunk, the arm's state, a goal that may be sent.

No thread and no clock of its own: `robot/loop.py` calls `tick` fifty times a second, tests as they like. What is sent
goes through `robot/safety.py`; what goes wrong ends in a hold, then at rest, and torque goes off at rest alone, or by
`emergency_stop`.
"""

import threading
from dataclasses import dataclass
from enum import Enum

import numpy as np
from jaxtyping import Float

from robot.calibration import NAMES
from robot.droop import Droop
from robot.feetech import BusError, BusLost
from robot.kinematics import JOINTS, LIMITS
from robot.safety import Held, Safety
from robot.so100 import Arm
from robot.trajectory import Trajectory
from videopolicy.errors import BadInput
from videopolicy.types import ActionChunk

RANGES = {  # in the units of `ControlConfig`
    "rate": (1.0, 200.0),
    "replan": (0.0, 10.0),
    "hold_after": (0.02, 60.0),
    "park_after": (0.02, 60.0),
    "park_within": (0.5, 30.0),
    "give_up_after": (0.0, 600.0),
    "stale": (0.02, 2.0),
    "servo_speed": (0.1, 6.0),
    "servo_acceleration": (1.0, 300.0),
    "droop_gain": (0.0, 10.0),
    "droop_limit_deg": (0.0, 10.0),
}


@dataclass(frozen=True)
class ControlConfig:
    rate: float = 50.0  # ticks a second
    replan: float = 0.8  # [s] between two pictures that are acted on, at least; waypoints are carried out meanwhile
    hold_after: float = 0.5  # [s] without a waypoint, after which that is called a hold
    park_after: float = 2.0  # [s] without a waypoint, after which the arm goes to its rest
    park_within: float = 3.0  # [s] beyond what the way to rest takes, after which the arm is let go of where it is
    give_up_after: float = 10.0  # [s] that a lost bus is waited for, to switch torque off
    stale: float = 0.1  # [s] that a motor may be silent
    servo_speed: float = 4.0  # [rad/s] that a servo may use to reach a tick's goal; the goals keep to safety.speed
    servo_acceleration: float = 40.0  # [rad/s2]
    droop_gain: float = 2.0  # [1/s] at which what servos are short of their goals is made up for; 0: it is not
    droop_limit_deg: float = 4.0  # that is added to a joint's goal at most
    rest_deg: tuple[float, ...] = (0.0, -150.0, 150.0, 60.0, 0.0)  # folded: what the arm does not fall from

    def __post_init__(self) -> None:
        for name, (low, high) in RANGES.items():
            if not low <= getattr(self, name) <= high:
                raise BadInput(f"control.{name} is {getattr(self, name)}; allowed: {low:g} to {high:g}")
        if not self.hold_after <= self.park_after:
            raise BadInput(f"control.hold_after is {self.hold_after}; allowed: to park_after {self.park_after}")
        if len(self.rest_deg) != 5:
            raise BadInput(f"control.rest_deg has {len(self.rest_deg)} angles; allowed: 5")
        for joint, angle, (low, high) in zip(JOINTS, self.rest_deg, np.degrees(LIMITS), strict=True):
            if not low <= angle <= high:
                raise BadInput(f"control.rest_deg has {joint} at {angle}; allowed: {low:.1f} to {high:.1f} degrees")


class Mode(Enum):
    RUN = "run"  # towards waypoints
    HOLD = "hold"  # there are none, or something is wrong: it stays where it is
    PARK = "park"  # to its rest
    OFF = "off"  # at rest, without torque
    STOPPED = "stopped"  # torque off at once
    LOST = "lost"  # the bus is gone


@dataclass(frozen=True)
class Tick:
    """What one tick saw and did; a row of the telemetry."""

    tick: int
    now: float  # [s]
    mode: str
    queue: float  # [s] of waypoints that are left; below 0: so long ago the last one was
    age: float  # [s] of the picture behind the chunk in force
    since: float  # [s] when that chunk came, NaN before the first
    target: list[float]  # wished tool point [m], NaN without
    goal: list[float]  # joint angles sent [rad], NaN where none were
    position: list[float]  # as read [rad]
    opening: float
    load: list[float]
    temperature: list[float]
    errors: list[int]
    silent: float  # [s] of the motor that was heard of longest ago
    retries: int
    held: int  # flags of the safety filter
    why: str  # in words, why it does not run


class Control:
    """For one arm whose torque is on, from where it is."""

    def __init__(self, arm: Arm, safety: Safety, trajectory: Trajectory, cfg: ControlConfig) -> None:
        self.arm, self.safety, self.trajectory, self.cfg = arm, safety, trajectory, cfg
        self.mode, self.why = Mode.HOLD, "no chunk yet"
        self.n_ticks = 0
        self.unconfirmed: list[str] = []  # joints that were let go of and did not confirm it
        self.n_held = 0  # ticks at which the queue was empty after it had begun to run
        self._rest = np.radians(cfg.rest_deg)
        self._droop = Droop(cfg.droop_gain, np.radians(cfg.droop_limit_deg))
        self._opening = arm.state.opening
        self._newest: tuple[ActionChunk, float, float] | None = None
        self._captured = self._since = np.nan
        self._last_waypoint: float | None = None
        self._lost_until: float | None = None  # [s] when a lost bus is given up
        self._parking = False
        self._parked_by: float | None = None
        self._paused = self._blame = ""
        self._lock = threading.Lock()

    def start(self) -> None:
        """Torque on, from where the arm is now. `MotorSilent` where that is not known."""
        self.arm.torque_on()
        self.safety.restart(self.arm.read().position)
        self._opening = self.arm.state.opening

    def submit(self, chunk: ActionChunk, captured: float) -> None:
        """A chunk made of the picture taken at `captured`, for the next tick; of several the newest counts.

        From any thread.
        """
        with self._lock:
            self._newest = (chunk, captured, self.arm.now())

    def park(self, why: str) -> None:
        """Go to rest from the next tick on, whatever chunks come."""
        self._parking, self.why = True, why

    def pause(self, why: str) -> None:
        """Forget all waypoints and stay: what they were made from is too old. The next chunk goes on."""
        with self._lock:
            self._newest, self._paused = None, why

    def emergency_stop(self, why: str) -> list[str]:
        """Torque off now, on the wire and confirmed; the arm falls. Names of joints that did not confirm."""
        self._let_go(Mode.STOPPED, why)
        return self.unconfirmed

    @property
    def ended(self) -> bool:
        given_up = self.mode is Mode.LOST and self._lost_until is None
        return given_up or self.mode in (Mode.OFF, Mode.STOPPED)

    def tick(self, now: float) -> Tick:
        """Read, decide, send. Never raises for what the arm or its bus do: that becomes a mode, and words."""
        if self.mode is Mode.LOST:
            self._try_again(now)
        if self.ended or self.mode is Mode.LOST:
            return self._row(now, None)
        goal = None
        try:
            self.arm.read()
            self._take(now)
            goal = self._decide(now)
            if self._parking and now > self._rest_until(now):
                self._let_go(Mode.STOPPED, f"{self.why}; not at rest in time, so torque went off where it was")
            elif self.mode is Mode.OFF:
                self._let_go(Mode.OFF, self.why)
            else:
                speeds = self.cfg.servo_speed, self.cfg.servo_acceleration
                heard = now - self.arm.state.heard[:5] < 1 / self.cfg.rate
                sent = self._droop.update(goal, self.arm.state.position, heard, 1 / self.cfg.rate)
                goal = self.safety.within(sent)
                self.arm.command(goal, self._opening, *speeds)
        except BusLost as error:
            self.mode, self.why, self._lost_until = Mode.LOST, str(error), now + self.cfg.give_up_after
        except BusError as error:  # somebody else speaks: let go of the bus, and say so
            self.emergency_stop(str(error))
        self.n_ticks += 1
        return self._row(now, goal)

    def _let_go(self, mode: Mode, why: str) -> None:
        self.mode, self.why, self.unconfirmed = mode, why, self.arm.torque_off()
        if self.unconfirmed:
            self.why += f"; {', '.join(self.unconfirmed)} did not confirm that torque is off"

    def _try_again(self, now: float) -> None:
        """The bus is gone and the motors hold what they were told last: let go of them as soon as it is back."""
        if self._lost_until is None:
            return
        try:
            self.arm.bus.reopen()
        except BusError:
            if now > self._lost_until:
                self._lost_until, self.unconfirmed = None, list(NAMES)
                self.why += (
                    f"; not back within {self.cfg.give_up_after:.0f} s, and no motor confirmed that torque is off"
                )
            return
        self._let_go(Mode.STOPPED, f"{self.why}; it came back, and torque was switched off")

    def _take(self, now: float) -> None:
        with self._lock:
            newest, self._newest = self._newest, None
            paused, self._paused = self._paused, ""
        if paused:
            self.trajectory.clear()
            self.mode, self._blame = Mode.HOLD, paused
            self._last_waypoint = now if self._last_waypoint is None else self._last_waypoint
        if newest is None or self._parking:
            return
        chunk, captured, came = newest
        self._last_waypoint = now if self._last_waypoint is None else self._last_waypoint
        if not all(np.isfinite(x).all() for x in (chunk.position, chunk.gripper)):
            self.why = self._blame = "a chunk with numbers that are not finite was dropped"
            return
        if self.trajectory.add(chunk, captured, now):
            self._captured, self._since, self._blame = captured, came, ""
        else:
            self._blame = f"a chunk came {now - captured:.1f} s after its picture, when all of it had passed"

    def _decide(self, now: float) -> Float[np.ndarray, " 5"]:
        """The mode, and the joint angles to send in it."""
        seconds, target = 1 / self.cfg.rate, self.trajectory.at(now)
        self.safety.flags = Held.NOTHING
        if silent := self._silent(now):
            self.mode = Mode.HOLD
            self.why = f"{', '.join(silent)} silent for more than {1000 * self.cfg.stale:.0f} ms"
            return self.safety.hold(seconds)
        if troubles := self.arm.state.troubles(self.arm.cfg):
            self.park("; ".join(troubles))
        if self._parking:
            return self._go_to_rest(seconds)
        if target is not None and target.left >= 0:
            self.mode, self.why, self._last_waypoint = Mode.RUN, "", now
            self._opening = float(target.opening > 0.5)
            return self.safety.wish(target.position, 0.0, seconds)
        if self._last_waypoint is not None:
            self.n_held += self.mode is Mode.RUN
            idle = now - self._last_waypoint
            why = f"no waypoint for {idle:.1f} s" + f": {self._blame}" * bool(self._blame)
            if idle > self.cfg.park_after:
                self.park(why)
            elif idle > self.cfg.hold_after or self.mode is not Mode.RUN:
                self.mode, self.why = Mode.HOLD, why
        if target is not None:
            return self.safety.wish(target.position, 0.0, seconds)
        return self.safety.hold(seconds)

    def _go_to_rest(self, seconds: float) -> Float[np.ndarray, " 5"]:
        self.mode = Mode.PARK
        goal = self.safety.angles(self._rest, seconds)
        if np.abs(self.arm.state.position - self._rest).max() < np.radians(3):
            self.mode = Mode.OFF
        return goal

    def _rest_until(self, now: float) -> float:
        """[s] when it must be at rest, counted from the tick in which it began to go there."""
        if self._parked_by is None:
            way = float(np.linalg.norm(self._rest - self.arm.state.position))
            self._parked_by = now + way / self.safety.cfg.speed + self.cfg.park_within
        return self._parked_by

    def _silent(self, now: float) -> list[str]:
        """Joints whose motors have not been heard of for too long."""
        return [n for n, heard in zip(NAMES, self.arm.state.heard, strict=True) if now - heard > self.cfg.stale]

    def _row(self, now: float, goal: np.ndarray | None) -> Tick:
        state, target = self.arm.state, self.trajectory.at(now)
        return Tick(
            tick=self.n_ticks,
            now=now,
            mode=self.mode.value,
            queue=target.left if target is not None else np.nan,
            age=now - self._captured,
            since=self._since,
            target=(target.position if target is not None else np.full(3, np.nan)).tolist(),
            goal=(np.full(5, np.nan) if goal is None else goal).tolist(),
            position=state.position.tolist(),
            opening=state.opening,
            load=state.load.tolist(),
            temperature=state.temperature.tolist(),
            errors=list(state.errors),
            silent=float(now - state.heard.min()),
            retries=self.arm.bus.counts["retry"],
            held=self.safety.flags.value,
            why=self.why,
        )
