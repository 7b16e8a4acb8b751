"""Training as two processes, as the pretraining runs: one run, one checkpoint, it resumes, it learns as one would."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flows import SPEED, config
from safetensors.numpy import load_file

from train_stages import joint, video
from videopolicy.training import checkpoint

ROOT = Path(__file__).parent.parent
NAMES = {joint: "joint_para", video: "video"}


def keys(script: Any, run: Path, data: Path, weights: Path, n_steps: int) -> dict:
    found = {"run": run, "data__root": data, "backbone__pretrained": weights, "backbone__n_frames": 4}
    found |= {"backbone__grid": 8, "train__n_steps": n_steps, "train__mixed_precision": "fp32"}
    return found | ({"init_from": "null", "noise__high_share": 0.6} if script is joint else {})


def as_two(script: Any, **overrides: object) -> str:
    """Run a stage's script in two processes; what it printed."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "--"]
    file, yaml = ROOT / f"train_stages/{script.__name__.split('.')[1]}.py", ROOT / f"configs/debug/{NAMES[script]}.yaml"
    options = [x for key, value in overrides.items() for x in (f"--{key.replace('__', '.')}", str(value))]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *launcher, str(file), "--config_path", str(yaml), *options]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-2000:]
    return result.stdout


def metrics(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("script", [video, joint])
def test_two_processes_are_one_run(script: Any, small_dataset: Path, pipeline_folder: Path, tmp_path: Path) -> None:
    """Half of each batch on either; the dataset's latents are made once; going on starts where it stopped.

    Losses, gradient norms and weights are those of one process, though either has other samples that count.
    """
    two, one = tmp_path / "two", tmp_path / "one"
    first = 2 if script is video else 3
    out = as_two(script, **keys(script, two, small_dataset, pipeline_folder, first))
    assert "2 process(es)" in out
    assert out.count("parameters: unet") == 1
    assert len(list(small_dataset.glob("posterior/*/*.npy"))) == 3
    assert checkpoint.read_state(checkpoint.find(two))["step"] == first
    if script is video:
        assert "resuming" in as_two(script, **keys(script, two, small_dataset, pipeline_folder, 3))
    assert sorted({line["step"] for line in metrics(two)}) == [0, 1, 2]
    assert checkpoint.read_state(checkpoint.find(two))["step"] == 3

    script.main(config(script.Config, NAMES[script], **keys(script, one, small_dataset, pipeline_folder, 3)))
    ours, theirs = ([line for line in metrics(run) if "total" in line] for run in (two, one))
    for a, b in zip(ours, theirs, strict=True):
        for name in b.keys() - SPEED:
            close = 1e-4 if a["step"] == 0 else 5e-3  # Adam's first steps have a gradient's sign, however small it is
            assert a[name] == pytest.approx(b[name], rel=close, abs=1e-6), (name, a["step"])
    first, second = (load_file(checkpoint.find(run) / "model.safetensors") for run in (two, one))
    away = np.sqrt(sum(np.square(first[name] - second[name]).sum() for name in first))
    assert away < 2e-3 * np.sqrt(sum(np.square(weights).sum() for weights in first.values()))
