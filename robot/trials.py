"""Episodes of policies on the twin, under one condition: through its serial port and its camera, judged by its truth.

python -m robot.trials --robot configs/robot/demo.yaml --policy para=runs/demo_robot/para --condition in_distribution
                       --n 40 --output runs/demo_robot/trials

Time is the twin's own (in lockstep): a policy's chunk comes `twin.latency` after its picture on every machine.
`--policy oracle` plays what a person would do, and knows where everything is.
"""

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from robot import sheet
from robot.connection import Connection, connect, kinematics_of
from robot.control import Control
from robot.deliberation import Deliberation
from robot.mounting import read_mounted
from robot.moving import drive
from robot.policy_process import PolicyProcess
from robot.program import start
from robot.safety import Safety
from robot.settings import read_settings
from robot.trajectory import Trajectory
from robot.twin.hand import pick_and_place, ways
from robot.twin.model import CUP_HEIGHT, SAUCER_HEIGHT
from robot.twin.remote import Twin
from robot.twin.scenes import Room, Scene, by_chance
from videopolicy.data.files import append_jsonl, make_folder, read_jsonl, reading
from videopolicy.errors import BadInput, at_least_one, choices
from videopolicy.provenance import commit
from videopolicy.types import ActionChunk, Observation, Policy

CONDITIONS: dict[str, Room] = {
    "in_distribution": "demonstrated",
    "new_viewpoint": "demonstrated",
    "new_viewpoint_5_demos": "demonstrated",
    "new_environment": "test",
    "tuning": "tuning",  # of no report: to choose augmentation by, as nothing may be chosen by the others
}
READY = np.array([0.0, -2.63, 2.03, 1.64, 0.0])  # [rad] where an episode begins: above the things, out of their way
LIMIT = 20.0  # [s] of an episode
LIFTED = 0.02  # [m] above where it stood, at which a cup was grasped
ON = 0.03  # [m] between the middles of a saucer and of a cup that stands on it
EVERY, SMALLER = 2, 4  # on the contact sheet: every second picture, every fourth pixel
RESTS = 0.6  # [s] that it must stand there, let go of


class Oracle:
    """A `Policy` that knows where everything is: what the executor can do with the best of plans."""

    def __init__(self, twin: Twin, period: float = 0.2, n_steps: int = 12) -> None:
        self.twin, self.period, self.n_steps = twin, period, n_steps
        self._rows: np.ndarray | None = None

    def act(self, observation: Observation) -> ActionChunk:
        if observation.time == 0:
            state = self.twin.ask("state")
            cup, saucer = (state[name]["position"] for name in ("cup", "saucer"))
            rng = np.random.default_rng(0)
            strokes = pick_and_place((cup[0], cup[1]), (saucer[0], saucer[1]), rng)
            self._rows = ways(strokes, observation.ee_position, observation.gripper)
        assert self._rows is not None
        times = observation.time + self.period * np.arange(1, self.n_steps + 1)
        x, y, z, opening = (np.interp(times, self._rows[:, 0], column) for column in self._rows[:, 1:].T)
        return ActionChunk(np.stack([x, y, z], 1), (opening > 0.5).astype(float), self.period)

    def act_batch(self, observations: list[Observation]) -> list[ActionChunk]:
        return [self.act(observation) for observation in observations]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--robot", type=Path, required=True, help="a twin's YAML file")
    parser.add_argument("--policy", required=True, help="name=run, or oracle")
    parser.add_argument("--condition", required=True, help=", ".join(CONDITIONS))
    parser.add_argument("--n", type=int, default=40, help="episodes")
    parser.add_argument(
        "--output", type=Path, required=True, help="folder of episodes.jsonl, a new one or one to go on with"
    )
    parser.add_argument("--n_shown", type=int, default=4, help="episodes on the contact sheet, the first ones")
    parser.add_argument("--eeprom", type=Path, help="of the twin that was calibrated, if this is another process of it")
    args = parser.parse_args()
    if args.condition not in CONDITIONS:
        raise choices("--condition", args.condition, CONDITIONS)
    at_least_one(args, "n", of="--")
    if args.n_shown < 0:
        raise BadInput(f"--n_shown is {args.n_shown}; allowed: from 0 on")
    name, _, run = args.policy.partition("=")
    if not name or "/" in name or (not run and name != "oracle"):
        raise BadInput(f"--policy is {args.policy!r}; allowed: name=run, or oracle")
    settings = read_settings(args.robot)
    if settings.twin is None:
        raise BadInput(f"{args.robot} is of no twin; at a real arm: python -m robot.run")
    twin = replace(settings.twin, folder=args.output / args.condition / f"{name}_twin", lockstep=True)
    settings = replace(settings, twin=twin)
    if run and not Path(run).is_dir():
        raise BadInput(f"no run {run}; allowed: a folder of train_stages/light.py or joint.py")
    if args.eeprom is not None and not args.eeprom.is_file():
        raise BadInput(f"no {args.eeprom}: run robot.calibrate on the twin, or robot.truth --write")
    if args.eeprom is not None:
        make_folder(twin.folder)
        (twin.folder / "eeprom").write_bytes(args.eeprom.read_bytes())
    make_folder(args.output / args.condition)
    path = args.output / args.condition / f"{name}.jsonl"
    with reading(path):
        done = {line["episode"] for line in read_jsonl(path)}
    left = [i for i in range(args.n) if i not in done]
    if not left:
        print(f"{path}: all {args.n} episodes are there")
        return
    with connect(settings) as robot:
        if run:
            with PolicyProcess(Path(run), patience=60.0) as policy:
                trials(robot, policy, args.condition, left, path, args.n_shown)
        else:
            assert robot.twin is not None
            trials(robot, Oracle(robot.twin), args.condition, left, path, args.n_shown)


