"""Circles over pictures: where, how large, in which colour, and never in one that the scene has too."""

from pathlib import Path

import builders
import numpy as np
import pytest

from videopolicy.camera import Camera
from videopolicy.data.format import read_info
from videopolicy.data.overlay import Circle, CircleConfig, check_colour, draw_circle, overlaid
from videopolicy.data.recording import Writer
from videopolicy.errors import BadInput

ORANGE = (255, 128, 0)
GREY = np.full((1, 40, 60, 3), 90, np.uint8)


def still(radius: float = 6.0, n: int = 1) -> Circle:
    return Circle(radius, ORANGE, np.zeros((n, 2)))


def share(frame: np.ndarray) -> np.ndarray:
    """How much of each pixel the circle covers, read off the red channel."""
    return (frame[..., 0].astype(float) - 90) / 165


@pytest.mark.parametrize("pixel", [(30.0, 20.0), (17.3, 25.8), (30.5, 20.5)])
def test_a_circle_is_round_filled_soft_edged_and_where_it_should_be(pixel: tuple[float, float]) -> None:
    frame = overlaid(GREY, np.array([pixel]), still())[0]
    cover = share(frame)
    v, u = np.mgrid[0:40, 0:60] + 0.5
    distance = np.hypot(u - pixel[0], v - pixel[1])
    assert (frame[distance < 5.4] == ORANGE).all()
    assert (frame[distance > 6.6] == 90).all()
    assert cover.sum() == pytest.approx(np.pi * 36, rel=0.01)
    assert ((cover > 0.05) & (cover < 0.95)).sum() > 10
    assert (cover * u).sum() / cover.sum() == pytest.approx(pixel[0], abs=0.02)
    assert (cover * v).sum() / cover.sum() == pytest.approx(pixel[1], abs=0.02)


def test_pictures_are_left_as_they_are_but_for_it() -> None:
    frames = np.repeat(GREY, 2, 0)
    shown = overlaid(frames, np.array([[30.0, 20.0], [np.nan, np.nan]]), still(n=2))
    assert (frames == 90).all()
    assert (shown[0] != 90).any()
    assert (shown[1] == 90).all()


@pytest.mark.parametrize("pixel", [(-0.1, 20.0), (60.0, 20.0), (30.0, -0.1), (30.0, 40.0), (np.nan, np.nan)])
def test_there_is_no_circle_of_what_is_outside_the_picture(pixel: tuple[float, float]) -> None:
    assert (overlaid(GREY, np.array([pixel]), still()) == 90).all()


@pytest.mark.parametrize("pixel", [(0.0, 0.0), (59.9, 39.9), (0.0, 39.9)])
def test_a_circle_at_the_edge_is_cut_by_it(pixel: tuple[float, float]) -> None:
    cover = share(overlaid(GREY, np.array([pixel]), still())[0])
    assert cover.sum() == pytest.approx(np.pi * 36 / 4, rel=0.05)


def test_what_is_behind_the_camera_gets_no_circle(camera: Camera) -> None:
    """Its mirror image through the optical centre would be inside."""
    seen = camera.position + 0.9 * camera.T_world_cam[:3, 2]
    points = np.stack([seen, 2 * camera.position - seen])
    shown = overlaid(np.full((2, 224, 224, 3), 90, np.uint8), camera.project(points), still(n=2))
    assert [(frame != 90).any() for frame in shown] == [True, False]


def test_the_radius_is_a_share_of_the_width() -> None:
    for width in (112, 448):
        circle = draw_circle(CircleConfig(radius=0.05), 3, width, np.random.default_rng(0))
        assert circle.radius == pytest.approx(0.05 * width)
        assert circle.colour == ORANGE
        assert (circle.shift == 0).all()


