"""What a number was made with: the repository's commit where there is one, and no failure where there is none."""

import subprocess
from pathlib import Path

import pytest

from videopolicy import provenance


def test_it_is_the_repositorys_commit() -> None:
    head = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    assert head.startswith(provenance.commit().removesuffix("-dirty"))
    assert set(provenance.provenance()) == {"versions", "commit", "machine"}


def test_without_git_it_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert provenance.commit() == "unknown"
    monkeypatch.undo()
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "provenance.py"))
    assert provenance.commit() == "unknown"
