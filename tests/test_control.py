"""Real-time execution on emulated motors, in a time of its own: whatever happens, the arm ends safe, and says why."""

import arms
import numpy as np
import pytest
from arms import PERIOD, FakeClock, N, chunk, go, tool

from robot import registers as r
from robot.control import Control, ControlConfig, Mode, Tick
from robot.packets import SYNC_WRITE
from robot.safety import SafetyConfig
from robot.twin import mishaps
from robot.twin.line import Line
from videopolicy.errors import BadInput
from videopolicy.types import ActionChunk


def test_the_arm_follows_its_chunks(control: Control, clock: FakeClock) -> None:
    """From where it is; a chunk of a picture 0.3 s old is in force in the next tick, and nothing stops between two."""
    start = tool(control)
    control.submit(chunk(start), clock.time)
    rows = go(control, clock, 1.2)
    assert {row.mode for row in rows} == {"run"}
    captured = clock.time - 0.3
    control.submit(chunk(np.array(rows[-16].target)), captured)
    rows += go(control, clock, 1.5)
    assert {row.mode for row in rows} == {"run"}
    assert control.n_held == 0
    after = next(i for i, row in enumerate(rows) if row.age < 0.5 and i > 40)
    assert rows[after].age == pytest.approx(0.32, abs=0.011)  # one tick after it came
    goals = np.array([row.goal for row in rows])
    assert np.abs(np.diff(goals, axis=0)).max() < 1.0 * 0.02 + 1e-9
    np.testing.assert_allclose(tool(control), rows[-1].target, atol=0.006)
    assert control.arm.state.opening < 0.05


def test_without_waypoints_it_holds_then_parks_then_lets_go(control: Control, clock: FakeClock, line: Line) -> None:
    control.submit(chunk(tool(control)), clock.time)
    rows = go(control, clock, 12.0)
    modes = [row.mode for row in rows]
    assert [m for i, m in enumerate(modes) if i == 0 or modes[i - 1] != m] == ["run", "hold", "park", "off"]
    held = [row for row in rows if row.mode == "hold"]
    assert held[0].queue == pytest.approx(-0.5, abs=0.03)
    assert "no waypoint for" in held[0].why
    np.testing.assert_allclose(np.degrees(rows[-1].position), ControlConfig().rest_deg, atol=3)
    assert [servo.get(r.TORQUE_ENABLE) for servo in line.servos.values()] == [0] * 6


@pytest.mark.parametrize("gap", [0.1, 0.2, 0.3])
def test_a_slow_policy_does_not_stop_the_motion(control: Control, clock: FakeClock, gap: float) -> None:
    """Chunks come `gap` seconds after their pictures, each as soon as the one before: no tick is without a waypoint."""
    rows: list[Tick] = []
    for _ in range(12):
        captured, seen = clock.time, tool(control)
        rows += go(control, clock, gap)
        control.submit(chunk(seen, (0.0, 0.01, 0.0)), captured)
    rows += go(control, clock, 0.1)
    first = next(i for i, row in enumerate(rows) if row.mode == "run")
    assert {row.mode for row in rows[first:]} == {"run"}
    assert control.n_held == 0


def test_what_comes_too_late_or_is_not_finite_is_dropped(control: Control, clock: FakeClock) -> None:
    control.submit(chunk(tool(control)), clock.time - 10.0)
    rows = go(control, clock, 0.1)
    assert control.trajectory.n_late == 1
    bad = chunk(tool(control))
    bad.position[3, 1] = np.nan
    control.submit(bad, clock.time)
    rows += go(control, clock, 0.1)
    assert {row.mode for row in rows} == {"hold"}
    assert "not finite was dropped" in rows[-1].why
    np.testing.assert_allclose(rows[-1].goal, rows[0].goal)


