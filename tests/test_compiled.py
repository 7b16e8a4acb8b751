"""Training whose UNet's blocks are compiled: the same losses, and nothing is compiled that is not trained."""

from pathlib import Path

import pytest
import torch
from flows import config
from torch._dynamo.utils import counters

from train_stages import video
from videopolicy.backbones import pipeline
from videopolicy.backbones.pipeline import Architecture
from videopolicy.data.files import read_jsonl


def test_only_training_is_compiled(small_dataset: Path, tmp_path: Path) -> None:
    """With blocks computed again. Validation and previews, of other shapes, run as they are written."""
    one_level = Architecture((64, 64), 4, 4, (32,), (True,), vae_channels=(32, 32, 32))
    pipeline.save(pipeline.create(one_level, seed=0), tmp_path / "toy")
    keys = {"data__root": small_dataset, "backbone__pretrained": tmp_path / "toy", "backbone__n_frames": 4}
    keys |= {"backbone__feature_blocks": "[0]", "backbone__grid": 8, "train__n_steps": 2, "train__val_every": 1}
    keys |= {"preview__every": 1, "train__mixed_precision": "fp32"}
    torch.compiler.reset()
    counters.clear()
    found = []
    for compile in ("none", "aot_eager"):
        more = {"backbone__compile": compile, "backbone__checkpointing": "none" if compile == "none" else "full"}
        video.main(config(video.Config, "video", run=tmp_path / compile, **keys, **more))
        found.append([line for line in read_jsonl(tmp_path / compile / "metrics.jsonl") if "total" in line])
    assert counters["frames"] == {"total": 3, "ok": 3}  # a block down, the middle, a block up
    for plain, compiled in zip(*found, strict=True):
        for name in ("total", "grad_norm", "gflop_per_sample"):
            assert compiled[name] == pytest.approx(plain[name], rel=1e-4)
