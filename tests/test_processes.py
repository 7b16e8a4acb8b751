"""Training as two processes, as the pretraining runs: one run, one checkpoint, and it resumes."""

import json
import os
import subprocess
import sys
from pathlib import Path

from videopolicy.training import checkpoint

ROOT = Path(__file__).parent.parent


def train(run: Path, data: Path, weights: Path, n_steps: int) -> str:
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "--"]
    script = [str(ROOT / "train_stages/video.py"), "--config_path", str(ROOT / "configs/debug/video.yaml")]
    keys = {"run": run, "data.root": data, "backbone.pretrained": weights, "backbone.n_frames": 4, "backbone.grid": 8}
    keys["train.n_steps"] = n_steps
    options = [x for key, value in keys.items() for x in (f"--{key}", str(value))]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        [sys.executable, *launcher, *script, *options], env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr[-2000:]
    return result.stdout


def test_two_processes_are_one_run(small_dataset: Path, pipeline_folder: Path, tmp_path: Path) -> None:
    """Half of each batch on either; the dataset's latents are made once; going on starts where it stopped."""
    out = train(tmp_path / "run", small_dataset, pipeline_folder, 2)
    assert "2 process(es)" in out
    assert out.count("parameters: unet") == 1
    assert len(list(small_dataset.glob("latents/*/*.npy"))) == 3
    assert checkpoint.read_state(checkpoint.find(tmp_path / "run"))["step"] == 2
    assert "resuming" in train(tmp_path / "run", small_dataset, pipeline_folder, 4)
    steps = [json.loads(line)["step"] for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert sorted(set(steps)) == [0, 1, 2, 3]
    assert checkpoint.read_state(checkpoint.find(tmp_path / "run"))["step"] == 4
