"""Whether a dataset's cameras can see and lift what a policy is to learn, told before training rather than by NaN."""

import numpy as np

from videopolicy.bins import Bins
from videopolicy.data.lerobot import Dataset
from videopolicy.data.video import video_size
from videopolicy.errors import BadInput


def check_pictures(data: Dataset, episodes: list[int]) -> None:
    """`BadInput` where an episode's pictures or camera have another size than the first's: sizes must not mix."""
    size = data.size
    sizes = {path: video_size(path) for path in {data.video(e) for e in episodes}}
    for e in episodes:
        path = data.video(e)
        camera = size if data.tracked else data.camera_of(e).size
        for what, other in ((f"pictures in {path}", sizes[path]), ("a camera", camera)):
            if other != size:
                raise BadInput(
                    f"episode {e} of {data.root} has {what} of {other[0]} x {other[1]} pixels; allowed:"
                    f" {size[0]} x {size[1]}, the size of all others"
                )


def check_above(data: Dataset, episodes: list[int]) -> None:
    """`BadInput` where a camera does not stand above all waypoints and the margin of a head's bins over them.

    What a head predicts above its camera could not be lifted.
    """
    heights = [data.state(e)[:, 2] for e in episodes]
    lowest, highest = min(float(z.min()) for z in heights), max(float(z.max()) for z in heights)
    top = Bins.around(lowest, highest, 1).high
    for e in episodes:
        height = data.camera_of(e).position[2]
        if not height > top:
            raise BadInput(
                f"the camera of episode {e} of {data.root} stands at z = {height:.3f} m, waypoints reach {highest:.3f}"
                f" m; allowed: cameras above {top:.3f} m, with a head's margin (is T_world_cam its pose, z up?)"
            )


def never_seen(data: Dataset, episodes: list[int]) -> list[int]:
    """Episodes whose every waypoint is outside the image: they teach an action head nothing."""
    if data.tracked:
        tracks = {e: data.track(e)[1:] for e in episodes}
        return [e for e, track in tracks.items() if not ((track >= 0) & (track < np.array(data.size))).all(-1).any()]
    cameras = {e: data.camera_of(e) for e in episodes}
    return [e for e, c in cameras.items() if not c.contains(c.project(data.state(e)[1:, :3])).any()]
