"""What a person beside the arm would do or see, as requests: {"do": what, ...} and an answer to each.

Policies and calibration never ask here: they have the serial port and the camera. Whoever arranges a scene, moves the
arm by hand, pulls a cable or judges what became of the cup does.
"""

from collections import deque
from dataclasses import asdict
from typing import Any

import numpy as np

from robot.kinematics import JOINTS
from robot.twin import mishaps
from robot.twin.line import Line, Mishap
from robot.twin.model import Look
from robot.twin.shutter import Shutter
from robot.twin.world import World
from videopolicy.errors import BadInput

MISHAPS: dict[str, Mishap] = {
    "silent": mishaps.silent,
    "corrupt": mishaps.corrupt,
    "short": mishaps.short,
    "twice": mishaps.twice,
    "late": mishaps.late(0.02),
    "foreign": mishaps.foreign(99),
    "noise": mishaps.noise(bytes(range(40)) + b"\xff\xff\x01"),
    "overload": mishaps.error(32),
    "hot": mishaps.error(4),
}


class Commands:
    def __init__(self, world: World, line: Line, shutter: Shutter, lockstep: bool) -> None:
        self.world, self.line, self.shutter, self.lockstep = world, line, shutter, lockstep
        self.ended = False
        self.looks = Look()

    def answer(self, request: Any) -> dict[str, Any]:
        """`BadInput` for what is not understood."""
        what = request.get("do") if isinstance(request, dict) else None
        verbs = sorted(name.removeprefix("do_") for name in dir(self) if name.startswith("do_"))
        if what not in verbs:
            raise BadInput(f"do is {what!r}; allowed: {', '.join(verbs)}")
        with self.line.lock:
            try:
                found = getattr(self, f"do_{what}")(**{k: v for k, v in request.items() if k != "do"})
            except (TypeError, ValueError, KeyError) as error:
                raise BadInput(f"{what} {request}: {' '.join(str(error).split())}") from error
        return found or {}

    def do_step(self, seconds: float) -> dict[str, Any]:
        if not self.lockstep:
            raise BadInput("time passes by itself; start the twin with --lockstep to tell it when")
        self.world.step(float(seconds))
        return {"time": self.world.time}

    def do_picture(self) -> dict[str, Any]:
        """Take one now, in lockstep; otherwise they are taken all the time."""
        if not self.lockstep:
            raise BadInput("pictures are taken all the time; start the twin with --lockstep to say when")
        return {"number": self.shutter.take(self.world.time)}

    def do_place(self, name: str, xy: list[float]) -> None:
        self.world.place(name, (float(xy[0]), float(xy[1])))

    def do_camera(self, T: list[list[float]], on_wrist: bool = False) -> None:
        self.world.look_from(np.array(T, float).reshape(4, 4), on_wrist)

    def do_dress(self, **look: Any) -> dict[str, Any]:
        """Change what the scene looks like; what is not named stays."""
        self.looks = Look(**{**asdict(self.looks), **look})
        self.world.dress(self.looks)
        return asdict(self.looks)

    def do_board(self, at: str) -> None:
        self.world.board(at)

    def do_lead(self, path: list[list[float]] | None) -> None:
        self.world.lead(None if path is None else np.array(path, float).reshape(-1, 7))

    def do_state(self) -> dict[str, Any]:
        """Where everything truly is."""
        things = {
            name: {"position": self.world.position(name).tolist(), "tilt": self.world.tilt(name)}
            for name in ("cup", "saucer")
        }
        return {
            "time": self.world.time,
            "angles": self.world.angles().tolist(),
            "opening": self.world.opening(),
            "hand": self.world.hand().tolist(),
            "led": self.world.led,
            "torque": [mount.servo.setpoint is not None for mount in self.world.mounted],
            **things,
        }

    def do_mishap(self, joint: str, kind: str | None, always: bool = False) -> None:
        """Let something happen to a motor's next answer, or to all of them; None: to none any more."""
        motor = ((*JOINTS, "gripper").index(joint)) + 1
        self.line.mishaps[motor] = deque()
        self.line.always.pop(motor, None)
        if kind is not None and always:
            self.line.always[motor] = MISHAPS[kind]
        elif kind is not None:
            self.line.mishaps[motor].append(MISHAPS[kind])

    def do_heat(self, joint: str, celsius: int) -> None:
        self.world.mounted[(*JOINTS, "gripper").index(joint)].servo.heat(int(celsius))

    def do_noise(self, n_bytes: int) -> None:
        """A burst of noise on the line, out of nowhere."""
        self.line.say(np.random.default_rng(n_bytes).bytes(int(n_bytes)))

    def do_cable(self, plugged: bool) -> None:
        if plugged:
            self.line.plug()
        else:
            self.line.unplug()

    def do_shutter(self, state: str) -> None:
        self.shutter.befall(state)

    def do_heard(self) -> dict[str, Any]:
        """The packets that came over the line since this was last asked, as [s, hexadecimal]."""
        packets, self.line.heard = list(self.line.heard), deque(maxlen=self.line.heard.maxlen)
        return {"packets": [[when, packet.to_bytes().hex()] for when, packet in packets]}

    def do_end(self) -> None:
        self.ended = True
