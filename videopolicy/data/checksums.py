"""SHA-256 of a dataset's files, but for its card and `info.json`: a decoder passes over half of all changes.

meta/para_checksums.jsonl: {"files": {path in the dataset: sum}, "extra": sum of an episode's line} for what was written
together; of several lines the last one counts.
"""

import hashlib
import json
from pathlib import Path

from videopolicy.data.files import append_jsonl, read_jsonl, reading, sha256
from videopolicy.errors import BadInput

FILE = "meta/para_checksums.jsonl"


def record(
    root: Path, names: list[str], episode: int | None = None, extra: dict | None = None, at: Path | None = None
) -> None:
    """Keep the sums of files as they are now, and of what was said of an episode beside its tables.

    `at`: where the one file is that is still to be put in its place.
    """
    line: dict = {"files": {name: sha256(at or root / name) for name in names}}
    if episode is not None:
        line["episode_index"] = episode
    if extra is not None:
        line["extra"] = of_extra(extra)
    append_jsonl(root / FILE, line)


def read(root: Path) -> tuple[dict[str, str], dict[int, str]]:
    """Sums by path in the dataset, and of what was said of an episode beside its tables; none where none are kept."""
    files: dict[str, str] = {}
    extras: dict[int, str] = {}
    for line in read_jsonl(root / FILE):
        with reading(root / FILE):
            files |= {str(name): str(value) for name, value in line["files"].items()}
            if "extra" in line:
                extras[int(line["episode_index"])] = str(line["extra"])
    return files, extras


def of_extra(extra: dict) -> str:
    """The sum of an episode's line of `meta/para_episodes.jsonl`."""
    return hashlib.sha256(json.dumps(extra, sort_keys=True).encode()).hexdigest()


def check(root: Path, name: str, files: dict[str, str]) -> None:
    """`BadInput` where a file is not what was recorded; nothing where no sums were kept at all."""
    with reading(root / name):
        if files and name not in files:
            raise BadInput(f"{root / FILE} has no SHA-256 of {name}: a line of it was lost")
        if files and sha256(root / name) != files[name]:
            raise BadInput(
                f"{root / name} is not what was recorded: its SHA-256 differs; see python -m"
                f" videopolicy.data.doctor {root}"
            )
