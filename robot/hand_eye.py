"""Where a camera is, on the hand or beside the arm, from views of a board at known places of the hand.

A wrist camera looks at a board that lies still; a fixed one at a board in the gripper. Turned inside out, the second is
the first: with A = T_base_hand, or its inverse for a fixed camera, A_i X T_cam_board_i = Y in all views. X is the
camera's place on the hand (or in the base frame), Y the board's in the base frame (or on the hand).
"""

from dataclasses import dataclass, replace
from typing import Literal

import cv2
import numpy as np
from jaxtyping import Float, UInt8
from scipy.linalg import block_diag
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation

from robot.board import BoardConfig, Corners, project
from robot.camera import Lens
from videopolicy.errors import BadInput, choices

Mount = Literal["fixed", "wrist"]
Transform = Float[np.ndarray, "4 4"]
Pair = tuple[np.ndarray, np.ndarray]  # X, Y

LEAST_POSES = 6
LEAST_TURN = np.radians(8)  # rms between two poses, about the second of their main axes
OUTLIER, LEAST_OUTLIER = 5.0, 0.5  # times the median view's error; [px]
NEAR = np.radians(118)  # of each other: poses that Daniilidis' method is given
CLEAR = 2.0  # times that a board's mirrored twin must fit worse, for its pose to be used as a start
HAND_ERROR = (*np.radians([0.1] * 3), *[5e-4] * 3)  # [rad], [m] of where joints say that the hand is, up to a factor
LEAST_ERROR = 0.02  # [px] of a corner
MAX_PX = 10.0  # of reprojection: beyond it something is wrong, not merely inexact


@dataclass(frozen=True)
class View:
    """What was seen of the board with the hand in one place."""

    T_base_hand: Transform
    corners: Corners
    image: UInt8[np.ndarray, "h w 3"] | None = None  # as the lens made it


@dataclass(frozen=True)
class HandEye:
    mount: Mount
    T: Transform  # fixed: T_base_cam; wrist: T_hand_cam
    T_board: Transform  # fixed: T_hand_board; wrist: T_base_board
    lens: Lens
    reprojection_px: float  # rms over all corners
    reprojection_mm: float  # the same, at the board's distance
    n_views: int  # that were used
    n_dropped: int  # that did not agree with the others
    disagreement_mm: float  # between Park's and Daniilidis' solutions, before refinement
    disagreement_deg: float

    def __str__(self) -> str:
        return (
            f"reprojection {self.reprojection_px:.2f} px, {self.reprojection_mm:.2f} mm at the board, over"
            f" {self.n_views} views ({self.n_dropped} dropped); Park and Daniilidis differ by"
            f" {self.disagreement_mm:.1f} mm, {self.disagreement_deg:.2f} deg"
        )


def fixed(T_base_hand: list[Transform], T_cam_board: list[Transform], method: int = cv2.CALIB_HAND_EYE_PARK) -> Pair:
    """T_base_cam and T_hand_board of a camera beside the arm, in closed form; `BadInput` for too few or alike poses."""
    return _closed([np.linalg.inv(T) for T in T_base_hand], T_cam_board, method)


def wrist(T_base_hand: list[Transform], T_cam_board: list[Transform], method: int = cv2.CALIB_HAND_EYE_PARK) -> Pair:
    """T_hand_cam and T_base_board of a camera on the hand, likewise."""
    return _closed(T_base_hand, T_cam_board, method)


def calibrate(mount: Mount, views: list[View], lens: Lens, board: BoardConfig, refine_lens: bool = False) -> HandEye:
    """Closed form, then the least reprojection error of all corners; views that do not agree are left out.

    `refine_lens`: move the lens as well, its `HandEye.lens`. The arm knows how far it moved the board, which tells the
    focal length better than the board's size in pictures does.
    In the end errors are weighed by what they come from: a hand that is not quite where its joints say moves all
    corners of a view together. `BadInput` where the poses are too few or too much alike, or where nothing explains what
    was seen.
    """
    if mount not in ("fixed", "wrist"):
        raise choices("mount", mount, ("fixed", "wrist"))
    located = [board.locate(view.corners, lens) for view in views]
    seen = [replace(v, T_base_hand=np.linalg.inv(v.T_base_hand)) if mount == "fixed" else v for v in views]
    park, daniilidis = _two(seen, located)
    start = min((park, daniilidis), key=lambda pair: float(np.median(_errors(pair, seen, lens, board))))
    pair = _refined(_refined(start, seen, lens, board), seen, lens, board)
    while True:
        errors = _errors(pair, seen, lens, board)
        agree = np.flatnonzero(errors <= max(OUTLIER * float(np.median(errors)), LEAST_OUTLIER))
        if len(agree) == len(seen):
            break
        seen, located = [seen[i] for i in agree], [located[i] for i in agree]
        park, daniilidis = _two(seen, located)
        pair = _refined(pair, seen, lens, board)
    weights = _whitening(mount, pair, seen, located, lens, board)
    pair = _refined(pair, seen, lens, board, weights)
    if refine_lens:
        pair, lens = _refined_lens(pair, seen, lens, board, weights)
        pair = _refined(pair, seen, lens, board, _whitening(mount, pair, seen, located, lens, board))

    errors = _errors(pair, seen, lens, board)
    counts = np.array([len(view.corners.ids) for view in seen])
    px = float(np.sqrt((counts * errors**2).sum() / counts.sum()))
    if not px <= MAX_PX:
        raise BadInput(
            f"corners are {px:.1f} px from where the camera's place puts them; allowed: {MAX_PX:g}: did the board slip,"
            f" is a joint's sign or zero wrong, are its squares {1000 * board.square:g} mm, did the camera move?"
        )
    depths = [_in_camera(pair, view, board)[:, 2].mean() for view in seen]
    mm = 1000 * px * float(np.median(depths)) / float(np.sqrt(lens.K[0, 0] * lens.K[1, 1]))
    angle = float(np.degrees(Rotation.from_matrix(park[0][:3, :3].T @ daniilidis[0][:3, :3]).magnitude()))
    distance = 1000 * float(np.linalg.norm(park[0][:3, 3] - daniilidis[0][:3, 3]))
    return HandEye(mount, *pair, lens, px, mm, len(seen), len(views) - len(seen), distance, angle)


