"""Hand and eye: cameras found where they are, both ways of mounting; poses that tell nothing refused."""

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from test_board import BOARD, LENS, SIZE

from robot import hand_eye
from robot.board import Corners, project
from robot.camera import Lens
from robot.hand_eye import HandEye, Mount, View, calibrate, check_poses
from robot.kinematics import LIMITS, Kinematics, Pose, Unreachable
from robot.moving import AROUND, ROOM, SEARCH, candidates, presenting
from robot.safety import SafetyConfig
from robot.table import fit
from videopolicy.errors import BadInput

EYE = Lens(LENS.K, np.array([-0.1, 0.03, 0.001, -0.001, 0.0]), SIZE)
ARM = Kinematics()
TICK = 2 * np.pi / 4096
# Both a little askew, as a person would fix them.
T_HAND_CAM, T_BASE_BOARD = np.eye(4), np.eye(4)
T_HAND_CAM[:3, :3], T_HAND_CAM[:3, 3] = (
    Rotation.from_euler("xyz", [-20, 3, 8], degrees=True).as_matrix(),
    (0.01, -0.06, -0.08),
)
T_BASE_BOARD[:3, :3], T_BASE_BOARD[:3, 3] = (
    Rotation.from_euler("xyz", [180, 0, 30], degrees=True).as_matrix(),
    (0.2, -0.02, 0),
)
T_HAND_BOARD = np.eye(4)
T_HAND_BOARD[:3, :3], T_HAND_BOARD[:3, 3] = (
    Rotation.from_euler("xyz", [180, 5, -90], degrees=True).as_matrix(),
    (-0.05, 0.06, 0.02),
)


def looking(position: tuple[float, float, float], at: tuple[float, float, float]) -> np.ndarray:
    """T_base_cam, upright."""
    z = np.subtract(at, position)
    z = z / np.linalg.norm(z)
    x = np.cross(z, [0, 0, 1.0])
    x = x / np.linalg.norm(x)
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = np.stack([x, np.cross(z, x), z], 1), position
    return T


T_BASE_CAM = looking((0.75, 0.15, 0.45), (0.25, 0.0, 0.2))
PLACES = {"fixed": (T_BASE_CAM, T_HAND_BOARD), "wrist": (T_HAND_CAM, T_BASE_BOARD)}


def board_in_camera(mount: Mount, q: np.ndarray) -> np.ndarray:
    """T_cam_board."""
    T, T_board = PLACES[mount]
    hand = ARM.hand_to_base(q)
    return np.linalg.inv(T) @ hand @ T_board if mount == "fixed" else np.linalg.inv(hand @ T) @ T_board


def some_views(mount: Mount, n: int = 24, noise: float = 0.2, turn: float = TICK / 2, seed: int = 0) -> list[View]:
    """With noise of the corners [px], and of the joint angles [rad]."""
    rng = np.random.default_rng(seed)
    views: list[View] = []
    heights, pitches, rolls = ((0.16, 0.3), (-1, 0.6), np.pi) if mount == "fixed" else ((0.08, 0.25), (-1.6, -0.6), 0.8)
    while len(views) < n:
        place = np.array([rng.uniform(0.13, 0.34), rng.uniform(-0.15, 0.15), rng.uniform(*heights)])
        try:
            q = ARM.inverse(Pose(place, rng.uniform(*pitches), rng.uniform(-rolls, rolls)))
        except Unreachable:
            continue
        T = board_in_camera(mount, q)
        points = BOARD.points @ T[:3, :3].T + T[:3, 3]
        if points[:, 2].min() < 0.08 or T[:3, 2] @ points.mean(0) < 0.35 * np.linalg.norm(points.mean(0)):
            continue
        uv = project(EYE, points)
        if (uv > 5).all() and (uv < np.array(SIZE) - 5).all():
            uv = uv + rng.normal(0, noise, uv.shape) if noise else uv
            said = q + rng.uniform(-turn, turn, 5) if turn else q
            views.append(View(ARM.hand_to_base(said), Corners(np.arange(12), uv)))
    return views


