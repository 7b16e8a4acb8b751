"""Pretraining a video model's head on pixels, and tuning it: the same, by configuration alone."""

from pathlib import Path

import numpy as np
import pytest
import torch
from flows import config, paths
from safetensors.torch import load_file

from train_stages import joint
from videopolicy import policy
from videopolicy.data.files import read_jsonl
from videopolicy.errors import BadInput
from videopolicy.training import checkpoint


def tune(folder: Path, run: Path, name: str = "joint_para", **overrides: object) -> dict[str, float]:
    return joint.main(config(joint.Config, name, **paths(folder, run), data__select="left", **overrides))


@pytest.mark.parametrize("name", ["joint_para", "joint_global"])
def test_a_head_learns_pixels_and_is_tuned_to_act(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture, name: str
) -> None:
    found = tune(folder, tmp_path / "pixels", name, head__labels="2d", init_from=folder / "video", train__n_steps=2)
    assert np.isfinite(found["pixel"])
    assert "position_mm" not in found
    assert not [key for key in found if "leak" in key and "_mm" in key]  # of which pixels know nothing
    (first, *_) = read_jsonl(tmp_path / "pixels/metrics.jsonl")
    assert {"spatial", "track"} & {*first}
    assert not {"height", "gripper", "position"} & {*first}
    with pytest.raises(BadInput, match="says where in the image, and cannot act"):
        policy.load(tmp_path / "pixels")

    # At rates of zero what was taken over is what is saved.
    still = {"lr_unet": 0.0, "lr_head": 0.0, "train__n_steps": 1}
    tuned = tune(folder, tmp_path / "tuned", name, init_from=tmp_path / "pixels", **still)
    assert np.isfinite(tuned["position_mm"])
    assert f"from {checkpoint.find(tmp_path / 'pixels')}: backbone." in capsys.readouterr().out
    before, after = (load_file(checkpoint.find(tmp_path / run) / checkpoint.MODEL) for run in ("pixels", "tuned"))
    unet = {key for key in after if key.startswith("backbone.unet.")}
    assert unet
    assert all(torch.equal(before[key], after[key]) for key in unet)
    policy.load(tmp_path / "tuned")


def test_another_size_is_refused(folder: Path, tmp_path: Path) -> None:
    tune(folder, tmp_path / "pixels", head__labels="2d", init_from=folder / "video", train__n_steps=1)
    state = checkpoint.read_state(checkpoint.find(tmp_path / "pixels"))
    assert state["stage"] == "joint"
    words = r"backbone\.augmentation is '\w+', but init_from .* was trained with '\w+'; allowed: the same"
    other = {"live": "none", "none": "live"}[
        checkpoint.read_config(checkpoint.find(tmp_path / "pixels"))["backbone"]["augmentation"]
    ]
    with pytest.raises(BadInput, match=words):
        tune(folder, tmp_path / "tuned", init_from=tmp_path / "pixels", backbone__augmentation=other)
    assert not (tmp_path / "tuned").exists()
