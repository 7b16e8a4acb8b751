"""The table's height in the arm's base frame, from points that the tool's tip touched."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from videopolicy.errors import BadInput

LEAST_POINTS = 4
LEAST_WIDTH = 0.02  # [m], rms of the points across the line that they lie nearest to
MAX_RESIDUAL = 0.003  # [m]
MAX_TILT_DEG = 2.0


@dataclass(frozen=True)
class Table:
    height: float  # [m] of the plane, at the middle of the points
    tilt_deg: float  # against the base frame's own plane
    residual: float  # [m] of the worst point


def fit(points: Float[np.ndarray, "n 3"]) -> Table:
    """The plane z = a x + b y + c through touched points, base frame [m].

    `BadInput` for points that tell no plane, that lie in none, or whose plane is not level.
    """
    if len(points) < LEAST_POINTS or not np.isfinite(points).all():
        raise BadInput(f"{len(points)} touched points; allowed: at least {LEAST_POINTS}, with finite coordinates")
    middle = points.mean(0)
    around = points - middle
    width = float(np.linalg.svd(around[:, :2], compute_uv=False)[1] / np.sqrt(len(points)))
    if width < LEAST_WIDTH:
        raise BadInput(
            f"the touched points lie on a line, {1000 * width:.0f} mm wide (rms); allowed: at least"
            f" {1000 * LEAST_WIDTH:.0f}: spread them to the left and right, near and far"
        )
    slopes = np.linalg.lstsq(around[:, :2], around[:, 2], rcond=None)[0]
    away = around[:, 2] - around[:, :2] @ slopes
    residual = float(np.abs(away).max())
    if residual > MAX_RESIDUAL:
        # Each point draws the plane towards itself; this share is left of its distance from the others' plane.
        left = np.maximum(1 - 1 / len(points) - np.diag(around[:, :2] @ np.linalg.pinv(around[:, :2])), 1e-6)
        worst = int((np.abs(away) / np.sqrt(left)).argmax())
        x, y, _ = points[worst]
        raise BadInput(
            f"touched points lie up to {1000 * residual:.1f} mm off their plane; allowed: {1000 * MAX_RESIDUAL:.0f};"
            f" point {worst + 1}, at ({x:.3f}, {y:.3f}) m, {1000 * away[worst] / left[worst]:+.1f} mm off the others':"
            " touch with the closed gripper's tip, without bending the arm"
        )
    tilt = float(np.degrees(np.arctan(np.linalg.norm(slopes))))
    if tilt > MAX_TILT_DEG:
        raise BadInput(
            f"the touched points' plane is tilted by {tilt:.1f} deg; allowed: {MAX_TILT_DEG:g}: is the arm's base level"
            " on the table, and are the joints' zeros right (robot.calibrate joints)?"
        )
    return Table(float(middle[2]), tilt, residual)
