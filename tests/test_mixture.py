"""Training on several datasets at once: how often each is shown, and what is known of all of them."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from builders import FPS, MARKERS, agentview, background, discs, episode, open_writer
from flows import config

from train_stages import light
from videopolicy.data.dataset import ClipDataset, DataConfig, open_splits
from videopolicy.data.mixture import Mixture, open_mixture
from videopolicy.data.recording import Writer
from videopolicy.errors import BadInput


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two episodes, one of them higher above the table than any of `written_dataset`."""
    writer: Writer = open_writer(tmp_path_factory.mktemp("other") / "data")
    writer.write_markers(MARKERS, discs(background(64), agentview(64).project(MARKERS)), background(64))
    for number in range(2):
        one = episode(number, 5)
        one.state[:, 2] += 0.05 * number
        writer.append(one)
    writer.finish()
    return writer.root


def clips(root: Path) -> ClipDataset:
    return open_splits(DataConfig(root=root, n_val_episodes=0), 1, 6, (64, 64))[1]


@pytest.mark.parametrize("weight", [0.25, 1.0, 3.0])
def test_sources_are_shown_as_often_as_their_weights_say(written_dataset: Path, other: Path, weight: float) -> None:
    first = clips(written_dataset)
    mixed = open_mixture(DataConfig(root=written_dataset), {str(other): weight}, first)
    assert isinstance(mixed, Mixture)
    shown = Counter(root for root, *_ in mixed.samples)
    assert shown == {str(written_dataset): len(first), str(other): round(weight * len(first))}
    each = Counter(sample for sample in mixed.samples if sample[0] == str(other))
    assert max(each.values()) - min(each.values()) <= (1 if weight >= 1 else 0)
    for index in (0, len(mixed) - 1):
        root, e, t = mixed.samples[index]
        source = next(s for s in mixed.sources if str(s.data.root) == root)
        assert torch.equal(mixed[index]["frames"], source[source.samples.index((e, t))]["frames"])


def test_labels_are_of_all_sources(written_dataset: Path, other: Path) -> None:
    first, second = clips(written_dataset), clips(other)
    mixed = open_mixture(DataConfig(root=written_dataset), {str(other): 2.0}, first)
    found = mixed.label_statistics()
    a, b = first.label_statistics(), second.label_statistics()
    assert found["height"] == (min(a["height"][0], b["height"][0]), max(a["height"][1], b["height"][1]))
    assert found["height"] != a["height"]
    assert found["position_low"] == np.minimum(a["position_low"], b["position_low"]).tolist()
    assert found["position_high"] == np.maximum(a["position_high"], b["position_high"]).tolist()
    assert found["waypoints"] == a["waypoints"] + b["waypoints"]
    np.testing.assert_allclose(
        found["position_mean"], (np.array(a["position_mean"]) + 2 * np.array(b["position_mean"])) / 3, atol=1e-6
    )
    assert mixed.digest == f"{first.digest}+{second.digest}"


def test_it_trains_and_goes_on(written_dataset: Path, other: Path, tmp_path: Path) -> None:
    def train(run: str, **overrides: object) -> dict[str, float]:
        keys = {"run": tmp_path / run, "data__root": written_dataset, "mix": f"{{{other}: 0.5}}"} | overrides
        return light.main(config(light.Config, "light", **keys))

    found = train("mixed", train__n_steps=2)
    assert np.isfinite(found["position_mm"])
    train("mixed", train__n_steps=3)
    with pytest.raises(BadInput, match=r"of one dataset's cameras, but mix names more; allowed: none"):
        train("turned", augment__kind="camera")
    with pytest.raises(BadInput, match=r"mix has weight 0\.0 for .*; allowed: above 0 to 100"):
        train("none", mix=f"{{{other}: 0.0}}")
    with pytest.raises(BadInput, match=r"which is among what is trained on already; allowed: other datasets"):
        train("twice", mix=f"{{{written_dataset}: 1.0}}")
    with pytest.raises(BadInput, match="nowhere"):
        train("nowhere", mix=f"{{{tmp_path}/nowhere: 1.0}}")


def test_rates_must_be_the_same(written_dataset: Path, tmp_path: Path) -> None:
    writer = Writer(tmp_path / "fast", FPS * 2, "agentview", agentview(64), "move along a line")
    writer.write_markers(MARKERS, discs(background(64), agentview(64).project(MARKERS)), background(64))
    writer.append(episode(0, 5))
    writer.finish()
    with pytest.raises(BadInput, match=rf"mix has .*fast at {FPS * 2} fps; allowed: {FPS}, that of"):
        open_mixture(DataConfig(root=written_dataset), {str(tmp_path / "fast"): 1.0}, clips(written_dataset))
