"""The scene of demonstrations and evaluation: bowl and plate of libero_spatial task 0, alone on the table."""

import re
from typing import get_args

import numpy as np
from jaxtyping import Float

from eval.arm import Arm
from eval.expert import plan
from eval.positions import EVALUATED, PLATE_OFFSET, Variant
from eval.simulation import START, Simulation, read_init_states, read_task
from videopolicy.camera import check_markers
from videopolicy.errors import BadInput, choices

BOWL, PLATE = "akita_black_bowl_1", "plate_1"
DISTRACTORS = ("wooden_cabinet_1", "flat_stove_1", "akita_black_bowl_2", "cookies_1", "glazed_rim_porcelain_ramekin_1")
SECOND_BOWL = "akita_black_bowl_2"
MARKERS = np.array([[-0.10, -0.24, 0.02], [0.0, 0.22, 0.02], [0.05, -0.10, 0.10]])  # for the camera self-test [m]
LIFTED = 0.04  # [m] above rest: the bowl counts as grasped


class Scene(Simulation):
    """Bowl and plate of libero_spatial task 0 with an arm and one camera.

    `clean` is without the task's other objects and furniture, `full` with them; `no_second_bowl` is full without the
    bowl that looks like the one to be moved, which a policy without language cannot tell from it.
    """

    def __init__(
        self, image_size: int, variant: Variant = "clean", camera_name: str = "agentview", arm: Arm = "Panda"
    ) -> None:
        if variant not in get_args(Variant):
            raise choices("scene", variant, get_args(Variant))
        bddl = read_task(EVALUATED)
        super().__init__(_without_distractors(bddl) if variant == "clean" else bddl, image_size, camera_name, arm)
        self.variant = variant
        # The arm at `START`, objects out of its way: found once, the beginning of every reset.
        if variant == "clean":
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
    def final(self) -> dict[str, list[float]]:
        """Where bowl and plate are [m], for the record."""
        return {"bowl": self.bowl.round(4).tolist(), "plate": self.plate.round(4).tolist()}

    @property
    def placed(self) -> bool:
        """LIBERO's own goal predicate."""
        return bool(self._wrapper.check_success())

    @property
    def lifted(self) -> bool:
        return bool(self.bowl[2] > self._bowl_rest_height + LIFTED)

    def reset(
        self,
        bowl_xy: Float[np.ndarray, " 2"],
        start: Float[np.ndarray, " 3"] = START,
        plate_xy: Float[np.ndarray, " 2"] | None = None,
    ) -> None:
        """Put bowl and plate at a position, arm at `start`, everything at rest; no `plate_xy`: both move together."""
        self.restore(self._home)
        for name, xy in ((BOWL, bowl_xy), (PLATE, bowl_xy + PLATE_OFFSET if plate_xy is None else plate_xy)):
            self.put(name, np.array([*xy, 0.01]))
        self._settle(start)

    def reset_to(self, init_state: int, start: Float[np.ndarray, " 3"] = START) -> None:
        """All objects as in one of LIBERO's fixed initial states of the task, arm at `start`, everything at rest."""
        states = read_init_states(EVALUATED)
        if not 0 <= init_state < len(states):
            raise BadInput(f"init_state is {init_state}; allowed: 0 to {len(states) - 1}")
        self.restore(self._home)
        self.put_objects(states[init_state])
        if self.variant == "no_second_bowl":
            self.put(SECOND_BOWL, np.array([1.5, 0.0, 0.0]))  # behind the camera
        self._settle(start)

    def set_up(self, job: dict, start: Float[np.ndarray, " 3"]) -> None:
        """As a job wants it: LIBERO's initial state, or bowl and plate at its positions."""
        if job.get("init_state") is not None:
            self.reset_to(job["init_state"], start)
        else:
            self.reset(job["bowl_xy"], start, job["plate_xy"])

    def plan(self, period: float) -> tuple[Float[np.ndarray, "step 3"], Float[np.ndarray, " step"]]:
        """The expert's waypoints [m] and gripper commands, from the scene as it stands."""
        return plan(self.ee_position, self.bowl, self.plate, period)

    def _settle(self, start: Float[np.ndarray, " 3"]) -> None:
        self.forward()
        for _ in range(12):
            self.control(start, 1.0)
        self.n_control_steps = 0
        self._bowl_rest_height = float(self.bowl[2])

    def self_test(self) -> dict:
        """The camera self-test's markers, pictures and errors [pixels]; `BadInput` when image and calibration disagree.

        Of the camera as it now stands. The arm is put back to its start, out of the markers' way.
        """
        self.restore(self._home)
        self.forward()
        images = self.render_markers(MARKERS), self.render()
        return {"markers": MARKERS, "images": images, "errors": check_markers(self.camera, MARKERS, *images)}


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
