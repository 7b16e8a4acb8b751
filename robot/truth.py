"""What is true of the twin: how far a calibration is from it, or a calibration that is it.

python -m robot.truth configs/robot_twin.yaml --output runs/demo_robot/calibration_error.json
python -m robot.truth configs/robot_twin.yaml --write

The first judges what `robot.calibrate` found; the second spares calibrating the twin. Nothing else of the robot asks.
"""

import argparse
from dataclasses import replace as replace_keys
from pathlib import Path

import numpy as np
from jaxtyping import Float

from robot import markers
from robot import registers as r
from robot.calibration import GRIPPER, NAMES, ArmCalibration, Joint, write_calibration
from robot.connection import twin_of
from robot.homing import MIDDLE
from robot.kinematics import JOINTS, LIMITS
from robot.mounting import MountedCamera, read_mounted
from robot.program import start
from robot.registers import TURN
from robot.settings import Settings, read_settings
from robot.twin import assembly
from robot.twin.model import JAW_RANGE, looking
from robot.twin.remote import LockstepCamera
from videopolicy.camera import Camera
from videopolicy.data.files import make_folder, write_json
from videopolicy.errors import BadInput

MOST_MM, MOST_DEG = 3.0, 0.5  # that a calibration of the camera may be off
CORNERS = np.array([[0.2, 0.1, 0.0], [0.2, -0.1, 0.0], [0.26, 0.0, 0.0]])  # [m] on the table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("robot", type=Path, help="a twin's YAML file")
    parser.add_argument("--output", type=Path, help="also write the figures here")
    parser.add_argument(
        "--write", action="store_true", help="write the twin's calibration as it is, instead of judging one"
    )
    args = parser.parse_args()
    settings = read_settings(args.robot)
    if args.write:
        write(settings)
        return
    found = errors(settings)
    for name, value in found.items():
        print(f"{name:16}{value:8.3f}")
    if args.output is not None:
        write_json(args.output, found)
    if found["position_mm"] > MOST_MM or found["rotation_deg"] > MOST_DEG:
        raise BadInput(
            f"the camera is {found['position_mm']:.1f} mm and {found['rotation_deg']:.2f} deg off; allowed:"
            f" {MOST_MM:g} mm, {MOST_DEG:g} deg"
        )


def errors(settings: Settings) -> dict[str, float]:
    """Of the calibration that the settings name."""
    true = camera_of(settings)
    arm, camera, table = read_mounted(settings.calibration)
    zeros = assembly.zeros(settings.twin.seed) if settings.twin else {}
    off = [
        (j.zero + j.homing_offset - zeros[n] + TURN / 2) % TURN - TURN / 2 for n, j in arm.joints.items() if n in JOINTS
    ]
    return {
        "position_mm": 1000 * float(np.linalg.norm(camera.T[:3, 3] - true.position)),
        "rotation_deg": _angle(camera.T[:3, :3].T @ true.T_world_cam[:3, :3]),
        "focal_px": float(camera.K[0, 0] - true.K[0, 0]),
        "table_mm": 1000 * table,
        "zeros_ticks": float(np.abs(off).max()),
        "reprojection_px": camera.reprojection_px,
    }


def write(settings: Settings) -> None:
    """The calibration of the twin, beside the registers of its motors as they would be after it."""
    camera = camera_of(settings)
    assert settings.twin is not None
    zeros, servos = assembly.zeros(settings.twin.seed), assembly.servos(settings.twin.seed)
    joints = {}
    for i, name in enumerate(NAMES):
        sign, (low, high) = assembly.sign(name), JAW_RANGE if name == GRIPPER else LIMITS[i]
        middle = zeros[name] + sign * (low + high) / 2 * TURN / (2 * np.pi)
        offset = (round(middle) - MIDDLE + TURN // 2) % TURN - TURN // 2
        zero = (zeros[name] - offset - (middle - offset) // TURN * TURN) + 0.0
        ends = sorted(round(zero + sign * a * TURN / (2 * np.pi)) for a in (low, high))
        ends = [0, TURN - 1] if name == "wrist_roll" else ends
        zero = float(ends[0] if sign > 0 else ends[1]) if name == GRIPPER else zero
        joints[name] = Joint(i + 1, 0, offset, ends[0], ends[1], sign, zero)
        registers = (r.HOMING_OFFSET, offset), (r.MIN_POSITION, ends[0]), (r.MAX_POSITION, ends[1])
        for register, value in ((r.LOCK, 0), *registers, (r.LOCK, 1)):
            servos[name].write(register.address, register.encode(value))
    mounted = MountedCamera(camera.K, np.zeros(5), camera.size, "fixed", camera.T_world_cam, 0.0)
    make_folder(settings.calibration.parent)
    table = {"height": 0.0, "tilt_deg": 0.0}
    write_calibration(settings.calibration, ArmCalibration(joints), {"camera": mounted.to_json(), "table": table})
    make_folder(settings.twin.folder)
    assembly.remember(settings.twin.folder / "eeprom", servos)
    with twin_of(replace_keys(settings, twin=replace_keys(settings.twin, lockstep=True))) as twin:
        image = LockstepCamera(twin).newest(0.0).image
    markers.write(settings.calibration, image, camera.project(CORNERS), CORNERS)


def camera_of(settings: Settings) -> Camera:
    """The twin's, as it stands; `BadInput` for what is no twin with a fixed camera."""
    if settings.twin is None or settings.mount != "fixed":
        raise BadInput(
            f"this is {'a twin' if settings.twin else 'no twin'}, its camera {settings.mount}; allowed: a twin, fixed"
        )
    (width, height), fovy = (settings.camera.width, settings.camera.height), np.radians(settings.twin.fovy)
    focal = height / 2 / np.tan(fovy / 2)
    K = np.array([[focal, 0.0, width / 2], [0.0, focal, height / 2], [0.0, 0.0, 1.0]])
    pose = looking(np.array(settings.twin.camera), np.array(settings.twin.looks_at))
    return Camera(K, pose, (width, height))


def _angle(R: Float[np.ndarray, "3 3"]) -> float:
    """Of a rotation [degrees]."""
    return float(np.degrees(np.arccos(np.clip((np.trace(R) - 1) / 2, -1, 1))))


if __name__ == "__main__":
    start(main)
