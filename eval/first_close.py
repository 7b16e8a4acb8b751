"""Where the gripper first closes: at which stage episodes fail, before the bowl, above it, or after."""

from collections.abc import Iterable

import numpy as np


def first_close(records: Iterable[dict]) -> dict | None:
    """Medians over episodes of the first executed waypoint whose gripper is closed.

    `beside_mm` is how far it is from the bowl's middle, horizontally (a bowl is taken by its rim), `above_mm` how high
    above the table; `never` counts episodes in which none is closed, which the medians leave out. None where that is
    every one, or where a result does not say where the bowl was.
    """
    found, never = [], 0
    for r in records:
        if "bowl_xy" not in r:
            return None
        n = r["n_execute"]
        position = np.concatenate([np.asarray(chunk)[:n] for chunk in r["targets"]])
        closed = np.flatnonzero(np.concatenate([chunk[:n] for chunk in r["grippers"]]) <= 0.5)
        if len(closed):
            at = position[closed[0]]
            found.append([np.linalg.norm(at[:2] - r["bowl_xy"]), at[2]])
        else:
            never += 1
    if not found:
        return None
    beside, above = (round(1000 * float(x)) for x in np.median(found, axis=0))
    return {"beside_mm": beside, "above_mm": above, "never": never}
