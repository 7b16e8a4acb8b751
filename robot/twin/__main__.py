"""The twin's process: an arm, its bus and its camera, in a folder.

python -m robot.twin FOLDER [--lockstep] [--seed N] [--size 640 480] [--fps 10] [--fovy 43]
                             [--camera X Y Z] [--looks_at X Y Z] [--board board.png]

FOLDER/port     the serial port
FOLDER/camera   the newest picture, see frames.py
FOLDER/control  a socket for what a person would do: place things, lead the arm, pull a cable; see commands.py
FOLDER/eeprom   what the motors keep without power
"""

import argparse
import os
import signal
import time
from pathlib import Path

import numpy as np

from robot.twin import assembly
from robot.twin.commands import Commands
from robot.twin.control import ControlServer
from robot.twin.line import Line
from robot.twin.model import looking
from robot.twin.shutter import Shutter
from robot.twin.world import Mounted, World
from videopolicy.config import guarded
from videopolicy.data.files import lock_folder, make_folder
from videopolicy.errors import BadInput

SLICE = 0.004  # [s] that physics is ahead of the clock at most
BEHIND = 0.25  # [s] that it may fall behind before it lets the time go


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--lockstep", action="store_true", help="time passes when it is told to, not by itself")
    parser.add_argument("--seed", type=int, default=0, help="of how the arm was put together")
    parser.add_argument("--size", type=int, nargs=2, default=(640, 480), help="of its pictures")
    parser.add_argument("--fps", type=float, default=10.0)
    parser.add_argument("--fovy", type=float, default=43.0, help="of its camera [degrees]")
    parser.add_argument("--camera", type=float, nargs=3, default=(0.62, 0.18, 0.5), help="where it stands [m]")
    parser.add_argument("--looks_at", type=float, nargs=3, default=(0.2, 0.0, 0.02), help="what it looks at [m]")
    parser.add_argument("--board", type=Path, help="a picture of the calibration board")
    parser.add_argument("--child", action="store_true", help="end when the program that started it ends")
    args = parser.parse_args()
    if min(args.size) < 16 or not args.fps > 0 or args.seed < 0:
        raise BadInput(f"--size {args.size} --fps {args.fps} --seed {args.seed}; allowed: from 16, above 0, from 0 on")
    if args.board is not None and not args.board.is_file():
        raise BadInput(f"no picture {args.board}")
    make_folder(args.folder)
    with lock_folder(args.folder):
        serve(args)


def serve(args: argparse.Namespace) -> None:
    """Until it is told to end, or its parent has."""
    parent = os.getppid()
    servos = assembly.servos(args.seed)
    assembly.recall(args.folder / "eeprom", servos)
    zeros = assembly.zeros(args.seed)
    mounted = {n: Mounted(servo, assembly.sign(n), zeros[n]) for n, servo in servos.items()}
    world = World(mounted, tuple(args.size), args.fovy, args.board)
    world.look_from(looking(np.array(args.camera), np.array(args.looks_at)))
    ended: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda n, _: ended.append(n))
    by_id = {i: servo for i, servo in enumerate(servos.values(), 1)}
    with Line(args.folder / "port", by_id, wire=not args.lockstep) as line:
        shutter = Shutter(world, args.folder / "camera", tuple(args.size))
        commands = Commands(world, line, shutter, args.lockstep)
        with ControlServer(args.folder / "control", commands.answer) as control:
            began, shown = time.monotonic() - world.time, 0.0
            while not ended and not commands.ended and not (args.child and os.getppid() != parent):
                if args.lockstep:
                    control.serve(0.1)
                else:
                    now = time.monotonic()
                    if now - began - world.time > BEHIND:
                        began = now - world.time
                    with line.lock:
                        world.step(now - began - world.time)
                    if now - shown >= 1 / args.fps:
                        shown = max(shown + 1 / args.fps, now - 1 / args.fps)
                        shutter.take(now)
                    control.serve(SLICE)
                assembly.remember(args.folder / "eeprom", servos)
        shutter.close()
        world.close()


guarded(main)
