"""Moments that are not a checkpoint's own are refused: an optimizer's kernels would read beyond them."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from damage import tamper
from flows import config

from train_stages import light
from videopolicy.data.files import read_jsonl
from videopolicy.errors import BadInput
from videopolicy.training import checkpoint

Tensors = dict[str, torch.Tensor]


def train(run: Path, data: Path, n_steps: int, **keys: object) -> None:
    light.main(config(light.Config, "light", run=run, data__root=data, train__n_steps=n_steps, train__ema=0.9, **keys))


def every(name: str, change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[Tensors], object]:
    return lambda tensors: tensors.update({k: change(v) for k, v in tensors.items() if k.endswith(name)})


def first(change: Callable[[Tensors, str], object]) -> Callable[[Tensors], object]:
    return lambda tensors: change(tensors, next(k for k in tensors if k.endswith("exp_avg")))


WRONG: dict[str, tuple[str, Callable[[Tensors], object], str]] = {
    "too short": ("optimizer", every("exp_avg", lambda v: torch.zeros(3)), r"exp_avg of parameter \d+ is \(3,\)"),
    "not finite": ("optimizer", every("exp_avg_sq", lambda v: v * torch.nan), "exp_avg_sq of parameter 0 .*finite"),
    "of another type": ("optimizer", every("exp_avg", lambda v: v.to(torch.int32)), "is of torch.int32"),
    "one missing": ("optimizer", first(lambda tensors, name: tensors.pop(name)), "of parameter 0 it holds"),
    "all missing": ("optimizer", lambda tensors: tensors.clear(), "it holds no moments, at step 2"),
    "of no parameter": ("optimizer", lambda t: t.update({"9999.exp_avg": torch.zeros(2)}), "moments of parameter 9999"),
    "a mean missing": ("averaged", lambda tensors: tensors.pop(next(iter(tensors))), "the mean of .* is nothing"),
    "means that are not finite": ("averaged", every("", lambda v: v * torch.nan), "the mean of .*allowed: finite"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_moment_is_named(written_dataset: Path, tmp_path: Path, name: str) -> None:
    file, change, words = WRONG[name]
    train(tmp_path, written_dataset, 2)
    found = checkpoint.find(tmp_path)
    tamper(found, f"{file}.safetensors", change)
    with pytest.raises(BadInput, match=words) as caught:
        train(tmp_path, written_dataset, 3)
    assert str(found / f"{file}.safetensors") in str(caught.value)
    assert checkpoint.find(tmp_path) == found


def test_rates_are_the_configurations(written_dataset: Path, tmp_path: Path) -> None:
    """A run that goes on with another rate or decay does so."""
    train(tmp_path, written_dataset, 2, train__warmup=0)
    train(tmp_path, written_dataset, 3, train__warmup=0, lr_head=0.5, train__weight_decay=0.0)
    rates = [line["lr/head"] for line in read_jsonl(tmp_path / "metrics.jsonl") if "lr/head" in line]
    assert rates == [0.001, 0.001, 0.5]
    groups = checkpoint.read_state(checkpoint.find(tmp_path))["optimizer"]
    assert {group["weight_decay"] for group in groups} == {0.0}
