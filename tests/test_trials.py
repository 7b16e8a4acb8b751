"""Trials on the twin: the best of plans succeeds, nothing is run twice, and the table is of what was run."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import twins
import yaml
from flows import config
from PIL import Image

from robot import show, summary, trials, truth
from robot.settings import read_settings
from train_stages import light
from videopolicy.config import to_dict
from videopolicy.data.files import append_jsonl, read_jsonl
from videopolicy.errors import BadInput
from videopolicy.provenance import commit
from videopolicy.rates import wilson95


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trials")
    settings = twins.settings(folder)
    (folder / "robot.yaml").write_text(yaml.safe_dump(to_dict(settings)))
    return folder


def call(monkeypatch: pytest.MonkeyPatch, module: object, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["program", *map(str, arguments)])
    module.main()  # type: ignore[attr-defined]


def given(folder: Path, **changed: object) -> list[object]:
    options = {"policy": "oracle", "condition": "new_environment", "n": 2, "robot": folder / "robot.yaml"}
    options |= {"output": folder / "trials", "eeprom": folder / "twin/eeprom"} | changed
    return [word for name, value in options.items() for word in (f"--{name}", value)]


def test_the_oracle_puts_every_cup_on_its_saucer(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """Through the serial port, by the executor that policies have; the same command goes on where it stopped."""
    call(monkeypatch, trials, *given(folder, n=1))
    path = folder / "trials/new_environment/oracle.jsonl"
    (first,) = read_jsonl(path)
    assert first["place"]
    assert first["grasp"]
    assert first["n_held"] == 0
    assert first["commit"] == commit()
    assert 5 < first["seconds"] < 15
    with Image.open(path.with_suffix(".jpg")) as sheet:
        assert sheet.height == 120 // 4 + 8
        assert sheet.getpixel((1, 1))[1] > 100  # the green of what was placed
    call(monkeypatch, trials, *given(folder))
    lines = read_jsonl(path)
    assert [line["episode"] for line in lines] == [0, 1]
    assert lines[0] == first
    assert lines[1]["place"]
    capsys.readouterr()
    call(monkeypatch, trials, *given(folder))
    assert "all 2 episodes are there" in capsys.readouterr().out
    path.write_text("")
    path.with_suffix(".jpg").unlink()
    call(monkeypatch, trials, *given(folder, n=1, n_shown=0))
    assert not path.with_suffix(".jpg").exists()
    (again,) = read_jsonl(path)
    assert {**again, "wall_s": 0} == {**first, "wall_s": 0}  # in lockstep outcomes are the same to the last digit


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"condition": "at_night"}, "--condition is 'at_night'; allowed: 'in_distribution', 'new_viewpoint'"),
        ({"n": 0}, "--n is 0; allowed: at least 1"),
        ({"n_shown": -1}, "--n_shown is -1; allowed: from 0 on"),
        ({"policy": "para"}, "--policy is 'para'; allowed: name=run, or oracle"),
        ({"policy": "../para=nowhere"}, "--policy is '../para=nowhere'; allowed: name=run"),
        ({"policy": "para=nowhere"}, "no run nowhere; allowed: a folder of"),
        ({"robot": "configs/robot_so100.yaml"}, "is of no twin; at a real arm: python -m robot.run"),
        ({"robot": "nowhere.yaml"}, "no configuration file nowhere.yaml"),
        ({"eeprom": "nowhere"}, "no nowhere"),
    ],
)
def test_what_is_wrong_is_named(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: dict, words: str
) -> None:
    with pytest.raises(BadInput, match=words):
        call(monkeypatch, trials, *given(folder, output=tmp_path, **changed))


def lines(path: Path, n: int, n_placed: int, n_grasped: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    for i in range(n):
        append_jsonl(
            path, {"episode": i, "place": i < n_placed, "grasp": i < n_grasped, "mode": "run", "commit": "c0ffee1"}
        )


def test_the_summary_is_of_what_was_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    lines(tmp_path / "trials/in_distribution/para.jsonl", 40, 37, 39)
    lines(tmp_path / "trials/new_viewpoint/regression.jsonl", 40, 0, 2)
    error = {"position_mm": 0.4, "rotation_deg": 0.03, "reprojection_px": 0.35}
    (tmp_path / "calibration_error.json").write_text(json.dumps(error))
    call(monkeypatch, summary, tmp_path)
    found = json.loads((tmp_path / "summary.json").read_text())
    first, second = found["rows"]
    assert (first["condition"], first["policy"], first["n"]) == ("in_distribution", "para", 40)
    assert (first["place"], first["grasp"], first["paper"]) == (92.5, 97.5, 97)
    assert first["wilson95"] == list(wilson95(37, 40))
    assert (second["place"], second["paper"]) == (0.0, 0)
    assert found["calibration"] == {"first": error}
    page = (tmp_path / "report.html").read_text()
    for words in ("<b>92.5</b>", "new viewpoint", "0.40 mm", "published, real arm"):
        assert words in page
    assert "in_distribution         para" in capsys.readouterr().out
    assert found["oracle"] == []
    assert found["rolled_out_at"] == ["c0ffee1"]
    assert found["sensitivity"] == {}
    assert "has not been run (robot.trials --policy oracle)" in page
    assert "<td>coordinate regression</td>" in page
    lines(tmp_path / "trials/in_distribution/para.jsonl", 1, 1, 1)
    with pytest.raises(BadInput, match=r"para\.jsonl has 41 lines of 40 episodes; remove it"):
        call(monkeypatch, summary, tmp_path)
    with pytest.raises(BadInput, match="no trials in"):
        call(monkeypatch, summary, tmp_path / "empty")


def test_the_report_has_what_bounds_every_policy(
    folder: Path, written_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The oracle's rate, in no policy's row, and what errors cost before the camera, where it is and moved."""
    lines(tmp_path / "trials/in_distribution/para.jsonl", 2, 1, 2)
    lines(tmp_path / "trials/in_distribution/oracle.jsonl", 40, 39, 40)
    whole = json.loads((folder / "calibration.json").read_text())
    (tmp_path / "calibration.json").write_text(json.dumps(whole))
    near = np.array(whole["camera"]["T"])[:3, 3] / 2  # the arm's base is the origin
    whole["camera"]["T"] = [[*row[:3], x] for row, x in zip(whole["camera"]["T"], [*near, 1.0], strict=True)]
    (tmp_path / "calibration_moved.json").write_text(json.dumps(whole))
    light.main(config(light.Config, "light", run=tmp_path / "para", data__root=written_dataset, train__n_steps=1))
    call(monkeypatch, summary, tmp_path)
    found = json.loads((tmp_path / "summary.json").read_text())
    assert [(r["policy"], r["n"], r["place"]) for r in found["rows"]] == [("para", 2, 50.0)]
    assert [(r["policy"], r["n"], r["place"]) for r in found["oracle"]] == [("oracle", 40, 97.5)]
    moves = {(r["camera"], r["cause"]): r["mean_mm"] for r in found["sensitivity"]["rows"]}
    assert {camera for camera, _ in moves} == {"first", "moved"}
    for cause in ("one pixel to the right", "one pixel down"):  # of pictures of 64 pixels, from half as far
        assert 4 < moves["first", cause] < 60
        assert moves["moved", cause] < 0.75 * moves["first", cause]
    page = (tmp_path / "report.html").read_text()
    for words in ("The row oracle is a person", "<td>oracle</td>", "camera pitched by 1 degree"):
        assert words in page


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("calibration_error.json", '{"position_mm": 0.4}', r"cannot read .*calibration_error\.json: KeyError"),
        ("calibration_moved_error.json", "[1, 2]", r"calibration_moved_error\.json"),
        ("steps.jsonl", '{"name": "camera", "status": 0}\n', r"cannot read .*steps\.jsonl: KeyError: 'seconds'"),
    ],
)
def test_what_the_summary_cannot_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: str, words: str
) -> None:
    lines(tmp_path / "trials/in_distribution/para.jsonl", 2, 1, 1)
    (tmp_path / name).write_text(text)
    with pytest.raises(BadInput, match=words):
        call(monkeypatch, summary, tmp_path)
    assert not (tmp_path / "summary.json").exists()


def test_a_calibration_that_is_off_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    call(monkeypatch, truth, folder / "robot.yaml", "--output", tmp_path / "error.json")
    assert json.loads((tmp_path / "error.json").read_text())["position_mm"] < 1e-6
    whole = json.loads((folder / "calibration.json").read_text())
    whole["camera"]["T"][0][3] += 0.004
    (tmp_path / "calibration.json").write_text(json.dumps(whole))
    entry = to_dict(read_settings(folder / "robot.yaml")) | {"calibration": str(tmp_path / "calibration.json")}
    (tmp_path / "robot.yaml").write_text(yaml.safe_dump(entry))
    with pytest.raises(BadInput, match=r"the camera is 4\.0 mm and 0\.00 deg off; allowed: 3 mm, 0\.5 deg"):
        call(monkeypatch, truth, tmp_path / "robot.yaml")
    with pytest.raises(BadInput, match=r"is of no twin; at a real arm: python -m robot\.record"):
        call(monkeypatch, show, "--robot", "configs/robot_so100.yaml", "--output", tmp_path / "data")
