"""The camera self-test of a recorded dataset, where no simulator and no arm is at hand."""

import zipfile
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from videopolicy.camera import Camera, check_markers
from videopolicy.errors import BadInput


def check_recording(path: Path, camera: Camera, frame: UInt8[np.ndarray, "height width 3"]) -> None:
    """Raise `BadInput` unless markers appear where the camera projects them and video has the pictures' orientation.

    `path` holds known world points, and the scene with and without a ball at each; `frame` is any frame of the video.
    """
    if not path.exists():
        raise BadInput(f"{path} is missing: without it a flipped or mirrored camera cannot be noticed")
    try:
        with np.load(path, allow_pickle=False) as stored:
            markers, (shown, hidden) = stored["markers"], stored["images"]
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise BadInput(f"cannot read {path}: {error}") from error
    check_markers(camera, markers, shown, hidden)
    picture, reference = frame.astype(float), hidden.astype(float)
    views = {
        "as they are": picture,
        "upside down": picture[::-1],
        "mirrored": picture[:, ::-1],
        "rotated by 180 degrees": picture[::-1, ::-1],
    }
    best = min(views, key=lambda name: np.abs(views[name] - reference).mean())
    if best != "as they are":
        raise BadInput(
            f"the videos of {path.parent.parent} are {best} against the picture their camera was calibrated on"
        )
