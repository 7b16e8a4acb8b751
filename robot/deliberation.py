"""From pictures to chunks beside the control loop: the newest picture, the policy, and what it says handed over.

A queue of one: while the policy thinks, pictures pass; it gets the newest one when it has done. What goes wrong with
camera or policy, or where pictures are kept, becomes a hold, or a way to rest, never an exception in the loop.
"""

import threading
from dataclasses import replace

import numpy as np

from robot.camera import CameraError, CameraStale
from robot.clock import Clock
from robot.connection import Eye
from robot.control import Control
from robot.mounting import MountedCamera
from robot.pictures import Look, Pictures
from robot.policy_process import PolicyGone
from videopolicy.errors import BadInput
from videopolicy.types import ActionChunk, Observation, Policy

IDLE = 0.005  # [s] between looks for a new picture


class Deliberation:
    """For one control loop. `table`: how far it is above the robot's base [m]."""

    def __init__(self, control: Control, policy: Policy, camera: Eye, mounted: MountedCamera, table: float) -> None:
        self.control, self.policy, self.camera, self.mounted = control, policy, camera, mounted
        self.table, self.period = table, control.cfg.replan
        self.latencies: list[float] = []  # [s] from a picture to its chunk
        self.n_chunks = 0
        self.trouble = ""  # what camera or policy said last when they failed
        self.last: tuple[Observation, ActionChunk] | None = None
        self.pictures: Pictures | None = None  # where they are kept from now on
        self._used = -np.inf
        self._begun: float | None = None
        self._pending: tuple[float, ActionChunk, float] | None = None

    def think(self, now: float) -> tuple[ActionChunk, float] | None:
        """One chunk, base frame, and when its picture was taken; None where there is no new picture, or no policy."""
        soonest = self._used + max(self.period, 1e-6) - 1e-9
        if now < soonest:
            return None
        try:
            frame = self.camera.newest(now)
        except CameraStale as error:
            self.trouble = str(error)
            self.control.pause(self.trouble)
            return None
        except CameraError as error:
            self._give_up(f"camera: {error}")
            return None
        if frame.captured < soonest:
            return None
        self._used = frame.captured
        self._begun = frame.captured if self._begun is None else self._begun
        observation = self._observation(frame.image, frame.captured)
        try:
            chunk = self.policy.act(observation)
        except PolicyGone as error:
            self._give_up(f"policy: {error}")
            return None
        self.last = (observation, chunk)
        self.n_chunks += 1
        if self.pictures is not None:
            look = Look(observation, chunk, frame.captured, self.control.arm.now(), self.table)
            try:
                self.pictures.add(look)
            except BadInput as error:  # no reason to let go of an arm
                self.pictures = None
                self._give_up(f"pictures: {error}")
        return replace(chunk, position=chunk.position + [0.0, 0.0, self.table]), frame.captured

    def run(self, clock: Clock) -> None:
        """Until the control has ended; on a thread of its own."""
        while not self.control.ended:
            try:
                found = self.think(clock.now())
            except Exception as error:  # a program's fault; the arm does not wait for a thread that has died
                self._give_up(f"{type(error).__name__}: {error}")
                raise
            if found is None:
                clock.sleep_until(clock.now() + IDLE)
            else:
                self.latencies.append(clock.now() - found[1])
                self.control.submit(*found)

    def thread(self, clock: Clock) -> threading.Thread:
        """Started."""
        thread = threading.Thread(target=self.run, args=(clock,), name="deliberation", daemon=True)
        thread.start()
        return thread

    def tick(self, now: float, latency: float) -> None:
        """In lockstep, where computing takes no time: what was thought comes `latency` seconds after its picture."""
        if self._pending is None and (found := self.think(now)) is not None:
            self._pending = (found[1] + latency, *found)
        if self._pending is not None and now >= self._pending[0] - 1e-9:
            self.latencies.append(now - self._pending[2])
            self.control.submit(*self._pending[1:])
            self._pending = None

    def _give_up(self, why: str) -> None:
        self.trouble = why
        self.control.park(why)

    def _observation(self, image: np.ndarray, captured: float) -> Observation:
        position, opening = self.control.arm.at(captured)  # when the picture was taken, not now
        T_base_hand = self.control.safety.kinematics.hand_to_base(position)
        camera = self.mounted.camera(T_base_hand, self.table)
        tool = T_base_hand[:3, 3] - [0.0, 0.0, self.table]
        assert self._begun is not None
        return Observation(image, camera, tool, opening, captured - self._begun)
