"""A run's folder as a Rerun recording, read back; and what is wrong with a folder, in one line."""

import io
import sys
from pathlib import Path
from typing import Any

import looks
import numpy as np
import pytest
from PIL import Image

from robot import timeline
from robot.kinematics import Kinematics
from videopolicy.errors import BadInput


@pytest.fixture(scope="module")
def rerun() -> Any:
    return pytest.importorskip("rerun", reason="Rerun is not installed: pip install -e '.[rerun]' -c constraints.txt")


class Recording:
    """What Rerun reads in a file."""

    def __init__(self, rerun: Any, path: Path) -> None:
        self.reader = rerun.chunk.RrdReader(path)
        self.chunks = list(self.reader.stream())

    def rows(self, entity: str, component: str) -> list[tuple[float, list]]:
        """Moments [s] and values of what is logged in time."""
        found = []
        for chunk in self.chunks:
            if chunk.entity_path == f"/{entity}" and not chunk.is_static:
                batch = chunk.to_record_batch()
                if component in batch.schema.names:
                    seconds = batch["time"].cast("int64").to_numpy() / 1e9
                    found += zip(seconds.tolist(), batch[component].to_pylist(), strict=True)
        return sorted(found, key=lambda row: row[0])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("log")
    looks.write(folder, n_pictures=3)
    return folder


@pytest.fixture(scope="module")
def recording(folder: Path, rerun: Any) -> Recording:
    assert timeline.make(folder, folder / "recording.rrd") == (looks.N_TICKS, 3)
    return Recording(rerun, folder / "recording.rrd")


def test_pictures_lie_before_their_cameras(recording: Recording, folder: Path) -> None:
    """As they were kept, to the byte, at the moments that they were taken."""
    rows = recording.rows("base/world/camera/picture", "EncodedImage:blob")
    assert [moment for moment, _ in rows] == pytest.approx([0.1, 0.9, 1.7])
    for i, (_, (blob,)) in enumerate(rows):
        assert bytes(blob) == (folder / f"pictures/{i:06d}.jpg").read_bytes()
    camera = looks.look(0).observation.camera
    ((_, (K,)), *_) = recording.rows("base/world/camera", "Pinhole:image_from_camera")
    np.testing.assert_allclose(np.reshape(K, (3, 3)).T, camera.K, rtol=1e-6)
    ((_, (place,)), *_) = recording.rows("base/world/camera", "Transform3D:translation")
    np.testing.assert_allclose(place, camera.position, rtol=1e-6)
    ((_, (turn,)), *_) = recording.rows("base/world/camera", "Transform3D:mat3x3")
    np.testing.assert_allclose(np.reshape(turn, (3, 3)).T, camera.T_world_cam[:3, :3], atol=1e-6)
    ((_, (up,)), *_) = recording.rows("base/world", "Transform3D:translation")
    np.testing.assert_allclose(up, [0, 0, looks.TABLE])


def test_heatmaps_lie_over_their_pictures(recording: Recording) -> None:
    """Clear where nothing is likely; each step where it was likely, from yellow to magenta."""
    rows = recording.rows("base/world/camera/heatmaps", "EncodedImage:blob")
    assert [moment for moment, _ in rows] == pytest.approx([0.1, 0.9, 1.7])
    pixels = np.asarray(Image.open(io.BytesIO(bytes(rows[0][1][0]))))
    assert pixels.shape == (looks.SIDE, looks.SIDE, 4)
    rows_, cols = ((np.arange(looks.N_STEPS) + 0.5) * looks.SIDE / n for n in looks.GRID)
    hot = pixels[rows_.astype(int), cols.astype(int)]
    assert (hot[:, 3] > 200).all()
    assert hot[0, :3].tolist() == [255, 220, 0]
    assert hot[-1, :3].tolist() == [230, 0, 200]
    assert pixels[0, -1, 3] == pixels[-1, 0, 3] == 0


def test_waypoints_come_when_the_policy_had_thought(recording: Recording) -> None:
    rows = recording.rows("base/world/waypoints", "Points3D:positions")
    assert [moment for moment, _ in rows] == pytest.approx([0.2, 1.0, 1.8])
    for i, (_, points) in enumerate(rows):
        np.testing.assert_allclose(points, looks.look(i).chunk.position, atol=1e-6)
    ((_, colours), *_) = recording.rows("base/world/waypoints", "Points3D:colors")
    assert [f"{colours[i]:08x}" for i in (0, -1)] == ["dc3c28ff", "28aa46ff"]  # closed, open
    ((_, lines), *_) = recording.rows("base/world/way", "LineStrips3D:strips")
    way = looks.look(0).chunk.position
    np.testing.assert_allclose(lines, np.stack([way[:-1], way[1:]], 1), atol=1e-6)


