"""Where a camera's pictures come from: a device, a video file, or the simulated twin."""

import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import cv2
import numpy as np
from jaxtyping import UInt8

from robot.camera import CameraLost, Lens, LiveCamera, Source
from robot.clock import MonotonicClock
from robot.twin.frames import FrameReader
from videopolicy.errors import BadInput, choices

SourceKind = Literal["device", "video", "twin"]
BY_HAND = 1  # of V4L2's modes of exposure
EXPOSURE = 1e-4  # [s] of V4L2's unit of exposure
POLL = 0.002  # [s] between looks for the twin's next picture


@dataclass(frozen=True)
class CameraConfig:
    """A source, what its pictures are like, and how old they may be."""

    source: SourceKind = "device"
    path: str = "/dev/video0"  # a device or its number, a video file, or the file that the twin writes
    width: int = 640  # [pixels]
    height: int = 480
    fps: float = 30.0
    exposure: float | None = None  # [s] of a device, locked; None: as it is, which mostly means automatic
    loop: bool = False  # a video file
    stale: float = 0.2  # [s] old: a warning
    lost: float = 0.5  # [s] old: refused
    frozen: float | None = 2.0  # [s] of the same picture; None: not looked at, for pictures without a sensor's noise

    def __post_init__(self) -> None:
        if self.source not in get_args(SourceKind):
            raise choices("camera.source", self.source, get_args(SourceKind))
        if not self.path:
            raise BadInput("camera.path is empty; allowed: a device or its number, or a file")
        for name in ("width", "height"):
            if not 16 <= getattr(self, name) <= 4096:
                raise BadInput(f"camera.{name} is {getattr(self, name)}; allowed: 16 to 4096 pixels")
        if not 1 <= self.fps <= 240:
            raise BadInput(f"camera.fps is {self.fps}; allowed: 1 to 240")
        if self.exposure is not None and not EXPOSURE <= self.exposure <= 1 / self.fps:
            raise BadInput(f"camera.exposure is {self.exposure}; allowed: null, or {EXPOSURE} s to 1 / fps")
        if self.exposure is not None and self.source != "device":
            raise BadInput(f"camera.exposure is {self.exposure} of source {self.source}; allowed: null")
        if self.loop and self.source != "video":
            raise BadInput(f"camera.loop is true of source {self.source}; allowed: false")
        if not 1 / self.fps < self.stale <= self.lost <= 5:
            raise BadInput(
                f"camera.stale and lost are {self.stale} and {self.lost}; allowed: above 1 / fps, in this order, to 5 s"
            )
        if self.frozen is not None and not self.frozen >= self.lost:
            raise BadInput(f"camera.frozen is {self.frozen}; allowed: null, or from camera.lost ({self.lost} s) on")


def open_source(cfg: CameraConfig) -> Source:
    if cfg.source == "video":
        return VideoFile(Path(cfg.path), cfg.loop)
    if cfg.source == "twin":
        return TwinFrames(Path(cfg.path))
    return Device(cfg.path, (cfg.width, cfg.height), cfg.fps, cfg.exposure)


def open_camera(cfg: CameraConfig, lens: Lens | None = None) -> LiveCamera:
    """Use as a context manager."""
    size = (cfg.width, cfg.height)
    return LiveCamera(open_source(cfg), size, lens, cfg.stale, cfg.lost, cfg.frozen, cfg.fps)


class Capture:
    """What OpenCV opened; `ended` says what it means when there are no more pictures."""

    def __init__(self, capture: cv2.VideoCapture, ended: str) -> None:
        self._capture, self._ended = capture, ended

    def grab(self) -> tuple[UInt8[np.ndarray, "height width 3"], float]:
        """The next picture, RGB, and when it came [s]. One that does not decode is passed over."""
        while self._capture.grab():
            captured = time.monotonic()
            whole, image = self._capture.retrieve()
            if whole:
                return cv2.cvtColor(image, cv2.COLOR_BGR2RGB), captured
        raise CameraLost(self._ended)

    def close(self) -> None:
        self._capture.release()


