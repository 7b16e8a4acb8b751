"""Light backbones: every head trains on them, stops, goes on, and acts from its checkpoint."""

import hashlib
import json
import re
from pathlib import Path

import builders
import numpy as np
import pytest
from builders import agentview, background
from flows import config

from train_stages import light
from videopolicy import policy
from videopolicy.data.files import read_jsonl
from videopolicy.errors import BadInput
from videopolicy.heads.choice import HeadKind
from videopolicy.training import checkpoint
from videopolicy.types import Observation

# A backdrop is of three episodes at least, which is all that there are.
AUGMENTED = {
    "augment__kind": "camera",
    "augment__appearance": 0.7,
    "augment__backdrop": 0.7,
    "augment__limbs": 0.7,
    "data__n_val_episodes": 0,
}
SMALL_ACT = {"width": 32, "feedforward": 64, "n_heads": 2, "n_encoder_layers": 1}
SMALL_DIFFUSION = {"down_dims": "[16, 32]", "n_eval_iterations": 5}
SMALL = {
    **{f"head__act__{name}": value for name, value in SMALL_ACT.items()},
    **{f"head__diffusion__{name}": value for name, value in SMALL_DIFFUSION.items()},
}


def train(run: Path, data: Path, **overrides: object) -> dict[str, float]:
    return light.main(config(light.Config, "light", run=run, data__root=data, **overrides))


def seen() -> Observation:
    return Observation(background(64), agentview(64), np.array([-0.1, 0.0, 0.15]), 1.0, 0.0)


@pytest.mark.parametrize("kind", HeadKind.__args__)
def test_every_head_trains_and_acts(written_dataset: Path, tmp_path: Path, kind: str) -> None:
    results = train(tmp_path / "run", written_dataset, head__kind=kind, train__n_steps=2, **SMALL)
    assert np.isfinite(results["position_mm"])
    loaded, _ = policy.load(tmp_path / "run")
    (chunk,) = loaded.act_batch([seen()])
    assert chunk.position.shape == (6, 3)
    assert np.isfinite(chunk.position).all()
    assert ((chunk.gripper >= 0) & (chunk.gripper <= 1)).all()
    assert (chunk.pixel is not None) == (kind in ("para", "tracks"))


@pytest.mark.parametrize(
    ("kind", "augment"), [("para", {}), ("para", AUGMENTED), ("act", {})], ids=["para", "para, augmented", "act"]
)
def test_interrupted_is_uninterrupted(written_dataset: Path, tmp_path: Path, kind: str, augment: dict) -> None:
    """Two steps and two more are four steps: the same losses, from the same pictures, dropout and latents."""
    keys = {"head__kind": kind, "train__accumulate": 2, **augment, **SMALL}
    train(tmp_path / "whole", written_dataset, **keys)
    train(tmp_path / "parts", written_dataset, **keys, train__n_steps=2)
    train(tmp_path / "parts", written_dataset, **keys)
    whole, parts = (
        {r["step"]: r["total"] for r in read_jsonl(tmp_path / run / "metrics.jsonl") if "total" in r}
        for run in ("whole", "parts")
    )
    assert list(whole) == list(parts) == [0, 1, 2, 3]
    assert whole == parts
    spent = [r["seconds"] for r in read_jsonl(tmp_path / "parts/metrics.jsonl") if "seconds" in r]
    assert spent == sorted(spent)  # what was spent before the interruption counts


@pytest.mark.parametrize("what", ["appearance", "limbs"])
def test_what_is_shown_is_what_is_learned_from(written_dataset: Path, tmp_path: Path, what: str) -> None:
    """From the first loss on, and in all parts of a batch."""
    for name, share in (("plain", 0.0), ("shown", 1.0)):
        train(tmp_path / name, written_dataset, train__n_steps=1, **{f"augment__{what}": share})
    plain, shown = (read_jsonl(tmp_path / name / "metrics.jsonl")[0]["total"] for name in ("plain", "shown"))
    assert plain != shown


