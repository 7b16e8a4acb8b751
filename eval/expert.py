"""The scripted expert: a grasp and a placement, planned as waypoints from the scene's state."""

import numpy as np
from jaxtyping import Float

from eval.surface import near_segment, top

SPEED = 0.20  # [m/s] in free motion
GRASP_OFFSET = np.array([0.0, 0.04])  # fingers straddle the rim at larger y; .05, or along x, fails [m]
APPROACH, GRASP, LIFT, CARRY_DROP, RETREAT = 0.12, 0.012, 0.18, 0.05, 0.10  # heights above bowl or plate [m]

BESIDE, OVER = 0.12, 0.03  # kept from what stands beside a path and below it [m]


def plan(
    start: Float[np.ndarray, " 3"], bowl: Float[np.ndarray, " 3"], plate: Float[np.ndarray, " 3"], period: float
) -> tuple[Float[np.ndarray, "step 3"], Float[np.ndarray, " step"]]:
    """Waypoints [m] and gripper commands, `period` seconds apart, that put the bowl on the plate."""
    grasp = np.array([*(bowl[:2] + GRASP_OFFSET), bowl[2] + GRASP])
    release = np.array([*(plate[:2] + GRASP_OFFSET), plate[2] + CARRY_DROP])
    keypoints = [  # position, gripper, seconds to stay there
        (grasp + [0, 0, APPROACH - GRASP], 1.0, 0.0),
        (grasp, 1.0, period),
        (grasp, 0.0, 0.5),
        (grasp + [0, 0, LIFT - GRASP], 0.0, 0.0),
        (release + [0, 0, LIFT - CARRY_DROP], 0.0, period),
        (release, 0.0, period),
        (release, 1.0, 0.5),
        (release + [0, 0, RETREAT], 1.0, period),
    ]
    return along(keypoints, start, period)


def transfer(
    start: Float[np.ndarray, " 3"],
    grasp: Float[np.ndarray, " 3"],
    held: Float[np.ndarray, "n 3"],
    others: Float[np.ndarray, "m 3"],
    release: Float[np.ndarray, " 3"],
    period: float,
) -> tuple[Float[np.ndarray, "step 3"], Float[np.ndarray, " step"]]:
    """Waypoints as `plan` gives them for any object, over everything that stands between, from surfaces' points [m]."""
    up = np.array([0.0, 0.0, 1.0])
    hang = grasp[2] - held[:, 2].min()  # what is below the grip site once the object is held
    over = top(near_segment(np.concatenate([others, held]), start[:2], grasp[:2], BESIDE)) + OVER + 0.01
    above = max(over, grasp[2] + APPROACH - GRASP)
    carry = max(top(near_segment(others, grasp[:2], release[:2], BESIDE)) + hang + OVER, release[2] + OVER)
    carry = max(carry, grasp[2] + 0.10)
    keypoints = [(start + max(0.0, above - start[2]) * up, 1.0, 0.0)] if above > start[2] else []
    keypoints += [
        (np.array([*grasp[:2], above]), 1.0, period),
        (grasp, 1.0, period),
        (grasp, 0.0, 0.5),
        (np.array([*grasp[:2], carry]), 0.0, 0.0),
        (np.array([*release[:2], carry]), 0.0, period),
        (release, 0.0, period),
        (release, 1.0, 0.5),
        (release + RETREAT * up, 1.0, period),
    ]
    return along(keypoints, start, period)


def along(
    keypoints: list[tuple[np.ndarray, float, float]], start: Float[np.ndarray, " 3"], period: float
) -> tuple[Float[np.ndarray, "step 3"], Float[np.ndarray, " step"]]:
    """Straight lines through keypoints (position, gripper, seconds to stay there) at `SPEED`."""
    position, gripper, here = [], [], start
    for target, opening, dwell in keypoints:
        n_move = int(np.ceil(np.linalg.norm(target - here) / (SPEED * period)))
        position += [here + (target - here) * (i + 1) / n_move for i in range(n_move)]
        n_stay = int(np.ceil(dwell / period - 1e-9))
        position += [target] * n_stay
        gripper += [opening] * (n_move + n_stay)
        here = target
    return np.array(position), np.array(gripper)
