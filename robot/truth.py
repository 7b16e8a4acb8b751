"""How far a calibration of the twin is from what is true of it.

python -m robot.truth configs/robot_twin.yaml --output runs/demo_robot/calibration_error.json

Nothing of the robot asks for this: it judges `robot.calibrate`.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from jaxtyping import Float

from robot.mounting import read_mounted
from robot.settings import read_settings
from robot.twin import assembly
from robot.twin.world import looking
from videopolicy.config import guarded
from videopolicy.data.files import replace
from videopolicy.errors import BadInput

MOST_MM, MOST_DEG = 3.0, 0.5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("robot", type=Path, help="a twin's YAML file")
    parser.add_argument("--output", type=Path, help="also write the figures here")
    args = parser.parse_args()
    settings = read_settings(args.robot)
    if settings.twin is None:
        raise BadInput(f"{args.robot} is of no twin, whose truth is known")
    arm, camera, table = read_mounted(settings.calibration)
    truth = looking(np.array(settings.twin.camera), np.array(settings.twin.looks_at))
    zeros = assembly.zeros(settings.twin.seed)
    off = [
        (j.zero + j.homing_offset - zeros[name] + 2048) % 4096 - 2048
        for name, j in arm.joints.items()
        if name != "gripper"
    ]
    found = {
        "position_mm": 1000 * float(np.linalg.norm(camera.T[:3, 3] - truth[:3, 3])),
        "rotation_deg": angle(camera.T[:3, :3].T @ truth[:3, :3]),
        "focal_px": float(camera.K[0, 0] - camera.size[1] / 2 / np.tan(np.radians(settings.twin.fovy) / 2)),
        "table_mm": 1000 * table,
        "zeros_ticks": float(np.abs(off).max()),
        "reprojection_px": camera.reprojection_px,
    }
    for name, value in found.items():
        print(f"{name:16}{value:8.3f}")
    if args.output is not None:
        replace(args.output, lambda path: path.write_text(json.dumps(found, indent=1) + "\n"))
    if found["position_mm"] > MOST_MM or found["rotation_deg"] > MOST_DEG:
        raise BadInput(
            f"the camera is {found['position_mm']:.1f} mm and {found['rotation_deg']:.2f} deg off; allowed:"
            f" {MOST_MM:g} mm, {MOST_DEG:g} deg"
        )


def angle(R: Float[np.ndarray, "3 3"]) -> float:
    """Of a rotation [degrees]."""
    return float(np.degrees(np.arccos(np.clip((np.trace(R) - 1) / 2, -1, 1))))


if __name__ == "__main__":
    guarded(main)
