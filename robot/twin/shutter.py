"""When pictures are taken, and what can befall a camera."""

from pathlib import Path

import numpy as np

from robot.twin.frames import FrameWriter
from robot.twin.world import World
from videopolicy.errors import BadInput

STATES = ("running", "frozen", "stale", "unplugged")


class Shutter:
    """Writes pictures of a world into the file `path`."""

    def __init__(self, world: World, path: Path, size: tuple[int, int]) -> None:
        self.world, self.path, self.size = world, path, size
        self.state = "running"
        self._frames: FrameWriter | None = FrameWriter(path, size)
        self._last: np.ndarray | None = None

    def take(self, now: float) -> int:
        """Take the picture of this moment; its number, 0 where the camera gives none."""
        if self._frames is None or self.state == "stale":
            return 0
        if self._last is None or self.state == "running":
            self._last = self.world.picture()
        return self._frames.write(self._last, now)

    def befall(self, state: str) -> None:
        """`frozen` gives the same picture again and again, `stale` none, `unplugged` no camera at all."""
        if state not in STATES:
            raise BadInput(f"the camera is to be {state!r}; allowed: {', '.join(STATES)}")
        if state == "unplugged":
            self.close()
            self.path.unlink(missing_ok=True)
        elif self._frames is None:
            self._frames = FrameWriter(self.path, self.size)
        self.state = state

    def close(self) -> None:
        if self._frames is not None:
            self._frames.close()
            self._frames = None