def test_the_arm_is_where_its_joints_were(recording: Recording) -> None:
    last = looks.tick(looks.N_TICKS - 1)
    end = (looks.N_TICKS - 1) / looks.RATE
    rows = recording.rows("position", "Scalars:scalars")
    assert len(rows) == looks.N_TICKS
    assert rows[-1] == (pytest.approx(end), last.position)
    assert recording.rows("goal", "Scalars:scalars")[-1][1] == last.goal
    assert np.isnan(recording.rows("goal", "Scalars:scalars")[2][1]).all()
    assert recording.rows("load", "Scalars:scalars")[-1][1] == last.load
    assert recording.rows("opening", "Scalars:scalars")[-1][1] == [0.5]
    rows = recording.rows("base/arm", "LineStrips3D:strips")
    assert len(rows) == looks.N_TICKS
    moment, (strip,) = rows[-1]
    assert moment == pytest.approx(end)
    np.testing.assert_allclose(strip, Kinematics().joints(np.array(last.position)), atol=1e-6)
    targets = recording.rows("base/target", "Points3D:positions")
    assert [len(points) for _, points in targets] == [0] * 10 + [1] * (looks.N_TICKS - 10)


def test_words_stand_where_they_change(recording: Recording) -> None:
    rows = recording.rows("mode", "TextLog:text")
    assert rows == [(0.0, ["hold: no waypoint for 0.0 s"]), (pytest.approx(0.2), ["run"])]
    levels = [level for _, (level,) in recording.rows("mode", "TextLog:level")]
    assert levels == ["WARN", "INFO"]


def test_there_is_one_timeline(recording: Recording) -> None:
    assert {name for chunk in recording.chunks for name in chunk.timeline_names} == {"time"}
    assert len(recording.reader.recordings()) == len(recording.reader.blueprints()) == 1


def test_without_pictures_there_is_the_arm(
    tmp_path: Path, rerun: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    looks.write(tmp_path, n_pictures=0)
    monkeypatch.setattr(sys, "argv", ["timeline", str(tmp_path)])
    timeline.main()
    path = tmp_path / "recording.rrd"
    assert capsys.readouterr().out == f"{path}: {looks.N_TICKS} ticks, 0 pictures; to look at it: rerun {path}\n"
    found = Recording(rerun, path)
    assert len(found.rows("base/arm", "LineStrips3D:strips")) == looks.N_TICKS
    assert not [chunk for chunk in found.chunks if chunk.entity_path.startswith("/base/world")]


def test_what_is_damaged_is_named(tmp_path: Path, rerun: Any) -> None:
    """And a recording that is there stays as it was."""
    looks.write(tmp_path, n_pictures=2)
    output = tmp_path / "there.rrd"
    output.write_bytes(b"an older one")
    jpeg, table = tmp_path / "pictures/000001.jpg", tmp_path / "telemetry_001.parquet"
    for path, words in (
        (jpeg, rf"^{jpeg}: it is not as it was written$"),
        (table, rf"^cannot read {table}: "),
    ):
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
        with pytest.raises(BadInput, match=words):
            timeline.make(tmp_path, output)
        path.write_bytes(whole)
    assert output.read_bytes() == b"an older one"
    with pytest.raises(BadInput, match=r"cannot write .*there\.rrd/recording\.rrd: "):
        timeline.make(tmp_path, output / "recording.rrd")
    with pytest.raises(BadInput, match=r"--output is the folder .*; allowed: a file"):
        timeline.make(tmp_path, tmp_path)
    timeline.make(tmp_path, output)
    assert len(Recording(rerun, output).rows("base/world/camera/picture", "EncodedImage:blob")) == 2


def test_a_folder_without_telemetry_is_none(tmp_path: Path) -> None:
    words = r"no telemetry in .*; allowed: a folder of robot\.run, as runs/robot/<date>"
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(BadInput, match=words):
            timeline.make(folder, tmp_path / "recording.rrd")


def test_without_rerun_it_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rerun", None)
    monkeypatch.setattr(sys, "argv", ["timeline", str(tmp_path)])
    with pytest.raises(BadInput, match=r"which is not installed: pip install -e '\.\[rerun\]' -c constraints\.txt$"):
        timeline.main()