def check_poses(T_base_hand: list[Transform]) -> None:
    """`BadInput` for poses of the hand that cannot tell where the camera is: few, or turned about one axis alone."""
    if len(T_base_hand) < LEAST_POSES:
        raise BadInput(f"{len(T_base_hand)} poses with the board in view; allowed: at least {LEAST_POSES}")
    turns = Rotation.from_matrix(np.stack([T[:3, :3] for T in T_base_hand]))
    first, second = np.triu_indices(len(T_base_hand), 1)
    between = (turns[first].inv() * turns[second]).as_rotvec()
    main = np.linalg.svd(between, compute_uv=False) / np.sqrt(len(between))
    if main[1] < LEAST_TURN:
        said = ", ".join(f"{x:.1f}" for x in np.degrees(main))
        raise BadInput(
            f"the hand turned by {said} deg (rms) about its poses' three main axes; allowed: at least"
            f" {np.degrees(LEAST_TURN):.0f} about two of them: vary pitch and roll, not pan alone"
        )


def _two(seen: list[View], located: list[tuple[Transform, float]]) -> tuple[Pair, Pair]:
    """Park's and Daniilidis' solutions, from views that say which way the board is tilted where there are enough."""
    clear = [i for i, (_, ratio) in enumerate(located) if ratio > CLEAR]
    used = clear if len(clear) >= LEAST_POSES else range(len(seen))
    hands, boards = [seen[i].T_base_hand for i in used], [located[i][0] for i in used]
    return _closed(hands, boards, cv2.CALIB_HAND_EYE_PARK), _closed(hands, boards, cv2.CALIB_HAND_EYE_DANIILIDIS)


def _closed(A: list[Transform], T_cam_board: list[Transform], method: int) -> Pair:
    check_poses(A)
    used = _near_each_other(A) if method == cv2.CALIB_HAND_EYE_DANIILIDIS else list(range(len(A)))
    R, t = cv2.calibrateHandEye(
        [A[i][:3, :3] for i in used],
        [A[i][:3, 3] for i in used],
        [T_cam_board[i][:3, :3] for i in used],
        [T_cam_board[i][:3, 3] for i in used],
        method=method,
    )
    X = _transform(Rotation.from_matrix(R).as_rotvec(), t[:, 0])
    boards = np.stack([a @ X @ b for a, b in zip(A, T_cam_board, strict=True)])
    mean = Rotation.from_matrix(boards[:, :3, :3]).mean()
    return X, _transform(mean.as_rotvec(), np.median(boards[:, :3, 3], axis=0))


def _near_each_other(A: list[Transform]) -> list[int]:
    """Many poses of which no two are 120 deg apart: beyond that OpenCV mixes up Daniilidis' signs."""
    turns = Rotation.from_matrix(np.stack([T[:3, :3] for T in A]))
    apart = np.stack([(turn.inv() * turns).magnitude() for turn in turns])
    best: list[int] = []
    for row in apart:
        used: list[int] = []
        for i in np.argsort(row).tolist():
            if (apart[i, used] < NEAR).all():
                used.append(i)
        best = max(best, used, key=len)
    return sorted(best)


