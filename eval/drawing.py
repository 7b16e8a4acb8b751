"""What MuJoCo's renderer is asked for beyond a picture: balls in the air, things hidden, what each pixel shows."""

from typing import Any

import mujoco
import numpy as np
from jaxtyping import Float, Int, UInt8

HIDDEN = 5  # the group of shapes that is not drawn; MuJoCo's last one, which neither LIBERO nor robosuite uses
_RGB = np.array([1, 2**8, 2**16])  # a shape's number, as its colour


class Shapes:
    """All that is drawn of a body and of what hangs on it: its shapes, and sites, which cast shadows even if clear."""

    def __init__(self, model: Any, root: int) -> None:
        self._model = model
        self.geoms, self._sites = (
            np.flatnonzero(model.body_rootid[bodies] == root) for bodies in (model.geom_bodyid, model.site_bodyid)
        )
        self._groups = model.geom_group[self.geoms].copy(), model.site_group[self._sites].copy()

    def show(self, context: Any, shown: bool) -> None:
        """Whether pictures have them, and their shadows; how things move does not depend on it."""
        context.vopt.geomgroup[HIDDEN] = context.vopt.sitegroup[HIDDEN] = 0
        geoms, sites = self._groups
        self._model.geom_group[self.geoms] = geoms if shown else HIDDEN
        self._model.site_group[self._sites] = sites if shown else HIDDEN


def draw_balls(
    context: Any, points: Float[np.ndarray, "n 3"], radius: float, size: int
) -> UInt8[np.ndarray, "height width 3"]:
    """The last picture again, upright, with a magenta ball at each of MuJoCo's world points [m]."""
    colour = np.array([1, 0, 1, 1], np.float32)
    for point in points:
        geom = context.scn.geoms[context.scn.ngeom]
        mujoco.mjv_initGeom(geom, mujoco.mjtGeom.mjGEOM_SPHERE, np.full(3, radius), point, np.eye(3).ravel(), colour)
        context.scn.ngeom += 1
    return _drawn(context, size)


def geoms_shown(context: Any, size: int) -> Int[np.ndarray, "height width"]:
    """The number of the model's shape that each pixel of the last picture shows, -1 for none.

    robosuite's own segmentation overflows with numpy 2.
    """
    scene = context.scn
    flags = [int(mujoco.mjtRndFlag.mjRND_SEGMENT), int(mujoco.mjtRndFlag.mjRND_IDCOLOR)]
    scene.flags[flags] = 1
    number = _drawn(context, size).astype(int) @ _RGB
    scene.flags[flags] = 0
    numbers = np.full(scene.ngeom + 1, -1)
    for geom in scene.geoms[: scene.ngeom]:
        if geom.segid >= 0 and geom.objtype == mujoco.mjtObj.mjOBJ_GEOM:
            numbers[geom.segid + 1] = geom.objid
    return numbers[number]


def _drawn(context: Any, size: int) -> UInt8[np.ndarray, "height width 3"]:
    viewport = mujoco.MjrRect(0, 0, size, size)
    mujoco.mjr_render(viewport, context.scn, context.con)
    image = np.empty((size, size, 3), np.uint8)
    mujoco.mjr_readPixels(image, None, viewport, context.con)
    return np.ascontiguousarray(image[::-1])
