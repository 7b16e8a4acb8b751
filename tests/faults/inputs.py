"""Files and options that are not what they should be, given to everything that reads any."""

import io
import json
import pickle
from pathlib import Path
from typing import Any

import arms
import builders
import numpy as np
import torch
import yaml
from flows import ROOT
from hypothesis import strategies as st

from faults.drawing import VALUES, Bomb, as_bytes, changed, columns, damaged, fuzz
from faults.fault import Outcome
from robot.calibration import read_calibration, write_calibration
from train_stages import joint, light, video
from videopolicy.backbones import image
from videopolicy.config import load
from videopolicy.data import checksums
from videopolicy.data.cameras import read_cameras
from videopolicy.data.findings import examine
from videopolicy.data.lerobot import Dataset
from videopolicy.errors import BadInput


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
        path.write_bytes(as_bytes(tree))
        args = [w for w in words if w not in ("-h", "--help")]
        load(stage.Config, ["--config_path", str(path), *args])

    return fuzz(n, given_, read, folder / "bomb")


def datasets(folder: Path, n: int) -> Outcome:
    """info.json, cameras, what is said of episodes, statistics, tables, pictures of markers, a malicious pickle."""
    root, bomb = builders.write_dataset(folder / "data", (6, 6)), folder / "bomb"
    sums = checksums.FILE, (root / checksums.FILE).read_bytes()
    before = builders.snapshot(builders.without_sums(root))
    trees = [name for name in before if name.endswith(".json")]
    lines = "meta/para_episodes.jsonl"
    others = [name for name in before if name.endswith((".parquet", ".mp4", ".npz"))]
    pickled = io.BytesIO()
    np.savez(pickled, markers=np.array([Bomb(bomb)], object), images=np.zeros((2, 4, 4, 3)))
    tree = st.sampled_from(trees).flatmap(
        lambda f: st.tuples(st.just(f), changed(json.loads(before[f])).map(lambda t: as_bytes(t)))
    )
    line = st.sampled_from([(lines, before[lines]), sums]).flatmap(
        lambda f: changed([json.loads(x) for x in f[1].splitlines()]).map(
            lambda rows: (f[0], b"".join(as_bytes(r) + b"\n" for r in rows))
        )
    )
    other = st.sampled_from(others).flatmap(lambda f: st.tuples(st.just(f), damaged(before[f])))
    sound = st.sampled_from([name for name in before if name.endswith(".parquet")]).flatmap(
        lambda f: st.tuples(st.just(f), columns(before[f]))
    )
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
            if name in before:
                (root / name).write_bytes(before[name])
            else:
                (root / name).unlink()

    return fuzz(n, st.one_of(tree, tree, line, other, sound, bombs), read, bomb)


def cameras(folder: Path, n: int) -> Outcome:
    """A file of cameras: intrinsics, pose, size."""
    path, tree = folder / "cameras.json", {"agentview": builders.agentview(64).to_json()}

    def read(value: bytes) -> None:
        path.write_bytes(value)
        try:
            found = read_cameras(path)
        except BadInput as error:
            if str(path) not in str(error):
                raise RuntimeError(f"names no file: {error}") from error
            return
        for camera in found.values():
            ahead = camera.position + camera.T_world_cam[:3, 2]  # a metre down its optical axis: the principal point
            np.testing.assert_allclose(camera.project(ahead[None])[0], camera.K[:2, 2], rtol=1e-6, atol=1e-6)
            assert min(camera.size) > 0

    whole = json.dumps(tree).encode()
    drawn = changed(tree).map(lambda t: as_bytes(t))
    return fuzz(n, st.one_of(drawn, drawn, drawn, damaged(whole)), read, folder / "bomb")


def calibrations(folder: Path, n: int) -> Outcome:
    """An arm's calibration.json."""
    path, arm = folder / "calibration.json", arms.calibration()
    write_calibration(path, arm, {"table": [0.0, 0.0, 1.0, 0.0]})
    whole = path.read_bytes()

    def read(value: bytes) -> None:
        path.write_bytes(value)
        try:
            found, _ = read_calibration(path)
        except BadInput as error:
            if str(path) not in str(error):
                raise RuntimeError(f"names no file: {error}") from error
            return
        assert np.isfinite(found.limits()).all()
        assert set(found.lerobot()) == set(found.joints)

    drawn = st.sampled_from([json.loads(whole), arm.lerobot()]).flatmap(changed).map(lambda t: as_bytes(t))
    return fuzz(n, st.one_of(drawn, drawn, drawn, damaged(whole)), read, folder / "bomb")


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

    return fuzz(n, drawn, read, bomb)
