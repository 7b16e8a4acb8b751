"""Sweeping what is read of a video model: every combination is measured, on the same clips and waypoints."""

import json
import shutil
from pathlib import Path

import pytest

from eval import sweep
from videopolicy.backbones import pipeline
from videopolicy.config import load
from videopolicy.errors import BadInput


@pytest.fixture
def any_length(pipeline_folder: Path, tmp_path: Path) -> Path:
    """A video model that says of no number of frames that it was made for it."""
    folder = tmp_path / "any"
    shutil.copytree(pipeline_folder, folder)
    (folder / pipeline.PURPOSE).unlink()
    return folder


def run(model: Path, data: Path, output: Path, *more: str) -> list[dict]:
    arguments = ["--model", str(model), "--data.root", str(data), "--data.n_val_episodes", "1", "--output", str(output)]
    small = [
        "--grid",
        "8",
        "--n_clips",
        "6",
        "--n_val",
        "4",
        "--n_steps",
        "3",
        "--n_threads",
        "1",
        "--image_size",
        "[64, 64]",
    ]
    return sweep.main(load(sweep.Config, [*arguments, *small, *more]))


def test_every_combination_is_a_row(any_length: Path, written_dataset: Path, tmp_path: Path) -> None:
    """The best first, in a table and a file; repeated, the same numbers."""
    choices = ["--blocks", "[[0], [0, 1]]", "--sigmas", "[200.0, 20.0]", "--frames", "[3, 4]"]
    rows = run(any_length, written_dataset, tmp_path / "out", *choices)
    found = {(tuple(r["blocks"]), r["sigma"], r["frames"]) for r in rows}
    assert found == {(b, s, f) for b in ((0,), (0, 1)) for s in (200.0, 20.0) for f in (3, 4)}
    assert len(rows) == 8
    assert [r["position_mm"] for r in rows] == sorted(r["position_mm"] for r in rows)
    assert len({r["position_mm"] for r in rows}) > 4  # what is read makes a difference
    assert json.loads((tmp_path / "out/sweep.json").read_text())["rows"] == rows
    lines = (tmp_path / "out/sweep.md").read_text().splitlines()
    assert len(lines) == 2 + 8
    blocks = ", ".join(map(str, rows[0]["blocks"]))
    assert lines[2].startswith(
        f"| {blocks} | {rows[0]['sigma']:g} | {rows[0]['frames']} | {rows[0]['position_mm']:.1f}"
    )
    again = run(any_length, written_dataset, tmp_path / "again", *choices)
    assert again == rows


@pytest.mark.parametrize(
    ("option", "words"),
    [
        (["--blocks", "[[0, 2]]"], r"feature_blocks is \(0, 2\); allowed: 0 to 1"),
        (["--sigmas", "[800.0]"], r"sigmas has 800.0; allowed: 0.002 to 700"),
        (["--frames", "[]"], "frames is empty; allowed: at least one to try"),
        (["--frames", "[3]"], "frames has 3, but .* was made for clips of 4"),
        (["--blocks", "[[0], []]"], r"allowed: sets of at least one block"),
        (["--lr", "0"], r"lr is 0.0; allowed: above 0 to 1"),
        (["--n_val", "0"], "n_val is 0; allowed: at least 1"),
    ],
)
def test_what_cannot_be_swept_is_named(
    pipeline_folder: Path, written_dataset: Path, tmp_path: Path, option: list[str], words: str
) -> None:
    with pytest.raises(BadInput, match=words):
        run(pipeline_folder, written_dataset, tmp_path / "out", "--blocks", "[[0]]", "--frames", "[4]", *option)
    assert not (tmp_path / "out/sweep.json").exists()
