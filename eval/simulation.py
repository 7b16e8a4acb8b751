"""LIBERO in a process: the only user of libero, and of robosuite's and MuJoCo's scenes. Workers never import torch.

World coordinates: z = 0 on the support surface, the robot's base at x = -0.66, y = 0 (LIBERO's own table frame, and
every other arena moved to agree with it). Images are upright (robosuite renders upside down). Gripper commands are
0 closed ... 1 open here, +1 closed ... -1 open inside robosuite.
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
from jaxtyping import Bool, Float, UInt8

logging.disable(logging.WARNING)  # robosuite warns of a private macro file that nobody needs
with contextlib.redirect_stdout(None):
    from libero.libero import get_libero_path
    from libero.libero.benchmark.libero_suite_task_map import libero_task_map
    from libero.libero.envs.env_wrapper import ControlEnv
    from robosuite.utils import camera_utils
logging.disable(logging.NOTSET)

from eval.arm import Arm  # noqa: E402
from eval.drawing import Shapes, draw_balls, geoms_shown  # noqa: E402
from eval.mounted import MountedUR5e  # noqa: E402, F401  LIBERO finds it by its name
from eval.operational_space import ArmControl  # noqa: E402
from eval.surface import body_surface  # noqa: E402
from videopolicy.camera import Camera  # noqa: E402
from videopolicy.errors import BadInput  # noqa: E402
from videopolicy.rotation import orientation, rotation_vector  # noqa: E402

RGB = int(mujoco.mjtTextureRole.mjTEXROLE_RGB)  # column of `mat_texid` that holds a material's colour texture
SUITES = ("libero_spatial", "libero_object", "libero_goal", "libero_10", "libero_90")
MAX_DELTA, MAX_TURN = 0.05, 0.5  # [m] and [rad] of OSC_POSE for an action of 1
BASE_X = -0.66  # the robot's base in world coordinates [m]
START = np.array([-0.12, 0.0, 0.20])  # where episodes begin: in front of the camera, above the table [m]


def read_task(task: str) -> str:
    """The problem file of a LIBERO task, named like `libero_goal/put_the_bowl_on_the_plate`."""
    path = Path(get_libero_path("bddl_files")) / f"{task}.bddl"
    if not path.is_file():
        there = sorted(p.stem for p in path.parent.glob("*.bddl")) if path.parent.is_dir() else []
        raise BadInput(f"no LIBERO task {task!r}; the suite has {len(there)}: {', '.join(there[:3])} ...")
    return path.read_text()


def task_names(suite: str) -> list[str]:
    """All tasks of a LIBERO suite, in alphabetical order."""
    return [f"{suite}/{p.stem}" for p in sorted((Path(get_libero_path("bddl_files")) / suite).glob("*.bddl"))]


def benchmark_task(suite: str, number: int) -> str:
    """A task by its number in LIBERO's own order of a suite."""
    if suite not in libero_task_map:
        others = len(libero_task_map) - len(SUITES)
        raise BadInput(f"suite is {suite!r}; allowed: {', '.join(SUITES)}, or one of LIBERO-PRO's {others} others")
    tasks = libero_task_map[suite]
    if not 0 <= number < len(tasks):
        raise BadInput(f"task is {number}; allowed: 0 to {len(tasks) - 1} of {suite}")
    return f"{suite}/{tasks[number]}"


def read_init_states(task: str) -> Float[np.ndarray, "state value"]:
    """The fixed initial states of a LIBERO task: time, positions and velocities of its simulation."""
    path = Path(get_libero_path("init_states")) / f"{task}.pruned_init.npz"
    if not path.is_file():
        raise BadInput(f"LIBERO has no fixed initial states for {task}; allowed: a task of a suite that has them")
    with np.load(path, allow_pickle=False) as held:
        return held["states"]


def _open(bddl: str, camera_name: str, arm: Arm) -> ControlEnv:
    with contextlib.redirect_stdout(None), tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "problem.bddl"
        path.write_text(bddl)
        np.random.seed(0)  # LIBERO places objects and furniture by numpy's global generator
        wrapper = ControlEnv(
            str(path),
            robots=[arm],
            gripper_types="PandaGripper",  # its own one, for the Panda
            use_camera_obs=False,
            camera_names=[camera_name],
            hard_reset=False,
            initialization_noise=None,
            ignore_done=True,
        )
        wrapper.reset()
    return wrapper


def _missing(error: Exception, bddl: str) -> BadInput | None:
    """What LIBERO lacks to open a problem, where that is what an error says."""
    if isinstance(error, KeyError):
        kind = str(error.args[0])
        return BadInput(f"this LIBERO has no objects of kind {kind!r}, which the task needs") if kind in bddl else None
    file = re.search(r"(?:Error opening file|No such file or directory:) '([^']+)'", str(error))
    return BadInput(f"LIBERO's asset {file[1]} is missing; allowed: an installation with all of them") if file else None


