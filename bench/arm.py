"""The arm's loop on its twin, in real time: how regular ticks are, what the bus costs, what a slow policy does to it.

python -m bench.arm [--seconds 60] [--latency 0.3] [--json FILE]

The bus: six motors, position to current read of all, then a goal sent to all, by emulated servos in this process. The
loop: fifty times a second for `--seconds`, a policy that takes `--latency` to think, pictures of the twin.
"""

import argparse
import tempfile
import time
from contextlib import ExitStack
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from bench.figures import reserve
from robot import loop, truth
from robot.connection import connect, kinematics_of
from robot.control import Control, ControlConfig, Tick
from robot.deliberation import Deliberation
from robot.feetech import Bus
from robot.homing import MOTORS
from robot.mounting import read_mounted
from robot.registers import ACCELERATION
from robot.safety import Safety
from robot.settings import Settings, TwinConfig
from robot.so100 import PRESENT
from robot.sources import CameraConfig
from robot.trajectory import Trajectory
from robot.twin import assembly
from robot.twin.line import Line
from videopolicy.config import guarded
from videopolicy.data.files import write_json
from videopolicy.types import ActionChunk, Observation

N_STEPS, PERIOD = 12, 0.2
CENTRE, RADIUS, TURN = (0.21, 0.0, 0.07), 0.03, 6.0  # [m], [m], [s] of a circle


class Circle:
    """A `Policy` that leads the hand around, and takes its time."""

    def __init__(self, latency: float) -> None:
        self.latency = latency

    def act(self, observation: Observation) -> ActionChunk:
        time.sleep(self.latency)
        t = 2 * np.pi * (observation.time + PERIOD * np.arange(1, N_STEPS + 1)) / TURN
        way = np.stack([np.cos(t), np.sin(t), np.zeros(N_STEPS)], 1)
        return ActionChunk(np.array(CENTRE) + RADIUS * way, np.ones(N_STEPS), PERIOD)

    def act_batch(self, observations: list[Observation]) -> list[ActionChunk]:
        return [self.act(observation) for observation in observations]


def bus(repeats: int) -> dict[str, float]:
    """Seconds of a read of all motors and a goal to all of them."""
    servos = dict(enumerate(assembly.servos(0).values(), 1))
    goals = {motor: bytes([20, 0, 8, 0, 0, 0, 2]) for motor in servos}
    found = []
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        line = stack.enter_context(Line(Path(folder) / "port", servos, wire=False))
        wire = stack.enter_context(Bus(str(line.port), MOTORS))
        for _ in range(repeats):
            began = time.perf_counter()
            answers = wire.sync_read(*PRESENT, list(servos))
            wire.sync_write(ACCELERATION.address, goals)
            found.append(time.perf_counter() - began)
            assert None not in answers.values()
            time.sleep(0.002)
    return {"bus_median": float(np.median(found)), "bus_p99": float(np.quantile(found, 0.99))}


def circles(seconds: float, latency: float) -> dict[str, Any]:
    """The loop's cadence, and what the policy's latency did."""
    with tempfile.TemporaryDirectory() as folder:
        twin = TwinConfig(folder=Path(folder) / "twin")
        camera = CameraConfig(source="twin", width=320, height=240, fps=10.0)
        asked = ControlConfig(replan=0.0)  # for another chunk as soon as there is one
        path = Path(folder) / "calibration.json"
        settings = Settings(slack=0.03, calibration=path, camera=camera, control=asked, twin=twin)
        truth.write(settings)
        with connect(settings) as robot:
            calibration, mounted, table = read_mounted(settings.calibration)
            arm = robot.arm(calibration)
            arm.torque_on()
            safety = Safety(robot.safety(table), kinematics_of(arm), arm.limits, arm.state.position.copy())
            control = Control(arm, safety, Trajectory(), settings.control)
            thinking = Deliberation(control, Circle(latency), robot.camera(), mounted, table)
            thinking.think(robot.clock.now())
            rows: list[Tick] = []
            thread = thinking.thread(robot.clock)
            end = robot.clock.now() + seconds
            cadence = loop.run(control, robot.clock, rows.append, park=lambda: robot.clock.now() > end)
            thread.join()
    runs = [row for row in rows if row.now < end]
    first = next(i for i, row in enumerate(runs) if row.mode == "run")
    in_force = [b.now - b.since for a, b in pairwise(runs) if b.since != a.since and np.isfinite(b.since)]
    return {
        **asdict(cadence),
        "latency_median": float(np.median(thinking.latencies)),
        "n_chunks": len(thinking.latencies),
        "in_force_worst": max(in_force),
        "held": sum(row.mode != "run" for row in runs[first:]),
        "retries": runs[-1].retries,
    }


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--latency", type=float, default=0.3, help="of the policy [s]")
    parser.add_argument("--repeats", type=int, default=2000, help="of the bus, at least 100")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    args = parser.parse_args(arguments)
    reserve(args.json)
    if args.repeats < 100:
        parser.error(f"--repeats is {args.repeats}; allowed: at least 100")
    if not args.seconds >= 3:
        parser.error(f"--seconds is {args.seconds}; allowed: from 3 on")
    found = bus(args.repeats) | circles(args.seconds, args.latency)
    print(f"bus       read and write of six motors: median {1000 * found['bus_median']:.2f} ms")
    print(f"loop      {found['rate']:.3f} Hz over {args.seconds:g} s, late by {1000 * found['p99']:.2f} ms (p99)")
    print(
        f"policy    {1000 * found['latency_median']:.0f} ms after its picture; {found['held']} ticks without waypoints"
    )
    print(f"chunks    {found['n_chunks']}, in force at most {1000 * found['in_force_worst']:.1f} ms after they came")
    if args.json:
        write_json(args.json, found)
    return found


if __name__ == "__main__":
    guarded(main)
