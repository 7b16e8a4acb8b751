"""The doctor finds what is wrong with a dataset, says where, and cuts it back without losing the rest."""

import re
import subprocess
import sys
from pathlib import Path

import builders
import pyarrow.parquet as pq
import pytest
from builders import ROW, TABLE, VIDEO, snapshot
from damage import cut, edit_line, edit_table, flip

from videopolicy.data import checksums
from videopolicy.data.doctor import main
from videopolicy.data.findings import examine
from videopolicy.data.format import EXTRAS
from videopolicy.data.lerobot import Dataset
from videopolicy.data.video import write_video
from videopolicy.errors import BadInput

LONG = (12, 14, 13, 12)  # frames


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    return builders.write_dataset(tmp_path / "dataset", LONG)


def test_a_sound_dataset_is_sound(dataset: Path, capsys: pytest.CaptureFixture) -> None:
    before = snapshot(dataset)
    found = main(dataset)
    assert found.sound
    assert not found.warnings
    assert (found.n_episodes, found.n_sound) == (4, 4)
    said = capsys.readouterr().out
    assert "4 episodes, 51 frames, 16 files with a SHA-256" in said
    assert said.endswith("sound\n")
    main(dataset, mend=True)
    assert "nothing to repair" in capsys.readouterr().out
    assert snapshot(dataset) == before


FAULTS = {
    "one bit of a video": (lambda d: flip(d / VIDEO.format(2)), "SHA-256 differs"),
    "one bit of a table": (lambda d: flip(d / TABLE.format(2)), "SHA-256 differs"),
    "one bit of a row": (lambda d: flip(d / ROW.format(2)), "cannot read .*file-002|SHA-256 differs"),
    "a video cut short": (lambda d: cut(d / VIDEO.format(2)), "SHA-256 differs"),
    "no video": (lambda d: (d / VIDEO.format(2)).unlink(), "file-002.mp4: No such file"),
    "an empty video": (lambda d: (d / VIDEO.format(2)).write_bytes(b""), "SHA-256 differs"),
    "a table without footer": (lambda d: cut(d / TABLE.format(2)), "SHA-256 differs"),
    "no table": (lambda d: (d / TABLE.format(2)).unlink(), "file-002.parquet: No such file"),
    "no row": (lambda d: (d / ROW.format(2)).unlink(), "row 2 is of episode 3"),
    "another extra": (lambda d: edit_line(d / EXTRAS, 2, placed=False), "line 3 is not what was recorded"),
    "an extra that is no JSON": (
        lambda d: (d / EXTRAS).write_text((d / EXTRAS).read_text().replace('index": 2', 'index" 2')),
        "JSONDecodeError",
    ),
}
BEYOND_SUMS = {
    "frames missing in a video": (
        lambda d: write_video(d / VIDEO.format(2), builders.episode(2, 12).frames, builders.FPS),
        "holds 12 frames, its table says 13",
    ),
    "rows missing": (
        lambda d: pq.write_table(pq.read_table(d / TABLE.format(2)).slice(0, 11), d / TABLE.format(2)),
        "holds 11 frames of episode 2, its row says 13",
    ),
    "a column missing": (
        lambda d: pq.write_table(pq.read_table(d / TABLE.format(2)).drop(["action"]), d / TABLE.format(2)),
        r"it has columns \['episode_index'",
    ),
    "a value that is not finite": (
        lambda d: edit_table(d / TABLE.format(2), "action", lambda x: [*x[:5], [0.0, float("nan"), 0.0, 1.0], *x[6:]]),
        "action of episode 2, frame 5, is not finite",
    ),
    "a time off its grid": (
        lambda d: edit_table(d / TABLE.format(2), "timestamp", lambda x: [*x[:4], x[4] + 0.01, *x[5:]]),
        r"the timestamp of frame 4 is off its 1/4 s by 0.0100 s",
    ),
    "an index twice": (
        lambda d: edit_table(d / TABLE.format(2), "index", lambda x: [*x[:4], x[3], *x[5:]]),
        "index does not count on from 26",
    ),
}


