"""The ablations' rows really trained, rolled out and reported, at debug size; what is there and is not theirs."""

import dataclasses
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from flows import ROOT

from eval import ablations, rollout
from eval.ablations import Config
from train_stages import joint, video
from videopolicy.config import load
from videopolicy.data.files import read_jsonl
from videopolicy.errors import BadInput
from videopolicy.training import checkpoint

ROWS = ("two_stage", "scratch")


def scale(folder: Path, output: Path, **changes: object) -> str:
    """Two or three steps of a toy video model, two episodes of two chunks."""
    values = {
        "like": "cpu",
        "share": 0.0006,
        "recipes": {
            stage: str(ROOT / f"configs/debug/{name}.yaml")
            for stage, name in (("video", "video"), ("joint", "joint_para"), ("rollout", "rollout"))
        },
        "both": {"data": {"root": str(folder / "data")}, "backbone": {"pretrained": str(folder / "weights")}},
        "joint": {"data": {"select": "left"}},
        "rollout": {"oracle": False},
        "seconds": {"video": 1.0, "joint": 1.0, "frozen": 1.0, "episode": 1.0},
    }
    output.mkdir(exist_ok=True)
    (output / "debug.yaml").write_text(yaml.safe_dump(values | changes))
    return str(output / "debug.yaml")


def here(command: list[str], log: Path, started: Callable[[int], object]) -> tuple[int, int]:
    """The command's own program, without a process of its own, which would import for seconds."""
    started(os.getpid())
    words = command[1:]
    with log.open("a") as file:
        file.write(" ".join(words) + "\n")
    if words[0].endswith("video.py"):
        video.main(load(video.Config, words[1:]))
    elif words[0].endswith("joint.py"):
        joint.main(load(joint.Config, words[1:]))
    else:
        assert words[:2] == ["-m", "eval.rollout"]
        rollout.main(load(rollout.Config, words[2:]))
    return 0, 2**30


@pytest.fixture(scope="module")
def made(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Config, dict]:
    """Two core rows, and their table; read only."""
    output = tmp_path_factory.mktemp("ablations")
    cfg = Config(scale(folder, output), ROWS, output, n_cores=1)
    return cfg, ablations.main(cfg, here)


def test_rows_are_trained_rolled_out_and_reported(made: tuple[Config, dict]) -> None:
    cfg, about = made
    root = cfg.output / "debug"
    assert [(r["row"], r["split"], r["n"], r["finished"]) for r in about["rows"]] == [
        (name, split, 1, True) for name in ROWS for split in ("seen", "unseen")
    ]
    two, scratch = about["rows"][0]["stages"], about["rows"][2]["stages"]
    assert (two["video"]["steps"], two["joint"]["steps"], scratch["video"], scratch["joint"]["steps"]) == (
        2,
        2,
        None,
        6,
    )
    assert scratch["joint"]["pflop"] > 2 * two["joint"]["pflop"] > 0
    assert about["rows"][0]["peak_gib"] == 1.0
    assert set(about["unfinished"]) >= {"frozen", "global"}
    begun = checkpoint.read_state(checkpoint.find(root / "rows/two_stage/joint"))["stage_one"]
    assert begun == checkpoint.weights_digest(checkpoint.find(root / "video/common"))
    assert (root / "table.md").read_text().count("| two_stage |") == 2
    assert "<b>scratch</b>" in (root / "report.html").read_text()


def test_the_same_command_finds_everything_done(made: tuple[Config, dict], capsys: pytest.CaptureFixture) -> None:
    """Also where checkpoints of finished rows are gone."""
    cfg, about = made
    again = ablations.main(cfg, lambda *_: pytest.fail("nothing must be run"))
    assert "2 of 2 rows are finished" in capsys.readouterr().out
    assert again["rows"] == about["rows"]


@pytest.fixture
def copied(made: tuple[Config, dict], tmp_path: Path) -> tuple[Config, Path]:
    cfg, _ = made
    shutil.copytree(cfg.output, tmp_path / "out", ignore=shutil.ignore_patterns("videos", "previews"))
    text = (tmp_path / "out/debug.yaml").read_text()
    (tmp_path / "out/debug.yaml").write_text(text)
    root = tmp_path / "out/debug"
    for path in root.glob("rows/*/row.json"):  # a copy's runs are begun from the copy's
        assert str(cfg.output) not in path.read_text()
    return dataclasses.replace(cfg, output=tmp_path / "out", scale=str(tmp_path / "out/debug.yaml")), root


