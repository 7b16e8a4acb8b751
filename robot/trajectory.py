"""Waypoints in time: chunks come late and overlap; the arm is asked fifty times a second where to be.

Waypoint k of a chunk belongs to the moment k periods after its picture was taken. What is past when the chunk arrives
is dropped, what overlaps with the chunk before is blended, linearly over its first waypoints; the gripper switches.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from videopolicy.types import ActionChunk


@dataclass(frozen=True)
class Target:
    position: Float[np.ndarray, " 3"]  # base frame [m]
    opening: float
    left: float  # [s] of waypoints that are still to come; below 0: so long ago the last one was


class Trajectory:
    """What is to be done, from now on. Times are of one monotonic clock [s]."""

    def __init__(self, n_blend: int = 3, latency: float = 0.02) -> None:
        """`n_blend`: waypoints of a new chunk that are blended with the old one's; `latency` of the arm [s]."""
        self.n_blend, self.latency = n_blend, latency
        self.n_late = 0  # chunks all of whose waypoints had passed
        self.clear()

    def clear(self) -> None:
        """Forget all waypoints."""
        self.times: np.ndarray = np.empty(0)
        self.positions: np.ndarray = np.empty((0, 3))
        self.openings: np.ndarray = np.empty(0)

    def add(self, chunk: ActionChunk, captured: float, now: float) -> int:
        """Take over a chunk made of a picture taken at `captured`; how many of its waypoints are still to come."""
        times = captured + chunk.times
        keep = times > now + self.latency
        if not keep.any():
            self.n_late += 1
            return 0
        times, positions = times[keep], np.asarray(chunk.position, float)[keep]
        here = self.at(now)
        if here is not None:
            weights = np.arange(1, self.n_blend + 1) / (self.n_blend + 1)
            for i, weight in enumerate(weights[: len(times)]):
                old = self.at(times[i])
                if old is not None and old.left >= 0:
                    positions[i] = (1 - weight) * old.position + weight * positions[i]
            times = np.concatenate([[now], times])
            positions = np.concatenate([here.position[None], positions])
            openings = np.concatenate([[here.opening], np.asarray(chunk.gripper, float)[keep]])
        else:
            openings = np.asarray(chunk.gripper, float)[keep]
        self.times, self.positions, self.openings = times, positions, openings
        return int(keep.sum())

    def at(self, now: float) -> Target | None:
        """Where to be; before the first waypoint at it, after the last one at that. None where there are none."""
        if len(self.times) == 0:
            return None
        i = int(np.searchsorted(self.times, now, side="left"))
        left = float(self.times[-1] - now)
        if i == 0 or i == len(self.times):
            j = min(i, len(self.times) - 1)
            return Target(self.positions[j].copy(), float(self.openings[j]), left)
        share = (now - self.times[i - 1]) / (self.times[i] - self.times[i - 1])
        position = (1 - share) * self.positions[i - 1] + share * self.positions[i]
        return Target(position, float(self.openings[i]), left)


class Limiter:
    """Follows a target within a speed and an acceleration, and stops at it without going past."""

    def __init__(self, position: Float[np.ndarray, " n"], speed: float, acceleration: float) -> None:
        """Of the norm, in the position's unit per second and per second squared."""
        self.position, self.speed, self.acceleration = np.array(position, float), speed, acceleration
        self.velocity = np.zeros_like(self.position)

    def step(self, target: Float[np.ndarray, " n"], seconds: float) -> tuple[Float[np.ndarray, " n"], bool]:
        """Where to be a moment later, and whether the limits held it back."""
        away = target - self.position
        distance = float(np.linalg.norm(away))
        # What it may have and still stop at the target, in steps of this length.
        braking = self.acceleration * (np.sqrt((seconds / 2) ** 2 + 2 * distance / self.acceleration) - seconds / 2)
        wanted = away / max(distance, 1e-12) * min(distance / seconds, braking, self.speed)
        change = wanted - self.velocity
        allowed = self.acceleration * seconds
        size = float(np.linalg.norm(change))
        self.velocity = self.velocity + change * min(1.0, allowed / max(size, 1e-12))
        self.position = self.position + self.velocity * seconds
        held_back = distance / seconds > float(np.linalg.norm(self.velocity)) + 1e-9
        return self.position.copy(), held_back
