"""How the hand is turned: three angles, recorded with the data, learned, and followed."""

import json
from dataclasses import replace
from pathlib import Path

import builders
import numpy as np
import pytest
import small_heads
from builders import agentview
from flows import config
from hypothesis import given
from hypothesis import strategies as st

from eval.contestant import through_head
from train_stages import light
from videopolicy import policy
from videopolicy.camera import Camera
from videopolicy.data.dataset import DataConfig, open_splits
from videopolicy.data.lerobot import Dataset
from videopolicy.data.recording import Episode
from videopolicy.errors import BadInput
from videopolicy.rollout import rollout
from videopolicy.rotation import euler_angles, orientation, rotation_vector
from videopolicy.types import ActionChunk, Observation

ANGLE = st.floats(-3.1, 3.1)


@given(ANGLE, st.floats(-1.5, 1.5), ANGLE)
def test_angles_are_the_orientation(x: float, y: float, z: float) -> None:
    turn = np.array([x, y, z])
    np.testing.assert_allclose(euler_angles(orientation(turn)), turn, atol=1e-7)


def test_zero_is_a_hand_that_points_down() -> None:
    hand = orientation(np.zeros(3))
    np.testing.assert_allclose(hand[:, 2], [0, 0, -1], atol=1e-12)  # out of the fingers
    assert np.linalg.det(hand) == pytest.approx(1)
    about_z = orientation(np.array([0, 0, np.pi / 2]))
    np.testing.assert_allclose(about_z[:, 2], [0, 0, -1], atol=1e-12)
    np.testing.assert_allclose(rotation_vector(hand, about_z), [0, 0, np.pi / 2], atol=1e-12)
    tilted = orientation(np.array([0.3, 0, 0]))
    np.testing.assert_allclose(tilted[:, 2], [0, np.sin(0.3), -np.cos(0.3)], atol=1e-12)


def turning(number: int, episode: Episode) -> Episode:
    """The hand turns while the arm moves, in each episode to another side, once across half a turn."""
    t = np.linspace(0, 1, len(episode.state))
    rotation = np.stack([0.4 * t, 0.2 * (number - 1) * t, np.pi - 0.5 + t * 0.8], -1)
    return replace(episode, rotation=(rotation + np.pi) % (2 * np.pi) - np.pi)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return builders.write_dataset(tmp_path_factory.mktemp("turning") / "dataset", change=turning, rotations=True)


def test_rotations_are_kept_and_become_labels(dataset: Path, written_dataset: Path) -> None:
    data, clips, _ = open_splits(DataConfig(root=dataset, n_val_episodes=0), 1, 6, (64, 64))
    truth = turning(1, builders.episode(1, builders.LENGTHS[1])).rotation
    np.testing.assert_allclose(data.rotation(1), truth, atol=1e-6)
    sample = clips[clips.samples.index((1, 1))]
    np.testing.assert_allclose(sample["rotation"][sample["valid"]], truth[2:], atol=1e-6)
    described = json.loads((dataset / "meta/info.json").read_text())["features"]["observation.rotation"]
    assert described == {"dtype": "float32", "shape": [3], "names": ["rx", "ry", "rz"]}
    stats = json.loads((dataset / "meta/stats.json").read_text())["observation.rotation"]
    assert len(stats["mean"]) == 3
    assert Dataset(written_dataset).rotation(0) is None
    assert "rotation" not in open_splits(DataConfig(root=written_dataset, n_val_episodes=0), 1, 6, (64, 64))[1][0]


def test_rotations_are_in_every_episode_or_in_none(small_dataset: Path, tmp_path: Path) -> None:
    episode = turning(0, builders.episode(0, 6))
    with pytest.raises(BadInput, match="episode 3 has a rotation; allowed: one in every episode of"):
        builders.open_writer(small_dataset).append(replace(episode, rotation=np.zeros((6, 3))))
    with pytest.raises(BadInput, match="holds a dataset at 4 fps with"):
        builders.open_writer(small_dataset, rotations=True)
    writer = builders.open_writer(tmp_path / "new", rotations=True)
    with pytest.raises(BadInput, match="episode 0 has no rotation; allowed"):
        writer.append(replace(episode, rotation=None))
    with pytest.raises(BadInput, match="must be finite"):
        writer.append(replace(episode, rotation=np.full((6, 3), np.nan)))
    assert writer.n_episodes == 0


