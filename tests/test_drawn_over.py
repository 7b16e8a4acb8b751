"""Recorded pictures drawn over: the robot gone, the circle in its place, all else as it was, and faults named."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import builders
import numpy as np
import pytest
from PIL import Image

from eval import overlay
from eval.overlay import Config
from videopolicy.config import load
from videopolicy.data import doctor
from videopolicy.data.dataset import ClipDataset
from videopolicy.data.lerobot import Dataset
from videopolicy.data.overlay import CircleConfig
from videopolicy.data.recording import Writer
from videopolicy.data.video import write_video
from videopolicy.errors import BadInput

SIDE, ORANGE = 64, (255, 128, 0)
CIRCLE = CircleConfig(radius=0.08)


def path_of(number: int, n: int) -> np.ndarray:
    """Pixels of the arm, a disc of radius 4 in the pictures."""
    return builders.agentview(SIDE).project(builders.episode(number, n, SIDE).state[:, :3])


def disc(pixel: np.ndarray, radius: float = 5.5) -> np.ndarray:
    v, u = np.mgrid[0:SIDE, 0:SIDE] + 0.5
    return np.hypot(u - pixel[0], v - pixel[1]) <= radius


def save_masks(folder: Path, name: str, pixels: np.ndarray) -> None:
    (folder / name).mkdir(parents=True)
    for i, pixel in enumerate(pixels):
        Image.fromarray(disc(pixel).astype(np.uint8) * 255).save(folder / name / f"{i:06d}.png")


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """A dataset of three episodes, and masks of its arm."""
    root = builders.write_dataset(tmp_path / "recorded")
    for i, n in enumerate(builders.LENGTHS):
        save_masks(tmp_path / "masks", f"episode_{i:06d}", path_of(i, n))
    return Config(root, tmp_path / "circles", tmp_path / "masks", circle=CIRCLE)


@pytest.fixture
def videos(tmp_path: Path) -> Config:
    """Two videos at 8 frames a second, their masks, and points that a tracker has written."""
    lines = []
    for i, (name, n) in enumerate((("left", 12), ("right", 9))):
        (tmp_path / "videos").mkdir(exist_ok=True)
        write_video(tmp_path / f"videos/{name}.mp4", builders.episode(i, n, SIDE).frames, 8)
        pixels = path_of(i, n)
        save_masks(tmp_path / "masks", name, pixels)
        lines.append({"episode": name, "points": [None if j == 2 else p.tolist() for j, p in enumerate(pixels)]})
    points = tmp_path / "points.jsonl"
    points.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return Config(tmp_path / "videos", tmp_path / "hands", tmp_path / "masks", points, circle=CIRCLE, task="wave")


def check_pictures(frames: np.ndarray, pixels: np.ndarray) -> None:
    """The background, and on it a circle at each pixel that is seen; what the video's coding does is allowed for."""
    plain = builders.background(SIDE).astype(int)
    for frame, pixel in zip(frames.astype(int), pixels, strict=True):
        assert np.abs(frame - plain)[~disc(pixel, 8.0)].mean() < 4
        assert np.percentile(np.abs(frame - plain)[~disc(pixel, 8.0)], 99) < 25
        orange = np.abs(frame - ORANGE).max(-1) < 70
        if np.isnan(pixel).any():
            assert not orange.any()
        else:
            assert orange.sum() == pytest.approx(np.pi * (0.08 * SIDE) ** 2, rel=0.3)
            assert np.hypot(*(np.argwhere(orange).mean(0)[::-1] + 0.5 - pixel)) < 0.7