class Device(Capture):
    """A camera, by its number or its path, set up and compared with what was wanted."""

    def __init__(self, device: str, size: tuple[int, int], fps: float, exposure: float | None = None) -> None:
        """`exposure` [s] is locked; None leaves it. `BadInput` for a camera that gives another size (width, height)."""
        path = Path(f"/dev/video{device}" if device.isdigit() else device)
        if not path.exists():
            found = ", ".join(map(str, sorted(Path("/dev").glob("video*")))) or "none"
            raise BadInput(f"no camera {path}; there are: {found}")
        # Left to itself, OpenCV first tries to read a device as a video file.
        capture = cv2.VideoCapture(str(path), cv2.CAP_V4L2 if path.is_char_device() else cv2.CAP_ANY)
        if not capture.isOpened():
            raise BadInput(f"cannot open the camera {path}: does another program use it? Are you in the group video?")
        super().__init__(capture, f"the camera {path} gives no more pictures: is it plugged in?")
        try:
            self._set_up(path, size, fps, exposure)
        except BadInput:
            self.close()
            raise

    def _set_up(self, path: Path, size: tuple[int, int], fps: float, exposure: float | None) -> None:
        capture = self._capture
        capture.set(cv2.CAP_PROP_FRAME_WIDTH, size[0])
        capture.set(cv2.CAP_PROP_FRAME_HEIGHT, size[1])
        capture.set(cv2.CAP_PROP_FPS, fps)
        capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)  # what waits in a buffer is old
        given = int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)), int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
        if given != size:
            raise BadInput(f"the camera {path} gives {given[0]} x {given[1]}; wanted: {size[0]} x {size[1]}")
        if exposure is not None:
            by_hand = capture.set(cv2.CAP_PROP_AUTO_EXPOSURE, BY_HAND)
            if not (by_hand and capture.set(cv2.CAP_PROP_EXPOSURE, round(exposure / EXPOSURE))):
                raise BadInput(f"the camera {path} does not let its exposure be set to {exposure} s; allowed: null")
        rate = capture.get(cv2.CAP_PROP_FPS)
        if abs(rate - fps) > 0.05 * fps:
            warnings.warn(f"the camera {path} gives {rate:g} pictures a second, not {fps:g}", stacklevel=3)


class VideoFile(Capture):
    """A file, played at its own rate; from the start again with `loop`."""

    def __init__(self, path: Path, loop: bool = False) -> None:
        if not path.is_file():
            raise BadInput(f"no video {path}")
        capture = cv2.VideoCapture(str(path))
        self.fps = capture.get(cv2.CAP_PROP_FPS)
        if not (capture.isOpened() and self.fps > 0):
            raise BadInput(f"cannot read the video {path}")
        super().__init__(capture, f"the video {path} has ended")
        self._loop, self._clock = loop, MonotonicClock()
        self._begun: float | None = None
        self._n = 0

    def grab(self) -> tuple[UInt8[np.ndarray, "height width 3"], float]:
        if self._begun is None:
            self._begun = self._clock.now()
        self._clock.sleep_until(self._begun + self._n / self.fps)
        self._n += 1
        try:
            return super().grab()
        except CameraLost:
            if not self._loop:
                raise
            self._capture.set(cv2.CAP_PROP_POS_FRAMES, 0)
            return super().grab()


class TwinFrames:
    """What the simulated twin sees, from the file that its process writes."""

    def __init__(self, path: Path, patience: float = 1.0) -> None:
        """`patience` [s] without a new picture, after which the twin counts as gone."""
        if not path.exists():
            raise BadInput(f"no pictures of a twin at {path}: is it running?")
        self.path, self.patience = path, patience
        self._reader = FrameReader(path)
        self._number = 0

    def grab(self) -> tuple[UInt8[np.ndarray, "height width 3"], float]:
        end = time.monotonic() + self.patience
        while time.monotonic() < end:
            if not self.path.exists():
                raise CameraLost(f"{self.path} is gone: the twin has ended")
            found = self._reader.newest() if self._reader.number != self._number else None
            if found is not None:
                self._number = found[0]
                return found[2], found[1]
            time.sleep(POLL)
        raise CameraLost(f"no new picture in {self.path} for {self.patience} s: has the twin ended?")

    def close(self) -> None:
        self._reader.close()
