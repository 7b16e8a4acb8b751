"""LIBERO scenes: the only user of libero, robosuite and mujoco. Runs in worker processes that never import torch.

World coordinates are LIBERO's with z = 0 on the table top; images are upright (robosuite renders upside down).
Gripper commands are 0 closed ... 1 open here, +1 closed ... -1 open inside robosuite.
"""

import contextlib
import logging
import os
import re
import tempfile
from pathlib import Path

os.environ.setdefault("MUJOCO_GL", "egl")  # must stand before the first import of mujoco
if os.environ["MUJOCO_GL"] in ("egl", "osmesa"):
    os.environ.setdefault("PYOPENGL_PLATFORM", os.environ["MUJOCO_GL"])

import mujoco
import numpy as np
from jaxtyping import Float, UInt8

logging.disable(logging.WARNING)  # robosuite warns of a private macro file that nobody needs
with contextlib.redirect_stdout(None):
    from libero.libero import get_libero_path
    from libero.libero.envs.env_wrapper import ControlEnv
    from robosuite.utils import camera_utils
logging.disable(logging.NOTSET)

from videopolicy.camera import Camera, check_markers  # noqa: E402
from videopolicy.errors import BadInput  # noqa: E402

TASK = "libero_spatial/pick_up_the_black_bowl_between_the_plate_and_the_ramekin_and_place_it_on_the_plate"
BOWL, PLATE = "akita_black_bowl_1", "plate_1"
DISTRACTORS = ("wooden_cabinet_1", "flat_stove_1", "akita_black_bowl_2", "cookies_1", "glazed_rim_porcelain_ramekin_1")
TABLE_HEIGHT = 0.90  # [m] in LIBERO's world
PLATE_OFFSET = np.array([0.11, 0.0])  # plate - bowl, the task's default arrangement [m]
START = np.array([-0.12, 0.0, 0.20])  # where episodes begin: in front of the camera, above the table [m]
CONTROL_RATE = 20  # [Hz]
MAX_DELTA = 0.05  # [m] of OSC_POSE for an action of 1
LIFTED = 0.04  # [m] above rest: the bowl counts as grasped
MARKERS = np.array([[-0.30, -0.20, 0.02], [0.0, 0.22, 0.02], [0.05, -0.10, 0.10]])  # for the camera self-test [m]


