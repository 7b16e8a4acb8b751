"""Record demonstrations: somebody leads the torque-free arm by hand, before the camera that a policy will have.

python -m robot.record --robot configs/robot_so100.yaml --output data/cup --task "put the cup on the saucer"
                       [--n_episodes 20] [--fps 5]

Enter begins and ends an episode, and keeps it; r, s and q, with Enter, show it again, drop it, and quit. What was kept
stays: the same command goes on with the next one.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np

from robot import markers
from robot.connection import Connection, connect
from robot.demonstration import Demonstration
from robot.mounting import read_mounted
from robot.operator import Terminal
from robot.program import start
from robot.settings import Settings, read_settings
from robot.so100 import Arm
from videopolicy.data.files import sha256
from videopolicy.data.recording import Writer
from videopolicy.errors import BadInput, at_least_one


class Recorder:
    """Writes demonstrations into a dataset, by one arm and one camera."""

    def __init__(self, robot: Connection, output: Path, task: str, fps: int) -> None:
        settings: Settings = robot.settings
        if not 1 <= fps <= settings.camera.fps:
            raise BadInput(f"--fps is {fps}; allowed: 1 to camera.fps, {settings.camera.fps:g}")
        calibration, self.mounted, self.table = read_mounted(settings.calibration)
        if self.mounted.mount != "fixed":
            raise BadInput(f"the camera is on the {self.mounted.mount}; allowed: fixed, for demonstrations")
        self.robot, self.fps = robot, fps
        self.arm: Arm = robot.arm(calibration)
        if left := self.arm.torque_off():
            raise BadInput(f"{', '.join(left)} did not confirm that torque is off; the arm cannot be led by hand")
        self.camera = robot.camera(self.mounted.lens)
        view = self.mounted.camera(np.eye(4), self.table)
        size = settings.camera.width, settings.camera.height
        if view.size != size:
            raise BadInput(f"the camera was calibrated at {view.size}; camera.width and height are {size}")
        self.writer = Writer(output, fps, "camera", view, task, moving=True, robot="so100")
        self.writer.write_markers(*markers.read(settings.calibration, view, self.table))
        self._about = {"camera": view.to_json(), "calibration": sha256(settings.calibration)}

    def begin(self) -> Demonstration:
        return Demonstration(self.arm, self.camera, self.robot.clock, self.fps, self.table)

    def keep(self, demonstration: Demonstration) -> str:
        """Write what was shown; `BadInput`, and nothing is written, where pictures are missing. How regular it was."""
        episode = demonstration.episode(self._about)
        self.writer.append(episode)
        return str(demonstration.cadence())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--robot", type=Path, required=True, help="a robot's YAML file")
    parser.add_argument("--task", required=True, help="what is shown, in words")
    args = recording(parser)
    with connect(read_settings(args.robot)) as robot:
        by_hand(Recorder(robot, args.output, args.task, args.fps), args.n_episodes, Terminal().typed)


def recording(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """The command line, with the options of everything that records a dataset."""
    parser.add_argument("--output", type=Path, required=True, help="a dataset, a new one or one to go on with")
    parser.add_argument("--n_episodes", type=int, default=20, help="that the dataset is to have")
    parser.add_argument("--fps", type=int, default=5, help="pictures and waypoints a second")
    args = parser.parse_args()
    at_least_one(args, "n_episodes", of="--")
    return args


def by_hand(recorder: Recorder, n_episodes: int, keys: Callable[[], str | None]) -> None:
    """Until the dataset has `n_episodes`; `keys`: the line that was typed since it was last asked, None for none."""
    clock = recorder.robot.clock

    def typed(text: str, allowed: str) -> str:
        print(text, flush=True)
        while True:
            while (key := keys()) is None:
                clock.sleep_until(clock.now() + 0.02)
            if key in allowed.split(","):
                return key
            print(f"{key!r} means nothing here; {text}", flush=True)

    while (number := recorder.writer.n_episodes + 1) <= n_episodes:
        if typed(f"episode {number} of {n_episodes}: Enter begins, q quits", ",q") == "q":
            break
        print("recording: Enter ends, s drops it, q drops it and quits", flush=True)
        shown = recorder.begin()
        while (key := keys()) is None:
            shown.tick()
        if key == "q":
            break
        if key == "s":
            continue
        try:
            shown.check()
        except BadInput as error:
            print(f"not kept: {error}")
            continue
        key = typed(f"{shown.cadence()}: Enter keeps it, r shows it again, q drops it and quits", ",r,q")
        if key == "q":
            break
        if key == "":
            recorder.keep(shown)
    recorder.writer.finish()
    print(f"{recorder.writer.n_episodes} episodes in {recorder.writer.root}")


if __name__ == "__main__":
    start(main)
