"""Executors in LIBERO: action chunks into motion of the simulated arm."""

from typing import Literal, Protocol, get_args, runtime_checkable

import numpy as np

from videopolicy.camera import Camera
from videopolicy.errors import choices
from videopolicy.rotation import orientation, rotation_vector
from videopolicy.types import ActionChunk, Observation

ExecutorKind = Literal["teleport", "osc"]
CONTROL_RATE = 20  # of LIBERO [Hz]
WORKSPACE = np.array([[-0.50, -0.45, 0.0], [0.25, 0.45, 0.45]])  # targets are clamped to this box [m]
REACHED, REACHED_TURN = 0.008, 0.05  # [m], [rad]
N_SERVO = 12  # control steps a waypoint may take under the teleport servo


@runtime_checkable
class Workspace(Protocol):
    """A simulation with a goal, as far as an executor sees it."""

    n_control_steps: int

    @property
    def camera(self) -> Camera: ...
    @property
    def ee_position(self) -> np.ndarray: ...
    @property
    def ee_orientation(self) -> np.ndarray: ...
    @property
    def gripper(self) -> float: ...
    @property
    def placed(self) -> bool: ...
    @property
    def lifted(self) -> bool: ...
    def render(self) -> np.ndarray: ...
    def control(self, target: np.ndarray, gripper: float, rotation: np.ndarray | None = None) -> None: ...


class LiberoExecutor:
    """Runs chunks in a scene.

    `osc` gives every waypoint exactly its period of 20 Hz control steps. `teleport` servos until the waypoint is
    reached (within 8 mm and, where the chunk turns the hand, 0.05 rad; at least its period, at most 12 control
    steps or its period where that is longer), so that controller lag is never counted against the policy (section 4.2).
    """

    def __init__(
        self, scene: Workspace, kind: ExecutorKind, step_cap: int = 600, stop_when_placed: bool = True
    ) -> None:
        if kind not in get_args(ExecutorKind):
            raise choices("executor", kind, get_args(ExecutorKind))
        self.scene, self.kind, self.step_cap, self.stop_when_placed = scene, kind, step_cap, stop_when_placed
        self.was_lifted = False
        self.n_clamped = 0

    def observe(self) -> Observation:
        scene = self.scene
        time = scene.n_control_steps / CONTROL_RATE
        return Observation(scene.render(), scene.camera, scene.ee_position.copy(), scene.gripper, time)

    def execute(self, chunk: ActionChunk, n_steps: int) -> None:
        n_control = round(chunk.period * CONTROL_RATE)
        rotations = [None] * len(chunk.position) if chunk.rotation is None else list(chunk.rotation)
        for position, gripper, rotation in list(zip(chunk.position, chunk.gripper, rotations, strict=True))[:n_steps]:
            target = np.clip(position, *WORKSPACE)
            self.n_clamped += int((target != position).any())
            for i in range(n_control if self.kind == "osc" else max(n_control, N_SERVO)):
                if i >= n_control and self._reached(target, rotation):
                    break
                if self.done():
                    return
                self.scene.control(target, float(gripper > 0.5), rotation)
                self.was_lifted |= self.scene.lifted

    def _reached(self, target: np.ndarray, rotation: np.ndarray | None) -> bool:
        if np.linalg.norm(self.scene.ee_position - target) >= REACHED:
            return False
        if rotation is None:
            return True
        remaining = rotation_vector(self.scene.ee_orientation, orientation(rotation))
        return bool(np.linalg.norm(remaining) < REACHED_TURN)

    def done(self) -> bool:
        """Placed and let go, or out of control steps."""
        if self.scene.n_control_steps >= self.step_cap:
            return True
        return self.stop_when_placed and self.scene.gripper > 0.5 and self.scene.placed

    @property
    def outcome(self) -> Literal["place", "grasp", "miss"]:
        if self.scene.placed:
            return "place"
        return "grasp" if self.was_lifted else "miss"
