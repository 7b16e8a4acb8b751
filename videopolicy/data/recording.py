"""Writing of LeRobot datasets, format v3.0. See docs/DATA_FORMAT.md.

Every episode has its own data, video and episode file, written under a temporary name, closed, synced and renamed;
`meta/info.json` is replaced last. An episode that info.json does not count does not exist, so a crash loses at most
the episode being written.
"""

import json
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
from jaxtyping import Float

from videopolicy.camera import Camera
from videopolicy.data import cameras, checksums
from videopolicy.data.episode import Episode, TrackedEpisode
from videopolicy.data.files import read_json, read_table, replace, write_table
from videopolicy.data.format import (
    CHUNK_SIZE,
    CONVENTIONS,
    DATA,
    EPISODES,
    EXTRAS,
    MARKERS,
    ROTATION,
    STATISTICS,
    TASKS,
    TRACK,
    VECTORS,
    VERSION,
    VIDEO,
    aside_of,
    episode_files,
    episode_rows,
    features,
    read_extras,
    read_info,
)
from videopolicy.data.statistics import STATS, image_statistics, merge, statistics
from videopolicy.data.video import write_video
from videopolicy.errors import BadInput

LEFT = re.compile(r"\.\d+\.tmp(\.npz)?$")  # names that `files.replace` writes under