def test_a_chunk_out_of_reach_moves_to_what_is_allowed(control: Control, clock: FakeClock, line: Line) -> None:
    control.submit(chunk(tool(control), (0.0, 0.0, -0.2)), clock.time)
    rows = go(control, clock, 2.0)
    assert max(row.held for row in rows) > 0
    lowest = min(control.safety.kinematics.forward(np.array(row.position)).position[2] for row in rows)
    assert lowest > SafetyConfig().low[2] - 0.002


def test_a_motor_that_falls_silent_stops_the_arm(control: Control, clock: FakeClock, line: Line) -> None:
    """It holds, says which, and goes on when the motor is heard again."""
    control.submit(chunk(tool(control)), clock.time)
    go(control, clock, 0.3)
    line.always[3] = mishaps.silent
    rows = go(control, clock, 0.3)
    assert rows[0].mode == "run"
    assert rows[-1].mode == "hold"
    assert rows[-1].why == "elbow_flex silent for more than 100 ms"
    del line.always[3]
    assert go(control, clock, 0.2)[-1].mode == "run"


@pytest.mark.parametrize("kind", ["overload", "heat"])
def test_what_would_burn_is_parked(control: Control, clock: FakeClock, line: Line, kind: str) -> None:
    control.submit(chunk(tool(control)), clock.time)
    go(control, clock, 0.3)
    if kind == "overload":
        line.always[5] = mishaps.error(32)
    else:
        line.servos[5].memory[r.PRESENT_TEMPERATURE.address] = 72
    rows = go(control, clock, 8.0)
    assert {row.why for row in rows} == {"wrist_roll: overload" if kind == "overload" else "wrist_roll: 72 C"}
    assert rows[-1].mode == "off"
    assert [servo.get(r.TORQUE_ENABLE) for servo in line.servos.values()] == [0] * 6


def test_a_lost_bus_is_let_go_of_when_it_is_back(control: Control, clock: FakeClock, line: Line) -> None:
    control.submit(chunk(tool(control)), clock.time)
    go(control, clock, 0.2)
    line.unplug()
    rows = [control.tick(clock.now()), control.tick(clock.now() + 0.02)]
    assert rows[-1].mode == "lost"
    assert "is gone" in rows[-1].why
    assert not control.ended
    assert [servo.get(r.TORQUE_ENABLE) for servo in line.servos.values()] == [1] * 6
    line.plug()
    rows.append(control.tick(clock.now() + 0.04))
    assert control.mode is Mode.STOPPED
    assert "it came back, and torque was switched off" in rows[-1].why
    assert control.unconfirmed == []
    assert [servo.get(r.TORQUE_ENABLE) for servo in line.servos.values()] == [0] * 6


def test_a_lost_bus_that_stays_away_is_given_up(control: Control, clock: FakeClock, line: Line) -> None:
    line.unplug()
    control.tick(clock.now())
    row = control.tick(clock.now() + control.cfg.give_up_after + 0.1)
    assert control.ended
    assert row.why.endswith("not back within 10 s, and no motor confirmed that torque is off")
    assert len(control.unconfirmed) == 6


def test_it_begins_where_the_arm_is_now(control: Control, clock: FakeClock, line: Line) -> None:
    """However long ago its place was read: somebody let the arm down meanwhile."""
    control.arm.torque_off()
    for motor in (2, 3):
        line.servos[motor].actual += 300
    control.start()
    rows = go(control, clock, 0.5)
    goals = np.array([row.goal for row in rows])
    assert np.abs(goals - control.arm.state.position).max() < np.radians(1.5)


def test_a_silent_motor_is_not_moved(control: Control, clock: FakeClock, line: Line) -> None:
    control.submit(chunk(tool(control)), clock.time)
    go(control, clock, 0.5)
    line.always[1] = mishaps.silent
    go(control, clock, 0.3)
    rows = go(control, clock, 2.0)
    assert np.ptp([row.goal[0] for row in rows]) < np.radians(0.2)


def test_an_arm_that_does_not_come_to_rest_is_let_go_of(control: Control, clock: FakeClock, line: Line) -> None:
    """Whoever asked for it: here a motor is silent."""
    line.always[4] = mishaps.silent
    control.park("policy: gone")
    rows = go(control, clock, 12.0)
    assert control.mode is Mode.STOPPED
    assert "not at rest in time" in rows[-1].why
    assert control.unconfirmed == ["wrist_flex"]
    del line.always[4]


