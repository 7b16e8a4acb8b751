"""A policy in another process: the same chunks as here, and an exception in time for whatever becomes of it."""

import json
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from builders import agentview, background
from flows import config

from robot.messages import chunk_from_json, chunk_to_json, observation_from_json, observation_to_json
from robot.policy_process import PolicyGone, PolicyProcess
from robot.policy_server import acted, heatmaps
from train_stages import light
from videopolicy import policy
from videopolicy.errors import BadInput
from videopolicy.types import ActionChunk, Observation


@pytest.fixture(scope="module")
def run(written_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("policy") / "run"
    light.main(config(light.Config, "light", run=folder, data__root=written_dataset, train__n_steps=1))
    return folder


@pytest.fixture(scope="module")
def process(run: Path) -> Iterator[PolicyProcess]:
    """The last test that uses it ends it."""
    with PolicyProcess(run, patience=20.0, heatmaps=True) as process:
        yield process


def seen() -> Observation:
    return Observation(background(64), agentview(64), np.array([-0.1, 0.0, 0.15]), 1.0, 0.25)


def test_it_says_what_the_policy_says(process: PolicyProcess, run: Path) -> None:
    (expected,) = policy.load(run)[0].act_batch([seen()])
    for chunk in (process.act(seen()), *process.act_batch([seen()])):
        np.testing.assert_allclose(chunk.position, expected.position, atol=1e-6)
        np.testing.assert_allclose(chunk.gripper, expected.gripper, atol=1e-6)
        assert chunk.period == expected.period
        assert (chunk.pixel is None) == (expected.pixel is None)
    assert process.about["head"] == "para"


def test_heatmaps_are_the_policys_own(process: PolicyProcess, run: Path) -> None:
    """One for each step, 255 where it is likeliest, on the head's grid; of other heads there are none."""
    here = policy.load(run)[0]
    with torch.inference_mode():
        logits = here.predict([seen()]).volume[0, :, 0].numpy()
    expected = 255 * np.exp(logits - logits.max((1, 2), keepdims=True))
    for found in (process.act(seen()).heatmaps, acted(here, seen()).heatmaps):
        assert found is not None
        assert found.dtype == np.uint8
        np.testing.assert_allclose(found, expected, atol=0.51)
        assert (found.max((1, 2)) == 255).all()
    assert here.act(seen()).heatmaps is None
    assert heatmaps(torch.zeros(1, 12, 4)) is None


def test_a_video_models_policy_acts_as_well(folder: Path) -> None:
    """The same two commands deploy it: robot.run asks no more of a policy than this."""
    image = np.full((64, 64, 3), 90, np.uint8)
    observation = Observation(image, agentview(64), np.array([-0.1, 0.0, 0.15]), 1.0, 0.0)
    (expected,) = policy.load(folder / "joint_para")[0].act_batch([observation])
    with PolicyProcess(folder / "joint_para", patience=60.0) as process:
        chunk = process.act(observation)
    np.testing.assert_allclose(chunk.position, expected.position, atol=1e-6)


def test_one_that_hangs_is_ended(process: PolicyProcess) -> None:
    """What it is sent fits into no buffer, so that it is noticed whether it reads or not."""
    process.act(seen())
    process.patience = 0.5
    os.kill(process.process.pid, signal.SIGSTOP)
    began = time.monotonic()
    with pytest.raises(PolicyGone, match=r"no answer within 0\.5 s: it hangs, and was ended|it does not listen"):
        process.act(seen())
    assert time.monotonic() - began < 10
    process.process.kill()
    with pytest.raises(PolicyGone, match="killed by signal 9"):
        process.act(seen())


def test_what_is_no_policy_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"no run .*nothing; allowed: a folder"), PolicyProcess(tmp_path / "nothing"):
        pass
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadInput, match=r"^no checkpoint in .*empty; allowed: a run"), PolicyProcess(tmp_path / "empty"):
        pass


def test_it_computes_where_and_with_what_it_is_told(run: Path) -> None:
    with PolicyProcess(run, threads=2) as process:
        assert process.about["threads"] == 2
        assert process.act(seen()).heatmaps is None
    words = r"device is 'abacus'; allowed: cpu, or cuda where there is a GPU"
    with pytest.raises(BadInput, match=words), PolicyProcess(run, device="abacus"):
        pass


def test_messages_keep_what_they_carry() -> None:
    observation = seen()
    entry = json.loads(json.dumps(observation_to_json(observation)))
    assert entry["bytes"] == observation.image.nbytes
    again = observation_from_json(entry, observation.image.ravel())
    np.testing.assert_array_equal(again.image, observation.image)
    np.testing.assert_array_equal(again.camera.K, observation.camera.K)
    assert (again.gripper, again.time) == (1.0, 0.25)
    chunk = ActionChunk(np.ones((2, 3)), np.zeros(2), 0.2, rotation=np.full((2, 3), 0.1))
    other = chunk_from_json(json.loads(json.dumps(chunk_to_json(chunk))))
    assert other.rotation is not None
    np.testing.assert_array_equal(other.rotation, np.full((2, 3), 0.1))
    assert other.pixel is None
    assert other.heatmaps is None
    maps = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    other = chunk_from_json(json.loads(json.dumps(chunk_to_json(replace(chunk, heatmaps=maps)))))
    np.testing.assert_array_equal(other.heatmaps, maps)


ONE = {"position": [[0, 0, 0]], "gripper": [0], "period": 0.2}


@pytest.mark.parametrize(
    "entry",
    [
        {},
        {"position": [[0, 0, 0]], "gripper": [0], "period": 0},
        {"position": [[0, 0]], "gripper": [0], "period": 0.2},
        {"position": [], "gripper": [], "period": 0.2},
        {"position": [[0, 0, 0]], "gripper": [0, 1], "period": 0.2},
        {"position": [[0, 0, 0]], "gripper": [0], "period": 0.2, "speed": [1]},
        {**ONE, "heatmaps": {"shape": [2, 1, 1], "base64": "AAA="}},
        {**ONE, "heatmaps": {"shape": [1, 1, 2], "base64": "AA=="}},
        {**ONE, "heatmaps": {"shape": [1, 1, 1], "base64": "?"}},
    ],
)
def test_what_is_no_chunk_is_refused(entry: dict) -> None:
    with pytest.raises((ValueError, KeyError, TypeError)):
        chunk_from_json(entry)
