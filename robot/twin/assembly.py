"""How an arm was put together: which way each servo sits and where its encoder's zero fell, as an accident of assembly.

Nothing but a calibration can find it out. What the motors keep without power, a file keeps for the twin.
"""

from pathlib import Path

import numpy as np

from robot.kinematics import JOINTS
from robot.registers import LOCKED_BELOW, TURN
from robot.twin.servo import SIZE, Servo
from videopolicy.data.files import replace
from videopolicy.errors import BadInput

SIGNS = {"shoulder_pan": -1, "elbow_flex": -1}  # the published model's own, of a rightly assembled arm
REST = (0.0, -2.6, 2.6, 1.0, 0.0, 0.0)  # [rad] where it lies before anybody touches it; the gripper's last


def zeros(seed: int) -> dict[str, float]:
    """[ticks] of each servo at the model's angle 0, anywhere in its turn."""
    rng = np.random.default_rng(seed)
    return {name: float(rng.integers(0, TURN)) for name in (*JOINTS, "gripper")}


def sign(name: str) -> int:
    return SIGNS.get(name, 1)


def servos(seed: int, rest: tuple[float, ...] = REST) -> dict[str, Servo]:
    """Servos as the factory made them, identified, at rest; by joint."""
    start = zeros(seed)
    names = (*JOINTS, "gripper")
    angles = zip(names, rest, strict=True)
    return {n: Servo(names.index(n) + 1, start[n] + sign(n) * a * TURN / (2 * np.pi)) for n, a in angles}


def remember(path: Path, found: dict[str, Servo]) -> None:
    """Write what the motors keep without power."""
    kept = b"".join(bytes(servo.memory[:LOCKED_BELOW]) for servo in found.values())
    if not path.exists() or path.read_bytes() != kept:
        replace(path, lambda temporary: temporary.write_bytes(kept))


def recall(path: Path, found: dict[str, Servo]) -> None:
    """Put it back into servos; as they are where nothing was kept yet."""
    if not path.exists():
        return
    kept = path.read_bytes()
    if len(kept) != len(found) * LOCKED_BELOW:
        raise BadInput(f"{path} has {len(kept)} bytes; allowed: {len(found) * LOCKED_BELOW}; remove it")
    assert LOCKED_BELOW <= SIZE
    for i, servo in enumerate(found.values()):
        servo.memory[:LOCKED_BELOW] = kept[i * LOCKED_BELOW : (i + 1) * LOCKED_BELOW]