def trials(robot: Connection, policy: Policy, condition: str, numbers: list[int], path: Path, n_shown: int) -> None:
    """Run episodes and append a line for each; pictures of the first `n_shown` go on a sheet beside them."""
    calibration, mounted, table = read_mounted(robot.settings.calibration)
    about = {"condition": condition, "commit": commit()}
    arm, camera = robot.arm(calibration), robot.camera(mounted.lens)
    kinematics = kinematics_of(arm)
    assert robot.twin is not None
    assert robot.settings.twin is not None
    shown: list[list[np.ndarray]] = []
    colours: list[tuple[int, int, int]] = []
    for number in numbers:
        began = time.perf_counter()
        arm.torque_on()
        start = Safety(robot.safety(table), kinematics, arm.limits, arm.state.position.copy())
        drive(arm, start, robot.clock, READY, 1.0)
        chosen = by_chance(number, CONDITIONS[condition])
        arrange(robot.twin, chosen)
        safety = Safety(robot.safety(table), kinematics, arm.limits, arm.state.position.copy())
        control = Control(arm, safety, Trajectory(), robot.settings.control)
        thinking = Deliberation(control, policy, camera, mounted, table)
        found, pictures = episode(robot, control, thinking, robot.settings.twin.latency)
        if thinking.trouble or control.ended:  # no failure of a policy's, but of what it needs
            raise BadInput(f"episode {number} ended early: {thinking.trouble or control.why}")
        line = {**about, "episode": number, "cup": chosen.cup, "saucer": chosen.saucer, **found}
        line["wall_s"] = round(time.perf_counter() - began, 2)
        append_jsonl(path, line)
        print(json.dumps(line), flush=True)
        if number == len(shown) < n_shown and pictures:
            shown.append(pictures)
            colours.append(sheet.PLACED if line["place"] else sheet.GRASPED if line["grasp"] else sheet.MISSED)
            sheet.write(path.with_suffix(".jpg"), shown, colours)
        if control.unconfirmed:
            raise BadInput(f"episode {number}: {control.why}")


def arrange(twin: Twin, chosen: Scene) -> None:
    look = chosen.look
    twin.ask("dress", table=look.table, wall=look.wall, lamp=look.lamp, brightness=look.brightness)
    twin.ask("place", name="saucer", xy=chosen.saucer)
    twin.ask("place", name="cup", xy=chosen.cup)


def episode(
    robot: Connection, control: Control, thinking: Deliberation, latency: float
) -> tuple[dict[str, Any], list[np.ndarray]]:
    """Until the cup stands on the saucer, or time is over: what came of it, and small pictures of it."""
    clock, twin, period = robot.clock, robot.twin, 1 / control.cfg.rate
    assert twin is not None
    begun = due = clock.now()
    highest, since, state = 0.0, None, {}
    pictures: list[np.ndarray] = []
    while clock.now() - begun < LIMIT and not control.ended:
        clock.sleep_until(due)
        now = clock.now()
        control.tick(now)
        thinking.tick(now, latency)
        if thinking.last is not None and thinking.n_chunks > len(pictures) * EVERY:
            pictures.append(thinking.last[0].image[::SMALLER, ::SMALLER])
        due += period
        if control.n_ticks % 10 == 0:
            state = twin.ask("state")
            highest = max(highest, state["cup"]["position"][2])
            stands = placed(state)
            since = (now if since is None else since) if stands else None
            if since is not None and now - since >= RESTS:
                break
    found = {
        "place": since is not None and clock.now() - since >= RESTS,
        "grasp": bool(highest > CUP_HEIGHT / 2 + LIFTED),
        "seconds": round(clock.now() - begun, 2),
        "cup_end": state["cup"]["position"],
        "mode": control.mode.value,
        "why": control.why,
        "n_held": control.n_held,
        "n_chunks": thinking.n_chunks,
    }
    return found, pictures


def placed(state: dict[str, Any]) -> bool:
    """Whether the cup stands on the saucer, let go of."""
    away = np.subtract(state["cup"]["position"], state["saucer"]["position"])
    level = abs(away[2] - (CUP_HEIGHT + SAUCER_HEIGHT) / 2) < 0.004
    return bool(np.hypot(*away[:2]) < ON and level and state["cup"]["tilt"] < 0.1 and state["opening"] > 0.5)


if __name__ == "__main__":
    start(main)
