"""A twin for tests: small pictures, time that passes when it is told to, calibrated as it truly is."""

from pathlib import Path

from robot import truth
from robot.settings import Settings, TwinConfig
from robot.sources import CameraConfig


def settings(folder: Path, lockstep: bool = True, **twin: object) -> Settings:
    """`twin`: more keys of it."""
    camera = CameraConfig(source="twin", width=160, height=120, fps=10.0)
    cfg = TwinConfig(folder=folder / "twin", lockstep=lockstep, **twin)
    found = Settings(slack=0.1, calibration=folder / "calibration.json", camera=camera, twin=cfg)
    truth.write(found)
    return found
