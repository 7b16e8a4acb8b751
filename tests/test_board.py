"""The board: corners found where they were drawn, lenses recovered; and what is kept of a camera."""

import json
from pathlib import Path

import arms
import cv2
import numpy as np
import pytest
from PIL import Image
from scipy.spatial.transform import Rotation

from robot.board import BoardConfig, Corners, intrinsics, project
from robot.calibrate import known_lens
from robot.calibration import write_calibration
from robot.camera import Lens
from robot.hand_eye import Mount
from robot.kinematics import Kinematics
from robot.mounting import MountedCamera, lens_to_json, read_mounted
from videopolicy.errors import BadInput

SIZE = (640, 480)
LENS = Lens(np.array([[610.0, 0, 322.0], [0, 610.0, 236.0], [0, 0, 1]]), np.zeros(5), SIZE)
BOARD = BoardConfig()
MIDDLE = np.array([*BOARD.points.mean(0)[:2], 0.0])


def pose(tilt: tuple[float, float, float], place: tuple[float, float, float]) -> np.ndarray:
    """T_cam_board: turned by Euler angles [deg] about its own middle, which is at `place` in the camera frame."""
    T = np.eye(4)
    T[:3, :3] = Rotation.from_euler("xyz", tilt, degrees=True).as_matrix()
    T[:3, 3] = np.array(place) - T[:3, :3] @ MIDDLE
    return T


def corners_at(T: np.ndarray, lens: Lens = LENS, noise: float = 0.0, seed: int = 0) -> Corners:
    uv = project(lens, BOARD.points @ T[:3, :3].T + T[:3, 3])
    return Corners(np.arange(len(uv)), uv + np.random.default_rng(seed).normal(0, noise or 1e-12, uv.shape))


def render(T: np.ndarray, lens: Lens = LENS, board: BoardConfig = BOARD, seed: int = 0) -> np.ndarray:
    """What a pinhole camera with a sensor's noise sees of the board, before grey; RGB."""
    scale, per_square, (width, height) = 3, 80, lens.size
    printed = board.draw(per_square)
    metres = board.square / per_square
    from_print = np.array([[metres, 0, (0.5 - 40) * metres], [0, metres, (0.5 - 40) * metres], [0, 0, 1]])
    plane = np.stack([T[:3, 0], T[:3, 1], T[:3, 3]], 1)
    fine = np.array([[scale, 0, -0.5], [0, scale, -0.5], [0, 0, 1]])  # OpenCV's pixels of a picture so much larger
    H = fine @ lens.K @ plane @ from_print
    large = cv2.warpPerspective(printed, H, (scale * width, scale * height), borderValue=(110.0,))
    small = cv2.resize(large, lens.size, interpolation=cv2.INTER_AREA).astype(float)
    noise = np.random.default_rng(seed).normal(0, 2, small.shape)
    return np.repeat(np.clip(small * 0.8 + 20 + noise, 0, 255).astype(np.uint8)[..., None], 3, 2)


def many(n: int, tilt: float = 30.0, spread: float = 0.12, depth: float = 0.35, seed: int = 1) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [
        pose(
            (*rng.uniform(-tilt, tilt, 2), rng.uniform(-60, 60)),
            (rng.uniform(-1.3, 1.3) * spread, rng.uniform(-1, 1) * spread, depth * rng.uniform(0.8, 1.2)),
        )
        for _ in range(n)
    ]


def test_the_print_is_true(tmp_path: Path) -> None:
    """Corners of the drawing itself, in pixels whose first has its centre at 0.5; and the size that the file says."""
    drawn = BOARD.draw(40)
    assert drawn.shape == (4 * 40 + 40, 5 * 40 + 40)
    found = BOARD.detect(drawn)
    assert found is not None
    np.testing.assert_array_equal(found.ids, np.arange(12))
    np.testing.assert_allclose(found.uv, BOARD.points[:, :2] / 0.025 * 40 + 20, atol=0.02)
    BOARD.save(tmp_path / "board.png", 100)
    with Image.open(tmp_path / "board.png") as image:
        assert image.size == (600, 500)
        assert image.info["dpi"] == pytest.approx((101.6, 101.6), abs=0.01)  # 100 pixels are 25 mm
        np.testing.assert_array_equal(np.array(image), BOARD.draw(100))


def test_corners_are_found_where_they_are() -> None:
    """To a tenth of a pixel, and without a bias: half a pixel would be one."""
    errors = []
    for i, T in enumerate(many(12)):
        truth = corners_at(T).uv
        found = BOARD.detect(render(T, seed=i))
        assert found is not None
        errors.append(found.uv - truth[found.ids])
    away = np.concatenate(errors)
    assert len(away) > 100
    assert np.abs(away.mean(0)).max() < 0.03
    assert np.linalg.norm(away, axis=1).mean() < 0.12
    assert np.abs(away).max() < 0.5


