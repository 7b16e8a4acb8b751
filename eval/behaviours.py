"""What the arm does in pretraining clips: picks and places of any object, and reaching at random."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from eval.expert import along
from eval.playground import REACH, Playground
from eval.positions import is_evaluated_goal

APPROACH, LIFT, RETREAT = 0.11, 0.17, 0.10  # above the grasp [m]
REACH_HEIGHT = (0.03, 0.30)  # [m]


@dataclass(frozen=True)
class Motion:
    """Waypoints [m] and gripper commands, one period apart, and what they are meant to do."""

    position: Float[np.ndarray, "step 3"]
    gripper: Float[np.ndarray, " step"]
    name: str
    onto: str | None = None  # the object that something is put on, if any


def pick_and_place(playground: Playground, rng: np.random.Generator, period: float) -> Motion:
    """Pick a random object and put it somewhere else, two times in five onto or into another object."""
    name = str(rng.choice(playground.pickable()))
    grasp = playground.grasp(name)
    onto = None
    others = [n for n in playground.loose if n != name and not is_evaluated_goal(name, n)]
    if others and rng.random() < 0.4:
        onto = str(rng.choice(others))
        own, other = playground.bounds(name), playground.bounds(onto)
        offset = grasp - np.array([*own.middle[:2], own.low[2]])  # of the grip site in the object
        release = np.array([*other.middle[:2], other.high[2] + 0.02]) + offset
    else:
        release = np.array([*rng.uniform(*REACH), grasp[2] + 0.01])
    up = np.array([0.0, 0.0, 1.0])
    high = max(grasp[2], release[2])
    keypoints = [
        (grasp + APPROACH * up, 1.0, 0.0),
        (grasp, 1.0, period),
        (grasp, 0.0, 0.5),
        (np.array([*grasp[:2], high + LIFT]), 0.0, 0.0),
        (np.array([*release[:2], high + LIFT]), 0.0, period),
        (release, 0.0, period),
        (release, 1.0, 0.5),
        (release + RETREAT * up, 1.0, period),
    ]
    return Motion(*along(keypoints, playground.ee_position, period), f"pick {name}", onto)


def reach(playground: Playground, rng: np.random.Generator, period: float) -> Motion:
    """Go to a few random places, opening and closing the gripper now and then."""
    keypoints, opening = [], 1.0
    for _ in range(rng.integers(3, 6)):
        target = np.array([*rng.uniform(*REACH), rng.uniform(*REACH_HEIGHT)])
        keypoints.append((target, opening, 0.0))
        if rng.random() < 0.3:
            opening = 1 - opening
            keypoints.append((target, opening, 0.5))
    return Motion(*along(keypoints, playground.ee_position, period), "reach")
