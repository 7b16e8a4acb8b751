"""Views of the board from many sides: the arm shows the board to the camera by itself, or the camera to the board."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8

from robot import moving
from robot.board import BoardConfig
from robot.clock import Clock
from robot.control import ControlConfig
from robot.hand_eye import Mount, View
from robot.kinematics import WRIST, Kinematics
from robot.operator import Operator, wait
from robot.safety import SafetyConfig
from robot.so100 import Arm
from videopolicy.errors import BadInput

Image = UInt8[np.ndarray, "h w 3"]

N_VIEWS, LEAST_VIEWS, MOST_POSES = 24, 15, 120
STILL = np.radians(0.3)  # that a joint may move while a picture is taken
OPEN, SQUEEZE = 0.5, 0.08  # openings: for the board to be put in; less than where the gripper met it
CLEARANCE = 0.75  # share of the room under the tool that is kept on the way from pose to pose

BOARD = {
    "fixed": (
        "Hold the board between the fingers, its printed side to the camera, the rest of it beyond the fingertips. The"
        " gripper closes on it, then the arm moves by itself: keep away from it."
    ),
    "wrist": (
        "Lay the board flat on the table, 20 cm in front of the arm's base, its printed side up. The arm then moves by"
        " itself: keep away from it."
    ),
}
AWAY = {"fixed": "Take hold of the board: the gripper opens.", "wrist": "Take the board off the table."}


@dataclass(frozen=True)
class Station:
    """An arm at a table, before a camera, and somebody beside it."""

    arm: Arm
    kinematics: Kinematics
    clock: Clock
    operator: Operator
    take: Callable[[], Image]  # a picture, RGB and as the lens makes it, taken after it was asked for
    safety: SafetyConfig  # heights in the base frame
    control: ControlConfig


def take_views(station: Station, mount: Mount, board: BoardConfig, n_views: int = N_VIEWS) -> list[View]:
    """Have the arm show the board to the camera from many sides; the arm ends at rest, without torque.

    `BadInput` where it was seen too rarely; errors of the arm as `moving.drive`.
    """
    arm, clock, operator = station.arm, station.clock, station.operator
    floor = station.safety.low[2] + CLEARANCE * moving.ROOM[mount]
    views: list[View] = []
    seen: list[np.ndarray] = []
    n_poses, mirrored = 0, False
    if mount == "wrist":
        wait(operator, clock, "board", BOARD[mount])
    with moving.powered(arm, station.kinematics, station.safety, station.control, clock) as safety:
        narrow = Kinematics(station.kinematics.hand - WRIST, moving.usable(safety))
        up, grip = moving.presenting(mount, narrow, station.safety), 0.0
        moving.drive(arm, safety, clock, up, OPEN if mount == "fixed" else 0.0)
        if mount == "fixed":
            operator.ask("board", BOARD[mount])
            moving.hold(arm, safety, clock, OPEN, operator.done)
            moving.hold(arm, safety, clock, 0.0, _after(clock, 1.0))
            grip = max(0.0, arm.state.opening - SQUEEZE)
        for aim, q in moving.candidates(mount, narrow, station.safety, seen):
            if len(views) == n_views or n_poses == MOST_POSES:
                break
            if moving.lowest(narrow, arm.state.position, q) < floor:
                continue
            moving.drive(arm, safety, clock, q, grip)
            n_poses += 1
            view, mirrored = _look(station, board)
            if view is not None:
                views.append(view)
                seen.append(aim)
                print(f"\r{len(views)} views in {n_poses} poses", end="", flush=True)
            elif mirrored and not views:
                break
        print()
        if mount == "fixed":
            moving.drive(arm, safety, clock, up, grip)
            operator.ask("off_table", AWAY[mount])
            moving.hold(arm, safety, clock, grip, operator.done)
            moving.hold(arm, safety, clock, OPEN, _after(clock, 2.0))
    if mount == "wrist":
        wait(operator, clock, "off_table", AWAY[mount])
    if mirrored and not views:
        raise BadInput("pictures show the board mirrored; allowed: as it is: does the camera mirror, or the print?")
    if len(views) < LEAST_VIEWS:
        raise BadInput(
            f"the board was seen in {len(views)} of {n_poses} poses; allowed: at least {LEAST_VIEWS}: is it the"
            f" configuration's ({board.n_columns} x {board.n_rows} squares, {board.dictionary}), its printed side to"
            " the camera, in good light, with nothing between?"
        )
    return views


def _look(station: Station, board: BoardConfig) -> tuple[View | None, bool]:
    """What the camera sees of the board, where that is enough and the arm stood still; whether it sees it mirrored."""
    before = station.arm.state.position.copy()
    image = station.take()
    moving.read(station.arm, station.clock)
    after = station.arm.state.position
    corners = board.detect(image)
    if corners is None or np.abs(after - before).max() > STILL:
        return None, corners is None and board.detect(np.ascontiguousarray(image[:, ::-1])) is not None
    return View(station.kinematics.hand_to_base((before + after) / 2), corners, image), False


def _after(clock: Clock, seconds: float) -> Callable[[], bool]:
    end = clock.now() + seconds
    return lambda: clock.now() >= end
