"""Homing by somebody's hand, on emulated servos put together anyhow: the truth is found, and clumsiness named."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import arms
import numpy as np
import pytest
from arms import FakeClock

from robot import registers as r
from robot.calibration import NAMES, ArmCalibration, read_calibration, write_calibration
from robot.feetech import Bus, MotorSilent
from robot.homing import home
from robot.kinematics import LIMITS
from robot.packets import WRITE
from robot.registers import TURN
from robot.so100 import Arm, ArmConfig
from robot.twin import mishaps
from robot.twin.line import Line
from robot.twin.servo import Servo
from videopolicy.errors import BadInput

RADIAN = TURN / (2 * np.pi)  # [ticks]
STOPS = np.concatenate([LIMITS, [[0.0, 1.9]]])  # [rad]; the gripper's angle is 0 where it is closed
SIGNS_POSE = np.radians([30, -40, 40, 30, 35, 60])


@dataclass
class Somebody:
    """Leads the joints of an arm whose servos sit with these signs, and read `zeros` at the model's zero [ticks].

    `paths`: angles of all joints that a step leads through, one after the other; `done` is asked for each.
    """

    line: Line
    signs: np.ndarray
    zeros: np.ndarray
    paths: dict[str, np.ndarray] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    meanwhile: Callable[[str], object] = lambda step: None

    def __post_init__(self) -> None:
        middle, still = STOPS.mean(1), np.zeros(6)
        self.paths = {
            "middle": middle + np.radians([[8, -9, 5, -12, 4, 6]]),
            "ranges": np.concatenate([self.sweep(i) for i in range(6) if i != 4]),
            "zero": still[None] + np.radians([[4, -3, 2, -6, 0, 0]]) * 0.5,
            "signs": SIGNS_POSE[None].copy(),
        }
        self.lead(middle + 0.2)

    def sweep(self, joint: int, share: float = 1.0) -> np.ndarray:
        """From the middle of one joint's range to its ends."""
        low, high = STOPS[joint]
        half = share * (high - low) / 2
        away = np.concatenate([np.linspace(0, -1, 9), np.linspace(-1, 1, 17), np.linspace(1, 0, 9)]) * half
        path = np.tile(STOPS.mean(1), (len(away), 1))
        path[:, joint] += away
        return path

    def lead(self, angles: np.ndarray) -> None:
        with self.line.lock:
            for i, servo in enumerate(self.line.servos.values()):
                servo.actual = float(self.zeros[i] + self.signs[i] * angles[i] * RADIAN)

    def ask(self, step: str, text: str) -> None:
        assert len(text) > 20
        self.asked.append(step)
        self.left = list(self.paths[step])
        self.meanwhile(step)

    def done(self) -> bool:
        if not self.left:
            return True
        self.lead(self.left.pop(0))
        return False


def somebody(line: Line, seed: int = 0) -> Somebody:
    rng = np.random.default_rng(seed)
    signs = rng.choice([-1, 1], 6)
    # Anywhere in its turn: so the seam is somewhere in the range of most joints.
    return Somebody(line, signs, rng.integers(0, TURN, 6).astype(float))


@pytest.fixture
def line(tmp_path: Path) -> Iterator[Line]:
    with Line(tmp_path / "port", {i: Servo(i) for i in range(1, 7)}, wire=False) as line:
        yield line


@pytest.fixture
def bus(line: Line) -> Iterator[Bus]:
    with Bus(str(line.port), arms.MOTORS) as bus:
        bus.slack = arms.SLACK
        yield bus


def held(line: Line, register: r.Register) -> list[int]:
    return [servo.get(register) for servo in line.servos.values()]


