"""LeRobot's format v3.0 as written here: paths, columns, features, rows and tables. See docs/DATA_FORMAT.md."""

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from videopolicy.data.files import read_json, read_jsonl, read_table
from videopolicy.data.origins import origin
from videopolicy.data.video import CODEC, CRF, GOP, PIX_FMT
from videopolicy.errors import BadInput

VERSION = "v3.0"
DATA = "data/chunk-{chunk:03d}/file-{file:03d}.parquet"
VIDEO = "videos/{key}/chunk-{chunk:03d}/file-{file:03d}.mp4"
EPISODES = "meta/episodes/chunk-{chunk:03d}/file-{file:03d}.parquet"
TASKS, STATISTICS = "meta/tasks.parquet", "meta/stats.json"
MARKERS = "meta/para_markers.npz"  # pictures for the camera self-test
EXTRAS = "meta/para_episodes.jsonl"  # what LeRobot's tables have no place for, a line for each episode
CHUNK_SIZE = 1000  # files per folder
VECTORS = ("observation.state", "action")
ROTATION_NAMES = ["rx", "ry", "rz"]  # radians, of `videopolicy/rotation.py`
NAMES = ["x", "y", "z", "gripper"]  # metres in the world frame, and 0 closed ... 1 open
SCALARS = {"timestamp": pa.float32()} | dict.fromkeys(
    ("frame_index", "episode_index", "index", "task_index"), pa.int64()
)
ROTATION = "observation.rotation"
TRACK = "observation.track"  # instead of states and actions, where pixels are all that is known
TRACK_NAMES = ["u", "v", "visible"]  # pixels, both 0 where it is not visible; and 1 or 0
NUMBERS = {**dict.fromkeys(VECTORS, NAMES), ROTATION: ROTATION_NAMES, TRACK: TRACK_NAMES}
CONVENTIONS = {"axes": "opencv", "pixel_centre": 0.5, "world": "metres, z up, z = 0 on the support surface"}


def features(key: str, size: tuple[int, int], fps: int, columns: tuple[str, ...]) -> dict:
    """`features` of `meta/info.json`: pictures of (width, height), and columns of several numbers each."""
    width, height = size
    details = {"height": height, "width": width, "codec": CODEC, "pix_fmt": PIX_FMT, "fps": fps, "channels": 3}
    details |= {"g": GOP, "crf": CRF}
    video = {f"video.{k}": v for k, v in details.items()} | {"has_audio": False, "is_depth_map": False}
    return {
        key: {
            "dtype": "video",
            "shape": [height, width, 3],
            "names": ["height", "width", "channels"],
            "info": video,
        },
        **{k: {"dtype": "float32", "shape": [len(NUMBERS[k])], "names": NUMBERS[k]} for k in columns},
        **{k: {"dtype": str(t).replace("float", "float32"), "shape": [1], "names": None} for k, t in SCALARS.items()},
    }


def aside_of(root: Path) -> Path:
    """Where a repaired dataset is made, before it takes the place of the whole."""
    root = root.resolve()
    return root.with_name(f".{root.name}.repaired")


def read_info(root: Path) -> dict:
    """`meta/info.json`, checked for the one version this project reads."""
    if not (root / "meta/info.json").is_file():
        if aside_of(root).is_dir():
            raise BadInput(f"a repair of {root} was cut short: python -m videopolicy.data.doctor {root} --repair")
        raise BadInput(f"no LeRobot dataset at {root}: meta/info.json is missing{origin(root)}")
    info = read_json(root / "meta/info.json")
    if info.get("codebase_version") != VERSION:
        raise BadInput(f"{root} has format {info.get('codebase_version')!r}; allowed: {VERSION!r}")
    for key, least in (("fps", 1), ("total_episodes", 0), ("total_frames", 0)):
        value = info.get(key)
        if type(value) is not int or value < least:
            raise BadInput(f"{root}/meta/info.json has {key} {value!r}; allowed: whole numbers from {least} on")
    for key in info["features"] if isinstance(info.get("features"), dict) else ():
        if "/" in key or not (key.isascii() and key.isprintable()):
            raise BadInput(f"{root}/meta/info.json has a feature {key!a}; allowed: printable ASCII names without /")
    if not isinstance(info.get("features"), dict):
        raise BadInput(f"{root}/meta/info.json has features {info.get('features')!r}; allowed: an object")
    return info


