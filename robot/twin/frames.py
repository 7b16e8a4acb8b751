"""The newest picture of a camera, from one process to another: a file that both map.

Numbers of a header, then the pixels. `version` is odd while a picture is being written: a reader that saw one change
reads again.
"""

import mmap
import struct
import time
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from videopolicy.data.files import replace
from videopolicy.errors import BadInput

MAGIC = b"PICTURES"
HEADER = struct.Struct("<8sQQdII")  # magic, version, number, captured [s], width, height
N_TRIES = 200


class FrameWriter:
    """Makes the file, or makes it anew."""

    def __init__(self, path: Path, size: tuple[int, int]) -> None:
        """`size`: (width, height)."""
        self.size, self._version, self.number = size, 0, 0
        n_bytes = HEADER.size + size[0] * size[1] * 3
        replace(path, lambda temporary: temporary.write_bytes(bytes(n_bytes)))
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), n_bytes)
        self._pixels = np.frombuffer(self._map, np.uint8, offset=HEADER.size).reshape(size[1], size[0], 3)
        self._write_header(0.0)

    def write(self, image: UInt8[np.ndarray, "height width 3"], captured: float) -> int:
        """Its number."""
        self.number += 1
        self._version += 1
        self._write_header(captured)
        self._pixels[:] = image
        self._version += 1
        self._write_header(captured)
        return self.number

    def close(self) -> None:
        del self._pixels
        self._map.close()

    def _write_header(self, captured: float) -> None:
        self._map[: HEADER.size] = HEADER.pack(MAGIC, self._version, self.number, captured, *self.size)


class FrameReader:
    """`BadInput` for a file that no `FrameWriter` made; `FileNotFoundError` where there is none."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with path.open("rb") as file:
            try:
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
                magic, *_, width, height = HEADER.unpack(self._map[: HEADER.size])
            except (ValueError, struct.error) as error:
                raise BadInput(f"{path} holds no pictures: {error}") from error
        if magic != MAGIC or len(self._map) != HEADER.size + width * height * 3:
            raise BadInput(f"{path} holds no pictures")
        self._shape = (height, width, 3)

    @property
    def number(self) -> int:
        """Of the newest picture, 0 for none: cheaper than the picture."""
        return int(HEADER.unpack(self._map[: HEADER.size])[2])

    def newest(self) -> tuple[int, float, UInt8[np.ndarray, "height width 3"]] | None:
        """Number, time of capture [s] and a copy of the newest picture; None where there is none yet."""
        for _ in range(N_TRIES):
            _, before, number, captured, _, _ = HEADER.unpack(self._map[: HEADER.size])
            if number == 0:
                return None
            if before % 2 == 0:
                image = np.frombuffer(self._map, np.uint8, offset=HEADER.size).reshape(self._shape).copy()
                if HEADER.unpack(self._map[: HEADER.size])[1] == before:
                    return number, captured, image
            time.sleep(0.001)
        return None

    def close(self) -> None:
        self._map.close()
