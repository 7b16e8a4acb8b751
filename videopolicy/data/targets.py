"""Labels for action heads: future waypoints seen by the camera."""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from videopolicy.camera import Camera


@dataclass(frozen=True)
class Waypoints:
    """The next `step` waypoints after a frame, as labels (numpy; batches of them become `heads.head.Targets`)."""

    start_pixel: Float[np.ndarray, " 2"]  # the end effector now; NaN when it is not in the picture
    start_height: float  # of the end effector now [m]; NaN where it is not known
    pixel: Float[np.ndarray, "step 2"]
    height: Float[np.ndarray, " step"]  # [m] above the support surface
    gripper: Float[np.ndarray, " step"]
    position: Float[np.ndarray, "step 3"]  # [m]
    inside: Bool[np.ndarray, " step"]  # projects into the image
    in_episode: Bool[np.ndarray, " step"]  # before the episode's end
    rotation: Float[np.ndarray, "step 3"] | None = None  # see `videopolicy/rotation.py` [rad]


def waypoints(
    state: Float[np.ndarray, "frame 4"],
    action: Float[np.ndarray, "frame 4"],
    camera: Camera,
    frame: int,
    n_steps: int,
    rotation: Float[np.ndarray, "frame 3"] | None = None,
) -> Waypoints:
    """Labels of a frame: step k is where the end effector was k frames later, and the gripper command on the way.

    Nothing is clamped: steps past the end or outside the image are marked, and their numbers must not be used.
    """
    steps = frame + 1 + np.arange(n_steps)
    in_episode = steps < len(state)
    steps = np.minimum(steps, len(state) - 1)
    position = state[steps, :3]
    pixel = camera.project(position)
    start = camera.project(state[frame, :3])
    return Waypoints(
        start_pixel=np.where(camera.contains(start), start, np.nan),
        start_height=float(state[frame, 2]),
        pixel=pixel,
        height=position[:, 2],
        gripper=action[steps - 1, 3],
        position=position,
        inside=camera.contains(pixel),
        in_episode=in_episode,
        rotation=None if rotation is None else rotation[steps],
    )


def track_waypoints(track: Float[np.ndarray, "frame 2"], size: tuple[int, int], frame: int, n_steps: int) -> Waypoints:
    """Labels of a frame from a track of pixels alone: heights, grippers and positions are NaN.

    `track` is in pixels of pictures of `size` (width, height), NaN where the point is not visible.
    """
    steps = frame + 1 + np.arange(n_steps)
    in_episode = steps < len(track)
    steps = np.minimum(steps, len(track) - 1)
    inside = np.asarray(((track >= 0) & (track < np.asarray(size))).all(-1))
    unknown = np.full(n_steps, np.nan)
    return Waypoints(
        start_pixel=np.where(inside[frame], track[frame], np.nan),
        start_height=math.nan,
        pixel=track[steps],
        height=unknown,
        gripper=unknown,
        position=np.full((n_steps, 3), np.nan),
        inside=inside[steps],
        in_episode=in_episode,
    )