def camera_keys(info: dict) -> list[str]:
    """Features that are pictures; those of the first are what training reads."""
    return [key for key in info["features"] if key.startswith("observation.images.")]


def columns_of(features: dict) -> tuple[str, ...]:
    """A dataset's columns of several numbers: tracks alone, or states, actions and, where it has them, rotations."""
    if TRACK in features:
        return (TRACK,)
    return (*VECTORS, ROTATION) if ROTATION in features else VECTORS


def frames_of(table: pa.Table, row: dict) -> pa.Table:
    """An episode's part of a table of frames; `BadInput` where it is not as long as its row says, or not in order."""
    e, n = row["episode_index"], row["length"]
    for name in ("episode_index", "frame_index"):
        if name not in table.column_names:
            raise BadInput(f"it has no column {name}; it has {', '.join(table.column_names)}")
    places = np.flatnonzero(table["episode_index"].to_numpy() == e)
    if len(places) != n:
        raise BadInput(f"it holds {len(places)} frames of episode {e}, its row says {n}")
    own = table.take(places)
    if not np.array_equal(own["frame_index"].to_numpy(), np.arange(n)):
        raise BadInput(f"frame_index of episode {e} does not count on from 0")
    return own


def read_values(table: pa.Table, row: dict, features: dict) -> dict[str, np.ndarray]:
    """An episode's columns of several numbers, (frame, number), as `columns_of` names them, of its `frames_of` a table.

    `BadInput` where the table lacks a column or is not finite.
    """
    values = {}
    for key in columns_of(features):
        if key not in table.column_names:
            raise BadInput(f"it has no column {key}; it has {', '.join(table.column_names)}")
        values[key] = value = np.array(table[key].to_pylist(), np.float64)
        if value.shape != (row["length"], len(NUMBERS[key])):
            raise BadInput(f"{key} has shape {value.shape}")
        if not np.isfinite(value).all():
            frame = int(np.argwhere(~np.isfinite(value).all(1))[0, 0])
            raise BadInput(f"{key} of episode {row['episode_index']}, frame {frame}, is not finite")
    return values


def read_extras(root: Path) -> list[dict]:
    return read_jsonl(root / EXTRAS)


def row_files(root: Path) -> list[Path]:
    """Tables with one row for each episode."""
    return sorted((root / "meta/episodes").glob("*/*.parquet"))


def episode_rows(root: Path) -> Iterator[dict]:
    for path in row_files(root):
        yield from read_table(path).to_pylist()


def check_row(row: dict, episode: int, info: dict) -> None:
    """`BadInput` for what is no row of this episode: its number, its length, where its files are and it in them."""
    if row.get("episode_index") != episode:
        raise BadInput(f"row {episode} is of episode {row.get('episode_index')}: is a table before it missing?")
    if type(row.get("length")) is not int or row["length"] < 1:
        raise BadInput(f"episode {episode} has length {row.get('length')!r}; allowed: whole numbers from 1 on")
    key, *others = camera_keys(info) or [""]
    known = [other for other in others if f"videos/{other}/chunk_index" in row]
    for name in ("data", "meta/episodes", *(f"videos/{k}" for k in (key, *known))):
        for index in (f"{name}/chunk_index", f"{name}/file_index"):
            if type(row.get(index)) is not int or row[index] < 0:
                raise BadInput(f"episode {episode} has {index} {row.get(index)!r}; allowed: whole numbers from 0 on")
    for name in (f"videos/{key}/from_timestamp", f"videos/{key}/to_timestamp"):
        if not isinstance(time := row.get(name, 0.0), int | float) or not 0 <= time < math.inf:
            raise BadInput(f"episode {episode} has {name} {time!r}; allowed: seconds from 0 on")


def episode_files(row: dict, key: str) -> tuple[str, str, str]:
    """An episode's table of frames, its video from the camera `key`, and the table of its row, in the dataset."""
    data, video, row_table = (
        {"chunk": row[f"{name}/chunk_index"], "file": row[f"{name}/file_index"]}
        for name in ("data", f"videos/{key}", "meta/episodes")
    )
    return DATA.format(**data), VIDEO.format(key=key, **video), EPISODES.format(**row_table)


def all_files(row: dict, info: dict) -> list[str]:
    """An episode's files, with the videos of all cameras that its row knows."""
    keys = [key for key in camera_keys(info) if f"videos/{key}/chunk_index" in row]
    return list(dict.fromkeys(name for key in keys for name in episode_files(row, key)))
