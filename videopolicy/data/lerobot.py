"""LeRobot datasets, format v3.0, opened for reading. See docs/DATA_FORMAT.md; `recording.py` writes them."""

import copy
import hashlib
import json
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int, UInt8

from videopolicy.camera import Camera
from videopolicy.data import cameras, checksums
from videopolicy.data.files import read_table, reading, sha256
from videopolicy.data.format import (
    EXTRAS,
    MARKERS,
    ROTATION,
    TRACK,
    camera_keys,
    check_row,
    episode_files,
    frames_of,
    read_extras,
    read_info,
    read_values,
    row_files,
)
from videopolicy.data.packing import Places, Tables, read_pictures
from videopolicy.data.selftest import check_recording
from videopolicy.errors import BadInput


class Dataset:
    """A dataset folder opened for reading: tables in memory, frames decoded on demand.

    Opening runs the camera self-test on the stored marker pictures and on the first episode's first frame, and
    raises `BadInput` for what cannot be used, or is not what was recorded. `root` is only read.
    """

    def __init__(self, root: Path) -> None:
        self.root, self.info = root, read_info(root)
        self._sums, self._extra_sums = checksums.read(root)
        self._checked: set[str] = set()
        if self.info["total_episodes"] == 0:
            raise BadInput(f"the dataset {root} is empty: collect or record episodes first")
        self.fps: int = self.info["fps"]
        self.key, *_ = camera_keys(self.info) or [""]
        self.tracked = TRACK in self.info["features"]  # pixels are all that is known: no states, no camera
        self._camera = None if self.tracked else self._read_camera()
        self.rows = self._read_rows()
        self._places = Places(self.rows, self.key, self.fps)
        tables = Tables()
        self._tables = [self._read_table(tables, row) for row in self.rows]
        self._extras = self._read_extras()
        self._cameras: list[Camera] = []
        if not self.tracked and cameras.moving(root / cameras.FILE):
            with reading(root / EXTRAS):
                self._cameras = [Camera.from_json(extra["camera"]) for extra in self._extras if "camera" in extra]
            if len(self._cameras) != len(self):
                raise BadInput(f"{root}/{EXTRAS} has {len(self._cameras)} cameras for {len(self)} episodes")
        self.self_test()

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def camera(self) -> Camera:
        """The dataset's camera; where it moves between episodes, that of the first."""
        if self._camera is None:
            raise self._lacks("a camera")
        return self._camera

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of the pictures."""
        if self._camera is not None:
            return self._camera.size
        height, width, _ = self.info["features"][self.key]["shape"]
        return width, height

    def camera_of(self, episode: int) -> Camera:
        """The camera of an episode: its own where the camera moves between episodes."""
        return self._cameras[episode] if self._cameras else self.camera

    @property
    def moving(self) -> bool:
        """Whether every episode has a camera of its own."""
        return bool(self._cameras)

    def length(self, episode: int) -> int:
        return self.rows[episode]["length"]

    def state(self, episode: int) -> Float[np.ndarray, "frame 4"]:
        if self.tracked:
            raise self._lacks("states")
        return self._tables[episode]["observation.state"]

    def action(self, episode: int) -> Float[np.ndarray, "frame 4"]:
        if self.tracked:
            raise self._lacks("actions")
        return self._tables[episode]["action"]

    def track(self, episode: int) -> Float[np.ndarray, "frame 2"]:
        """Where the tracked point is [pixels], NaN where it is not visible; only of a dataset that is `tracked`."""
        *uv, visible = self._tables[episode][TRACK].T
        return np.where(visible[:, None] > 0.5, np.stack(uv, -1), np.nan)

    def rotation(self, episode: int) -> Float[np.ndarray, "frame 3"] | None:
        """How the hand is turned, as in `videopolicy/rotation.py` [rad], where that was recorded."""
        return self._tables[episode].get(ROTATION)

    def video(self, episode: int) -> Path:
        return self.root / episode_files(self.rows[episode], self.key)[1]

    def start(self, episode: int) -> float | None:
        """Where an episode begins in its video [s]; None where the whole video is its own."""
        return self._places.start(episode)

    def frames(
        self, episode: int, chosen: Int[np.ndarray, " chosen"] | None = None
    ) -> UInt8[np.ndarray, "frame height width 3"]:
        """All of an episode's pictures, or the chosen ones."""
        path = self.video(episode)
        self._check(str(path.relative_to(self.root)))
        with reading(path):
            frames = read_pictures(path, self.start(episode), self.length(episode), self.fps, chosen)
        if (size := frames.shape[2:0:-1]) != self.size:
            raise BadInput(f"episode {episode} of {self.root} has {size} images, its camera {self.size}")
        return frames

    def extras(self) -> list[dict]:
        return copy.deepcopy(self._extras)

    @property
    def digest(self) -> str:
        """What identifies the recorded episodes: their files' sums; where none are kept, of videos their sizes."""
        names = dict.fromkeys(name for row in self.rows for name in episode_files(row, self.key))
        sums = [self._sums.get(name) or self._identity(name) for name in names]
        return hashlib.sha256(json.dumps([self.fps, sums]).encode()).hexdigest()[:16]

    def _identity(self, name: str) -> str:
        path = self.root / name
        with reading(path):
            return str(path.stat().st_size) if path.suffix == ".mp4" else sha256(path)

    @property
    def overlay(self) -> dict | None:
        """What was drawn over the pictures, and how, as `meta/info.json` says it; None for nothing."""
        return self.info.get("overlay")

    def self_test(self) -> None:
        """Check that stored marker pictures, calibration and video agree on what is up and what is left."""
        if self.tracked:
            return
        self._check(MARKERS)
        check_recording(self.root / MARKERS, self.camera, self.frames(0)[0])

    def _lacks(self, what: str) -> BadInput:
        return BadInput(f"{self.root} has tracks of pixels, and not {what}; allowed for it: what learns pixels alone")

    def _read_camera(self) -> Camera:
        self._check(cameras.FILE)
        found = cameras.read_cameras(self.root / cameras.FILE)
        name = self.key.removeprefix("observation.images.")
        if name not in found:
            raise BadInput(f"{self.root}/{cameras.FILE} has no camera {name!r}; it has {sorted(found)}")
        return found[name]

    def _read_rows(self) -> list[dict]:
        """The episodes that info.json counts."""
        rows: list[dict] = []
        n = self.info["total_episodes"]
        for path in row_files(self.root):
            if len(rows) >= n:  # of a crash, before info.json counted it
                break
            self._check(str(path.relative_to(self.root)))
            more = read_table(path).to_pylist()
            with reading(path):
                for e, row in enumerate(more[: n - len(rows)], len(rows)):
                    check_row(row, e, self.info)
            rows += more
        if len(rows) < n:
            raise BadInput(f"{self.root}: info.json counts {n} episodes, the tables {len(rows)}")
        return rows[:n]

    def _read_table(self, tables: Tables, row: dict) -> dict[str, np.ndarray]:
        name, *_ = episode_files(row, self.key)
        path = self.root / name
        self._check(name)
        table = tables.read(path)
        with reading(path):
            return read_values(frames_of(table, row), row, self.info["features"])

    def _read_extras(self) -> list[dict]:
        """What was said of each episode beside its tables; as many as there are, where there are fewer."""
        found = read_extras(self.root)[: len(self)]
        for e, extra in enumerate(found):
            if self._extra_sums.get(e, known := checksums.of_extra(extra)) != known:
                raise BadInput(f"{self.root}/{EXTRAS}: line {e + 1} is not what was recorded: its SHA-256 differs")
        return found

    def _check(self, name: str) -> None:
        """`BadInput` where a file is not what was recorded; each is looked at once."""
        if name not in self._checked:
            checksums.check(self.root, name, self._sums)
            self._checked.add(name)
