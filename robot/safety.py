"""From a wish to joint goals that may be sent: every stage looks at what the one before it let through.

In order: finite; workspace box and table; reach and inverse kinematics; joint limits, less a margin; speed and
acceleration of the joints. Behind them stand the servos' own limits (`so100.py`). A stage mends or holds, and says so.
"""

from dataclasses import dataclass
from enum import Flag, auto

import numpy as np
from jaxtyping import Float

from robot.kinematics import Kinematics, Pose, Unreachable
from robot.trajectory import Limiter
from videopolicy.errors import BadInput


class Held(Flag):
    """What a wish met with."""

    NOTHING = 0
    NOT_FINITE = auto()  # held: the goal before it stands
    BOX = auto()  # moved into the workspace
    UNREACHABLE = auto()  # held
    LIMITS = auto()  # joint angles moved back
    RATE = auto()  # slowed down


@dataclass(frozen=True)
class SafetyConfig:
    low: tuple[float, float, float] = (0.08, -0.25, 0.005)  # workspace, base frame [m]; the last one is the table's
    high: tuple[float, float, float] = (0.36, 0.25, 0.30)
    margin_deg: float = 2.5  # of a joint's range that is not used, at either end
    speed: float = 1.0  # of any joint [rad/s]
    acceleration: float = 8.0  # [rad/s2]
    residual: float = 0.005  # [m] that forward kinematics may miss a wish by
    pitches_deg: tuple[float, float] = (-90.0, -30.0)  # elevations of the hand that may be used
    pitch_deg: float = -80.0  # the one that is wanted

    def __post_init__(self) -> None:
        if not all(a < b for a, b in zip(self.low, self.high, strict=True)):
            raise BadInput(f"safety.low is {self.low}, safety.high {self.high}; allowed: a box with some room in it")
        for name, most in {"speed": 5.2, "acceleration": 100.0, "residual": 0.1}.items():
            if not 0 < getattr(self, name) <= most:
                raise BadInput(f"safety.{name} is {getattr(self, name)}; allowed: above 0, to {most:g}")
        if not 0 <= self.margin_deg <= 20:
            raise BadInput(f"safety.margin_deg is {self.margin_deg}; allowed: 0 to 20 degrees")
        if not -120 <= self.pitches_deg[0] <= self.pitch_deg <= self.pitches_deg[1] <= 90:
            raise BadInput(
                f"safety.pitch_deg is {self.pitch_deg}; allowed: within safety.pitches_deg {self.pitches_deg}"
            )


@dataclass
class Safety:
    """A filter for one arm, at the joint angles where it begins."""

    cfg: SafetyConfig
    kinematics: Kinematics
    limits: Float[np.ndarray, "5 2"]  # of the joints [rad]
    start: Float[np.ndarray, " 5"]
    flags: Held = Held.NOTHING  # of the last wish

    def __post_init__(self) -> None:
        margin = np.radians(self.cfg.margin_deg)
        self._low, self._high = self.limits[:, 0] + margin, self.limits[:, 1] - margin
        self.restart(self.start)
        self._pitches = np.radians(np.arange(self.cfg.pitches_deg[0], self.cfg.pitches_deg[1] + 0.1, 2.5))

    def restart(self, start: Float[np.ndarray, " 5"]) -> None:
        """From joint angles at rest."""
        self._limiter = Limiter(start, self.cfg.speed, self.cfg.acceleration)
        self._goal = start.copy()  # what the limiter goes to

    def within(self, q: Float[np.ndarray, " 5"]) -> Float[np.ndarray, " 5"]:
        """Joint angles moved into the limits, and into the margin but for those that are beyond it already."""
        at = self._limiter.position
        return np.clip(q, np.minimum(self._low, at), np.maximum(self._high, at)).clip(*self.limits.T)

    def wish(self, position: Float[np.ndarray, " 3"], roll: float, seconds: float) -> Float[np.ndarray, " 5"]:
        """Joint goals for a tool that is wished to be at `position` in the base frame, `seconds` after the last."""
        self.flags = Held.NOTHING
        position = np.asarray(position, float)
        if position.shape != (3,) or not np.isfinite(position).all() or not np.isfinite(roll):
            self.flags |= Held.NOT_FINITE
            return self._towards(self._goal, seconds)
        inside = np.clip(position, self.cfg.low, self.cfg.high)
        if (inside != position).any():
            self.flags |= Held.BOX
        try:
            wanted = Pose(inside, np.radians(self.cfg.pitch_deg), roll)
            q, _ = self.kinematics.relaxed(wanted, self._pitches)
            if np.linalg.norm(self.kinematics.forward(q).position - inside) > self.cfg.residual:
                raise Unreachable
        except Unreachable:
            self.flags |= Held.UNREACHABLE
            return self._towards(self._goal, seconds)
        return self.angles(q, seconds)

    def angles(self, q: Float[np.ndarray, " 5"], seconds: float) -> Float[np.ndarray, " 5"]:
        """Joint goals on the way to joint angles, as for parking: the last two stages."""
        mended = np.clip(q, self._low, self._high)
        if np.abs(mended - q).max() > 1e-9:
            self.flags |= Held.LIMITS
        return self._towards(mended, seconds)

    def hold(self, seconds: float) -> Float[np.ndarray, " 5"]:
        """Joint goals that come to rest as soon as the acceleration allows."""
        limiter = self._limiter
        braking = limiter.velocity * np.linalg.norm(limiter.velocity) / (2 * limiter.acceleration)
        return self._towards(np.clip(limiter.position + braking, self._low, self._high), seconds)

    def _towards(self, goal: np.ndarray, seconds: float) -> np.ndarray:
        self._goal = goal.copy()
        q, slowed = self._limiter.step(goal, seconds)
        if slowed:
            self.flags |= Held.RATE
        return np.clip(q, self.limits[:, 0], self.limits[:, 1])
