"""A batch computed in parts is the batch: accumulation changes no loss, gradient or running statistic."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from flows import SPEED, config
from safetensors.numpy import load_file

from train_stages import joint, light, video
from videopolicy.batch import Counts, StepStatistics, masked_mean, mean_counts
from videopolicy.data.dataset import DataConfig, open_splits
from videopolicy.errors import BadInput
from videopolicy.heads.head import Standardised
from videopolicy.training import checkpoint
from videopolicy.training.balance import LossBalance
from videopolicy.training.batches import Batches
from videopolicy.training.setup import TrainConfig

CPU = torch.device("cpu")
NAMES = {light: "light", joint: "joint_para", video: "unet"}


def train(script: Any, run: Path, data: Path, weights: Path, **overrides: object) -> list[dict]:
    """The lines of its metrics."""
    keys: dict[str, object] = {"run": run, "data__root": data, "train__mixed_precision": "fp32", "train__batch_size": 4}
    if script is light:
        keys |= {"augment__kind": "camera", "loss_balance": "ema"}
    else:
        keys |= {"backbone__pretrained": weights, "backbone__n_frames": 4, "backbone__grid": 8}
    if script is joint:  # half of the samples do not count for the head
        keys |= {"init_from": "null", "noise__high_share": 0.6}
    if script is video:
        keys |= {"backbone__weights": "pretrained", "noise__high_share": 0.6}
    script.main(config(script.Config, NAMES[script], **{**keys, **overrides}))
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("script", [light, joint, video])
def test_parts_are_the_batch(script: Any, small_dataset: Path, pipeline_folder: Path, tmp_path: Path) -> None:
    """Losses, gradient norms, statistics and weights, though parts have unequal numbers of labels that count."""
    found = {
        n: train(script, tmp_path / str(n), small_dataset, pipeline_folder, train__accumulate=n, train__n_steps=3)
        for n in (1, 4)
    }
    whole, parts = ([line for line in found[n] if "total" in line] for n in (1, 4))
    for a, b in zip(whole, parts, strict=True):
        close = 1e-4 if a["step"] == 0 else 5e-3  # Adam's first steps have a gradient's sign, however small it is
        for name in a.keys() - SPEED:
            assert b[name] == pytest.approx(a[name], rel=close, abs=1e-6), (name, a["step"])
    first, second = (load_file(checkpoint.find(tmp_path / str(n)) / "model.safetensors") for n in (1, 4))
    away = np.sqrt(sum(np.square(first[name] - second[name]).sum() for name in first))
    assert away < 2e-3 * np.sqrt(sum(np.square(weights).sum() for weights in first.values()))


def test_it_resumes_exactly(written_dataset: Path, tmp_path: Path) -> None:
    def losses(run: str, n_steps: int) -> list[float]:
        lines = train(light, tmp_path / run, written_dataset, tmp_path, train__accumulate=2, train__n_steps=n_steps)
        return [line["total"] for line in lines if "total" in line]

    losses("parts", 2)
    assert losses("parts", 4) == losses("whole", 4)


def test_a_batch_that_cannot_be_split_is_refused(written_dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"batch_size is 4; allowed: multiples of the 1 processes x train.accumulate 3"):
        train(light, tmp_path / "run", written_dataset, tmp_path, train__accumulate=3)
    with pytest.raises(BadInput, match=r"train.accumulate is 0; allowed: at least 1"):
        train(light, tmp_path / "run", written_dataset, tmp_path, train__accumulate=0)


def test_a_mean_over_parts_is_the_batchs() -> None:
    """Where none of a part counts, it adds nothing."""
    value = torch.arange(12.0).reshape(4, 3)
    valid = torch.tensor([[True, True, False], [False, False, False], [True, False, False], [True, True, True]])
    parts = [(value[i : i + 1], valid[i : i + 1]) for i in range(4)]
    counts = mean_counts([Counts(v.sum().float(), v.any(-1).sum().float()) for _, v in parts])
    means = torch.stack([masked_mean(x, v, counts.steps) for x, v in parts])
    torch.testing.assert_close(means.mean(), value[valid].mean())
    assert means[1] == 0
    assert float(counts.samples) == 0.75


def moved(module: StepStatistics, parts: list[Any]) -> list[torch.Tensor]:
    for part in parts:
        module(part)
    module.settle()
    return [buffer.clone() for buffer in module.buffers()]


def test_statistics_move_once_by_the_whole_batch() -> None:
    """Also where a channel's mean is far larger than its spread; only settling moves them."""
    x = (
        torch.randn(8, 3, 4, 4, generator=torch.Generator().manual_seed(0))
        + torch.tensor([0.0, 1e3, -50.0])[:, None, None]
    )
    one, other = (moved(Standardised(3), list(x.split(n))) for n in (8, 2))
    for a, b in zip(one, other, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(one[1], x.std((0, 2, 3), correction=0), rtol=1e-5, atol=1e-5)
    layer = Standardised(3)
    torch.testing.assert_close(layer(x), x / 1.01)
    assert layer.n_seen == 0


def test_a_term_counts_from_the_step_after_its_first() -> None:
    balance = LossBalance("ema", ("a", "b"))
    losses = {"a": torch.tensor(2.0), "b": torch.tensor(0.0)}
    assert balance(losses) == 0
    balance.settle()
    assert balance(losses) == 1
    balance.settle()
    assert balance({"a": torch.tensor(2.0), "b": torch.tensor(6.0)}) == 1
    balance.settle()
    assert balance({"a": torch.tensor(2.0), "b": torch.tensor(6.0)}) == 2


def test_a_process_reads_its_own_clips(written_dataset: Path) -> None:
    """Of every batch each clip is read by one process, and the noise of a place goes with it."""
    _, clips, _ = open_splits(DataConfig(written_dataset, n_val_episodes=1), 4, 3, (64, 64))
    cfg = TrainConfig(batch_size=4, n_steps=3, mixed_precision="fp32")

    def batches(rank: int, world: int) -> Batches:
        return Batches(cfg, clips, lambda places, step: [(p, step) for p in places], 0, rank, world, CPU, False)

    one, *two = batches(0, 1), batches(0, 2), batches(1, 2)
    for step in range(cfg.n_steps):
        (whole,), halves = one.read(step), [part for each in two for part in each.read(step)]
        assert [len(part.data["frames"]) for part in halves] == [2, 2]
        for name, value in whole.data.items():
            for rank, part in enumerate(halves):
                torch.testing.assert_close(part.data[name], value[rank::2], equal_nan=True)
        assert [part.draws for part in halves] == [whole.draws[0::2], whole.draws[1::2]]
        assert sorted(two[0].names(step) + two[1].names(step)) == sorted(one.names(step))
