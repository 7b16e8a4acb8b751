"""Video files: H.264 writing with PyAV, frame-exact reading with decord, or PyAV where decord cannot open a file."""

import itertools
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import decord
import numpy as np
from jaxtyping import Float, Int, UInt8

from videopolicy.errors import BadInput

CODEC, PIX_FMT, GOP, CRF = "h264", "yuv420p", 2, 18
EARLY = 0.25  # of a frame's time, or late: how far off a picture may stand in a file of several episodes


def write_video(path: Path, frames: UInt8[np.ndarray, "frame height width 3"], fps: int) -> None:
    """Write an H.264 file every reader opens; sizes must be even."""
    height, width = frames.shape[1:3]
    if height % 2 or width % 2:
        raise BadInput(f"video frames must have even sizes, not {width}x{height}")
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=fps)
        stream.width, stream.height, stream.pix_fmt = width, height, PIX_FMT
        # The decoders used here assume BT.601 for small frames, as does the conversion below.
        stream.options = {"crf": str(CRF), "g": str(GOP), "preset": "veryfast"}
        stream.codec_context.thread_count = 1
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


def read_video(
    path: Path, n_frames: int, chosen: Int[np.ndarray, " chosen"] | None = None
) -> UInt8[np.ndarray, "frame height width 3"]:
    """All frames, or the chosen ones, of a file that must hold exactly `n_frames`; otherwise `BadInput` names it."""
    try:
        reader = decord.VideoReader(str(path), num_threads=1)
        found = len(reader)
        frames = (reader[:] if chosen is None or found != n_frames else reader.get_batch(chosen.tolist())).asnumpy()
    except (decord.DECORDError, RuntimeError):  # AV1, for one, is a codec decord does not know
        every = _read_with_pyav(path)
        found, frames = len(every), every if chosen is None or len(every) != n_frames else every[chosen]
    if found != n_frames:
        raise BadInput(f"{path} holds {found} frames, its table says {n_frames}")
    return frames


def read_span(
    path: Path, start: float, fps: int, chosen: Int[np.ndarray, " chosen"]
) -> UInt8[np.ndarray, "frame height width 3"]:
    """The chosen frames of an episode that begins at `start` [s] of a file that holds several, found by their times."""
    numbers, places = np.unique(chosen, return_inverse=True)
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            stream.codec_context.thread_count = 1
            found = _at(container, stream, start + numbers / fps, EARLY / fps)
    except (av.FFmpegError, ValueError, IndexError) as error:
        raise BadInput(f"cannot read the video {path}: {error}") from error
    if len(found) < len(numbers):
        k = numbers[len(found)]
        raise BadInput(f"{path} has no picture at {start + k / fps:.3f} s, where its table has frame {k} of an episode")
    return np.stack(found)[places]


def _at(
    container: Any, stream: Any, times: Float[np.ndarray, " time"], tolerance: float
) -> list[UInt8[np.ndarray, "height width 3"]]:
    """The pictures at ascending times [s], up to the first that has none within `tolerance` [s]."""
    found: list[np.ndarray] = []
    for picture in _from(container, stream, times[0] + tolerance):
        time = float(picture.time)
        if time < times[len(found)] - tolerance:
            continue
        if time > times[len(found)] + tolerance:
            break
        found.append(picture.to_ndarray(format="rgb24"))
        if len(found) == len(times):
            break
    return found


def _from(container: Any, stream: Any, time: float) -> Iterator[Any]:
    """Decoded pictures in order, from a key frame on that is shown no later than at `time` [s].

    A seek goes by when pictures are decoded, which may be before they are shown; it is then made further back.
    """
    for back in (0.0, 1.0, 10.0, math.inf):
        if time <= back:
            break
        container.seek(int((time - back) / stream.time_base), stream=stream)
        pictures = itertools.dropwhile(lambda picture: not picture.key_frame, container.decode(stream))
        first = next(pictures, None)
        if first is not None and first.time <= time:
            return itertools.chain([first], pictures)
    container.seek(0, stream=stream)
    return container.decode(stream)


def video_size(path: Path) -> tuple[int, int]:
    """(width, height) of a file's pictures, from its header."""
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            return stream.width, stream.height
    except (av.FFmpegError, ValueError, IndexError) as error:
        raise BadInput(f"cannot read the video {path}: {error}") from error


def video_length(path: Path) -> tuple[int, float]:
    """How many frames a file holds, and how many of them make a second."""
    try:
        with av.open(str(path)) as container:
            rate = container.streams.video[0].average_rate
            n_frames = sum(1 for _ in container.decode(video=0))
    except (av.FFmpegError, ValueError, IndexError) as error:
        raise BadInput(f"cannot read the video {path}: {error}") from error
    if not rate:
        raise BadInput(f"the video {path} does not say how many frames make a second")
    return n_frames, float(rate)


def _read_with_pyav(path: Path) -> UInt8[np.ndarray, "frame height width 3"]:
    try:
        with av.open(str(path)) as container:
            return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
    except (av.FFmpegError, ValueError, IndexError) as error:
        raise BadInput(f"cannot read the video {path}: {error}") from error
