"""Optimizers, trackers and what training says of its speed."""

import logging
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from bitsandbytes.backends.cpu import ops
from builders import agentview, background
from flows import config
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.flop_counter import FlopCounterMode

from train_stages import light
from videopolicy import FOUR_BIT, policy
from videopolicy.data.files import read_jsonl
from videopolicy.errors import BadInput
from videopolicy.training import checkpoint
from videopolicy.training.throughput import PEAK, Throughput
from videopolicy.types import Observation


def train(run: Path, data: Path, **overrides: object) -> list[dict]:
    light.main(config(light.Config, "light", run=run, data__root=data, **overrides))
    return read_jsonl(run / "metrics.jsonl")


def test_eight_bit_moments_resume_exactly(written_dataset: Path, tmp_path: Path) -> None:
    """They train as AdamW's do, to a hundredth, from large layers' moments of one byte each."""
    wide = {"train__optimizer": "adamw8bit", "head__para__width": 128}

    def losses(run: str, **more: object) -> list[float]:
        return [line["total"] for line in train(tmp_path / run, written_dataset, **{**wide, **more}) if "total" in line]

    losses("parts", train__n_steps=2)
    whole = losses("whole")
    assert losses("parts") == whole
    assert losses("plain", train__optimizer="adamw") == pytest.approx(whole, rel=1e-2)
    stored = {k: v.dtype for k, v in load_file(checkpoint.find(tmp_path / "whole") / "optimizer.safetensors").items()}
    assert torch.uint8 in {dtype for name, dtype in stored.items() if name.endswith("state1")}


def test_one_warning_of_others_is_not_passed_on(caplog: pytest.LogCaptureFixture) -> None:
    """Which their source has, word for word, in the module whose logger it is said by."""
    assert FOUR_BIT in Path(ops.__file__).read_text()
    logger = logging.getLogger(ops.__name__)
    for text in (f"{FOUR_BIT}: %s", "Failed to load %s"):
        logger.warning(text, "it")
    assert caplog.messages == ["Failed to load it"]


def test_tensorboard_shows_what_the_record_holds(written_dataset: Path, tmp_path: Path) -> None:
    """Also of a run that went on."""
    train(tmp_path / "run", written_dataset, train__n_steps=2)
    lines = train(tmp_path / "run", written_dataset)
    events = EventAccumulator(str(tmp_path / "run/tensorboard")).Reload()
    shown = {e.step: e.value for e in events.Scalars("total")}
    assert shown == pytest.approx({line["step"]: line["total"] for line in lines if "total" in line})
    assert {"lr/head", "grad_norm", "samples_per_second", "val/position_mm"} <= set(events.Tags()["scalars"])


def test_no_tracker(written_dataset: Path, tmp_path: Path) -> None:
    train(tmp_path / "run", written_dataset, train__tracker="none", train__n_steps=1)
    assert not (tmp_path / "run/tensorboard").exists()


def test_a_tracker_that_is_not_installed_is_refused(
    written_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("videopolicy.training.log.is_wandb_available", lambda: False)
    with pytest.raises(
        BadInput, match=r"train.tracker is wandb, which is not installed .*; allowed: tensorboard, none"
    ):
        train(tmp_path / "run", written_dataset, train__tracker="wandb")
    assert not (tmp_path / "run/metrics.jsonl").exists()


def test_wandb_is_given_every_line(written_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The package stands in for itself: it wants an account or a service of its own."""
    given: list[tuple[int, dict]] = []
    run = SimpleNamespace(log=lambda values, step: given.append((step, values)), finish=lambda: given.append((-1, {})))
    begun: dict = {}
    package = SimpleNamespace(init=lambda **options: begun.update(options) or run, __spec__=object())
    monkeypatch.setitem(sys.modules, "wandb", package)
    monkeypatch.setattr("videopolicy.training.log.is_wandb_available", lambda: True)
    lines = train(tmp_path / "run", written_dataset, train__tracker="wandb")
    assert (begun["project"], begun["name"], begun["config"]["train"]["n_steps"]) == ("videopolicy", "run", 4)
    assert [{"step": step, **values} for step, values in given[:-1]] == lines
    assert given[-1][0] == -1
    first = begun["id"]
    train(tmp_path / "run", written_dataset, train__tracker="wandb", train__n_steps=5)
    assert (begun["id"], begun["resume"]) == (first, "allow")


def test_speed_and_memory_are_recorded(written_dataset: Path, tmp_path: Path) -> None:
    """Operations are a sample's: its forward pass, and backward up to twice as many again; and the loss's."""
    lines = [line for line in train(tmp_path / "run", written_dataset, train__n_steps=3) if "total" in line]
    loaded, _ = policy.load(tmp_path / "run")
    seen = Observation(background(64), agentview(64), np.array([-0.1, 0.0, 0.15]), 1.0, 0.0)
    with FlopCounterMode(display=False) as counter:
        loaded.predict([seen])
    for line in lines:
        assert 0 < line["samples_per_second"] < 1e4
        assert 0.1 < line["peak_memory_gib"] < 64
        assert 0 <= line["wait_share"] <= 1
        per_sample = 1e12 * line["tflop_per_second"] / line["samples_per_second"]
        assert 2 < per_sample / counter.get_total_flops() < 3.5
        assert "mfu" not in line  # of a CPU's peak nothing is known


def test_the_share_of_a_known_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _device: "NVIDIA H200")
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda _device: 2**31)
    speed = Throughput(torch.device("cuda"), n_processes=2, batch_size=16)
    speed.flop_per_sample = 18.22e12
    rates = speed.rates(10, 10.0)
    assert rates["samples_per_second"] == 16
    assert rates["mfu"] == pytest.approx(8 * 18.22 / PEAK["H200"])
    assert rates["peak_memory_gib"] == 2
