"""Where to grasp an object, found from its surface: around the whole of it, or around a wall such as a rim.

The gripper points down and does not turn; its fingers come together along world y. Positions are of the grip site,
between the finger pads.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

# The Panda hand, open, about its grip site [m]; measured on robosuite's collision meshes.
INNER, OUTER, WIDTH = 0.0385, 0.055, 0.012  # of a fingertip: along y from the site, and to each side along x
TIP, PAD = -0.0095, (-0.005, 0.012)  # lowest point of a finger, and the pads' reach in height
HAND, HAND_WIDTH, PALM = 0.102, 0.025, 0.031  # half sizes along y and x, and height of its lower side
OWN_GAP, OTHER_GAP = 0.001, 0.006  # kept from the object itself, and from everything else
LEAST_HOLD = 0.006  # of the object's height between the pads
FLOOR = 0.010  # the lowest grip above the support surface
NEAR = 0.02  # cost of a metre to the side of the robot: of two equal grasps it takes the one that is nearer
STEP = 0.0025  # of the search


@dataclass(frozen=True)
class Grasp:
    """A place for the grip site, and how much is against it [m]: off centre, uneven between the fingers, high."""

    position: Float[np.ndarray, " 3"]
    cost: float


def find_grasps(
    object_points: Float[np.ndarray, "n 3"], other_points: Float[np.ndarray, "m 3"], n_best: int = 4
) -> list[Grasp]:
    """Different ways to grasp an object, the best first; none where it has no part that the fingers can close around.

    At every place over the object the hand is lowered until something is in its way, which its own object may be.
    """
    low, high = object_points.min(0), object_points.max(0)
    middle = (low + high) / 2
    reach = np.linalg.norm(high[:2] - middle[:2]) + HAND + OTHER_GAP
    others = other_points[np.abs(other_points[:, :2] - middle[:2]).max(-1) < reach]
    found = []
    for x in middle[0] + _ticks(min(0.03, (high[0] - low[0]) / 2), 2 * STEP):
        for y in middle[1] + _ticks((high[1] - low[1]) / 2, STEP):
            height = max(FLOOR, _lowest(object_points, x, y, OWN_GAP), _lowest(others, x, y, OTHER_GAP))
            held = object_points - [x, y, height]
            held = held[(np.abs(held[:, 0]) < WIDTH) & (np.abs(held[:, 1]) < INNER)]
            held = held[(held[:, 2] > PAD[0]) & (held[:, 2] < PAD[1])]
            if len(held) == 0 or np.ptp(held[:, 2]) < LEAST_HOLD:
                continue
            uneven = abs(held[:, 1].max() + held[:, 1].min()) / 2
            cost = uneven + 2 * abs(x - middle[0]) + 0.5 * abs(y - middle[1]) + height - low[2] + NEAR * abs(y)
            found.append(Grasp(np.array([x, y, height]), float(cost)))
    return _different(sorted(found, key=lambda grasp: grasp.cost), n_best)


def _ticks(reach: float, step: float) -> Float[np.ndarray, " n"]:
    """Multiples of a step, 0 among them, within a reach to both sides."""
    n = int(reach / step)
    return np.arange(-n, n + 1) * step


def _lowest(points: np.ndarray, x: float, y: float, gap: float) -> float:
    """How low the grip site can come at (x, y) without touching any of the points, the hand coming from above."""
    dx, dy = np.abs(points[:, 0] - x), np.abs(points[:, 1] - y)
    fingers = points[(dx < WIDTH + gap) & (dy > INNER - gap) & (dy < OUTER + gap)]
    palm = points[(dx < HAND_WIDTH + gap) & (dy < HAND + gap)]
    return max(fingers[:, 2].max(initial=-1.0) - TIP, palm[:, 2].max(initial=-1.0) - PALM) + gap


def _different(grasps: list[Grasp], n: int) -> list[Grasp]:
    """The first of the grasps that are at least 8 mm from each other."""
    kept: list[Grasp] = []
    for grasp in grasps:
        if all(np.linalg.norm(grasp.position - other.position) > 0.008 for other in kept):
            kept.append(grasp)
        if len(kept) == n:
            break
    return kept