def test_what_is_no_board_is_not_found() -> None:
    T = pose((10, 20, 5), (0, 0, 0.35))
    image = render(T)
    assert BOARD.detect(np.full_like(image, 90)) is None
    assert BoardConfig(dictionary="DICT_6X6_50").detect(image) is None
    u = int(corners_at(T).uv[:, 0].min() + 20)
    image[:, u:] = 120  # all but one column of corners
    assert BOARD.detect(image) is None


def test_the_board_is_located() -> None:
    """Near and tilted, without doubt; far and level, its mirrored twin fits as well."""
    T = pose((35, -20, 10), (0.02, -0.03, 0.35))
    found, ratio = BOARD.locate(corners_at(T, noise=0.1), LENS)
    np.testing.assert_allclose(found[:3, 3], T[:3, 3], atol=5e-4)
    assert Rotation.from_matrix(found[:3, :3].T @ T[:3, :3]).magnitude() < np.radians(0.3)
    assert ratio > 3
    _, ratio = BOARD.locate(corners_at(pose((4, 0, 0), (0, 0, 1.5)), noise=0.2), LENS)
    assert ratio < 1.5


def test_the_lens_is_recovered() -> None:
    """Without noise exactly, half pixels and all; from pictures to a hundredth."""
    lens = Lens(LENS.K, np.array([-0.2, 0.06, 0.0, 0.0, 0.0]), SIZE)
    found, rms = intrinsics(BOARD, [corners_at(T, lens) for T in many(12)], SIZE)
    np.testing.assert_allclose(found.K, lens.K, atol=0.02)
    np.testing.assert_allclose(found.distortion, lens.distortion, atol=1e-3)
    assert found.size == SIZE
    assert rms < 1e-3
    views = [BOARD.detect(render(T, seed=i)) for i, T in enumerate(many(16))]
    found, rms = intrinsics(BOARD, [view for view in views if view is not None], SIZE)
    np.testing.assert_allclose(found.K, LENS.K, atol=6)
    assert 0.01 < rms < 0.2


POOR = {
    "few": (lambda: many(7), 0.1, "7 views of the board; allowed: at least 8"),
    "in the middle": (
        lambda: many(12, spread=0.01),
        0.1,
        r"over .* % of the picture's (width|height); .* move it further",
    ),
    "level": (
        lambda: many(12, tilt=3),
        0.1,
        "of 12 views show the board tilted by 15 deg or more; allowed: at least 4",
    ),
    "far": (lambda: many(12, spread=0.3, depth=1.4), 0.4, "tell the focal length to .* %; allowed: 3"),
    "not flat": (lambda: many(12), 2.5, "corners are off by .* px, in view .*; allowed: 1.0: is the board flat"),
}


@pytest.mark.parametrize("name", POOR)
def test_views_that_tell_nothing_are_refused(name: str) -> None:
    poses, noise, words = POOR[name]
    views = [corners_at(T, noise=noise, seed=i) for i, T in enumerate(poses())]
    with pytest.raises(BadInput, match=words):
        intrinsics(BOARD, views, SIZE)


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"n_columns": 2}, "board.n_columns is 2; allowed: 3 to 20"),
        ({"n_rows": 21}, "board.n_rows is 21"),
        ({"square": 0.5}, "board.square is 0.5; allowed: 0.005 to 0.2 m"),
        ({"marker": 0.024}, r"board.marker is 0.024; allowed: 0.5 to 0.9 of board.square 0.025"),
        ({"dictionary": "DICT_7X7_50"}, "board.dictionary is 'DICT_7X7_50'; allowed: 'DICT_4X4_50', 'DICT_4X4_100'"),
        ({"n_columns": 12, "n_rows": 12}, "DICT_4X4_50 has 50 markers; this board needs 72"),
    ],
)
def test_boards_without_sense_are_refused(keys: dict, words: str) -> None:
    with pytest.raises(BadInput, match=words):
        BoardConfig(**keys)
    with pytest.raises(BadInput, match="pixels_per_square is 5; allowed: 10 to 2000"):
        BOARD.draw(5)


# -- what is kept of a camera ----------------------------------------------------------------------------------------

PLACE = np.eye(4)
PLACE[:3, :3], PLACE[:3, 3] = Rotation.from_euler("xyz", [160, 10, 20], degrees=True).as_matrix(), (0.3, 0.1, 0.5)
KEPT = MountedCamera(LENS.K, np.array([-0.1, 0.02, 0, 0, 0]), SIZE, "fixed", PLACE, 0.4)
HAND = Kinematics().hand_to_base(np.array([0.3, -1.5, 1.3, 0.6, 0.5]))