def test_a_line_of_metrics_goes_on_too(written_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run stopped between two lines writes the same next one: its steps of before are in the checkpoint."""
    keys = {"train__n_steps": 6, "train__log_every": 4, "train__save_every": 100}
    train(tmp_path / "whole", written_dataset, **keys)
    with monkeypatch.context() as patch:
        patch.setattr("videopolicy.training.loop._Signals", _AfterThree)
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path / "parts", written_dataset, **keys)
    assert checkpoint.read_state(checkpoint.find(tmp_path / "parts"))["step"] == 3
    train(tmp_path / "parts", written_dataset, **keys)
    whole, parts = (
        {r["step"]: (r["total"], r["grad_norm"]) for r in read_jsonl(tmp_path / run / "metrics.jsonl") if "total" in r}
        for run in ("whole", "parts")
    )
    assert list(whole) == [3, 5]
    assert whole == parts


class _AfterThree:
    """A signal that comes during the third step."""

    def __enter__(self) -> "_AfterThree":
        self.asked = 0
        return self

    def __exit__(self, *_: object) -> None: ...

    @property
    def caught(self) -> bool:
        self.asked += 1
        return self.asked == 3


def test_a_run_names_its_commits_and_goes_on_under_newer_code(
    written_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key that the run's code did not know yet has its default; another value of it is another configuration.

    Nor need it have taken all statistics of labels.
    """
    run = tmp_path / "run"
    for name, n_steps in (("first", 1), ("first", 2), ("second", 3)):
        monkeypatch.setattr("videopolicy.training.loop.commit", lambda name=name: name)
        train(run, written_dataset, train__n_steps=n_steps)
    assert checkpoint.read_state(checkpoint.find(run))["commits"] == ["first", "second"]
    newest = checkpoint.find(run)
    for file, group, key in (("config.json", "augment", "copies"), ("state.json", "labels", "position_low")):
        forget(newest, file, group, key)
    assert checkpoint.find(run) == newest
    train(run, written_dataset, train__n_steps=4)
    assert checkpoint.read_state(checkpoint.find(run))["step"] == 4


def test_going_on_otherwise_is_said_or_refused(
    written_dataset: Path, small_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """What changes the model is refused, with all differences in one table; the rest goes on, with the same table."""
    run = tmp_path / "run"
    train(run, written_dataset, train__n_steps=2)
    before = (run / "metrics.jsonl").read_bytes()
    with pytest.raises(BadInput) as refused:
        train(run, written_dataset, train__n_steps=4, head__para__n_height=16, lr_head=0.002, augment__zoom=0.2)
    table = str(refused.value)
    for row in (
        r"key +trained with +now",
        r"head.para.n_height +32 +16 +cannot change",
        r"lr_head +0.001 +0.002 +goes on, but not as it would have",
        r"augment.zoom +0.05 +0.2 +goes on, but not as it would have",
    ):
        assert re.search(row, table), table
    assert (run / "metrics.jsonl").read_bytes() == before
    capsys.readouterr()
    train(run, written_dataset, train__n_steps=3, lr_head=0.002)
    assert re.search(r"warning: .*begun with other settings:\n.*\n +lr_head +0.001 +0.002", capsys.readouterr().out)
    builders.open_writer(small_dataset).append(builders.episode(1, 5))  # no label outside the ranges of before
    with pytest.raises(BadInput, match=r"state.labels.*cannot change"):
        train(run, small_dataset, train__n_steps=4)
    assert checkpoint.read_state(checkpoint.find(run))["step"] == 3


def forget(folder: Path, file: str, group: str, key: str) -> None:
    """Make a checkpoint as if its code had not known a key."""
    values, manifest = (json.loads((folder / name).read_text()) for name in (file, "manifest.json"))
    del values[group][key]
    (folder / file).write_text(json.dumps(values))
    written = (folder / file).read_bytes()
    manifest["files"][file] = {"bytes": len(written), "sha256": hashlib.sha256(written).hexdigest()}
    (folder / "manifest.json").write_text(json.dumps(manifest))


def test_overfitting_one_batch_lowers_its_loss(written_dataset: Path, tmp_path: Path) -> None:
    train(tmp_path / "run", written_dataset, data__overfit=True, train__n_steps=30, lr_head=0.003)
    values = [r["total"] for r in read_jsonl(tmp_path / "run/metrics.jsonl") if "total" in r]
    assert values[-1] < 0.8 * values[0]


def test_joint_volumes_train_too(written_dataset: Path, tmp_path: Path) -> None:
    train(tmp_path / "run", written_dataset, head__para__volume_loss="joint", train__n_steps=2, loss_balance="ema")
    last = [r for r in read_jsonl(tmp_path / "run/metrics.jsonl") if "volume" in r][-1]
    assert last["volume"] > 0
    assert "height" not in last


def test_what_makes_no_sense_is_refused(written_dataset: Path, tmp_path: Path) -> None:
    for overrides, words in (
        ({"head__kind": "act", "loss_balance": "ema"}, "loss_balance is ema; allowed with head.kind act: sum"),
        ({"data__min_change": 4}, r"data.min_change is 4.0; allowed: 0"),
        ({"head__n_steps": 0}, r"head.n_steps is 0; allowed: at least 1"),
        ({"backbone__image_size": "[50, 64]"}, r"image_size is \(50, 64\); allowed: multiples of 16"),
        ({"backbone__image_size": "[0, 0]", "backbone__name": "dinov2_vits14"}, r"\(0, 0\); allowed: multiples of 14"),
        ({"train__clip": -1}, r"train.clip is -1.0; allowed: above 0"),
        ({"train__warmup": -1}, r"train.warmup is -1; allowed: at least 0"),
        ({"train__seed": -1}, r"train.seed is -1; allowed: at least 0"),
        ({"train__n_threads": 100000}, r"train.n_threads is 100000; allowed: 0 to 1024"),
        ({"head__act__kl_weight": -1}, r"head.act.kl_weight is -1.0; allowed: at least 0"),
        ({"head__act__dropout": 2}, r"head.act.dropout is 2.0; allowed: 0 to below 1"),
        ({"head__regression__width": 0}, r"head.regression.width is 0; allowed: at least 1"),
        ({"head__tracks__width": 0}, r"head.tracks.width is 0; allowed: at least 1"),
        ({"head__spatial_softmax__width": 0}, r"head.spatial_softmax.width is 0; allowed: at least 1"),
        ({"head__para__n_rotation": 1}, r"head.para.n_rotation is 1; allowed: 0, or at least 3"),
        ({"head__para__n_rotation": 2}, r"head.para.n_rotation is 2; allowed: 0, or at least 3"),
    ):
        with pytest.raises(BadInput, match=words):
            train(tmp_path / "run", written_dataset, **overrides)
    assert not (tmp_path / "run").exists()
