"""Datasets that cannot be used are refused by name, and nothing is overwritten."""

import dataclasses
import json
from pathlib import Path

import builders
import numpy as np
import pytest
from builders import FPS, KEY, ROW, TABLE, VIDEO, agentview, snapshot

from videopolicy.camera import Camera
from videopolicy.data.lerobot import Dataset
from videopolicy.data.recording import Writer
from videopolicy.data.video import write_video
from videopolicy.errors import BadInput


def edit_info(root: Path, **values: object) -> None:
    path = root / "meta/info.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def truncate(path: Path, keep: float) -> None:
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])


def read_everything(root: Path) -> None:
    data = Dataset(root)
    for i in range(len(data)):
        data.frames(i)


def assert_refused(root: Path, file: Path | str) -> None:
    """Opening the dataset and reading all of it raises BadInput that names the file."""
    with pytest.raises(BadInput) as caught:
        read_everything(root)
    assert str(file) in str(caught.value)


def other_pose() -> Camera:
    camera = agentview(64)
    return dataclasses.replace(camera, K=camera.K * np.array([[1.01], [1.01], [1.0]]))


@pytest.mark.parametrize(
    ("fps", "name", "camera", "words"),
    [
        (FPS, "agentview", other_pose(), "another camera"),
        (FPS, "agentview", agentview(128), "another camera"),
        (FPS, "wrist", agentview(64), KEY),
        (FPS + 1, "agentview", agentview(64), f"at {FPS} fps"),
    ],
)
def test_other_recordings_do_not_mix(small_dataset: Path, fps: int, name: str, camera: Camera, words: str) -> None:
    before = snapshot(small_dataset)
    with pytest.raises(BadInput, match=words):
        Writer(small_dataset, fps, name, camera, "move along a line")
    assert snapshot(small_dataset) == before


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("five years")
    with pytest.raises(BadInput, match="not empty") as caught:
        builders.open_writer(tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert snapshot(tmp_path) == {"thesis.txt": b"five years"}


@pytest.mark.parametrize("field", ["frames", "action", "state"])
@pytest.mark.parametrize("fault", ["short", "infinite"])
def test_uneven_and_infinite_episodes_are_not_written(small_dataset: Path, field: str, fault: str) -> None:
    before, episode = snapshot(small_dataset), builders.episode(3, 5)
    value = getattr(episode, field)
    if fault == "short" or field == "frames":
        value = value[:-1]
    else:
        value[2, 1] = np.inf
    object.__setattr__(episode, field, value)  # past the shape check, which users do not run
    with pytest.raises(BadInput, match="episode 3"):
        builders.open_writer(small_dataset).append(episode)
    assert snapshot(small_dataset) == before


def test_missing_and_empty_datasets_are_refused(tmp_path: Path) -> None:
    assert_refused(tmp_path / "nowhere", tmp_path / "nowhere")
    builders.open_writer(tmp_path / "empty")
    assert_refused(tmp_path / "empty", tmp_path / "empty")


def test_other_versions_are_refused(small_dataset: Path) -> None:
    edit_info(small_dataset, codebase_version="v2.1")
    with pytest.raises(BadInput, match=r"'v2\.1'; allowed: 'v3\.0'"):
        Dataset(small_dataset)


@pytest.mark.parametrize("name", [TABLE.format(1), VIDEO.format(1), ROW.format(1), "meta/info.json"])
@pytest.mark.parametrize("keep", [0.0, 0.5, 0.9])
def test_truncated_files_are_named(small_dataset: Path, name: str, keep: float) -> None:
    truncate(small_dataset / name, keep)
    assert_refused(small_dataset, name)


@pytest.mark.parametrize("name", [TABLE.format(1), VIDEO.format(1), "meta/para_markers.npz", "meta/para_cameras.json"])
def test_missing_files_are_named(small_dataset: Path, name: str) -> None:
    (small_dataset / name).unlink()
    assert_refused(small_dataset, name)


def test_a_missing_episode_row_is_noticed(small_dataset: Path) -> None:
    (small_dataset / ROW.format(2)).unlink()
    assert_refused(small_dataset, "counts 3 episodes, the tables 2")


def test_a_video_of_another_length_is_named(small_dataset: Path) -> None:
    path = builders.without_sums(small_dataset) / VIDEO.format(1)
    write_video(path, builders.episode(1, 3).frames, FPS)
    assert_refused(small_dataset, f"{path} holds 3 frames, its table says 4")


@pytest.mark.parametrize(
    ("flip", "word"),
    [
        (lambda x: x[:, ::-1], "upside down"),
        (lambda x: x[:, :, ::-1], "mirrored"),
        (lambda x: x[:, ::-1, ::-1], "180"),
    ],
)
def test_flipped_videos_are_noticed(small_dataset: Path, flip: object, word: str) -> None:
    builders.without_sums(small_dataset)
    write_video(small_dataset / VIDEO.format(0), np.ascontiguousarray(flip(builders.episode(0, 6).frames)), FPS)
    with pytest.raises(BadInput, match=f"videos of .*{word}"):
        Dataset(small_dataset)


def test_markers_that_the_camera_does_not_project_are_noticed(small_dataset: Path) -> None:
    """The stored pictures are checked against the stored calibration, not only against the videos."""
    plain, markers = builders.background(), builders.MARKERS
    shown = builders.discs(plain, agentview(64).project(markers))
    (small_dataset / "meta/para_markers.npz").unlink()  # or those that the episodes were recorded with would stay
    builders.open_writer(small_dataset).write_markers(markers, shown[:, ::-1], plain[:, ::-1])
    with pytest.raises(BadInput, match=r"camera self-test.*mirrored"):
        Dataset(small_dataset)
