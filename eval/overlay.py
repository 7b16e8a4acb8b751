"""Recorded pictures as circle pictures: the robot or hand is filled in, a circle drawn; the same command resumes.

python -m eval.overlay --input data/recorded --masks masks --output data/circles
python -m eval.overlay --input videos --points points.jsonl --masks masks --output data/hands

The input is a dataset, whose end effector is projected, or a folder of videos, with a file of points that a tracker
has written. Names are `episode_000000` ... of a dataset's episodes, and those of videos without their endings.
"""

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int

from eval.card import write_card
from eval.positions import episode_seed
from videopolicy.camera import check_markers
from videopolicy.config import dump, launch
from videopolicy.data.episode import Episode, TrackedEpisode
from videopolicy.data.files import lock_folder, make_folder, reading
from videopolicy.data.format import MARKERS
from videopolicy.data.lerobot import Dataset
from videopolicy.data.masks import check_masks, filled, read_masks
from videopolicy.data.overlay import CircleConfig, Overlay, check_colour, draw_circle, overlaid
from videopolicy.data.points import check_seen, points_of, read_points
from videopolicy.data.recording import Writer
from videopolicy.data.selftest import read_markers
from videopolicy.data.video import read_video, video_length, video_size
from videopolicy.errors import BadInput
from videopolicy.progress import Progress

ENDINGS = (".mp4", ".mov", ".avi", ".mkv", ".webm")


@dataclass(frozen=True)
class Config:
    """What to draw over, and where to."""

    input: Path = Path("data/recorded")  # a dataset, or a folder of videos
    output: Path = Path("data/circles")
    masks: Path | None = None  # <name>.mp4 or <name>/*.png in it, one for each frame; null: nothing is filled in
    points: Path | None = None  # a file of tracked points; null: the end effector's projection
    overlay: Overlay = "circle"
    circle: CircleConfig = CircleConfig()
    grow: float = 0.01  # masks are grown by this share of the picture's width: edges are soft, and coded
    fps: int = 4  # of the output, where the input is videos
    task: str = "move"  # in words, where the input is videos
    seed: int = 0


@dataclass(frozen=True)
class Recording:
    """An episode to draw over, read when it is its turn."""

    name: str
    path: Path  # of its video
    n_frames: int  # of the video, for each of which there are a mask and a point
    chosen: Int[np.ndarray, " frame"]  # those that are kept


def main(cfg: Config) -> dict:
    print(dump(cfg))
    if not 0 <= cfg.grow <= 0.1:
        raise BadInput(f"grow is {cfg.grow}; allowed: 0 to 0.1 of the picture's width")
    points = None if cfg.points is None else read_points(cfg.points)
    data = Dataset(cfg.input) if (cfg.input / "meta/info.json").is_file() else None
    if data is not None and data.overlay is not None:
        raise BadInput(f"{cfg.input} has an overlay already, {data.overlay}; allowed: pictures as they were taken")
    recordings = _videos(cfg) if data is None else _episodes(data)
    if cfg.points is not None and points is not None:
        for recording in recordings:
            size = video_size(recording.path) if data is None else data.size
            with reading(cfg.points):
                check_seen(points_of(points, recording.name, recording.n_frames), recording.name, size)
    make_folder(cfg.output)
    with lock_folder(cfg.output):
        writer = _writer(cfg, data, recordings)
        n_before = _check_kept(writer, recordings)
        progress = Progress("overlay", len(recordings), n_before)
        for i, recording in list(enumerate(recordings))[n_before:]:
            writer.append(_episode(cfg, data, points, i, recording))
            progress.update(i + 1)
        progress.close()
        writer.finish()
        if data is not None and not data.tracked and points is None:
            error = float(check_markers(data.camera, *read_markers(data.root / MARKERS)).max())
            write_card(cfg.output, error, f"{data.info['robot_type']}, drawn over")
    return {"episodes": writer.n_episodes, "new": writer.n_episodes - n_before}


def _episodes(data: Dataset) -> list[Recording]:
    lengths = [data.length(e) for e in range(len(data))]
    return [Recording(f"episode_{e:06d}", data.video(e), n, np.arange(n)) for e, n in enumerate(lengths)]


