"""Training as two processes, as the pretraining runs: one run, one checkpoint, it resumes, it learns as one would."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import infinite_gradient
import numpy as np
import pytest
import two_processes
from flows import SPEED, config
from safetensors.numpy import load_file

from train_stages import joint, video
from videopolicy.data.files import sha256
from videopolicy.errors import BadInput
from videopolicy.training import checkpoint

ROOT = Path(__file__).parent.parent
NAMES = {joint: "joint_para", video: "video"}


def keys(script: Any, run: Path, data: Path, weights: Path, n_steps: int) -> dict:
    found = {"run": run, "data__root": data, "backbone__pretrained": weights, "backbone__n_frames": 4}
    found |= {"backbone__grid": 8, "train__n_steps": n_steps, "train__mixed_precision": "fp32"}
    return found | ({"init_from": "null", "noise__high_share": 0.6} if script is joint else {})


def as_two(script: Any, zero: int = 0, **overrides: object) -> str:
    """Run a stage in two processes, which share what they hold by a stage of ZeRO; what they print."""
    asked = {"ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_DEEPSPEED_ZERO_STAGE": str(zero)} if zero else {}
    return two_processes.run(script.main, config(script.Config, NAMES[script], **overrides), **asked)


def launched(script: Any, **overrides: object) -> str:
    """The same as a user starts it, without ZeRO."""
    file, yaml = ROOT / f"train_stages/{script.__name__.split('.')[1]}.py", ROOT / f"configs/debug/{NAMES[script]}.yaml"
    options = [x for key, value in overrides.items() for x in (f"--{key.replace('__', '.')}", str(value))]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "--"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    command = [*launcher, str(file), "--config_path", str(yaml), *options]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-2000:]
    return result.stdout


def metrics(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("script", [video, joint])
def test_two_processes_are_one_run(script: Any, small_dataset: Path, pipeline_folder: Path, tmp_path: Path) -> None:
    """Half of each batch on either; the dataset's latents are made once; a run that stops and goes on ends bit for bit
    where one that does not stop ends.

    Losses, gradient norms and weights are nearly those of one process, though either has other samples that count.
    Only the run that does not stop generates clips and looks for leaks.
    """
    two, through, one = (tmp_path / name for name in ("two", "through", "one"))
    blind = {"preview__clips": 0} | ({"leak_clips": 0} if script is joint else {})
    out = as_two(script, **keys(script, two, small_dataset, pipeline_folder, 2), **blind)
    assert "2 process(es)" in out
    assert out.count("parameters: unet") == 1
    assert len(list(small_dataset.glob("posterior/*/*.npy"))) == 3
    assert checkpoint.read_state(checkpoint.find(two))["step"] == 2
    assert "resuming" in as_two(script, **keys(script, two, small_dataset, pipeline_folder, 3), **blind)

    start = launched if script is joint else as_two
    start(script, **keys(script, through, small_dataset, pipeline_folder, 3))
    assert bare(two) == bare(through)
    assert weights(two) == weights(through)

    script.main(config(script.Config, NAMES[script], **keys(script, one, small_dataset, pipeline_folder, 3), **blind))
    are_alike(two, one)


def bare(run: Path) -> list[dict]:
    """A run's losses, gradient norms and rates; validation follows where a run ends, in steps of its own."""
    return [{k: v for k, v in line.items() if k not in SPEED} for line in metrics(run) if "total" in line]


def weights(run: Path) -> dict[str, str]:
    """Sums of a run's weights, moments and running statistics, by file."""
    found = checkpoint.find(run)
    return {path.name: sha256(path) for path in found.glob("*.safetensors")}


