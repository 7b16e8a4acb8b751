"""A dataset is cut back to its sound beginning, and nothing of it is lost."""

import json
import re
from pathlib import Path

import builders
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from builders import ROW, VIDEO, snapshot
from damage import edit_json, flip

from videopolicy.data import checksums
from videopolicy.data.doctor import main
from videopolicy.data.files import lock_folder
from videopolicy.data.findings import examine
from videopolicy.data.format import EXTRAS
from videopolicy.data.lerobot import Dataset
from videopolicy.errors import BadInput

LONG = (12, 14, 13, 12)  # frames


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    return builders.write_dataset(tmp_path / "dataset", LONG)


SHARED = {
    "a camera that is no rotation": (lambda d: _turn(d, 0.9), "no rigid transform"),
    "a mirrored camera": (lambda d: _turn(d, -1.0), "no rigid transform"),
    "a lens that distorts": (lambda d: _distort(d), r"distortion is \[0.1, 0, 0, 0, 0\]; allowed: none"),
    "no camera": (lambda d: (d / "meta/para_cameras.json").unlink(), "para_cameras.json: No such file"),
    "no markers": (lambda d: (d / "meta/para_markers.npz").unlink(), "para_markers.npz"),
    "no tasks": (lambda d: (d / "meta/tasks.parquet").unlink(), "tasks.parquet"),
}


def _turn(root: Path, scale: float) -> None:
    path = root / "meta/para_cameras.json"
    cameras = json.loads(path.read_text())
    T = np.array(cameras["agentview"]["T_world_cam"])
    T[:3, 0] *= scale
    cameras["agentview"]["T_world_cam"] = T.tolist()
    path.write_text(json.dumps(cameras))


def _distort(root: Path) -> None:
    path = root / "meta/para_cameras.json"
    found = json.loads(path.read_text())
    edit_json(path, agentview=found["agentview"] | {"distortion": [0.1, 0, 0, 0, 0]})


@pytest.mark.parametrize("name", SHARED)
def test_what_all_episodes_share_cannot_be_cut_off(dataset: Path, tmp_path: Path, name: str) -> None:
    fault, words = SHARED[name]
    builders.without_sums(dataset)
    fault(dataset)
    before = snapshot(dataset)
    found = main(dataset)
    assert found.n_sound == 0
    assert re.search(words, " ".join([*found.of_all, *found.of_episodes.get(0, [])]))
    with pytest.raises(BadInput, match="nothing was changed"):
        main(dataset, mend=True)
    assert snapshot(dataset) == before
    assert [p.name for p in tmp_path.iterdir()] == ["dataset"]


def with_wrist(dataset: Path) -> str:
    """Give a dataset a second camera's videos, as other tools record them."""
    other = "observation.images.wrist"
    info = json.loads((dataset / "meta/info.json").read_text())
    edit_json(dataset / "meta/info.json", features=info["features"] | {other: info["features"][builders.KEY]})
    for e in range(4):
        row = pq.read_table(dataset / ROW.format(e)).to_pylist()[0]
        row |= {k.replace(builders.KEY, other): v for k, v in row.items()}
        pq.write_table(pa.Table.from_pylist([row]), dataset / ROW.format(e))
        path = dataset / VIDEO.format(e).replace(builders.KEY, other)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes((dataset / VIDEO.format(e)).read_bytes())
    return other


def test_what_is_not_looked_at_is_kept_too(dataset: Path, tmp_path: Path) -> None:
    """A second camera's videos, the card, other tools' files; the doctor says that it looked at one camera."""
    other = with_wrist(dataset)
    (dataset / "meta/other").mkdir()
    (dataset / "meta/other/notes.txt").write_text("kept")
    (dataset / "README.md").write_text("Five days of somebody's hands.")
    builders.without_sums(dataset)
    assert f"pictures of {other} were not looked at: training reads {builders.KEY}" in examine(dataset).warnings
    assert len(examine(dataset).warnings) == 2  # that, and that there are no sums
    (dataset / VIDEO.format(2)).write_bytes(b"")
    main(dataset, mend=True)
    assert examine(dataset).sound
    assert len(list(dataset.glob(f"videos/{other}/*/*.mp4"))) == 2
    assert (dataset / "README.md").read_text() == "Five days of somebody's hands."
    assert (dataset / "meta/other/notes.txt").read_text() == "kept"


def test_a_dataset_that_somebody_writes_to_is_not_repaired(dataset: Path) -> None:
    flip(dataset / VIDEO.format(2))
    before = snapshot(dataset)
    with lock_folder(dataset), pytest.raises(BadInput, match=r"process \d+ on .* is writing to"):
        main(dataset, mend=True)
    assert snapshot(dataset) == before


