"""What servos are short of their goals, made up for: under a load they stand where their gain balances it.

At LeRobot's gains that is one to three degrees at the shoulder, a centimetre at the tool. The difference is added up
slowly, within limits, and sent on top of the goal.
"""

from collections import deque

import numpy as np
from jaxtyping import Float

LAG = 3  # ticks that a servo is behind its goal while it moves, which is no droop
MOST_ERROR = np.radians(3)  # that counts at once: more is a collision, or a goal that has just jumped


class Droop:
    """`gain` [1/s], 0: nothing is made up for; `limit` [rad] of what is added to any joint."""

    def __init__(self, gain: float, limit: float) -> None:
        self.gain, self.limit = gain, limit
        self.added: Float[np.ndarray, " 5"] = np.zeros(5)
        self._goals: deque[np.ndarray] = deque(maxlen=LAG)

    def update(
        self, goal: Float[np.ndarray, " 5"], position: Float[np.ndarray, " 5"], seconds: float
    ) -> Float[np.ndarray, " 5"]:
        """The goal to send, for joints that are at `position` now."""
        if len(self._goals) == LAG:
            error = np.clip(self._goals[0] - position, -MOST_ERROR, MOST_ERROR)
            self.added = np.clip(self.added + self.gain * seconds * error, -self.limit, self.limit)
        self._goals.append(goal.copy())
        return goal + self.added
