"""Checkpoints whose files are not what they should be, under a manifest that agrees with them."""

import io
import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import builders
import safetensors.torch
import torch
from flows import config
from hypothesis import strategies as st

from faults.drawing import Bomb, as_bytes, changed, damaged, fuzz
from faults.fault import Outcome, run
from train_stages import light, video
from videopolicy import export, exported, policy
from videopolicy.backbones import pipeline
from videopolicy.backbones.svd import SVDBackbone
from videopolicy.data.files import described
from videopolicy.errors import BadInput
from videopolicy.training import checkpoint
from videopolicy.training.stage_one import load_stage_one

N_STEPS = 4
Drawn = tuple[str, bytes]  # a file of a checkpoint, and what it now holds


def policies(folder: Path, n: int) -> Outcome:
    """A policy to act with: configuration, state, manifest, weights; a malicious pickle."""
    path = _trained(folder)
    return _fuzz(folder, path, n, lambda: policy.load(path))


def exports(folder: Path, n: int) -> Outcome:
    """An exported policy: configuration, what else it is made of, weights; a malicious pickle."""
    path = export.main(export.Config(_trained(folder), folder / "exported"))
    return _fuzz(folder, path, n, lambda: policy.load(path))


def resumed(folder: Path, n: int) -> Outcome:
    """A run to train on: these, moments, running means, and a window of steps that were not logged yet."""
    path, base = _trained(folder), folder / "base"
    assert checkpoint.read_state(checkpoint.find(path))["window"]["count"] == N_STEPS - 1
    shutil.copytree(path, base)
    last = path / f"step_{N_STEPS:06d}"

    def trains() -> None:
        try:
            light.main(_light(folder))
        except FloatingPointError:  # refused
            assert not last.exists(), "weights that are not finite were saved"
        finally:
            shutil.rmtree(last, ignore_errors=True)
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


def _light(folder: Path) -> light.Config:
    keys = {"train__n_steps": N_STEPS, "train__log_every": N_STEPS, "train__save_every": 1, "train__val_every": 1000}
    return config(light.Config, "light", run=folder / "run", data__root=folder / "data", train__ema=0.9, **keys)


def _trained(folder: Path) -> Path:
    """A run whose last step is still to come."""
    builders.write_dataset(folder / "data")
    assert run(lambda: light.main(_light(folder)), folder / "log") == 0, (folder / "log").read_text()
    shutil.rmtree(folder / f"run/step_{N_STEPS:06d}")
    (folder / "run/metrics.jsonl").write_text("")
    return folder / "run"


def _fuzz(folder: Path, path: Path, n: int, use: Callable[[], object]) -> Outcome:
    """Give a user of checkpoints, or of an export, `n` of a run's that are not what was saved there."""
    bomb = folder / "bomb"
    found, sums = (path, exported.ABOUT) if exported.is_one(path) else (checkpoint.find(path), checkpoint.MANIFEST)
    before = {f.name: f.read_bytes() for f in found.iterdir() if f.name != exported.CARD}

    def read(value: Drawn) -> None:
        name, contents = value
        (found / name).write_bytes(contents)
        try:
            if name != sums:
                manifest = json.loads(before[sums])
                manifest["files"][name] = described(found / name)
                (found / sums).write_text(json.dumps(manifest))
            use()
        except BadInput as error:
            if str(path) not in str(error):
                raise RuntimeError(f"names no file: {error}") from error
        finally:
            for file, whole in ((name, before[name]), (sums, before[sums])):
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
    return st.one_of(tree, tensors)


def _tensors(contents: bytes) -> st.SearchStrategy[bytes]:
    """Whole files of other tensors, and bytes that are none."""
    (length,) = struct.unpack("<Q", contents[:8])
    whole, rest = safetensors.torch.load(contents), contents[8 + length :]

    def change(names: list[str], how: str) -> bytes:
        tensors = dict(whole)
        for name in names:
            value = tensors.pop(name)
            changed = {
                "dropped": {},
                "renamed": {f"{name}x": value},
                "short": {name: torch.zeros(3)},
                "long": {name: torch.zeros(*value.shape, 2)},
                "whole numbers": {name: value.to(torch.int32)},
                "half": {name: value.to(torch.float16)},
                "not finite": {name: torch.full_like(value.float(), torch.nan)},
                "huge": {name: torch.full_like(value.float(), 1e30)},
            }
            tensors |= changed[how]
        return safetensors.torch.save(tensors)

    kinds = ["dropped", "renamed", "short", "long", "whole numbers", "half", "not finite", "huge"]
    some = st.lists(st.sampled_from(sorted(whole)), min_size=1, max_size=3, unique=True) | st.just(sorted(whole))
    others = st.builds(change, some, st.sampled_from(kinds))
    return st.one_of(others, others, others, damaged(contents[: 8 + length]).map(lambda x: x + rest))
