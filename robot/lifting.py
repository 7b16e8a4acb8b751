"""How much an error in the image, in height or in calibration moves a point that a policy of the arm lifts."""

from pathlib import Path

import numpy as np
from jaxtyping import Float

from robot.mounting import read_mounted
from robot.twin.scenes import HIGH, LOW
from videopolicy.lifting import bin_range, sensitivities
from videopolicy.training import checkpoint

CAMERAS = {"first": "calibration.json", "moved": "calibration_moved.json"}
WHERE = "the part of the table where things stand, 2 and 10 cm above it"


def points(n: int = 8) -> Float[np.ndarray, "n 3"]:
    """All over where cup and saucer may stand, low and high [m]."""
    axes = (np.linspace(low, high, n) for low, high in zip(LOW, HIGH, strict=True))
    return np.stack(np.meshgrid(*axes, [0.02, 0.10]), -1).reshape(-1, 3)


def policy_sensitivity(folder: Path) -> dict:
    """`sensitivities` of the run `folder/para` before the demo's calibrated cameras; empty where either is missing."""
    found = checkpoint.latest(folder / "para")
    cameras = {name: folder / file for name, file in CAMERAS.items() if (folder / file).is_file()}
    if found is None or not cameras:
        return {}
    config, labels = checkpoint.read_config(found), checkpoint.read_state(found)["labels"]
    low, high = bin_range(*labels["height"])
    mounted = {name: read_mounted(path)[1:] for name, path in cameras.items()}
    return sensitivities(
        {name: camera.camera(np.eye(4), table) for name, (camera, table) in mounted.items()},
        points(),
        (high - low) / config["head"]["para"]["n_height"],
        tuple(config["backbone"]["image_size"]),
        WHERE,
    )
