"""The twin's physics: servos turn its joints, a hand may lead them, and a camera looks.

The only file of the robot that imports MuJoCo. Never in a process that imports torch.
"""

import os
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("MUJOCO_GL", "egl")  # must stand before the first import of mujoco
if os.environ["MUJOCO_GL"] in ("egl", "osmesa"):
    os.environ.setdefault("PYOPENGL_PLATFORM", os.environ["MUJOCO_GL"])

import mujoco
import numpy as np
from jaxtyping import Float, UInt8

from robot.kinematics import JOINTS
from robot.registers import TURN
from robot.twin import tables
from robot.twin.model import CUP_HEIGHT, JAW_RANGE, LIT, SAUCER_HEIGHT, Look, mjcf
from robot.twin.servo import Servo
from videopolicy.errors import BadInput

NAMES = (*JOINTS, "gripper")
STALL = 2.9  # [N m] of a servo at 12 V
KP, KD = 18.0, 0.6  # [N m/rad], [N m s/rad] of a servo at the gains that LeRobot sets
HAND = 25.0  # [N m/rad] of somebody's hand that leads the arm
FLIP = np.diag([1.0, -1.0, -1.0])  # MuJoCo's cameras look along -z, with y up
PLATE_IN_HAND = np.array([0.02, 0.012, 0.06])  # where the board is held, from the tool point in the hand's frame [m]
# Between the fingers: its normal to the hand's side (x), its long edge along the hand (z), held a little askew.
ASKEW = np.array([[0.05, 0.02, 1.0], [0.04, 1.0, -0.02], [-1.0, 0.04, 0.05]])
HEIGHTS = {"cup": CUP_HEIGHT / 2, "saucer": SAUCER_HEIGHT / 2}  # of things at rest [m]


@dataclass(frozen=True)
class Mounted:
    """How a servo sits in the arm, which only calibrating can find out."""

    servo: Servo
    sign: int
    zero: float  # [ticks] of `Servo.actual` at the model's angle 0

    def angle(self, ticks: float) -> float:
        return self.sign * (ticks - self.zero) * 2 * np.pi / TURN

    def ticks(self, angle: float) -> float:
        return self.zero + self.sign * angle * TURN / (2 * np.pi)