@pytest.mark.parametrize("seed", range(4))
def test_the_truth_is_found(line: Line, bus: Bus, seed: int) -> None:
    """Signs; zeros and ranges to two ticks, counted as the encoder does; and the motors hold it."""
    person = somebody(line, seed)
    found = home(bus, person, FakeClock(line))
    assert person.asked == ["middle", "ranges", "zero", "signs"]
    for i, name in enumerate(NAMES):
        joint = found.joints[name]
        assert joint.sign == person.signs[i], name
        if name != "wrist_roll":
            apart = joint.zero + joint.homing_offset - person.zeros[i]
            assert abs((apart + TURN / 2) % TURN - TURN / 2) <= 2, name
            width = STOPS[i, 1] - STOPS[i, 0]
            assert joint.range_max - joint.range_min == pytest.approx(width * RADIAN, abs=2), name
    roll = found.joints["wrist_roll"]
    assert (roll.range_min, roll.range_max) == (0, 4095)
    apart = roll.zero + roll.homing_offset - person.zeros[4]
    assert abs((apart + TURN / 2) % TURN - TURN / 2) <= 2
    for register, key in (
        (r.HOMING_OFFSET, "homing_offset"),
        (r.MIN_POSITION, "range_min"),
        (r.MAX_POSITION, "range_max"),
    ):
        assert held(line, register) == [getattr(found.joints[name], key) for name in NAMES]
    assert held(line, r.LOCK) == [1] * 6
    assert held(line, r.TORQUE_ENABLE) == [0] * 6


def test_an_arm_can_be_used_at_once(line: Line, bus: Bus, tmp_path: Path) -> None:
    """What is written can be read, is this arm's, and says where the arm truly is."""
    person = somebody(line, 7)
    found = home(bus, person, FakeClock(line))
    write_calibration(tmp_path / "calibration.json", found, {})
    calibration, _ = read_calibration(tmp_path / "calibration.json")
    assert calibration == found
    calibration.need_signs(tmp_path)
    arm = Arm(bus, calibration, ArmConfig())
    arm.connect()
    truth = np.array([0.5, -1.0, 1.2, 0.4, 0.3, 1.9 / 2])
    person.lead(truth)
    arm.read()
    np.testing.assert_allclose(arm.state.position[:4], truth[:4], atol=3 / RADIAN)
    assert arm.state.opening == pytest.approx(0.5, abs=0.003)


def test_registers_hold_lerobots_bytes(line: Line, bus: Bus) -> None:
    """Offset = position - 2047, negative as sign and magnitude; ranges as they are; wrist_roll's is the whole turn."""
    person = somebody(line, 1)
    person.zeros = 2500.0 - person.signs * STOPS.mean(1) * RADIAN
    person.zeros[1] -= 1000  # held at 1500: a negative offset
    person.paths["middle"] = STOPS.mean(1)[None]
    found = home(bus, person, FakeClock(line))
    assert [found.joints[name].homing_offset for name in NAMES] == [453, -547, 453, 453, 453, 453]
    memory = line.servos[2].memory
    assert memory[31:33] == (547 | 0x800).to_bytes(2, "little")
    low, high = (round(2047 + x * (STOPS[1, 1] - STOPS[1, 0]) / 2 * RADIAN) for x in (-1, 1))
    assert memory[9:13] == low.to_bytes(2, "little") + high.to_bytes(2, "little")
    assert line.servos[5].memory[9:13] == bytes([0, 0, 0xFF, 0x0F])
    assert found.lerobot()["shoulder_lift"] == {
        "id": 2,
        "drive_mode": 0,
        "homing_offset": -547,
        "range_min": low,
        "range_max": high,
    }


def test_what_lasts_is_written_once(line: Line, bus: Bus) -> None:
    """The lock is open for that alone; servos that count several turns stop doing so."""
    line.servos[4].memory[r.PHASE.address] |= 0x10
    home(bus, somebody(line), FakeClock(line))
    assert line.servos[4].get(r.PHASE) & 0x10 == 0
    written = [(p.id, p.parameters[0]) for _, p in line.heard if p.code == WRITE]
    offsets = [motor for motor, address in written if address == r.HOMING_OFFSET.address]
    assert offsets == sorted(set(offsets))
    line.heard.clear()
    home(bus, somebody(line), FakeClock(line))
    assert held(line, r.LOCK) == [1] * 6


def _ranges(*shares: float) -> Callable[[Somebody], None]:
    """Through so much of pan's, lift's, elbow's, wrist's and the gripper's range."""

    def change(person: Somebody) -> None:
        sweeps = zip((0, 1, 2, 3, 5), shares, strict=True)
        person.paths["ranges"] = np.concatenate([person.sweep(i, share) for i, share in sweeps])

    return change


def _off_middle(person: Somebody) -> None:
    """Near one of its stops, so that the other one is beyond the seam."""
    person.paths["middle"][0, 0] = STOPS[0, 0] + 0.2


def _trembling(person: Somebody) -> None:
    """Another joint moves while a register is written."""
    servo = person.line.servos[6]
    write = servo.write

    def moved(address: int, data: bytes) -> None:
        write(address, data)
        if address == r.HOMING_OFFSET.address and any(data):
            person.line.servos[2].actual += 60

    servo.write = moved  # type: ignore[method-assign]


