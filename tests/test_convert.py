"""LIBERO's demonstration files: what they hold is what the dataset shows, and what is wrong with one is said."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from builders import snapshot

from eval import convert
from eval.convert import Config, sampled
from eval.hdf5 import open_demonstrations
from videopolicy.data.lerobot import Dataset
from videopolicy.errors import BadInput

ROOT = Path(__file__).parent.parent
FPS, SIZE, EVERY = 4, 64, 10


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two demonstrations by the expert, the second one cut short, the cabinet elsewhere in each."""
    path = tmp_path_factory.mktemp("hdf5") / "bowl_demo.hdf5"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "LP_NUM_THREADS": "0"}
    command = [sys.executable, "-W", "ignore", str(ROOT / "tests/recordings.py"), str(path)]
    subprocess.run(command, env=environment, check=True, stderr=subprocess.DEVNULL, cwd=ROOT)
    return path


@pytest.fixture(scope="module")
def config(recorded: Path, tmp_path_factory: pytest.TempPathFactory) -> Config:
    return Config(recorded, tmp_path_factory.mktemp("converted") / "bowl", None, SIZE, FPS, 1)


@pytest.fixture(scope="module")
def converted(config: Config) -> Dataset:
    """The first demonstration, and then the rest by the same command."""
    assert convert.main(replace(config, n_demos=1)) == {"episodes": 1, "new": 1, "placed": 1}
    assert convert.main(config) == {"episodes": 2, "new": 1, "placed": 1}
    return Dataset(config.output)


