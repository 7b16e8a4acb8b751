"""A simulator process as LIBERO's users have it: robosuite's own step with its observables, and a picture at each one.

The naive side of `bench.rollout`. Never imports torch.
"""

import numpy as np
from jaxtyping import Float, UInt8

from eval.scene import Scene
from eval.worker import main


class StandardScene(Scene):
    """The same scene and controller behind the environment's `step`, whose camera observations are always made."""

    _picture: np.ndarray | None = None  # that of the last step, which a policy is shown instead of another one

    def control(self, target: Float[np.ndarray, " 3"], gripper: float, rotation: np.ndarray | None = None) -> None:
        self._wrapper.step(self.command(target, gripper, rotation))
        self.n_control_steps += 1
        self._picture = super().render()

    def render(self) -> UInt8[np.ndarray, "height width 3"]:
        return super().render() if self._picture is None else self._picture

    def forward(self) -> None:
        super().forward()
        self._picture = None

    def look(self, position: Float[np.ndarray, " 3"], orientation: Float[np.ndarray, " 4"]) -> None:
        super().look(position, orientation)
        self._picture = None


if __name__ == "__main__":
    main(StandardScene)
