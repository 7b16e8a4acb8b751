"""Play a recorded episode's commands on the arm.

python -m robot.replay data/demos --episode 3 --robot configs/robot_so100.yaml [--dry_run]
"""

import argparse
from pathlib import Path

import numpy as np

from robot import loop
from robot.connection import Connection, connect, kinematics_of
from robot.control import Control
from robot.mounting import read_mounted
from robot.program import Requests, confirm, start
from robot.safety import Safety
from robot.settings import read_settings
from robot.trajectory import Trajectory
from videopolicy.data.lerobot import Dataset
from videopolicy.errors import BadInput
from videopolicy.types import ActionChunk

APPROACH = 0.1  # [m/s] to where the episode begins


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--episode", type=int, required=True)
    parser.add_argument("--robot", type=Path, required=True, help="a robot's YAML file")
    parser.add_argument("--dry_run", action="store_true", help="do everything but send: the arm stays as it is")
    args = parser.parse_args()
    data = Dataset(args.dataset)
    if not 0 <= args.episode < len(data):
        raise BadInput(f"--episode is {args.episode}; allowed: 0 to {len(data) - 1}")
    action = data.action(args.episode)
    with connect(read_settings(args.robot), dry=args.dry_run) as robot:
        control = replay(robot, action[:, :3], action[:, 3], 1 / data.fps)
    print(f"episode {args.episode}: {control.n_ticks} ticks; {control.why}")


def replay(robot: Connection, position: np.ndarray, opening: np.ndarray, period: float) -> Control:
    """Follow commands, (step, 3) in the world frame and (step,), slowly from where the arm is; it ends at rest."""
    calibration, _, table = read_mounted(robot.settings.calibration)
    arm = robot.arm(calibration)
    kinematics = kinematics_of(arm)
    here = arm.state.position.copy()
    control = Control(
        arm, Safety(robot.safety(table), kinematics, arm.limits, here), Trajectory(), robot.settings.control
    )
    way = position + [0.0, 0.0, table]
    start = kinematics.forward(here).position
    n = int(np.ceil(np.linalg.norm(way[0] - start) / APPROACH / period)) + 1
    first = start + np.linspace(0, 1, n)[:, None] * (way[0] - start)
    whole = ActionChunk(np.concatenate([first, way]), np.concatenate([np.full(n, opening[0]), opening]), period)
    wishes = Requests()
    wishes.listen()
    control.start()
    control.submit(whole, robot.clock.now())
    try:
        loop.run(control, robot.clock, lambda _: None, wishes.look, lambda: wishes.park)
    finally:
        confirm(control)
    return control


if __name__ == "__main__":
    start(main)
