"""The one place where pixels meet metres: projection, rays, and lifting a pixel at a height to 3-D.

Conventions of the whole project, stated here once:

- `T_a_b` maps b-coordinates to a: `p_a = T_a_b @ p_b`. Camera axes are OpenCV's: x right, y down, z forward.
- A pixel `(u, v)` is continuous, u to the right and v down; the centre of the first pixel is (0.5, 0.5), so pixel i
  covers [i, i + 1) and resizing an image by s multiplies K by s exactly. Arrays are indexed `[..., v, u]`.
- World: metres, z up, z = 0 on the support surface. `height` is z.
- This module is numpy only, so that simulator processes can use it without importing torch.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Shaped

from videopolicy.errors import BadInput


class RayMissesPlane(ValueError):
    """A pixel's ray runs (nearly) parallel to the height plane, or meets it behind the camera."""


@dataclass(frozen=True)
class Camera:
    """A pinhole camera with a known pose. Section 3.3."""

    K: Float[np.ndarray, "3 3"]
    T_world_cam: Float[np.ndarray, "4 4"]
    size: tuple[int, int]  # (width, height) [pixels]

    def __post_init__(self) -> None:
        R = self.T_world_cam[:3, :3]
        if not np.allclose(R @ R.T, np.eye(3), atol=1e-5) or np.linalg.det(R) < 0:
            rotation = R.round(4).tolist()
            raise BadInput(
                f"T_world_cam is no rigid transform: rotation {rotation}; allowed: orthonormal, determinant +1"
            )
        if not (self.K[0, 0] > 0 and self.K[1, 1] > 0):
            raise BadInput(f"focal lengths must be positive, K has {self.K[0, 0]} and {self.K[1, 1]}")

    @property
    def position(self) -> Float[np.ndarray, " 3"]:
        """The optical centre in world coordinates [m]."""
        return self.T_world_cam[:3, 3]

    def project(self, points: Float[np.ndarray, "*batch 3"]) -> Float[np.ndarray, "*batch 2"]:
        """Pixels of world points; NaN for points that are not in front of the camera."""
        R, t = self.T_world_cam[:3, :3], self.T_world_cam[:3, 3]
        p_cam = (points - t) @ R  # R^T (p - t), written for rows
        depth = p_cam[..., 2:]
        depth = np.where(depth > 1e-6, depth, np.nan)
        return ((p_cam / depth) @ self.K.T)[..., :2]

    def contains(self, uv: Float[np.ndarray, "*batch 2"]) -> Bool[np.ndarray, "*batch"]:
        """Whether pixels lie inside the image; NaN does not."""
        return np.asarray(((uv >= 0) & (uv < np.asarray(self.size))).all(-1))

    def rays(self, uv: Float[np.ndarray, "*batch 2"]) -> Float[np.ndarray, "*batch 3"]:
        """Unit directions, in the world frame, of the rays through pixels."""
        homogeneous = np.concatenate([uv, np.ones_like(uv[..., :1])], -1)
        direction = homogeneous @ np.linalg.inv(self.K).T @ self.T_world_cam[:3, :3].T
        return direction / np.linalg.norm(direction, axis=-1, keepdims=True)

    def cells_below_horizon(self, grid: tuple[int, int]) -> Bool[np.ndarray, "row col"]:
        """Cells of a grid (rows, cols) over the picture, all of whose rays fall by at least 0.3 degrees.

        These meet every plane below the camera.
        """
        rows, cols = grid
        corners = np.meshgrid(np.linspace(0, self.size[0], cols + 1), np.linspace(0, self.size[1], rows + 1))
        falls = self.rays(np.stack(corners, -1))[..., 2] < -0.005
        return falls[1:, 1:] & falls[1:, :-1] & falls[:-1, 1:] & falls[:-1, :-1]

    def lift(
        self, uv: Float[np.ndarray, "*batch 2"], height: Float[np.ndarray, "*batch"]
    ) -> Float[np.ndarray, "*batch 3"]:
        """World points where the rays through pixels meet the planes z = height [m]. Section 3.3.

        Raises `RayMissesPlane` where a ray is within 0.06 degrees of the plane or meets it behind the camera.
        """
        direction = self.rays(uv)
        slope = direction[..., 2]
        distance = (height - self.position[2]) / np.where(np.abs(slope) < 1e-3, np.nan, slope)
        missed = ~(distance > 0)
        if missed.any():
            worst = tuple(np.argwhere(np.atleast_1d(missed))[0])
            pixel = np.round(np.atleast_2d(uv).reshape(*np.atleast_1d(missed).shape, 2)[worst], 1).tolist()
            plane = float(np.atleast_1d(height)[worst])
            raise RayMissesPlane(
                f"the ray through pixel {pixel} does not meet the plane z = {plane:.3f} m in front of the camera"
                f" at height {self.position[2]:.3f} m"
            )
        return self.position + distance[..., None] * direction

    def resized(self, size: tuple[int, int]) -> "Camera":
        """The camera of the same picture resized to (width, height); each axis scales on its own."""
        scale = np.array([size[0] / self.size[0], size[1] / self.size[1], 1.0])
        return Camera(np.diag(scale) @ self.K, self.T_world_cam, size)

    def to_json(self) -> dict:
        return {"K": self.K.tolist(), "T_world_cam": self.T_world_cam.tolist(), "size": list(self.size)}

    @staticmethod
    def from_json(entry: dict) -> "Camera":
        """The opposite of `to_json`; `BadInput` for values that are no camera's."""
        for name in ("K", "T_world_cam", "size"):
            if name not in entry:
                raise BadInput(f"the camera has no {name!r}; needed: 'K', 'T_world_cam', 'size'")
        width, height = entry["size"]
        found = {name: np.array(entry[name], float) for name in ("K", "T_world_cam")}
        for name, shape in (("K", (3, 3)), ("T_world_cam", (4, 4))):
            if found[name].shape != shape or not np.isfinite(found[name]).all():
                raise BadInput(f"{name} is {entry[name]}; allowed: finite numbers, {shape[0]} x {shape[1]}")
        if (width, height) != (int(width), int(height)) or not (width > 0 and height > 0):
            raise BadInput(f"size is {entry['size']}; allowed: a width and a height [pixels], whole and above 0")
        return Camera(found["K"], found["T_world_cam"], (int(width), int(height)))


