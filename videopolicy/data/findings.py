"""What is wrong with a dataset, found by reading all of it."""

import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from videopolicy.camera import Camera
from videopolicy.data import cameras, checksums
from videopolicy.data.files import read_json, read_table, reading
from videopolicy.data.format import (
    EXTRAS,
    MARKERS,
    STATISTICS,
    TASKS,
    TRACK,
    VECTORS,
    all_files,
    camera_keys,
    check_row,
    episode_files,
    frames_of,
    read_extras,
    read_info,
    read_values,
    row_files,
)
from videopolicy.data.packing import Places, Tables, read_pictures
from videopolicy.data.selftest import check_recording
from videopolicy.data.statistics import STATS
from videopolicy.errors import BadInput

FROZEN = 2.0  # [s] of equal pictures ...
CODING = 16  # grey levels, by which a video's pictures of the same may differ
MOVED = 0.02  # [m] ... in which the end effector goes so far: a camera that hangs


@dataclass
class Findings:
    """Errors, by what they are of; `sums` are those that were kept of files, `rows` an episode's row each."""

    root: Path
    info: dict
    key: str  # of the camera's pictures
    sums: dict[str, str] = field(default_factory=dict)
    rows: list[dict] = field(default_factory=list)
    tasks: set[int] = field(default_factory=set)  # numbers of those there are
    of_episodes: dict[int, list[str]] = field(default_factory=dict)
    of_all: list[str] = field(default_factory=list)  # errors that no episode is free of
    of_counts: list[str] = field(default_factory=list)  # errors in what is only counted or summed up
    warnings: list[str] = field(default_factory=list)
    outside: dict[int, float] = field(default_factory=dict)  # episode to its share of waypoints outside the image
    looked_at: dict[str, BadInput | None] = field(default_factory=dict)  # files that episodes may share: what is wrong

    @property
    def sound(self) -> bool:
        return not (self.of_episodes or self.of_all or self.of_counts)

    @property
    def n_episodes(self) -> int:
        return self.info["total_episodes"]

    @property
    def n_sound(self) -> int:
        """Episodes before the first that has an error."""
        return 0 if self.of_all else min(self.of_episodes, default=self.n_episodes)

    def lines(self) -> Iterator[str]:
        n_frames = sum(row["length"] for row in self.rows)
        yield f"{self.root}: {self.n_episodes} episodes, {n_frames} frames, {len(self.sums)} files with a SHA-256"
        if self.outside:
            worst = max(self.outside, key=lambda e: self.outside[e])
            mean = np.mean(list(self.outside.values()))
            yield f"waypoints outside the image: {mean:.1%}; most in episode {worst}: {self.outside[worst]:.1%}"
        yield from (f"warning: {text}" for text in self.warnings)
        yield from (f"error: {text}" for text in self.of_all + self.of_counts)
        for e, texts in sorted(self.of_episodes.items()):
            yield from (f"error: episode {e}: {text}" for text in texts)
        yield "sound" if self.sound else f"not sound; of {self.n_episodes} episodes the first {self.n_sound} are"


def examine(root: Path) -> Findings:
    """Everything that is wrong with a dataset; `BadInput` where there is none, or its info.json cannot be read."""
    info = read_info(root)
    key, *others = camera_keys(info) or [""]
    found = Findings(root, info, key)
    found.warnings += [f"pictures of {other} were not looked at: training reads {key}" for other in others]
    try:
        found.sums, extra_sums = checksums.read(root)
        camera = _shared(found)
        moving = camera is not None and cameras.moving(root / cameras.FILE)
        found.rows = _rows(found)
        extras = _extras(found, extra_sums)
    except BadInput as error:
        found.of_all.append(str(error))
        return found
    if not found.sums:
        found.warnings.append(f"no {checksums.FILE}: not every byte that changed in a video can be noticed")
    start, places, tables = 0, Places(found.rows, key, info["fps"]), Tables()
    for e, row in enumerate(found.rows):
        try:
            with reading(root / EXTRAS):
                own = Camera.from_json(extras[e]["camera"]) if moving else camera
            first = _episode(found, e, start, places, tables, own)
            if e == 0 and camera is not None:  # with the camera that the markers were taken with
                check_recording(root / MARKERS, camera, first)
        except BadInput as error:
            found.of_episodes.setdefault(e, []).append(str(error))
        start += row["length"]
    if not found.of_episodes:
        if info.get("total_frames") != start:
            found.of_counts.append(f"info.json counts {info.get('total_frames')} frames, the tables {start}")
        _statistics(found, start)
    _strangers(found)
    return found


