"""What is known of the camera: its lens, and its place in the base frame or on the hand. Part of calibration.json."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from robot.board import HALF, project
from robot.calibration import ArmCalibration, read_calibration
from robot.camera import Lens
from robot.hand_eye import Mount
from videopolicy.camera import Camera
from videopolicy.data.files import reading
from videopolicy.errors import BadInput, choices

SHAPES = {"K": (3, 3), "distortion": (5,), "T": (4, 4)}


@dataclass(frozen=True)
class MountedCamera:
    """World frame: the arm's base frame, moved up or down so that the table is z = 0."""

    K: Float[np.ndarray, "3 3"]
    distortion: Float[np.ndarray, " 5"]  # k1, k2, p1, p2, k3 of OpenCV
    size: tuple[int, int]  # (width, height) [px]
    mount: Mount
    T: Float[np.ndarray, "4 4"]  # fixed: T_base_cam; wrist: T_hand_cam
    reprojection_px: float  # rms, when it was calibrated

    @property
    def lens(self) -> Lens:
        return Lens(self.K, self.distortion, self.size)

    def in_base(self, T_base_hand: Float[np.ndarray, "4 4"]) -> Float[np.ndarray, "4 4"]:
        """T_base_cam, with the hand where it is."""
        return T_base_hand @ self.T if self.mount == "wrist" else self.T

    def camera(self, T_base_hand: Float[np.ndarray, "4 4"], table_height: float) -> Camera:
        """In the world frame, for undistorted pictures."""
        T_world_cam = self.in_base(T_base_hand).copy()
        T_world_cam[2, 3] -= table_height
        return Camera(self.K, T_world_cam, self.size)

    def pixels(
        self, points: Float[np.ndarray, "n 3"], T_base_hand: Float[np.ndarray, "4 4"]
    ) -> Float[np.ndarray, "n 2"]:
        """Of points in the base frame, in pictures as the camera takes them; NaN for those that are behind it."""
        T = np.linalg.inv(self.in_base(T_base_hand))
        in_camera = points @ T[:3, :3].T + T[:3, 3]
        ahead = in_camera[:, 2:] > 1e-3
        return np.where(ahead, project(self.lens, np.where(ahead, in_camera, [0.0, 0.0, 1.0])), np.nan)

    def draw_tool(
        self, image: UInt8[np.ndarray, "h w 3"], T_base_hand: Float[np.ndarray, "4 4"]
    ) -> tuple[UInt8[np.ndarray, "h w 3"], Float[np.ndarray, " 2"]]:
        """A picture (RGB) with the hand drawn into it where it must be, and the pixel of its tool point.

        Yellow: along the hand to the tool point. Green: across it, to the side that the jaw opens to. Red: up and down.
        """
        R, tool = T_base_hand[:3, :3], T_base_hand[:3, 3]
        ends = np.array([[0, 0, -0.06], [0, 0, 0], [-0.02, 0, 0], [0.02, 0, 0], [0, -0.005, 0], [0, 0.005, 0]])
        uv = self.pixels(ends @ R.T + tool, T_base_hand)
        drawn = image.copy()
        for line, colour in zip(uv.reshape(3, 2, 2), ((255, 255, 0), (0, 255, 0), (255, 0, 0)), strict=True):
            if np.isfinite(line).all() and np.abs(line).max() < 1e4:
                (a, b), (c, d) = np.round((line - HALF) * 16).astype(int).tolist()  # in sixteenths of a pixel
                cv2.line(drawn, (a, b), (c, d), colour, 1, cv2.LINE_AA, shift=4)
        return drawn, uv[1]

    def to_json(self) -> dict[str, Any]:
        arrays = {name: getattr(self, name).tolist() for name in SHAPES}
        return {**arrays, "size": list(self.size), "mount": self.mount, "reprojection_px": self.reprojection_px}

    @staticmethod
    def from_json(entry: Any) -> "MountedCamera":
        """`BadInput` names the key whose value is no camera's."""
        lens = read_lens(entry, "camera")
        if entry.get("mount") not in get_args(Mount):
            raise choices("camera.mount", entry.get("mount"), get_args(Mount))
        T = _array(entry, "camera", "T")
        R = T[:3, :3]
        if not np.allclose(R @ R.T, np.eye(3), atol=1e-5) or np.linalg.det(R) < 0 or (T[3] != [0, 0, 0, 1]).any():
            raise BadInput(f"camera.T is {entry['T']}; allowed: a rotation and a translation [m], last row 0, 0, 0, 1")
        error = _number(entry, "camera", "reprojection_px")
        if error < 0:
            raise BadInput(f"camera.reprojection_px is {error}; allowed: 0 or above")
        return MountedCamera(lens.K, lens.distortion, lens.size, entry["mount"], T, error)


def lens_to_json(lens: Lens, rms_px: float) -> dict[str, Any]:
    return {"K": lens.K.tolist(), "distortion": lens.distortion.tolist(), "size": list(lens.size), "rms_px": rms_px}


def read_lens(entry: Any, where: str) -> Lens:
    """Of a part of the file, named `where` in what `BadInput` says."""
    if not isinstance(entry, dict):
        raise BadInput(f"{where} is {entry!r}; allowed: an object")
    K = _array(entry, where, "K")
    if not (K[0, 0] > 0 and K[1, 1] > 0) or (K[2] != [0, 0, 1]).any() or K[1, 0] or K[0, 1]:
        raise BadInput(f"{where}.K is {entry['K']}; allowed: [[fx, 0, cx], [0, fy, cy], [0, 0, 1]], fx and fy above 0")
    size = entry.get("size")
    if not (isinstance(size, list) and len(size) == 2 and all(type(x) is int and x > 0 for x in size)):
        raise BadInput(f"{where}.size is {size!r}; allowed: a width and a height [px], whole and above 0")
    return Lens(K, _array(entry, where, "distortion"), (size[0], size[1]))


def read_mounted(path: Path) -> tuple[ArmCalibration, MountedCamera, float]:
    """The whole of calibration.json: the arm, its camera, the table's height in the base frame [m].

    `BadInput` names what is wrong in it, or the command that makes what is missing.
    """
    arm, rest = read_calibration(path)
    arm.need_signs(path)
    for part, command in (("camera", "extrinsics"), ("table", "table")):
        if part not in rest:
            raise BadInput(f"{path} has no {part}: run robot.calibrate {command} on this arm")
    with reading(path):
        return arm, MountedCamera.from_json(rest["camera"]), read_table_height(rest["table"])


def read_table_height(entry: Any) -> float:
    """Of the part `table` [m]."""
    if not isinstance(entry, dict):
        raise BadInput(f"table is {entry!r}; allowed: an object")
    return _number(entry, "table", "height")


def _array(entry: dict, where: str, key: str) -> np.ndarray:
    rows = entry.get(key)
    try:
        found = np.array(rows, float)
    except (TypeError, ValueError):
        found = np.array(np.nan)
    if found.shape != SHAPES[key] or not np.isfinite(found).all():
        shape = " x ".join(map(str, SHAPES[key]))
        raise BadInput(f"{where}.{key} is {rows!r}; allowed: finite numbers, {shape}")
    return found


def _number(entry: dict, where: str, key: str) -> float:
    value = entry.get(key)
    if type(value) not in (int, float) or not np.isfinite(value):  # type: ignore[arg-type]
        raise BadInput(f"{where}.{key} is {value!r}; allowed: a finite number")
    return float(value)  # type: ignore[arg-type]
