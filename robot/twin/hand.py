"""Somebody's hand: leads the torque-free arm, where calibrating asks for it and to show a task."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from robot.kinematics import LIMITS, PAN, Kinematics, Pose
from robot.twin.model import CUP_RADIUS, FIXED_PAD, JAW_RANGE, SAUCER_HEIGHT
from robot.twin.remote import Twin

PITCHES = np.radians(np.arange(-90.0, -29.9, 2.5))
PITCH = np.radians(-80.0)  # of the hand that is preferred
STEP = 0.1  # [s] of a path
SPEED, SLOW = 0.16, 0.07  # [m/s] through the air, near things
TURN_SPEED = 1.2  # [rad/s] of a joint while calibrating
HIGH, GRASP = 0.095, 0.028  # [m] above the table: over things; where a cup is held
SQUEEZE = 0.12  # opening that a closing hand goes for; the cup is in the way
BEYOND = 0.12  # [rad] that a hand pushes against a joint's stop
TOUCHES = ((0.14, 0.1), (0.14, -0.1), (0.24, 0.12), (0.24, -0.12), (0.2, 0.0), (0.28, 0.02))  # [m] on the table


@dataclass(frozen=True)
class Stroke:
    """A straight way of the tool, and the gripper's opening at its end."""

    to: tuple[float, float, float]
    opening: float
    speed: float = SPEED
    pause: float = 0.0  # [s] at its end


def pick_and_place(cup: tuple[float, float], saucer: tuple[float, float], rng: np.random.Generator) -> list[Stroke]:
    """A cup onto a saucer, as a person would, never twice the same."""
    high = HIGH - 0.01 * rng.random()
    away = rng.normal(0, 0.002, 4)
    x, y = cup[0] + away[0], cup[1] + away[1]
    # The jaw pushes the cup against the other finger, beside the tool point; so it stands there when it is put down.
    beside = np.array([saucer[0] - PAN[0], saucer[1] - PAN[1]])
    beside = -(FIXED_PAD + CUP_RADIUS) * np.array([-beside[1], beside[0]]) / np.linalg.norm(beside)
    u, v = saucer[0] + beside[0] + away[2], saucer[1] + beside[1] + away[3]
    over = GRASP + SAUCER_HEIGHT
    return [
        Stroke((x, y, high), 0.8),
        Stroke((x, y, GRASP), 0.8, SLOW, 0.2),
        Stroke((x, y, GRASP), SQUEEZE, SLOW, 0.6),
        Stroke((x, y, high), SQUEEZE, SLOW),
        Stroke((u, v, high), SQUEEZE),
        Stroke((u, v, over), SQUEEZE, SLOW, 0.2),
        Stroke((u, v, over), 0.8, SLOW, 0.6),
        Stroke((u, v, high), 0.8, SLOW, 0.4),
    ]


def ways(strokes: list[Stroke], start: Float[np.ndarray, " 3"], opening: float) -> Float[np.ndarray, "n 5"]:
    """Rows of a time [s], where the tool is [m], and the gripper's opening."""
    rows, t, at = [], 0.0, np.array(start, float)
    for stroke in strokes:
        to = np.array(stroke.to, float)
        moving = max(float(np.linalg.norm(to - at)) / stroke.speed * 1.5, STEP)  # at its fastest at `speed`
        seconds = moving + stroke.pause
        n = max(2, round(seconds / STEP))
        for passed in np.arange(1, n + 1) * seconds / n:
            share = min(1.0, passed / moving)
            grip = opening + (stroke.opening - opening) * min(1.0, 2 * passed / seconds)
            rows.append([t + passed, *(at + share * share * (3 - 2 * share) * (to - at)), grip])
        t, at, opening = t + seconds, to, stroke.opening
    return np.array(rows)


def path(strokes: list[Stroke], start: Float[np.ndarray, " 3"], opening: float) -> Float[np.ndarray, "n 7"]:
    """The same as a time and six joint angles. `Unreachable` where a stroke leads beyond the arm."""
    kinematics = Kinematics()
    rows = ways(strokes, start, opening)
    return np.array([[t, *kinematics.relaxed(Pose(np.array(at), PITCH), PITCHES)[0], jaw(o)] for t, *at, o in rows])


