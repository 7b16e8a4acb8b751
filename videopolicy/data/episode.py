"""Episodes as they are recorded: with states and commands, or with a track of pixels alone."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8

from videopolicy.data.format import ROTATION, TRACK, VECTORS


@dataclass(frozen=True)
class Episode:
    """One demonstration: frame i shows `state[i]`, and `action[i]` was the command from frame i to frame i + 1."""

    frames: UInt8[np.ndarray, "frame height width 3"]
    state: Float[np.ndarray, "frame 4"]  # end effector [m] and gripper opening
    action: Float[np.ndarray, "frame 4"]  # commanded waypoint [m] and gripper opening
    extra: dict  # goes to meta/para_episodes.jsonl
    rotation: Float[np.ndarray, "frame 3"] | None = None  # of the hand, as in `videopolicy/rotation.py` [rad]

    def columns(self) -> dict[str, np.ndarray]:
        values = dict(zip(VECTORS, (self.state, self.action), strict=True))
        return values if self.rotation is None else {**values, ROTATION: self.rotation}


@dataclass(frozen=True)
class TrackedEpisode:
    """One recording of which pixels are all that is known: frame i shows the tracked point at `track[i]`."""

    frames: UInt8[np.ndarray, "frame height width 3"]
    track: Float[np.ndarray, "frame 2"]  # [pixels], NaN where the point is not visible
    extra: dict  # goes to meta/para_episodes.jsonl

    def columns(self) -> dict[str, np.ndarray]:
        visible = np.isfinite(self.track).all(-1)
        return {TRACK: np.column_stack([np.where(visible[:, None], self.track, 0), visible])}
