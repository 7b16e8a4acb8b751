"""What servos are short of their goals, made up for: under a load they stand where their gain balances it.

At LeRobot's gains that is one to three degrees at the shoulder, a centimetre at the tool. The difference is added up
slowly, within limits, and sent on top of the goal, which has passed the safety filter: at most `limit` beyond it.
A joint further from its goal than a servo droops is blocked, and gets nothing; nor does one that is not heard of.
"""

from collections import deque

import numpy as np
from jaxtyping import Bool, Float

LAG = 3  # ticks that a servo is behind its goal while it moves, which is no droop
MOST_ERROR = np.radians(4)  # that is droop: more is a collision, or a goal that has just jumped


class Droop:
    """`gain` [1/s], 0: nothing is made up for; `limit` [rad] of what is added to any joint."""

    def __init__(self, gain: float, limit: float) -> None:
        self.gain, self.limit = gain, limit
        self.added: Float[np.ndarray, " 5"] = np.zeros(5)
        self._goals: deque[np.ndarray] = deque(maxlen=LAG)

    def update(
        self,
        goal: Float[np.ndarray, " 5"],
        position: Float[np.ndarray, " 5"],
        heard: Bool[np.ndarray, " 5"],
        seconds: float,
    ) -> Float[np.ndarray, " 5"]:
        """The goal to send, for joints that are at `position`, those that were `heard` of in this tick now."""
        if len(self._goals) == LAG:
            error = self._goals[0] - position
            counts = heard & (np.abs(error) < MOST_ERROR)
            self.added = np.clip(self.added + self.gain * seconds * error * counts, -self.limit, self.limit)
        self._goals.append(goal.copy())
        return goal + self.added
