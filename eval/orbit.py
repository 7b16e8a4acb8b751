"""Cameras of the viewpoint axis: LIBERO's own one, tilted about the point of the table that it looks at."""

import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from videopolicy.errors import BadInput

GAZE = np.array([-0.221, 0.0, 0.0])  # where LIBERO's own camera meets the table [m]
RADIUS = 1.131  # [m]
AWAY = np.array([0.778, 0.0, 0.6283])  # from GAZE towards LIBERO's own camera
LOWEST = 0.1  # [m]: pixels of a camera closer to the table's plane say too little of where on it they are
THETAS = tuple(np.linspace(0, 25, 8).round(2).tolist())  # [degrees]
PHIS = tuple(map(float, range(0, 360, 45)))  # [degrees]


def orbit(theta: float, phi: float) -> tuple[Float[np.ndarray, " 3"], Float[np.ndarray, " 4"]]:
    """Position [m] and orientation (MuJoCo's quaternion w x y z) of a camera `theta` degrees from LIBERO's own.

    `phi` is the direction: 0 raises the camera, 90 moves it towards smaller y (image left). The image's up stays level.
    """
    away = AWAY / np.linalg.norm(AWAY)
    raised = np.array([-away[2], 0.0, away[0]])  # where the camera goes for phi = 0
    towards = np.cos(np.radians(phi)) * raised - np.sin(np.radians(phi)) * np.array([0.0, 1.0, 0.0])
    away = np.cos(np.radians(theta)) * away + np.sin(np.radians(theta)) * towards
    position = GAZE + RADIUS * away
    if not (theta >= 0 and position[2] > LOWEST):
        raise BadInput(
            f"view ({theta}, {phi}) puts the camera {position[2]:.2f} m above the table; allowed: theta from 0, and"
            f" more than {LOWEST} m"
        )
    return position, level(away)


def level(away: Float[np.ndarray, " 3"]) -> Float[np.ndarray, " 4"]:
    """The orientation (w, x, y, z) of a MuJoCo camera that looks along -`away`, the image's up kept level."""
    right = np.cross([0.0, 0.0, 1.0], away)
    right /= np.linalg.norm(right)
    x, y, z, w = Rotation.from_matrix(np.stack([right, np.cross(away, right), away], 1)).as_quat()
    return np.array([w, x, y, z])
