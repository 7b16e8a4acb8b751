"""Datasets whose cameras cannot see or lift what is to be learned are refused before training, in one line."""

import json
from collections.abc import Callable
from pathlib import Path

import builders
import numpy as np
import pytest
from flows import config

from train_stages import light
from videopolicy.data.dataset import ClipDataset
from videopolicy.data.lerobot import Dataset
from videopolicy.data.recording import Episode
from videopolicy.data.video import write_video
from videopolicy.errors import BadInput


def write(root: Path, change: Callable[[int, Episode], Episode]) -> Path:
    return builders.write_dataset(root, (6, 6, 6), change=change)


def moved(episode: Episode, **coordinates: float | np.ndarray) -> Episode:
    """The same pictures with other positions: x, y or z replaced."""
    state, action = episode.state.copy(), episode.action.copy()
    for name, value in coordinates.items():
        state[:, "xyz".index(name)] = value
        action[:, "xyz".index(name)] = value
    return Episode(episode.frames, state, action, episode.extra)


def refused(root: Path, run: Path, **overrides: object) -> str:
    """What training on a dataset says when it does not begin."""
    with pytest.raises(BadInput) as caught:
        light.main(config(light.Config, "light", run=run, data__root=root, **overrides))
    assert not run.exists()
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("height", [0.72, 0.705])
def test_a_camera_below_what_may_be_predicted_is_named(tmp_path: Path, height: float) -> None:
    """Also where waypoints stay below it, but a head's bins do not."""
    root = write(tmp_path / "data", lambda i, e: moved(e, z=height) if i == 1 else e)
    words = f"the camera of episode 0 of {root} stands at z = 0.710 m, waypoints reach {height:.3f} m; allowed: cameras"
    assert words in refused(root, tmp_path / "run", data__n_val_episodes=0)
    write(tmp_path / "lower", lambda i, e: moved(e, z=0.6) if i == 1 else e)
    light.main(config(light.Config, "light", run=tmp_path / "run", data__root=tmp_path / "lower", train__n_steps=1))


def test_flat_heights_make_no_bins(tmp_path: Path) -> None:
    """Coordinates can still be regressed."""
    root = write(tmp_path / "data", lambda i, e: moved(e, z=0.1))
    words = "every height label is 0.1000 m, and head.kind para would have degenerate bins; allowed: "
    assert words in refused(root, tmp_path / "run")
    results = light.main(
        config(light.Config, "light", run=tmp_path / "run", data__root=root, train__n_steps=1, head__kind="regression")
    )
    assert np.isfinite(results["position_mm"])


def test_episodes_outside_the_image_are_counted_and_named(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    root = write(tmp_path / "data", lambda i, e: moved(e, y=2.0) if i == 2 else e)
    light.main(
        config(light.Config, "light", run=tmp_path / "run", data__root=root, dry_run=True, data__n_val_episodes=0)
    )
    out = capsys.readouterr().out
    assert "1 of 3 episodes have no waypoint in the image: 2\n" in out
    assert "waypoints: 90, of which masked: 15 outside the image, 45 past their episode's end; starts outside: 5" in out


def test_nothing_in_the_image_is_refused(tmp_path: Path) -> None:
    root = write(tmp_path / "data", lambda i, e: moved(e, y=2.0))
    words = f"no waypoint of {root} projects into the image, in none of its 2 chosen episodes"
    assert words in refused(root, tmp_path / "run")


def test_pictures_of_different_sizes_do_not_mix(small_dataset: Path, tmp_path: Path) -> None:
    """Before any is decoded; likewise where an episode's own camera says another size."""
    path = builders.without_sums(small_dataset) / builders.VIDEO.format(1)
    frames = builders.episode(1, 4, side=48).frames
    write_video(path, frames, builders.FPS)
    words = f"episode 1 of {small_dataset} has pictures in {path} of 48 x 48 pixels; allowed: 64 x 64, the size of all"
    assert words in refused(small_dataset, tmp_path / "run", data__n_val_episodes=0)
    with pytest.raises(BadInput, match=r"episode 1 of .* has \(48, 48\) images, its camera \(64, 64\)"):
        Dataset(small_dataset).frames(1)


def test_cameras_of_different_sizes_do_not_mix(small_dataset: Path) -> None:
    cameras = builders.without_sums(small_dataset) / "meta/para_cameras.json"
    cameras.write_text(cameras.read_text().replace('"fixed"', '"moving"'))
    extras = small_dataset / "meta/para_episodes.jsonl"
    rows = [json.loads(line) for line in extras.read_text().splitlines()]
    for i, row in enumerate(rows):
        row["camera"] = builders.agentview(128 if i == 2 else 64).to_json()
    extras.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(BadInput, match=r"episode 2 of .* has a camera of 128 x 128 pixels; allowed: 64 x 64"):
        ClipDataset(Dataset(small_dataset), [0, 1, 2], 1, 6, (64, 64), 1.0)