def _shared(found: Findings) -> Camera | None:
    """The dataset's camera, after what all episodes share has been read; `BadInput` where that is wrong.

    None of a dataset of tracks.
    """
    root, name = found.root, found.key.removeprefix("observation.images.")
    tracked = TRACK in found.info["features"]
    for shared in (TASKS,) if tracked else (cameras.FILE, MARKERS, TASKS):
        checksums.check(root, shared, found.sums)
    with reading(root / TASKS):
        found.tasks = set(read_table(root / TASKS)["task_index"].to_pylist())
    if tracked:
        return None
    known = cameras.read_cameras(root / cameras.FILE)
    if name not in known:
        raise BadInput(f"{root}/{cameras.FILE} has no camera {name!r}; it has {sorted(known)}")
    return known[name]


def _rows(found: Findings) -> list[dict]:
    """Episodes' rows, as far as they can be read."""
    rows: list[dict] = []
    n = found.n_episodes
    for path in row_files(found.root):
        if len(rows) >= n:
            break
        try:
            more = read_table(path).to_pylist()
            with reading(path):
                for row in more[: n - len(rows)]:
                    check_row(row, len(rows), found.info)
                    rows.append(row)
        except BadInput as error:
            found.of_episodes[len(rows)] = [str(error)]
            return rows
    if len(rows) < n:
        found.of_episodes[len(rows)] = [f"info.json counts {n} episodes, the tables {len(rows)}"]
    return rows


def _extras(found: Findings, sums: dict[int, str]) -> list[dict]:
    """What was said of each episode beside its tables, {} where nothing can be read."""
    path = found.root / EXTRAS
    with reading(path):
        lines = path.read_bytes().splitlines() if path.is_file() else []
    extras: list[dict] = []
    for e in range(len(found.rows)):
        try:
            with reading(path):
                extras.append(json.loads(lines[e]) if e < len(lines) else {})
                if not isinstance(extras[e], dict):
                    raise BadInput(f"{path}: line {e + 1} must be an object, not {type(extras[e]).__name__}")
                if e in sums and checksums.of_extra(extras[e]) != sums[e]:
                    raise BadInput(f"{path}: line {e + 1} is not what was recorded: its SHA-256 differs")
        except BadInput as error:
            extras += [{}] * (e + 1 - len(extras))
            found.of_episodes.setdefault(e, []).append(str(error))
    try:
        read_extras(found.root)  # all of them, also those of no episode: it is read whole
    except BadInput as error:
        if not found.of_episodes:
            found.of_counts.append(str(error))
    return extras


