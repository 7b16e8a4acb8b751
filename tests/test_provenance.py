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


def test_the_code_is_identified_by_what_it_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a module and all that it imports of the project: not by comments, docstrings or what stands elsewhere."""
    (tmp_path / "a").mkdir()
    for name, text in (("a/__init__", ""), ("a/b", "x = 1\n"), ("a/c", "x = 1\n")):
        (tmp_path / f"{name}.py").write_text(text)
    (tmp_path / "top.py").write_text("import json\nfrom a import b\n\n\ndef f():\n    return b.x\n")
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "a/provenance.py"))
    digest = provenance.code_digest("top")
    for file, text, same in (
        (
            "top",
            '"""Said."""\nimport json\nfrom a import b\n\n\ndef f():\n    """Too."""\n    return b.x  #\n',
            True,
        ),
        ("a/c", "x = 2\n", True),
        ("a/b", "x = 2\n", False),
        ("top", "import json\nfrom a import b\n\n\ndef f():\n    return -b.x\n", False),
    ):
        before = (tmp_path / f"{file}.py").read_text()
        (tmp_path / f"{file}.py").write_text(text)
        assert (provenance.code_digest("top") == digest) is same
        (tmp_path / f"{file}.py").write_text(before)
    assert provenance.code_digest("top") == digest
