"""Temporal decoding measured: its numbers on paths that are known, and the command on a trained policy."""

import json
from pathlib import Path

import numpy as np
import pytest
from builders import write_dataset
from flows import config

from eval import decoding
from train_stages import light
from videopolicy.config import load
from videopolicy.data.recording import Episode
from videopolicy.errors import BadInput


def test_errors_and_jitter_of_known_paths() -> None:
    """A zigzag of 1 cm around a straight line: 1 cm off, and 4 cm of second difference; masked steps do not count."""
    true = np.zeros((2, 6, 3))
    true[..., 0] = 0.1 * np.arange(6)
    path = true.copy()
    path[0, :, 1] = 0.01 * (-1.0) ** np.arange(6)
    path[1, 3:] = np.nan
    valid = np.ones((2, 6), bool)
    valid[1, 3:] = False
    found = decoding.per_clip(path, true, valid)
    np.testing.assert_allclose(found["position_mm"], [10.0, 0.0], atol=1e-9)
    np.testing.assert_allclose(found["jitter_mm"], [40.0, 0.0], atol=1e-9)
    np.testing.assert_allclose(found["true_jitter_mm"], 0.0, atol=1e-9)
    valid[1, 1:] = False
    assert np.isnan(decoding.per_clip(path, true, valid)["jitter_mm"][1])


def half(number: int, episode: Episode) -> Episode:
    """Recorded in the left half's outer columns, the last one in its inner ones."""
    return Episode(episode.frames, episode.state, episode.action, {"row": 0, "col": 6 if number == 2 else number})


def test_a_policy_is_decoded_from_the_same_heatmaps(tmp_path: Path) -> None:
    root, run = write_dataset(tmp_path / "data", (6, 6, 6), change=half), tmp_path / "run"
    trained = {"run": run, "data__root": root, "data__select": "outer_left", "train__n_steps": 1}
    light.main(config(light.Config, "light", **trained))
    arguments = ["--policy", str(run), "--output", str(tmp_path / "out"), "--stiffness", "[0, 1000]"]
    for clips, episodes in (("held_out", 1), ("left_out", 1)):
        summary = decoding.main(load(decoding.Config, [*arguments, "--clips", clips, "--n_clips", "3"]))
        assert json.loads((tmp_path / "out/summary.json").read_text()) == summary
        assert (summary["n_clips"], summary["n_episodes"]) == (3, episodes)
        plain, stiff = summary["rows"]
        assert plain["position_mm_change95"] == [0.0, 0.0]
        assert stiff["jitter_mm"] < plain["jitter_mm"]
        assert 0 < plain["height_mm"] < plain["position_mm"]  # part of it
        assert 1 < plain["pixel_px"] < np.hypot(*summary["image_size"])
        assert stiff["pixel_px"] != plain["pixel_px"]
    for more, words in (
        (["--stiffness", "[0.1]"], r"stiffness is \[0.1\]; allowed: 0, which"),
        (["--n_clips", "0"], "n_clips is 0; allowed: at least 1"),
    ):
        with pytest.raises(BadInput, match=words):
            decoding.main(load(decoding.Config, [*arguments, *more]))
    light.main(config(light.Config, "light", **trained | {"run": tmp_path / "pooled", "head__kind": "regression"}))
    with pytest.raises(BadInput, match="has head 'regression'; allowed: para"):
        decoding.main(load(decoding.Config, ["--policy", str(tmp_path / "pooled")]))
    light.main(config(light.Config, "light", **trained | {"run": tmp_path / "all", "data__select": "all"}))
    with pytest.raises(BadInput, match=r"clips is 'left_out', but .* has none of"):
        decoding.main(load(decoding.Config, ["--policy", str(tmp_path / "all"), "--clips", "left_out"]))
