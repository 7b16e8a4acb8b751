"""An arm that a policy drives, whole, on its twin: whatever befalls it, it ends safe and says why."""

import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import twins

from robot import pictures
from robot.connection import Connection, connect, kinematics_of
from robot.control import Control, Tick
from robot.deliberation import Deliberation
from robot.mounting import read_mounted
from robot.moving import drive
from robot.packets import SYNC_WRITE, WRITE, Reader
from robot.pictures import Pictures
from robot.policy_process import PolicyGone
from robot.registers import ACCELERATION, GOAL_POSITION, TORQUE_ENABLE
from robot.safety import Safety
from robot.trajectory import Trajectory
from robot.trials import READY
from videopolicy.types import ActionChunk, Observation

N, PERIOD = 12, 0.2
LATENCY = 0.3  # [s]


class Slow:
    """A `Policy` that moves the hand to the side, and what may become of one."""

    def __init__(self) -> None:
        self.fault: Callable[[ActionChunk], ActionChunk] = lambda chunk: chunk
        self.seen: list[Observation] = []

    def act(self, observation: Observation) -> ActionChunk:
        self.seen.append(observation)
        sideways = np.sin(0.8 * (observation.time + PERIOD * np.arange(1, N + 1)))
        way = np.stack([np.full(N, 0.2), 0.05 * sideways, np.full(N, 0.08)], 1)
        return self.fault(ActionChunk(way, np.ones(N), PERIOD))

    def act_batch(self, observations: list[Observation]) -> list[ActionChunk]:
        return [self.act(observation) for observation in observations]


class Deployed:
    """An arm in its ready pose, a control loop, a policy."""

    def __init__(self, robot: Connection) -> None:
        assert robot.twin is not None
        self.robot, self.twin, self.policy = robot, robot.twin, Slow()
        calibration, mounted, table = read_mounted(robot.settings.calibration)
        self.arm = robot.arm(calibration)
        kinematics = kinematics_of(self.arm)
        self.arm.torque_on()
        start = Safety(robot.safety(table), kinematics, self.arm.limits, self.arm.state.position.copy())
        drive(self.arm, start, robot.clock, READY, 1.0)
        safety = Safety(robot.safety(table), kinematics, self.arm.limits, self.arm.state.position.copy())
        cfg = replace(robot.settings.control, replan=0.4)
        self.control = Control(self.arm, safety, Trajectory(), cfg)
        self.thinking = Deliberation(self.control, self.policy, robot.camera(), mounted, table)
        self.twin.ask("heard")

    def run(self, seconds: float) -> list[Tick]:
        rows, clock = [], self.robot.clock
        due = clock.now()
        end = due + seconds
        while clock.now() < end and not self.control.ended:
            clock.sleep_until(due)
            rows.append(self.control.tick(clock.now()))
            self.thinking.tick(clock.now(), LATENCY)
            due += 0.02
        return rows

    def torque(self) -> list[bool]:
        return self.twin.ask("state")["torque"]


@pytest.fixture(scope="module")
def robot(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Connection]:
    with connect(twins.settings(tmp_path_factory.mktemp("robot"))) as robot:
        robot.bus.slack = 0.02  # what does not answer is not waited for long
        yield robot


@pytest.fixture
def deployed(robot: Connection) -> Iterator[Deployed]:
    """Running for a second; after the test a monitor of the bus looks at all that was sent."""
    deployed = Deployed(robot)
    rows = deployed.run(1.2)
    assert rows[-1].mode == "run"
    yield deployed
    monitor(deployed)
    for joint in ("shoulder_pan", "elbow_flex", "wrist_roll", "gripper"):
        deployed.twin.ask("mishap", joint=joint, kind=None)
        deployed.twin.ask("heat", joint=joint, celsius=32)
    deployed.twin.ask("shutter", state="running")


