"""Where cup and saucer stand, and what the room looks like: the same for every policy."""

from dataclasses import dataclass

import numpy as np

from robot.kinematics import PAN
from robot.twin.model import TABLES, Look

LOW, HIGH = (0.16, -0.12), (0.26, 0.12)  # of both, on the table [m]
REACH = (0.125, 0.235)  # [m] from the pan axis
APART = 0.095  # [m] at least
DEMONSTRATIONS = 10_000  # seeds of what is shown begin here, those of what is tested at 0


@dataclass(frozen=True)
class Scene:
    cup: tuple[float, float]
    saucer: tuple[float, float]
    look: Look


def scene(seed: int, new_look: bool = False) -> Scene:
    """`new_look`: another table, wall and lamp than those of the demonstrations."""
    rng = np.random.default_rng(seed)
    while True:
        cup, saucer = (tuple(rng.uniform(LOW, HIGH).tolist()) for _ in range(2))
        near = [REACH[0] < np.hypot(x - PAN[0], y - PAN[1]) < REACH[1] for x, y in (cup, saucer)]
        if all(near) and np.hypot(cup[0] - saucer[0], cup[1] - saucer[1]) > APART:
            break
    if not new_look:
        return Scene(cup, saucer, Look())
    rng = np.random.default_rng([seed, 1])
    others = [table for table in TABLES if table != Look().table]
    return Scene(
        cup,
        saucer,
        Look(
            table=others[int(rng.integers(len(others)))],
            wall=tuple(rng.uniform(0.15, 0.9, 3).tolist()),
            lamp=(float(rng.uniform(-0.5, 0.6)), float(rng.uniform(-0.6, 0.6)), 1.2),
            brightness=float(rng.uniform(0.45, 0.9)),
        ),
    )
