"""Datasets of which pixels are all that is known: tracks in, pixel labels out, and nothing made up about the rest."""

import json
from dataclasses import replace
from pathlib import Path

import builders
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from videopolicy.data import doctor
from videopolicy.data.dataset import ClipDataset, DataConfig, open_splits
from videopolicy.data.episode import TrackedEpisode
from videopolicy.data.lerobot import Dataset
from videopolicy.data.points import points_of, read_points
from videopolicy.data.recording import Writer
from videopolicy.data.visibility import never_seen
from videopolicy.errors import BadInput

LENGTHS, SIDE, N_STEPS = (6, 4, 5), 64, 3


def tracked(number: int, n: int) -> TrackedEpisode:
    """The arm's path as pixels, its second frame hidden in episode 1, its last one outside the picture in episode 2."""
    shown = builders.episode(number, n, SIDE)
    track = builders.agentview(SIDE).project(shown.state[:, :3])
    if number == 1:
        track[1] = np.nan
    if number == 2:
        track[-1] = [SIDE + 0.5, 10.0]
    return TrackedEpisode(shown.frames, track, {"number": number})


def open_writer(root: Path, size: tuple[int, int] = (SIDE, SIDE)) -> Writer:
    return Writer(root, builders.FPS, "video", size, "move along a line", robot="video")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    writer = open_writer(tmp_path / "tracks")
    for number, n in enumerate(LENGTHS):
        writer.append(tracked(number, n))
    writer.finish()
    return writer.root


def test_a_track_is_a_column_of_finite_numbers(root: Path) -> None:
    """u, v and whether it is visible: others' tools normalize by the column's statistics."""
    feature = json.loads((root / "meta/info.json").read_text())["features"]["observation.track"]
    assert feature == {"dtype": "float32", "shape": [3], "names": ["u", "v", "visible"]}
    table = pq.read_table(root / builders.TABLE.format(1))
    values = np.array(table["observation.track"].to_pylist())
    assert values[:, 2].tolist() == [1, 0, 1, 1]
    assert values[1].tolist() == [0, 0, 0]
    assert "observation.state" not in table.column_names
    stats = json.loads((root / "meta/stats.json").read_text())["observation.track"]
    assert stats["mean"][2] == pytest.approx(14 / 15)
    assert stats["count"] == [15]


def test_reading_returns_what_was_written(root: Path) -> None:
    data = Dataset(root)
    assert data.tracked
    assert (len(data), data.size, data.fps, data.info["robot_type"]) == (3, (SIDE, SIDE), builders.FPS, "video")
    for e, n in enumerate(LENGTHS):
        np.testing.assert_allclose(data.track(e), tracked(e, n).track, rtol=1e-6)
        assert len(data.frames(e)) == n
    assert doctor.main(root).sound
    assert not any((root / name).exists() for name in ("meta/para_cameras.json", "meta/para_markers.npz"))


def test_what_it_does_not_have_is_said(root: Path, written_dataset: Path) -> None:
    data = Dataset(root)
    for ask, what in (
        (lambda: data.camera, "a camera"),
        (lambda: data.camera_of(0), "a camera"),
        (lambda: data.state(0), "states"),
        (lambda: data.action(0), "actions"),
    ):
        with pytest.raises(
            BadInput, match=rf"tracks has tracks of pixels, and not {what}; allowed for it: what learns"
        ):
            ask()
    assert data.rotation(0) is None
    assert not Dataset(written_dataset).tracked


def clips(data: Dataset, size: tuple[int, int] = (SIDE, SIDE)) -> ClipDataset:
    return ClipDataset(data, list(range(len(data))), 1, N_STEPS, size, 1.0)


def test_pixel_labels_are_those_of_projected_positions(root: Path, written_dataset: Path) -> None:
    """The same motion with cameras and without; what is not known is NaN, also where the pixel is valid."""
    ours, theirs = clips(Dataset(root), (128, 96)), clips(Dataset(written_dataset), (128, 96))
    assert ours.samples == theirs.samples
    for i, (episode, _) in enumerate(ours.samples):
        a, b = ours[i], theirs[i]
        assert set(a) == set(b)
        assert all(a[name].shape == b[name].shape and a[name].dtype == b[name].dtype for name in a)
        assert (a["frames"] == b["frames"]).all()
        if episode == 0:
            assert (a["valid"] == b["valid"]).all()
            torch.testing.assert_close(a["pixel"], b["pixel"], rtol=0, atol=1e-3)
            torch.testing.assert_close(a["start_pixel"], b["start_pixel"], rtol=0, atol=1e-3)
        assert all(a[name].isnan().all() for name in ("height", "gripper", "position"))
        assert a["pixel"][a["valid"]].isfinite().all()