def monitor(deployed: Deployed) -> None:
    """No goal beyond a joint's range, no torque but on and off, ever on the wire."""
    ranges = {joint.id: (joint.range_min, joint.range_max) for joint in deployed.arm.joints}
    n_goals = 0
    for _, data in deployed.twin.ask("heard")["packets"]:
        (packet,) = Reader().feed(bytes.fromhex(data))
        body = packet.parameters
        if packet.code == SYNC_WRITE and body[0] == ACCELERATION.address:
            for at in range(2, len(body), 8):
                low, high = ranges[body[at]]
                assert low <= GOAL_POSITION.decode(body[at + 2 : at + 4]) <= high
                n_goals += 1
        elif packet.code in (WRITE, SYNC_WRITE) and body[0] == TORQUE_ENABLE.address:
            values = body[1:] if packet.code == WRITE else body[3::2]
            assert set(values) <= {0, 1}
    assert n_goals > 100


def test_it_moves_as_its_policy_wants(deployed: Deployed) -> None:
    """A policy 0.3 s late does not stop it; observations are of the arm and its camera."""
    rows = deployed.run(5.0)
    assert {row.mode for row in rows} == {"run"}
    assert deployed.control.n_held == 0
    hand = np.array(deployed.twin.ask("state")["hand"])[:3, 3]
    np.testing.assert_allclose(hand, rows[-1].target, atol=0.012)
    observation = deployed.policy.seen[-1]
    assert observation.image.shape == (120, 160, 3)
    assert observation.camera.contains(observation.camera.project(observation.ee_position))
    np.testing.assert_allclose(np.diff([o.time for o in deployed.policy.seen]), 0.4, atol=0.021)
    assert max(deployed.thinking.latencies) == pytest.approx(LATENCY, abs=0.021)


@pytest.mark.parametrize("kind", ["corrupt", "short", "twice", "late", "foreign", "noise", "silent"])
def test_a_bad_answer_now_and_then_changes_nothing(deployed: Deployed, kind: str) -> None:
    for joint in ("shoulder_pan", "elbow_flex", "gripper"):
        deployed.twin.ask("mishap", joint=joint, kind=kind)
        assert {row.mode for row in deployed.run(0.3)} == {"run"}


def test_noise_on_the_line_changes_nothing(deployed: Deployed) -> None:
    deployed.twin.ask("noise", n_bytes=300)
    assert {row.mode for row in deployed.run(0.5)} == {"run"}


@pytest.mark.parametrize(
    ("request_", "mode", "words", "torque"),
    [
        (
            {"what": "mishap", "joint": "elbow_flex", "kind": "silent", "always": True},
            "hold",
            "elbow_flex silent",
            True,
        ),
        (
            {"what": "mishap", "joint": "elbow_flex", "kind": "corrupt", "always": True},
            "hold",
            "elbow_flex silent",
            True,
        ),
        ({"what": "mishap", "joint": "wrist_roll", "kind": "overload", "always": True}, "off", "roll: overload", False),
        ({"what": "heat", "joint": "gripper", "celsius": 71}, "off", "gripper: 71 C", False),
        ({"what": "shutter", "state": "stale"}, "off", "no new picture", False),
        ({"what": "shutter", "state": "unplugged"}, "off", "camera: .*camera is gone", False),
    ],
)
def test_what_goes_wrong_ends_safe(deployed: Deployed, request_: dict, mode: str, words: str, torque: bool) -> None:
    what = request_.pop("what")
    deployed.twin.ask(what, **request_)
    row = deployed.run(2.0 if mode == "hold" else 9.0)[-1]
    assert row.mode == mode
    assert re.search(words, row.why)
    assert deployed.torque() == [torque] * 6


def broken(chunk: ActionChunk) -> ActionChunk:
    raise PolicyGone("it has ended: killed by signal 9")


def not_finite(chunk: ActionChunk) -> ActionChunk:
    return ActionChunk(np.full((N, 3), np.nan), chunk.gripper, PERIOD)


