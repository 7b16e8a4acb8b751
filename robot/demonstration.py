"""One demonstration as it is shown: pictures at a steady rate, and where the arm was when each was taken."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8

from robot.camera import Frame
from robot.clock import Clock
from robot.connection import Eye, kinematics_of
from robot.so100 import Arm
from videopolicy.data.recording import Episode
from videopolicy.errors import BadInput

ARM_RATE = 50.0  # [Hz] that the arm is asked at, between pictures
SILENT = 0.2  # [s] between two moments at which all motors were heard of
LEAST = 0.95  # share of the pictures that a demonstration must have
CLOSES = (
    0.5  # of the way from the widest opening to the narrowest, beyond which a hand that closes is a command to close
)


@dataclass(frozen=True)
class Pace:
    """How regularly pictures came."""

    n_frames: int
    wanted: float  # [Hz]
    rate: float  # [Hz]
    share: float  # of the pictures that were due between the first and the last, those that there are
    worst: float  # [s] between two

    def __str__(self) -> str:
        return (
            f"{self.n_frames} pictures at {self.rate:.2f} Hz, {100 * self.share:.0f} % of {self.wanted:g} Hz,"
            f" at most {1000 * self.worst:.0f} ms apart"
        )


class Demonstration:
    """Call `tick` again and again while it is shown; each returns after a fiftieth of a second."""

    def __init__(self, arm: Arm, camera: Eye, clock: Clock, fps: int, table: float) -> None:
        """`table`: how far it is above the base [m]."""
        self.arm, self.camera, self.clock, self.fps, self.table = arm, camera, clock, fps, table
        self._kinematics = kinematics_of(arm)
        self._frames: list[Frame] = []
        self._begun = self._due = self._next = clock.now()
        self._times: list[float] = []
        self._states: list[np.ndarray] = []

    def tick(self) -> None:
        """Ask the arm where it is, and take a picture when one is due. `CameraError`, `BusError` pass through."""
        self.clock.sleep_until(self._due)
        now = self.clock.now()
        self._due = max(self._due + 1 / ARM_RATE, now)
        state = self.arm.read()
        if (heard := float(state.heard.min())) > (self._times[-1] if self._times else -np.inf):
            tool = self._kinematics.forward(state.position).position - [0.0, 0.0, self.table]
            self._times.append(heard)
            self._states.append(np.array([*tool, state.opening]))
        if now >= self._next:
            frame = self.camera.newest(now)
            last = self._frames[-1].captured if self._frames else self._begun
            if frame.captured > last:
                self._frames.append(frame)
                self._next += 1 / self.fps
            if now > self._next + 1 / self.fps:  # what was missed stays missed
                self._next = now

    def cadence(self) -> Pace:
        times = np.array([frame.captured for frame in self._frames])
        if len(times) < 2:
            return Pace(len(times), self.fps, 0.0, 0.0, 0.0)
        steps = np.diff(times)
        span = float(times[-1] - times[0])
        due = round(span * self.fps) + 1
        return Pace(len(times), self.fps, (len(times) - 1) / span, min(1.0, len(times) / due), float(steps.max()))

    def check(self) -> None:
        """`BadInput` for one that is too short, or whose pictures came too slowly."""
        pace = self.cadence()
        if pace.n_frames < 2 or len(self._times) < 2:
            raise BadInput(f"{pace.n_frames} pictures, {len(self._times)} states of the arm; allowed: 2 or more")
        if pace.share < LEAST:
            raise BadInput(f"{pace}; allowed: {100 * LEAST:.0f} % or more: is the machine busy, is the camera slow?")
        gaps = np.diff([*self._times, max(self._times[-1], self._frames[-1].captured)])
        if gaps.max() > SILENT:
            raise BadInput(f"a motor was not heard of for {gaps.max():.2f} s; allowed: {SILENT:g}: is its cable loose?")
        if pace.worst > 2.5 / self.fps:
            raise BadInput(f"{pace}; allowed: {2500 / self.fps:.0f} ms at most")

    def episode(self, extra: dict) -> Episode:
        """States at the moments that the pictures were taken; the command of each is where the arm was at the next."""
        self.check()
        captured = np.array([frame.captured for frame in self._frames])
        states, times = np.array(self._states), np.array(self._times)
        state = np.stack([np.interp(captured, times, column) for column in states.T], 1)
        action = np.concatenate([state[1:], state[-1:]])
        action[:, 3] = commanded(action[:, 3])
        frames: UInt8[np.ndarray, "frame height width 3"] = np.stack([frame.image for frame in self._frames])
        measured = {"captured": (captured - captured[0]).round(4).tolist()}
        return Episode(frames, state, action, {**extra, **measured})


def commanded(opening: Float[np.ndarray, " frame"]) -> Float[np.ndarray, " frame"]:
    """Openings that a gripper must be told to do what a hand did: 0 or 1.

    A hand that holds something stands at its width, which would hold nothing if it were commanded: what is nearer to
    the narrowest opening than to the widest one meant to close.
    """
    low, high = float(opening.min()), float(opening.max())
    if high - low < 0.1:
        return np.round(opening)
    return (opening > high - CLOSES * (high - low)).astype(float)
