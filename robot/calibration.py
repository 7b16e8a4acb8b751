"""calibration.json: what is known of one arm, its camera and its table.

`joints` is LeRobot's own calibration file, key for key, with two more: `sign` and `zero`, which say where the published
model's zero is and which way it counts. A file of LeRobot's alone can be read for its ranges, not to move the arm.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from robot.kinematics import JOINTS, LIMITS
from robot.registers import TURN
from videopolicy.data.files import read_json, reading, replace
from videopolicy.errors import BadInput

GRIPPER = "gripper"
NAMES = (*JOINTS, GRIPPER)
MAX_OFFSET = 2047  # [ticks] that the register holds
LEAST_RANGE = 200  # [ticks] of a joint that was moved through it
SAME = 6  # [ticks] that a zero may be elsewhere and still be the same


@dataclass(frozen=True)
class Joint:
    """A motor's place in the arm. Ticks are what it says of itself, its homing offset taken off."""

    id: int
    drive_mode: int
    homing_offset: int  # [ticks]
    range_min: int  # [ticks]
    range_max: int
    sign: int = 0  # 1: ticks grow as the model's angle, or as the gripper opens; -1: the other way; 0: not known
    zero: float = 0.0  # [ticks] at the model's angle 0; of the gripper: closed

    def angle(self, ticks: float) -> float:
        return self.sign * (ticks - self.zero) * 2 * np.pi / TURN

    def ticks(self, angle: float) -> int:
        return round(self.zero + self.sign * angle * TURN / (2 * np.pi))

    def limits(self) -> tuple[float, float]:
        """Angles at the ends of its range."""
        low, high = sorted((self.angle(self.range_min), self.angle(self.range_max)))
        return low, high

    def opening(self, ticks: float) -> float:
        """Of a gripper: 0 closed ... 1 open."""
        return float(np.clip((ticks - self.zero) / (self._open - self.zero), 0, 1))

    def opened(self, opening: float) -> int:
        """Ticks of a gripper's opening."""
        return round(self.zero + float(np.clip(opening, 0, 1)) * (self._open - self.zero))

    def means(self, other: "Joint") -> bool:
        """Whether its angles are another calibration's of the same motor, however either is homed."""
        apart = self.zero + self.homing_offset - other.zero - other.homing_offset
        return self.sign == other.sign and abs((apart + TURN / 2) % TURN - TURN / 2) <= SAME

    @property
    def _open(self) -> int:
        return self.range_max if self.sign > 0 else self.range_min


@dataclass(frozen=True)
class ArmCalibration:
    joints: dict[str, Joint]

    def __post_init__(self) -> None:
        for name in NAMES:
            if name not in self.joints:
                raise BadInput(f"no joint {name}; it has {sorted(self.joints)}, allowed: {', '.join(NAMES)}")
        ids = [joint.id for joint in self.joints.values()]
        if len(set(ids)) < len(ids):
            raise BadInput(f"joints have ids {ids}; allowed: one each")
        for name, joint in self.joints.items():
            check_range(name, joint)

    def limits(self) -> np.ndarray:
        """Of the five joints, (joint, low and high) [rad]: where calibration and the published model both allow it."""
        mine = np.array([self.joints[name].limits() for name in JOINTS])
        return np.stack([np.maximum(mine[:, 0], LIMITS[:, 0]), np.minimum(mine[:, 1], LIMITS[:, 1])], 1)

    def need_signs(self, path: Path) -> None:
        """`BadInput` where it is not known which way a joint turns: the arm is not to be moved."""
        unknown = [name for name, joint in self.joints.items() if joint.sign not in (-1, 1)]
        if unknown:
            raise BadInput(f"{path} has no sign of {', '.join(unknown)}: run robot.calibrate joints on this arm")

    def lerobot(self) -> dict:
        """As LeRobot keeps it."""
        return {n: {k: v for k, v in asdict(j).items() if k not in ("sign", "zero")} for n, j in self.joints.items()}


def check_range(name: str, joint: Joint) -> None:
    """`BadInput` for numbers that no motor's registers hold, and for ranges that cross the encoder's seam."""
    low, high, where = joint.range_min, joint.range_max, f"joint {name}"
    if not 0 <= joint.id <= 252:
        raise BadInput(f"{where} has id {joint.id}; allowed: 0 to 252")
    if abs(joint.homing_offset) > MAX_OFFSET:
        raise BadInput(f"{where} has homing_offset {joint.homing_offset}; allowed: -{MAX_OFFSET} to {MAX_OFFSET}")
    if not (low >= 0 and high < TURN and high - low >= LEAST_RANGE):
        raise BadInput(
            f"{where} has range {low} to {high}; allowed: {LEAST_RANGE} ticks or more within 0 to {TURN - 1}"
        )
    if (low, high) == (0, TURN - 1) and name != "wrist_roll":
        raise BadInput(f"{where} has the whole turn as its range: it was moved across 0; home it at mid-range first")
    if name == GRIPPER and joint.sign and not joint.zero == (low if joint.sign > 0 else high):
        raise BadInput(f"{where} closes at {joint.zero}; allowed: the end of its range that its sign says")


def read_calibration(path: Path) -> tuple[ArmCalibration, dict[str, Any]]:
    """An arm's calibration, and whatever else its file holds; `BadInput` names the file."""
    if not path.is_file():
        raise BadInput(f"no calibration at {path}: run robot.calibrate, or name this arm's file")
    found = read_json(path)
    with reading(path):
        joints = found.get("joints", found)
        rest = {key: value for key, value in found.items() if key != "joints"} if "joints" in found else {}
        return ArmCalibration({str(name): _joint(str(name), entry) for name, entry in joints.items()}), rest


def write_calibration(path: Path, arm: ArmCalibration, rest: dict[str, Any]) -> None:
    whole = {"joints": {name: asdict(joint) for name, joint in arm.joints.items()}, **rest}
    replace(path, lambda temporary: temporary.write_text(json.dumps(whole, indent=2) + "\n"))


def _joint(name: str, entry: Any) -> Joint:
    whole = ("id", "drive_mode", "homing_offset", "range_min", "range_max")
    if not isinstance(entry, dict) or any(type(entry.get(key)) is not int for key in whole):
        raise BadInput(f"joint {name} is {entry}; allowed: whole numbers for {', '.join(whole)}")
    sign, zero = entry.get("sign", 0), entry.get("zero", 0.0)
    if sign not in (-1, 0, 1) or not isinstance(zero, int | float) or not np.isfinite(zero):
        raise BadInput(f"joint {name} has sign {sign!r} and zero {zero!r}; allowed: -1, 0 or 1, and finite ticks")
    return Joint(**{key: entry[key] for key in whole}, sign=int(sign), zero=float(zero))