class Scene:
    """Bowl and plate of libero_spatial task 0, alone on the table, with the Panda arm and one camera."""

    def __init__(self, image_size: int, camera_name: str = "agentview") -> None:
        with contextlib.redirect_stdout(None):
            bddl = Path(get_libero_path("bddl_files")) / f"{TASK}.bddl"
            with tempfile.TemporaryDirectory() as folder:
                clean = Path(folder) / "clean.bddl"
                clean.write_text(_without_distractors(bddl.read_text()))
                self._wrapper = ControlEnv(
                    str(clean),
                    use_camera_obs=False,
                    camera_names=[camera_name],
                    hard_reset=False,
                    initialization_noise=None,
                    ignore_done=True,
                )
                self._wrapper.reset()
        self._env = self._wrapper.env
        self._sim = self._env.sim
        self._robot = self._env.robots[0]
        self._substeps = int(self._env.control_timestep / self._env.model_timestep)
        self._camera_name, self.image_size = camera_name, image_size
        self._home = self._go_to_start()
        self.n_control_steps = 0
        self._bowl_rest_height = 0.0

    # -- state -----------------------------------------------------------------------------------------------------

    @property
    def camera(self) -> Camera:
        """Intrinsics and pose as the running simulator has them."""
        size = self.image_size
        K = camera_utils.get_camera_intrinsic_matrix(self._sim, self._camera_name, size, size)
        T_world_cam = camera_utils.get_camera_extrinsic_matrix(self._sim, self._camera_name).copy()
        T_world_cam[2, 3] -= TABLE_HEIGHT
        return Camera(K, T_world_cam, (size, size))

    @property
    def ee_position(self) -> Float[np.ndarray, " 3"]:
        """Grip site [m]."""
        return self._to_world(self._sim.data.site_xpos[self._robot.eef_site_id])

    @property
    def gripper(self) -> float:
        """Measured opening, 0 closed ... 1 open."""
        left, right = (self._sim.data.qpos[i] for i in self._robot._ref_gripper_joint_pos_indexes)
        return float(np.clip((left - right) / 0.08, 0, 1))

    @property
    def bowl(self) -> Float[np.ndarray, " 3"]:
        return self._to_world(self._sim.data.body_xpos[self._env.obj_body_id[BOWL]])

    @property
    def plate(self) -> Float[np.ndarray, " 3"]:
        return self._to_world(self._sim.data.body_xpos[self._env.obj_body_id[PLATE]])

    @property
    def placed(self) -> bool:
        """LIBERO's own goal predicate."""
        return bool(self._wrapper.check_success())

    @property
    def lifted(self) -> bool:
        return bool(self.bowl[2] > self._bowl_rest_height + LIFTED)

    # -- motion ----------------------------------------------------------------------------------------------------

    def reset(self, bowl_xy: Float[np.ndarray, " 2"], start: Float[np.ndarray, " 3"] = START) -> None:
        """Put bowl and plate (rigidly together) at a position, arm at `start`, everything at rest."""
        self._restore_home()
        for name, xy in ((BOWL, bowl_xy), (PLATE, bowl_xy + PLATE_OFFSET)):
            qpos = self._sim.data.get_joint_qpos(f"{name}_joint0").copy()
            qpos[:3] = [xy[0], xy[1], TABLE_HEIGHT + 0.01]
            self._sim.data.set_joint_qpos(f"{name}_joint0", qpos)
            self._sim.data.set_joint_qvel(f"{name}_joint0", np.zeros(6))
        self._sim.forward()
        self._robot.controller.update(force=True)
        self._robot.controller.reset_goal()
        for _ in range(12):
            self.control(start, 1.0)
        self.n_control_steps = 0
        self._bowl_rest_height = float(self.bowl[2])

    def control(self, target: Float[np.ndarray, " 3"], gripper: float) -> None:
        """One control step (1/20 s) of the operational-space controller towards a position, gripper pointing down."""
        action = np.zeros(7)
        action[:3] = np.clip((target - self.ee_position) / MAX_DELTA, -1, 1)
        action[6] = 1 - 2 * gripper
        model, data = self._sim.model._model, self._sim.data._data
        # The same physics as the environment's own step, without its 20 observables per substep (half the time).
        for i in range(self._substeps):
            mujoco.mj_step1(model, data)
            self._env._pre_action(action, policy_step=i == 0)
            mujoco.mj_step2(model, data)
        mujoco.mj_forward(model, data)
        self.n_control_steps += 1

    # -- pictures --------------------------------------------------------------------------------------------------

    def render(self) -> UInt8[np.ndarray, "height width 3"]:
        """The camera's image, upright."""
        size = self.image_size
        return np.ascontiguousarray(self._sim.render(size, size, camera_name=self._camera_name)[::-1])

    def render_markers(self) -> UInt8[np.ndarray, "height width 3"]:
        """The camera's image with a magenta ball at each of `MARKERS`."""
        self.render()  # updates scene and camera
        context = self._sim._render_context_offscreen
        for marker in MARKERS:
            mujoco.mjv_initGeom(
                context.scn.geoms[context.scn.ngeom],
                mujoco.mjtGeom.mjGEOM_SPHERE,
                np.full(3, 0.012),
                marker + [0, 0, TABLE_HEIGHT],
                np.eye(3).ravel(),
                np.array([1, 0, 1, 1], np.float32),
            )
            context.scn.ngeom += 1
        viewport = mujoco.MjrRect(0, 0, self.image_size, self.image_size)
        mujoco.mjr_render(viewport, context.scn, context.con)
        image = np.empty((self.image_size, self.image_size, 3), np.uint8)
        mujoco.mjr_readPixels(image, None, viewport, context.con)
        return np.ascontiguousarray(image[::-1])

    def self_test(self) -> Float[np.ndarray, " n"]:
        """Errors [pixels] of the camera self-test; raises `BadInput` when image and calibration disagree.

        The arm is put back to its start, out of the markers' way.
        """
        self._restore_home()
        self._sim.forward()
        return check_markers(self.camera, MARKERS, self.render_markers(), self.render())

    def close(self) -> None:
        self._wrapper.close()

    # -- inside ----------------------------------------------------------------------------------------------------

    def _go_to_start(self) -> np.ndarray:
        """State with the arm at rest at `START` and the objects out of the way; found once, reused by every reset."""
        for name, y in ((BOWL, -0.4), (PLATE, 0.4)):
            qpos = self._sim.data.get_joint_qpos(f"{name}_joint0").copy()
            qpos[:2] = [0.2, y]
            self._sim.data.set_joint_qpos(f"{name}_joint0", qpos)
        self._sim.forward()
        self.n_control_steps = 0
        for _ in range(30):
            self.control(START, 1.0)
        error = float(np.linalg.norm(self.ee_position - START))
        if error > 0.01:
            raise RuntimeError(f"the arm stopped {error:.3f} m from its start pose {START.tolist()}")
        state = self._sim.get_state()
        state.qvel[:] = 0
        return state.flatten()

    def _restore_home(self) -> None:
        """Arm at `START`, objects aside; warm starts and the gripper's own memory of the last episode are cleared."""
        mujoco.mj_resetData(self._sim.model._model, self._sim.data._data)
        self._robot.gripper.current_action[:] = 0
        self._sim.set_state_from_flattened(self._home)

    @staticmethod
    def _to_world(position: np.ndarray) -> np.ndarray:
        return position - np.array([0, 0, TABLE_HEIGHT])


def _without_distractors(bddl: str) -> str:
    """The task's problem file with nothing on the table but bowl and plate."""
    for name in DISTRACTORS:
        kind = re.sub(r"_\d+$", "", name)
        bddl = re.sub(rf"\n\s*{name} - {kind}\b", "", bddl)
        bddl = bddl.replace(f" {name} - ", " - ")
        bddl = re.sub(rf"\n\s*\(On {name} \S+\)", "", bddl)
        bddl = re.sub(rf"\n\s*\(\w+\s*\(:target {name}\)\s*\)", "", bddl)
    left = [name for name in DISTRACTORS if name in bddl]
    if left or BOWL not in bddl:
        raise BadInput(f"{TASK}.bddl is not the file this scene was written for; could not remove {left}")
    return bddl
