"""The Charuco board: how it is printed, where its corners are in a picture, and what many pictures say of the lens.

OpenCV's first pixel has its centre at 0, this project's at 0.5: half a pixel is added to what OpenCV found, and taken
off what it is given, in this file's lines with `HALF` and `CENTRE`. Board frame: origin at a corner of the board as it
is drawn, x to the right along a row, y down, z away from who looks at it [m].
"""

import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float, Int, UInt8

from robot.camera import Lens
from videopolicy.data.files import replace
from videopolicy.errors import BadInput, choices

HALF = 0.5  # [px] from OpenCV's pixels to the project's
CENTRE = np.array([[0, 0, HALF], [0, 0, HALF], [0, 0, 0]])  # the same of a K
DICTIONARIES = {
    f"DICT_{n}X{n}_{size}": getattr(cv2.aruco, f"DICT_{n}X{n}_{size}") for n in (4, 5, 6) for size in (50, 100)
}
LEAST_CORNERS = 6  # of a picture that counts
LEAST_VIEWS = 8
TILTED, LEAST_TILTED = np.radians(15), 4  # against the picture's plane; views that must be so
LEAST_COVER = 0.3  # share of the picture's width and height that all corners together span
FOCAL_ERROR = 0.03  # standard deviation, share of the focal length
MAX_RMS = 1.0  # [px]
# Pixels are square, and boards that do not fill the picture do not tell more of a lens than two radial coefficients.
FEW = cv2.CALIB_FIX_ASPECT_RATIO | cv2.CALIB_ZERO_TANGENT_DIST | cv2.CALIB_FIX_K3


@dataclass(frozen=True)
class Corners:
    """Inner corners of the board that were found in a picture."""

    ids: Int[np.ndarray, " n"]
    uv: Float[np.ndarray, "n 2"]  # [px]


@dataclass(frozen=True)
class BoardConfig:
    n_columns: int = 5  # squares
    n_rows: int = 4
    square: float = 0.025  # [m]
    marker: float = 0.019  # [m]
    dictionary: str = "DICT_4X4_50"

    def __post_init__(self) -> None:
        for name in ("n_columns", "n_rows"):
            if not 3 <= getattr(self, name) <= 20:
                raise BadInput(f"board.{name} is {getattr(self, name)}; allowed: 3 to 20 squares")
        if not 0.005 <= self.square <= 0.2:
            raise BadInput(f"board.square is {self.square}; allowed: 0.005 to 0.2 m")
        if not 0.5 * self.square <= self.marker <= 0.9 * self.square:
            raise BadInput(f"board.marker is {self.marker}; allowed: 0.5 to 0.9 of board.square {self.square}")
        if self.dictionary not in DICTIONARIES:
            raise choices("board.dictionary", self.dictionary, DICTIONARIES)
        n_markers, n_words = self.n_columns * self.n_rows // 2, int(self.dictionary.split("_")[-1])
        if n_markers > n_words:
            raise BadInput(f"board.dictionary {self.dictionary} has {n_words} markers; this board needs {n_markers}")

    @property
    def points(self) -> Float[np.ndarray, "n 3"]:
        """All inner corners, by their number, in the board frame."""
        return np.asarray(self._made().getChessboardCorners(), float)

    def draw(self, pixels_per_square: int) -> UInt8[np.ndarray, "h w"]:
        """For printing, with a white margin of half a square around it."""
        if not 10 <= pixels_per_square <= 2000:
            raise BadInput(f"pixels_per_square is {pixels_per_square}; allowed: 10 to 2000")
        margin = pixels_per_square // 2
        size = (self.n_columns * pixels_per_square + 2 * margin, self.n_rows * pixels_per_square + 2 * margin)
        return np.asarray(self._made().generateImage(size, marginSize=margin), np.uint8)

    def save(self, path: Path, pixels_per_square: int = 300) -> None:
        """A PNG that says how large it is, so that it is printed in its true size."""
        _, encoded = cv2.imencode(".png", self.draw(pixels_per_square))
        data, per_metre = encoded.tobytes(), round(pixels_per_square / self.square)
        body = b"pHYs" + struct.pack(">IIB", per_metre, per_metre, 1)
        chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
        after = 8 + 25  # signature and first chunk
        replace(path, lambda temporary: temporary.write_bytes(data[:after] + chunk + data[after:]))

    def _made(self) -> cv2.aruco.CharucoBoard:
        words = cv2.aruco.getPredefinedDictionary(DICTIONARIES[self.dictionary])
        return cv2.aruco.CharucoBoard((self.n_columns, self.n_rows), self.square, self.marker, words)

    def detect(self, image: UInt8[np.ndarray, "h w 3"] | UInt8[np.ndarray, "h w"]) -> Corners | None:
        """Inner corners in a picture (RGB or grey), to a fraction of a pixel; None where too few are seen."""
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) if image.ndim == 3 else image
        made = self._made()
        uv, ids, _, _ = cv2.aruco.CharucoDetector(made).detectBoard(grey)
        if ids is None or len(ids) < LEAST_CORNERS or made.checkCharucoCornersCollinear(ids):
            return None
        return Corners(ids[:, 0].astype(int), uv[:, 0].astype(float) + HALF)

    def locate(self, corners: Corners, lens: Lens) -> tuple[Float[np.ndarray, "4 4"], float]:
        """T_cam_board, and how much worse its mirrored twin fits: near 1 the picture does not tell which of the two."""
        points, uv = self.points[corners.ids], corners.uv - HALF
        n, turns, places, errors = cv2.solvePnPGeneric(
            points, uv, lens.K - CENTRE, lens.distortion, flags=cv2.SOLVEPNP_IPPE
        )
        turn, place = cv2.solvePnPRefineLM(points, uv, lens.K - CENTRE, lens.distortion, turns[0], places[0])
        T = np.eye(4)
        T[:3, :3], T[:3, 3] = cv2.Rodrigues(turn)[0], place[:, 0]
        best = max(float(errors[0, 0]), 1e-3)
        return T, float(errors[1, 0]) / best if n > 1 else np.inf


