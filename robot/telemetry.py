"""What every tick saw and did, as parquet files of a minute each: a crash loses the minute being written."""

from dataclasses import asdict
from pathlib import Path

import pyarrow as pa

from robot.control import Tick
from videopolicy.data.files import make_folder, read_table, replace, write_table

PER_FILE = 3000  # ticks


class Telemetry:
    """Writes to a folder, `telemetry_000.parquet` on; files of an earlier run there stay. Use as a context manager."""

    def __init__(self, folder: Path) -> None:
        make_folder(folder)
        self.folder = folder
        self._rows: list[Tick] = []

    def __enter__(self) -> "Telemetry":
        return self

    def __exit__(self, *_: object) -> None:
        self.flush()

    def add(self, row: Tick) -> None:
        self._rows.append(row)
        if len(self._rows) == PER_FILE:
            self.flush()

    def flush(self) -> None:
        if self._rows:
            table = pa.Table.from_pylist([asdict(row) for row in self._rows])
            path = self.folder / f"telemetry_{len(files(self.folder)):03d}.parquet"
            replace(path, lambda temporary: write_table(table, temporary))
            self._rows = []


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob("telemetry_*.parquet"))


def read(folder: Path) -> pa.Table:
    """All ticks of a folder, in order."""
    return pa.concat_tables([read_table(path) for path in files(folder)])
