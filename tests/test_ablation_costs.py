"""What the scales of the ablations say of steps with a frozen video model is what is counted."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from builders import write_dataset
from flows import ROOT

from eval.ablation_rows import read_scale
from train_stages import joint
from videopolicy.backbones.svd import SVDBackbone
from videopolicy.config import load
from videopolicy.data.dataset import ClipDataset
from videopolicy.data.lerobot import Dataset
from videopolicy.heads.choice import make_head
from videopolicy.operations import Operations
from videopolicy.training.objectives import JointObjective, draw


def test_a_step_with_a_frozen_model_takes_the_share_that_equal_operations_are_made_of(tmp_path: Path) -> None:
    """Of svd-tiny and the demo's recipe; pictures are encoded once, before any step."""
    cfg = load(joint.Config, ["--config_path", str(ROOT / "configs/demo/joint_para.yaml")])
    size = cfg.backbone.image_size
    clips = ClipDataset(
        Dataset(write_dataset(tmp_path / "data", (9, 9))), [0], cfg.backbone.n_frames, cfg.head.n_steps, size, 1.0
    )
    batch = torch.utils.data.default_collate([clips[0]])
    counted = {}
    for tune in ("full", "frozen"):
        svd = replace(cfg.backbone, tune=tune, pretrained=ROOT / "weights/svd-tiny")
        backbone = SVDBackbone(svd, clips.data.fps)
        pixels = backbone.pixels(batch["frames"][0])
        cached = {"posterior": backbone.posterior(pixels)[None], "embeddings": backbone.embed(pixels)[None]}
        head = make_head(cfg.head, backbone, clips.label_statistics(), clips.data.fps)
        objective = JointObjective(backbone, head, cfg.head_sigma_min, cfg.fixed_noise, "sum")
        draws = draw(cfg.noise, range(1), backbone, 0, 0)
        with Operations() as counter:
            loss = objective(batch | cached, draws)["total"]
            trained = [p for p in objective.parameters() if p.requires_grad]
            torch.autograd.grad(loss, trained, allow_unused=True)
        counted[tune] = counter.needed
    assert counted["frozen"] / counted["full"] == pytest.approx(read_scale("cpu")[1].frozen, abs=0.01)
