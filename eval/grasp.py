"""Where to grasp an object, found from its surface: around the whole of it, or around a wall such as a rim.

The gripper points down and does not turn; its fingers come together along world y. Positions are of the grip site,
between the finger pads.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

# The Panda hand, open, about its grip site [m]; measured on robosuite's collision meshes.
INNER, OUTER, WIDTH = 0.0385, 0.0535, 0.012  # of a fingertip: along y from the site, and to each side along x
TIP, PAD = -0.0095, (-0.005, 0.012)  # lowest point of a finger, and the pads' reach in height
HAND, HAND_WIDTH, PALM = 0.102, 0.025, 0.031  # half sizes along y and x, and height of its lower side
FLOOR = 0.010  # the lowest grip above the support surface
GAPS = (0.006, 0.003, 0.0)  # kept from everything but the object itself: as much as there is room for
LEAST_HOLD = 0.011  # of the object's height between the pads: thinner edges slip
STEP = 0.0025  # of the search

# What a grasp costs [m], for each metre that it is
ASIDE, ALONG = 2.0, 0.5  # off the object's middle, along x and y
NARROW = 10.0  # short of the largest gap
NEAR = 0.02  # to the side of the robot: of two equal grasps it takes the one that is nearer


@dataclass(frozen=True)
class Grasp:
    """A place for the grip site, how far the object slides along y as the fingers close, and the cost [m]."""

    position: Float[np.ndarray, " 3"]
    slide: float
    cost: float


def find_grasps(
    object_points: Float[np.ndarray, "n 3"], other_points: Float[np.ndarray, "m 3"], n_best: int = 4
) -> list[Grasp]:
    """Different ways to grasp an object, the best first; none where it has no part that the fingers can close around.

    At every place over the object the hand is lowered until something is in its way, which may be the object itself.
    """
    low, high = object_points.min(0), object_points.max(0)
    middle = (low + high) / 2
    reach = np.linalg.norm(high[:2] - middle[:2]) + HAND + GAPS[0]
    others = other_points[np.abs(other_points[:, :2] - middle[:2]).max(-1) < reach]
    found = []
    for dx in _ticks(min(0.03, (high[0] - low[0]) / 2), 2 * STEP):
        for dy in _ticks((high[1] - low[1]) / 2, STEP):
            x, y = middle[0] + dx, middle[1] + dy
            between = object_points[np.abs(object_points[:, 0] - x) < WIDTH]
            between = between[np.abs(between[:, 1] - y) < INNER]
            own = max(FLOOR, _lowest(object_points, x, y, 0.0))
            for gap in GAPS:
                height = max(own, _lowest(others, x, y, gap))
                held = between[(between[:, 2] > height + PAD[0]) & (between[:, 2] < height + PAD[1])]
                hold = np.ptp(held[:, 2]) if len(held) else 0.0
                if hold >= LEAST_HOLD:
                    slide = y - (held[:, 1].max() + held[:, 1].min()) / 2
                    cost = abs(slide) + ASIDE * abs(dx) + ALONG * abs(dy) + height - low[2] - hold
                    cost += NARROW * (GAPS[0] - gap) + NEAR * abs(y)
                    found.append(Grasp(np.array([x, y, height]), float(slide), float(cost)))
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