def test_the_arm_is_gone_and_a_circle_where_it_was(config: Config) -> None:
    assert overlay.main(config) == {"episodes": 3, "new": 3}
    before, after = Dataset(config.input), Dataset(config.output)
    for e, n in enumerate(builders.LENGTHS):
        check_pictures(after.frames(e), path_of(e, n))
        np.testing.assert_array_equal(after.state(e), before.state(e))
        np.testing.assert_array_equal(after.action(e), before.action(e))
        extra = {"source": f"episode_{e:06d}", "circle": {"radius": 5.12, "colour": list(ORANGE)}}
        assert after.extras()[e] == before.extras()[e] | extra
    said = {"kind": "circle", "robot": "masked", "radius": 0.08, "colour": [255, 128, 0], "radius_jitter": 0.0}
    assert after.overlay == said | {"colour_jitter": 0, "pixel_jitter": 0.0, "apart": 40}
    assert after.rows[0]["tasks"] == before.rows[0]["tasks"]
    assert after.info["robot_type"] == "panda"
    assert doctor.main(config.output).sound
    assert "| drawn over the pictures | circle, robot masked |" in (config.output / "README.md").read_text()


def test_the_same_command_goes_on_where_it_stopped(config: Config, tmp_path: Path) -> None:
    mask = tmp_path / "masks/episode_000002/000001.png"
    kept = mask.read_bytes()
    mask.unlink()
    with pytest.raises(BadInput, match=r"episode_000002 holds 4 masks"):
        overlay.main(config)
    mask.write_bytes(kept)
    assert overlay.main(config) == {"episodes": 3, "new": 1}
    assert overlay.main(config) == {"episodes": 3, "new": 0}
    whole = replace(config, output=tmp_path / "whole")
    overlay.main(whole)
    assert Dataset(config.output).digest == Dataset(whole.output).digest


def test_moving_cameras_and_rotations_are_kept(config: Config, tmp_path: Path) -> None:
    camera = builders.agentview(SIDE)
    writer = Writer(tmp_path / "moving", builders.FPS, "agentview", camera, "line", moving=True, rotations=True)
    plain = builders.background(SIDE)
    shown = builders.discs(plain, camera.project(builders.MARKERS))
    writer.write_markers(builders.MARKERS, shown, plain)
    for i, n in enumerate(builders.LENGTHS):
        one = builders.episode(i, n, SIDE)
        extra = one.extra | {"camera": camera.to_json()}
        writer.append(replace(one, extra=extra, rotation=np.full((n, 3), 0.1 * i)))
    overlay.main(replace(config, input=writer.root))
    data = Dataset(config.output)
    assert data.moving
    np.testing.assert_allclose(data.camera_of(2).T_world_cam, camera.T_world_cam)
    np.testing.assert_allclose(data.rotation(2), 0.2, rtol=1e-6)


def test_points_take_the_place_of_positions(config: Config, tmp_path: Path) -> None:
    """What the points say is what is drawn and learned, and no 3-D contradicts it."""
    points = tmp_path / "points.jsonl"
    shifted = [path_of(i, n) + [3.0, -2.0] for i, n in enumerate(builders.LENGTHS)]
    lines = [{"episode": f"episode_{i:06d}", "points": p.tolist()} for i, p in enumerate(shifted)]
    points.write_text("".join(json.dumps(line) + "\n" for line in lines))
    overlay.main(replace(config, points=points))
    data = Dataset(config.output)
    assert data.tracked
    for e, pixels in enumerate(shifted):
        np.testing.assert_allclose(data.track(e), pixels, rtol=1e-6)
        check_pictures(data.frames(e), pixels)
        assert data.extras()[e]["number"] == e