def test_what_is_not_seen_is_no_label(root: Path) -> None:
    """Hidden, outside the picture, or past the episode's end."""
    of = clips(Dataset(root))
    found = {sample: of[i] for i, sample in enumerate(of.samples)}
    assert found[1, 0]["valid"].tolist() == [False, True, True]
    assert found[1, 1]["start_pixel"].isnan().all()
    assert found[1, 1]["valid"].tolist() == [True, True, False]
    assert found[2, 2]["valid"].tolist() == [True, False, False]
    assert found[2, 1]["valid"].tolist() == [True, True, False]
    assert of.label_statistics() == {
        "height": None,
        "position_mean": None,
        "position_std": None,
        "position_low": None,
        "position_high": None,
        "rotation": False,
        "waypoints": 36,
        "outside_image": 4,
        "past_end": 9,
        "start_outside_image": 1,
    }


def test_splits_and_pauses_are_as_ever(root: Path) -> None:
    _, train, val = open_splits(DataConfig(root, n_val_episodes=1, min_change=0.5), 4, N_STEPS, (SIDE, SIDE))
    assert len(train.shown) + len(val.shown) == 3
    assert train[0]["frames"].shape == (4, SIDE, SIDE, 3)


def test_an_episode_without_a_visible_point_is_named(tmp_path: Path) -> None:
    writer = open_writer(tmp_path / "tracks")
    for number, n in enumerate(LENGTHS[:2]):
        episode = tracked(number, n)
        writer.append(replace(episode, track=np.full_like(episode.track, np.nan)) if number else episode)
    data = Dataset(writer.root)
    assert never_seen(data, [0, 1]) == [1]
    found = doctor.main(writer.root)
    assert found.sound
    assert "episode 1: its end effector is never in the image" in found.warnings


def test_tracks_and_states_are_not_mixed(root: Path, small_dataset: Path) -> None:
    with pytest.raises(BadInput, match=r"episode 3 has observation\.state, action; .*tracks has observation\.track"):
        open_writer(root).append(builders.episode(3, 4))
    with pytest.raises(BadInput, match=r"episode 3 has observation\.track; .*dataset has observation\.state, action"):
        builders.open_writer(small_dataset).append(tracked(3, 4))
    with pytest.raises(BadInput, match=r"holds pictures of \[64, 64\]; allowed: more of the same, not \[32, 64\]"):
        open_writer(root, (32, SIDE))
    with pytest.raises(BadInput, match=r"holds a dataset at 4 fps with"):
        builders.open_writer(root)
    whole = tracked(3, 4)
    with pytest.raises(BadInput, match=r"episode 3: 0 frames, 0 of observation\.track; they must be finite, and one"):
        open_writer(root).append(replace(whole, frames=whole.frames[:0], track=whole.track[:0]))
    assert len(Dataset(root)) == 3


def test_writing_and_repairing_go_on(root: Path) -> None:
    writer = open_writer(root)
    writer.append(tracked(3, 4))
    assert len(Dataset(root)) == 4
    (root / builders.VIDEO.replace("agentview", "video").format(2)).write_bytes(b"half")
    assert not doctor.main(root).sound
    assert doctor.main(root, mend=True).sound
    data = Dataset(root)
    assert len(data) == 2
    assert data.tracked


def points(path: Path, *lines: object) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_points_are_read_by_name(tmp_path: Path) -> None:
    path = points(
        tmp_path / "points.jsonl", {"episode": "b", "points": [[1, 2.5], None]}, {"episode": "a", "points": []}
    )
    found = read_points(path)
    np.testing.assert_array_equal(found["b"], [[1, 2.5], [np.nan, np.nan]])
    assert found["a"].shape == (0, 2)
    np.testing.assert_array_equal(points_of(found, "b", 2), found["b"])
    with pytest.raises(BadInput, match=r"'b' has 2 points, its video 3 frames; allowed: one for each"):
        points_of(found, "b", 3)
    with pytest.raises(BadInput, match=r"the points have no episode 'c'; they have a, b"):
        points_of(found, "c", 2)
    with pytest.raises(BadInput, match=r"no file of points .*none\.jsonl"):
        read_points(tmp_path / "none.jsonl")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ({"episode": 3, "points": []}, r"line 2 has \['episode', 'points'\]; allowed: an episode's name and a list"),
        ({"name": "b"}, r"line 2 has \['name'\]"),
        ({"episode": "a", "points": []}, "line 2 is another one of 'a'"),
        ({"episode": "b", "points": [[1, 2], [3]]}, r"point 1 of 'b' is \[3\]; allowed: \[u, v\] in pixels, or null"),
        ({"episode": "b", "points": [[1, float("nan")]]}, r"point 0 of 'b' is \[1, nan\]"),
        ({"episode": "b", "points": [["1", 2]]}, "point 0 of 'b'"),
    ],
)
def test_points_that_are_none_are_refused(tmp_path: Path, line: dict, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        read_points(points(tmp_path / "points.jsonl", {"episode": "a", "points": []}, line))
