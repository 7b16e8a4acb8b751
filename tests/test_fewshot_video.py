"""A video model pretrained on circles and tuned to act, by the shipped recipes, in miniature."""

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from builders import CIRCLE, write_dataset
from flows import ROOT

from eval import rollout
from train_stages import joint, video
from videopolicy import policy
from videopolicy.config import load
from videopolicy.training import checkpoint

RECIPES = ROOT / "configs/fewshot/svd"
SMALL = {
    "backbone": {"image_size": [64, 64], "n_frames": 4, "feature_blocks": [0, 1], "grid": 8},
    "train": {"n_steps": 1, "batch_size": 2, "n_threads": 1, "tracker": "none"},
    "preview": {"clips": 0},
}


def test_circles_teach_a_video_model_to_act(
    pipeline_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """Each recipe finds what the one before it made, and rollouts the policies."""
    monkeypatch.chdir(tmp_path)  # where the recipes' own paths lead
    write_dataset(Path("data/grid"), lengths=(4,) * 10)
    write_dataset(Path("data/circles"), lengths=(4, 4), overlay=CIRCLE)

    def run(script: ModuleType, name: str, **keys: object) -> tuple[dict[str, float], str]:
        small = {f"{group}.{key}": value for group, its in SMALL.items() for key, value in its.items()}
        words = [f"--{key}={value}" for key, value in {"backbone.pretrained": pipeline_folder, **small, **keys}.items()]
        found = script.main(load(script.Config, ["--config_path", str(RECIPES / f"{name}.yaml"), *words]))
        return found, capsys.readouterr().out

    runs = Path("runs/fewshot_svd")
    run(video, "video")
    for labels, learned in (("2d", "pixel"), ("3d", "position_mm")):
        found, said = run(joint, f"joint_{labels}", leak_clips=0)
        assert np.isfinite(found[learned])
        assert ("position_mm" in found) == (labels == "3d")
        assert "loaded backbone.unet" in said
        assert f"from {runs}/video/step_000001" in said
    for begun, recipe, seen in (("3d", "tune", ["data/grid", "data/circles"]), ("scratch", "scratch", ["data/grid"])):
        found, said = run(joint, recipe, leak_clips=0)
        assert np.isfinite(found["position_mm"])
        assert (f"from {runs}/joint_3d/step_000001: backbone." in said) == (begun == "3d")
        assert ("begun anew: nothing" in said) == (begun == "3d")
        state = checkpoint.read_state(checkpoint.find(runs / f"para_{begun}_10_0"))
        assert [each["root"] for each in state["seen"]] == seen
    policies = load(rollout.Config, ["--config_path", str(RECIPES / "rollout.yaml")]).policies
    assert len(policies) == 2
    for name, path in policies.items():
        assert path == f"{runs}/{name.removeprefix('svd+')}"
        assert policy.load(Path(path))[0].head.acts
