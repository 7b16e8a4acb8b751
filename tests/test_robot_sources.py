"""Pictures come in order and in time from a file, a device and the twin, and their ends have names."""

import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from robot.camera import CameraLost, Lens, LiveCamera
from robot.sources import CameraConfig, Device, TwinFrames, VideoFile, open_camera, open_source
from robot.twin.frames import FrameWriter
from videopolicy.data.video import write_video
from videopolicy.errors import BadInput

SIZE = (64, 48)
STEP = 20  # between the red of a picture and of the next


def picture(level: int) -> np.ndarray:
    return np.full((SIZE[1], SIZE[0], 3), level, np.uint8)


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """Ten pictures at 25 a second, red, each STEP redder than the one before."""
    frames = np.zeros((10, SIZE[1], SIZE[0], 3), np.uint8)
    frames[..., 0] = STEP * np.arange(1, 11)[:, None, None]
    write_video(tmp_path / "red.mp4", frames, 25)
    return tmp_path / "red.mp4"


def shown(image: np.ndarray) -> int:
    """Which picture of `video` it is."""
    red, green, blue = image.reshape(-1, 3).mean(0)
    assert max(green, blue) < 10
    return round(red / STEP) - 1


def test_a_file_plays_in_order_at_its_own_rate(video: Path) -> None:
    source, begun = VideoFile(video), time.monotonic()
    grabbed = [source.grab() for _ in range(10)]
    assert [shown(image) for image, _ in grabbed] == list(range(10))
    times = np.array([captured for _, captured in grabbed]) - begun
    assert (np.diff(times) > 0).all()
    assert (times >= np.arange(10) / 25).all()
    assert times[-1] == pytest.approx(9 / 25, abs=0.3)  # how late, is the machine's load
    with pytest.raises(CameraLost, match=r"red\.mp4 has ended"):
        source.grab()
    source.close()


def test_a_file_begins_anew(video: Path) -> None:
    source = VideoFile(video, loop=True)
    assert [shown(source.grab()[0]) for _ in range(13)] == [*range(10), 0, 1, 2]
    source.close()


def test_what_cannot_be_opened_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"no video .*gone\.mp4"):
        VideoFile(tmp_path / "gone.mp4")
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(BadInput, match=r"cannot read the video .*text\.mp4"):
        VideoFile(tmp_path / "text.mp4")
    with pytest.raises(BadInput, match="no camera /dev/video97; there are: "):
        Device("97", SIZE, 30)
    with pytest.raises(BadInput, match="no camera /dev/nothing; there are: "):
        Device("/dev/nothing", SIZE, 30)
    with pytest.raises(BadInput, match=r"cannot open the camera .*text\.mp4"):
        Device(str(tmp_path / "text.mp4"), SIZE, 30)
    with pytest.raises(BadInput, match=r"no pictures of a twin at .*gone"):
        TwinFrames(tmp_path / "gone")


def test_a_device_gives_what_was_wanted_or_says_so(video: Path) -> None:
    """A file stands for it: its size, rate and exposure are not to be had otherwise either."""
    source = Device(str(video), SIZE, 25)
    before = time.monotonic()
    image, captured = source.grab()
    assert shown(image) == 0
    assert before <= captured <= time.monotonic()
    for _ in range(9):
        source.grab()
    with pytest.raises(CameraLost, match=r"red\.mp4 gives no more pictures: is it plugged in"):
        source.grab()
    source.close()
    with pytest.raises(BadInput, match=r"red\.mp4 gives 64 x 48; wanted: 640 x 480"):
        Device(str(video), (640, 480), 25)
    with pytest.warns(UserWarning, match=r"red\.mp4 gives 25 pictures a second, not 30"):
        Device(str(video), SIZE, 30).close()
    with pytest.raises(BadInput, match=r"red\.mp4 does not let its exposure be set to 0\.01 s"):
        Device(str(video), SIZE, 25, exposure=0.01)


def test_the_newest_picture_is_the_newest(video: Path) -> None:
    with LiveCamera(VideoFile(video, loop=True), SIZE, lost=10, fps=25) as camera:
        frames = [camera.newest(time.monotonic())]
        while frames[-1].number < 25:
            frames.append(camera.wait(frames[-1].number, 5.0))
            assert camera.newest(time.monotonic()).number >= frames[-1].number
        assert all(b.number > a.number and b.captured > a.captured for a, b in pairwise(frames))
        assert [shown(frame.image) for frame in frames] == [(frame.number - 1) % 10 for frame in frames]
        assert camera.n_frames >= 25
        assert camera.rate == pytest.approx(25, rel=0.3)


