"""The shipped svd-tiny: small enough, whole, and what its card says."""

from pathlib import Path

import pytest
import torch

from train_stages import joint, video
from videopolicy.backbones import checksums, pipeline
from videopolicy.backbones.svd import SVDBackbone
from videopolicy.config import load

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "weights/svd-tiny"


@pytest.fixture(scope="module")
def parts() -> pipeline.Parts:
    return pipeline.load(FOLDER)


def test_it_is_small(parts: pipeline.Parts) -> None:
    files = [f for f in FOLDER.rglob("*") if f.is_file()]
    assert sum(p.numel() for p in parts.unet.parameters()) <= 8e6
    assert sum(f.stat().st_size for f in files) <= 20e6
    assert max(f.stat().st_size for f in files) <= 2**20


def test_its_card_lists_every_file() -> None:
    card = (FOLDER / checksums.CARD).read_text()
    assert card.endswith(f"```\n{checksums.listing(FOLDER)}```\n")
    assert "license: apache-2.0" in card


def test_the_demo_trains_what_it_was_made_for(monkeypatch: pytest.MonkeyPatch, parts: pipeline.Parts) -> None:
    monkeypatch.chdir(ROOT)
    for kind, name in ((video.Config, "video"), (joint.Config, "joint_para"), (joint.Config, "joint_global")):
        cfg = load(kind, ["--config_path", f"configs/demo/{name}.yaml"])
        assert cfg.backbone.pretrained == Path("weights/svd-tiny")
        assert SVDBackbone(cfg.backbone, parts.purpose["fps"]).identity == parts.identity


def test_its_samples_start_with_the_given_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sampling works from the shipped folder, and frame 0 is the picture that was given."""
    monkeypatch.chdir(ROOT)
    cfg = load(video.Config, ["--config_path", "configs/demo/video.yaml"]).backbone
    image = torch.full((1, 96, 96, 3), 110, dtype=torch.uint8)
    image[:, 40:70, 30:60] = torch.tensor([180, 60, 50], dtype=torch.uint8)
    clip = SVDBackbone(cfg, 4).eval().generate(image, n_steps=6, seed=0)
    assert clip.shape == (1, 7, 96, 96, 3)
    assert (clip[:, 0].float() - image.float()).abs().mean() < 12
