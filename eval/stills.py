"""Still scenes: what a policy sees as an episode begins, shifted as one likes, and where the expert would go.

Numpy only: simulator processes take them, and their parents, which hold the networks, look at them.
"""

from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, UInt8

from eval.expert import plan
from videopolicy.camera import Camera
from videopolicy.types import Observation

# What a shifted picture shows where the unshifted one ends: its last pixels again, its other side, or what is there.
Fill = Literal["border", "wrap", "wide"]


@dataclass(frozen=True)
class Still:
    """A scene before the arm moves, its picture `margin` pixels larger on every side than what a policy is shown."""

    wide: UInt8[np.ndarray, "height width 3"]
    wide_camera: Camera
    margin: int
    ee_position: Float[np.ndarray, " 3"]  # [m]
    gripper: float
    plan: Float[np.ndarray, "step 3"]  # the expert's waypoints [m]
    grasp: int  # the one at which it grasps

    @property
    def camera(self) -> Camera:
        return self._window((0, 0))

    def seen(self, shift: tuple[int, int] = (0, 0), fill: Fill = "wide") -> Observation:
        """The picture with all that is in it moved by (u, v) whole pixels, at most the margin, and its camera too."""
        width, height = self.camera.size
        left, top = (self.margin, self.margin) if fill != "wide" else (self.margin - shift[0], self.margin - shift[1])
        image = self.wide[top : top + height, left : left + width]
        if fill == "wrap":
            image = np.roll(image, shift, (1, 0))
        if fill == "border":
            v, u = (np.clip(np.arange(n) - s, 0, n - 1) for n, s in ((height, shift[1]), (width, shift[0])))
            image = image[v][:, u]
        return Observation(np.ascontiguousarray(image), self._window(shift), self.ee_position, self.gripper, 0.0)

    def _window(self, shift: tuple[int, int]) -> Camera:
        K, (width, height) = self.wide_camera.K.copy(), self.wide_camera.size
        K[:2, 2] += np.array(shift) - self.margin
        return Camera(K, self.wide_camera.T_world_cam, (width - 2 * self.margin, height - 2 * self.margin))


@runtime_checkable
class Stage(Protocol):
    """A simulation with bowl and plate, as far as a still shows it."""

    @property
    def bowl(self) -> np.ndarray: ...
    @property
    def plate(self) -> np.ndarray: ...
    @property
    def ee_position(self) -> np.ndarray: ...
    @property
    def gripper(self) -> float: ...
    def reset(self, bowl_xy: np.ndarray) -> None: ...
    def render_wide(self, margin: int) -> tuple[np.ndarray, Camera]: ...


def take(stage: Stage, bowl_xy: Float[np.ndarray, " 2"], margin: int, period: float) -> Still:
    """The still of bowl and plate at a position; the expert's waypoints are `period` seconds apart."""
    stage.reset(bowl_xy)
    position, gripper = plan(stage.ee_position, stage.bowl, stage.plate, period)
    image, camera = stage.render_wide(margin)
    grasp = int(np.argmin(gripper))  # the first one that closes
    return Still(image, camera, margin, stage.ee_position.copy(), stage.gripper, position, grasp)
