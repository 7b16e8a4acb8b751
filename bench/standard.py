"""A simulator process as LIBERO's users have it: robosuite's own step with its observables, and a picture at each one.

The naive side of `bench.rollout`. Never imports torch.
"""

import numpy as np
from jaxtyping import Float

from eval.scene import Scene
from eval.simulation import MAX_DELTA
from eval.worker import main


class StandardScene(Scene):
    """The same scene and controller behind the environment's `step`, whose camera observations are always made."""

    def control(self, target: Float[np.ndarray, " 3"], gripper: float) -> None:
        action = np.zeros(7)
        action[:3] = np.clip((target - self.ee_position) / MAX_DELTA, -1, 1)
        action[6] = 1 - 2 * gripper
        self._wrapper.step(action)
        self.n_control_steps += 1
        self.render()


if __name__ == "__main__":
    main(StandardScene)
