"""Who is rolled out, and how: decoded otherwise than in training, executed otherwise than the others."""

from pathlib import Path

import numpy as np
import pytest
from flows import config

from eval import rollout
from eval.contestant import open_contestants
from eval.protocol import Config
from train_stages import light
from videopolicy.data.lerobot import Dataset
from videopolicy.errors import BadInput
from videopolicy.types import Observation

STIFF = 1000.0  # nats per squared cell: no path bends


@pytest.fixture(scope="module")
def runs(written_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The same weights, trained to be decoded step by step and along the chunk; and a head without heatmaps."""
    folder = tmp_path_factory.mktemp("runs")
    for name, options in (
        ("plain", {}),
        ("stiff", {"head__para__stiffness": STIFF}),
        ("regression", {"head__kind": "regression"}),
    ):
        where = {"run": folder / name, "data__root": written_dataset, "train__n_steps": 1}
        light.main(config(light.Config, "light", **where, **options))
    return {name: str(folder / name) for name in ("plain", "stiff", "regression")}


def test_decoding_may_be_other_than_it_was_trained(runs: dict[str, str], written_dataset: Path) -> None:
    """To the last bit what a policy with the same weights does that was trained to be decoded so, and the other way."""
    policies = {"plain": runs["plain"], "along": runs["plain"], "stiff": runs["stiff"], "alone": runs["stiff"]}
    cfg = Config(policies=policies, stiffness_of={"along": STIFF, "alone": 0.0}, splits=("validation",), oracle=False)
    found, root, select = open_contestants(cfg, "cpu")
    assert (root, select) == (written_dataset, "all")
    data = Dataset(written_dataset)
    seen = [Observation(data.frames(e)[0], data.camera, data.state(e)[0, :3], 1.0, 0.0) for e in range(3)]
    pixel = {c.name: np.stack([chunk.pixel for chunk in c.policy.act_batch(seen)]) for c in found}
    np.testing.assert_array_equal(pixel["along"], pixel["stiff"])
    np.testing.assert_array_equal(pixel["alone"], pixel["plain"])
    assert np.abs(pixel["along"] - pixel["plain"]).max() > 1
    plain, along, stiff, alone = (c.digest for c in found)
    assert plain == alone != along == stiff  # which is also what says whose episodes are whose


def test_what_a_policy_cannot_do_is_named(runs: dict[str, str], tmp_path: Path) -> None:
    for options, words in (
        ({"stiffness_of": {"regression": 0.1}}, "stiffness_of names 'regression', whose head has no heatmaps; allowed"),
        ({"stiffness_of": {"plain": -1.0}}, "head.para.stiffness is -1.0; allowed: at least 0"),
        ({"stiffness_of": {"para": 0.1}}, "stiffness_of is 'para'; allowed: 'plain', 'regression'"),
        ({"n_execute_of": {"para": 1}}, "n_execute_of is 'para'; allowed: 'plain', 'regression'"),
        ({"n_execute_of": {"plain": 0}}, "n_execute_of has 0 for plain; allowed: at least 1"),
        ({"n_execute_of": {"plain": 99}}, "n_execute is 99; allowed: at most the [0-9]+ steps of plain's chunks"),
        ({"n_episodes": 0, "oracle": False}, "n_episodes is 0; allowed: at least 1, null, or with the oracle 0"),
    ):
        policies = {name: runs[name] for name in ("plain", "regression")}
        with pytest.raises(BadInput, match=words):
            rollout.main(
                Config(**{"output": tmp_path / "out", "policies": policies, "splits": ("validation",), **options})
            )
    assert not (tmp_path / "out").exists()