def test_truth_goes_through_the_head_with_its_rotation_or_without(camera: Camera) -> None:
    head = small_heads.rotating()
    position = np.linspace([-0.2, -0.1, 0.05], [-0.1, 0.1, 0.15], head.n_steps)
    held = ActionChunk(position, np.ones(head.n_steps), 0.25)
    assert through_head(head, camera, held).rotation is None
    rotated = replace(held, rotation=np.tile([0.3, -0.2, 3.1], (head.n_steps, 1)))
    away = through_head(head, camera, rotated).rotation - rotated.rotation
    assert np.abs((away + np.pi) % (2 * np.pi) - np.pi).max() <= np.pi / 24 + 1e-6


def test_angles_are_finer_than_their_bins(camera: Camera) -> None:
    """Those at the bins' edges too, as zero is, and those between the last bin and the first."""
    head = small_heads.rotating()
    position = np.linspace([-0.2, -0.1, 0.05], [-0.1, 0.1, 0.15], head.n_steps)
    edges = np.random.default_rng(0).normal(0, 1e-6, (head.n_steps, 3)) + [0, np.pi / 12, np.pi]
    for angles in (edges, np.random.default_rng(1).uniform(-np.pi, np.pi, (head.n_steps, 3))):
        chunk = ActionChunk(position, np.ones(head.n_steps), 0.25, rotation=angles)
        away = through_head(head, camera, chunk).rotation - angles
        assert np.degrees(np.abs((away + np.pi) % (2 * np.pi) - np.pi)).max() < 0.01


def test_an_angle_that_is_no_number_stops_the_rollout() -> None:
    chunk = ActionChunk(np.zeros((2, 3)), np.ones(2), 0.25, rotation=np.full((2, 3), np.nan))
    with pytest.raises(FloatingPointError, match="not finite"):
        rollout(Always(chunk), Still(), 1, 1)


class Always:
    def __init__(self, chunk: ActionChunk) -> None:
        self.chunk = chunk

    def act(self, _observation: Observation) -> ActionChunk:
        return self.chunk

    def act_batch(self, observations: list[Observation]) -> list[ActionChunk]:
        return [self.chunk] * len(observations)


class Still:
    def observe(self) -> Observation:
        return Observation(np.zeros((64, 64, 3), np.uint8), agentview(64), np.zeros(3), 1.0, 0.0)

    def execute(self, chunk: ActionChunk, n_steps: int) -> None:
        raise AssertionError("nothing is executed")

    def done(self) -> bool:
        return False


def test_rotations_are_asked_for_before_anything_is_trained(written_dataset: Path, tmp_path: Path) -> None:
    cfg = config(
        light.Config, "light", run=tmp_path, data__root=written_dataset, head__para__n_rotation=24, dry_run=True
    )
    with pytest.raises(BadInput, match=r"head.para.n_rotation is 24, but the data has no rotations; allowed: 0"):
        light.main(cfg)


def test_a_policy_learns_to_turn_the_hand(dataset: Path, tmp_path: Path) -> None:
    """Angles of the first frame's chunk of every episode, within a third of a bin's width."""
    options = {"head__para__n_rotation": 24, "train__n_steps": 130, "train__batch_size": 4, "lr_head": 0.003}
    cfg = config(light.Config, "light", run=tmp_path, data__root=dataset, data__n_val_episodes=0, **options)
    assert light.main(cfg)["rotation_deg"] < 8
    data = Dataset(dataset)
    loaded, _ = policy.load(tmp_path)
    for e in range(3):
        state = data.state(e)[0]
        seen = Observation(data.frames(e)[0], agentview(64), state[:3], state[3], 0.0)
        (chunk,) = loaded.act_batch([seen])
        assert chunk.rotation is not None
        n = builders.LENGTHS[e] - 1
        away = (chunk.rotation[:n] - data.rotation(e)[1:] + np.pi) % (2 * np.pi) - np.pi
        assert np.abs(away).mean() < 2 * np.pi / 24 / 3, np.degrees(away)
