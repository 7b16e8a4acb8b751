"""The leak meter: what of a future that only training has reaches a head."""

import copy
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from train_stages.leak import SIGMAS, LeakMeter
from videopolicy.backbones.svd import SVDBackbone
from videopolicy.backbones.svd_config import SVDConfig
from videopolicy.data.dataset import ClipDataset
from videopolicy.data.lerobot import Dataset
from videopolicy.diffusion import NoiseConfig
from videopolicy.heads.choice import HeadConfig, make_head
from videopolicy.training.objectives import JointObjective, draw
from videopolicy.types import ActionChunk


@pytest.fixture(scope="module")
def meter(written_dataset: Path, pipeline_folder: Path) -> LeakMeter:
    torch.manual_seed(0)
    data = Dataset(written_dataset)
    clips = ClipDataset(data, [0, 1, 2], 4, 6, (64, 64), 1.0)
    backbone = SVDBackbone(SVDConfig(pipeline_folder, "pretrained", (64, 64), 4, feature_blocks=(0, 1), grid=8), 4)
    head = make_head(HeadConfig(kind="regression", n_steps=6), backbone, clips.label_statistics(), 4)
    return LeakMeter(backbone.eval(), head.eval(), data, clips, 4, 0, fixed_noise=False)


def test_noise_drowns_the_future(meter: LeakMeter) -> None:
    """Another future moves what is read at low noise, and hundreds of times less at the highest."""
    low, high = (meter.measure(sigma)["leak/swap_mm"] for sigma in (0.5, 600.0))
    assert low > 100 * high > 0


def test_every_noise_level_is_read(meter: LeakMeter) -> None:
    found = meter.measure(80.0)
    kinds = ("mm", "px", "loss/position", "loss/gripper")
    assert list(found) == [
        *(f"leak/sigma_{s:g}_{kind}" for s in SIGMAS for kind in kinds),
        "leak/swap_mm",
        "leak/swap_px",
    ]
    assert all(math.isfinite(x) and x > 0 for x in found.values())
    assert found == meter.measure(80.0)


def test_errors_are_those_of_the_truth(meter: LeakMeter, monkeypatch: pytest.MonkeyPatch) -> None:
    """A head that knew it would have none, in space and in the picture."""
    camera, wanted = meter.cameras[0].resized((64, 64)), meter.batch
    np.testing.assert_allclose(camera.project(wanted["position"].numpy()), wanted["pixel"], atol=1e-3)
    known = [ActionChunk(p, np.zeros(6), 0.25) for p in wanted["position"].double().numpy()]
    monkeypatch.setattr(meter.head, "decode", lambda *_: known)
    found = meter.measure(80.0)
    assert all(found[f"leak/sigma_{s:g}_{unit}"] < 1e-3 for s in SIGMAS for unit in ("mm", "px"))
    assert found["leak/swap_mm"] == 0.0


@pytest.mark.parametrize("kind", ["para", "regression"])
def test_a_head_that_only_says_where_is_read_too(meter: LeakMeter, written_dataset: Path, kind: str) -> None:
    """In the picture, as it has no waypoints in space."""
    data = Dataset(written_dataset)
    clips = ClipDataset(data, [0, 1], 4, 6, (64, 64), 1.0)
    head = make_head(HeadConfig(kind=kind, labels="2d", n_steps=6), meter.backbone, clips.label_statistics(), 4).eval()
    found = LeakMeter(meter.backbone, head, data, clips, 2, 0, fixed_noise=True).measure(80.0)
    term = "spatial" if kind == "para" else "track"
    assert list(found) == [*(f"leak/sigma_{s:g}_{k}" for s in SIGMAS for k in ("px", f"loss/{term}")), "leak/swap_px"]
    assert all(0 < found[f"leak/sigma_{s:g}_px"] < 100 for s in SIGMAS)


def test_the_future_may_be_hidden_from_a_frozen_models_head(meter: LeakMeter) -> None:
    """What trains it then is what it acts on, at any noise level: the clip's future moves no loss."""
    backbone, batch = meter.backbone, {k: v[:2] for k, v in meter.batch.items()}
    frozen = copy.deepcopy(backbone).requires_grad_(False)
    draws = draw(NoiseConfig(high_share=1.0, high_min=2.0, high_max=2.0), range(2), backbone, 0, 0)
    draws = replace(draws, augmentation=torch.zeros(2))
    future = batch["frames"].clone()
    future[:, 1:] = 255 - future[:, 1:]
    losses = {}
    for hidden in (True, False):
        objective = JointObjective(frozen, meter.head, 1.9, True, "sum", hidden).eval()
        assert objective.video == ()
        with torch.no_grad():
            both = ({**batch, "frames": frames} for frames in (batch["frames"], future))
            losses[hidden] = [float(objective(each, draws)["total"]) for each in both]
    assert losses[True][0] == losses[True][1]
    assert losses[False][0] != losses[False][1]


def test_one_clip_has_no_other(meter: LeakMeter, written_dataset: Path) -> None:
    clips = ClipDataset(Dataset(written_dataset), [1], 4, 6, (64, 64), 1.0)
    alone = LeakMeter(meter.backbone, meter.head, clips.data, clips, 1, 0, fixed_noise=False)
    assert "leak/swap_mm" not in alone.measure(80.0)


def test_the_noise_may_be_the_policys(meter: LeakMeter, written_dataset: Path) -> None:
    clips = ClipDataset(Dataset(written_dataset), [0], 4, 6, (64, 64), 1.0)
    fixed = LeakMeter(meter.backbone, meter.head, clips.data, clips, 2, 0, fixed_noise=True)
    assert torch.equal(fixed.draws.noise[0], meter.backbone.feature_noise)
    assert torch.equal(fixed.draws.noise[0], fixed.draws.noise[1])
    assert not torch.equal(meter.draws.noise[0], meter.draws.noise[1])