def test_the_end_of_a_file_is_the_callers_to_see(video: Path) -> None:
    with LiveCamera(VideoFile(video), SIZE, lost=10) as camera:
        with pytest.raises(CameraLost, match=r"red\.mp4 has ended"):
            camera.wait(10, 5.0)
        assert camera.n_frames == 10
        with pytest.raises(CameraLost, match=r"red\.mp4 has ended"):
            camera.newest(time.monotonic())


def test_closing_is_quick(video: Path) -> None:
    camera = LiveCamera(VideoFile(video, loop=True), SIZE)
    camera.wait(0, 5.0)
    begun = time.monotonic()
    camera.close()
    assert time.monotonic() - begun < 0.9
    assert not camera._thread.is_alive()
    camera.close()


def test_the_twin_is_seen_until_it_ends(tmp_path: Path) -> None:
    path = tmp_path / "frames"
    writer = FrameWriter(path, SIZE)
    source = TwinFrames(path, patience=0.1)
    with pytest.raises(CameraLost, match=r"no new picture in .*frames for 0\.1 s"):
        source.grab()
    for level in (7, 9):
        writer.write(picture(level), level + 0.5)
        image, captured = source.grab()
        assert captured == level + 0.5
        np.testing.assert_array_equal(image, picture(level))
    with pytest.raises(CameraLost, match="has the twin ended"):  # the one it had is not new
        source.grab()
    path.unlink()
    with pytest.raises(CameraLost, match="frames is gone: the twin has ended"):
        source.grab()
    source.close()
    writer.close()


def test_a_configuration_opens_its_source(tmp_path: Path, video: Path) -> None:
    writer = FrameWriter(tmp_path / "frames", SIZE)
    writer.write(picture(7), time.monotonic())
    twin = CameraConfig("twin", str(tmp_path / "frames"), *SIZE, lost=5.0, frozen=None)
    with open_camera(twin) as camera:
        np.testing.assert_array_equal(camera.newest(time.monotonic()).image, picture(7))
        assert (camera.stale, camera.lost, camera.frozen, camera.fps) == (0.2, 5.0, None, 30.0)
    writer.close()
    lens = Lens(np.array([[70.0, 0, 33.0], [0, 72.0, 22.0], [0, 0, 1]]), np.array([0.3, 0, 0, 0, 0]), SIZE)
    with open_camera(CameraConfig("video", str(video), *SIZE, loop=True, lost=5.0, frozen=7.0), lens) as camera:
        assert camera.frozen == 7.0
        image = camera.wait(12, 5.0).image  # of ten
        assert image[24, 32, 0] > 10
        assert image[0, 0, 0] == 0  # the lens saw less than a pinhole would
    device = open_source(CameraConfig("device", str(video), *SIZE, fps=25))
    assert isinstance(device, Device)
    device.close()
    with pytest.raises(BadInput, match="gives 64 x 48; wanted: 640 x 480"):
        open_source(CameraConfig("device", str(video), fps=25))


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"source": "webcam"}, "camera.source is 'webcam'; allowed: 'device', 'video', 'twin'"),
        ({"path": ""}, "camera.path is empty"),
        ({"width": 0}, "camera.width is 0; allowed: 16 to 4096"),
        ({"height": 5000}, "camera.height is 5000"),
        ({"fps": float("nan")}, "camera.fps is nan; allowed: 1 to 240"),
        ({"exposure": 0.04}, "camera.exposure is 0.04; allowed: null, or 0.0001 s to 1 / fps"),
        ({"exposure": 0.01, "source": "twin"}, "camera.exposure is 0.01 of source twin; allowed: null"),
        ({"loop": True}, "camera.loop is true of source device"),
        ({"stale": 0.03}, "camera.stale and lost are 0.03 and 0.5; allowed: above 1 / fps"),
        ({"lost": 0.1}, "camera.stale and lost are 0.2 and 0.1"),
        ({"frozen": 0.4}, "camera.frozen is 0.4; allowed: null, or from camera.lost"),
    ],
)
def test_a_configuration_without_sense_is_refused(keys: dict, words: str) -> None:
    with pytest.raises(BadInput, match=words):
        CameraConfig(**keys)
