"""Any pick-and-place task of LIBERO as a scene of demonstrations and evaluation, with everything it has around."""

import numpy as np
from jaxtyping import Float

from eval.expert import transfer
from eval.grasp import PALM, find_grasps
from eval.scene import LIFTED
from eval.simulation import START, Simulation, read_init_states, read_task
from eval.surface import near_segment, top
from eval.tasks import read_goal
from videopolicy.errors import BadInput

FALL_SPEED = 0.2  # [m/s] at which objects settle
N_SETTLE = 24  # control steps
DROP = 0.015  # [m] that the object is let fall


class TaskScene(Simulation):
    """A LIBERO task whose goal is one `(On A B)` or `(In A B)`, from its fixed initial states, with the arm at `START`."""

    def __init__(self, task: str, image_size: int) -> None:
        bddl = read_task(task)
        self.task, self.goal = task, read_goal(bddl, task)
        self.init_states = read_init_states(task)
        super().__init__(bddl, image_size)
        self._home = self.move_to_start()
        self._rest_height = 0.0
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
    def target(self) -> Float[np.ndarray, " 3"]:
        """Where the goal's region or the thing that it names is [m]."""
        name = self.goal.target
        return self.site(name) if name in self._env.object_sites_dict else self.position(name)

    def reset(self, init_state: int, start: Float[np.ndarray, " 3"] = START) -> None:
        """Everything but the arm as in a fixed initial state, at rest; arm at `start`.

        The states have objects up to 11 cm above what they are to stand on. Dropped at full speed, a bowl bounces off
        its ramekin in this version of MuJoCo, so they are let down.
        """
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

    def plan(self, period: float, attempt: int = 1) -> tuple[np.ndarray, np.ndarray]:
        held = self.surface(self.goal.object)
        others = np.concatenate([self.surface(n, 0.008) for n in self.things if n != self.goal.object])
        grasps = find_grasps(held, others)
        if not grasps:
            raise BadInput(f"the fingers cannot close around {self.goal.object} of {self.task}: it is too wide along y")
        grasp = grasps[(attempt - 1) % len(grasps)].position
        release = self._release(grasp, held, others)
        self.last = grasps, attempt, release
        return transfer(self.ee_position, grasp, held, others, release, period)

    def _release(self, grasp: np.ndarray, held: np.ndarray, others: np.ndarray) -> Float[np.ndarray, " 3"]:
        """Where the grip site lets go: the object over the target's middle, just above what it will come to rest on."""
        xy = self.target[:2] + grasp[:2] - self.position(self.goal.object)[:2]
        foot = held[held[:, 2] < held[:, 2].min() + 0.02]
        reach = np.ptp(foot[:, :2], axis=0).max() / 2
        centre = self.target[:2]
        height = top(near_segment(others, centre, centre, reach)) + grasp[2] - held[:, 2].min() + DROP
        if self.goal.relation == "In":  # the palm stays above the opening's edge
            height = max(height, top(near_segment(others, centre, centre, 0.10)) - PALM + DROP)
        return np.array([*xy, height])
