"""The running mean of weights: what it is, that it acts, and that a resumed run goes on with it."""

from pathlib import Path

import pytest
import torch
from flows import config
from safetensors.torch import load_file
from torch import nn

from train_stages import light
from train_stages.validation import Validation
from videopolicy import policy
from videopolicy.config import from_dict
from videopolicy.data.dataset import DataConfig, open_splits
from videopolicy.data.files import read_jsonl
from videopolicy.errors import BadInput
from videopolicy.training import checkpoint
from videopolicy.training.average import WeightAverage


@pytest.mark.parametrize("on_cpu", [False, True])
def test_it_is_an_exponential_average(on_cpu: bool) -> None:
    """After the first steps, in which it follows faster; what is frozen is no part of it."""
    model = nn.Linear(1, 1)
    model.bias.requires_grad_(False)
    model.weight.data.fill_(0.0)
    average, expected = WeightAverage(model, 0.9, on_cpu), 0.0
    for step in range(200):
        model.weight.data.fill_(float(step % 3))
        average.update(step)
        decay = min(0.9, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * (step % 3)
    assert average.means.keys() == {"weight"}
    assert float(average.means["weight"]) == pytest.approx(expected, rel=1e-5)
    with average.instead():
        assert model.weight.item() == pytest.approx(expected, rel=1e-5)
    assert model.weight.item() == 199 % 3


def train(run: Path, data: Path, **overrides: object) -> dict[str, float]:
    return light.main(config(light.Config, "light", run=run, data__root=data, train__ema=0.9, **overrides))


def test_what_acts_is_the_average(written_dataset: Path, tmp_path: Path) -> None:
    """Interrupted or not the same; validation and the loaded policy use it; training goes on from the last weights."""
    last = train(tmp_path / "whole", written_dataset)
    train(tmp_path / "parts", written_dataset, train__n_steps=2)
    assert train(tmp_path / "parts", written_dataset) == last
    assert train(tmp_path / "parts", written_dataset) == last  # nothing is left to train
    whole, parts = (checkpoint.find(tmp_path / run) for run in ("whole", "parts"))
    for name in ("averaged.safetensors", "model.safetensors"):
        a, b = (load_file(path / name) for path in (whole, parts))
        assert a.keys() == b.keys()
        assert all(torch.equal(a[k], b[k]) for k in a)
    losses = [
        [r["total"] for r in read_jsonl(tmp_path / r / "metrics.jsonl") if "total" in r] for r in ("whole", "parts")
    ]
    assert losses[0] == losses[1]
    means, weights = load_file(whole / "averaged.safetensors"), load_file(whole / "model.safetensors")
    loaded, saved = policy.load(tmp_path / "whole")
    data, _, val_clips = open_splits(from_dict(DataConfig, saved["data"]), 1, 6, (64, 64))
    assert Validation(loaded, data, val_clips).measure()["position_mm"] == pytest.approx(last["position_mm"], rel=1e-4)
    last_steps = {k.removeprefix("head."): v for k, v in weights.items() if k.startswith("head.")}
    loaded.head.load_state_dict(last_steps)
    assert Validation(loaded, data, val_clips).measure()["position_mm"] != pytest.approx(last["position_mm"], rel=1e-4)
    loaded, _ = policy.load(tmp_path / "whole")
    for name, p in loaded.head.named_parameters():
        assert torch.equal(p, means[f"head.{name}"])
        assert not torch.equal(p, weights[f"head.{name}"])


def test_another_decay_is_another_policy(written_dataset: Path, tmp_path: Path) -> None:
    """Though the last step's weights are the same."""
    found = []
    for decay in (0.05, 0.9):
        cfg = config(light.Config, "light", run=tmp_path / str(decay), data__root=written_dataset, train__ema=decay)
        light.main(cfg)
        path = checkpoint.find(tmp_path / str(decay))
        found.append((checkpoint.weights_digest(path), load_file(path / "model.safetensors")))
    (one, a), (other, b) = found
    assert all(torch.equal(a[k], b[k]) for k in a)
    assert one != other


def test_no_average_is_refused_late(written_dataset: Path, tmp_path: Path) -> None:
    """A run that kept none cannot begin to, and a decay of one would never move."""
    train(tmp_path / "run", written_dataset, train__n_steps=1)
    with pytest.raises(BadInput, match=r"train.ema +0.9 +0.0 +cannot change"):
        light.main(config(light.Config, "light", run=tmp_path / "run", data__root=written_dataset))
    with pytest.raises(BadInput, match=r"train.ema is 1.0; allowed: 0 to below 1"):
        config(light.Config, "light", train__ema=1.0)
