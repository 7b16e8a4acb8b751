"""bfloat16 only where the machine has it, decided once, and what was decided is what is saved."""

from pathlib import Path
from typing import Any

import pytest
import torch
from flows import config, paths

from train_stages import joint, light, vae, video
from videopolicy import policy
from videopolicy.data.lerobot import Dataset
from videopolicy.training import precision
from videopolicy.training.precision import has_bf16, with_precision
from videopolicy.types import Observation


@pytest.mark.parametrize(("flags", "has"), [({"avx2": True, "avx512_bf16": False}, False), ({"amx_bf16": True}, True)])
def test_a_cpu_that_would_imitate_it_has_none(
    flags: dict, has: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: flags)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    assert has_bf16("cpu") is has
    cfg = with_precision(config(video.Config, "video", run=tmp_path))
    assert cfg.train.mixed_precision == ("bf16" if has else "fp32")


def test_this_machine_says_what_it_has() -> None:
    assert {"avx512_bf16", "amx_bf16", "arm_bf16", "bf16"} & set(torch.cpu.get_capabilities())


def test_what_is_asked_for_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    for has in (True, False):
        monkeypatch.setattr(precision, "has_bf16", lambda _device, has=has: has)
        for wanted in ("fp32", "bf16"):
            cfg = config(light.Config, "light", train__mixed_precision=wanted)
            assert with_precision(cfg) == cfg


@pytest.mark.parametrize(
    ("script", "name"), [(video, "video"), (joint, "joint_global"), (vae, "vae"), (light, "light")]
)
def test_every_stage_prints_what_it_decided(
    folder: Path, script: Any, name: str, capsys: pytest.CaptureFixture
) -> None:
    where = paths(folder, "none")
    if name in ("vae", "light"):
        del where["backbone__pretrained"]
    if name == "joint_global":
        where["init_from"] = folder / "video"
    script.main(config(script.Config, name, dry_run=True, **where))
    assert f"mixed_precision: {'bf16' if has_bf16('cpu') and name != 'light' else 'fp32'}\n" in capsys.readouterr().out


def test_a_policy_acts_in_the_precision_it_was_trained_in(folder: Path, tmp_path: Path) -> None:
    where = {"init_from": folder / "video", **paths(folder, tmp_path / "run")}
    few = {"train__n_steps": 1, "leak_clips": 0, "preview__clips": 0}  # where bf16 is emulated, a pass takes seconds
    joint.main(config(joint.Config, "joint_para", train__mixed_precision="bf16", **few, **where))
    again = config(joint.Config, "joint_para", **where)
    assert with_precision(again).train.mixed_precision == "bf16"  # as the run has it, on any machine
    trained, saved = policy.load(tmp_path / "run")
    assert trained.precision == saved["train"]["mixed_precision"] == "bf16"
    data = Dataset(folder / "data")
    seen = Observation(data.frames(0)[0], data.camera, data.state(0)[0, :3], 0.0, 0.0)
    with torch.inference_mode():
        acted = trained.predict([seen]).heatmap
        trained.precision = "fp32"
        full = trained.predict([seen]).heatmap
    assert acted.dtype == full.dtype == torch.float32
    assert 0 < float((acted - full).abs().max()) < 0.1 * float(full.std() + 1)
