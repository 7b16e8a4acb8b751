"""What a policy saw and said: kept as it was, whole or not at all, and never at the expense of who keeps it."""

import json
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import looks
import numpy as np
import pytest

from robot.pictures import WAITING, Pictures, files, read
from videopolicy.errors import BadInput


def kept(folder: Path, *which: looks.Look) -> list[Path]:
    with Pictures(folder) as pictures:
        for look in which:
            pictures.add(look)
    return files(folder)


def test_they_are_kept_as_they_were(tmp_path: Path) -> None:
    expected = [looks.look(0), looks.look(1)]
    paths = kept(tmp_path, *expected)
    assert [path.name for path in paths] == ["000000.json", "000001.json"]
    for look, path in zip(expected, paths, strict=True):
        found = read(path)
        assert (found.captured, found.came, found.table) == (look.captured, look.came, look.table)
        a, b = found.observation, look.observation
        assert np.abs(a.image.astype(int) - b.image).mean() < 3
        np.testing.assert_array_equal(a.camera.T_world_cam, b.camera.T_world_cam)
        np.testing.assert_array_equal(a.camera.K, b.camera.K)
        np.testing.assert_array_equal(a.ee_position, b.ee_position)
        assert (a.gripper, a.time) == (b.gripper, b.time)
        np.testing.assert_array_equal(found.chunk.position, look.chunk.position)
        np.testing.assert_array_equal(found.chunk.gripper, look.chunk.gripper)
        np.testing.assert_array_equal(found.chunk.heatmaps, look.chunk.heatmaps)


def test_those_of_an_earlier_run_stay(tmp_path: Path) -> None:
    """A picture without its JSON, of a program that was killed, is none and is written over."""
    kept(tmp_path, looks.look(0))
    (tmp_path / "pictures/000001.jpg").write_bytes(b"half")
    (tmp_path / "pictures/000001.png").write_bytes(b"half")
    assert len(files(tmp_path)) == 1
    first, second = kept(tmp_path, looks.look(1, heatmaps=False))
    assert read(first).captured == looks.look(0).captured
    assert read(second).captured == looks.look(1).captured
    assert read(second).chunk.heatmaps is None


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-50])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def narrow(path: Path) -> None:
    entry = json.loads(path.read_text())
    entry["observation"]["size"] = [32, 64]
    path.write_text(json.dumps(entry))


@pytest.mark.parametrize(
    ("name", "damage", "words"),
    [
        ("000000.jpg", cut, r"000000\.jpg: it is not as it was written"),
        ("000000.jpg", flip, r"000000\.jpg: it is not as it was written"),
        ("000000.png", flip, r"000000\.png: it is not as it was written"),
        ("000000.jpg", Path.unlink, r"cannot read .*000000\.jpg: No such file or directory"),
        ("000000.json", cut, r"cannot read .*000000\.json: JSONDecodeError"),
        ("000000.json", narrow, r"cannot read .*000000\.json: ValueError: cannot reshape"),
    ],
)
def test_damage_is_named(tmp_path: Path, name: str, damage: Callable[[Path], None], words: str) -> None:
    (path,) = kept(tmp_path, looks.look(0))
    damage(tmp_path / "pictures" / name)
    with pytest.raises(BadInput, match=words):
        read(path)


def on_no_disk(folder: Path) -> Pictures:
    """Where its folder was is a file."""
    pictures = Pictures(folder)
    shutil.rmtree(pictures.folder)
    pictures.folder.touch()
    return pictures


def test_a_disk_that_fails_is_said_once(tmp_path: Path) -> None:
    words = r"cannot write .*000000\.jpg: "
    slow = threading.Event()
    with on_no_disk(tmp_path / "a") as pictures:
        pictures._thread.submit(slow.wait)  # or the second would be told of the first
        pictures.add(looks.look(0))
        pictures.add(looks.look(1))
        slow.set()
        pictures._thread.submit(int).result()  # both have been tried
        with pytest.raises(BadInput, match=words):
            pictures.add(looks.look(2))
    with pytest.raises(BadInput, match=words), on_no_disk(tmp_path / "b") as pictures:
        pictures.add(looks.look(0))


def test_nobody_waits_for_a_slow_disk(tmp_path: Path) -> None:
    slow = threading.Event()
    with Pictures(tmp_path) as pictures:
        pictures._thread.submit(slow.wait)
        for i in range(WAITING):
            pictures.add(looks.look(i))
        with pytest.raises(BadInput, match=r"8 pictures wait to be written to .*pictures: is the disk too slow\?"):
            pictures.add(looks.look(WAITING))
        slow.set()
    assert len(files(tmp_path)) == WAITING
