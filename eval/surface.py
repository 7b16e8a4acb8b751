"""Surfaces as points: what a grasp and a path are planned around."""

import itertools
from typing import Any

import numpy as np
from jaxtyping import Float


def box_surface(half: Float[np.ndarray, " 3"], spacing: float) -> Float[np.ndarray, "n 3"]:
    """Points on a box's six faces, at most `spacing` [m] apart; `half` are its half sizes."""
    along = [np.linspace(-h, h, int(np.ceil(2 * h / spacing)) + 1) for h in half]
    faces = []
    for axis, side in itertools.product(range(3), (0, -1)):
        ticks = [a if i != axis else a[[side]] for i, a in enumerate(along)]
        faces.append(np.stack(np.meshgrid(*ticks, indexing="ij"), -1).reshape(-1, 3))
    return np.concatenate(faces)


def body_surface(model: Any, data: Any, root: int, spacing: float) -> Float[np.ndarray, "n 3"]:
    """Points on what collides of a MuJoCo body and of all that hangs on it; each shape counts as its oriented box."""
    geoms = np.flatnonzero((model.body_rootid[model.geom_bodyid] == root) & (model.geom_contype > 0))
    return np.concatenate([in_world(model, data, g, box_surface(model.geom_aabb[g, 3:], spacing)) for g in geoms])


def in_world(model: Any, data: Any, geom: np.integer, points: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 3"]:
    """Points relative to the middle of a MuJoCo shape's oriented box, in the simulation's coordinates."""
    centre = model.geom_aabb[geom, :3]
    return (centre + points) @ data.geom_xmat[geom].reshape(3, 3).T + data.geom_xpos[geom]


def near_segment(
    points: Float[np.ndarray, "n 3"], a: Float[np.ndarray, " 2"], b: Float[np.ndarray, " 2"], radius: float
) -> Float[np.ndarray, "m 3"]:
    """The points within a horizontal distance [m] of the straight line from a to b."""
    way = b - a
    share = ((points[:, :2] - a) @ way) / max(float(way @ way), 1e-12)
    nearest = a + np.clip(share, 0, 1)[:, None] * way
    return points[np.linalg.norm(points[:, :2] - nearest, axis=-1) < radius]


def top(points: Float[np.ndarray, "n 3"]) -> float:
    """The greatest height among points [m]; that of the support surface, 0, where there are none."""
    return max(0.0, float(points[:, 2].max(initial=0.0)))
