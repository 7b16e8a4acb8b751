"""Checkpoints whose files are not what they should be, under a manifest that agrees with them."""

import io
import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import builders
import torch
from flows import config
from hypothesis import strategies as st

from faults.drawing import Bomb, as_bytes, changed, damaged, fuzz
from faults.fault import Outcome, run
from train_stages import light, video
from videopolicy import policy
from videopolicy.backbones import pipeline
from videopolicy.backbones.svd import SVDBackbone
from videopolicy.data.files import sha256
from videopolicy.errors import BadInput
from videopolicy.training import checkpoint
from videopolicy.training.stage_one import load_stage_one

Drawn = tuple[str, bytes]  # a file of a checkpoint, and what it now holds


def policies(folder: Path, n: int) -> Outcome:
    """A policy to act with: configuration, state, manifest, weights; a malicious pickle."""
    path = _trained(folder)
    return _fuzz(folder, path, n, lambda: policy.load(path))


def resumed(folder: Path, n: int) -> Outcome:
    """A run to train on: these, and moments and running means."""
    path = _trained(folder)
    base = folder / "base"
    shutil.copytree(path, base)

    def trains() -> None:
        try:
            light.main(_light(folder, 2))
        except FloatingPointError:  # refused before anything was updated
            pass
        finally:
            for left in [path / "step_000002", *path.glob("*.jsonl")]:
                shutil.rmtree(left) if left.is_dir() else left.unlink(missing_ok=True)
            shutil.copytree(base, path, dirs_exist_ok=True, ignore=shutil.ignore_patterns("step_*"))

    return _fuzz(folder, path, n, trains)


def stage_one(folder: Path, n: int) -> Outcome:
    """A video model to begin stage two with (`init_from`)."""
    data, path = builders.write_dataset(folder / "data"), folder / "run"
    pipeline.save(pipeline.create(builders.TOY, seed=0), folder / "toy")
    where = {"run": path, "data__root": data, "backbone__pretrained": folder / "toy", "train__n_steps": 1}
    cfg = config(video.Config, "video", preview__clips=0, backbone__n_frames=4, **where)
    assert run(lambda: video.main(cfg), folder / "log") == 0, (folder / "log").read_text()
    backbone = SVDBackbone(cfg.backbone, builders.FPS)
    return _fuzz(folder, path, n, lambda: load_stage_one(path, backbone))


def _light(folder: Path, n_steps: int) -> light.Config:
    keys = {"head__kind": "para", "train__n_steps": n_steps, "train__save_every": 1, "train__val_every": 1000}
    return config(light.Config, "light", run=folder / "run", data__root=folder / "data", train__ema=0.9, **keys)


def _trained(folder: Path) -> Path:
    builders.write_dataset(folder / "data")
    assert run(lambda: light.main(_light(folder, 1)), folder / "log") == 0, (folder / "log").read_text()
    return folder / "run"


def _fuzz(folder: Path, path: Path, n: int, use: Callable[[], object]) -> Outcome:
    """Give a user of checkpoints `n` of a run's that are not what was saved there."""
    found, bomb = checkpoint.find(path), folder / "bomb"
    before = {f.name: f.read_bytes() for f in found.iterdir()}

    def read(value: Drawn) -> None:
        name, contents = value
        (found / name).write_bytes(contents)
        try:
            if name != checkpoint.MANIFEST:
                manifest = json.loads(before[checkpoint.MANIFEST])
                manifest["files"][name] = {"bytes": len(contents), "sha256": sha256(found / name)}
                (found / checkpoint.MANIFEST).write_text(json.dumps(manifest))
            use()
        except BadInput as error:
            if str(path) not in str(error):
                raise RuntimeError(f"names no file: {error}") from error
        finally:
            for file, whole in ((name, before[name]), (checkpoint.MANIFEST, before[checkpoint.MANIFEST])):
                (found / file).write_bytes(whole)

    return fuzz(n, _changes(before, bomb), read, bomb)


def _changes(before: dict[str, bytes], bomb: Path) -> st.SearchStrategy[Drawn]:
    """Another value in a JSON file, tensors of other shapes, types and values, bytes that are no tensors."""
    trees = {name: json.loads(text) for name, text in before.items() if name.endswith(".json")}
    tree = st.sampled_from(sorted(trees)).flatmap(
        lambda name: st.tuples(st.just(name), changed(trees[name]).map(lambda t: as_bytes(t)))
    )
    pickled = io.BytesIO()
    torch.save({"head.weight": Bomb(bomb)}, pickled)
    tensors = st.sampled_from(sorted(set(before) - set(trees))).flatmap(
        lambda name: st.tuples(st.just(name), _tensors(before[name]) | st.just(pickled.getvalue()))
    )
    return st.one_of(tree, tree, tensors)


def _tensors(contents: bytes) -> st.SearchStrategy[bytes]:
    (length,) = struct.unpack("<Q", contents[:8])
    header, rest = json.loads(contents[8 : 8 + length]), contents[8 + length :]
    headers = changed(header).map(lambda h: struct.pack("<Q", len(as_bytes(h))) + as_bytes(h) + rest)
    nan = st.just(contents[: 8 + length] + b"\xff" * len(rest))
    return st.one_of(headers, damaged(contents[: 8 + length]).map(lambda x: x + rest), nan)