def test_frames_show_what_was_recorded(recorded: Path, converted: Dataset) -> None:
    """Furniture, which is no part of a state, included; in the order of the demonstrations' numbers."""
    with h5py.File(recorded) as file:
        for episode, name in enumerate(("demo_0", "demo_10")):
            pictures = file["data"][name]["obs/agentview_rgb"][()][:, ::-1].astype(float)
            n_states = len(file["data"][name]["states"])
            frames = converted.frames(episode)[np.isin(sampled(n_states, FPS), np.arange(0, n_states, EVERY))]
            frames = frames[: len(pictures)].astype(float)
            difference = np.abs(frames - pictures).mean()
            assert difference < 4  # the video's compression
            assert np.abs(frames[1:] - pictures[:-1]).mean() > 1.2 * difference
            assert np.abs(frames[:, ::-1] - pictures).mean() > 5 * difference
            cabinet = np.abs(frames[0] - pictures[0])[:, : SIZE // 3].mean()
            other = converted.frames(1 - episode)[0].astype(float)
            assert cabinet < 0.5 * np.abs(other - pictures[0])[:, : SIZE // 3].mean()


def test_the_hand_turns_as_it_did(converted: Dataset) -> None:
    """The first recording leaves it as it was at the start, the second was told to turn it."""
    still, turned = converted.rotation(0), converted.rotation(1)
    assert still is not None
    assert turned is not None
    assert len(still) == converted.length(0)
    assert np.abs(still).max() < 0.15
    np.testing.assert_allclose(turned[-1], [0.1, -0.2, 0.5], atol=0.05)
    assert np.abs(turned[0]).max() < 0.15
    assert (np.diff(turned[:, 2]) > -0.02).all()


def test_states_and_actions_are_those_of_demonstrations(recorded: Path, converted: Dataset) -> None:
    """State: where the arm is; action: where it is at the next frame, and the gripper command on the way."""
    state, action = converted.state(0), converted.action(0)
    np.testing.assert_allclose(action[:-1, :3], state[1:, :3], atol=1e-6)
    np.testing.assert_allclose(action[-1, :3], state[-1, :3], atol=1e-6)
    assert set(action[:, 3]) == {0.0, 1.0}
    lowest = state[:, 2].argmin()
    assert action[: lowest - 1, 3].min() == 1.0
    assert (state[1:, 3][action[:-1, 3] == 0] < 0.9).mean() > 0.8  # closed where it was told to
    assert [e["demo"] for e in converted.extras()] == ["demo_0", "demo_10"]
    assert [e["placed"] for e in converted.extras()] == [True, False]
    tasks = converted.rows[0]["tasks"]
    assert len(tasks) == 1
    assert "bowl" in tasks[0]


def test_the_same_command_changes_nothing(config: Config, converted: Dataset) -> None:
    before = snapshot(config.output / "data")
    assert convert.main(config)["new"] == 0
    assert snapshot(config.output / "data") == before


def test_sampling_keeps_the_ends() -> None:
    assert sampled(11, 4).tolist() == [0, 5, 10]
    assert sampled(13, 4).tolist() == [0, 5, 10, 12]
    assert sampled(3, 20).tolist() == [0, 1, 2]


def test_states_of_other_assets_are_refused(recorded: Path, config: Config, tmp_path: Path) -> None:
    path = shutil.copy(recorded, tmp_path / "other.hdf5")
    with h5py.File(path, "r+") as file:
        for demo in file["data"].values():
            states = demo["states"][()]
            del demo["states"]
            demo["states"] = states[:, :79]
    with pytest.raises(BadInput, match=r"the states have 79 values; allowed: 92, the state of libero_spatial/pick_up"):
        convert.main(replace(config, input=Path(path), output=tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def _no_task(data: h5py.Group) -> None:
    data.attrs["bddl_file_name"] = "bddl_files/libero_spatial/fly_to_the_moon.bddl"


def _one_action_less(data: h5py.Group) -> None:
    actions = data["demo_10"]["actions"][1:]
    del data["demo_10"]["actions"]
    data["demo_10"]["actions"] = actions


def _no_model(data: h5py.Group) -> None:
    data["demo_0"].attrs["model_file"] = "<mujoco"


def _no_words(data: h5py.Group) -> None:
    data.attrs["problem_info"] = "{}"


def _no_demonstrations(data: h5py.Group) -> None:
    del data["demo_0"], data["demo_10"]


@pytest.mark.parametrize(
    ("damage", "line"),
    [
        (_no_task, "no LIBERO task 'libero_spatial/fly_to_the_moon'; the suite has 10"),
        (_one_action_less, r"demo_10 of .* has states of shape \(41, 92\) and actions of shape \(40, 7\); allowed"),
        (_no_model, "model_file of demo_0 of .* is no MuJoCo model"),
        (_no_words, "problem_info of .* holds no language_instruction"),
        (_no_demonstrations, "is no LIBERO demonstration file: it needs a group 'data'"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_is_wrong_is_said(
    recorded: Path, config: Config, tmp_path: Path, damage: Callable[[h5py.Group], None], line: str
) -> None:
    path = Path(shutil.copy(recorded, tmp_path / "damaged.hdf5"))
    with h5py.File(path, "r+") as file:
        damage(file["data"])
    with pytest.raises(BadInput, match=line) as raised:
        convert.main(replace(config, input=path, output=tmp_path / "out"))
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "out").exists()


def test_what_is_no_file_is_said(config: Config, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="there is no such file"):
        open_demonstrations(tmp_path / "none.hdf5")
    (tmp_path / "text.hdf5").write_text("hello")
    with pytest.raises(BadInput, match="it is no HDF5 file, or a damaged one"):
        open_demonstrations(tmp_path / "text.hdf5")
    for wrong, line in (
        ({"fps": 3}, "fps is 3"),
        ({"n_demos": 3}, "n_demos is 3; allowed: 1 to 2"),
        ({"n_workers": 0}, "n_w"),
    ):
        with pytest.raises(BadInput, match=line):
            convert.main(replace(config, output=tmp_path / "out", **wrong))


def test_a_dataset_of_another_file_is_left_alone(config: Config, converted: Dataset, tmp_path: Path) -> None:
    other = Path(shutil.copy(config.input, tmp_path / "another.hdf5"))
    with pytest.raises(BadInput, match=r"holds demo_0 of bowl_demo.hdf5, not demo_0 of another.hdf5"):
        convert.main(replace(config, input=other))
