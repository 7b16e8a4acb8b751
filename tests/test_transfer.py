"""Pretraining on pixels, and what another run takes over from it."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from builders import FPS, agentview, episode, write_dataset
from flows import config
from safetensors.torch import load_file, save_file

from eval.lineage import check_lineage
from train_stages import light
from videopolicy import policy
from videopolicy.data.dataset import DataConfig, open_splits
from videopolicy.data.episode import Episode, TrackedEpisode
from videopolicy.data.files import read_jsonl, sha256
from videopolicy.data.recording import Writer
from videopolicy.errors import BadInput
from videopolicy.heads.choice import HeadConfig
from videopolicy.heads.heatmap import ParaConfig
from videopolicy.training import checkpoint


def train(run: Path, data: Path, **overrides: object) -> dict[str, float]:
    return light.main(config(light.Config, "light", run=run, data__root=data, **overrides))


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(checkpoint.find(run) / checkpoint.MODEL)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, written_dataset: Path) -> Path:
    """One pretrained run of each kind."""
    root = tmp_path_factory.mktemp("runs")
    for kind in ("para", "regression"):
        for labels in ("2d", "3d"):
            found = train(root / f"{kind}_{labels}", written_dataset, head__kind=kind, head__labels=labels)
            assert np.isfinite(found["pixel" if labels == "2d" else "position_mm"])
    return root


@pytest.mark.parametrize("kind", ["para", "regression"])
def test_pixels_are_all_that_is_learned(runs: Path, kind: str) -> None:
    """No loss of heights, grippers or positions, a preview of heatmaps, and no policy that could act."""
    (first, *_) = read_jsonl(runs / f"{kind}_2d/metrics.jsonl")
    term = {"para": "spatial", "regression": "track"}[kind]
    assert first["total"] == first[term]
    assert not {"height", "gripper", "position"} & {*first}
    assert len([*(runs / f"{kind}_2d/previews").glob("*.png")]) == (kind == "para")
    with pytest.raises(BadInput, match="says where in the image, and cannot act"):
        policy.load(runs / f"{kind}_2d")
    loaded, _ = policy.load(runs / f"{kind}_2d", acting=False)
    assert not loaded.head.acts


@pytest.mark.parametrize("kind", ["para", "regression"])
@pytest.mark.parametrize("labels", ["2d", "3d"])
def test_what_fits_is_taken_over(
    runs: Path, written_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture, kind: str, labels: str
) -> None:
    """At rates of zero what was taken over is what is saved; what pixels do not teach begins anew."""
    source, still = runs / f"{kind}_{labels}", {"lr_backbone": 0.0, "lr_head": 0.0, "train__n_steps": 1}
    train(tmp_path / "tuned", written_dataset, head__kind=kind, init_from=source, **still)
    before, after = weights(source), weights(tmp_path / "tuned")
    moving = (".n_seen", ".mean", ".std")  # statistics of features, which the one batch moves
    taken = {k for k in before if k in after and before[k].shape == after[k].shape and not k.endswith(moving)}
    assert all(torch.equal(before[k], after[k]) for k in taken)
    heads = {k for k in after if k.startswith("head.")}
    anew = {k for k in heads if k not in before or before[k].shape != after[k].shape}
    expected = {
        ("para", "2d"): {f"head.readers.{name}.{x}" for name in ("height", "gripper") for x in ("weight", "bias")},
        ("regression", "2d"): {f"head.{x}" for x in ("net.4.weight", "net.4.bias", "position_mean", "position_std")},
    }
    assert anew == expected.get((kind, labels), set())
    said = capsys.readouterr().out
    assert f"from {checkpoint.find(source)}: backbone.net (" in said
    new = {"para": "head.readers (4)", "regression": "head.net (2), head.position_mean (1), head.position_std (1)"}
    named = new[kind] if labels == "2d" else "nothing"
    assert f"begun anew: {named}; left there: " in said
    state = checkpoint.read_state(checkpoint.find(tmp_path / "tuned"))
    assert state["init_from"] == checkpoint.weights_digest(checkpoint.find(source))


@pytest.mark.parametrize(("labels", "kept"), [("2d", False), ("3d", True)])
def test_bins_keep_the_meaning_they_were_trained_with(
    runs: Path, written_dataset: Path, tmp_path: Path, labels: str, kept: bool
) -> None:
    """One demonstration spans other heights than three; a reader that was trained on those keeps their bins."""
    one = {"data__n_train_episodes": 1, "train__n_steps": 1}
    train(tmp_path / "tuned", written_dataset, init_from=runs / f"para_{labels}", **one)
    train(tmp_path / "scratch", written_dataset, **one)
    theirs, tuned, scratch = (
        checkpoint.read_state(checkpoint.find(run))["labels"]
        for run in (runs / "para_3d", tmp_path / "tuned", tmp_path / "scratch")
    )
    assert theirs["height"] != scratch["height"]
    assert tuned["height"] == (theirs if kept else scratch)["height"]
    assert tuned["waypoints"] == scratch["waypoints"] != theirs["waypoints"]


def test_heights_beyond_the_bins_are_counted(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Those of an episode that is higher than any that the source was trained on; without a source there are none."""

    def raised(number: int, one: Episode) -> Episode:
        return replace(one, state=one.state + [0, 0, 0.2 * (number == 0), 0])

    root = write_dataset(tmp_path / "high", change=raised)
    _, clips, _ = open_splits(DataConfig(root, n_val_episodes=0), 1, 6, (64, 64))
    high, every = (
        sum(int(clips[i]["valid"].sum()) for i, (e, _) in enumerate(clips.samples) if e in of)
        for of in ({0}, {0, 1, 2})
    )
    said = {}
    for name, keys in (("tuned", {"init_from": runs / "para_3d"}), ("scratch", {})):
        train(tmp_path / name, root, data__n_val_episodes=0, dry_run=True, **keys)
        said[name] = capsys.readouterr().out
    assert 0 < high < every
    assert f"heights: {high} of {every} are beyond the bins that are taken over, " in said["tuned"]
    assert "heights: " not in said["scratch"]


