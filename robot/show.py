"""Demonstrations on the twin: somebody's hand leads its torque-free arm while `robot/record.py` looks on.

python -m robot.show --robot configs/robot_twin.yaml --output data/demo_robot --n_episodes 20

The recorder knows what it knows at a real arm, the bus and the camera; the hand sees where cup and saucer are.
"""

import argparse
from pathlib import Path

import numpy as np

from robot.connection import connect
from robot.program import start
from robot.record import Recorder, recording
from robot.settings import read_settings
from robot.trials import READY, arrange
from robot.twin.hand import jaw, lead, path, pick_and_place
from robot.twin.remote import Twin
from robot.twin.scenes import Scene, demonstrated
from videopolicy.errors import BadInput

TASK = "put the cup on the saucer"
BACK = 2.5  # [s] that the hand takes to where a demonstration begins
AFTER = 0.4  # [s] that is recorded after its end
OPEN = 0.8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--robot", type=Path, required=True, help="a twin's YAML file")
    args = recording(parser)
    settings = read_settings(args.robot)
    if settings.twin is None:
        raise BadInput(f"{args.robot} is of no twin; at a real arm: python -m robot.record")
    with connect(settings) as robot:
        recorder = Recorder(robot, args.output, TASK, args.fps)
        assert robot.twin is not None
        scenes = demonstrated(args.n_episodes)
        while recorder.writer.n_episodes < args.n_episodes:
            number = recorder.writer.n_episodes
            print(f"episode {number}: {show(robot.twin, recorder, scenes[number], number)}", flush=True)
        recorder.writer.finish()


def show(twin: Twin, recorder: Recorder, chosen: Scene, seed: int) -> str:
    """One demonstration; how regular its pictures came."""
    clock = recorder.robot.clock
    begin = np.array([[BACK, *READY, jaw(OPEN)]])
    lead(twin, begin)
    clock.sleep_until(clock.now() + BACK + 0.5)
    arrange(twin, chosen)
    clock.sleep_until(clock.now() + 0.3)
    rng = np.random.default_rng(seed)
    tool = np.array(twin.ask("state")["hand"])[:3, 3]
    strokes = pick_and_place(chosen.cup, chosen.saucer, rng)
    shown = recorder.begin()
    end = clock.now() + lead(twin, path(strokes, tool, OPEN)) + AFTER
    while clock.now() < end:
        shown.tick()
    return recorder.keep(shown)


if __name__ == "__main__":
    start(main)
