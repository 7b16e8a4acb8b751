"""Datasets as LeRobot packs them, several episodes to a file, are read to the picture, trained on, and looked over."""

import re
import shutil
from pathlib import Path
from typing import Any

import builders
import numpy as np
import packed
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from builders import FPS, KEY, TABLE, VIDEO, snapshot
from damage import edit_table
from flows import SPEED, config

from train_stages import joint, light, video
from videopolicy.data.doctor import main
from videopolicy.data.files import read_jsonl
from videopolicy.data.findings import examine
from videopolicy.data.lerobot import Dataset
from videopolicy.data.video import read_span
from videopolicy.errors import BadInput

LONG = (12, 14, 13, 9, 11)  # frames
GROUPS = (3, 2)  # episodes to a file
FIRST = (0, 12, 26, 0, 9)  # where in its file each begins [frames]
CODINGS = {
    "joined": None,
    "frames in another order": packed.encoder("libx264", g="250", bf="3"),
    "before their key frame": packed.encoder("libx264", g="6", **{"x264-params": "open-gop=1:bframes=3:b-adapt=0"}),
    "AV1": packed.encoder("libsvtav1", g="2", crf="30", preset="12"),
}


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One episode a file; read only."""
    return builders.write_dataset(tmp_path_factory.mktemp("own") / "dataset", LONG)


@pytest.fixture
def dataset(own: Path, tmp_path: Path) -> Path:
    """The same, packed; to be damaged."""
    return packed.pack(own, tmp_path / "packed", GROUPS)


@pytest.mark.parametrize("coding", CODINGS)
def test_every_picture_is_the_one_of_its_time(own: Path, tmp_path: Path, coding: str) -> None:
    """To the last bit, whatever was coded when: all of an episode, some in any order, and each by itself."""
    data = Dataset(packed.pack(own, tmp_path / "packed", GROUPS, CODINGS[coding]))
    every = [packed.decoded(data.root / VIDEO.format(file)) for file in range(len(GROUPS))]
    for e, (n, first) in enumerate(zip(LONG, FIRST, strict=True)):
        expected = every[e // 3][first : first + n]
        assert np.array_equal(data.frames(e), expected)
        for chosen in ([3, 0, 3, 7], *([k] for k in range(n))):
            assert np.array_equal(data.frames(e, np.array(chosen)), expected[chosen]), (e, chosen)


def test_it_is_the_dataset_of_one_episode_a_file(own: Path, dataset: Path) -> None:
    """Numbers, cameras, what was said of episodes, and, as it was not coded anew, pictures."""
    plain, data = Dataset(own), Dataset(dataset)
    assert [data.length(e) for e in range(len(data))] == list(LONG)
    assert len(list(dataset.glob("*/**/*.mp4"))) == len(list(dataset.glob("data/*/*.parquet"))) == 2
    for e in range(len(LONG)):
        assert np.array_equal(data.state(e), plain.state(e))
        assert np.array_equal(data.action(e), plain.action(e))
        assert np.array_equal(data.frames(e), plain.frames(e))
        assert plain.start(e) is None
        assert data.start(e) == FIRST[e] / FPS
    assert data.extras() == plain.extras()


def test_tables_may_be_packed_alone(own: Path, dataset: Path) -> None:
    """Files of either kind are as large as they may be: of videos fewer episodes fit in."""
    rows = packed.read_rows(dataset)
    for e, row in enumerate(rows):
        shutil.copy(own / VIDEO.format(e), dataset / VIDEO.format(e))
        row |= {f"videos/{KEY}/file_index": e, f"videos/{KEY}/from_timestamp": 0.0}
        row |= {f"videos/{KEY}/to_timestamp": LONG[e] / FPS}
    packed.write_rows(dataset, rows)
    data = Dataset(dataset)
    assert [data.start(e) for e in range(5)] == [None] * 5
    assert all(np.array_equal(data.frames(e), Dataset(own).frames(e)) for e in (1, 4))
    assert examine(dataset).sound


@pytest.mark.parametrize("script", [light, video, joint])
def test_training_does_not_notice(script: Any, own: Path, dataset: Path, pipeline_folder: Path, tmp_path: Path) -> None:
    """The same losses and validation, to the last bit; decoded in every step, as of a dataset larger than memory."""
    keys: dict[str, object] = {"train__n_steps": 2, "train__num_workers": 1, "data__cache_gb": 0.0}
    keys |= {"data__n_val_episodes": 1}
    if script is not light:
        keys |= {"backbone__pretrained": pipeline_folder, "backbone__n_frames": 4, "backbone__grid": 8}
        keys |= {"preview__clips": 0}
    keys |= {"init_from": "null"} if script is joint else {}
    name = {light: "light", video: "video", joint: "joint_para"}[script]
    lines = []
    for root in (own, dataset):
        script.main(config(script.Config, name, run=tmp_path / root.name, data__root=root, **keys))
        record = read_jsonl(tmp_path / root.name / "metrics.jsonl")
        lines.append([{k: v for k, v in line.items() if k not in SPEED} for line in record])
    assert lines[0] == lines[1]
    if script is video:
        stored = sorted(path.name.split("_", 3)[1::2] for path in dataset.glob("posterior/*/*.npy"))
        assert [(e, at.rpartition("_")[2].rpartition(".")[0]) for e, at in stored] == [
            (f"{e:06d}", f"{250 * first}") for e, first in enumerate(FIRST)
        ]


def test_recording_goes_on_behind_it(dataset: Path) -> None:
    """In files of their own; what was there keeps every byte."""
    before = snapshot(dataset)
    writer = builders.open_writer(dataset)
    writer.append(builders.episode(5, 8))
    data, after = Dataset(dataset), snapshot(dataset)
    assert [data.start(e) for e in range(6)] == [*(first / FPS for first in FIRST), None]
    np.testing.assert_allclose(data.state(5), builders.episode(5, 8).state, atol=1e-6)
    assert len(data.frames(5)) == 8
    assert {k for k in before if before[k] != after[k]} == {"meta/info.json", "meta/para_episodes.jsonl"}
    writer.finish()
    assert examine(dataset).sound


def _row(root: Path, episode: int, **changes: object) -> None:
    rows = packed.read_rows(root)
    rows[episode] |= {f"videos/{KEY}/{k}" if "stamp" in k else k: v for k, v in changes.items()}
    packed.write_rows(root, rows)


FAULTS = {
    "half a frame late": (
        lambda d: _row(d, 2, from_timestamp=6.625, to_timestamp=9.875),
        [2],
        r"file-000.mp4 has no picture at 6.625 s, where its table has frame 0 of an episode",
    ),
    "in the place of another": (
        lambda d: _row(d, 1, from_timestamp=0.0, to_timestamp=3.5),
        [0, 1],
        "its row says that it has 0.000 to 3.000 s of its video, as episode 1",
    ),
    "longer than it is": (lambda d: _row(d, 2, to_timestamp=10.0), [2], "6.500 to 10.000 s of its video, for 13"),
    "beyond the end": (
        lambda d: _row(d, 4, from_timestamp=3.0, to_timestamp=5.75),
        [4],
        r"file-001.mp4 has no picture at 5.000 s, where its table has frame 8 of an episode",
    ),
    "no such time": (lambda d: _row(d, 3, from_timestamp=float("nan")), [3], "allowed: seconds from 0 on"),
    "frames missing": (
        lambda d: edit_table(d / TABLE.format(1), "episode_index", lambda x: [4, *x[1:]]),
        [3, 4],
        "file-001.parquet: it holds 8 frames of episode 3, its row says 9",
    ),
    "another's frames": (
        lambda d: _add(d / TABLE.format(1), pq.read_table(d / TABLE.format(0)).slice(0, 12)),
        [3, 4],
        r"its frames are of episodes \['0', '3', '4'\]",
    ),
    "out of order": (
        lambda d: edit_table(d / TABLE.format(1), "frame_index", lambda x: [1, 0, *x[2:]]),
        [3],
        "frame_index of episode 3 does not count on from 0",
    ),
    "a video cut short": (lambda d: _halve(d / VIDEO.format(1)), [3, 4], "cannot read the video .*file-001.mp4"),
}


def _halve(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _add(path: Path, more: pa.Table) -> None:
    pq.write_table(pa.concat_tables([pq.read_table(path), more]), path)


@pytest.mark.parametrize("name", FAULTS)
def test_faults_are_named(dataset: Path, name: str, capsys: pytest.CaptureFixture) -> None:
    """With the episodes that they are of; and nothing is cut apart."""
    assert examine(dataset).sound
    fault, episodes, words = FAULTS[name]
    fault(dataset)
    before = snapshot(dataset)
    found = main(dataset)
    assert list(found.of_episodes) == episodes
    assert re.search(words, found.of_episodes[episodes[0]][0])
    assert "--repair" not in capsys.readouterr().out
    with pytest.raises(BadInput, match="has files of several episodes each, which are not cut apart"):
        main(dataset, mend=True)
    assert snapshot(dataset) == before
    if name not in ("in the place of another", "longer than it is", "another's frames"):
        with pytest.raises(BadInput, match=words.split(r" \[")[0]):
            _read(dataset)


def _read(root: Path) -> None:
    data = Dataset(root)
    for e in range(len(data)):
        data.frames(e)


def test_a_changed_file_is_of_all_its_episodes(dataset: Path) -> None:
    """Where sums were kept."""
    builders.open_writer(dataset)  # sums up what has none
    with (dataset / VIDEO.format(0)).open("ab") as file:
        file.write(b"more")
    found = examine(dataset)
    assert {e: text for e, (text,) in found.of_episodes.items()}.keys() == {0, 1, 2}
    assert all("SHA-256 differs" in text for (text,) in found.of_episodes.values())


def test_what_is_not_there_is_named(own: Path) -> None:
    with pytest.raises(BadInput, match=r"has no picture at 3.000 s, where its table has frame 4 of an episode"):
        read_span(own / VIDEO.format(0), 2.0, FPS, np.array([4, 0]))
