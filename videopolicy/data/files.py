"""Files that are whole or absent, and whose damage is noticed and named."""

import fcntl
import hashlib
import json
import math
import os
import platform
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from videopolicy.errors import BadInput

MIB = 2**20
LOCK = ".lock"  # in a folder that one process writes to


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Around all that a file's contents can make go wrong: `BadInput` in one line, which names the file."""
    try:
        yield
    except BadInput as error:
        if str(path) in str(error):
            raise
        raise BadInput(f"{path}: {error}") from error
    except OSError as error:
        raise BadInput(f"cannot read {path}: {error.strerror or _line(error)}") from error
    except Exception as error:  # whatever a parser makes of what is no such file
        raise BadInput(f"cannot read {path}: {type(error).__name__}: {_line(error)}") from error


@contextmanager
def writing(path: Path, then: str = "the same command continues", needed: int = 0) -> Iterator[None]:
    """Around writing a file: where that fails, `BadInput` says why, how much is free, and what `then` is to be done.

    `needed`: bytes that it takes, where that is known; it then says how many are to be freed.
    """
    try:
        yield
    except OSError as error:
        folder = next((p for p in (path, *path.absolute().parents) if p.is_dir()), Path("/"))
        free = shutil.disk_usage(folder).free
        room = f"{free / MIB:.0f} MiB are free there"
        if needed > free:
            room += f", {needed / MIB:.0f} are needed: free {math.ceil((needed - free) / MIB)} MiB"
        raise BadInput(f"cannot write {path}: {error.strerror or _line(error)} ({room}); {then}") from error


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def described(path: Path) -> dict:
    """Of a file what `differing` looks at."""
    return {"bytes": path.stat().st_size, "sha256": sha256(path)}


def differing(folder: Path, files: dict[str, dict], where: str) -> str | None:
    """What of a folder's files is not as `described` by name in the file `where`; None where nothing is."""
    for name, entry in files.items():
        file = folder / name
        if file.parent != folder or not file.is_file():
            return f"{name} is missing"
        if file.stat().st_size != entry["bytes"] or sha256(file) != entry["sha256"]:
            return f"{name} differs from {where}"
    return None


def read_json(path: Path) -> dict:
    with reading(path):
        found = json.loads(path.read_text())
        if not isinstance(found, dict):
            raise BadInput(f"it must hold an object, not {type(found).__name__}")
    return found


def write_json(path: Path, record: object) -> None:
    """Write a file in one step, indented, for people to read too."""
    text = json.dumps(record, indent=1) + "\n"
    replace(path, lambda to: to.write_text(text))


def read_jsonl(path: Path) -> list[dict]:
    """One object per line, but for a last one that a crash cut short; nothing where there is no file."""
    if not path.exists():
        return []
    records: list[dict] = []
    with reading(path):
        lines = path.read_bytes().split(b"\n")
        for number, line in enumerate(lines, 1):
            try:
                record = json.loads(line)
            except (ValueError, RecursionError) as error:
                if number == len(lines):
                    break
                raise BadInput(f"line {number} is not JSON: {_line(error)}") from error
            if not isinstance(record, dict):
                raise BadInput(f"line {number} must be an object, not {type(record).__name__}")
            records.append(record)
    return records


def append_jsonl(path: Path, record: dict) -> None:
    """Add a line, after cutting off a last one that a crash cut short; for one writer at a time."""
    with writing(path), path.open("ab+") as file:
        file.seek(0)
        text = file.read()
        end = text.rfind(b"\n") + 1
        if _is_json(text[end:]):  # whole but for its line break
            file.write(b"\n")
        else:
            file.truncate(end)
        file.write(json.dumps(record).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def make_folder(path: Path) -> None:
    """Make a folder that can be written; `BadInput` where that cannot be."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):  # of a name of its own: processes and threads of one run may try at once
            pass
    except OSError as error:
        raise BadInput(f"cannot write to the folder {path}: {error.strerror}") from error


@contextmanager
def lock_folder(path: Path) -> Iterator[None]:
    """Hold a folder for this process; `BadInput` where another one holds it. A process that dies lets go."""
    with writing(path / LOCK):
        file = (path / LOCK).open("a+")
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            who = file.read(200).strip() or "another process"
            raise BadInput(f"{who} is writing to {path}; wait for it, or end it") from error
        with writing(path / LOCK):
            file.truncate(0)
            file.write(f"process {os.getpid()} on {platform.node()}\n")
            file.flush()
        yield


def read_table(path: Path) -> pa.Table:
    with reading(path):
        return pq.ParquetFile(path, page_checksum_verification=True).read()


def write_table(table: pa.Table, path: Path) -> None:
    pq.write_table(table, path, compression="snappy", write_page_checksum=True)


def replace_folder(path: Path, write: Callable[[Path], object]) -> None:
    """Write a folder aside and put it in its place; the old one goes last."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new, old = (path.with_name(f".{path.name}.{name}") for name in ("new", "old"))
    for left_over in (new, old):
        shutil.rmtree(left_over, ignore_errors=True)
    try:
        write(new)
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise
    if path.exists():
        path.rename(old)
    new.rename(path)
    shutil.rmtree(old, ignore_errors=True)


def replace(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file under a temporary name, sync it, and put it in its place in one step; a failure leaves neither."""
    # The process in the name: two of them may make the same file at once, and the last one wins whole.
    aside = f"{path.stem}.{os.getpid()}.tmp"
    temporary = path.with_name(f"{aside}{path.suffix}" if path.suffix == ".npz" else aside)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            write(temporary)
            sync(temporary)
            temporary.replace(path)
            sync(path.parent)
        except BaseException:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise


def sync(path: Path) -> None:
    """Return when a file's contents, or a folder's names, are on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _is_json(text: bytes) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]
