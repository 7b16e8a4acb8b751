"""The file that a benchmark's figures go to."""

from pathlib import Path

from videopolicy.data.files import make_folder
from videopolicy.errors import BadInput


def reserve(path: Path | None) -> None:
    """See that the file can be written, before minutes of measuring, not after; `BadInput` where it cannot."""
    if path is None:
        return
    if path.is_dir():
        raise BadInput(f"--json is {path}, a folder; allowed: a file's name")
    make_folder(path.parent)