def check_markers(
    camera: Camera,
    markers: Float[np.ndarray, "n 3"],
    with_markers: Shaped[np.ndarray, "height width 3"],
    without: Shaped[np.ndarray, "height width 3"],
    tolerance: float = 1.5,
) -> Float[np.ndarray, " n"]:
    """Distances [pixels] between projected markers and where they appear in an image; the camera self-test.

    `with_markers` shows small bright balls at the world points `markers`, `without` is the same scene without them.
    Raises `BadInput` when any marker is off by more than `tolerance` pixels, and says which flip would explain it.
    """
    if with_markers.shape[:2] != (camera.size[1], camera.size[0]):
        raise BadInput(f"the marker image is {with_markers.shape[1::-1]}, the camera says {camera.size}")
    difference = np.abs(with_markers.astype(float) - without.astype(float)).sum(-1)
    height, width = difference.shape
    expected = camera.project(markers)
    views = {
        "as it should": difference,
        "flipped upside down": difference[::-1],
        "mirrored left to right": difference[:, ::-1],
        "rotated by 180 degrees": difference[::-1, ::-1],
    }
    errors = {
        name: np.array([_nearest_blob(view, uv, width, height) for uv in expected]) for name, view in views.items()
    }
    right = errors["as it should"]
    if (right <= tolerance).all():
        return right
    explanation = next((f"; it looks {name}" for name, e in errors.items() if (e <= tolerance).all()), "")
    raise BadInput(
        f"camera self-test: markers appear {right.max():.1f} px from where the camera projects them"
        f" (allowed {tolerance} px){explanation}"
    )


def _nearest_blob(difference: np.ndarray, uv: np.ndarray, width: int, height: int, radius: float = 8.0) -> float:
    """Distance [pixels] from uv to the centroid of what changed within `radius` of it; infinite where nothing did."""
    v, u = np.mgrid[0:height, 0:width] + 0.5
    near = (np.hypot(u - uv[0], v - uv[1]) < radius) & (difference > 60)
    if near.sum() < 3:
        return float("inf")
    weight = difference[near]
    return float(
        np.hypot((u[near] * weight).sum() / weight.sum() - uv[0], (v[near] * weight).sum() / weight.sum() - uv[1])
    )
