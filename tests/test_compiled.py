"""Training whose UNet's blocks are compiled: the same losses, and nothing is compiled that is not trained."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from flows import ROOT, config

from train_stages import video
from videopolicy.backbones import pipeline
from videopolicy.backbones.pipeline import Architecture
from videopolicy.data.files import read_jsonl

# A process of its own, in which no signature is checked: checks cannot be compiled.
CODE = """
import json, sys
from torch._dynamo.utils import counters
from train_stages import video
from videopolicy.config import load
video.main(load(video.Config, sys.argv[1:]))
print(json.dumps(counters["frames"]))
"""


def test_only_training_is_compiled(small_dataset: Path, tmp_path: Path) -> None:
    """Validation and previews, of other shapes, run as they are written."""
    one_level = Architecture((64, 64), 4, 4, (32,), (True,), vae_channels=(32, 32, 32))
    pipeline.save(pipeline.create(one_level, seed=0), tmp_path / "toy")
    keys = {"data.root": small_dataset, "backbone.pretrained": tmp_path / "toy", "backbone.n_frames": 4}
    keys |= {"backbone.feature_blocks": "[0]", "backbone.grid": 8, "train.n_steps": 2, "train.val_every": 1}
    keys |= {"preview.every": 1, "train.mixed_precision": "fp32"}
    video.main(
        config(video.Config, "video", run=tmp_path / "plain", **{k.replace(".", "__"): v for k, v in keys.items()})
    )
    keys |= {"run": tmp_path / "compiled", "backbone.compile": "aot_eager"}
    options = [x for key, value in keys.items() for x in (f"--{key}", str(value))]
    command = [sys.executable, "-c", CODE, "--config_path", str(ROOT / "configs/debug/video.yaml"), *options]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-2000:]
    frames = json.loads(result.stdout.splitlines()[-1])
    assert frames == {"total": 3, "ok": 3}  # a block down, the middle, a block up
    found = [
        [line for line in read_jsonl(tmp_path / run / "metrics.jsonl") if "total" in line]
        for run in ("plain", "compiled")
    ]
    for plain, compiled in zip(*found, strict=True):
        for name in ("total", "grad_norm", "gflop_per_sample"):
            assert compiled[name] == pytest.approx(plain[name], rel=1e-4)