class World:
    """`mounted` by joint, in the order of `NAMES`; `board`: a picture to print on the calibration board."""

    def __init__(
        self, mounted: dict[str, Mounted], image_size: tuple[int, int], fovy: float, board: Path | None = None
    ) -> None:
        self.mounted = [mounted[name] for name in NAMES]
        assets = tables.files() | ({"board.png": board.read_bytes()} if board else {})
        self.model = mujoco.MjModel.from_xml_string(mjcf(image_size, fovy, board is not None), assets)
        self.data = mujoco.MjData(self.model)
        self._q = [int(self.model.joint(name).qposadr[0]) for name in NAMES]
        self._v = [int(self.model.joint(name).dofadr[0]) for name in NAMES]
        self._renderer = mujoco.Renderer(self.model, image_size[1], image_size[0])
        self._path: np.ndarray | None = None  # rows of a time [s] and six joint angles, that a hand leads the arm along
        self._on_wrist: np.ndarray | None = None  # T_hand_cam
        self._board_at = "nowhere"
        self._noise = (
            np.random.default_rng(0).normal(0, 2, (4, image_size[1], image_size[0], 3)).round().astype(np.int16)
        )
        self._n_pictures = 0
        for i, mount in enumerate(self.mounted):
            self.data.qpos[self._q[i]] = mount.angle(mount.servo.actual)
        self.dress(Look())
        mujoco.mj_forward(self.model, self.data)

    @property
    def time(self) -> float:
        return float(self.data.time)

    def step(self, seconds: float) -> None:
        """Let time pass, in the model's own steps."""
        dt = self.model.opt.timestep
        for _ in range(round(seconds / dt)):
            led_to = self._led_to()
            for i, mount in enumerate(self.mounted):
                self.data.qfrc_applied[self._v[i]] = self._torque(i, mount, dt, led_to)
            mujoco.mj_step(self.model, self.data)
            for i, mount in enumerate(self.mounted):
                mount.servo.actual = mount.ticks(float(self.data.qpos[self._q[i]]))
                mount.servo.velocity = mount.sign * float(self.data.qvel[self._v[i]]) * TURN / (2 * np.pi)

    def lead(self, path: Float[np.ndarray, "n 7"] | None) -> None:
        """A hand leads the torque-free arm through joint angles, each at its time from now on; None: it lets go."""
        self._path = None if path is None else path + np.array([self.time, *[0.0] * 6])

    @property
    def led(self) -> bool:
        """Whether the hand has not yet come to the end of its path."""
        return self._path is not None and self.time < float(self._path[-1, 0])

    def angles(self) -> Float[np.ndarray, " 6"]:
        return self.data.qpos[self._q].copy()

    def place(self, name: str, xy: tuple[float, float]) -> None:
        """Put a thing somewhere on the table, upright and at rest."""
        start, speed = int(self.model.joint(name).qposadr[0]), int(self.model.joint(name).dofadr[0])
        self.data.qpos[start : start + 7] = [*xy, HEIGHTS[name], 1, 0, 0, 0]
        self.data.qvel[speed : speed + 6] = 0
        mujoco.mj_forward(self.model, self.data)

    def position(self, name: str) -> Float[np.ndarray, " 3"]:
        return self.data.body(name).xpos.copy()

    def tilt(self, name: str) -> float:
        """Of a thing's axis from upright [rad]."""
        return float(np.arccos(np.clip(self.data.body(name).xmat[8], -1, 1)))

    def hand(self) -> Float[np.ndarray, "4 4"]:
        """T_base_hand, as `Kinematics.hand_to_base` has it."""
        T = np.eye(4)
        T[:3, :3] = self.data.site("tool").xmat.reshape(3, 3)[:, [1, 2, 0]]
        T[:3, 3] = self.data.site("tool").xpos
        return T

    def opening(self) -> float:
        """Of the gripper, as its joint says: 0 closed ... 1 open."""
        low, high = JAW_RANGE
        return float((self.data.qpos[self._q[5]] - low) / (high - low))

    def dress(self, look: Look) -> None:
        self.model.geom("table").matid = self.model.material(look.table).id
        self.model.material("wall").rgba[:3] = look.wall
        self.model.light("lamp").pos[:] = look.lamp
        self.model.light("lamp").dir[:] = np.subtract(LIT, look.lamp) / np.linalg.norm(np.subtract(LIT, look.lamp))
        self.model.light("lamp").diffuse[:] = look.brightness

    def look_from(self, T: Float[np.ndarray, "4 4"], on_wrist: bool = False) -> None:
        """Move the camera: T_base_cam, or T_hand_cam of one on the wrist; axes as OpenCV's."""
        self._on_wrist = T if on_wrist else None
        if not on_wrist:
            self._aim(T)

    def board(self, at: str) -> None:
        """Put the calibration board into the hand, on the table, or away ("hand", "table", "nowhere")."""
        if at not in ("hand", "table", "nowhere"):
            raise BadInput(f"board is at {at!r}; allowed: hand, table, nowhere")
        self._board_at = at

    def picture(self) -> UInt8[np.ndarray, "height width 3"]:
        """With a sensor's noise."""
        if self._on_wrist is not None:
            self._aim(self.hand() @ self._on_wrist)
        if self.model.nmocap:
            self._hold_board()
        mujoco.mj_camlight(self.model, self.data)
        self._renderer.update_scene(self.data, "camera")
        self._n_pictures += 1
        noise = self._noise[self._n_pictures % len(self._noise)]
        return np.clip(self._renderer.render() + noise, 0, 255).astype(np.uint8)

    def close(self) -> None:
        self._renderer.close()

    def _aim(self, T_base_cam: np.ndarray) -> None:
        camera = self.model.camera("camera")
        camera.pos[:] = T_base_cam[:3, 3]
        mujoco.mju_mat2Quat(camera.quat, (T_base_cam[:3, :3] @ FLIP).flatten())

    def _hold_board(self) -> None:
        T = np.eye(4)
        if self._board_at == "hand":
            u, _, vt = np.linalg.svd(ASKEW)
            T[:3, :3], T[:3, 3] = u @ vt, PLATE_IN_HAND
            T = self.hand() @ T
        else:
            T[:3, 3] = (0.24, 0.0, 0.002) if self._board_at == "table" else (0.0, 0.0, -5.0)
        self.data.mocap_pos[0] = T[:3, 3]
        mujoco.mju_mat2Quat(self.data.mocap_quat[0], T[:3, :3].flatten())
        mujoco.mj_kinematics(self.model, self.data)

    def _led_to(self) -> np.ndarray | None:
        if self._path is None:
            return None
        times = self._path[:, 0]
        return np.array([np.interp(self.time, times, self._path[:, 1 + i]) for i in range(6)])

    def _torque(self, i: int, mount: Mounted, dt: float, led_to: np.ndarray | None) -> float:
        q, v = float(self.data.qpos[self._q[i]]), float(self.data.qvel[self._v[i]])
        servo = mount.servo
        servo.advance(dt)
        if servo.setpoint is None:
            servo.load = 0.0
            if led_to is None:
                return -0.3 * v  # of gears that are turned backwards
            return float(np.clip(HAND * (led_to[i] - q) - 1.0 * v, -4.0, 4.0))
        most = STALL * servo.torque_share
        torque = float(np.clip(KP * (mount.angle(servo.setpoint) - q) - KD * v, -most, most))
        servo.load = mount.sign * torque / STALL
        return torque
