"""One robot as it is set up: port, calibration, camera, limits. A YAML file; see configs/robot_so100.yaml."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from robot.board import BoardConfig
from robot.control import ControlConfig
from robot.feetech import SLACK
from robot.hand_eye import Mount
from robot.safety import SafetyConfig
from robot.so100 import ArmConfig
from robot.sources import CameraConfig
from videopolicy.config import load
from videopolicy.errors import BadInput


@dataclass(frozen=True)
class TwinConfig:
    """Of a simulated arm, which is started with the program and ends with it."""

    folder: Path = Path("runs/twin")  # its port, its pictures, what its motors keep
    lockstep: bool = False  # time passes when the program waits: the same outcome on every machine, not in real time
    latency: float = 0.15  # [s] that a policy takes in lockstep, where computing takes no time
    seed: int = 0  # of how it was put together
    fovy: float = 43.0  # of its camera [degrees]
    camera: tuple[float, float, float] = (0.62, 0.18, 0.5)  # where that stands, base frame [m]
    looks_at: tuple[float, float, float] = (0.2, 0.0, 0.02)

    def __post_init__(self) -> None:
        if not np.isfinite([*self.camera, *self.looks_at]).all():
            raise BadInput(f"twin.camera is {self.camera}, looks_at {self.looks_at}; allowed: finite numbers")
        if self.seed < 0:
            raise BadInput(f"twin.seed is {self.seed}; allowed: from 0 on")
        if not 10 <= self.fovy <= 120:
            raise BadInput(f"twin.fovy is {self.fovy}; allowed: 10 to 120 degrees")
        if not 0 <= self.latency <= 2:
            raise BadInput(f"twin.latency is {self.latency}; allowed: 0 to 2 s")
        if self.camera[:2] == self.looks_at[:2]:
            raise BadInput(f"twin.camera {self.camera} is above twin.looks_at; allowed: somewhere beside it")


@dataclass(frozen=True)
class Settings:
    port: str = "/dev/ttyACM0"  # of a twin: its own, whatever stands here
    slack: float = SLACK  # [s] that a motor's answer may come late: more for a twin, which shares its machine
    calibration: Path = Path("calibration.json")
    mount: Mount = "fixed"  # of the camera: somewhere in the room, or on the wrist
    camera: CameraConfig = CameraConfig()
    arm: ArmConfig = ArmConfig()
    safety: SafetyConfig = SafetyConfig()
    control: ControlConfig = ControlConfig()
    board: BoardConfig = BoardConfig()
    twin: TwinConfig | None = None

    def __post_init__(self) -> None:
        if not self.port:
            raise BadInput("port is empty; allowed: a serial port, as /dev/ttyACM0")
        if not 0.001 <= self.slack <= 0.5:
            raise BadInput(f"slack is {self.slack}; allowed: 0.001 to 0.5 s")
        if (self.camera.source == "twin") != (self.twin is not None):
            raise BadInput(
                f"camera.source is {self.camera.source!r} {'with' if self.twin else 'without'} a twin; allowed: 'twin'"
                " with one, 'device' or 'video' without"
            )


def read_settings(path: Path, *overrides: str) -> Settings:
    """`overrides` as on a command line: "--camera.fps", "10"."""
    return load(Settings, ["--config_path", str(path), *overrides])
