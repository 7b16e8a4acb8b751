"""The scene of demonstrations and evaluation: bowl and plate of libero_spatial task 0, alone on the table."""

import re

import numpy as np
from jaxtyping import Float

from eval.positions import EVALUATED, PLATE_OFFSET
from eval.simulation import MARKERS, START, Simulation, read_task
from videopolicy.camera import check_markers
from videopolicy.errors import BadInput

BOWL, PLATE = "akita_black_bowl_1", "plate_1"
DISTRACTORS = ("wooden_cabinet_1", "flat_stove_1", "akita_black_bowl_2", "cookies_1", "glazed_rim_porcelain_ramekin_1")
LIFTED = 0.04  # [m] above rest: the bowl counts as grasped


class Scene(Simulation):
    """Bowl and plate of libero_spatial task 0, alone on the table, with the Panda arm and one camera."""

    def __init__(self, image_size: int, camera_name: str = "agentview") -> None:
        super().__init__(_without_distractors(read_task(EVALUATED)), image_size, camera_name)
        # The arm at `START`, objects out of its way: found once, the beginning of every reset.
        for name, y in ((BOWL, -0.4), (PLATE, 0.4)):
            self.put(name, np.array([0.2, y, self.position(name)[2]]))
        self._home = self.move_to_start()
        self.n_control_steps = 0
        self._bowl_rest_height = 0.0

    @property
    def bowl(self) -> Float[np.ndarray, " 3"]:
        return self.position(BOWL)

    @property
    def plate(self) -> Float[np.ndarray, " 3"]:
        return self.position(PLATE)

    @property
    def placed(self) -> bool:
        """LIBERO's own goal predicate."""
        return bool(self._wrapper.check_success())

    @property
    def lifted(self) -> bool:
        return bool(self.bowl[2] > self._bowl_rest_height + LIFTED)

    def reset(self, bowl_xy: Float[np.ndarray, " 2"], start: Float[np.ndarray, " 3"] = START) -> None:
        """Put bowl and plate (rigidly together) at a position, arm at `start`, everything at rest."""
        self.restore(self._home)
        for name, xy in ((BOWL, bowl_xy), (PLATE, bowl_xy + PLATE_OFFSET)):
            self.put(name, np.array([*xy, 0.01]))
        self.forward()
        for _ in range(12):
            self.control(start, 1.0)
        self.n_control_steps = 0
        self._bowl_rest_height = float(self.bowl[2])

    def self_test(self) -> Float[np.ndarray, " n"]:
        """Errors [pixels] of the camera self-test; raises `BadInput` when image and calibration disagree.

        The arm is put back to its start, out of the markers' way.
        """
        self.restore(self._home)
        self.forward()
        return check_markers(self.camera, MARKERS, self.render_markers(), self.render())


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
        raise BadInput(f"{EVALUATED}.bddl is not the file this scene was written for; could not remove {left}")
    return bddl
