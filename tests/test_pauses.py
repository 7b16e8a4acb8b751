"""Frames in which nothing happens: left out of stage one's clips, with everything that belongs to them."""

from pathlib import Path

import builders
import numpy as np
import pytest
from accelerate import Accelerator

from train_stages import joint
from videopolicy.backbones.svd import SVDBackbone
from videopolicy.backbones.svd_config import SVDConfig
from videopolicy.config import load
from videopolicy.data.dataset import ClipDataset, DataConfig, changes, open_splits
from videopolicy.data.lerobot import Dataset
from videopolicy.data.recording import Episode
from videopolicy.errors import BadInput
from videopolicy.training.latents import attach_latents

LEAST = 3.0
REPEATS = (1, 3, 1, 2, 4, 1)  # of each frame of an episode


@pytest.fixture
def halting(tmp_path: Path) -> Path:
    """An arm that stops now and then, and one that never moves."""
    writer = builders.open_writer(tmp_path / "dataset")
    plain = builders.background(64)
    camera = builders.agentview(64)
    writer.write_markers(builders.MARKERS, builders.discs(plain, camera.project(builders.MARKERS)), plain)
    e = builders.episode(0, len(REPEATS))
    repeat = np.repeat(np.arange(len(REPEATS)), REPEATS)
    writer.append(Episode(e.frames[repeat], e.state[repeat], e.action[repeat], e.extra))
    still = np.zeros(5, int)
    writer.append(Episode(e.frames[still], e.state[still], e.action[still], e.extra | {"number": 1}))
    writer.finish()
    return tmp_path / "dataset"


def clips(root: Path, episodes: list[int], least: float) -> ClipDataset:
    return ClipDataset(Dataset(root), episodes, 4, 3, (64, 64), 1.0, least)


def test_a_slow_change_is_kept_once_it_has_added_up() -> None:
    brightness = np.array([0, 2, 2, 4, 5, 20, 20])
    frames = np.broadcast_to(brightness[:, None, None, None], (7, 8, 8, 3)).astype(np.uint8)
    assert changes(frames, 4.0).tolist() == [0, 3, 5]
    assert changes(frames, 0.5).tolist() == [0, 1, 3, 4, 5]


def test_clips_labels_and_maps_skip_pauses_alike(halting: Path, pipeline_folder: Path) -> None:
    moving, whole = clips(halting, [0, 1], LEAST), clips(halting, [0, 1], 0.0)
    first = [sum(REPEATS[:i]) for i in range(len(REPEATS))]
    assert moving.shown[0].tolist() == first
    assert moving.shown[1].tolist() == [0]
    assert moving.samples == [(0, t) for t in range(len(REPEATS) - 1)]  # nothing of the one that never moves
    assert len(whole) == sum(REPEATS) - 1 + 4
    backbone = SVDBackbone(
        SVDConfig(pretrained=pipeline_folder, image_size=(64, 64), n_frames=4, feature_blocks=(0,)), 4
    )
    attach_latents(backbone, Accelerator(cpu=True), moving, whole)
    for t in range(len(REPEATS) - 1):
        sample = moving[t]
        at = [first[min(t + k, len(first) - 1)] for k in range(4)]
        assert np.array_equal(sample["frames"], whole.frames(0)[at])
        assert np.array_equal(sample["posterior"], whole.maps["posterior"][0][np.array(at)].astype(np.float32))
        valid = sample["valid"].numpy()
        assert valid.tolist() == [t + k < len(first) for k in (1, 2, 3)]
        positions = whole.data.state(0)[at[1:], :3]
        assert np.allclose(sample["position"].numpy()[valid], positions[valid])


def test_a_policy_learns_to_wait(halting: Path, tmp_path: Path) -> None:
    arguments = ["--data.root", str(halting), "--data.min_change", "3", "--run", str(tmp_path / "run")]
    with pytest.raises(BadInput, match=r"data.min_change is 3.0; allowed: 0, or a policy would not learn to wait"):
        joint.main(load(joint.Config, arguments))
    assert not (tmp_path / "run").exists()


def test_bad_values_are_named(halting: Path) -> None:
    with pytest.raises(BadInput, match=r"data.min_change is nan; allowed: 0 to 255"):
        load(joint.Config, ["--data.min_change", "nan"])
    with pytest.raises(BadInput, match=r"at most one frame each that differs by data.min_change 200"):
        open_splits(DataConfig(root=halting, n_val_episodes=1, min_change=200.0), 4, 3, (64, 64))
