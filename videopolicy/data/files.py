"""Files that are whole or absent, and tables whose damage is noticed."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from videopolicy.errors import BadInput


def read_json(path: Path) -> dict:
    try:
        return json.loads(path.read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise BadInput(f"cannot read {path}: {error}") from error


def read_table(path: Path) -> pa.Table:
    try:
        return pq.ParquetFile(path, page_checksum_verification=True).read()
    except (OSError, pa.ArrowException) as error:
        raise BadInput(f"cannot read {path}: {' '.join(str(error).split())}") from error


def write_table(table: pa.Table, path: Path) -> None:
    pq.write_table(table, path, compression="snappy", write_page_checksum=True)


def replace(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file under a temporary name, sync it, and put it in its place in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.stem}.tmp{path.suffix}" if path.suffix == ".npz" else path.name + ".tmp")
    write(temporary)
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    temporary.replace(path)
