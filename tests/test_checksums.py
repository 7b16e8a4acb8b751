"""Files that are not what was recorded are refused, and datasets are told apart by what they hold."""

from pathlib import Path

import builders
import pytest
from builders import LENGTHS, ROW, TABLE, VIDEO
from test_doctor import edit_line, flip

from videopolicy.data import checksums
from videopolicy.data.format import EXTRAS
from videopolicy.data.lerobot import Dataset
from videopolicy.data.video import write_video
from videopolicy.errors import BadInput


def test_altered_files_are_refused_when_they_are_read(small_dataset: Path) -> None:
    """Half of such bits decode without an error into other pictures."""
    for name in (VIDEO.format(1), TABLE.format(1), ROW.format(1), "meta/para_cameras.json", "meta/para_markers.npz"):
        whole = (small_dataset / name).read_bytes()
        flip(small_dataset / name)
        with pytest.raises(BadInput, match=name.replace(".", r"\.")):
            Dataset(small_dataset).frames(1)
        (small_dataset / name).write_bytes(whole)
    edit_line(small_dataset / EXTRAS, 1, placed=False)
    with pytest.raises(BadInput, match="line 2 is not what was recorded"):
        Dataset(small_dataset)


def test_the_digest_is_of_what_was_recorded(small_dataset: Path, tmp_path: Path) -> None:
    digest = Dataset(small_dataset).digest
    other = builders.write_dataset(tmp_path / "other", LENGTHS)
    assert Dataset(other).digest == digest
    (other / checksums.FILE).unlink()
    digest = Dataset(other).digest
    assert Dataset(other).digest == digest
    write_video(other / VIDEO.format(1), builders.episode(3, 4).frames, builders.FPS)
    assert Dataset(other).digest != digest
