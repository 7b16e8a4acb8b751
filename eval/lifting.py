"""How much an error in the image, in height or in calibration moves a lifted point: the lifting's sensitivity."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from eval.positions import grid
from videopolicy.bins import Bins
from videopolicy.camera import Camera
from videopolicy.data.lerobot import Dataset
from videopolicy.training import checkpoint

PITCH, YAW = 0, 1  # axes of the camera: x right, y down


def policy_sensitivity(runs: Iterable[Path], others: dict[str, Camera]) -> dict:
    """`rows` of `sensitivity` for the first pixel-aligned policy among `runs` that is still there with its data.

    Before its dataset's own camera and `others`, at the size of the policy's pictures. Empty where there is none.
    """
    for run in runs:
        if (found := checkpoint.latest(run)) is None:
            continue
        config = checkpoint.read_config(found)
        root = Path(config["data"]["root"])
        if config["head"]["kind"] == "para" and (root / "meta/info.json").is_file():
            low, high = checkpoint.read_state(found)["labels"]["height"]
            width = Bins.around(low, high, config["head"]["para"]["n_height"]).width
            size = tuple(config["backbone"]["image_size"])
            cameras = {f"of {root}": Dataset(root).camera, **others}
            rows = [
                {"camera": name, **row}
                for name, camera in cameras.items()
                for row in sensitivity(camera.resized(size), width)
            ]
            return {"rows": rows, "image_size": list(size)}
    return {}


def sensitivity(camera: Camera, bin_width: float, heights: tuple[float, ...] = (0.02, 0.20)) -> list[dict]:
    """Rows of cause, mean and largest displacement [mm] over the position grid at `heights` [m].

    `bin_width` [m] is one height bin of the policy. A pixel is one of the pictures that `camera` describes.
    """
    points = np.concatenate([np.column_stack([grid("all"), np.full(256, z)]) for z in heights])
    points = points[camera.contains(camera.project(points))]
    pixel, height = camera.project(points), points[:, 2]

    def moved(view: Camera, shift: tuple[float, float] = (0.0, 0.0), raised: float = 0.0) -> dict:
        lifted = view.lift(pixel + np.array(shift), height + raised)
        distance = 1000 * np.linalg.norm(lifted - points, axis=-1)
        return {"mean_mm": round(float(distance.mean()), 2), "max_mm": round(float(distance.max()), 2)}

    return [
        {"cause": "one pixel to the right", **moved(camera, (1, 0))},
        {"cause": "one pixel down", **moved(camera, (0, 1))},
        {"cause": f"one height bin ({1000 * bin_width:.1f} mm)", **moved(camera, raised=bin_width)},
        {"cause": "camera pitched by 1 degree", **moved(_turned(camera, PITCH))},
        {"cause": "camera panned by 1 degree", **moved(_turned(camera, YAW))},
    ]


def _turned(camera: Camera, axis: int, degrees: float = 1.0) -> Camera:
    """A camera whose calibration is off by a turn about one of its own axes."""
    turn: Float[np.ndarray, "3 3"] = Rotation.from_euler("xyz"[axis], degrees, degrees=True).as_matrix()
    pose = camera.T_world_cam.copy()
    pose[:3, :3] = pose[:3, :3] @ turn
    return replace(camera, T_world_cam=pose)
