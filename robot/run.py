"""Run a policy on the arm, or on its twin, in real time.

python -m robot.run --policy runs/x --robot configs/robot_so100.yaml [--dry_run] [--seconds 60] [--pictures]

Ctrl-C takes the arm to its rest, and then its torque off; `stop` and Enter lets go of it at once.
"""

import argparse
import time
from contextlib import nullcontext
from pathlib import Path

import numpy as np

from robot import loop
from robot.camera import LiveCamera
from robot.connection import Connection, connect, kinematics_of
from robot.control import Control, Tick
from robot.deliberation import Deliberation
from robot.mounting import MountedCamera, read_mounted
from robot.pictures import Pictures
from robot.policy_process import PolicyProcess
from robot.program import Requests, confirm, start
from robot.safety import Safety
from robot.settings import read_settings
from robot.so100 import Arm
from robot.telemetry import Telemetry
from robot.trajectory import Trajectory
from videopolicy.data.files import make_folder
from videopolicy.errors import BadInput, at_least_one


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--policy", type=Path, required=True, help="a run of train_stages/light.py or joint.py, or exported"
    )
    parser.add_argument("--robot", type=Path, required=True, help="a robot's YAML file")
    parser.add_argument("--dry_run", action="store_true", help="do everything but send: the arm stays as it is")
    parser.add_argument("--seconds", type=float, default=60.0, help="after which the arm goes to its rest")
    parser.add_argument("--log", type=Path, default=Path("runs/robot"), help="folder of the telemetry, by date")
    parser.add_argument(
        "--pictures", action="store_true", help="also keep what the policy saw and said, for robot.timeline"
    )
    parser.add_argument("--device", default="cpu", help="that the policy computes on: cpu or cuda")
    parser.add_argument("--threads", type=int, default=1, help="that it computes with")
    args = parser.parse_args()
    if not args.seconds > 0:
        raise BadInput(f"--seconds is {args.seconds}; allowed: above 0")
    at_least_one(args, "threads", of="--")
    if not args.policy.is_dir():
        raise BadInput(
            f"no run {args.policy}; allowed: a folder of train_stages/light.py, joint.py or videopolicy.export"
        )
    settings = read_settings(args.robot)
    if settings.twin is not None and settings.twin.lockstep:
        raise BadInput("twin.lockstep is true; allowed: false, for a run in real time")
    known = read_mounted(settings.calibration)
    with connect(settings, dry=args.dry_run) as robot:
        arm = robot.arm(known[0])
        log = args.log / time.strftime("%Y-%m-%d_%H-%M-%S")
        with PolicyProcess(args.policy, threads=args.threads, device=args.device, heatmaps=args.pictures) as policy:
            run(robot, arm, known[1], known[2], policy, args.seconds, log, args.pictures)


def run(
    robot: Connection,
    arm: Arm,
    mounted: MountedCamera,
    table: float,
    policy: PolicyProcess,
    seconds: float,
    log: Path,
    pictures: bool,
) -> Control:
    """Until the control has ended, or for some seconds; telemetry, and pictures if wanted, go into the folder `log`."""
    settings, clock = robot.settings, robot.clock
    kinematics = kinematics_of(arm)
    safety = Safety(robot.safety(table), kinematics, arm.limits, arm.state.position.copy())
    control = Control(arm, safety, Trajectory(), settings.control)
    camera = robot.camera(mounted.lens)
    thinking = Deliberation(control, policy, camera, mounted, table)
    if thinking.think(clock.now()) is None:  # also so that the first one that counts is not the slow first one
        raise BadInput(f"no chunk before the start: {thinking.trouble}")
    make_folder(log)
    kept = Pictures(log) if pictures else None
    wishes = Requests()
    wishes.listen()
    began = clock.now()
    said = ["", ""]

    def write(row: Tick) -> None:
        try:
            telemetry.add(row)
        except BadInput as error:  # no reason to let go of an arm
            control.park(f"telemetry: {error}")
        if [row.mode, row.why] != said and (row.mode != said[0] or row.mode != "hold"):
            print(f"{row.now - began:7.2f} s  {row.mode:7} {row.why}", flush=True)
        said[:] = [row.mode, row.why]

    control.start()
    try:
        with Telemetry(log) as telemetry, kept or nullcontext():
            thinking.pictures = kept
            thread = thinking.thread(clock)
            try:
                cadence = loop.run(
                    control, clock, write, wishes.look, lambda: wishes.park or clock.now() - began > seconds
                )
            finally:
                thread.join(policy.patience + 1)  # what it says last is kept, too
    finally:
        confirm(control)
    print(cadence)
    if thinking.latencies:
        late = 1000 * np.array(thinking.latencies)
        print(f"{len(late)} chunks, {np.median(late):.0f} ms after their pictures, at most {late.max():.0f} ms")
    print(f"held {control.n_held} times for want of a waypoint, {control.trajectory.n_late} chunks too late")
    if isinstance(camera, LiveCamera):
        print(f"camera: {camera.n_dropped} pictures missing, {camera.n_stale} stale, {camera.n_repeated} given twice")
        for warning in camera.warnings:
            print(f"camera: {warning}")
    print(f"bus: {dict(arm.bus.counts)}; telemetry{f' and {kept.n} pictures' if kept else ''} in {log}")
    return control


if __name__ == "__main__":
    start(main)
