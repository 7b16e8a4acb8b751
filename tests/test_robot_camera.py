"""The newest picture of a camera: one that is old, hangs or differs is refused; a lens is made up for."""

import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import cv2
import numpy as np
import pytest

from robot.camera import CameraError, CameraFrozen, CameraLost, CameraStale, Lens, LiveCamera
from videopolicy.camera import Camera
from videopolicy.errors import BadInput

SIZE = (64, 48)
LENS = Lens(np.array([[70.0, 0, 33.0], [0, 72.0, 22.0], [0, 0, 1]]), np.array([-0.35, 0.12, 0.004, -0.003, 0.0]), SIZE)


class Scripted:
    """Hardware whose pictures, and faults, the test gives."""

    def __init__(self) -> None:
        self.waiting: queue.Queue = queue.Queue()
        self.closed = False

    def give(self, image: np.ndarray, captured: float) -> None:
        self.waiting.put((image, captured))

    def fail(self, error: Exception) -> None:
        self.waiting.put(error)

    def grab(self) -> tuple[np.ndarray, float]:
        found = self.waiting.get()
        if isinstance(found, Exception):
            raise found
        return found

    def close(self) -> None:
        self.closed = True


@contextmanager
def live(source: Scripted, **keys: Any) -> Iterator[LiveCamera]:
    """A camera that nobody waits for, so that what it says depends on the script's times alone."""
    camera = LiveCamera(source, SIZE, **keys)
    try:
        yield camera
    finally:
        source.fail(CameraLost("the script has ended"))
        camera.close()
        assert source.closed


def wait_until(done: Callable[[], bool]) -> None:
    end = time.monotonic() + 5
    while not done():
        assert time.monotonic() < end
        time.sleep(0.001)


def picture(level: int = 100) -> np.ndarray:
    return np.full((SIZE[1], SIZE[0], 3), level, np.uint8)


def test_waiting_ends_in_time() -> None:
    source = Scripted()
    with live(source, lost=1000) as camera:
        with pytest.raises(CameraStale, match="no picture yet"):
            camera.newest(time.monotonic())
        source.give(picture(), time.monotonic())
        assert camera.wait(0, 5.0).number == 1
        with pytest.raises(CameraStale, match=r"no new picture within 0\.05 s"):
            camera.wait(1, 0.05)


def test_a_camera_that_gives_nothing_is_not_entered() -> None:
    source = Scripted()
    camera = LiveCamera(source, SIZE, first=0.05)
    begun = time.monotonic()
    with pytest.raises(CameraStale, match=r"no new picture within 0\.05 s"):
        camera.__enter__()  # it waits a second for the thread that its driver holds
    assert time.monotonic() - begun < 3
    source.give(picture(), time.monotonic())  # its thread ends with what comes after all
    wait_until(lambda: source.closed)


def test_an_old_picture_is_said_once_then_refused() -> None:
    source, t = Scripted(), time.monotonic()
    with live(source) as camera:
        source.give(picture(), t)
        wait_until(lambda: camera.n_frames == 1)
        assert camera.newest(t + 0.19).captured == t
        assert (camera.n_stale, camera.warnings) == (0, [])
        for _ in range(2):
            assert camera.newest(t + 0.3).number == 1
        with pytest.raises(CameraStale, match=r"^no picture for 0\.62 s; allowed: 0\.5$"):
            camera.newest(t + 0.62)
        assert camera.n_stale == 1
        wait_until(lambda: time.monotonic() > t + 0.1)
        source.give(picture(101), t + 0.1)
        wait_until(lambda: camera.n_frames == 2)
        assert camera.newest(t + 0.55).number == 2  # right again
        assert camera.n_stale == 2
        assert camera.warnings == ["a picture was 0.30 s old; wanted: 0.2 at most"]


def test_a_time_that_stands_still_is_no_new_picture() -> None:
    source, t = Scripted(), time.monotonic()
    with live(source) as camera:
        for level in range(5):
            source.give(picture(level), t)
        wait_until(lambda: camera.n_repeated == 4)
        assert camera.n_frames == 1
        with pytest.raises(CameraStale, match=r"no picture for 0\.60 s"):
            camera.newest(t + 0.6)


def test_what_is_missing_is_counted() -> None:
    source, t = Scripted(), time.monotonic() - 10
    with live(source, fps=10) as camera:
        for i in (0, 1.1, 2, 5, 5.9, 7):  # two are missing before the fifth, none elsewhere
            source.give(picture(), t + i / 10)
        wait_until(lambda: camera.n_frames == 6)
        assert camera.n_dropped == 2
        assert camera.rate == pytest.approx(5 / 0.7)


