"""robosuite's UR5e as LIBERO looks for it: by the name of an arm on a mount. Imported for what it registers."""

import numpy as np
from jaxtyping import Float
from robosuite.models.robots import UR5e
from robosuite.robots import ROBOT_CLASS_MAPPING
from robosuite.robots.single_arm import SingleArm

from eval.arm import UR5E_JOINTS


class MountedUR5e(UR5e):
    """Robosuite's arm, which stands above the table where LIBERO's begins an episode."""

    @property
    def init_qpos(self) -> Float[np.ndarray, " joint"]:
        return np.array(UR5E_JOINTS)


ROBOT_CLASS_MAPPING[MountedUR5e.__name__] = SingleArm
