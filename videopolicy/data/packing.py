"""Where in its files an episode is: alone in them, as written here, or one of several, as LeRobot packs them."""

from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
from jaxtyping import Int, UInt8

from videopolicy.data.files import read_table
from videopolicy.data.format import all_files, episode_files
from videopolicy.data.video import EARLY, read_span, read_video
from videopolicy.errors import BadInput


def shared(rows: list[dict], info: dict) -> bool:
    """Whether any file holds more than one of the episodes."""
    count = Counter(name for row in rows for name in all_files(row, info))
    return any(n > 1 for n in count.values())


def starts(rows: list[dict], key: str) -> list[float | None]:
    """Where each episode begins in its video from the camera `key` [s]; None where the whole video is its own."""
    names = [episode_files(row, key)[1] for row in rows]
    count = Counter(names)
    begins = [_span(row, key, 1)[0] for row in rows]
    return [begin if begin or count[name] > 1 else None for name, begin in zip(names, begins, strict=True)]


def check_span(rows: list[dict], e: int, key: str, fps: int) -> None:
    """`BadInput` where an episode's row does not give it a part of its video, as long as it is and its own."""
    row, video = rows[e], episode_files(rows[e], key)[1]
    begin, end = _span(row, key, fps)
    if abs(end - begin - row["length"] / fps) > EARLY / fps:
        raise BadInput(f"its row says that it has {begin:.3f} to {end:.3f} s of its video, for {row['length']} frames")
    for other, theirs in enumerate(rows):
        if other != e and episode_files(theirs, key)[1] == video:
            first, last = _span(theirs, key, fps)
            if first < end - EARLY / fps and begin < last - EARLY / fps:
                raise BadInput(f"its row says that it has {begin:.3f} to {end:.3f} s of its video, as episode {other}")


def _span(row: dict, key: str, fps: int) -> tuple[float, float]:
    """From when to when an episode is in its video [s]; all of its own where the row does not say."""
    begin = float(row.get(f"videos/{key}/from_timestamp", 0.0))
    return begin, float(row.get(f"videos/{key}/to_timestamp", begin + row["length"] / fps))


def read_pictures(
    path: Path, begin: float | None, n_frames: int, fps: int, chosen: Int[np.ndarray, " chosen"] | None = None
) -> UInt8[np.ndarray, "frame height width 3"]:
    """All pictures, or the chosen ones, of an episode that begins where `starts` says."""
    if begin is None:
        return read_video(path, n_frames, chosen)
    return read_span(path, begin, fps, np.arange(n_frames) if chosen is None else chosen)


class Tables:
    """Reads tables of frames; the last one is kept, as the next episode's is often the same."""

    def __init__(self) -> None:
        self._path: Path | None = None
        self._table: pa.Table | None = None

    def read(self, path: Path) -> pa.Table:
        if path != self._path or self._table is None:
            self._path, self._table = path, read_table(path)
        return self._table
