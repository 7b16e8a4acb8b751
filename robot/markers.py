"""Pictures that tie a camera's calibration to what it sees, kept beside calibration.json and with every dataset.

Corners of the calibration board, whose place in space the arm told, and a small white disc drawn at each place in the
picture where it was found: a camera that was turned, flipped or scaled since does not fit them any more.
"""

from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from videopolicy.camera import Camera, check_markers
from videopolicy.data.files import reading, replace
from videopolicy.errors import BadInput

RADIUS = 3  # [pixels] of a disc
APART = 24.0  # [pixels] between two, or one could pass for the other
MOST = 4
SHIFT = 4  # bits of a pixel's fraction, as OpenCV draws


def markers_of(calibration: Path) -> Path:
    return calibration.with_name(f"{calibration.stem}_markers.npz")


def write(
    calibration: Path,
    image: UInt8[np.ndarray, "height width 3"],
    uv: Float[np.ndarray, "n 2"],
    points: Float[np.ndarray, "n 3"],
) -> None:
    """`image` undistorted; corners where they were seen in it [pixels], and where they were in the base frame [m]."""
    chosen: list[int] = []
    for i in range(len(uv)):
        if len(chosen) < MOST and all(np.hypot(*(uv[i] - uv[j])) > APART for j in chosen):
            chosen.append(i)
    hidden, shown = image.copy(), image.copy()
    for u, v in uv[chosen]:
        centre = round((u - 0.5) * 2**SHIFT), round((v - 0.5) * 2**SHIFT)  # OpenCV's first pixel has its centre at 0
        # On white paper a white disc is no difference: the picture without it is black there.
        cv2.circle(hidden, centre, (RADIUS + 1) << SHIFT, (0, 0, 0), cv2.FILLED, shift=SHIFT)
        cv2.circle(shown, centre, (RADIUS + 1) << SHIFT, (0, 0, 0), cv2.FILLED, shift=SHIFT)
        cv2.circle(shown, centre, RADIUS << SHIFT, (255, 255, 255), cv2.FILLED, cv2.LINE_AA, SHIFT)
    pair = np.stack([shown, hidden])
    replace(markers_of(calibration), lambda path: _save(path, points[chosen], pair))


def read(calibration: Path, camera: Camera, table_height: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points in the world frame, the picture with their discs and without; `BadInput` where `camera` does not fit."""
    path = markers_of(calibration)
    if not path.is_file():
        raise BadInput(f"no {path}: run robot.calibrate extrinsics on this arm")
    with reading(path):
        with np.load(path, allow_pickle=False) as stored:
            points, (shown, hidden) = stored["points"], stored["images"]
        markers = points - [0.0, 0.0, table_height]
        check_markers(camera, markers, shown, hidden, tolerance=3.0)
    return markers, shown, hidden


def _save(path: Path, points: np.ndarray, images: np.ndarray) -> None:
    with path.open("wb") as file:
        np.savez_compressed(file, points=points, images=images)
