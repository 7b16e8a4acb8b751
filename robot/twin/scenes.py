"""Where cup and saucer stand, and what the room looks like: the same for every policy."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.stats.qmc import Halton

from robot.kinematics import PAN
from robot.twin.model import Look
from robot.twin.tables import PAINTED

LOW, HIGH = (0.16, -0.12), (0.26, 0.12)  # of both, on the table [m]
REACH = (0.125, 0.235)  # [m] from the pan axis
SPREAD = 10_000  # seed of the demonstrations' places
APART = 0.095  # [m] at least
Room = Literal["demonstrated", "test", "tuning"]
OTHER_TABLES = {"test": ("checks", "stripes"), "tuning": ("speckles", *PAINTED)}


@dataclass(frozen=True)
class Scene:
    cup: tuple[float, float]
    saucer: tuple[float, float]
    look: Look


def demonstrated(n: int) -> list[Scene]:
    """Of the first `n` demonstrations: spread over the table, as somebody does who shows a task."""
    found: list[Scene] = []
    points = Halton(4, seed=SPREAD)
    while len(found) < n:
        x, y, u, v = points.random(1)[0]
        if stands((cup := _at(x, y)), (saucer := _at(u, v))):
            found.append(Scene(cup, saucer, Look()))
    return found


def stands(cup: tuple[float, float], saucer: tuple[float, float]) -> bool:
    """Whether the arm reaches both, and there is room for a hand between them."""
    near = [REACH[0] < np.hypot(x - PAN[0], y - PAN[1]) < REACH[1] for x, y in (cup, saucer)]
    return all(near) and bool(np.hypot(cup[0] - saucer[0], cup[1] - saucer[1]) > APART)


def _at(x: float, y: float) -> tuple[float, float]:
    return float(LOW[0] + x * (HIGH[0] - LOW[0])), float(LOW[1] + y * (HIGH[1] - LOW[1]))


def by_chance(number: int, room: Room = "demonstrated") -> Scene:
    """Anywhere, by chance; rooms but the demonstrated one also have another table, wall and lamp.

    Scenes of "tuning" are for choosing how to train: neither their places nor their tables are among those of "test".
    """
    rng = np.random.default_rng([number, 2] if room == "tuning" else number)
    while True:
        cup, saucer = (_at(*rng.random(2)) for _ in range(2))
        if stands(cup, saucer):
            break
    if room == "demonstrated":
        return Scene(cup, saucer, Look())
    if room == "test":
        rng = np.random.default_rng([number, 1])
    tables = OTHER_TABLES[room]
    return Scene(
        cup,
        saucer,
        Look(
            table=tables[int(rng.integers(len(tables)))],
            wall=tuple(rng.uniform(0.15, 0.9, 3).tolist()),
            lamp=(float(rng.uniform(-0.5, 0.6)), float(rng.uniform(-0.6, 0.6)), 1.2),
            brightness=float(rng.uniform(0.45, 0.9)),
        ),
    )
