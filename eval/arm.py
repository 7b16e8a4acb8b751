"""Arms that do the task of bowl and plate: LIBERO's own, and another one on its mount and with its gripper."""

from typing import Literal

Arm = Literal["Panda", "UR5e"]
# Joints [rad] where the UR5e's grip site is at `simulation.START`, pointing straight down, its fingers closing along y.
UR5E_JOINTS = (-0.25080, -1.37192, 1.89739, -2.09627, -1.57079, -1.82159)