@pytest.mark.parametrize("name", [*FAULTS, *BEYOND_SUMS])
def test_faults_are_found_and_cut_off(dataset: Path, tmp_path: Path, name: str) -> None:
    """Each is of episode 2: the two before it stay as they are, byte for byte, and the whole is kept beside them."""
    fault, words = (FAULTS | BEYOND_SUMS)[name]
    if name in BEYOND_SUMS:
        builders.without_sums(dataset)
    fault(dataset)
    damaged = snapshot(dataset)
    found = main(dataset)
    assert list(found.of_episodes) == [2]
    assert re.search(words, found.of_episodes[2][0])
    main(dataset, mend=True)
    data = Dataset(dataset)
    assert [data.length(e) for e in range(len(data))] == [12, 14]
    assert examine(dataset).sound
    assert snapshot(tmp_path / "dataset.damaged_1") == damaged
    after = snapshot(dataset)
    for file in (TABLE, VIDEO, ROW):
        assert all(after[file.format(e)] == damaged[file.format(e)] for e in (0, 1))
    main(dataset, mend=True)  # once more changes nothing
    assert snapshot(dataset) == after
    assert not (tmp_path / "dataset.damaged_2").exists()
    writer = builders.open_writer(dataset)  # recording goes on behind it
    writer.append(builders.episode(2, 9))
    assert examine(dataset).of_episodes == {}


def test_recording_that_goes_on_is_sound(dataset: Path) -> None:
    """Statistics of before are stale until it ends; that is said."""
    builders.open_writer(dataset).append(builders.episode(4, 12))
    found = examine(dataset)
    assert found.sound
    assert any("recording goes on" in text for text in found.warnings)


def test_a_lost_line_of_checksums_is_noticed(dataset: Path) -> None:
    """Or a file could change under the name of one that has no sum."""
    lines = (dataset / checksums.FILE).read_text().splitlines()
    kept = [line for line in lines if VIDEO.format(2) not in line]
    assert len(kept) == len(lines) - 1
    (dataset / checksums.FILE).write_text("\n".join(kept) + "\n")
    assert "has no SHA-256" in examine(dataset).of_episodes[2][0]
    with pytest.raises(BadInput, match="has no SHA-256"):
        Dataset(dataset)


def test_a_dataset_from_before_there_were_sums_gets_them_when_recording_goes_on(dataset: Path) -> None:
    builders.without_sums(dataset)
    builders.open_writer(dataset).append(builders.episode(4, 12))
    flip(dataset / VIDEO.format(1))
    assert list(examine(dataset).of_episodes) == [1]


def test_nobody_elses_files_are_swept(tmp_path: Path) -> None:
    """What a killed writer left goes; a folder that is refused, and files of other names, stay as they are."""
    root = builders.write_dataset(tmp_path / "dataset", LONG)
    (root / "data/mine.tmp.csv").write_text("mine")
    (root / "data/file-009.77.tmp").write_text("left")
    builders.open_writer(root)
    assert (root / "data/mine.tmp.csv").exists()
    assert not (root / "data/file-009.77.tmp").exists()
    other = tmp_path / "other"
    (other / "data").mkdir(parents=True)
    for name in ("README", "data/file-001.77.tmp", "meta"):
        (other / name).write_text("five years")
    before = snapshot(other)
    with pytest.raises(BadInput, match="not empty"):
        builders.open_writer(other)
    assert snapshot(other) == before


def test_a_camera_that_hangs_is_noticed(tmp_path: Path) -> None:
    """Equal pictures while the arm moves; not while it rests."""

    def halt(number: int, episode: builders.Episode) -> builders.Episode:
        if number == 1:
            episode.frames[2:13] = episode.frames[2]
        if number == 2:
            for values in (episode.frames, episode.state, episode.action):
                values[2:] = values[2]
        return episode

    found = examine(builders.write_dataset(tmp_path / "dataset", (14, 14, 14), change=halt))
    assert found.sound
    (warning,) = found.warnings
    assert warning.startswith("episode 1: frames 2 to 12 are equal while the end effector moves")


def test_leftovers_are_named(dataset: Path) -> None:
    (dataset / TABLE.format(4)).write_bytes((dataset / TABLE.format(3)).read_bytes())
    found = examine(dataset)
    assert found.sound
    assert found.warnings == [f"{TABLE.format(4)} belongs to no episode: left by a recording that was cut short?"]


@pytest.mark.parametrize(("fault", "status"), [(None, 0), (flip, 1), ("gone", 2)])
def test_the_exit_status_says_it(dataset: Path, fault: object, status: int) -> None:
    if callable(fault):
        fault(dataset / VIDEO.format(0))
    root = dataset / "nowhere" if fault == "gone" else dataset
    command = [sys.executable, "-m", "videopolicy.data.doctor", str(root)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == status, result.stderr
    assert "Traceback" not in result.stderr
