"""Any pick-and-place task of LIBERO as a scene of demonstrations and evaluation, with everything it has around."""

import numpy as np
from jaxtyping import Float

from eval.expert import transfer
from eval.goal import language, read_goal
from eval.grasp import PALM, Grasp, find_grasps
from eval.markers import self_test
from eval.scene import LIFTED
from eval.simulation import Simulation, benchmark_task, read_init_states, read_task
from eval.surface import near_segment, top
from videopolicy.errors import BadInput

FALL_SPEED = 0.2  # [m/s] at which objects settle
N_SETTLE = 24  # control steps
DROP = 0.015  # [m] that the object is let fall


class TaskScene(Simulation):
    """A LIBERO task whose goal is one `(On A B)` or `(In A B)`, in its fixed initial states but for the arm."""

    def __init__(self, task: str, image_size: int) -> None:
        bddl = read_task(task)
        self.task, self.goal = task, read_goal(bddl, task)
        self.init_states = read_init_states(task)
        super().__init__(bddl, image_size)
        self._home = self.move_to_start()
        self._rest_height, self._attempt = 0.0, 1
        movable = [n for n, o in self._env.objects_dict.items() if o.joints]
        self.things = sorted({*movable, *self._env.fixtures_dict} & set(self._env.obj_body_id))
        if self.goal.object not in movable:
            raise BadInput(f"{task} moves {self.goal.object}; allowed: {', '.join(sorted(movable))}")

    @property
    def placed(self) -> bool:
        """LIBERO's own goal predicate."""
        return bool(self._wrapper.check_success())

    @property
    def lifted(self) -> bool:
        return bool(self.position(self.goal.object)[2] > self._rest_height + LIFTED)

    @property
    def final(self) -> dict[str, list[float]]:
        """Where the object and its target are [m], for the record."""
        return {"object": self.position(self.goal.object).round(4).tolist(), "target": self.target.round(4).tolist()}

    @property
    def target(self) -> Float[np.ndarray, " 3"]:
        """Where the goal's region or the thing that it names is [m]."""
        name = self.goal.target
        return self.site(name) if name in self._env.object_sites_dict else self.position(name)

    def set_up(self, job: dict, start: Float[np.ndarray, " 3"]) -> None:
        """Everything but the arm as in a fixed initial state, at rest; arm at `start`.

        The states have objects up to 11 cm above what they are to stand on. Dropped at full speed, a bowl bounces off
        its ramekin in this version of MuJoCo, so they are let down.
        """
        init_state, self._attempt = job["init_state"], job.get("attempt", 1)
        if not 0 <= init_state < len(self.init_states):
            raise BadInput(f"init_state is {init_state}; allowed: 0 to {len(self.init_states) - 1} of {self.task}")
        self.restore(self._home)
        self.put_objects(self.init_states[init_state])
        self.forward()
        for _ in range(N_SETTLE):
            self.limit_speed(FALL_SPEED)
            self.control(start, 1.0)
        self.n_control_steps = 0
        self._rest_height = float(self.position(self.goal.object)[2])

    def plan(self, period: float) -> tuple[Float[np.ndarray, "step 3"], Float[np.ndarray, " step"]]:
        """The expert's waypoints [m] and gripper commands, from the scene as it stands; attempts grasp elsewhere.

        Where the hand has no room to grasp the object, one waypoint: to stay.
        """
        held = self.surface(self.goal.object, 0.003)
        others = np.concatenate([self.surface(name, 0.008) for name in self.things if name != self.goal.object])
        grasps = find_grasps(held, others)
        if not grasps:
            return self.ee_position.copy()[None], np.ones(1)
        grasp = grasps[(self._attempt - 1) % len(grasps)]
        return transfer(self.ee_position, grasp.position, held, others, self._release(grasp, held, others), period)

    def self_test(self) -> dict:
        """The camera self-test's markers, pictures and errors [pixels]; `BadInput` when image and calibration disagree.

        Of the camera as it now stands. The arm is put back to its start, out of the markers' way.
        """
        self.restore(self._home)
        self.forward()
        return self_test(self)

    def _release(self, grasp: Grasp, held: np.ndarray, others: np.ndarray) -> Float[np.ndarray, " 3"]:
        """Where the grip site lets go: the object over the target's middle, just above what it will come to rest on."""
        xy = self.target[:2] + grasp.position[:2] - self.position(self.goal.object)[:2] - [0, grasp.slide]
        foot = held[held[:, 2] < held[:, 2].min() + 0.02]
        reach = np.ptp(foot[:, :2], axis=0).max() / 2
        centre = self.target[:2]
        height = top(near_segment(others, centre, centre, reach)) + grasp.position[2] - held[:, 2].min() + DROP
        if self.goal.relation == "In":  # the palm stays above the opening's edge
            height = max(height, top(near_segment(others, centre, centre, 0.10)) - PALM + DROP)
        return np.array([*xy, height])


def describe_task(suite: str, number: int) -> dict:
    """What is to be known of a task before its scene is opened; `BadInput` where its goal is no pick and place."""
    task = benchmark_task(suite, number)
    read_goal(read_task(task), task)
    return {"name": task, "language": language(task), "n_states": len(read_init_states(task))}
