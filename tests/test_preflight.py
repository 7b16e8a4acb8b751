"""What training is said to need: against counts made independently, and against a real pass."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from flows import config
from torch import nn

from train_stages import joint, video
from videopolicy.backbones import pipeline, tuning, unet
from videopolicy.backbones.svd import SVDBackbone
from videopolicy.backbones.svd_config import SVDConfig
from videopolicy.errors import BadInput
from videopolicy.training.preflight import GIB, Preflight, _remedies, _Saved
from videopolicy.training.setup import TrainConfig

TRAIN = TrainConfig(batch_size=1, mixed_precision="bf16")


class Published(SVDBackbone):
    """The published SVD's networks, without storage: all that an estimate asks of a backbone."""

    def __init__(self) -> None:
        nn.Module.__init__(self)
        with torch.device("meta"):
            self.unet, self.vae, self.image_encoder = pipeline.published()
        unet.shorten_cross_attention(self.unet)
        self.feature_noise = torch.zeros(7, 4, 40, 72, device="meta")
        self.cfg = SVDConfig(image_size=(576, 320))


def test_the_published_model_at_576_x_320() -> None:
    """10.2 GiB of activations with whole cross-attention, 3.5 if all blocks are computed again; 6.1 GB of gradients."""
    plan = Preflight(Published(), None, n_processes=1)
    plain = plan.need(TRAIN, plan.backbone.cfg)
    assert 9.0 < plain.activations / GIB < 10.2
    assert (
        plan.need(TrainConfig(batch_size=8, mixed_precision="bf16"), plan.backbone.cfg).activations
        == 8 * plain.activations
    )
    again = plan.need(TRAIN, SVDConfig(image_size=(576, 320), checkpointing="full"))
    assert 3.0 < again.activations / GIB < 3.5
    finest = plan.need(TRAIN, SVDConfig(image_size=(576, 320), checkpointing="selective"))
    assert again.activations < finest.activations < plain.activations
    assert plain.gradients == pytest.approx(6.1e9, rel=0.05)
    assert plain.moments == 2 * plain.gradients
    _, blocks, _ = plan.kept("full", 16)
    assert sum(blocks[name] for name in ("down0", "up2", "up3")) / sum(blocks.values()) == pytest.approx(0.73, abs=0.02)


def test_what_eight_processes_share_is_needed_once(pipeline_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint holds as much as before, and what ZeRO cannot do is no remedy."""
    cfg = SVDConfig(pipeline_folder, image_size=(64, 64), n_frames=4, feature_blocks=(0,), grid=8)
    plan = Preflight(SVDBackbone(cfg, 4), None, n_processes=8)
    train = TrainConfig(batch_size=8)
    alone = plan.need(train, plan.backbone.cfg)
    disk = plan.checkpoint(alone, train)
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    assert "adamw8bit" not in _remedies(plan, train, plan.backbone.cfg, 2**40)
    for stage in (2, 3):
        monkeypatch.setenv("ACCELERATE_DEEPSPEED_ZERO_STAGE", str(stage))
        need = plan.need(train, plan.backbone.cfg)
        assert (need.gradients, need.moments) == (alone.gradients // 8, alone.moments // 8)
        assert need.activations == alone.activations
        assert need.weights > alone.weights  # and the share of them that is stepped
        assert plan.checkpoint(need, train) == pytest.approx(disk, rel=1e-5)


@pytest.mark.parametrize("tune", ["full", "temporal", "lora"])
def test_a_pass_keeps_what_was_said(pipeline_folder: Path, tune: tuning.Tune) -> None:
    """Of a real pass of the toy network, fused attention and all."""
    cfg = SVDConfig(pipeline_folder, image_size=(64, 64), n_frames=4, feature_blocks=(0,), grid=8, tune=tune)
    backbone = SVDBackbone(cfg, 4)
    trained, blocks, _ = Preflight(backbone, None, 1).kept(tune, 16)
    assert trained == sum(p.numel() for p in backbone.unet_parameters())
    given = torch.randn(1, 4, 16, 16, 16), torch.zeros(1), torch.randn(1, 1, 64), torch.zeros(1, 3)
    counter = _Saved(backbone.unet)
    with counter:
        unet.run(backbone.unet, *given)
    assert sum(blocks.values()) == pytest.approx(counter.bytes, rel=0.02)


def test_nothing_is_kept_of_a_frozen_network(pipeline_folder: Path) -> None:
    backbone = SVDBackbone(SVDConfig(pipeline_folder, image_size=(64, 64), n_frames=4, feature_blocks=(0,), grid=8), 4)
    need = Preflight(backbone, None, 1).need(TRAIN, SVDConfig(tune="frozen"))
    assert (need.gradients, need.moments, need.activations) == (0, 0, 0)


def run(script: Any, folder: Path, data: Path, weights: Path, **more: object) -> dict[str, float]:
    keys: dict[str, object] = {"run": folder, "data__root": data, "backbone__pretrained": weights}
    keys |= {"backbone__n_frames": 4, "backbone__grid": 8}
    keys |= {"init_from": "null"} if script is joint else {}
    return script.main(config(script.Config, "joint_para" if script is joint else "video", **{**keys, **more}))


def test_a_dry_run_says_it(
    written_dataset: Path, pipeline_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    run(joint, tmp_path / "run", written_dataset, pipeline_folder, dry_run=True)
    out = capsys.readouterr().out
    assert "sample: frames 4 x 64 x 64 x 3, latents 4 x 8 x 16 x 16, features 3 x 64 x 8 x 8" in out
    assert "memory: about " in out
    assert "disk: about " in out
    assert not (tmp_path / "run").exists()


def test_what_cannot_fit_is_refused_with_what_would(
    written_dataset: Path, pipeline_folder: Path, tmp_path: Path
) -> None:
    """Smaller parts, where the batch is what is too large."""
    with pytest.raises(BadInput, match=r"training needs about .* GiB; it would fit with .*train.accumulate 200000 \("):
        run(video, tmp_path / "run", written_dataset, pipeline_folder, train__batch_size=200000, dry_run=True)
    assert not (tmp_path / "run").exists()


def test_what_never_fits_says_so(
    written_dataset: Path, pipeline_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = type("Machine", (), {"total": 2**20})
    monkeypatch.setattr("psutil.virtual_memory", lambda: machine)
    with pytest.raises(BadInput, match=r"with every setting that saves memory it would still need 0.0 GiB"):
        run(video, tmp_path / "run", written_dataset, pipeline_folder, dry_run=True)


def test_what_is_on_disk_already_is_not_needed_again(
    written_dataset: Path, pipeline_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that had room when it began goes on; with its running means, which are kept wherever they are averaged."""
    few = {"train__n_steps": 4, "train__save_every": 2, "train__ema": 0.9, "train__ema_on_cpu": True}
    run(video, tmp_path / "run", written_dataset, pipeline_folder, **few)
    one = sum(f.stat().st_size for f in (tmp_path / "run/step_000004").iterdir())
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage._replace(free=int(1.2 * one)))
    run(video, tmp_path / "run", written_dataset, pipeline_folder, **few)
    with pytest.raises(BadInput, match=r"checkpoints need about"):
        run(video, tmp_path / "other", written_dataset, pipeline_folder, **few)


def test_a_full_disk_is_noticed_before(
    written_dataset: Path, pipeline_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage._replace(free=2**20))
    with pytest.raises(BadInput, match=r"checkpoints need about .* GiB in .*/run, where 0.00 are free"):
        run(video, tmp_path / "run", written_dataset, pipeline_folder)
    assert not (tmp_path / "run").exists()
