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


class Places:
    """Which table of frames and which part of which video from the camera `key` are each episode's."""

    def __init__(self, rows: list[dict], key: str, fps: int) -> None:
        self.rows, self.fps = rows, fps
        self.in_file: dict[str, list[int]] = {}  # episodes of a table or a video
        self.videos: list[str] = []
        self.spans: list[tuple[float, float]] = []  # from when to when in the video [s]; all of it if no row says
        for e, row in enumerate(rows):
            table, video, _ = episode_files(row, key)
            for name in (table, video):
                self.in_file.setdefault(name, []).append(e)
            begin = float(row.get(f"videos/{key}/from_timestamp", 0.0))
            self.videos.append(video)
            self.spans.append((begin, float(row.get(f"videos/{key}/to_timestamp", begin + row["length"] / fps))))

    def start(self, episode: int) -> float | None:
        """Where it begins in its video [s]; None where the whole video is its own."""
        begin, alone = self.spans[episode][0], len(self.in_file[self.videos[episode]]) == 1
        return None if alone and begin == 0 else begin

    def check(self, episode: int) -> None:
        """`BadInput` where its row does not give it a part of its video, as long as it is and its own."""
        (begin, end), n, tolerance = self.spans[episode], self.rows[episode]["length"], EARLY / self.fps
        claim = f"its row says that it has {begin:.3f} to {end:.3f} s of its video"
        if abs(end - begin - n / self.fps) > tolerance:
            raise BadInput(f"{claim}, for {n} frames")
        for other in self.in_file[self.videos[episode]]:
            first, last = self.spans[other]
            if other != episode and first < end - tolerance and begin < last - tolerance:
                raise BadInput(f"{claim}, as episode {other}")


def read_pictures(
    path: Path, begin: float | None, n_frames: int, fps: int, chosen: Int[np.ndarray, " chosen"] | None = None
) -> UInt8[np.ndarray, "frame height width 3"]:
    """All pictures, or the chosen ones, of an episode that begins where `Places.start` says."""
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