def test_a_picture_that_never_changes_is_a_hung_driver() -> None:
    source, t = Scripted(), time.monotonic() - 100
    with live(source, stale=1000, lost=1000) as camera:
        for i in range(20):
            source.give(picture(), t + i / 10)
        wait_until(lambda: camera.n_frames == 20)
        assert camera.newest(t + 1.9).number == 20
        source.give(picture(), t + 2.1)
        wait_until(lambda: camera.n_frames == 21)
        with pytest.raises(CameraFrozen, match=r"same picture for 2\.1 s, to the byte; allowed: 2\.0"):
            camera.newest(t + 2.1)
        noisy = picture()
        noisy[17, 5, 1] += 1  # one bit of noise
        source.give(noisy, t + 2.2)
        wait_until(lambda: camera.n_frames == 22)
        assert camera.newest(t + 2.2).number == 22


def test_pictures_without_noise_may_stay_the_same() -> None:
    source, t = Scripted(), time.monotonic() - 100
    with live(source, stale=1000, lost=1000, frozen=None) as camera:
        for i in range(100):
            source.give(picture(), t + i)
        wait_until(lambda: camera.n_frames == 100)
        assert camera.newest(t + 99).number == 100


@pytest.mark.parametrize(
    ("size", "ahead", "words"),
    [((80, 48), 0.0, r"picture is 80 x 48; allowed: 64 x 48"), (SIZE, 60.0, r"from (60|59)\.\d\d s in the future")],
)
def test_a_picture_that_cannot_be_right_ends_it(size: tuple[int, int], ahead: float, words: str) -> None:
    source = Scripted()
    with live(source) as camera:
        source.give(np.zeros((size[1], size[0], 3), np.uint8), time.monotonic() + ahead)
        for _ in range(2):
            with pytest.raises(CameraError, match=words):
                camera.wait(0, 5.0)


def test_whatever_the_thread_dies_of_reaches_the_caller() -> None:
    """Also one who waits, and at once."""
    source, begun = Scripted(), time.monotonic()
    with live(source) as camera:
        threading.Timer(0.05, source.fail, [ZeroDivisionError("a driver's fault")]).start()
        with pytest.raises(ZeroDivisionError, match="a driver's fault"):
            camera.wait(0, 30.0)
        assert time.monotonic() - begun < 10
        with pytest.raises(ZeroDivisionError, match="a driver's fault"):
            camera.newest(time.monotonic())


def test_undistorted_is_what_opencv_says() -> None:
    """With the project's K, whose pixel centres are half a pixel further."""
    image = np.random.default_rng(0).integers(0, 255, (SIZE[1], SIZE[0], 3), np.uint8)
    K = LENS.K - np.array([[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]])
    np.testing.assert_array_equal(LENS.undistorted(image), cv2.undistort(image, K, LENS.distortion))
    source = Scripted()
    with live(source, lens=LENS, lost=1000) as camera:
        source.give(image, time.monotonic())
        np.testing.assert_array_equal(camera.wait(0, 5.0).image, LENS.undistorted(image))
    straight = Lens(LENS.K, np.zeros(5), SIZE)
    assert straight.undistorted(image) is image


@pytest.mark.parametrize("point", [(0.3, 0.2, 1.0), (-0.35, 0.1, 1.0), (0.05, -0.2, 1.0)])
def test_a_point_is_where_the_camera_projects_it(point: tuple[float, float, float]) -> None:
    K = LENS.K - np.array([[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]])
    u, v = cv2.projectPoints(np.array([point]), np.zeros(3), np.zeros(3), K, LENS.distortion)[0].ravel()
    columns, rows = np.meshgrid(np.arange(SIZE[0]), np.arange(SIZE[1]))
    blob = 250 * np.exp(-((columns - u) ** 2 + (rows - v) ** 2) / (2 * 1.5**2))
    seen = LENS.undistorted(np.repeat(blob[..., None], 3, -1).round().astype(np.uint8))[..., 0].astype(float)
    centre = np.array([((columns + 0.5) * seen).sum(), ((rows + 0.5) * seen).sum()]) / seen.sum()
    np.testing.assert_allclose(centre, Camera(LENS.K, np.eye(4), SIZE).project(np.array(point)), atol=0.15)


def test_a_lens_of_another_picture_is_refused() -> None:
    with pytest.raises(BadInput, match="picture is 32 x 24; the lens was calibrated at 64 x 48"):
        LENS.undistorted(np.zeros((24, 32, 3), np.uint8))
    with pytest.raises(BadInput, match=r"lens\.K is .*; allowed: finite numbers of shape \(3, 3\)"):
        Lens(np.full((3, 3), np.nan), np.zeros(5), SIZE)
    with pytest.raises(BadInput, match=r"lens\.distortion is .*shape \(5,\)"):
        Lens(np.eye(3), np.zeros(4), SIZE)
