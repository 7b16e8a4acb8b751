"""The tutorials are done as they are written: every block, in order, in an empty folder, with less training."""

import importlib
import json
import re
import runpy
import shlex
import shutil
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import documents
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from accelerate.state import AcceleratorState
from commands import words_of
from documents import ROOT, SHELLS

from videopolicy.config import load
from videopolicy.data.findings import examine
from videopolicy.data.lerobot import Dataset
from videopolicy.data.video import write_video
from videopolicy.errors import BadInput

TRAIN = {
    "data.n_val_episodes": 1,
    "train.n_steps": 1,
    "train.batch_size": 2,
    "train.val_every": 1,
    "train.save_every": 1,
    "train.n_threads": 1,
}
LESS = {  # what is computed less of; nothing else of the commands is changed
    "light": {**TRAIN, "backbone.image_size": "[64, 64]"},
    "video": {**TRAIN, "preview.n_sample_steps": 1, "preview.clips": 1},
    "joint": {**TRAIN, "preview.n_sample_steps": 1, "preview.clips": 1, "leak_clips": 2},
}


def run(text: str) -> None:
    """One command, in this process."""
    words = words_of(text)
    name, args = (words[2], words[3:]) if words[0] == "accelerate" or words[1] == "-m" else (words[1], words[2:])
    name = name.removesuffix(".py").replace("/", ".")
    module = importlib.import_module(name)
    if hasattr(module, "Config"):
        less = LESS.get(name.removeprefix("train_stages."), {})
        given = [
            *args,
            *(word for k, v in less.items() for word in (f"--{k}", str(v))),
        ]  # of two values the last counts
        module.main(load(module.Config, given))
        AcceleratorState._reset_state(reset_partial_state=True)  # as a process of its own would begin
        return
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings(action="ignore"):
        patch.setattr(sys, "argv", [name, *args])
        with pytest.raises(SystemExit) as ended:
            runpy.run_module(name, run_name="__main__")
    assert ended.value.code == 0, shlex.join(words)


def follow(tutorial: str, folder: Path, commands: bool = True) -> dict[str, Any]:
    """Do all of a page in a folder that has the tree's configurations and weights; what its Python has made."""
    made: dict[str, Any] = {"__name__": "tutorial"}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for language, block in documents.blocks(ROOT / f"docs/tutorials/{tutorial}.md"):
            if language == "python":
                exec(compile("\n" * (block.line - 1) + block.text, block.document, "exec"), made)
            elif language in SHELLS and commands:
                for line in block.text.splitlines():
                    run(line)
    return made


