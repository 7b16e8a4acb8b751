"""Everything that one robot is reached by, opened together: bus, clock, camera, hand; of an arm or its twin."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from robot.calibration import ArmCalibration
from robot.camera import Frame, Lens
from robot.clock import Clock, MonotonicClock
from robot.feetech import Bus, BusError
from robot.homing import MOTORS
from robot.kinematics import Kinematics
from robot.operator import Operator, Terminal
from robot.safety import SafetyConfig
from robot.settings import Settings
from robot.so100 import Arm
from robot.sources import open_camera
from robot.twin.hand import Hand
from robot.twin.remote import LockstepCamera, LockstepClock, Twin

PATIENT = 2.0  # [s]


class Eye(Protocol):
    """A camera: its newest picture, or the next one."""

    def newest(self, now: float) -> Frame: ...

    def wait(self, number: int, timeout: float) -> Frame: ...


@dataclass
class Connection:
    settings: Settings
    bus: Bus
    clock: Clock
    operator: Operator
    twin: Twin | None
    stack: ExitStack

    def camera(self, lens: Lens | None = None) -> Eye:
        """Open the camera; it is closed with the connection. `lens`: what its pictures are freed of."""
        if self.twin is not None and self.twin.lockstep:
            camera = LockstepCamera(self.twin, lens)
            self.stack.callback(camera.close)
            return camera
        cfg = self.settings.camera
        if self.twin is not None:
            cfg = replace(cfg, path=str(self.twin.folder / "camera"))
        return self.stack.enter_context(open_camera(cfg, lens))

    def arm(self, calibration: ArmCalibration) -> Arm:
        """The arm that was calibrated, found and set up; torque as it was."""
        arm = Arm(self.bus, calibration, self.settings.arm, self.clock.now)
        arm.connect()
        return arm

    def safety(self, table_height: float) -> SafetyConfig:
        """The workspace, whose heights count from the table, in the base frame."""
        cfg = self.settings.safety
        raised = np.array([0.0, 0.0, table_height])
        low, high = (tuple((np.array(x) + raised).tolist()) for x in (cfg.low, cfg.high))
        return replace(cfg, low=low, high=high)


@contextmanager
def connect(settings: Settings, dry: bool = False) -> Iterator[Connection]:
    """`dry`: nothing that changes anything is ever sent to the motors."""
    with ExitStack() as stack:
        twin = None
        port = settings.port
        if settings.twin is not None:
            twin = stack.enter_context(twin_of(settings))
            port = str(twin.port)
        bus = stack.enter_context(Bus(port, MOTORS, dry=dry))
        # In lockstep no answer is ever late: a machine that is busy must not change what happens.
        bus.slack = PATIENT if twin is not None and twin.lockstep else settings.slack
        clock: Clock = MonotonicClock()
        operator: Operator = Terminal() if twin is None else Hand(twin, settings.mount)
        if twin is not None and twin.lockstep:
            clock = LockstepClock(twin, lambda: _arrived(bus))
        yield Connection(settings, bus, clock, operator, twin, stack)


def _arrived(bus: Bus) -> None:
    """Return when what was sent has arrived; a bus that is gone is its user's matter."""
    with suppress(BusError):
        bus.ping(1)


def twin_of(settings: Settings) -> Twin:
    """The twin that the settings are of; enter it to start it."""
    cfg, camera = settings.twin, settings.camera
    assert cfg is not None
    board = cfg.folder / "board.png"
    settings.board.save(board, 64)
    numbers: dict[str, list] = {"--seed": [cfg.seed], "--size": [camera.width, camera.height], "--fps": [camera.fps]}
    numbers |= {"--fovy": [cfg.fovy], "--camera": list(cfg.camera), "--looks_at": list(cfg.looks_at)}
    arguments = [word for name, values in numbers.items() for word in (name, *map(str, values))]
    return Twin(cfg.folder, *arguments, "--board", str(board), lockstep=cfg.lockstep)


def kinematics_of(arm: Arm) -> Kinematics:
    return Kinematics(limits=arm.limits)
