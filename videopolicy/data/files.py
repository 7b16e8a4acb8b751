"""Files that are whole or absent, and tables whose damage is noticed."""

import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from videopolicy.errors import BadInput


def read_json(path: Path) -> dict:
    try:
        return json.loads(path.read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise BadInput(f"cannot read {path}: {error}") from error


def read_jsonl(path: Path) -> list[dict]:
    """One object per line, up to the first line that a crash cut short; nothing where there is no file."""
    records = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return records


def append_jsonl(path: Path, record: dict) -> None:
    """Add a line, first cutting off a last one that a crash left without its end; for one writer at a time."""
    with path.open("ab+") as file:
        file.seek(0)
        text = file.read()
        file.truncate(text.rfind(b"\n") + 1)
        file.write(json.dumps(record).encode() + b"\n")


def make_folder(path: Path) -> None:
    """Make a folder that can be written; `BadInput` where that cannot be."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / f".writable.{os.getpid()}"  # several processes of one run may try at once
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise BadInput(f"cannot write to the folder {path}: {error.strerror}") from error


@contextmanager
def lock_folder(path: Path) -> Iterator[None]:
    """Hold a folder for this process; `BadInput` where another one holds it. A process that dies lets go."""
    with (path / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise BadInput(f"another process is writing to {path}; wait for it, or end it") from error
        yield


def read_table(path: Path) -> pa.Table:
    try:
        return pq.ParquetFile(path, page_checksum_verification=True).read()
    except (OSError, pa.ArrowException) as error:
        raise BadInput(f"cannot read {path}: {' '.join(str(error).split())}") from error


def write_table(table: pa.Table, path: Path) -> None:
    pq.write_table(table, path, compression="snappy", write_page_checksum=True)


def replace_folder(path: Path, write: Callable[[Path], object]) -> None:
    """Write a folder aside and put it in its place; the old one goes last."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new, old = (path.with_name(f".{path.name}.{name}") for name in ("new", "old"))
    for left_over in (new, old):
        shutil.rmtree(left_over, ignore_errors=True)
    write(new)
    if path.exists():
        path.rename(old)
    new.rename(path)
    shutil.rmtree(old, ignore_errors=True)


def replace(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file under a temporary name, sync it, and put it in its place in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # The process in the name: two of them may make the same file at once, and the last one wins whole.
    aside = f"{path.stem}.{os.getpid()}.tmp"
    temporary = path.with_name(f"{aside}{path.suffix}" if path.suffix == ".npz" else aside)
    write(temporary)
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    temporary.replace(path)
