"""What every tick saw and did, as parquet files of a minute each: a crash loses the minute being written."""

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

import pyarrow as pa

from robot.control import Tick
from videopolicy.data.files import make_folder, read_table, replace, write_table

PER_FILE = 3000  # ticks


class Telemetry:
    """Writes to a folder, `telemetry_000.parquet` on; files of an earlier run there stay. Use as a context manager.

    Files are written on a thread of their own: no tick waits for a disk. What goes wrong there is raised by the next
    `add`, or at the end.
    """

    def __init__(self, folder: Path, per_file: int = PER_FILE) -> None:
        make_folder(folder)
        self.folder, self.per_file = folder, per_file
        self._rows: list[Tick] = []
        self._thread = ThreadPoolExecutor(1, "telemetry")
        self._writing: Future[None] | None = None

    def __enter__(self) -> "Telemetry":
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.flush()
            if self._writing is not None:
                self._writing.result()
        finally:
            self._thread.shutdown()

    def add(self, row: Tick) -> None:
        self._rows.append(row)
        if self._writing is not None and self._writing.done():
            done, self._writing = self._writing, None
            done.result()
        if len(self._rows) >= self.per_file and self._writing is None:
            self.flush()

    def flush(self) -> None:
        """Begin to write what there is, after what is being written."""
        if self._rows:
            rows, self._rows = self._rows, []
            self._writing = self._thread.submit(self._write, rows, self._writing)

    def _write(self, rows: list[Tick], before: "Future[None] | None") -> None:
        if before is not None:
            before.result()
        table = pa.Table.from_pylist([asdict(row) for row in rows])
        path = self.folder / f"telemetry_{len(files(self.folder)):03d}.parquet"
        replace(path, lambda temporary: write_table(table, temporary))


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob("telemetry_*.parquet"))


def read(folder: Path) -> pa.Table:
    """All ticks of a folder, in order."""
    return pa.concat_tables([read_table(path) for path in files(folder)])
