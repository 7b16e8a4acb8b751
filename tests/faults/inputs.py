"""Files and options that are not what they should be, given to everything that reads any."""

import io
import json
import pickle
import struct
import time
import warnings
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import builders
import numpy as np
import torch
import yaml
from flows import ROOT
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from faults.fault import Outcome, run
from faults.training import train
from train_stages import joint, light, video
from videopolicy import policy
from videopolicy.backbones import image
from videopolicy.config import load
from videopolicy.data.cameras import read_cameras
from videopolicy.data.findings import examine
from videopolicy.data.lerobot import Dataset
from videopolicy.errors import BadInput
from videopolicy.training import checkpoint

PATIENCE = 10.0  # [s] after which reading counts as hanging
SHELL = "!!python/object/apply:os.system [true]"
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from([0, -1, 1e308, "nan", "../../etc/passwd", "null", "yes", SHELL, 10**400]),
)
VALUES = st.recursive(
    SCALARS, lambda x: st.lists(x, max_size=4) | st.dictionaries(st.text(max_size=4), x, max_size=3), max_leaves=6
)
FAILED: list[str] = []  # what made a reader fail otherwise than it should


class Bomb:
    """Unpickled, it writes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.touch, (self.path,)


def _fuzz(n: int, strategy: st.SearchStrategy, read: Callable[[Any], object], bomb: Path) -> Outcome:
    """Give `n` drawn inputs to a reader, which must take them or raise `BadInput`, soon, and execute nothing."""
    survived = [0]

    @settings(
        max_examples=n,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def one(value: Any) -> None:
        count[0] += 1
        started = time.monotonic()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                read(value)
        except BadInput as error:
            if "\n" in str(error).split(":\n")[0]:
                FAILED.append(f"several lines: {error}")
                return
        except BaseException as error:
            FAILED.append(f"{type(error).__name__}: {error}; of {str(value)[:200]}")
            return
        survived[0] += time.monotonic() - started < PATIENCE and not bomb.exists()

    count = [0]
    one()
    return Outcome(count[0], survived[0], 0)


def changed(tree: Any) -> st.SearchStrategy:
    """A JSON tree in which one value, anywhere, is another, a key is missing, or one is new."""

    @st.composite
    def draw(draw: st.DrawFn) -> Any:
        copy = deepcopy(tree)
        place, keys = copy, _keys(copy)
        while keys and draw(st.integers(0, 2)):
            inner = place[draw(st.sampled_from(keys))]
            if not _keys(inner):
                break
            place, keys = inner, _keys(inner)
        keys = _keys(place)
        what = draw(st.sampled_from(["change", "change", "change", "drop", "add"]))
        key = draw(st.sampled_from(keys))
        if what == "drop":
            del place[key]
        elif what == "add" and isinstance(place, dict):
            place[draw(st.text(max_size=6))] = draw(VALUES)
        else:
            place[key] = draw(VALUES)
        return copy

    return draw()


def _keys(tree: Any) -> list:
    if isinstance(tree, dict):
        return sorted(tree)
    return list(range(len(tree))) if isinstance(tree, list) else []


def damaged(contents: bytes) -> st.SearchStrategy:
    """Bytes of which some are others, some missing, or all are something else."""
    n = len(contents)
    flips = st.lists(st.tuples(st.integers(0, n - 1), st.integers(0, 255)), min_size=1, max_size=4)
    flipped = flips.map(lambda changes: bytes(_with(contents, changes)))
    return st.one_of(flipped, st.integers(0, n - 1).map(lambda i: contents[:i]), st.binary(max_size=64))


def _with(contents: bytes, changes: list[tuple[int, int]]) -> bytearray:
    found = bytearray(contents)
    for i, value in changes:
        found[i] = value
    return found


def _bytes(tree: Any) -> bytes:
    """A tree as JSON, or as whatever text it is."""
    try:
        text = json.dumps(tree)
    except (ValueError, TypeError):
        text = str(tree)
    return text.encode(errors="surrogatepass")


def configurations(folder: Path, n: int) -> Outcome:
    """YAML files of the three stages, and options on the command line."""
    files = {light: "light", video: "video", joint: "joint_para"}
    trees = [
        (stage, yaml.safe_load((ROOT / f"configs/debug/{name}.yaml").read_text())) for stage, name in files.items()
    ]
    options = st.lists(
        st.text(max_size=6) | st.sampled_from(["--run", "--train.n_steps", "--data", "--head.kind", "{", "null"]),
        max_size=4,
    )
    given_ = st.sampled_from(trees).flatmap(lambda x: st.tuples(st.just(x[0]), changed(x[1]) | VALUES, options))
    path = folder / "config.yaml"

    def read(value: tuple[Any, Any, list[str]]) -> None:
        stage, tree, words = value
        path.write_bytes(_bytes(tree))
        args = [w for w in words if w not in ("-h", "--help")]
        load(stage.Config, ["--config_path", str(path), *args])

    return _fuzz(n, given_, read, folder / "bomb")


def datasets(folder: Path, n: int) -> Outcome:
    """info.json, cameras, what is said of episodes, statistics, tables, pictures of markers, a malicious pickle."""
    root, bomb = builders.without_sums(builders.write_dataset(folder / "data", (6, 6))), folder / "bomb"
    before = builders.snapshot(root)
    trees = [name for name in before if name.endswith(".json")]
    lines = "meta/para_episodes.jsonl"
    others = [name for name in before if name.endswith((".parquet", ".mp4", ".npz"))]
    pickled = io.BytesIO()
    np.savez(pickled, markers=np.array([Bomb(bomb)], object), images=np.zeros((2, 4, 4, 3)))
    tree = st.sampled_from(trees).flatmap(
        lambda f: st.tuples(st.just(f), changed(json.loads(before[f])).map(lambda t: _bytes(t)))
    )
    line = changed([json.loads(x) for x in before[lines].splitlines()]).map(
        lambda rows: (lines, b"".join(_bytes(r) + b"\n" for r in rows))
    )
    other = st.sampled_from(others).flatmap(lambda f: st.tuples(st.just(f), damaged(before[f])))
    bombs = st.sampled_from(
        [("meta/para_markers.npz", pickled.getvalue()), ("meta/para_cameras.json", pickle.dumps(Bomb(bomb)))]
    )

    def read(value: tuple[str, bytes]) -> None:
        name, contents = value
        (root / name).write_bytes(contents)
        try:
            for look in (lambda: examine(root), lambda: [Dataset(root).frames(e) for e in range(2)]):
                try:
                    look()
                except BadInput as error:
                    if str(root) not in str(error):
                        raise RuntimeError(f"names no file: {error}") from error
        finally:
            (root / name).write_bytes(before[name])

    return _fuzz(n, st.one_of(tree, tree, line, other, bombs), read, bomb)


def checkpoints(folder: Path, n: int) -> Outcome:
    """State, configuration, manifest and weights of a policy, under a manifest that agrees; a malicious pickle."""
    data, path, bomb = builders.write_dataset(folder / "data"), folder / "run", folder / "bomb"
    assert run(lambda: train(path, data, 1), folder / "log") == 0, (folder / "log").read_text()
    found = checkpoint.find(path)
    before = {f.name: f.read_bytes() for f in found.iterdir()}
    trees = [checkpoint.STATE, checkpoint.CONFIG, checkpoint.MANIFEST]
    pickled = io.BytesIO()
    torch.save({"head.weight": Bomb(bomb)}, pickled)
    model = before[checkpoint.MODEL]
    (length,) = struct.unpack("<Q", model[:8])
    header = json.loads(model[8 : 8 + length])
    tree = st.sampled_from(trees).flatmap(
        lambda f: st.tuples(st.just(f), changed(json.loads(before[f])).map(lambda t: _bytes(t)))
    )
    headers = changed(header).map(lambda h: (checkpoint.MODEL, _safetensors(_bytes(h), model[8 + length :])))
    nan = st.just((checkpoint.MODEL, model[: 8 + length] + b"\xff" * (len(model) - 8 - length)))
    other = st.tuples(st.just(checkpoint.MODEL), damaged(model[: 8 + length]).map(lambda x: x + model[8 + length :]))
    bombs = st.just((checkpoint.MODEL, pickled.getvalue()))

    def read(value: tuple[str, bytes]) -> None:
        name, contents = value
        (found / name).write_bytes(contents)
        try:
            if name != checkpoint.MANIFEST:
                manifest = json.loads(before[checkpoint.MANIFEST])
                manifest["files"][name] = {"bytes": len(contents), "sha256": checkpoint.sha256(found / name)}
                (found / checkpoint.MANIFEST).write_text(json.dumps(manifest))
            policy.load(path)
        except BadInput as error:
            if str(path) not in str(error):
                raise RuntimeError(f"names no file: {error}") from error
        finally:
            for file, whole in ((name, before[name]), (checkpoint.MANIFEST, before[checkpoint.MANIFEST])):
                (found / file).write_bytes(whole)

    return _fuzz(n, st.one_of(tree, tree, tree, headers, other, nan, bombs), read, bomb)


def _safetensors(header: bytes, rest: bytes) -> bytes:
    return struct.pack("<Q", len(header)) + header + rest


def cameras(folder: Path, n: int) -> Outcome:
    """A file of cameras: intrinsics, pose, size."""
    path, tree = folder / "cameras.json", {"agentview": builders.agentview(64).to_json()}

    def read(value: bytes) -> None:
        path.write_bytes(value)
        for camera in read_cameras(path).values():
            assert np.isfinite(camera.project(np.zeros((1, 3)))).all() or camera.position is not None
            assert min(camera.size) > 0

    whole = json.dumps(tree).encode()
    drawn = changed(tree).map(lambda t: _bytes(t))
    return _fuzz(n, st.one_of(drawn, drawn, drawn, damaged(whole)), read, folder / "bomb")


def weights(folder: Path, n: int) -> Outcome:
    """Weights of an image network from a file of one's own: damaged, of something else, a malicious pickle."""
    path, bomb = folder / "weights.pth", folder / "bomb"
    small = io.BytesIO()
    torch.save({"conv_stem.weight": torch.zeros(4, 3, 3, 3)}, small)
    pickled = io.BytesIO()
    torch.save({"conv_stem.weight": Bomb(bomb)}, pickled)
    drawn = st.one_of(
        damaged(small.getvalue()),
        st.just(small.getvalue()),
        st.just(pickled.getvalue()),
        st.just(pickle.dumps(Bomb(bomb))),
    )

    def read(value: bytes) -> None:
        path.write_bytes(value)
        try:
            image.ImageBackbone(image.ImageConfig(name="efficientnet_lite0", image_size=(64, 64), weights=str(path)))
        except BadInput as error:
            if str(path) not in str(error):
                raise RuntimeError(f"names no file: {error}") from error

    return _fuzz(n, drawn, read, bomb)