def test_lines_of_no_episode_are_read_too(dataset: Path) -> None:
    """Training reads all of the file; a repair leaves out what nothing counts."""
    with (dataset / EXTRAS).open("a") as file:
        file.write("no JSON\n\n")
    with pytest.raises(BadInput, match="line 5 is not JSON"):
        Dataset(dataset)
    assert any("line 5 is not JSON" in text for text in examine(dataset).of_counts)
    main(dataset, mend=True)
    assert len(Dataset(dataset)) == 4


def test_a_repair_cut_short_is_finished(dataset: Path, tmp_path: Path) -> None:
    """Between its last two steps the dataset has no name: the next one gives it back."""
    flip(dataset / VIDEO.format(2))
    main(dataset, mend=True)
    after = snapshot(dataset)
    dataset.rename(tmp_path / ".dataset.repaired")
    for opened in (Dataset, builders.open_writer):
        with pytest.raises(BadInput, match=r"a repair .*was cut short"):
            opened(dataset)
    main(dataset, mend=True)
    assert snapshot(dataset) == after


def test_counts_are_mended(dataset: Path) -> None:
    edit_json(dataset / "meta/info.json", total_frames=50)
    edit_json(dataset / "meta/stats.json", action={})
    found = main(dataset)
    assert "info.json counts 50 frames, the tables 51" in found.of_counts
    assert any("stats.json is not what was recorded" in text for text in found.of_counts)
    assert found.n_sound == 4
    main(dataset, mend=True)
    assert examine(dataset).sound
    assert Dataset(dataset).info["total_frames"] == 51


def test_a_repair_cut_short_survives_an_attempt_to_record(dataset: Path, tmp_path: Path) -> None:
    """Which leaves a lock where the dataset was, and is told of the repair."""
    flip(dataset / VIDEO.format(2))
    main(dataset, mend=True)
    after = snapshot(dataset)
    dataset.rename(tmp_path / ".dataset.repaired")
    dataset.mkdir()
    with lock_folder(dataset), pytest.raises(BadInput, match=r"a repair .*was cut short"):
        builders.open_writer(dataset)
    main(dataset, mend=True)
    assert snapshot(dataset) == after


def test_whoever_stands_in_it_repairs_it(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flip(dataset / VIDEO.format(2))
    monkeypatch.chdir(dataset)
    assert main(Path(), mend=True).sound
    assert len(Dataset(dataset)) == 2


def test_a_second_cameras_files_are_looked_for_and_summed(dataset: Path) -> None:
    """Of each, whether it is there and as it was recorded; its pictures are not decoded."""
    other = with_wrist(dataset)
    checksums.record(dataset, [VIDEO.format(e).replace(builders.KEY, other) for e in range(4)])
    checksums.record(dataset, [ROW.format(e) for e in range(4)])
    assert examine(dataset).sound
    flip(dataset / VIDEO.format(3).replace(builders.KEY, other))
    assert "SHA-256 differs" in examine(dataset).of_episodes[3][0]
    (dataset / VIDEO.format(1).replace(builders.KEY, other)).unlink()
    main(dataset, mend=True)
    assert len(Dataset(dataset)) == 1


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"data/chunk_index": None}, "episode 2 has data/chunk_index None"),
        ({f"videos/{builders.KEY}/file_index": "two"}, "file_index 'two'; allowed: whole numbers"),
        ({"length": -3}, "episode 2 has length -3"),
        ({"videos/observation.images.wrist/chunk_index": None}, "wrist/chunk_index None"),
        ({f"videos/{builders.KEY}/from_timestamp": -1.0}, "from_timestamp -1.0; allowed: seconds from 0 on"),
        ({f"videos/{builders.KEY}/to_timestamp": "end"}, "to_timestamp 'end'; allowed: seconds from 0 on"),
        ({f"videos/{builders.KEY}/to_timestamp": 9.0}, "it has 0.000 to 9.000 s of its video, for 13 frames"),
    ],
)
def test_rows_that_are_none_are_named(dataset: Path, changes: dict, words: str) -> None:
    """By the doctor, which cuts them off, and by what trains; an end that only others read, by the doctor."""
    with_wrist(dataset)
    builders.without_sums(dataset)
    path = dataset / ROW.format(2)
    (row,) = pq.read_table(path).to_pylist()
    pq.write_table(pa.Table.from_pylist([row | changes]), path)
    found = examine(dataset)
    assert list(found.of_episodes) == [2]
    assert words in found.of_episodes[2][0]
    if "of its video" not in words:
        with pytest.raises(BadInput, match=r"episode 2 has"):
            Dataset(dataset)
    main(dataset, mend=True)
    assert len(Dataset(dataset)) == 2
