"""How the hand is rotated, as three Euler angles, extrinsic x-y-z.

At zero the hand points straight down and its fingers come together along world y; every other orientation is that one
turned about the world's x, then y, then z.
"""

import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation

DOWN = np.array([[0.0, 1, 0], [1, 0, 0], [0, 0, -1]])  # R_world_hand at zero: z out of the fingers, which close along x


def euler_angles(R_world_hand: Float[np.ndarray, "3 3"]) -> Float[np.ndarray, " 3"]:
    """The angles about x, y and z [rad] of an orientation; the one about y lies within a quarter turn of zero."""
    return Rotation.from_matrix(R_world_hand @ DOWN.T).as_euler("xyz")


def orientation(angles: Float[np.ndarray, " 3"]) -> Float[np.ndarray, "3 3"]:
    """R_world_hand of three angles [rad]."""
    return Rotation.from_euler("xyz", angles).as_matrix() @ DOWN


def rotation_vector(a: Float[np.ndarray, "3 3"], b: Float[np.ndarray, "3 3"]) -> Float[np.ndarray, " 3"]:
    """The shortest rotation from orientation a to b: its axis in world coordinates, as long as its angle [rad]."""
    return Rotation.from_matrix(b @ a.T).as_rotvec()
