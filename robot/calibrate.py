"""Calibrate an arm and its camera, one step after the other; what is found goes into the robot's calibration.json.

python -m robot.calibrate joints --robot configs/robot_so100.yaml

board: draw the board that is to be printed. joints: lead the arm by hand. table: touch the table with the tool.
intrinsics, extrinsics: the arm shows the board to the camera, or the camera to the board, by itself. check: draw the
gripper into a picture, where calibration says that it is.
"""

import argparse
import time
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float

from robot import hand_eye, markers, moving
from robot.board import BoardConfig, intrinsics
from robot.calibration import ArmCalibration, read_calibration, write_calibration
from robot.camera import Lens
from robot.clock import Clock
from robot.connection import Eye, connect, kinematics_of
from robot.feetech import Bus
from robot.hand_eye import HandEye, Mount, View
from robot.homing import home
from robot.kinematics import JOINTS, Kinematics
from robot.mounting import MountedCamera, lens_to_json, read_lens, read_mounted, read_table_height
from robot.operator import Operator, wait
from robot.program import start
from robot.settings import read_settings
from robot.so100 import Arm
from robot.table import Table, fit
from robot.views import Image, Station, take_views
from videopolicy.data.files import reading, replace
from videopolicy.errors import BadInput

N_TOUCHES = 6


def joints(bus: Bus, operator: Operator, clock: Clock, path: Path) -> ArmCalibration:
    """Home the arm and write its file. The rest of the file stays, unless it was found with other zeros."""
    old, rest = read_calibration(path) if path.is_file() else (None, {})
    found = home(bus, operator, clock)
    if old is not None and (moved := [n for n in JOINTS if not found.joints[n].means(old.joints[n])]):
        if dropped := [part for part in ("camera", "table") if part in rest]:
            print(f"{', '.join(moved)} counts from another zero than before: calibrate {' and '.join(dropped)} again")
        rest = {key: value for key, value in rest.items() if key not in ("camera", "table")}
    write_calibration(path, found, rest)
    for name, joint in found.joints.items():
        print(f"{name:14} {joint.range_min:4} to {joint.range_max:4}, zero {joint.zero:7.1f}, sign {joint.sign:+d}")
    return found


def find_lens(path: Path, views: list[View], board: BoardConfig, size: tuple[int, int]) -> Lens:
    """Find the lens, and write it into the file; a camera's place that is there already keeps the lens it had."""
    lens, rms = intrinsics(board, [view.corners for view in views], size)
    arm, rest = read_calibration(path)
    write_calibration(path, arm, {**rest, "lens": lens_to_json(lens, rms)})
    f, u, v = lens.K[[0, 0, 1], [0, 2, 2]]
    print(f"focal length {f:.1f} px, centre ({u:.1f}, {v:.1f}) px; corners are off by {rms:.2f} px (rms)")
    return lens


def known_lens(path: Path, size: tuple[int, int]) -> Lens:
    """The one that was found before; `BadInput` where there is none of pictures of this size."""
    _, rest = read_calibration(path)
    if "lens" not in rest:
        raise BadInput(f"{path} has no lens: run robot.calibrate intrinsics on this arm, or give --with_intrinsics")
    with reading(path):
        lens = read_lens(rest["lens"], "lens")
    if lens.size != size:
        raise BadInput(f"{path} has a lens for pictures of {lens.size}; allowed: the camera's {size}")
    return lens


def place_camera(
    path: Path, mount: Mount, views: list[View], lens: Lens, board: BoardConfig, refine_lens: bool = False
) -> HandEye:
    """Find where the camera is, with `refine_lens` its lens too, and write it into the file."""
    found = hand_eye.calibrate(mount, views, lens, board, refine_lens)
    lens = found.lens
    arm, rest = read_calibration(path)
    camera = MountedCamera(lens.K, lens.distortion, lens.size, mount, found.T, found.reprojection_px)
    kept = {**rest, "lens": lens_to_json(lens, found.reprojection_px)} if refine_lens else rest
    write_calibration(path, arm, {**kept, "camera": camera.to_json()})
    if refine_lens:
        print(f"the arm's own motion tells a focal length of {lens.K[0, 0]:.1f} px")
    x, y, z = found.T[:3, 3]
    print(
        f"{found}; it is at ({x:.3f}, {y:.3f}, {z:.3f}) m in the frame of the {'base' if mount == 'fixed' else 'hand'}"
    )
    return found


def keep_markers(path: Path, views: list[View], found: HandEye, board: BoardConfig) -> None:
    """Keep one of the pictures beside the file: what was seen of the board in it, and where the arm held that."""
    for view in sorted(views, key=lambda view: -len(view.corners.ids)):
        assert view.image is not None
        image = found.lens.undistorted(view.image)
        if (corners := board.detect(image)) is not None:
            T_base_board = view.T_base_hand @ found.T_board
            points = board.points[corners.ids] @ T_base_board[:3, :3].T + T_base_board[:3, 3]
            markers.write(path, image, corners.uv, points)
            return