def test_plain_videos_with_points_become_a_dataset(videos: Config) -> None:
    """Every other frame of 8 a second; the point that is not visible has no circle and is no label."""
    assert overlay.main(videos) == {"episodes": 2, "new": 2}
    data = Dataset(videos.output)
    assert (data.tracked, data.fps, data.info["robot_type"], data.key) == (True, 4, "video", "observation.images.video")
    assert data.rows[0]["tasks"] == ["wave"]
    assert [data.length(e) for e in (0, 1)] == [6, 5]
    for e, n in enumerate((12, 9)):
        pixels = path_of(e, n)[::2]
        pixels[1] = np.nan
        np.testing.assert_allclose(data.track(e), pixels, rtol=1e-6)
        check_pictures(data.frames(e), pixels)
    assert [e["source"] for e in data.extras()] == ["left", "right"]
    sample = ClipDataset(data, [0, 1], 1, 3, (32, 32), 1.0)[0]
    assert sample["valid"].tolist() == [False, True, True]
    np.testing.assert_allclose(sample["pixel"][1], path_of(0, 12)[4] / 2, rtol=1e-5)
    assert doctor.main(videos.output).sound
    assert overlay.main(videos)["new"] == 0


def test_a_dataset_of_tracks_is_drawn_over_too(videos: Config, tmp_path: Path) -> None:
    """Points first, the rest later: the same as at once, but for one more coding of the video."""
    plain = replace(videos, overlay="none", masks=None, output=tmp_path / "plain")
    overlay.main(plain)
    assert Dataset(plain.output).overlay is None
    for e, name in enumerate(("left", "right")):
        pixels = path_of(e, (12, 9)[e])[::2]
        save_masks(tmp_path / "later", f"episode_{e:06d}", pixels)
        assert (tmp_path / "masks" / name).is_dir()
    overlay.main(replace(videos, input=plain.output, masks=tmp_path / "later", points=None))
    data = Dataset(videos.output)
    assert data.tracked
    pixels = path_of(0, 12)[::2]
    pixels[1] = np.nan
    check_pictures(data.frames(0), pixels)


def test_frames_of_other_rates_are_those_nearest_in_time(videos: Config) -> None:
    overlay.main(replace(videos, fps=3))
    data = Dataset(videos.output)
    pixels = path_of(0, 12)[[0, 3, 5, 8, 11]]
    np.testing.assert_allclose(data.track(0), pixels, rtol=1e-6)
    assert data.fps == 3


def test_pictures_may_be_filled_and_get_no_circle(config: Config) -> None:
    overlay.main(replace(config, overlay="none"))
    data = Dataset(config.output)
    assert data.overlay == {"kind": "none", "robot": "masked"}
    assert np.abs(data.frames(0).astype(int) - builders.background(SIDE)).mean() < 4


def test_what_cannot_be_drawn_over_is_said(config: Config, videos: Config, tmp_path: Path) -> None:
    for base, wrong, line in (
        (
            config,
            {"circle": CircleConfig(colour=(100, 110, 100))},
            r"colour \[100, 110, 100\] occurs in the pictures of",
        ),
        (config, {"grow": 0.2}, r"grow is 0\.2; allowed: 0 to 0\.1"),
        (config, {"masks": tmp_path / "none"}, r"episode_000000 holds 0 masks"),
        (config, {"input": tmp_path / "masks"}, r"masks is no dataset and holds no video; allowed: \.mp4"),
        (videos, {"points": None}, r"points is null, but .*videos holds videos, without cameras; allowed: a file of"),
        (videos, {"fps": 9}, r"fps is 9; allowed: 1 to the 8 of .*left\.mp4"),
        (videos, {"points": tmp_path / "none.jsonl"}, r"no file of points"),
    ):
        with pytest.raises(BadInput, match=line):
            overlay.main(replace(base, **wrong))
        assert not list(base.output.glob("data/**/*.parquet"))


def test_a_colour_of_a_later_episode_says_what_to_do_first(videos: Config) -> None:
    """The first episode is kept, and with it its circle's colour."""
    frames = builders.episode(1, 9, SIDE).frames
    frames[:, :4, :4] = ORANGE
    write_video(videos.input / "right.mp4", frames, 8)
    line = r"occurs in the pictures of right \(remove .*hands first: it has 1 with this colour\)"
    with pytest.raises(BadInput, match=line):
        overlay.main(videos)
    shutil.rmtree(videos.output)
    blue = CircleConfig(radius=0.08, colour=(0, 0, 255))
    assert overlay.main(replace(videos, circle=blue))["new"] == 2


