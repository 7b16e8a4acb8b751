"""The camera self-test of a scene full of things: balls in the air, some of which the camera sees."""

import numpy as np

from eval.simulation import Simulation
from videopolicy.camera import Camera, check_markers
from videopolicy.errors import BadInput

# Far enough apart to be told from each other in a picture of 112 pixels [m].
FLOATING = [np.array([[x, y, z] for x in (-0.25, 0.05) for y in (-0.32, -0.16, 0.16, 0.32)]) for z in (0.28, 0.2, 0.12)]


def self_test(simulation: Simulation) -> dict:
    """The self-test's markers, pictures with and without them, and errors [pixels]; `BadInput` where one is wrong."""
    markers, shown, hidden = find_markers(simulation, tolerance=1.5)
    errors = check_markers(simulation.camera, markers, shown, hidden)
    return {"markers": markers, "images": (shown, hidden), "errors": errors}


def find_markers(simulation: Simulation, tolerance: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Markers that the present camera sees within `tolerance` pixels, and the pictures with and without them.

    Raises `BadInput` when image and calibration disagree.
    """
    camera = simulation.camera
    # A low camera sees little of the highest layer: test on the one that it sees most of.
    inside = max((_inside(camera, layer) for layer in FLOATING), key=len)
    shown, hidden = simulation.render_markers(inside), simulation.render()
    # Furniture may hide some, wholly or in part; a wrong calibration would lose nearly all.
    found = np.array([m for m in inside if _is_found(camera, m, shown, hidden, tolerance)]).reshape(-1, 3)
    if len(found) < max(3, len(inside) / 2):
        place = camera.position.round(2).tolist()
        raise BadInput(f"camera self-test at {place}: {len(found)} of {len(inside)} markers are where they should be")
    return found, shown, hidden


def _inside(camera: Camera, markers: np.ndarray) -> np.ndarray:
    pixel = camera.project(markers)
    return markers[((pixel > 12) & (pixel < np.array(camera.size) - 12)).all(-1)]


def _is_found(camera: Camera, marker: np.ndarray, shown: np.ndarray, hidden: np.ndarray, tolerance: float) -> bool:
    try:
        check_markers(camera, marker[None], shown, hidden, tolerance)
    except BadInput:
        return False
    return True
