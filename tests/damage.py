"""What happens to files."""

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors.torch import load_file, save_file

from videopolicy.data.files import sha256
from videopolicy.training import checkpoint


def flip(path: Path, at: float = 0.6) -> None:
    data = bytearray(path.read_bytes())
    data[int(len(data) * at)] ^= 1
    path.write_bytes(bytes(data))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def edit_table(path: Path, column: str, change: Callable[[list], list]) -> None:
    table = pq.read_table(path)
    i = table.column_names.index(column)
    values = change(table[column].to_pylist())
    table = table.set_column(i, column, pa.array(values, table[column].type))
    pq.write_table(table, path)


def edit_json(path: Path, **values: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def edit_line(path: Path, number: int, **values: object) -> None:
    lines = path.read_text().splitlines()
    lines[number] = json.dumps(json.loads(lines[number]) | values)
    path.write_text("\n".join(lines) + "\n")


def tamper(found: Path, name: str, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    """Other tensors in a checkpoint, under a manifest that agrees."""
    tensors = load_file(found / name)
    change(tensors)
    save_file(tensors, found / name)
    manifest = json.loads((found / checkpoint.MANIFEST).read_text())
    manifest["files"][name] = {"bytes": (found / name).stat().st_size, "sha256": sha256(found / name)}
    (found / checkpoint.MANIFEST).write_text(json.dumps(manifest))