def change(cfg: Config, folder: Path, **changes: object) -> Config:
    return dataclasses.replace(cfg, scale=scale(folder, cfg.output, **changes))


def refused(cfg: Config) -> str:
    """Why nothing is run."""
    with pytest.raises(BadInput) as caught:
        ablations.main(cfg, lambda *_: pytest.fail("nothing must be run"))
    return str(caught.value)


def test_what_is_there_and_is_not_asked_for_is_refused(copied: tuple[Config, Path], folder: Path) -> None:
    cfg, root = copied
    said = refused(change(cfg, folder, share=0.001))
    assert "rows/two_stage was trained with train.n_steps 2, not 3; name another output, or remove it" in said
    said = refused(change(cfg, folder, rollout={"oracle": False, "n_execute": 2}))
    assert "rows/two_stage was rolled out without n_execute, not with 2; name another output" in said
    said = refused(change(cfg, folder, joint={"data": {"select": "left"}, "lr_unet": 0.5}))
    assert "was trained with lr_unet 0.001, not 0.5" in said
    shutil.rmtree(root / "rows/two_stage/joint")
    shutil.copytree(root / "rows/scratch/joint", root / "rows/two_stage/joint")
    cfg = change(cfg, folder)
    assert "rows/two_stage was rolled out with other weights than" in refused(cfg)
    (root / "rows/two_stage/row.json").unlink()
    assert "rows/two_stage/joint was trained with train.n_steps 6, not 2" in refused(cfg)


def test_a_stage_one_made_anew_is_not_taken_for_the_old(copied: tuple[Config, Path], folder: Path) -> None:
    cfg, root = copied
    shutil.rmtree(root / "video/common")
    command = ["--config_path", str(ROOT / "configs/debug/video.yaml"), "--run", str(root / "video/common")]
    options = {"data.root": folder / "data", "backbone.pretrained": folder / "weights", "train.n_steps": 2}
    words = [word for key, value in options.items() for word in (f"--{key}", str(value))]
    video.main(load(video.Config, [*command, *words, "--train.seed", "3", "--preview.clips", "0"]))
    assert "rows/two_stage was begun from other weights than" in refused(cfg)


def test_a_row_goes_on_where_it_stopped(copied: tuple[Config, Path]) -> None:
    """Its last episode is missing, and the record with it; nothing is trained again."""
    cfg, root = copied
    row = root / "rows/scratch"
    (row / "row.json").unlink()
    file = row / "rollout/episodes.jsonl"
    lines = read_jsonl(file)
    file.write_text(json.dumps(lines[0]) + "\n")
    commands: list[list[str]] = []

    def note(command: list[str], log: Path, started: Callable[[int], object]) -> tuple[int, int]:
        commands.append(command)
        file.write_text("".join(json.dumps(line) + "\n" for line in lines))
        return 0, 0

    about = ablations.main(dataclasses.replace(cfg, rows=("scratch",)), note)
    assert [command[1:3] for command in commands] == [["-m", "eval.rollout"]]
    assert (row / "row.json").is_file()
    assert {r["row"]: r["n"] for r in about["rows"]} == {"two_stage": 1, "scratch": 1}


def test_a_stage_that_fails_is_named(folder: Path, tmp_path: Path) -> None:
    """By its log's last line, in a process of its own; rows that need it are not begun."""
    missing = {"data": {"root": str(folder / "data")}, "backbone": {"pretrained": str(tmp_path / "nowhere")}}
    cfg = Config(scale(folder, tmp_path / "out", both=missing), ROWS[:1], tmp_path / "out", n_cores=1)
    with pytest.raises(BadInput, match=r"video_common failed: common ended with status 2: error: .*nowhere") as caught:
        ablations.main(cfg)
    assert "row_two_stage failed: video_common is missing" in str(caught.value)
    assert not (tmp_path / "out/debug/rows").exists()
    assert "stage one: 0 of 2 steps" in (tmp_path / "out/debug/table.md").read_text()
