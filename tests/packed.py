"""Datasets as LeRobot packs them: several episodes to each table and video."""

import shutil
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from builders import FPS, KEY, ROW, TABLE, VIDEO

from videopolicy.data import checksums

Join = Callable[[list[Path], Path], None]


def pack(root: Path, target: Path, groups: tuple[int, ...], join: Join | None = None) -> Path:
    """A dataset of one episode a file again, so many to each file, and all rows in one table; returns its folder.

    Videos are joined without being coded anew, which is how LeRobot does it, or by `join`.
    """
    shutil.copytree(root, target)
    for part in ("data", "videos", "meta/episodes"):
        shutil.rmtree(target / part)
        (target / part).mkdir()
    (target / checksums.FILE).unlink(missing_ok=True)
    rows: list[dict] = []
    for file, n in enumerate(groups):
        first = len(rows)
        paths = [root / VIDEO.format(e) for e in range(first, first + n)]
        begin = 0.0
        for e in range(first, first + n):
            (row,) = pq.read_table(root / ROW.format(e)).to_pylist()
            end = begin + row["length"] / FPS
            place = {"data/file_index": file, f"videos/{KEY}/file_index": file, "meta/episodes/file_index": 0}
            span = {f"videos/{KEY}/from_timestamp": begin, f"videos/{KEY}/to_timestamp": end}
            rows.append({**row, **place, **span})
            begin = end
        write_groups(
            [pq.read_table(root / TABLE.format(e)) for e in range(first, first + n)], target / TABLE.format(file)
        )
        (target / VIDEO.format(file)).parent.mkdir(parents=True, exist_ok=True)
        (join or remux)(paths, target / VIDEO.format(file))
    write_rows(target, rows)
    return target


def write_groups(tables: list[pa.Table], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with pq.ParquetWriter(path, tables[0].schema) as writer:
        for table in tables:
            writer.write_table(table)


def write_rows(root: Path, rows: list[dict]) -> None:
    write_groups([pa.Table.from_pylist(rows)], root / ROW.format(0))


def read_rows(root: Path) -> list[dict]:
    return pq.read_table(root / ROW.format(0)).to_pylist()


def remux(paths: list[Path], target: Path) -> None:
    """Their packets one after the other, each file's after the end of what was before."""
    with av.open(str(target), "w") as output:
        stream, offset = None, 0
        for path in paths:
            with av.open(str(path)) as source:
                theirs = source.streams.video[0]
                if stream is None:
                    stream = output.add_stream_from_template(theirs)
                    stream.time_base = theirs.time_base
                for packet in source.demux(theirs):
                    if packet.dts is None:
                        continue
                    packet.pts += offset
                    packet.dts += offset
                    packet.stream = stream
                    output.mux(packet)
                offset += round(theirs.frames / (FPS * theirs.time_base))


def encoder(codec: str, **options: str) -> Join:
    """Joins videos by coding their pictures anew."""

    def join(paths: list[Path], target: Path) -> None:
        frames = np.concatenate([decoded(path) for path in paths])
        with av.open(str(target), "w") as container:
            stream = container.add_stream(codec, rate=FPS)
            stream.width, stream.height, stream.pix_fmt = frames.shape[2], frames.shape[1], "yuv420p"
            stream.options = options
            for frame in frames:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            container.mux(stream.encode())

    return join


def decoded(path: Path) -> np.ndarray:
    """All pictures of a file, in order."""
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
