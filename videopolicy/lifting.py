"""How much an error in the image, in height or in calibration moves a lifted point. Numpy only."""

from dataclasses import replace

import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from videopolicy.camera import Camera

PITCH, YAW = 0, 1  # axes of the camera: x right, y down


def bin_range(low: float, high: float) -> tuple[float, float]:
    """What height bins span [m]: the labels' range, and 5 % of it and 5 mm on either side."""
    margin = 0.05 * (high - low) + 0.005
    return low - margin, high + margin


def sensitivity(camera: Camera, points: Float[np.ndarray, "n 3"], bin_width: float) -> list[dict]:
    """Rows of `cause`, `mean_mm` and `max_mm`, the displacement of those points [m] that the camera sees.

    `bin_width` [m] is one height bin of the policy. A pixel is one of the pictures that `camera` describes.
    """
    points = points[camera.contains(camera.project(points))]
    if not len(points):
        return []
    pixel, height = camera.project(points), points[:, 2]

    def moved(view: Camera, shift: tuple[float, float] = (0.0, 0.0), raised: float = 0.0) -> dict:
        lifted = view.lift(pixel + np.array(shift), height + raised)
        distance = 1000 * np.linalg.norm(lifted - points, axis=-1)
        return {"mean_mm": round(float(distance.mean()), 2), "max_mm": round(float(distance.max()), 2)}

    return [
        {"cause": "one pixel to the right", **moved(camera, (1.0, 0.0))},
        {"cause": "one pixel down", **moved(camera, (0.0, 1.0))},
        {"cause": f"one height bin ({1000 * bin_width:.1f} mm)", **moved(camera, raised=bin_width)},
        {"cause": "camera pitched by 1 degree", **moved(_turned(camera, PITCH))},
        {"cause": "camera panned by 1 degree", **moved(_turned(camera, YAW))},
    ]


def sensitivities(
    cameras: dict[str, Camera], points: Float[np.ndarray, "n 3"], bin_width: float, size: tuple[int, int], where: str
) -> dict:
    """What a report shows of `sensitivity`: `rows` for each camera by its name, at a policy's `size` (width, height).

    `where` says in words over which points.
    """
    rows = [
        {"camera": name, **row}
        for name, camera in cameras.items()
        for row in sensitivity(camera.resized(size), points, bin_width)
    ]
    return {"rows": rows, "image_size": list(size), "where": where}


def _turned(camera: Camera, axis: int, degrees: float = 1.0) -> Camera:
    """A camera whose calibration is off by a turn about one of its own axes."""
    turn: Float[np.ndarray, "3 3"] = Rotation.from_euler("xyz"[axis], degrees, degrees=True).as_matrix()
    pose = camera.T_world_cam.copy()
    pose[:3, :3] = pose[:3, :3] @ turn
    return replace(camera, T_world_cam=pose)
