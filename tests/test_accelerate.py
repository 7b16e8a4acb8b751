"""The launch configurations are ones that accelerate reads, and one process starts by them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.utils import DistributedType

from videopolicy.errors import BadInput
from videopolicy.training.launch import check_world
from videopolicy.training.setup import TrainConfig, make_accelerator

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "configs/accelerate"
KINDS = {
    "single": (DistributedType.NO, 1, 1),
    "ddp": (DistributedType.MULTI_GPU, 1, 8),
    "multi_node": (DistributedType.MULTI_GPU, 2, 16),
    "zero2": (DistributedType.DEEPSPEED, 1, 8),
    "zero3": (DistributedType.DEEPSPEED, 1, 8),
}


@pytest.mark.parametrize("name", KINDS)
def test_accelerate_reads_them(name: str) -> None:
    found = load_config_from_file(str(FOLDER / f"{name}.yaml"))
    assert (found.distributed_type, found.num_machines, found.num_processes) == KINDS[name]
    assert found.mixed_precision == "no"  # the stages decide


def test_there_are_no_others() -> None:
    assert {path.stem for path in FOLDER.iterdir()} == set(KINDS)


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("USE_FSDP", "true", "accelerate's use_fsdp is true; allowed: no; ZeRO shares weights"),
        ("USE_MEGATRON_LM", "true", "accelerate's use_megatron_lm is true; allowed: no"),
        ("DYNAMO_BACKEND", "INDUCTOR", "accelerate's dynamo_backend is INDUCTOR; allowed: no; backbone.compile"),
        ("MIXED_PRECISION", "fp16", "accelerate's mixed_precision is fp16; allowed: no, bf16; train.mixed_precision"),
        ("GRADIENT_ACCUMULATION_STEPS", "4", "accelerate's gradient_accumulation_steps is 4; allowed: 1; train.accum"),
    ],
)
def test_what_it_may_not_decide_is_refused(
    variable: str, value: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"ACCELERATE_{variable}", value)
    with pytest.raises(BadInput, match=words):
        make_accelerator(TrainConfig(mixed_precision="fp32"))


def test_processes_that_do_not_know_of_each_other_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """As accelerate's launcher starts them for several GPUs where there is none: each would train by itself."""
    check_world(1)
    monkeypatch.setenv("WORLD_SIZE", "2")
    check_world(2)
    with pytest.raises(BadInput, match="2 processes were started, and this one knows of 1: there is no GPU for each"):
        check_world(1)


def test_what_its_files_say_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, value in (
        ("MIXED_PRECISION", "bf16"),
        ("DYNAMO_BACKEND", "NO"),
        ("GRADIENT_ACCUMULATION_STEPS", "1"),
    ):
        monkeypatch.setenv(f"ACCELERATE_{variable}", value)
    assert make_accelerator(TrainConfig(mixed_precision="fp32")).mixed_precision == "no"


def test_one_process_starts(written_dataset: Path, tmp_path: Path) -> None:
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(FOLDER / "single.yaml")]
    keys = {"run": tmp_path / "run", "data.root": written_dataset, "dry_run": "true"}
    options = [x for key, value in keys.items() for x in (f"--{key}", str(value))]
    script = [str(ROOT / "train_stages/light.py"), "--config_path", str(ROOT / "configs/debug/light.yaml")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    result = subprocess.run([*launch, *script, *options], env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-2000:]
    assert "(1 process(es)" in result.stdout
    assert not (tmp_path / "run").exists()