@pytest.fixture(scope="module")
def own_data(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("own_data")
    for name in ("configs", "weights"):
        (folder / name).symlink_to(ROOT / name)
    return folder, follow("own_data", folder)


def test_own_data(own_data: tuple[Path, dict[str, Any]]) -> None:
    folder, made = own_data
    assert examine(folder / "data/mine").sound
    for run in ("light", "video", "joint"):
        assert (folder / f"runs/mine/{run}/latest").exists()
    lines = (folder / "runs/mine/light/metrics.jsonl").read_text().splitlines()
    assert any({"val/position_mm", "val/pixel"} <= set(json.loads(line)) for line in lines)
    assert (folder / "runs/mine/inspect.png").is_file()
    assert made["chunk"].position.shape == (6, 3)


def test_own_video_model(own_data: tuple[Path, dict[str, Any]]) -> None:
    """After the page on data, whose dataset it takes."""
    folder, _ = own_data
    made = follow("own_video_model", folder)
    assert made["chunk"].position.shape == (6, 3)
    assert all(np.isfinite(value.item()) for value in made["losses"].values())
    assert not (folder / "runs/model").exists()


def test_own_arm(own_data: tuple[Path, dict[str, Any]]) -> None:
    """Its Python; its commands, which want an arm or start a twin, are tried by the tests of `robot/`."""
    made = follow("own_arm", own_data[0], commands=False)
    assert len(made["result"].chunks) == 2
    executor = made["executor"]
    assert executor.arm.seconds == 2 * 3 * made["result"].chunks[0].period
    assert ((executor.arm.position >= executor.low) & (executor.arm.position <= executor.high)).all()


def test_a_dataset_of_others_gets_its_camera(own_data: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    """One that this project has not written, so without its files."""
    folder, made = own_data
    root = shutil.copytree(folder / "data/mine", tmp_path / "mine")
    for path in (root / "meta").glob("para_*"):
        path.unlink()
    assert "meta/para_cameras.json" in said(root)
    shown = made["with_dots"](made["table"], made["markers"])
    made["add_camera"](root, "front", made["camera"], made["markers"], shown, made["table"])
    assert examine(root).sound


def test_a_dataset_of_joint_angles_gets_positions(own_data: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    """Of an arm of three rails [mm] and a gripper [%], whose other joints move nothing: its states come back."""
    folder, made = own_data
    theirs, mine = shutil.copytree(folder / "data/mine", tmp_path / "theirs"), Dataset(folder / "data/mine")
    scale = np.array([1e3, 1e3, 1e3, 1e2])
    with_joints(theirs, lambda state: np.pad(state * scale, ((0, 0), (0, 2))))
    assert "observation.state has shape (12, 6)" in said(theirs)
    shown = made["with_dots"](made["table"], made["markers"])
    about = (made["camera"], lambda joints: joints[:, :4] / scale, made["markers"], shown, made["table"])
    made["with_positions"](theirs, tmp_path / "mine", "front", *about, every=2)
    assert examine(tmp_path / "mine").sound
    found = Dataset(tmp_path / "mine")
    assert (len(found), found.fps) == (len(mine), mine.fps // 2)
    for e in range(len(mine)):
        np.testing.assert_allclose(found.state(e), mine.state(e)[::2], atol=1e-6)
        np.testing.assert_allclose(found.action(e), mine.action(e)[1::2], atol=1e-6)
        difference = found.frames(e).astype(float) - mine.frames(e)[::2]
        assert np.abs(difference).mean() < 2  # grey levels, of being compressed twice


def said(root: Path) -> str:
    """All that the doctor says."""
    try:
        return "\n".join(examine(root).lines())
    except BadInput as error:
        return str(error)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("elsewhere", "no LeRobot dataset at"),
        ("version", "allowed: 'v3.0'"),
        ("no markers", "para_markers.npz is missing"),
        ("shifted", "px from where the camera projects them"),
        ("upside down", "are upside down against the picture their camera was calibrated on"),
        ("distorted", "undistort pictures first"),
        ("joints", "observation.state has shape (12, 6)"),
    ],
)
def test_the_doctor_says_what_the_page_says(
    own_data: tuple[Path, dict[str, Any]], tmp_path: Path, change: str, words: str
) -> None:
    folder, made = own_data
    root = shutil.copytree(folder / "data/mine", tmp_path / "mine")
    (root / "meta/para_checksums.jsonl").unlink()
    cameras, markers, info = (root / "meta" / n for n in ("para_cameras.json", "para_markers.npz", "info.json"))
    if change == "elsewhere":
        root = root / "data"
    elif change == "version":
        info.write_text(info.read_text().replace("v3.0", "v2.1"))
    elif change == "no markers":
        markers.unlink()
    elif change == "joints":
        with_joints(root, lambda state: np.zeros((len(state), 6)))
    elif change == "upside down":
        frames, *_ = next(made["demonstrations"]())
        write_video(root / "videos/observation.images.front/chunk-000/file-000.mp4", frames[:, ::-1], 4)
    else:
        entry = json.loads(cameras.read_text())
        if change == "shifted":
            entry["front"]["K"][0][2] += 5.0
        else:
            entry["front"]["distortion"] = [0.1, 0.0, 0.0, 0.0, 0.0]
        cameras.write_text(json.dumps(entry))
    assert words in said(root)


def with_joints(root: Path, of: Callable[[np.ndarray], np.ndarray]) -> None:
    """Six joint angles in the place of a position and an opening."""
    for path in (root / "data").rglob("*.parquet"):
        table = pq.read_table(path)
        for name in ("observation.state", "action"):
            angles = pa.array(of(np.array(table[name].to_pylist())).ravel(), pa.float32())
            angles = pa.FixedSizeListArray.from_arrays(angles, 6)
            table = table.set_column(table.column_names.index(name), name, angles)
        pq.write_table(table, path)
    (root / "meta/para_checksums.jsonl").unlink(missing_ok=True)


@pytest.mark.parametrize("name", ["own_data", "own_arm"])
def test_what_pages_say_that_programs_say(name: str) -> None:
    """Every message of the tables, but for what stands in it of a case, is in the sources word for word."""
    sources = "".join(p.read_text() for folder in ("videopolicy", "robot") for p in (ROOT / folder).rglob("*.py"))
    sources = re.sub(r'"\s*\n\s*f?"', "", sources)  # a line of text that goes on in the next
    rows = re.findall(r"^\| `([^`]+)` \| ", (ROOT / f"docs/tutorials/{name}.md").read_text(), re.M)
    messages = [row for row in rows if " " in row]
    assert len(messages) > 4
    names = r"observation.state|elbow_flex|homing_offset|upside down|No such file or directory"
    case = rf"\.\.\.|'[^']*'|\(.*?\)|-?\d[\d.%]*|\S+/\S+|{names}"
    for message in messages:
        for part in re.split(case, message):
            words = part.strip(" :;,")
            assert len(words.split()) < 2 or words in sources, (message, words)