def touch(
    arm: Arm, kinematics: Kinematics, clock: Clock, operator: Operator, path: Path, n_points: int = N_TOUCHES
) -> Table:
    """Have somebody touch the table with the tool of the torque-free arm, and write its height into the file."""
    if left := arm.torque_off():
        raise RuntimeError(f"{', '.join(left)} did not confirm that torque is off: cut the arm's power")
    points = np.empty((n_points, 3))
    for i in range(n_points):
        text = f"Point {i + 1} of {n_points}, all over the table: touch it with the closed gripper's tip."
        wait(operator, clock, f"touch_{i + 1}", text)
        moving.read(arm, clock)
        points[i] = kinematics.forward(arm.state.position).position
    table = fit(points)
    calibration, rest = read_calibration(path)
    write_calibration(path, calibration, {**rest, "table": {"height": table.height, "tilt_deg": table.tilt_deg}})
    print(
        f"the table is at {1000 * table.height:+.1f} mm in the base frame, tilted by {table.tilt_deg:.2f} deg; points"
        f" lie up to {1000 * table.residual:.1f} mm off it"
    )
    return table


def check(station: Station, path: Path, output: Path) -> Float[np.ndarray, " 2"]:
    """Draw where the gripper must be into a picture, and return where its tool point is [px]."""
    _, camera, _ = read_mounted(path)
    image = station.take()
    moving.read(station.arm, station.clock)
    if image.shape[1::-1] != camera.size:
        raise BadInput(f"the picture is {image.shape[1::-1]}; allowed: {camera.size}, which was calibrated")
    drawn, tool = camera.draw_tool(image, station.kinematics.hand_to_base(station.arm.state.position))
    encoded = cv2.imencode(".png", cv2.cvtColor(drawn, cv2.COLOR_RGB2BGR))[1].tobytes()
    replace(output, lambda temporary: temporary.write_bytes(encoded))
    inside = bool(np.isfinite(tool).all() and (tool >= 0).all() and (tool < camera.size).all())
    where = f"at ({tool[0]:.1f}, {tool[1]:.1f}) px" if inside else "outside the picture"
    print(
        f"the tool point is {where}; reprojection when calibrated: {camera.reprojection_px:.2f} px; drawn in {output}"
    )
    return tool


def picture(eye: Eye, clock: Clock, timeout: float = 2.0) -> Image:
    """A picture taken from now on; `CameraError` where there is none in time."""
    asked = clock.now()
    frame = eye.newest(asked)
    until = time.monotonic() + timeout
    while frame.captured < asked:
        frame = eye.wait(frame.number, max(until - time.monotonic(), 0.0))
    return frame.image


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("board", "joints", "table", "intrinsics", "extrinsics", "check"))
    parser.add_argument("--robot", type=Path, required=True, help="a robot's YAML file")
    parser.add_argument("--with_intrinsics", action="store_true", help="extrinsics: find the lens from the same views")
    parser.add_argument("--output", type=Path, help="the PNG that board and check write; board.png or check.png")
    args = parser.parse_args()
    settings = read_settings(args.robot)
    path, output = settings.calibration, args.output or Path(f"{args.what}.png")
    if args.what == "board":
        settings.board.save(output)
        print(f"{output}: print it in its true size, its squares {1000 * settings.board.square:g} mm wide")
        return
    with connect(settings) as robot:
        if args.what == "joints":
            joints(robot.bus, robot.operator, robot.clock, path)
            return
        calibration, rest = read_calibration(path)
        calibration.need_signs(path)
        arm = robot.arm(calibration)
        kinematics = kinematics_of(arm)
        if args.what == "table":
            touch(arm, kinematics, robot.clock, robot.operator, path)
            return
        with reading(path):
            height = read_table_height(rest["table"]) if "table" in rest else 0.0
        eye = robot.camera()

        def take() -> Image:
            return picture(eye, robot.clock)

        station = Station(arm, kinematics, robot.clock, robot.operator, take, robot.safety(height), settings.control)
        if args.what == "check":
            check(station, path, output)
            return
        size = (settings.camera.width, settings.camera.height)
        anew = args.what == "intrinsics" or args.with_intrinsics
        lens = None if anew else known_lens(path, size)
        views = take_views(station, settings.mount, settings.board)
        lens = lens or find_lens(path, views, settings.board, size)
        if args.what == "extrinsics":
            found = place_camera(path, settings.mount, views, lens, settings.board, refine_lens=anew)
            if settings.mount == "fixed":
                keep_markers(path, views, found, settings.board)


if __name__ == "__main__":
    start(main)
