"""Files of tracked points: where a tracker saw the end effector, or a hand, in every frame of every episode."""

from pathlib import Path

import numpy as np
from jaxtyping import Float

from videopolicy.data.files import read_jsonl, reading
from videopolicy.errors import BadInput


def read_points(path: Path) -> dict[str, Float[np.ndarray, "_ 2"]]:
    """Tracks by the name of their episode: pixels (u, v), NaN where the point is not visible.

    A line for each episode: `{"episode": name, "points": [[u, v], null, ...]}`, one entry for each frame of its video.
    `BadInput` for lines that are none of these, and for an episode that has two.
    """
    if not path.is_file():
        raise BadInput(f"no file of points {path}")
    found: dict[str, np.ndarray] = {}
    with reading(path):
        for number, line in enumerate(read_jsonl(path), 1):
            name, points = line.get("episode"), line.get("points")
            if not isinstance(name, str) or not isinstance(points, list):
                raise BadInput(f"line {number} has {sorted(line)}; allowed: an episode's name and a list of points")
            if name in found:
                raise BadInput(f"line {number} is another one of {name!r}")
            for frame, point in enumerate(points):
                if point is not None and not _is_pixel(point):
                    raise BadInput(f"point {frame} of {name!r} is {point!r}; allowed: [u, v] in pixels, or null")
            missing = [np.nan, np.nan]
            found[name] = np.array([p or missing for p in points], np.float64).reshape(-1, 2)
        if not found:
            raise BadInput("it is empty; allowed: a line for each episode")
    return found


def points_of(points: dict[str, Float[np.ndarray, "_ 2"]], name: str, n_frames: int) -> Float[np.ndarray, "frame 2"]:
    """An episode's track; `BadInput` where there is none, or it is not as long as its video."""
    if name not in points:
        raise BadInput(f"the points have no episode {name!r}; they have {', '.join(sorted(points)[:3])}")
    if len(points[name]) != n_frames:
        raise BadInput(f"{name!r} has {len(points[name])} points, its video {n_frames} frames; allowed: one for each")
    return points[name]


def check_seen(points: Float[np.ndarray, "frame 2"], name: str, size: tuple[int, int]) -> None:
    """`BadInput` where no point of an episode can be one of its pictures, of `size` (width, height)."""
    seen = points[((points >= 0) & (points < size)).all(-1)]
    if len(seen) and seen.max() <= 1:
        raise BadInput(f"all points of {name!r} are from 0 to 1; allowed: pixels, not shares of the picture")
    if not len(seen):
        raise BadInput(
            f"none of the {len(points)} points of {name!r} is in its pictures of {size[0]} x {size[1]} pixels;"
            " allowed: pixels of the pictures as they were recorded, at least one"
        )


def _is_pixel(point: object) -> bool:
    return (
        isinstance(point, list)
        and len(point) == 2
        and all(isinstance(x, int | float) and not isinstance(x, bool) and np.isfinite(x) for x in point)
    )
