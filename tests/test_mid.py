"""The video model between svd-tiny and SVD: as large as is said, kept in small files, and every stage takes it."""

from pathlib import Path
from typing import Any

import builders
import pytest
import torch
from flows import ROOT

from train_stages import joint, vae, video
from videopolicy.backbones import pipeline
from videopolicy.backbones.copy_start import start_copying
from videopolicy.backbones.pipeline import Parts
from videopolicy.config import load
from videopolicy.training.linear_start import start_linear


def configured(kind: type, name: str, *options: object) -> Any:
    return load(kind, ["--config_path", str(ROOT / f"configs/mid/{name}.yaml"), *map(str, options)])


@pytest.fixture(scope="module")
def parts() -> Parts:
    return pipeline.create(configured(vae.Config, "vae").architecture, seed=0)


def test_it_is_of_a_size_between(parts: Parts) -> None:
    n = sum(p.numel() for network in (parts.unet, parts.vae, parts.image_encoder) for p in network.parameters())
    assert 24e6 < n <= 32e6


def test_every_stage_takes_it(parts: Parts, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Its weights may start as configured, and lie in files of at most 15 MiB; the stages say what they would need."""
    data = builders.write_dataset(tmp_path / "data", (8, 9, 8))
    frames = builders.episode(0, 2, 192).frames
    start_linear(parts.vae, torch.from_numpy(frames))
    assert start_copying(parts.unet, parts.vae.config.scaling_factor)
    folder = tmp_path / "weights"
    pipeline.save(parts, folder)
    files = list(folder.rglob("*.safetensors"))
    assert max(f.stat().st_size for f in files) <= 15 * 2**20
    where = ("--data.root", data, "--data.n_val_episodes", 1, "--backbone.pretrained", folder, "--dry_run", "true")
    for script, name, more in (
        (video, "unet", ()),
        (video, "video", ()),
        (joint, "joint_para", ("--init_from", "null")),
        (joint, "joint_regression", ("--init_from", "null")),
    ):
        script.main(configured(script.Config, name, *where, "--run", tmp_path / name, *more))
        out = capsys.readouterr().out
        assert "sample: frames 7 x 192 x 192 x 3, latents 7 x 8 x 48 x 48" in out
        assert "memory: about " in out