def test_points_and_masks_that_do_not_fit_are_said(config: Config, videos: Config, tmp_path: Path) -> None:
    first, second = map(json.loads, videos.points.read_text().splitlines())
    second["points"].pop()
    videos.points.write_text(f"{json.dumps(first)}\n{json.dumps(second)}\n")
    with pytest.raises(BadInput, match=r"points\.jsonl: 'right' has 8 points, its video 9 frames; allowed: one"):
        overlay.main(videos)
    for elsewhere in ([None] * 9, [[9000.0, 20.0]] * 9, [[-1.0, 64.0]] * 9):
        lost = {"episode": "right", "points": elsewhere}
        videos.points.write_text(f"{json.dumps(first)}\n{json.dumps(lost)}\n")
        with pytest.raises(BadInput, match=r"none of the 9 points of 'right' is in its pictures of 64 x 64 pixels"):
            overlay.main(videos)
    lost = {"episode": "right", "points": [[i / 9, 0.5] for i in range(9)]}
    videos.points.write_text(f"{json.dumps(first)}\n{json.dumps(lost)}\n")
    with pytest.raises(BadInput, match=r"points\.jsonl: all points of 'right' are from 0 to 1; allowed: pixels, not"):
        overlay.main(videos)
    videos.points.write_text("")
    with pytest.raises(BadInput, match=r"points\.jsonl: it is empty; allowed: a line for each episode"):
        overlay.main(videos)
    videos.points.write_text(f"{json.dumps(first)}\n")
    with pytest.raises(BadInput, match=r"points\.jsonl: the points have no episode 'right'; they have left"):
        overlay.main(videos)
    assert not videos.output.exists()
    Image.fromarray(np.zeros((SIDE, SIDE), np.uint8)).save(tmp_path / "masks/episode_000001/000002.png")
    with pytest.raises(BadInput, match=r"masks of episode_000001 are empty in 1 frames .*, first in frame 2, at \["):
        overlay.main(config)
    for path in (tmp_path / "masks/episode_000001").iterdir():
        Image.fromarray(np.ones((SIDE, SIDE + 2), np.uint8)).save(path)
    with pytest.raises(BadInput, match=r"masks of episode_000001 are \(66, 64\) pixels, its pictures \(64, 64\)"):
        overlay.main(config)


def test_an_overlay_is_drawn_once_and_outputs_are_not_mixed(config: Config, videos: Config, tmp_path: Path) -> None:
    overlay.main(config)
    with pytest.raises(BadInput, match=r"circles has an overlay already, \{'kind': 'circle'.*; allowed: pictures as"):
        overlay.main(replace(config, input=config.output, output=tmp_path / "twice"))
    with pytest.raises(BadInput, match=r"circles was recorded with overlay .*'radius': 0\.08.* not .*'radius': 0\.03"):
        overlay.main(replace(config, circle=CircleConfig()))
    overlay.main(videos)
    shutil.move(videos.input / "left.mp4", videos.input / "middle.mp4")
    videos.points.write_text(videos.points.read_text().replace("left", "middle"))
    with pytest.raises(BadInput, match=r"hands holds left, right \.\.\., not middle, right"):
        overlay.main(videos)
    shutil.copy(videos.input / "middle.mp4", videos.input / "middle.mov")
    with pytest.raises(BadInput, match=r"middle\.mp4 has the name of .*middle\.mov"):
        overlay.main(videos)


def test_the_command_line_names_all_of_it() -> None:
    cfg = load(Config, ["--input", "a", "--masks", "b", "--points", "c.jsonl", "--overlay", "none", "--grow", "0"])
    assert cfg == Config(Path("a"), masks=Path("b"), points=Path("c.jsonl"), overlay="none", grow=0.0)