def _videos(cfg: Config) -> list[Recording]:
    """A folder's videos by name, `fps` frames a second of each: those nearest in time."""
    paths = sorted(p for p in cfg.input.glob("*") if p.suffix.lower() in ENDINGS)
    if not paths:
        raise BadInput(f"{cfg.input} is no dataset and holds no video; allowed: {', '.join(ENDINGS)}")
    if cfg.points is None:
        raise BadInput(f"points is null, but {cfg.input} holds videos, without cameras; allowed: a file of points")
    found: list[Recording] = []
    for path in paths:
        if found and found[-1].name == path.stem:
            raise BadInput(f"{path} has the name of {found[-1].path}; allowed: names of their own, but for endings")
        n_frames, rate = video_length(path)
        if not 1 <= cfg.fps <= rate:
            raise BadInput(f"fps is {cfg.fps}; allowed: 1 to the {rate:g} of {path}")
        chosen = np.round(np.arange(0, n_frames, rate / cfg.fps)).astype(int)
        found.append(Recording(path.stem, path, n_frames, chosen[chosen < n_frames]))
    return found


def _writer(cfg: Config, data: Dataset | None, recordings: list[Recording]) -> Writer:
    """With the input's cameras and markers, unless points of a file take the place of what they project."""
    overlay = None
    if cfg.overlay != "none" or cfg.masks is not None:
        circle = {} if cfg.overlay == "none" else asdict(cfg.circle)
        overlay = {"kind": cfg.overlay, "robot": "shown" if cfg.masks is None else "masked", **circle}
    if data is None:
        size = video_size(recordings[0].path)
        return Writer(cfg.output, cfg.fps, "video", size, cfg.task, robot="video", overlay=overlay)
    name, (task, *_) = data.key.removeprefix("observation.images."), data.rows[0]["tasks"]
    common = {"robot": data.info["robot_type"], "overlay": overlay}
    if cfg.points is not None or data.tracked:
        return Writer(cfg.output, data.fps, name, data.size, task, **common)
    rotations = data.rotation(0) is not None
    writer = Writer(cfg.output, data.fps, name, data.camera, task, data.moving, rotations, **common)
    writer.write_markers(*read_markers(data.root / MARKERS))
    return writer


def _check_kept(writer: Writer, recordings: list[Recording]) -> int:
    """How many episodes the output already has; `BadInput` where they are others."""
    names = [recording.name for recording in recordings]
    kept = [extra.get("source") for extra in writer.extras()]
    if kept != names[: len(kept)]:
        raise BadInput(f"{writer.root} holds {', '.join(map(str, kept[:3]))} ..., not {', '.join(names[:3])} ...")
    return len(kept)


def _episode(
    cfg: Config, data: Dataset | None, points: dict[str, np.ndarray] | None, i: int, recording: Recording
) -> Episode | TrackedEpisode:
    """Filled in, with a circle, and all else as it was; a track in the place of states where points are a file's."""
    name, n, chosen = recording.name, recording.n_frames, recording.chosen
    frames = read_video(recording.path, n, chosen) if data is None else data.frames(i)
    height, width = frames.shape[1:3]
    if points is not None:
        pixels = points_of(points, name, n)[chosen]
    else:
        assert data is not None
        pixels = data.track(i) if data.tracked else data.camera_of(i).project(data.state(i)[:, :3])
    if cfg.masks is not None:
        masks = read_masks(cfg.masks, name, n)[chosen]
        check_masks(masks, (width, height), pixels, name)
        frames = filled(frames, masks, round(cfg.grow * width))
    extra = {k: v for e in ([] if data is None else data.extras()[i : i + 1]) for k, v in e.items()} | {"source": name}
    if cfg.overlay == "circle":
        circle = draw_circle(cfg.circle, len(frames), width, np.random.default_rng(episode_seed("circle", cfg.seed, i)))
        others = f" (remove {cfg.output} first: it has {i} with this colour)" if i else ""
        check_colour(frames, circle.colour, cfg.circle.apart, f"the pictures of {name}{others}")
        frames, extra = overlaid(frames, pixels, circle), {**extra, "circle": circle.to_json()}
    if data is None or points is not None or data.tracked:
        extra.pop("camera", None)
        return TrackedEpisode(frames, pixels, extra)
    return Episode(frames, data.state(i), data.action(i), extra, data.rotation(i))


if __name__ == "__main__":
    launch(main, Config)