def apart(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """[mm], [deg]"""
    turn = Rotation.from_matrix(a[:3, :3].T @ b[:3, :3]).magnitude()
    return 1000 * float(np.linalg.norm(a[:3, 3] - b[:3, 3])), float(np.degrees(turn))


@pytest.mark.parametrize("mount", ["fixed", "wrist"])
def test_cameras_are_found_where_they_are(mount: Mount) -> None:
    """Within a millimetre and a tenth of a degree, by corners and angles as good as they are; exactly without noise."""
    for seed in range(3):
        found = calibrate(mount, some_views(mount, seed=seed), EYE, BOARD)
        mm, deg = apart(found.T, PLACES[mount][0])
        assert mm < 1.0
        assert deg < 0.1
        assert apart(found.T_board, PLACES[mount][1])[0] < 1.0
        assert (found.mount, found.n_views, found.n_dropped) == (mount, 24, 0)
        assert 0.2 < found.reprojection_px < 0.8
    exact = calibrate(mount, some_views(mount, noise=0, turn=0), EYE, BOARD)
    assert max(apart(exact.T, PLACES[mount][0])) < 1e-3
    assert exact.reprojection_px < 1e-3


@pytest.mark.parametrize("mount", ["fixed", "wrist"])
def test_closed_forms_are_compared(mount: Mount) -> None:
    """Both solve what has no noise; what is told of their difference is their difference."""
    hands = [v.T_base_hand for v in some_views(mount, noise=0, turn=0)]
    views = some_views(mount)
    solve = hand_eye.fixed if mount == "fixed" else hand_eye.wrist
    exact = [BOARD.locate(v.corners, EYE)[0] for v in some_views(mount, noise=0, turn=0)]
    for method in (cv2.CALIB_HAND_EYE_PARK, cv2.CALIB_HAND_EYE_DANIILIDIS):
        X, Y = solve(hands, exact, method)
        assert max(apart(X, PLACES[mount][0])) < 0.02
        assert max(apart(Y, PLACES[mount][1])) < 0.02
    located = [BOARD.locate(v.corners, EYE) for v in views]
    assert all(ratio > hand_eye.CLEAR for _, ratio in located)
    park, daniilidis = (
        solve([v.T_base_hand for v in views], [T for T, _ in located], m)[0]
        for m in (cv2.CALIB_HAND_EYE_PARK, cv2.CALIB_HAND_EYE_DANIILIDIS)
    )
    found = calibrate(mount, views, EYE, BOARD)
    assert (found.disagreement_mm, found.disagreement_deg) == pytest.approx(apart(park, daniilidis), rel=1e-6)
    assert f"Park and Daniilidis differ by {found.disagreement_mm:.1f} mm" in str(found)


@pytest.mark.parametrize("mount", ["fixed", "wrist"])
def test_a_lens_that_is_nearly_right_is_mended(mount: Mount) -> None:
    """By what the arm knows of its own motion; the camera's place then is as good as with the right one."""
    wrong = Lens(EYE.K + np.array([[9, 0, 9], [0, 9, -8], [0, 0, 0]]), np.zeros(5), SIZE)
    views = some_views(mount, noise=0.05)
    kept = calibrate(mount, views, wrong, BOARD)
    assert kept.lens is wrong
    found = calibrate(mount, views, wrong, BOARD, refine_lens=True)
    assert found.lens.K[0, 0] == found.lens.K[1, 1] == pytest.approx(EYE.K[0, 0], rel=0.003)
    np.testing.assert_allclose(found.lens.K[:2, 2], EYE.K[:2, 2], atol=4)
    np.testing.assert_allclose(found.lens.distortion[:2], EYE.distortion[:2], atol=0.04)
    assert apart(found.T, PLACES[mount][0])[0] < 1.0 < apart(kept.T, PLACES[mount][0])[0]
    assert found.reprojection_px < 0.8 * kept.reprojection_px


def test_errors_are_told_in_metres_too() -> None:
    """A pixel at the board's distance: half a metre, 610 pixels to the radian."""
    found = calibrate("fixed", some_views("fixed"), EYE, BOARD)
    depth = np.median([np.linalg.norm(T_BASE_CAM[:3, 3] - v.T_base_hand[:3, 3]) for v in some_views("fixed")])
    assert found.reprojection_mm == pytest.approx(1000 * found.reprojection_px * depth / 610, rel=0.1)


@pytest.mark.parametrize("mount", ["fixed", "wrist"])
def test_views_that_do_not_agree_are_dropped(mount: Mount) -> None:
    """Three of which the arm said something else than it did."""
    views = some_views(mount)
    for i in (3, 8, 20):
        turned = np.eye(4)
        turned[:3, :3] = Rotation.from_euler("y", 12, degrees=True).as_matrix()
        views[i] = View(views[i].T_base_hand @ turned, views[i].corners)
    found = calibrate(mount, views, EYE, BOARD)
    assert (found.n_views, found.n_dropped) == (21, 3)
    assert apart(found.T, PLACES[mount][0])[0] < 1.0
    assert "(3 dropped)" in str(found)


def panned(n: int, pitch: float = 0.0) -> list[np.ndarray]:
    """Hands that differ by their pan, and by at most `pitch`."""
    rng = np.random.default_rng(0)
    q = np.array([0, -1.2, 1.2, 0.8, 0.0])
    return [ARM.hand_to_base(q + [a, 0, 0, rng.uniform(-pitch, pitch), 0]) for a in np.linspace(-0.8, 0.8, n)]


def test_poses_that_tell_nothing_are_refused() -> None:
    with pytest.raises(BadInput, match="5 poses with the board in view; allowed: at least 6"):
        check_poses(panned(5))
    words = r"turned by 42.5, 0.0, 0.0 deg \(rms\) .*; allowed: at least 8 about two .* vary pitch and roll, not pan"
    with pytest.raises(BadInput, match=words):
        check_poses(panned(12))
    with pytest.raises(BadInput, match=r"deg \(rms\) .*allowed: at least 8"):
        check_poses(panned(12, pitch=0.1))
    check_poses(panned(12, pitch=0.3))
    boards = [np.eye(4)] * 12
    for solve in (hand_eye.fixed, hand_eye.wrist):
        with pytest.raises(BadInput, match="not pan alone"):
            solve(panned(12), boards)
    views = some_views("fixed")
    with pytest.raises(BadInput, match="not pan alone"):
        calibrate("fixed", [View(T, v.corners) for T, v in zip(panned(24), views, strict=True)], EYE, BOARD)
    with pytest.raises(BadInput, match="mount is 'roof'; allowed: 'fixed', 'wrist'"):
        calibrate("roof", views, EYE, BOARD)  # type: ignore[arg-type]


def test_what_nothing_explains_is_refused() -> None:
    """An arm whose roll counts the other way."""
    views = []
    for view in some_views("fixed"):
        T = view.T_base_hand.copy()
        ahead = T[:3, 2]
        roll = Rotation.from_rotvec(2 * np.arctan2(T[2, 0], T[2, 1]) * ahead).as_matrix()
        T[:3, :3] = roll @ T[:3, :3]
        views.append(View(T, view.corners))
    with pytest.raises(BadInput, match="px from where the camera's place puts them; allowed: 10: did the board slip"):
        calibrate("fixed", views, EYE, BOARD)


@pytest.mark.parametrize("mount", ["fixed", "wrist"])
def test_candidates_tell_where_a_camera_is(mount: Mount) -> None:
    """All within the workspace and the limits; around a single one from which the board was seen there are enough."""
    cfg, narrow = SafetyConfig(), Kinematics(limits=LIMITS + np.radians([[2.5, -2.5]]))
    blind = list(candidates(mount, narrow, cfg, []))
    assert 12 < len(blind) <= len(SEARCH[mount])
    seen = [blind[len(blind) // 2][0]]
    around = list(candidates(mount, narrow, cfg, seen))[len(blind) :]
    assert len(around) > 60
    assert (np.abs(np.array([aim for aim, _ in around]) - seen[0]).max(0) <= AROUND[mount] + 1e-9).all()
    check_poses([narrow.hand_to_base(q) for _, q in around[:15]])
    for _, q in blind + around:
        x, y, z = narrow.forward(q).position
        assert cfg.low[2] + ROOM[mount] <= z + 1e-9 <= cfg.high[2] + 2e-9
        assert cfg.low[0] <= x <= cfg.high[0]
        assert abs(y) <= cfg.high[1]
        assert ((q >= narrow.limits[:, 0]) & (q <= narrow.limits[:, 1])).all()
    up = narrow.forward(presenting(mount, narrow, cfg))
    assert up.position[1] == pytest.approx(0)
    assert up.position[2] > cfg.low[2] + ROOM[mount]


def test_a_ceiling_that_is_too_low_is_refused() -> None:
    low = SafetyConfig(high=(0.36, 0.25, 0.17))
    with pytest.raises(BadInput, match=r"safety.high is .*; allowed: a height of 0.185 m or more"):
        next(candidates("fixed", ARM, low, []))
    with pytest.raises(BadInput, match="the arm cannot show the board: "):
        presenting("fixed", ARM, SafetyConfig(high=(0.36, 0.25, 0.9)))


# -- the table -------------------------------------------------------------------------------------------------------

TOUCHED = np.array([[0.14, 0.1, 0], [0.14, -0.1, 0], [0.24, 0.12, 0], [0.24, -0.12, 0], [0.2, 0.0, 0], [0.28, 0.02, 0]])


def test_the_table_is_found() -> None:
    points = TOUCHED + [0, 0, -0.004]
    points[:, 2] += 0.01 * (points[:, 0] - points[:, 0].mean())
    points[:, 2] += np.array([1, -1, -1, 1, 0, 0]) * 5e-4
    table = fit(points)
    assert table.height == pytest.approx(-0.004, abs=1e-9)
    assert table.tilt_deg == pytest.approx(np.degrees(np.arctan(0.01)), abs=0.05)
    assert 3e-4 < table.residual < 6e-4


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda p: p[:3], "3 touched points; allowed: at least 4"),
        (lambda p: p * [1, 0, 1], r"lie on a line, 0 mm wide \(rms\); allowed: at least 20"),
        (lambda p: p + np.eye(6, 3, -2) * [0, 0, 0] + np.outer(np.arange(6) == 3, [0, 0, 0.02]), "point 4, at"),
        (lambda p: p + p[:, :1] * [0, 0, 0.1], r"tilted by 5\.7 deg; allowed: 2"),
        (lambda p: p * [1, 1, np.nan], "6 touched points; allowed: .* finite"),
    ],
)
def test_touches_that_are_no_table_are_refused(change: object, words: str) -> None:
    with pytest.raises(BadInput, match=words):
        fit(change(TOUCHED))  # type: ignore[operator]


def test_the_report_is_one_line() -> None:
    found = HandEye("fixed", np.eye(4), np.eye(4), EYE, 0.4, 0.3, 22, 2, 1.2, 0.1)
    assert str(found) == (
        "reprojection 0.40 px, 0.30 mm at the board, over 22 views (2 dropped); Park and Daniilidis differ by 1.2 mm,"
        " 0.10 deg"
    )
