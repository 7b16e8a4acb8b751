"""The camera self-test of a recorded dataset, where no simulator and no arm is at hand."""

from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from videopolicy.camera import Camera, check_markers
from videopolicy.data.files import reading
from videopolicy.errors import BadInput


def read_markers(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Known world points [m], and the scene with and without a ball at each."""
    with reading(path), np.load(path, allow_pickle=False) as stored:
        markers, (shown, hidden) = stored["markers"], stored["images"]
    return markers, shown, hidden


def check_recording(path: Path, camera: Camera, frame: UInt8[np.ndarray, "height width 3"]) -> None:
    """Raise `BadInput` unless markers appear where the camera projects them and video has the pictures' orientation.

    `path` holds known world points, and the scene with and without a ball at each; `frame` is any frame of the video.
    """
    if not path.exists():
        raise BadInput(f"{path} is missing: without it a flipped or mirrored camera cannot be noticed")
    with reading(path):
        markers, shown, hidden = read_markers(path)
        if markers.ndim != 2 or markers.shape[1] != 3 or not np.isfinite(markers).all():
            raise BadInput(f"markers are {markers.shape}; allowed: finite, n x 3")
        if hidden.shape != shown.shape or hidden.shape != frame.shape:
            raise BadInput(f"its pictures are {shown.shape} and {hidden.shape}, the video's {frame.shape}")
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