def test_jitter_is_drawn_once_an_episode_and_for_each_frame() -> None:
    """Radius and colour of an episode, the centre of a frame; the same seed draws the same."""
    cfg = CircleConfig(radius_jitter=0.5, colour_jitter=30, pixel_jitter=4.0)
    drawn = [draw_circle(cfg, 50, 448, np.random.default_rng(i)) for i in range(200)]
    ratio = np.array([c.radius for c in drawn]) / (0.03 * 448)
    assert 0.5 <= ratio.min() < 0.55
    assert 1.45 < ratio.max() <= 1.5
    colours = np.array([c.colour for c in drawn])
    assert colours[:, 0].min() == 225
    assert colours[:, 0].max() == 255  # there is no brighter red
    assert (colours[:, 1].min(), colours[:, 1].max()) == (98, 158)
    assert (colours[:, 2].min(), colours[:, 2].max()) == (0, 30)
    shift = np.stack([c.shift for c in drawn])
    assert shift.shape == (200, 50, 2)
    assert 7.9 < np.abs(shift).max() <= 8.0
    assert shift[0].std() > 2
    again = draw_circle(cfg, 50, 448, np.random.default_rng(3))
    assert again.to_json() == drawn[3].to_json()
    np.testing.assert_array_equal(again.shift, drawn[3].shift)
    shown = overlaid(GREY, np.array([[30.0, 20.0]]), Circle(6.0, ORANGE, np.array([[3.0, -2.0]])))
    np.testing.assert_array_equal(shown, overlaid(GREY, np.array([[33.0, 18.0]]), still()))


def test_a_colour_that_the_scene_has_is_refused() -> None:
    frames = np.stack([builders.background(64)] * 3)
    check_colour(frames, ORANGE, 40, "the scene")
    frames[1, 4, 5:9] = (230, 150, 30)
    with pytest.raises(
        BadInput, match=r"colour \[255, 128, 0\] occurs in the scene: 4 pixels of 1 picture\(s\) are within 40 of it"
    ):
        check_colour(frames, ORANGE, 40, "the scene")
    check_colour(frames, ORANGE, 29, "the scene")
    with pytest.raises(BadInput, match=r"4 pixels"):
        check_colour(frames, ORANGE, 30, "the scene")
    with pytest.raises(BadInput, match=r"colour \[40, 60, 90\] occurs"):
        check_colour(frames, (40, 60, 90), 5, "the scene")


def test_a_folder_holds_one_overlay_and_one_robot(tmp_path: Path) -> None:
    """An overlay is added to no dataset without, none to one with, another robot's episodes to neither."""
    camera, circle = builders.agentview(64), {"kind": "circle", "colour": (255, 128, 0)}
    drawn, plain = tmp_path / "drawn", tmp_path / "plain"
    for folder, overlay in ((drawn, circle), (plain, None)):
        Writer(folder, 4, "agentview", camera, "line", overlay=overlay).append(builders.episode(0, 4))
        Writer(folder, 4, "agentview", camera, "line", overlay=overlay).append(builders.episode(1, 4))
    before = builders.snapshot(tmp_path)
    with pytest.raises(BadInput, match=r"drawn was recorded with overlay \{'kind': 'circle'.*; allowed: .* not none"):
        Writer(drawn, 4, "agentview", camera, "line")
    with pytest.raises(BadInput, match=r"plain was recorded with overlay none; allowed: .* not \{'kind': 'circle'"):
        Writer(plain, 4, "agentview", camera, "line", overlay=circle)
    with pytest.raises(BadInput, match=r"plain was recorded with robot_type panda; allowed: .* not iiwa"):
        Writer(plain, 4, "agentview", camera, "line", robot="iiwa")
    assert builders.snapshot(tmp_path) == before
    Writer(tmp_path / "empty", 4, "agentview", camera, "line", overlay=circle)  # refused before its first episode
    Writer(tmp_path / "empty", 4, "agentview", camera, "line", robot="iiwa").append(builders.episode(0, 4))
    info = read_info(tmp_path / "empty")
    assert (info["overlay"], info["robot_type"]) == (None, "iiwa")


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"radius": 0.0}, r"circle\.radius is 0\.0; allowed: above 0 to 0\.25"),
        ({"radius": 0.3}, r"circle\.radius is 0\.3"),
        ({"colour": (256, 0, 0)}, r"circle\.colour is \[256, 0, 0\]; allowed: red, green and blue from 0 to 255"),
        ({"radius_jitter": 1.0}, r"circle\.radius_jitter is 1\.0; allowed: 0 to 0\.9"),
        ({"colour_jitter": -1}, r"circle\.colour_jitter is -1; allowed: 0 to 255"),
        ({"pixel_jitter": 57.0}, r"circle\.pixel_jitter is 57\.0; allowed: 0 to 56"),
        ({"apart": 256}, r"circle\.apart is 256"),
    ],
)
def test_circles_that_are_none_are_refused(values: dict, line: str) -> None:
    with pytest.raises(BadInput, match=line):
        CircleConfig(**values)