@pytest.mark.parametrize("mount", ["fixed", "wrist"])
def test_mounted_cameras_come_back(tmp_path: Path, mount: Mount) -> None:
    """And see the world, whose floor is the table, from where they are."""
    kept = MountedCamera(LENS.K, np.zeros(5), SIZE, mount, PLACE, 0.4)
    path = tmp_path / "calibration.json"
    write_calibration(path, arms.calibration(), {"camera": kept.to_json(), "table": {"height": -0.01}})
    calibration, found, height = read_mounted(path)
    assert (calibration, height) == (arms.calibration(), -0.01)
    assert found.to_json() == kept.to_json()
    camera = found.camera(HAND, height)
    expected = HAND @ PLACE if mount == "wrist" else PLACE
    np.testing.assert_allclose(camera.T_world_cam[:3, 3], expected[:3, 3] + [0, 0, 0.01])
    np.testing.assert_allclose(camera.T_world_cam[:3, :3], expected[:3, :3])
    ahead = (expected @ [0.05, 0.02, 0.4, 1])[None, :3]
    np.testing.assert_allclose(found.pixels(ahead, HAND), [[610 * 0.125 + 322, 610 * 0.05 + 236]])
    np.testing.assert_allclose(camera.project(ahead + [0, 0, 0.01]), found.pixels(ahead, HAND))
    assert np.isnan(found.pixels((expected @ [0, 0, -0.5, 1])[None, :3], HAND)).all()


WRONG: list[tuple[str, str, object, str]] = [
    ("camera", "K", [[1, 0], [0, 1]], "camera.K is .*; allowed: finite numbers, 3 x 3"),
    ("camera", "K", [[-600, 0, 1], [0, 600, 1], [0, 0, 1]], "camera.K is .*fx and fy above 0"),
    ("camera", "distortion", [0, 0, 0, 0, float("nan")], "camera.distortion is .*; allowed: finite numbers, 5"),
    ("camera", "size", [640, 480.5], r"camera.size is \[640, 480.5\]; allowed: a width and a height"),
    ("camera", "mount", "roof", "camera.mount is 'roof'; allowed: 'fixed', 'wrist'"),
    ("camera", "T", np.diag([1, 1, 2, 1]).tolist(), "camera.T is .*; allowed: a rotation and a translation"),
    ("camera", "reprojection_px", "good", "camera.reprojection_px is 'good'; allowed: a finite number"),
    ("camera", "reprojection_px", -1, "camera.reprojection_px is -1.0; allowed: 0 or above"),
    ("table", "height", None, "table.height is None; allowed: a finite number"),
]


@pytest.mark.parametrize(("part", "key", "value", "words"), WRONG)
def test_wrong_cameras_are_refused(tmp_path: Path, part: str, key: str, value: object, words: str) -> None:
    path = tmp_path / "calibration.json"
    rest = {"camera": KEPT.to_json(), "table": {"height": 0.0}}
    rest[part][key] = value
    write_calibration(path, arms.calibration(), rest)
    with pytest.raises(BadInput, match=words) as caught:
        read_mounted(path)
    assert str(path) in str(caught.value)
    write_calibration(path, arms.calibration(), rest | {part: [1]})
    with pytest.raises(BadInput, match=rf"{part} is \[1\]; allowed: an object"):
        read_mounted(path)


def test_what_is_missing_is_told(tmp_path: Path) -> None:
    """By the command that makes it."""
    path = tmp_path / "calibration.json"
    write_calibration(path, arms.calibration(), {"lens": lens_to_json(LENS, 0.1)})
    assert known_lens(path, SIZE).K.tolist() == LENS.K.tolist()
    with pytest.raises(BadInput, match=r"lens for pictures of \(640, 480\); allowed: the camera's \(320, 240\)"):
        known_lens(path, (320, 240))
    with pytest.raises(BadInput, match=r"calibration.json has no camera: run robot.calibrate extrinsics"):
        read_mounted(path)
    write_calibration(path, arms.calibration(), {"camera": KEPT.to_json()})
    with pytest.raises(BadInput, match=r"has no table: run robot.calibrate table"):
        read_mounted(path)
    with pytest.raises(BadInput, match=r"has no lens: run robot.calibrate intrinsics on this arm, or give --with_int"):
        known_lens(path, SIZE)
    path.write_text(json.dumps(arms.calibration().lerobot()))
    with pytest.raises(BadInput, match=r"has no sign of shoulder_pan"):
        read_mounted(path)