def _at_seam(person: Somebody) -> None:
    person.paths["middle"][0, 2] = 0.0
    person.zeros[2] = 4095.0


def _held(joint: int, zero: float, signs: float) -> Callable[[Somebody], None]:
    """A joint at these angles [deg] in the last two poses."""

    def change(person: Somebody) -> None:
        person.paths["zero"][0, joint] = np.radians(zero)
        person.paths["signs"][0, joint] = np.radians(signs)

    return change


CLUMSY: dict[str, tuple[Callable[[Somebody], None], str]] = {
    "not to its stops": (_ranges(1, 1, 0.9, 1, 1), r"elbow_flex was moved through 162\.\d deg; allowed: 174\.0 to 186"),
    "not at all": (_ranges(1, 1, 1, 0, 1), r"wrist_flex was moved by 1\d\d ticks \(12 deg\); allowed: at least 200"),
    "round and round": (_ranges(1, 1, 1, 2.2, 1), r"wrist_flex was moved by \d+ ticks, more than a turn; .* than 4096"),
    "homed near a stop": (
        _off_middle,
        r"shoulder_pan was moved from .*, across the seam .* home it at mid-range first",
    ),
    "while it is written": (_trembling, r"shoulder_lift reads 2\d{3} after it was homed; allowed: 2017 to 2077"),
    "where no register reaches": (_at_seam, "elbow_flex reads 4095 .* homing_offset 2048; allowed: -2047 to 2047"),
    "zero of a bent elbow": (_held(2, 35, 75), r"elbow_flex was at 35 deg in the zero pose, .*; allowed: -20 to 20"),
    "zero of an open gripper": (_held(5, 60, 105), r"gripper was open by 0\.55 of its range in the zero pose"),
    "zero of a rolled hand": (_held(4, 120, 160), r"wrist_roll was \d+ deg from where it was homed in the zero pose"),
    "by too little": (
        _held(1, -1, 9.5),
        r"shoulder_lift was moved by 10\.\d deg from the zero pose; allowed: at least 15",
    ),
    "hardly": (_held(3, -1, 1.5), r"wrist_flex was moved by 2\.\d deg"),
    "hardly open": (_held(5, 0, 25), r"gripper was opened by 0\.23 of its range; allowed: at least 0\.3"),
    "the wrong way": (
        _held(1, -8, 10),
        r"shoulder_lift was at -?1\d\d deg in the zero pose, .*the way to the pose of the signs",
    ),
}


@pytest.mark.parametrize("name", CLUMSY)
def test_clumsy_hands_are_named(line: Line, bus: Bus, name: str) -> None:
    """The joint is named, and the motors are as they were."""
    line.servos[3].memory[31:33] = r.HOMING_OFFSET.encode(-77)
    line.servos[3].memory[9:13] = bytes([100, 0, 0, 12])
    before = [bytes(servo.memory[9:13] + servo.memory[31:33]) for servo in line.servos.values()]
    change, words = CLUMSY[name]
    person = somebody(line, 3)
    change(person)
    with pytest.raises(BadInput, match=words):
        home(bus, person, FakeClock(line))
    assert [bytes(servo.memory[9:13] + servo.memory[31:33]) for servo in line.servos.values()] == before
    assert held(line, r.LOCK) == [1] * 6


def test_a_motor_that_falls_silent_is_named(line: Line, bus: Bus) -> None:
    """For a moment it is waited for; for good, not."""
    person = somebody(line, 3)
    person.meanwhile = lambda step: line.mishaps[4].extend([mishaps.silent] * 5 * (step == "ranges"))
    assert isinstance(home(bus, person, FakeClock(line)), ArmCalibration)
    person = somebody(line, 3)
    person.meanwhile = lambda step: line.always.update({4: mishaps.silent}) if step == "ranges" else None
    bus.slack = 0.002
    with pytest.raises(MotorSilent, match="wrist_flex does not answer"):
        home(bus, person, FakeClock(line))


def test_other_motors_are_refused(line: Line, bus: Bus) -> None:
    line.servos[6].memory[3] = 8
    with pytest.raises(BadInput, match=r"gripper \(id 6\) is a motor of model 776; allowed: 777"):
        home(bus, somebody(line), FakeClock(line))
