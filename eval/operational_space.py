"""The arm's operational-space control at every physics step: robosuite's, without what it looks up anew each time."""

from typing import Any

import mujoco
import numpy as np
from jaxtyping import Float
from robosuite.utils.control_utils import nullspace_torques, opspace_matrices, orientation_error


class ArmControl:
    """Moves a robosuite robot by its own controller (OSC_POSE: fixed gains, no interpolation) and gripper.

    The torques are those of `robot.control` to the last bit, and so is the motion between MuJoCo's two half steps, in
    two thirds of the time: no names are looked up, and nothing is computed again that MuJoCo has just worked out. The
    environment's own step makes one whole step of MuJoCo instead, which rounds otherwise, and 20 observables.
    """

    def __init__(self, model: Any, data: Any, robot: Any) -> None:
        controller = robot.controller
        if not controller.uncoupling or controller.interpolator_pos or controller.interpolator_ori:
            raise RuntimeError("the robot's controller is not LIBERO's: it interpolates, or couples position and turn")
        self.model, self.data, self.controller, self.gripper = model, data, controller, robot.gripper
        self.site = model.site(controller.eef_name).id
        self.qpos, self.qvel = np.array(controller.qpos_index), np.array(controller.qvel_index)
        self.joints = np.array(robot._ref_joint_actuator_indexes)
        self.limits = model.actuator_ctrlrange[self.joints].T
        self.fingers = np.array([model.actuator(name).id for name in robot.gripper.actuators])
        low, high = model.actuator_ctrlrange[self.fingers].T
        self.grip_centre, self.grip_range = 0.5 * (high + low), 0.5 * (high - low)

    def step(self, action: Float[np.ndarray, " 7"], n_substeps: int) -> None:
        """One control step: translation and turn from here, and gripper (-1 opens), each in [-1, 1]."""
        for i in range(n_substeps):
            mujoco.mj_step1(self.model, self.data)
            self._look()
            if i == 0:
                self.controller.set_goal(action[:6])
            self.data.ctrl[self.joints] = np.clip(self._torques(), *self.limits)
            self.data.ctrl[self.fingers] = self.grip_centre + self.grip_range * self.gripper.format_action(action[6:])
            mujoco.mj_step2(self.model, self.data)
        mujoco.mj_forward(self.model, self.data)

    def _torques(self) -> Float[np.ndarray, " joint"]:
        """Towards the controller's goal: wrench, null space and gravity [Nm]."""
        c = self.controller
        force = (c.goal_pos - c.ee_pos) * c.kp[:3] + -c.ee_pos_vel * c.kd[:3]
        torque = orientation_error(c.goal_ori, c.ee_ori_mat) * c.kp[3:] + -c.ee_ori_vel * c.kd[3:]
        _, inertia, rotational, nullspace = opspace_matrices(c.mass_matrix, c.J_full, c.J_pos, c.J_ori)
        wrench = np.concatenate([np.dot(inertia, force), np.dot(rotational, torque)])
        result = np.dot(c.J_full.T, wrench) + self.data.qfrc_bias[self.qvel]
        result += nullspace_torques(c.mass_matrix, nullspace, c.initial_joint, c.joint_pos, c.joint_vel)
        c.new_update = True
        return result

    def _look(self) -> None:
        """What the controller knows of the arm, from what MuJoCo has worked out."""
        c, model, data = self.controller, self.model, self.data
        if not c.new_update:
            return
        jacobian = np.zeros((2, 3, model.nv))
        mujoco.mj_jacSite(model, data, jacobian[0], jacobian[1], self.site)
        c.ee_pos = data.site_xpos[self.site].copy()
        c.ee_ori_mat = data.site_xmat[self.site].reshape(3, 3).copy()
        c.ee_pos_vel, c.ee_ori_vel = np.dot(jacobian[0], data.qvel), np.dot(jacobian[1], data.qvel)
        c.joint_pos, c.joint_vel = data.qpos[self.qpos], data.qvel[self.qvel]
        c.J_pos, c.J_ori = jacobian[0][:, self.qvel], jacobian[1][:, self.qvel]
        c.J_full = np.vstack([c.J_pos, c.J_ori])
        mass = np.empty((model.nv, model.nv))
        mujoco.mj_fullM(model, data, mass)
        c.mass_matrix = mass[self.qvel, :][:, self.qvel]
        c.new_update = False