def below_the_table(chunk: ActionChunk) -> ActionChunk:
    return ActionChunk(chunk.position + [0.3, 0.0, -0.4], chunk.gripper, PERIOD)


@pytest.mark.parametrize(
    ("fault", "mode", "words"),
    [
        (broken, "off", "policy: it has ended: killed by signal 9"),
        (not_finite, "off", "no waypoint for"),
        (below_the_table, "run", ""),
    ],
)
def test_a_policy_gone_wrong_ends_safe(deployed: Deployed, fault: Callable, mode: str, words: str) -> None:
    deployed.policy.fault = fault
    rows = deployed.run(9.0)
    assert rows[-1].mode == mode
    assert words in rows[-1].why
    tools = [deployed.control.safety.kinematics.forward(np.array(row.position)).position[2] for row in rows]
    assert min(tools) > 0.0
    if mode == "off":
        assert deployed.torque() == [False] * 6
    else:
        assert max(row.held for row in rows) > 0


def test_pictures_that_cannot_be_kept_end_at_rest(deployed: Deployed, tmp_path: Path) -> None:
    """Until then all are kept, with what the policy was told and what it said."""
    with Pictures(tmp_path) as kept:
        deployed.thinking.pictures, n = kept, len(deployed.policy.seen)
        deployed.run(1.0)
    looks = [pictures.read(path) for path in pictures.files(tmp_path)]
    assert len(looks) == len(deployed.policy.seen) - n > 1
    for look, observation in zip(looks, deployed.policy.seen[n:], strict=True):
        assert look.observation.time == observation.time
        np.testing.assert_array_equal(look.observation.ee_position, observation.ee_position)
        np.testing.assert_array_equal(look.chunk.position, Slow().act(observation).position)
        assert look.came - look.captured == pytest.approx(0.0, abs=0.11)
    with Pictures(tmp_path / "gone") as kept:
        deployed.thinking.pictures = kept
        shutil.rmtree(kept.folder)
        kept.folder.touch()
        row = deployed.run(9.0)[-1]
    assert row.mode == "off"
    assert re.search(r"pictures: cannot write .*000000\.jpg: ", row.why)
    assert deployed.torque() == [False] * 6


def test_a_cable_that_is_pulled_and_put_back(deployed: Deployed) -> None:
    deployed.twin.ask("cable", plugged=False)
    rows = deployed.run(0.1)
    assert rows[-1].mode == "lost"
    assert deployed.torque() == [True] * 6
    deployed.twin.ask("cable", plugged=True)
    row = deployed.run(0.2)[-1]
    assert row.mode == "stopped"
    assert "it came back, and torque was switched off" in row.why
    assert deployed.torque() == [False] * 6


def test_frozen_pictures_are_noticed(tmp_path: Path) -> None:
    """In real time, where a thread watches the camera."""
    with connect(twins.settings(tmp_path, lockstep=False)) as robot:
        deployed = Deployed(robot)
        deployed.twin.ask("shutter", state="frozen")
        thread = deployed.thinking.thread(robot.clock)
        end = robot.clock.now() + 25
        while robot.clock.now() < end and not deployed.control.ended:
            robot.clock.sleep_until(robot.clock.now() + 0.02)
            row = deployed.control.tick(robot.clock.now())
        thread.join()
    assert row.mode == "off"
    assert "camera: the same picture for" in row.why


def test_observations_are_of_the_moment_of_their_picture(deployed: Deployed) -> None:
    """The arm moves on while a picture is on its way."""
    deployed.run(1.0)
    moment = deployed.robot.clock.now()
    then, _ = deployed.arm.at(moment)
    deployed.run(0.4)
    position, opening = deployed.arm.at(moment)
    np.testing.assert_allclose(position, then, atol=1e-9)
    assert np.abs(position - deployed.arm.state.position).max() > 0.01
    assert opening == pytest.approx(1.0, abs=0.05)