def test_another_kind_of_head_begins_anew(
    runs: Path, written_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """However alike its shapes: of it nothing is taken over, nor what its coordinates are measured in."""
    one = {"data__n_train_episodes": 1, "train__n_steps": 1}
    train(tmp_path / "tuned", written_dataset, head__kind="regression", init_from=runs / "para_3d", **one)
    said = capsys.readouterr().out
    assert "backbone.net (" in said
    assert "begun anew: head.net (" in said
    train(tmp_path / "scratch", written_dataset, head__kind="regression", **one)
    tuned, scratch = (weights(tmp_path / name)["head.position_mean"] for name in ("tuned", "scratch"))
    assert torch.equal(tuned, scratch)


def test_what_was_trained_on_is_remembered(runs: Path, written_dataset: Path, tmp_path: Path) -> None:
    """By all that a run was begun from: an axis must not test where any of it stood."""
    train(tmp_path / "tuned", written_dataset, init_from=runs / "para_2d", train__n_steps=1)
    seen = checkpoint.read_state(checkpoint.find(tmp_path / "tuned"))["seen"]
    assert seen == [{"root": str(written_dataset), "select": "all", "positions": False}] * 2
    check_lineage("tuned", tmp_path / "tuned", ("left_right", "few_shot"))
    on_the_grid = tmp_path / "grid"
    shutil.copytree(checkpoint.find(tmp_path / "tuned"), on_the_grid)
    state = json.loads((on_the_grid / checkpoint.STATE).read_text())
    state["seen"][1]["positions"] = True
    (on_the_grid / checkpoint.STATE).write_text(json.dumps(state))
    sign(on_the_grid, checkpoint.STATE)
    check_lineage("tuned", on_the_grid, ("few_shot",))
    words = (
        r"tuned was also trained on .* \(all\), where the positions that left_right tests may have been seen; allowed"
    )
    with pytest.raises(BadInput, match=words):
        check_lineage("tuned", on_the_grid, ("left_right",))


def test_it_begins_where_the_source_ended_and_goes_on_after_a_stop(
    runs: Path, written_dataset: Path, tmp_path: Path
) -> None:
    keys = {"init_from": runs / "para_3d", "train__n_steps": 2}
    train(tmp_path / "whole", written_dataset, **keys)
    train(tmp_path / "parts", written_dataset, **keys | {"train__n_steps": 1})
    train(tmp_path / "parts", written_dataset, **keys)
    whole, parts = (weights(tmp_path / name) for name in ("whole", "parts"))
    assert all(torch.equal(whole[k], parts[k]) for k in whole)


@pytest.fixture(scope="module")
def tracks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pixels alone, some of them hidden: of plain video, by a tracker."""
    writer = Writer(tmp_path_factory.mktemp("tracks") / "data", FPS, "video", (64, 64), "move along a line")
    for number in range(3):
        shown = episode(number, 7)
        track = agentview(64).project(shown.state[:, :3])
        track[[1, 4]] = np.nan
        writer.append(TrackedEpisode(shown.frames, track, {}))
    writer.finish()
    return writer.root


@pytest.mark.parametrize("kind", ["para", "regression"])
def test_tracks_of_plain_video_are_learned_from(tracks: Path, written_dataset: Path, tmp_path: Path, kind: str) -> None:
    """What is not visible counts nowhere; then it is tuned on a robot's demonstrations."""
    found = train(tmp_path / "tracks", tracks, head__kind=kind, head__labels="2d", augment__appearance=0.5)
    assert np.isfinite(found["pixel"])
    assert all(np.isfinite(r["total"]) for r in read_jsonl(tmp_path / "tracks/metrics.jsonl") if "total" in r)
    assert all(value.isfinite().all() for value in weights(tmp_path / "tracks").values())
    tuned = train(tmp_path / "tuned", written_dataset, head__kind=kind, init_from=tmp_path / "tracks")
    assert np.isfinite(tuned["position_mm"])


def test_what_tracks_cannot_teach_is_named(tracks: Path, written_dataset: Path, tmp_path: Path) -> None:
    words = r"head\.labels is '3d', but the data has tracks of pixels alone; allowed for it: '2d'"
    with pytest.raises(BadInput, match=words):
        train(tmp_path / "run", tracks)
    for key, value in (("kind", "camera"), ("backdrop", 0.5), ("copies", 0.5)):
        with pytest.raises(BadInput, match=r"has no cameras; allowed for it: augment\.appearance, augment\.limbs"):
            train(tmp_path / "run", tracks, head__labels="2d", **{f"augment__{key}": value})
    for keys in ({"data__root": tracks}, {"data__root": written_dataset, "mix": f"{{{tracks}: 3.0}}"}):
        keys |= {"run": tmp_path / "run", "head__labels": "2d", "backbone__context": "hand"}
        with pytest.raises(BadInput, match=r"context is hand, but the data has tracks .* allowed for it: none, start"):
            light.main(config(light.Config, "light", **keys))
    assert not (tmp_path / "run").exists()


def test_heights_are_not_made_up(runs: Path, tracks: Path, written_dataset: Path, tmp_path: Path) -> None:
    """Neither by tracks mixed into demonstrations, nor where a source knows what heights are."""
    words = r"head\.labels is '3d', but the data has tracks of pixels alone; allowed for it: '2d'"
    for keys in ({"data__root": tracks}, {"data__root": written_dataset, "mix": f"{{{tracks}: 3.0}}"}):
        with pytest.raises(BadInput, match=words):
            light.main(config(light.Config, "light", run=tmp_path / "run", init_from=runs / "para_3d", **keys))
    assert not (tmp_path / "run").exists()


def test_what_cannot_be_taken_over_is_named(runs: Path, written_dataset: Path, tmp_path: Path) -> None:
    def refused(words: str, **keys: object) -> None:
        with pytest.raises(BadInput, match=words):
            train(tmp_path / "run", written_dataset, **keys)
        assert not (tmp_path / "run").exists()

    refused(r"no checkpoint in .*nowhere", init_from=tmp_path / "nowhere")
    refused(
        r"head\.n_steps is 3, but init_from .* was trained with 6; allowed: the same",
        init_from=runs / "para_3d",
        head__n_steps=3,
    )
    words = r"backbone\.context is 'start', but init_from .* was trained with 'none'; allowed: the same"
    refused(words, init_from=runs / "para_3d", backbone__context="start")
    broken = tmp_path / "broken"
    shutil.copytree(checkpoint.find(runs / "para_3d"), broken)
    values = load_file(broken / checkpoint.MODEL)
    values["head.volume.bias"][0] = torch.nan
    save_file(values, broken / checkpoint.MODEL)
    sign(broken, checkpoint.MODEL)
    refused(r"holds values of head\.volume\.bias that are not finite", init_from=broken)
    state = json.loads((broken / checkpoint.STATE).read_text())
    (broken / checkpoint.STATE).write_text(json.dumps(state | {"stage": "joint"}))
    sign(broken, checkpoint.STATE)
    refused(r"is of stage 'joint'; allowed: 'light'", init_from=broken)


def sign(path: Path, name: str) -> None:
    """The manifest of a checkpoint, one of whose files was changed."""
    manifest = json.loads((path / checkpoint.MANIFEST).read_text())
    manifest["files"][name] = {"bytes": (path / name).stat().st_size, "sha256": sha256(path / name)}
    (path / checkpoint.MANIFEST).write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"kind": "act"}, r"head\.labels is '2d', but head\.kind is 'act'; allowed for it: 'para', 'regression'"),
        ({"para": ParaConfig("joint")}, r"head\.para\.volume_loss is 'joint'; allowed for it: 'factored'"),
    ],
)
def test_heads_that_pixels_cannot_teach_are_named(keys: dict, words: str) -> None:
    with pytest.raises(BadInput, match=words):
        HeadConfig(labels="2d", **keys)