class Writer:
    """Appends episodes to a dataset folder, a new one or one that this class wrote."""

    def __init__(
        self,
        root: Path,
        fps: int,
        camera_name: str,
        camera: Camera | tuple[int, int],
        task: str,
        moving: bool = False,
        rotations: bool = False,
        robot: str = "panda",
        overlay: dict | None = None,
    ) -> None:
        """`camera` may be the size of the pictures (width, height) alone: episodes are `TrackedEpisode`s then.

        `moving`: every episode has its own camera, `Episode.extra["camera"]`; `camera` is that of the first.
        `rotations`: every episode has its `rotation`. `robot`: what LeRobot is told of it. `overlay`: what was drawn
        over the pictures, for `meta/info.json`.
        """
        self.robot, self.overlay = robot, json.loads(json.dumps(overlay))
        self.root, self.fps, self.task, self.moving = root, fps, task, moving
        self.key, self.camera_name = f"observation.images.{camera_name}", camera_name
        vectors = (*VECTORS, ROTATION) if rotations else VECTORS
        self.columns = vectors if isinstance(camera, Camera) else (TRACK,)
        self.info = self._open(camera)

    @property
    def n_episodes(self) -> int:
        return self.info["total_episodes"]

    def extras(self) -> list[dict]:
        """What `Episode.extra` said of each episode so far."""
        return self._extras_of(self.info)

    def write_markers(self, markers: Float[np.ndarray, "n 3"], shown: np.ndarray, hidden: np.ndarray) -> None:
        """Keep the camera self-test's pictures with the data: known 3-D points, and the scene with and without them.

        Where there are episodes already, those that they were recorded with stay.
        """
        if self.n_episodes and (self.root / MARKERS).exists():
            return
        pair = np.stack([shown, hidden])
        replace(self.root / MARKERS, lambda path: np.savez_compressed(path, markers=markers, images=pair))
        checksums.record(self.root, [MARKERS])

    def append(self, episode: Episode | TrackedEpisode) -> None:
        """Write one episode; it exists from the moment this returns."""
        i, n, vectors = self.n_episodes, len(episode.frames), episode.columns()
        if (ROTATION in vectors) != (ROTATION in self.columns):
            has = "no rotation" if ROTATION in self.columns else "a rotation"
            raise BadInput(f"episode {i} has {has}; allowed: one in every episode of {self.root}, or in none")
        if tuple(vectors) != self.columns:
            raise BadInput(f"episode {i} has {', '.join(vectors)}; {self.root} has {', '.join(self.columns)}")
        if n == 0 or any(len(v) != n or not np.isfinite(v).all() for v in vectors.values()):
            found = ", ".join(f"{len(v)} of {k}" for k, v in vectors.items())
            raise BadInput(f"episode {i}: {n} frames, {found}; they must be finite, and one for each frame")
        place = {"chunk": i // CHUNK_SIZE, "file": i % CHUNK_SIZE}
        index = np.arange(n)
        table = pa.table(
            {
                **{k: _vectors(v) for k, v in vectors.items()},
                "timestamp": pa.array((index / self.fps).astype(np.float32)),
                "frame_index": index,
                "episode_index": np.full(n, i),
                "index": index + self.info["total_frames"],
                "task_index": np.zeros(n, np.int64),
            }
        )
        replace(self.root / DATA.format(**place), lambda path: write_table(table, path))
        replace(
            self.root / VIDEO.format(key=self.key, **place), lambda path: write_video(path, episode.frames, self.fps)
        )
        stats = {k: statistics(v) for k, v in vectors.items()}
        stats[self.key] = image_statistics(episode.frames)
        row = {
            "episode_index": i,
            "tasks": [self.task],
            "length": n,
            "dataset_from_index": self.info["total_frames"],
            "dataset_to_index": self.info["total_frames"] + n,
            "data/chunk_index": place["chunk"],
            "data/file_index": place["file"],
            "meta/episodes/chunk_index": place["chunk"],
            "meta/episodes/file_index": place["file"],
            f"videos/{self.key}/chunk_index": place["chunk"],
            f"videos/{self.key}/file_index": place["file"],
            f"videos/{self.key}/from_timestamp": 0.0,
            f"videos/{self.key}/to_timestamp": n / self.fps,
            **{f"stats/{k}/{name}": value for k, s in stats.items() for name, value in s.items()},
        }
        replace(self.root / EPISODES.format(**place), lambda path: write_table(pa.Table.from_pylist([row]), path))
        extras = [*self.extras(), json.loads(json.dumps({"episode_index": i, **episode.extra}))]
        checksums.record(self.root, list(episode_files(row, self.key)), i, extras[-1])
        replace(
            self.root / EXTRAS,
            lambda path: path.write_text("".join(json.dumps(e) + "\n" for e in extras)),
        )
        self.info |= {
            "total_episodes": i + 1,
            "total_frames": self.info["total_frames"] + n,
            "splits": {"train": f"0:{i + 1}"},
        }
        replace(self.root / "meta/info.json", lambda path: path.write_text(json.dumps(self.info, indent=2)))

    def finish(self) -> None:
        """Write the dataset's overall statistics; call after the last episode."""
        summarize(self.root, self.info["features"], self.n_episodes)

    def _open(self, camera: Camera | tuple[int, int]) -> dict:
        info_file, repaired = self.root / "meta/info.json", aside_of(self.root)
        if not info_file.exists() and repaired.exists():
            raise BadInput(
                f"a repair of {self.root} was cut short: python -m videopolicy.data.doctor {self.root} --repair"
            )
        mount = "moving" if self.moving else "fixed"
        calibrated = isinstance(camera, Camera)
        size, mine = camera.size if isinstance(camera, Camera) else camera, {}
        if isinstance(camera, Camera):
            mine = {self.camera_name: {**camera.to_json(), "mount": mount, "distortion": [0.0] * 5, **CONVENTIONS}}
        wanted = features(self.key, size, self.fps, self.columns)
        about = {"robot_type": self.robot, "overlay": self.overlay}
        if info_file.exists():
            info = read_info(self.root)
            if (info["fps"], list(info["features"])) != (self.fps, list(wanted)):
                raise BadInput(
                    f"{self.root} holds a dataset at {info['fps']} fps with {list(info['features'])}; allowed: one at"
                    f" {self.fps} fps with {list(wanted)}, or another folder"
                )
            for name, own in about.items():
                if info["total_episodes"] and (held := info.get(name)) != own:
                    what = f"{self.root} was recorded with {name} {held or 'none'}"
                    raise BadInput(f"{what}; allowed: the same, or another folder, not {own or 'none'}")
            info |= about  # of one without episodes, which another start may have left
            (task,) = read_table(self.root / TASKS)["task"].to_pylist()
            if task != self.task:
                raise BadInput(f"{self.root} holds demonstrations of {task!r}; allowed: more of it, not {self.task!r}")
            before = read_json(self.root / cameras.FILE) if calibrated else {}
            sizes = [(c.get("mount"), tuple(c["size"])) for c in before.values()]
            if (shape := info["features"][self.key]["shape"][1::-1]) != list(size) and not calibrated:
                raise BadInput(f"{self.root} holds pictures of {shape}; allowed: more of the same, not {list(size)}")
            if (sizes != [(mount, size)]) if self.moving else (before != json.loads(json.dumps(mine))):
                raise BadInput(f"{self.root} was recorded with another camera than the one at hand")
            self._settle(info)
            return info
        # A first start that was cut short has left these and nothing that could be lost.
        unborn = {TASKS, cameras.FILE, MARKERS, checksums.FILE}
        files = {str(p.relative_to(self.root)) for p in self.root.rglob("*") if p.is_file() and p.name[0] != "."}
        if any(f not in unborn and ".tmp" not in f for f in files):
            raise BadInput(f"{self.root} is not empty and holds no dataset; nothing was written")
        tasks = pa.table({"task_index": pa.array([0]), "task": pa.array([self.task])})
        pandas = {
            "index_columns": ["task"],
            "columns": [_pandas_column("task_index", "int64"), _pandas_column("task", "object")],
        }
        pandas |= {"column_indexes": [], "pandas_version": "2.0.0"}
        tasks = tasks.replace_schema_metadata({"pandas": json.dumps(pandas)})
        replace(self.root / TASKS, lambda path: write_table(tasks, path))
        if calibrated:
            replace(self.root / cameras.FILE, lambda path: path.write_text(json.dumps(mine, indent=2)))
        checksums.record(self.root, [TASKS, cameras.FILE] if calibrated else [TASKS])
        info = {
            "codebase_version": VERSION,
            **about,
            "fps": self.fps,
            "total_episodes": 0,
            "total_frames": 0,
            "total_tasks": 1,
            "chunks_size": CHUNK_SIZE,
            "data_files_size_in_mb": 100,
            "video_files_size_in_mb": 200,
            "data_path": DATA.replace("{chunk:", "{chunk_index:").replace("{file:", "{file_index:"),
            "video_path": VIDEO.replace("{key}", "{video_key}")
            .replace("{chunk:", "{chunk_index:")
            .replace("{file:", "{file_index:"),
            "splits": {"train": "0:0"},
            "features": wanted,
        }
        replace(self.root / "meta/info.json", lambda path: path.write_text(json.dumps(info, indent=2)))
        return info

    def _settle(self, info: dict) -> None:
        """Remove what a writer that was killed has left; sum up what was recorded before sums were kept."""
        for folder in ("data", "videos", "meta"):
            for path in (self.root / folder).rglob("*"):
                if path.is_file() and LEFT.search(path.name):
                    path.unlink()
        if info["total_episodes"] and not (self.root / checksums.FILE).exists():
            rows = [row for _, row in zip(range(info["total_episodes"]), episode_rows(self.root), strict=False)]
            shared = [TASKS, cameras.FILE, MARKERS]
            checksums.record(self.root, [name for name in shared if (self.root / name).exists()])
            for e, (row, extra) in enumerate(zip(rows, self._extras_of(info), strict=False)):
                names = list(episode_files(row, self.key))
                checksums.record(self.root, names, e, extra)

    def _extras_of(self, info: dict) -> list[dict]:
        return read_extras(self.root)[: info["total_episodes"]]


def summarize(root: Path, features: dict, n_episodes: int) -> None:
    """Write statistics over all episodes from those that their rows hold."""
    rows = [row for _, row in zip(range(n_episodes), episode_rows(root), strict=False)]
    keys = [k for k in features if rows and all(f"stats/{k}/{s}" in row for row in rows for s in STATS)]
    stats = {k: merge([{s: r[f"stats/{k}/{s}"] for s in STATS} for r in rows]) for k in keys}
    # Never beside the sum of other ones: cut short, there are none, which is how a recording looks that has not ended.
    (root / STATISTICS).unlink(missing_ok=True)

    def write(path: Path) -> None:
        path.write_text(json.dumps(stats, indent=1))
        checksums.record(root, [STATISTICS], at=path)

    replace(root / STATISTICS, write)


def _vectors(values: np.ndarray) -> pa.Array:
    flat = pa.array(np.ascontiguousarray(values, np.float32).ravel())
    return pa.FixedSizeListArray.from_arrays(flat, values.shape[1])


def _pandas_column(name: str, kind: str) -> dict:
    return {"name": name, "field_name": name, "pandas_type": kind, "numpy_type": kind, "metadata": None}
