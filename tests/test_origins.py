"""Whoever lacks a dataset of ours is told what makes it, and that does."""

from pathlib import Path

import pytest
import yaml
from commands import check, words_of
from documents import ROOT

from videopolicy.data.lerobot import Dataset
from videopolicy.data.origins import MADE_BY
from videopolicy.errors import BadInput

CONFIGS = [yaml.safe_load(path.read_text()) for path in sorted((ROOT / "configs").rglob("*.yaml"))]
READ = {values["data"]["root"] for values in CONFIGS if "root" in (values.get("data") or {})}


@pytest.mark.parametrize("root", sorted(READ | set(MADE_BY)))
def test_the_command_makes_what_is_missing(root: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of every dataset that a shipped configuration reads, named from here or by its whole path."""
    check(command := MADE_BY[root])
    *_, last = words_of(command)
    if last.endswith(".yaml"):
        assert yaml.safe_load((ROOT / last).read_text())["output"] == root
    monkeypatch.chdir(tmp_path)
    for path in (Path(root), tmp_path / root):
        with pytest.raises(BadInput) as caught:
            Dataset(path)
        said = str(caught.value)
        assert said == f"no LeRobot dataset at {path}: meta/info.json is missing; this makes it: {command}"


def test_of_others_data_nothing_is_said(tmp_path: Path) -> None:
    for path in (tmp_path, Path("data/mine"), tmp_path / "data/grid"):
        with pytest.raises(BadInput, match=r"meta/info\.json is missing$"):
            Dataset(path)
