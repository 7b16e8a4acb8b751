"""Every picture that a policy is asked about, with what it was told beside it and what it said.

pictures/000000.jpg     the picture
pictures/000000.png     heatmaps, one step's below the other, of a head that has them
pictures/000000.json    all the rest; it is written last and names the others' sums, so it decides what exists
"""

import json
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from einops import rearrange
from PIL import Image

from robot.messages import chunk_from_json, chunk_to_json, observation_from_json, observation_to_json
from videopolicy.data import files as whole
from videopolicy.data.files import make_folder, read_json, reading, sha256
from videopolicy.errors import BadInput
from videopolicy.types import ActionChunk, Observation

FOLDER = "pictures"
WAITING = 8  # pictures in memory that the disk may be behind
QUALITY = 90  # of JPEGs


@dataclass(frozen=True)
class Look:
    """One picture that a policy was asked about. Times are those of the telemetry's `now`."""

    observation: Observation
    chunk: ActionChunk  # as the policy said it, in the observation's world frame
    captured: float  # [s]
    came: float  # [s] when the chunk had come
    table: float  # [m] of the world's origin above the arm's base


class Pictures:
    """Writes beside the telemetry of a folder; pictures of an earlier run there stay. Use as a context manager.

    Files are made and written on a thread of their own. What goes wrong there first is raised by the next `add`, or at
    the end, once.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder / FOLDER
        make_folder(self.folder)
        self.n = len(files(folder))
        self._thread = ThreadPoolExecutor(1, "pictures")
        self._writing: deque[Future[None]] = deque()

    def __enter__(self) -> "Pictures":
        return self

    def __exit__(self, *_: object) -> None:
        try:
            for one in self._writing:
                one.result()
        finally:
            self._thread.shutdown()

    def add(self, look: Look) -> None:
        """Never waits. `BadInput` where an earlier one could not be written, or the disk is too slow."""
        try:
            while self._writing and self._writing[0].done():
                self._writing.popleft().result()
        except BadInput:
            self._writing.clear()
            raise
        if len(self._writing) >= WAITING:
            raise BadInput(f"{WAITING} pictures wait to be written to {self.folder}: is the disk too slow?")
        self._writing.append(self._thread.submit(_write, self.folder / f"{self.n:06d}.json", look))
        self.n += 1


def files(folder: Path) -> list[Path]:
    """Of all pictures beside a folder's telemetry, in order, for `read`."""
    return sorted((folder / FOLDER).glob("*.json"))


def read(path: Path) -> Look:
    """One of `files`; `BadInput` where it, or what lies beside it, is missing or not as it was written."""
    entry = read_json(path)
    with reading(path):
        sums = entry["jpg"], entry["png"]
    image = _pixels(path.with_suffix(".jpg"), sums[0])
    maps = None if sums[1] is None else _pixels(path.with_suffix(".png"), sums[1])
    with reading(path):
        observation = observation_from_json(entry["observation"], image.ravel())
        chunk = chunk_from_json(entry["chunk"])
        if maps is not None:
            chunk = replace(chunk, heatmaps=rearrange(maps, "(n h) w -> n h w", n=len(chunk.gripper)))
        times = float(entry["captured"]), float(entry["came"])
        return Look(observation, chunk, *times, float(entry["table"]))


def _write(path: Path, look: Look) -> None:
    picture, maps = path.with_suffix(".jpg"), path.with_suffix(".png")
    image = Image.fromarray(look.observation.image)
    whole.replace(picture, lambda to: image.save(to, "JPEG", quality=QUALITY))
    if look.chunk.heatmaps is not None:
        below = Image.fromarray(rearrange(look.chunk.heatmaps, "n h w -> (n h) w"))
        whole.replace(maps, lambda to: below.save(to, "PNG"))
    entry: dict[str, Any] = {
        "captured": look.captured,
        "came": look.came,
        "table": look.table,
        "observation": observation_to_json(look.observation),
        "chunk": chunk_to_json(replace(look.chunk, heatmaps=None)),
        "jpg": sha256(picture),
        "png": None if look.chunk.heatmaps is None else sha256(maps),
    }
    whole.replace(path, lambda to: to.write_text(json.dumps(entry)))


def _pixels(path: Path, expected: str) -> np.ndarray:
    with reading(path):
        if sha256(path) != expected:
            raise BadInput("it is not as it was written")
        return np.asarray(Image.open(path))