def jaw(opening: float) -> float:
    """[rad] of the gripper's joint."""
    return JAW_RANGE[0] + opening * (JAW_RANGE[1] - JAW_RANGE[0])


def lead(twin: Twin, rows: Float[np.ndarray, "n 7"]) -> float:
    """Have the hand lead the arm along a path, from where it is; how long that takes [s]."""
    first = [0.0, *twin.ask("state")["angles"]]
    twin.ask("lead", path=[first, *rows.tolist()])
    return float(rows[-1, 0])


class Hand:
    """Does what `robot.calibrate` asks a person to do: an `Operator`."""

    def __init__(self, twin: Twin, mount: str = "fixed") -> None:
        """`mount` of the camera: before a fixed one the board goes into the hand, under one on the wrist it lies."""
        self.twin, self._place = twin, "hand" if mount == "fixed" else "table"

    def ask(self, step: str, text: str) -> None:
        print(text, flush=True)
        if step in ("board", "off_table"):
            self.twin.ask("lead", path=None)
            self.twin.ask("board", at=self._place if step == "board" else "nowhere")
            return
        if step == "touch_1":  # the table is cleared
            self.twin.ask("place", name="cup", xy=[0.5, 0.4])
            self.twin.ask("place", name="saucer", xy=[0.5, -0.4])
        poses = _touch(int(step.removeprefix("touch_"))) if step.startswith("touch_") else POSES[step]
        self.twin.ask("lead", path=_through([self.twin.ask("state")["angles"], *poses]).tolist())

    def done(self) -> bool:
        """Whether the arm is where it was asked to be; the hand goes on holding it there."""
        return not self.twin.ask("state")["led"]


def _through(poses: list) -> np.ndarray:
    """A path through joint angles, with a moment's rest at each."""
    rows = [[0.0, *poses[0]]]
    for before, after in zip(poses, poses[1:], strict=False):
        most = float(np.abs(np.subtract(after, before)).max())
        rows.append([rows[-1][0] + max(most / TURN_SPEED, 0.2), *after])
        rows.append([rows[-1][0] + 0.4, *after])
    return np.array(rows)


def _touch(number: int) -> list:
    x, y = TOUCHES[(number - 1) % len(TOUCHES)]
    down = [Kinematics().inverse(Pose(np.array([x, y, z]), -np.pi / 2)) for z in (0.04, -0.003)]
    return [[*q, JAW_RANGE[0]] for q in down]


def _degrees(*angles: float) -> list[float]:
    """Five joint angles [degrees], and the gripper's."""
    return [*np.radians(angles[:5]).tolist(), angles[5]]


def _ranges() -> list:
    """Through the range of each joint, against its stops, past the table."""
    (pan, lift, elbow, wrist, roll), b = np.degrees(LIMITS), float(np.degrees(BEYOND))
    up, shut, wide = (-90.0, 90.0, 0.0), JAW_RANGE[0] - BEYOND, JAW_RANGE[1] + BEYOND
    poses = [(0, *up, 0, 0.0)]
    poses += [(a, *up, 0, 0.0) for a in (pan[0] - b, pan[1] + b, 0)]
    poses += [(0, a, 90, 0, 0, 0.0) for a in (lift[0] - b, -90)]
    poses += [(0, -90, 0, 0, 0, 0.0), (0, lift[1] + b, 0, 0, 0, 0.0), (0, -90, 0, 0, 0, 0.0)]
    poses += [(0, -90, a, -90, 0, 0.0) for a in (0, elbow[0] - b, elbow[1] + b, 90)]
    poses += [(0, -90, 90, a, 0, 0.0) for a in (wrist[0] - b, wrist[1] + b, 0)]
    poses += [(0, *up, a, 0.0) for a in (roll[0] + 5, roll[1] - 5, 0)]
    poses += [(0, *up, 0, a) for a in (shut, wide, 0.0)]
    return [_degrees(*pose) for pose in poses]


POSES = {
    "middle": [_degrees(*np.degrees(LIMITS.mean(1)), float(np.mean(JAW_RANGE)))],
    "ranges": _ranges(),
    "zero": [_degrees(0, 0, 0, 0, 0, JAW_RANGE[0] - BEYOND)],
    "signs": [_degrees(40, -60, 60, 40, 40, JAW_RANGE[1])],
}