def intrinsics(board: BoardConfig, views: list[Corners], size: tuple[int, int]) -> tuple[Lens, float]:
    """The lens that explains all views, and by how much not [px, rms]; `size` is (width, height).

    `BadInput` for views that do not tell it says what they lack. The third radial
    coefficient stays 0: boards that do not reach into the picture's corners do not tell it.
    """
    if len(views) < LEAST_VIEWS:
        raise BadInput(f"{len(views)} views of the board; allowed: at least {LEAST_VIEWS}")
    covered = np.ptp(np.concatenate([view.uv for view in views]), axis=0) / size
    if covered.min() < LEAST_COVER:
        axis, where = (("width", "left and right"), ("height", "up and down"))[int(covered.argmin())]
        raise BadInput(
            f"the board was seen over {100 * covered.min():.0f} % of the picture's {axis}; allowed: at least"
            f" {100 * LEAST_COVER:.0f} %: move it further {where}, or nearer"
        )
    points = [board.points[view.ids].astype(np.float32) for view in views]
    pixels = [(view.uv - HALF).astype(np.float32) for view in views]
    try:
        rms, K, distortion, turns, _, spread, _, by_view = cv2.calibrateCameraExtended(
            points, pixels, size, np.eye(3), np.zeros(5), flags=FEW
        )
    except cv2.error as error:
        raise BadInput(f"no lens explains the views ({error.err}): tilt the board by 20 to 40 deg") from error
    if not rms < MAX_RMS:
        raise BadInput(
            f"corners are off by {rms:.2f} px, in view {int(by_view.argmax()) + 1} by {by_view.max():.2f}; allowed:"
            f" {MAX_RMS}: is the board flat, are its squares {1000 * board.square:g} mm, is the picture sharp?"
        )
    n_tilted = sum(abs(cv2.Rodrigues(turn)[0][2, 2]) < np.cos(TILTED) for turn in turns)
    focal = float((spread[:2, 0] / np.diag(K)[:2]).max())
    if n_tilted < LEAST_TILTED:
        raise BadInput(
            f"{n_tilted} of {len(views)} views show the board tilted by {np.degrees(TILTED):.0f} deg or more; allowed:"
            f" at least {LEAST_TILTED}: tilt it by 20 to 40 deg, about both its axes"
        )
    if not focal < FOCAL_ERROR:
        raise BadInput(
            f"the views tell the focal length to {100 * focal:.1f} %; allowed: {100 * FOCAL_ERROR:.0f}: take more, from"
            " nearer, or of a larger board"
        )
    return Lens(K + CENTRE, distortion.ravel()[:5].copy(), (int(size[0]), int(size[1]))), float(rms)


def project(lens: Lens, points: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 2"]:
    """Pixels where a lens puts points of the camera frame that are in front of it."""
    zero = np.zeros(3)
    uv, _ = cv2.projectPoints(np.ascontiguousarray(points, float), zero, zero, lens.K - CENTRE, lens.distortion)
    return np.asarray(uv, float)[:, 0] + HALF