def _episode(found: Findings, e: int, start: int, places: Places, tables: Tables, camera: Camera | None) -> np.ndarray:
    """Look at an episode, which follows `start` frames; its first picture.

    `BadInput` for the first thing that is wrong with it.
    """
    root, row, fps = found.root, found.rows[e], found.info["fps"]
    files = episode_files(row, found.key)
    for name in all_files(row, found.info):
        _file(found, name)
    n, path = row["length"], root / files[0]
    with reading(root / files[2]):
        span = row["dataset_from_index"], row["dataset_to_index"]
        if span != (start, start + n):
            raise BadInput(f"its row says frames {span[0]} to {span[1]}, not {start} on")
        places.check(e)
    whole = tables.read(path)
    with reading(path):
        table = frames_of(whole, row)
        if not set(held := whole["episode_index"].unique().to_pylist()) <= set(places.in_file[files[0]]):
            raise BadInput(f"its frames are of episodes {sorted(map(str, held))}")
        wanted = {k for k, v in found.info["features"].items() if v["dtype"] != "video"}
        if set(table.column_names) != wanted:
            raise BadInput(f"it has columns {sorted(table.column_names)}, info.json {sorted(wanted)}")
        values = read_values(table, row, found.info["features"])
        if not set(table["task_index"].to_pylist()) <= found.tasks:
            raise BadInput(f"task_index is none of {sorted(found.tasks)}")
        if table["index"].to_pylist() != list(range(start, start + n)):
            raise BadInput(f"index does not count on from {start}")
        off = np.abs(np.array(table["timestamp"].to_pylist(), float) - np.arange(n) / fps)
        if not (off < 1e-4).all():
            raise BadInput(f"the timestamp of frame {int(off.argmax())} is off its 1/{fps} s by {off.max():.4f} s")
    with reading(root / files[1]):
        frames = read_pictures(root / files[1], places.start(e), n, fps)
    height, width, _ = found.info["features"][found.key]["shape"]
    size = (width, height) if camera is None else camera.size
    if frames.shape[2:0:-1] != size:
        raise BadInput(f"{root / files[1]} has pictures of {frames.shape[2:0:-1]}, its camera {size}")
    if camera is None:
        *uv, visible = values[TRACK].T
        inside = (visible > 0.5) & ((np.stack(uv, -1) >= 0) & (np.stack(uv, -1) < size)).all(-1)
    else:
        position = values[VECTORS[0]][:, :3]
        if not camera.position[2] > position[:, 2].max():
            high = f"{camera.position[2]:.3f} m, its end effector at {position[:, 2].max():.3f}"
            raise BadInput(f"its camera stands at z = {high}: nothing that high could be lifted")
        inside = camera.contains(camera.project(position))
        _frozen(found, e, frames, position)
    found.outside[e] = float((~inside).mean())
    if found.outside[e] == 1.0:
        found.warnings.append(f"episode {e}: its end effector is never in the image")
    return frames[0]


def _file(found: Findings, name: str) -> None:
    """Look at a file, once; `BadInput` where it is missing or not what was recorded, for all episodes in it."""
    if name not in found.looked_at:
        found.looked_at[name] = None
        try:
            checksums.check(found.root, name, found.sums)
            if not (found.root / name).is_file():
                raise BadInput(f"{found.root / name} is missing")
        except BadInput as error:
            found.looked_at[name] = error
    if (wrong := found.looked_at[name]) is not None:
        raise wrong


def _frozen(found: Findings, e: int, frames: np.ndarray, position: np.ndarray) -> None:
    """Warn of a span of equal pictures in which the arm moves."""
    differ = [np.abs(b.astype(int) - a).max() > CODING for a, b in itertools.pairwise(frames)]
    changed = [0, *(np.flatnonzero(differ) + 1).tolist(), len(frames)]
    for first, after in itertools.pairwise(changed):
        moved = float(np.linalg.norm(np.ptp(position[first:after], axis=0)))
        if after - first > FROZEN * found.info["fps"] and moved > MOVED:
            text = f"frames {first} to {after - 1} are equal while the end effector moves {100 * moved:.0f} cm"
            found.warnings.append(f"episode {e}: {text}: does the camera hang?")


def _statistics(found: Findings, n_frames: int) -> None:
    """`stats.json`, which is written last."""
    path = found.root / STATISTICS
    if not path.is_file():
        found.warnings.append(f"no {STATISTICS}: recording has not ended")
        return
    try:
        checksums.check(found.root, STATISTICS, found.sums)
        stats = read_json(path)
        with reading(path):
            counts = {int(values["count"][0]) for values in stats.values() if set(values) == set(STATS)}
        if counts != {n_frames}:
            stale = f"{STATISTICS} counts {sorted(counts)} frames, the tables {n_frames}"
            found.warnings.append(f"{stale}: recording goes on, or has not ended")
    except BadInput as error:
        found.of_counts.append(str(error))


def _strangers(found: Findings) -> None:
    """Warn of files that belong to no episode."""
    known = {name for row in found.rows for name in all_files(row, found.info)}
    for folder in ("data", "videos", "meta/episodes"):
        for path in sorted((found.root / folder).rglob("*")):
            name = str(path.relative_to(found.root))
            if path.is_file() and name not in known and not found.of_episodes:
                found.warnings.append(f"{name} belongs to no episode: left by a recording that was cut short?")
