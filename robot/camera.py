"""The newest picture of a camera, with the time at which it was taken, read on a thread of its own.

What must not drive an arm is refused: pictures that are old, that hang, or that have another size. Times are
`time.monotonic`'s, which is one for all processes of a machine.
"""

import threading
import time
import zlib
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from videopolicy.errors import BadInput

JOIN = 1.0  # [s] that closing waits for a picture that is on its way
AHEAD = 0.01  # [s] that a picture may be from the future, for clocks that are read one after the other


class CameraError(RuntimeError):
    """Something about a camera that an arm cannot go on without."""


class CameraLost(CameraError):
    """No more pictures: unplugged, or at the end of the file."""


class CameraStale(CameraError):
    """No picture that is new enough."""


class CameraFrozen(CameraError):
    """Pictures come, and are all the same one."""


class Source(Protocol):
    """Where pictures come from. One thread uses it, and closes it."""

    def grab(self) -> tuple[UInt8[np.ndarray, "height width 3"], float]:
        """Wait for the next picture: RGB, and when it was taken [s]; `CameraLost` where there are no more."""
        ...

    def close(self) -> None: ...


@dataclass(frozen=True)
class Frame:
    image: UInt8[np.ndarray, "height width 3"]  # RGB, undistorted
    captured: float  # [s]
    number: int  # from 1


@dataclass(frozen=True)
class Lens:
    """What a lens does to a pinhole camera's pictures; `distortion` is OpenCV's k1, k2, p1, p2, k3."""

    K: Float[np.ndarray, "3 3"]  # pixel centres at .5, as everywhere in this project
    distortion: Float[np.ndarray, " 5"]
    size: tuple[int, int]  # (width, height) [pixels]

    def __post_init__(self) -> None:
        for name, shape in (("K", (3, 3)), ("distortion", (5,))):
            value = getattr(self, name)
            if value.shape != shape or not np.isfinite(value).all():
                raise BadInput(f"lens.{name} is {value.tolist()}; allowed: finite numbers of shape {shape}")

    def undistorted(self, image: UInt8[np.ndarray, "height width 3"]) -> UInt8[np.ndarray, "height width 3"]:
        """What a pinhole camera with the same K sees; black where the picture has nothing to show."""
        if image.shape[1::-1] != self.size:
            raise BadInput(
                f"the picture is {_times(image.shape[1::-1])}; the lens was calibrated at {_times(self.size)}"
            )
        return cv2.remap(image, *self._maps, cv2.INTER_LINEAR) if self.distortion.any() else image

    @cached_property
    def _maps(self) -> tuple[np.ndarray, np.ndarray]:
        K = self.K.copy()
        K[:2, 2] -= 0.5  # OpenCV's first pixel has its centre at 0
        return cv2.initUndistortRectifyMap(K, self.distortion, None, K, self.size, cv2.CV_16SC2)


class LiveCamera:
    """A source's newest picture. Use as a context manager: entering waits `first` seconds for the first one.

    A picture older than `stale` seconds is counted, and said in `warnings` once; older than `lost`, it is refused.
    `frozen`: seconds that pictures may be the same to the byte; a sensor has noise, so then its driver hangs. None, for
    pictures without noise, does not look. `fps`: pictures that a second should have, to count those that are missing.
    """

    def __init__(
        self,
        source: Source,
        size: tuple[int, int],
        lens: Lens | None = None,
        stale: float = 0.2,
        lost: float = 0.5,
        frozen: float | None = 2.0,
        fps: float | None = None,
        first: float = 5.0,
    ) -> None:
        self.size, self.lens, self.stale, self.lost, self.frozen = size, lens, stale, lost, frozen
        self.fps, self.first = fps, first
        self.n_dropped = 0  # that the source should have given, by its times
        self.n_repeated = 0  # that were given again, with a time that had been
        self.n_stale = 0
        self.warnings: list[str] = []
        self._source = source
        self._frame: Frame | None = None
        self._began = self._changed = 0.0  # [s] of the first picture, and of the first that looks like the newest
        self._digest: int | None = None
        self._last_stale = 0
        self._error: Exception | None = None
        self._arrived = threading.Condition()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="camera", daemon=True)
        self._thread.start()

    def __enter__(self) -> "LiveCamera":
        try:
            self.wait(0, self.first)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the thread, which closes the source. One that waits for a driver that hangs is left behind."""
        self._closed.set()
        self._thread.join(JOIN)

    @property
    def n_frames(self) -> int:
        return self._frame.number if self._frame else 0

    @property
    def rate(self) -> float:
        """Mean, pictures a second; 0 before the second one."""
        with self._arrived:
            frame, began = self._frame, self._began
        return (frame.number - 1) / (frame.captured - began) if frame and frame.number > 1 else 0.0

    def newest(self, now: float) -> Frame:
        """The newest picture, at the time `now` [s]; without waiting.

        `CameraStale` and `CameraFrozen` as the class says, until pictures are right again; what ended the source, for
        good.
        """
        with self._arrived:
            if self._error is not None:
                raise self._error
            frame = self._frame
            if frame is None:
                raise CameraStale("no picture yet")
            age, same = now - frame.captured, frame.captured - self._changed
            if age > self.stale and frame.number != self._last_stale:
                self._last_stale = frame.number
                self.n_stale += 1
                if self.n_stale == 1:
                    self.warnings.append(f"a picture was {age:.2f} s old; wanted: {self.stale} at most")
        if age > self.lost:
            raise CameraStale(f"no picture for {age:.2f} s; allowed: {self.lost}")
        if self.frozen is not None and same > self.frozen:
            raise CameraFrozen(
                f"the same picture for {same:.1f} s, to the byte; allowed: {self.frozen}: does the camera hang?"
            )
        return frame

    def wait(self, number: int, timeout: float) -> Frame:
        """The newest picture, once it is newer than the one of a `number`; otherwise as `newest`, at the present."""
        with self._arrived:
            if not self._arrived.wait_for(lambda: self._error is not None or self.n_frames > number, timeout):
                raise CameraStale(f"no new picture within {timeout} s")
        return self.newest(time.monotonic())

    def _run(self) -> None:
        try:
            while not self._closed.is_set():
                self._take(*self._source.grab())
        except Exception as error:  # whatever it is, it is the caller's to see
            with self._arrived:
                self._error = error
                self._arrived.notify_all()
        finally:
            self._source.close()

    def _take(self, image: np.ndarray, captured: float) -> None:
        if image.shape[1::-1] != self.size:
            raise CameraError(f"the camera's picture is {_times(image.shape[1::-1])}; allowed: {_times(self.size)}")
        if (ahead := captured - time.monotonic()) > AHEAD:  # it would never be old
            raise CameraError(f"a picture is from {ahead:.2f} s in the future: is its time another clock's?")
        last, digest = self._frame, zlib.crc32(np.ascontiguousarray(image).data)
        if last and captured <= last.captured:
            self.n_repeated += 1
            return
        if self.lens is not None:
            image = self.lens.undistorted(image)
        with self._arrived:
            if last is None:
                self._began = captured
            elif self.fps is not None:
                self.n_dropped += max(0, round((captured - last.captured) * self.fps) - 1)
            if digest != self._digest:
                self._digest, self._changed = digest, captured
            self._frame = Frame(image, captured, last.number + 1 if last else 1)
            self._arrived.notify_all()


def _times(size: tuple[int, ...]) -> str:
    return " x ".join(map(str, size))
