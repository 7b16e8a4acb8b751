"""The SO-100's kinematics in closed form: a pan joint, three parallel ones in its plane, a roll.

Base frame: origin under the pan axis's mount on the table, x ahead, y left, z up [m]. Joint angles are those of the
published model (MJCF): 0 is the arm stretched level, ahead; shoulder, elbow and wrist turn their link down where they
grow, the pan turns left. `pitch` is the hand's elevation: 0 level, -pi/2 pointing straight down. The tool point lies on
the roll axis, so rolling does not move it.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

JOINTS = ("shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll")
PAN = np.array([0.0452, 0.0])  # of the pan axis [m]
RADIAL, UP = 0.0306, 0.119  # of the shoulder, from the pan axis and the table [m]
UPPER = np.hypot(0.11257, 0.028)  # [m] shoulder to elbow, and the angle of that line to the link's own zero
UPPER_BEND = -np.arctan2(0.028, 0.11257)
LOWER = np.hypot(0.0052, 0.1349)  # elbow to wrist
LOWER_BEND = np.arctan2(0.0052, 0.1349)
WRIST = 0.0601  # wrist to roll joint
LIMITS = np.radians(np.array([[-126, 126], [-180, 11.5], [0, 180], [-114.6, 103.1], [-180, 180]]))

ROUNDING = 1e-9  # [rad]


@dataclass(frozen=True)
class Pose:
    """Of the tool: where it is, and how the hand is held."""

    position: Float[np.ndarray, " 3"]
    pitch: float
    roll: float = 0.0


class Unreachable(ValueError):
    """No joint angles within the limits put the tool there, at any allowed pitch."""


class Kinematics:
    """`tool`: from the roll joint to the tool point along the hand [m]. `limits`: joint, (low, high)."""

    def __init__(self, tool: float = 0.1, limits: Float[np.ndarray, "5 2"] = LIMITS) -> None:
        self.hand, self.limits = WRIST + tool, limits

    def forward(self, q: Float[np.ndarray, " 5"]) -> Pose:
        pan, lift, elbow, wrist, roll = (float(x) for x in q)
        first, second, pitch = -lift + UPPER_BEND, -(lift + elbow) + LOWER_BEND, -(lift + elbow + wrist)
        r = RADIAL + UPPER * np.cos(first) + LOWER * np.cos(second) + self.hand * np.cos(pitch)
        z = UP + UPPER * np.sin(first) + LOWER * np.sin(second) + self.hand * np.sin(pitch)
        position = np.array([PAN[0] + r * np.cos(pan), PAN[1] + r * np.sin(pan), z])
        return Pose(position, float(_wrapped(np.array(pitch))), roll)

    def joints(self, q: Float[np.ndarray, " 5"]) -> Float[np.ndarray, "6 3"]:
        """The arm from end to end: on the pan axis at the table, shoulder, elbow, wrist, roll joint, tool point."""
        pan, lift, elbow, wrist, _ = q
        pitch = np.array([-lift + UPPER_BEND, -(lift + elbow) + LOWER_BEND, *[-(lift + elbow + wrist)] * 2])
        length = np.array([UPPER, LOWER, WRIST, self.hand - WRIST])
        r = np.cumsum([0.0, RADIAL, *length * np.cos(pitch)])
        z = np.cumsum([0.0, UP, *length * np.sin(pitch)])
        return np.stack([PAN[0] + r * np.cos(pan), PAN[1] + r * np.sin(pan), z], 1)

    def inverse(self, pose: Pose) -> Float[np.ndarray, " 5"]:
        """Joint angles of a tool in front of the pan axis; `Unreachable` says what stands in the way.

        Of the two elbows the one within the limits; the upper one where both are.
        """
        x, y = pose.position[:2] - PAN
        r = float(np.hypot(x, y))
        pan = float(np.arctan2(y, x))
        along = r - RADIAL - self.hand * np.cos(pose.pitch)
        up = float(pose.position[2]) - UP - self.hand * np.sin(pose.pitch)
        away = float(np.hypot(along, up))
        if not abs(UPPER - LOWER) < away < UPPER + LOWER:
            raise Unreachable(
                f"{_said(pose)}: its wrist would be {away:.3f} m from the shoulder, whose arm is"
                f" {abs(UPPER - LOWER):.3f} to {UPPER + LOWER:.3f} m long"
            )
        cosine = (away**2 + UPPER**2 - LOWER**2) / (2 * away * UPPER)
        inner, towards = np.arccos(np.clip(cosine, -1, 1)), np.arctan2(up, along)
        problems, middle = [], self.limits.mean(1)
        for first in (towards + inner, towards - inner):  # the elbow above the line to the wrist, or below it
            second = np.arctan2(up - UPPER * np.sin(first), along - UPPER * np.cos(first))
            lift = UPPER_BEND - first
            elbow = LOWER_BEND - second - lift
            q = np.array([pan, lift, elbow, -pose.pitch - lift - elbow, pose.roll])
            q = middle + _wrapped(q - middle)  # of equal angles the one nearest to the joint's range
            outside = (q < self.limits[:, 0] - ROUNDING) | (q > self.limits[:, 1] + ROUNDING)
            if not outside.any():
                return np.clip(q, self.limits[:, 0], self.limits[:, 1])
            i = int(outside.argmax())
            problems.append(f"{JOINTS[i]} at {np.degrees(q[i]):.0f} deg")
        raise Unreachable(f"{_said(pose)}: {' or '.join(problems)} is beyond its limits")

    def relaxed(self, pose: Pose, pitches: Float[np.ndarray, " n"]) -> tuple[Float[np.ndarray, " 5"], float]:
        """Joint angles and pitch, of those allowed the one nearest to the wanted one that can be reached."""
        last = None
        for pitch in sorted(pitches, key=lambda p: abs(p - pose.pitch)):
            try:
                return self.inverse(Pose(pose.position, float(pitch), pose.roll)), float(pitch)
            except Unreachable as error:
                last = last or error
        raise last or Unreachable(f"{_said(pose)}: no pitch is allowed")

    def hand_to_base(self, q: Float[np.ndarray, " 5"]) -> Float[np.ndarray, "4 4"]:
        """T_base_hand: the tool point; z along the hand, x to the side that the jaw opens to at roll 0."""
        pose = self.forward(q)
        pan = float(q[0])
        ahead = np.array([np.cos(pan), np.sin(pan), 0.0])
        along = np.cos(pose.pitch) * ahead + np.sin(pose.pitch) * np.array([0.0, 0.0, 1.0])
        side = np.array([-np.sin(pan), np.cos(pan), 0.0])
        up = np.cross(along, side)
        c, s = np.cos(pose.roll), np.sin(pose.roll)
        T = np.eye(4)
        T[:3, :3] = np.stack([c * side - s * up, c * up + s * side, along], 1)  # the roll turns about -along
        T[:3, 3] = pose.position
        return T


def _wrapped(angle: np.ndarray) -> np.ndarray:
    return (angle + np.pi) % (2 * np.pi) - np.pi


def _said(pose: Pose) -> str:
    x, y, z = pose.position
    return f"({x:.3f}, {y:.3f}, {z:.3f}) m at pitch {np.degrees(pose.pitch):.0f} deg"
