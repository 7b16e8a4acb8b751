"""The published model's stages as they are shipped: the sources' rates, steps and sizes, and how rates run."""

from pathlib import Path
from typing import Any

import pytest
from flows import ROOT

from train_stages import joint, video
from videopolicy.config import load
from videopolicy.training.optimizer import lr_factor
from videopolicy.training.setup import TrainConfig


def shipped(kind: type, name: str) -> Any:
    return load(kind, ["--config_path", str(ROOT / f"configs/svd/{name}.yaml")])


def test_stage_one() -> None:
    cfg = shipped(video.Config, "video")
    assert (cfg.lr, cfg.train.n_steps, cfg.train.warmup) == (1e-5, 4000, 200)
    assert cfg.noise.high_share == 0.1
    check(cfg)


@pytest.mark.parametrize("name", ["joint_para", "joint_regression", "joint_frozen"])
def test_stage_two(name: str) -> None:
    cfg = shipped(joint.Config, name)
    assert (cfg.lr_unet, cfg.lr_head, cfg.train.n_steps) == (1e-6, 1e-4, 3000)
    assert cfg.init_from == Path("runs/svd/video")
    assert cfg.head.n_steps == 6
    assert (cfg.head_sigma_min, cfg.noise.high_share) == (80.0, 0.5)
    check(cfg)


def check(cfg: Any) -> None:
    """What both stages share; the level that a policy reads at is one that they train."""
    backbone, noise, train = cfg.backbone, cfg.noise, cfg.train
    assert (backbone.image_size, backbone.n_frames) == ((576, 320), 7)
    assert (backbone.feature_blocks, backbone.grid, backbone.augmentation) == ((1, 2), 64, "live")
    assert (noise.p_mean, noise.p_std) == (0.7, 1.6)
    assert noise.high_min <= backbone.feature_sigma <= noise.high_max
    assert (train.clip, train.optimizer, train.batch_size, train.mixed_precision) == (1.0, "adamw", 16, "auto")


def test_rates_warm_up_then_stay_or_fall() -> None:
    constant = TrainConfig(n_steps=100, warmup=10)
    assert [lr_factor(constant, step) for step in (0, 4, 9, 10, 99)] == pytest.approx([0.1, 0.5, 1.0, 1.0, 1.0])
    falling = TrainConfig(n_steps=100, warmup=0, schedule="cosine")
    factors = [lr_factor(falling, step) for step in range(101)]
    assert factors == sorted(factors, reverse=True)
    assert [factors[i] for i in (0, 50, 100)] == pytest.approx([1.0, 0.51, 0.02])