@pytest.mark.parametrize(
    ("script", "stage", "head"), [(joint, 2, "spatial_softmax"), (joint, 3, "para"), (video, 3, None)]
)
def test_shares_are_one_run(
    script: Any, stage: int, head: str | None, small_dataset: Path, pipeline_folder: Path, tmp_path: Path
) -> None:
    """Weights and moments that two processes share are those of one: it starts the run, they go on, it ends it.

    Together they also validate after every step, and generate; of a head, layers are large enough to be shared.
    """
    shared, one = tmp_path / "shared", tmp_path / "one"
    size = {"train__batch_size": 4, "preview__n_sample_steps": 1, "preview__detector_steps": 0}
    size |= {"head__kind": head, "head__para__width": 128} if head else {}
    unseen = {"leak_clips": 0} if head else {}

    def alone(run: Path, n_steps: int) -> None:
        where = keys(script, run, small_dataset, pipeline_folder, n_steps)
        script.main(config(script.Config, NAMES[script], **where, **size, preview__clips=0, **unseen))

    alone(shared, 1)
    where = keys(script, shared, small_dataset, pipeline_folder, 3)
    where["train__mixed_precision"] = "auto"  # what the run was begun with
    looked = {"preview__clips": 2, "preview__every": 1, "train__val_every": 1}
    looked |= {"leak_clips": 2} if head else {}
    out = as_two(script, stage, **where, **size, **looked, train__accumulate=2)
    assert "resuming" in out
    assert "2 process(es)" in out
    alone(shared, 4)
    alone(one, 4)
    assert [line["step"] for line in metrics(shared) if "total" in line] == [0, 1, 2, 3]
    generated = [line["step"] for line in metrics(shared) if "val/preview/motion" in line]
    assert generated == [1, 2]
    assert (shared / "previews/clips_000003.mp4").is_file()
    are_alike(shared, one)


def are_alike(run: Path, other: Path) -> None:
    """Losses, gradient norms, weights."""
    ours, theirs = ([line for line in metrics(path) if "total" in line] for path in (run, other))
    for a, b in zip(ours, theirs, strict=True):
        for name in b.keys() - SPEED:
            close = 1e-4 if a["step"] == 0 else 5e-3  # Adam's first steps have a gradient's sign, however small it is
            assert a[name] == pytest.approx(b[name], rel=close, abs=1e-6), (name, a["step"])
    first, second = (load_file(checkpoint.find(path) / "model.safetensors") for path in (run, other))
    away = np.sqrt(sum(np.square(first[name] - second[name]).sum() for name in first))
    assert away < 2e-3 * np.sqrt(sum(np.square(weights).sum() for weights in first.values()))


@pytest.mark.parametrize("stage", [0, 2])
def test_processes_find_each_other_before_precision_is_decided(
    stage: int, small_dataset: Path, pipeline_folder: Path, tmp_path: Path
) -> None:
    where = keys(video, tmp_path / "run", small_dataset, pipeline_folder, 1) | {"train__mixed_precision": "auto"}
    out = as_two(video, stage, **where, dry_run=True)
    assert "2 process(es)" in out
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("stage", [2, 3])
def test_a_gradient_that_is_not_finite_changes_nothing(stage: int) -> None:
    """Where the loss is finite, and the step before it was."""
    assert "finite [True, False], changed False" in two_processes.run(infinite_gradient.main, stage)


def test_what_cannot_be_shared_is_refused(
    small_dataset: Path, pipeline_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")

    def refused(words: str, stage: int, script: Any = video, **overrides: object) -> None:
        monkeypatch.setenv("ACCELERATE_DEEPSPEED_ZERO_STAGE", str(stage))
        where = keys(script, tmp_path / "run", small_dataset, pipeline_folder, 1)
        with pytest.raises(BadInput, match=words):
            script.main(config(script.Config, NAMES[script], **where, **overrides))
        assert not (tmp_path / "run").exists()

    refused("zero_stage is 1; allowed: 2, 3", 1)
    refused("train.optimizer is adamw8bit; allowed with ZeRO: adamw", 2, train__optimizer="adamw8bit")
    refused("backbone.compile is inductor; allowed with ZeRO: none", 2, backbone__compile="inductor")
    refused("backbone.compile is inductor; allowed with ZeRO: none", 3, joint, backbone__compile="inductor")
    refused(r"zero_stage is 3; allowed with train.ema 0.9: 2", 3, train__ema=0.9)
    refused(r"zero_stage is 3; allowed with train.ema 0.9: 2", 3, joint, train__ema=0.9)
    monkeypatch.setenv("ACCELERATE_DEEPSPEED_OFFLOAD_PARAM_DEVICE", "cpu")
    refused("deepspeed_offload_param_device is 'cpu'; allowed: none", 2)
    monkeypatch.delenv("ACCELERATE_DEEPSPEED_OFFLOAD_PARAM_DEVICE")
    refused("ZeRO shares what several processes hold, and this is one", 2)
    monkeypatch.setattr("videopolicy.training.zero.find_spec", lambda _name: None)
    refused("ZeRO needs DeepSpeed, which is not installed", 2)
