"""Recorded states of a LIBERO task, drawn again as the camera of this project sees them."""

import numpy as np

from eval.markers import self_test
from eval.simulation import Simulation, read_task
from videopolicy.errors import BadInput
from videopolicy.rotation import euler_angles


class Replay(Simulation):
    """The simulator of any LIBERO task, to be put into recorded states."""

    def __init__(self, task: str, image_size: int) -> None:
        super().__init__(read_task(task), image_size)
        self.task = task
        self._home = self.move_to_start()

    def describe(self, n_values: int) -> dict:
        """The camera and its self-test; `BadInput` where states of `n_values` numbers are not this simulator's."""
        if n_values != len(self._home):
            raise BadInput(
                f"the states have {n_values} values; allowed: {len(self._home)}, the state of {self.task} in this"
                " version of LIBERO, whose assets differ from those of the recording"
            )
        self.restore(self._home)
        self.forward()
        return {**self_test(self), "camera": self.camera}

    def draw(self, states: np.ndarray, bodies: dict[str, tuple[list[float], list[float]]]) -> dict:
        """Frames, and end effector [m], gripper opening and angles, of every state; whether the last is the goal.

        Furniture is part of the model, not of the state, and LIBERO places it anew for every recording: it is put where
        `bodies` has it.
        """
        self._put_furniture(bodies)
        frames, rows, rotations = [], [], []
        for state in states:
            self.restore(state)
            self.forward()
            frames.append(self.render())
            rows.append([*self.ee_position, self.gripper])
            rotations.append(euler_angles(self.ee_orientation))
        recorded = {"frames": np.stack(frames), "state": np.array(rows), "rotation": np.array(rotations)}
        return {**recorded, "placed": bool(self._wrapper.check_success())}

    def _put_furniture(self, bodies: dict[str, tuple[list[float], list[float]]]) -> None:
        """Furniture where a model of the same problem has it: position and quaternion of bodies, by their names."""
        model = self._sim.model._model
        for fixture in self._env.fixtures_dict.values():
            if getattr(fixture, "root_body", None) in bodies:
                at = model.body(fixture.root_body).id
                model.body_pos[at], model.body_quat[at] = bodies[fixture.root_body]