def _refined(
    pair: Pair, seen: list[View], lens: Lens, board: BoardConfig, weights: Float[np.ndarray, "n n"] | None = None
) -> Pair:
    """Both transforms, moved to the least reprojection error; what is far off counts by distance, not its square."""
    scale = max(1.0, 2 * float(np.median(_errors(pair, seen, lens, board)))) if weights is None else 3.0
    uv = np.concatenate([view.corners.uv for view in seen])

    def moved(x: np.ndarray) -> Pair:
        return pair[0] @ _transform(x[:3], x[3:6]), pair[1] @ _transform(x[6:9], x[9:])

    def residuals(x: np.ndarray) -> np.ndarray:
        away = (_projected(moved(x), seen, lens, board) - uv).ravel()
        return away if weights is None else weights @ away

    steps = np.tile([0.01] * 3 + [0.003] * 3, 2)  # [rad], [m] that matter about as much
    found = least_squares(residuals, np.zeros(12), x_scale=steps, loss="soft_l1", f_scale=scale)
    return moved(found.x)


def _refined_lens(
    pair: Pair, seen: list[View], lens: Lens, board: BoardConfig, weights: Float[np.ndarray, "n n"]
) -> tuple[Pair, Lens]:
    """Both transforms and the lens: one focal length, its centre, two radial coefficients."""
    uv = np.concatenate([view.corners.uv for view in seen])

    def moved(x: np.ndarray) -> tuple[Pair, Lens]:
        K, distortion = lens.K.copy(), lens.distortion.copy()
        K[[0, 1], [0, 1]] *= np.exp(x[12])
        K[:2, 2] += x[13:15]
        distortion[:2] += x[15:]
        both = pair[0] @ _transform(x[:3], x[3:6]), pair[1] @ _transform(x[6:9], x[9:12])
        return both, replace(lens, K=K, distortion=distortion)

    def residuals(x: np.ndarray) -> np.ndarray:
        both, other = moved(x)
        return weights @ (_projected(both, seen, other, board) - uv).ravel()

    steps = np.concatenate([np.tile([0.01] * 3 + [0.003] * 3, 2), [0.01, 5.0, 5.0, 0.05, 0.05]])
    found = least_squares(residuals, np.zeros(17), x_scale=steps, loss="soft_l1", f_scale=3.0)
    return moved(found.x)


def _whitening(
    mount: Mount,
    pair: Pair,
    seen: list[View],
    located: list[tuple[Transform, float]],
    lens: Lens,
    board: BoardConfig,
) -> Float[np.ndarray, "n n"]:
    """What makes errors of all corners independent of each other, and one in size.

    How exact corners are, the board's own pose in each view tells; the rest is the hand's.
    """
    uv = _projected(pair, seen, lens, board)
    moved = []
    for by in np.diag(HAND_ERROR):
        D = _transform(by[:3], by[3:])
        hands = [v.T_base_hand @ D if mount == "wrist" else np.linalg.inv(D) @ v.T_base_hand for v in seen]
        others = [replace(view, T_base_hand=T) for view, T in zip(seen, hands, strict=True)]
        moved.append((_projected(pair, others, lens, board) - uv).ravel())
    slopes = np.stack(moved, 1)
    own = [
        project(lens, board.points[v.corners.ids] @ T[:3, :3].T + T[:3, 3]) - v.corners.uv
        for v, (T, _) in zip(seen, located, strict=True)
    ]
    corner = max(float(np.median([np.sqrt((x**2).sum() / (x.size - 6)) for x in own])), LEAST_ERROR)
    whole = float(np.median(_errors(pair, seen, lens, board))) ** 2 / 2
    factor = max((whole - corner**2) / float((slopes**2).sum(1).mean()), 0.01)
    ends = 2 * np.cumsum([len(view.corners.ids) for view in seen])[:-1]
    spread = [corner**2 * np.eye(len(J)) + factor * J @ J.T for J in np.split(slopes, ends)]
    return block_diag(*(np.linalg.inv(np.linalg.cholesky(C)) for C in spread))


def _errors(pair: Pair, seen: list[View], lens: Lens, board: BoardConfig) -> Float[np.ndarray, " view"]:
    """Rms of each view's corners [px]."""
    uv = np.concatenate([view.corners.uv for view in seen])
    square = ((_projected(pair, seen, lens, board) - uv) ** 2).sum(1)
    ends = np.cumsum([len(view.corners.ids) for view in seen])[:-1]
    return np.sqrt([part.mean() for part in np.split(square, ends)])


def _projected(pair: Pair, seen: list[View], lens: Lens, board: BoardConfig) -> Float[np.ndarray, "n 2"]:
    """Pixels of all views' corners, one view after the other."""
    points = np.concatenate([_in_camera(pair, view, board) for view in seen])
    points[:, 2] = np.maximum(points[:, 2], 1e-3)  # a start may put some behind the camera
    return project(lens, points)


def _in_camera(pair: Pair, view: View, board: BoardConfig) -> Float[np.ndarray, "n 3"]:
    T = np.linalg.inv(view.T_base_hand @ pair[0]) @ pair[1]
    return board.points[view.corners.ids] @ T[:3, :3].T + T[:3, 3]


def _transform(rotation: np.ndarray, translation: np.ndarray) -> Transform:
    """Of a rotation vector [rad] and a translation."""
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = Rotation.from_rotvec(rotation).as_matrix(), translation
    return T