class Simulation:
    """A LIBERO problem with an arm: its objects, one camera, and 20 Hz operational-space control."""

    def __init__(self, bddl: str, image_size: int, camera_name: str = "agentview", arm: Arm = "Panda") -> None:
        try:
            self._wrapper = _open(bddl, camera_name, arm)
        except (OSError, KeyError, ValueError) as error:
            raise (_missing(error, bddl) or error) from error
        self._env = self._wrapper.env
        self._sim = self._env.sim
        self._robot = self._env.robots[0]
        self._substeps = int(self._env.control_timestep / self._env.model_timestep)
        self._camera_name, self.image_size, self.arm = camera_name, image_size, arm
        base = self._sim.data.body_xpos[self._sim.model.body_name2id("robot0_base")]
        support = max(0.0, self._env.workspace_offset[2])  # the floor is at 0, whatever its problem class says
        self._origin = np.array([base[0] - BASE_X, base[1], support])
        model = self._sim.model._model
        self._arm = ArmControl(model, self._sim.data._data, self._robot)
        at = model.camera(camera_name).id
        self._robot_shapes = Shapes(model, model.body("robot0_base").id)
        self._own_view = model.cam_pos[at] - self._origin, model.cam_quat[at].copy()
        self.n_control_steps = 0

    # -- state -----------------------------------------------------------------------------------------------------

    @property
    def camera(self) -> Camera:
        """Intrinsics and pose as the running simulator has them."""
        size = self.image_size
        K = camera_utils.get_camera_intrinsic_matrix(self._sim, self._camera_name, size, size)
        T_world_cam = camera_utils.get_camera_extrinsic_matrix(self._sim, self._camera_name).copy()
        T_world_cam[:3, 3] -= self._origin
        return Camera(K, T_world_cam, (size, size))

    @property
    def ee_position(self) -> Float[np.ndarray, " 3"]:
        """Grip site [m]."""
        return self._sim.data.site_xpos[self._robot.eef_site_id] - self._origin

    @property
    def ee_orientation(self) -> Float[np.ndarray, "3 3"]:
        """R_world_hand of the grip site."""
        return self._sim.data.site_xmat[self._robot.eef_site_id].reshape(3, 3).copy()

    @property
    def gripper(self) -> float:
        """Measured opening, 0 closed ... 1 open."""
        left, right = (self._sim.data.qpos[i] for i in self._robot._ref_gripper_joint_pos_indexes)
        return float(np.clip((left - right) / 0.08, 0, 1))

    def position(self, name: str) -> Float[np.ndarray, " 3"]:
        """Where an object or fixture is [m]."""
        return self._sim.data.body_xpos[self._env.obj_body_id[name]] - self._origin

    def site(self, name: str) -> Float[np.ndarray, " 3"]:
        """Where a region of an object, a fixture or the table is [m]."""
        return self._sim.data.get_site_xpos(name) - self._origin

    def surface(self, name: str, spacing: float = 0.005) -> Float[np.ndarray, "n 3"]:
        """Points on an object or fixture as it collides [m]; each of its shapes counts as its oriented bounding box."""
        root = self._env.obj_body_id[name]
        return body_surface(self._sim.model._model, self._sim.data._data, root, spacing) - self._origin

    # -- motion ----------------------------------------------------------------------------------------------------

    def put(self, name: str, position: Float[np.ndarray, " 3"]) -> None:
        """Move an object, at rest and with its orientation kept; takes effect at the next `forward`."""
        qpos = self._sim.data.get_joint_qpos(f"{name}_joint0").copy()
        qpos[:3] = position + self._origin
        self._sim.data.set_joint_qpos(f"{name}_joint0", qpos)
        self._sim.data.set_joint_qvel(f"{name}_joint0", np.zeros(6))

    def put_objects(self, state: Float[np.ndarray, " value"]) -> None:
        """Everything but the robot as in a flattened state of this problem; takes effect at the next `forward`."""
        model, data = self._sim.model._model, self._sim.data._data
        if len(state) != 1 + model.nq + model.nv:
            raise BadInput(f"the state has {len(state)} values; allowed: the problem's {1 + model.nq + model.nv}")
        robot = {model.joint(name).id for name in self._robot.robot_joints + self._robot.gripper.joints}
        for joint in sorted(set(range(model.njnt)) - robot):
            free = model.jnt_type[joint] == mujoco.mjtJoint.mjJNT_FREE
            q, v = model.jnt_qposadr[joint], model.jnt_dofadr[joint]
            data.qpos[q : q + (7 if free else 1)] = state[1 + q : 1 + q + (7 if free else 1)]
            data.qvel[v : v + (6 if free else 1)] = 0

    def limit_speed(self, limit: float) -> None:
        """No object moves faster than a limit [m/s] as the next control step begins."""
        model, data = self._sim.model._model, self._sim.data._data
        for joint in np.flatnonzero(model.jnt_type == mujoco.mjtJoint.mjJNT_FREE):
            velocity = data.qvel[model.jnt_dofadr[joint] : model.jnt_dofadr[joint] + 3]
            velocity *= min(1.0, limit / max(float(np.linalg.norm(velocity)), 1e-9))

    def forward(self) -> None:
        """Let positions that were set take effect, and make the controller forget its last goal."""
        self._sim.forward()
        self._robot.controller.update(force=True)
        self._robot.controller.reset_goal()

    def command(self, target: np.ndarray, gripper: float, rotation: np.ndarray | None) -> Float[np.ndarray, " 7"]:
        """What operational-space control is told: what remains of the way and of the rotation, and the gripper."""
        turn = np.zeros(3) if rotation is None else rotation_vector(self.ee_orientation, orientation(rotation))
        turn /= max(MAX_TURN, float(np.linalg.norm(turn)))  # limited in length, not in each component: the axis stays
        return np.concatenate([np.clip((target - self.ee_position) / MAX_DELTA, -1, 1), turn, [1 - 2 * gripper]])

    def control(self, target: Float[np.ndarray, " 3"], gripper: float, rotation: np.ndarray | None = None) -> None:
        """One control step (1/20 s) of the operational-space controller towards a position and `rotation.py`'s angles.

        Without angles the orientation that was last aimed at is held.
        """
        self._arm.step(self.command(target, gripper, rotation), self._substeps)
        self.n_control_steps += 1

    def move_to_start(self) -> np.ndarray:
        """Drive the arm to `START`; the state then, at rest."""
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

    def restore(self, state: np.ndarray) -> None:
        """Go back to a state; warm starts and the gripper's own memory of the last episode are cleared."""
        mujoco.mj_resetData(self._sim.model._model, self._sim.data._data)
        self._robot.gripper.current_action[:] = 0
        self._sim.set_state_from_flattened(state)

    # -- pictures --------------------------------------------------------------------------------------------------

    @property
    def own_view(self) -> tuple[Float[np.ndarray, " 3"], Float[np.ndarray, " 4"]]:
        """Position [m] and orientation (quaternion w x y z of MuJoCo's camera axes) that LIBERO gives its camera."""
        return self._own_view[0].copy(), self._own_view[1].copy()

    def look(self, position: Float[np.ndarray, " 3"], orientation: Float[np.ndarray, " 4"]) -> None:
        """Move the camera to a position [m] and orientation as in `own_view`; takes effect at once."""
        model, data = self._sim.model._model, self._sim.data._data
        camera = model.camera(self._camera_name).id
        model.cam_pos[camera], model.cam_quat[camera] = position + self._origin, orientation
        mujoco.mj_kinematics(model, data)
        mujoco.mj_camlight(model, data)

    def render(self) -> UInt8[np.ndarray, "height width 3"]:
        """The camera's image, upright."""
        size = self.image_size
        return np.ascontiguousarray(self._sim.render(size, size, camera_name=self._camera_name)[::-1])

    def render_wide(self, margin: int) -> tuple[UInt8[np.ndarray, "height width 3"], Camera]:
        """The camera's image with `margin` more pixels on every side, of the same size each, and its camera."""
        model, size = self._sim.model._model, self.image_size
        camera = model.camera(self._camera_name).id
        fovy = model.cam_fovy[camera]
        try:
            self.image_size = size + 2 * margin
            model.cam_fovy[camera] = np.degrees(2 * np.arctan(np.tan(np.radians(fovy / 2)) * self.image_size / size))
            return self.render(), self.camera
        finally:
            self.image_size, model.cam_fovy[camera] = size, fovy

    def render_markers(self, markers: Float[np.ndarray, "n 3"]) -> UInt8[np.ndarray, "height width 3"]:
        """The camera's image with a magenta ball at each of `markers`."""
        self.render()  # updates scene and camera
        return draw_balls(self._sim._render_context_offscreen, markers + self._origin, 0.012, self.image_size)

    def show_robot(self, shown: bool) -> None:
        """Whether pictures show the robot, its mount and their shadows; how it moves does not depend on it."""
        self._robot_shapes.show(self._sim._render_context_offscreen, shown)

    def robot_mask(self) -> Bool[np.ndarray, "height width"]:
        """Pixels of the camera's image that show the robot, as far as it is shown."""
        self.render()  # updates scene and camera
        return np.isin(geoms_shown(self._sim._render_context_offscreen, self.image_size), self._robot_shapes.geoms)

    def render_turned(self, angle: float) -> UInt8[np.ndarray, "height width 3"]:
        """The camera's image if every joint of the arm were turned by an angle [rad], all else being as it is."""
        model, data = self._sim.model._model, self._sim.data._data
        before = data.qpos.copy()
        data.qpos[self._robot._ref_joint_pos_indexes] += angle
        mujoco.mj_kinematics(model, data)
        image = self.render()
        data.qpos[:] = before
        mujoco.mj_kinematics(model, data)
        return image

    def close(self) -> None:
        self._wrapper.close()