@pytest.mark.parametrize("what", ["late", "not finite"])
def test_nonsense_from_the_beginning_ends_at_rest(control: Control, clock: FakeClock, what: str) -> None:
    bad = chunk(tool(control))
    if what == "not finite":
        bad.position[0, 0] = np.nan
    rows: list[Tick] = []
    for _ in range(8):
        control.submit(bad, clock.time - (10.0 if what == "late" else 0.0))
        rows += go(control, clock, 1.0)
    assert rows[-1].mode == "off"
    assert ("when all of it had passed" if what == "late" else "not finite was dropped") in rows[-1].why


def test_who_does_not_confirm_is_named(control: Control, clock: FakeClock, line: Line) -> None:
    line.always[2] = mishaps.silent
    assert control.emergency_stop("enough") == ["shoulder_lift"]
    assert control.why == "enough; shoulder_lift did not confirm that torque is off"


def test_waypoints_are_forgotten_when_pictures_are_old(control: Control, clock: FakeClock) -> None:
    """It stays where it is at once, says why, goes on with the next chunk, and rests where none comes."""
    control.submit(chunk(tool(control)), clock.time)
    go(control, clock, 0.3)
    control.pause("no picture for 0.6 s")
    rows = go(control, clock, 0.6)
    assert {row.mode for row in rows} == {"hold"}
    assert rows[-1].why.endswith("no picture for 0.6 s")
    np.testing.assert_allclose(rows[-1].goal, rows[-10].goal, atol=np.radians(0.3))
    control.submit(chunk(tool(control)), clock.time)
    assert go(control, clock, 0.2)[-1].mode == "run"
    control.pause("no picture for 0.6 s")
    rows = go(control, clock, 8.0)
    assert rows[-1].mode == "off"
    assert "no picture for 0.6 s" in rows[-1].why


def test_no_goal_outside_the_limits_is_ever_on_the_wire(control: Control, clock: FakeClock, line: Line) -> None:
    """A monitor of the bus, over chunks of nonsense."""
    rng = np.random.default_rng(0)
    line.heard.clear()
    for _ in range(25):
        wild = ActionChunk(rng.normal(0, 0.4, (N, 3)), rng.random(N), PERIOD)
        control.submit(wild, clock.time)
        go(control, clock, 0.1)
    ranges = {j.id: (j.range_min, j.range_max) for j in arms.calibration().joints.values()}
    n_goals = 0
    for _, packet in line.heard:
        if packet.code == SYNC_WRITE and packet.parameters[0] == r.ACCELERATION.address:
            for at in range(2, len(packet.parameters), 8):
                motor, data = packet.parameters[at], packet.parameters[at + 1 : at + 8]
                low, high = ranges[motor]
                assert low <= r.GOAL_POSITION.decode(data[1:3]) <= high
                n_goals += 1
    assert n_goals > 500


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"rate": 0.0}, "control.rate is 0.0; allowed: 1 to 200"),
        ({"hold_after": 3.0}, "hold_after is 3.0; allowed: to park_after 2.0"),
        ({"stale": float("nan")}, "control.stale is nan; allowed: 0.02 to 2"),
        ({"servo_speed": float("nan")}, "control.servo_speed is nan; allowed: 0.1 to 6"),
        ({"rest_deg": (0.0,)}, "1 angles"),
        ({"rest_deg": (0.0, 20.0, 0.0, 0.0, 0.0)}, "shoulder_lift at 20.0; allowed: -180.0 to 11.5"),
        ({"rest_deg": (0.0, float("nan"), 0.0, 0.0, 0.0)}, "shoulder_lift at nan"),
    ],
)
def test_a_configuration_without_sense_is_refused(keys: dict, words: str) -> None:
    with pytest.raises(BadInput, match=words):
        ControlConfig(**keys)
